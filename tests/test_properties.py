"""What holds whatever the rows, moments, values, names: pairing, storage, noise, gate, sources."""

import copy
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from faults_page import Fault
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stages import storage
from stages.config.reading import PARAMS, load
from stages.errors import UserError
from stages.records import PAIRED_BY, pair
from stages.sources.pinned import open_source
from stages.statistics.gate import DEGRADED, PASS, UNDECIDED, Judged, Limits, judge, verdict
from stages.statistics.noise import noise_floor
from stages.storage import atomic_directory, atomic_file, content_id, fingerprint

quick = settings(max_examples=60, deadline=None)

# Pairing

ASKED = st.lists(
    st.tuples(st.sampled_from("tu"), st.sampled_from(["clean", "typos-0.1"]), st.integers(0, 30)),
    min_size=2,
    max_size=12,
    unique=True,
)
SEEDS = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)


def asked(examples: list[tuple[str, str, int]], seed: int, variant: str = "final") -> pd.DataFrame:
    rows = pd.DataFrame(examples, columns=["task", "condition", "example_id"])
    rows["example_id"] = rows["example_id"].astype(str)
    rows["score"] = np.linspace(0, 1, len(rows))
    return rows.assign(split="test", seed=seed, variant=variant)


def of_run(examples: list[tuple[str, str, int]], seeds: list[int]) -> pd.DataFrame:
    variants = ("final", "step-2")
    return pd.concat([asked(examples, seed, v) for seed in seeds for v in variants])


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    keys = [*PAIRED_BY, "seed", "variant"]
    return frame.sort_values(keys).reset_index(drop=True)[sorted(frame.columns)]


@settings(max_examples=20, deadline=None)
@given(ASKED, SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    examples: list[tuple[str, str, int]], seeds: list[int], random: Any
) -> None:
    base, run = asked(examples, 0), of_run(examples, seeds)
    shuffled = [frame.sample(frac=1, random_state=random.randrange(99)) for frame in (base, run)]
    found = pair(*shuffled)
    assert len(found) == len(run)
    pd.testing.assert_frame_equal(in_order(found), in_order(pair(base, run)))
    assert (found["score"] == found["score_base"]).all()


@settings(max_examples=30, deadline=None)
@given(ASKED, SEEDS, st.data())
def test_no_row_is_missing_or_double_unnoticed(
    examples: list[tuple[str, str, int]], seeds: list[int], data: st.DataObject
) -> None:
    base, run = asked(examples, 0), of_run(examples, seeds).reset_index(drop=True)
    rows = st.sets(st.integers(0, len(run) - 1)).map(sorted)
    lost, twice = data.draw(rows), data.draw(rows)
    changed = pd.concat([run, run.loc[twice]]).drop(index=lost)
    in_base = [row for row in lost if row < len(base)] if data.draw(st.booleans()) else []
    before = base.drop(index=in_base)
    complete = sorted(changed.index) == list(range(len(run))) and not in_base
    assume(not complete and len(changed) and len(before))
    whole = pair_or_none(before, changed)
    if whole is not None:
        # The same examples are gone from both: then what is left is whole.
        left = set(map(tuple, before[PAIRED_BY].to_numpy()))
        kept = run[[tuple(row) in left for row in run[PAIRED_BY].to_numpy()]]
        found = changed.groupby(["seed", "variant"]).size()
        assert (found == len(before)).all()
        kept = kept.set_index(["seed", "variant"]).loc[found.index].reset_index()
        assert len(whole) == len(changed) == len(kept)


def pair_or_none(base: pd.DataFrame, run: pd.DataFrame) -> pd.DataFrame | None:
    try:
        return pair(base, run)
    except UserError as error:
        said = str(error)
        assert said.isprintable()
        assert any(sign.isdigit() for sign in said)
        return None


@pytest.mark.parametrize(
    "seeds",
    [
        (("a", 0), ("b", 1)),  # each seed lacks the other's example
        (("a", 0), ("b", 0), ("a", 0), ("b", 0)),  # every example twice
    ],
)
def test_as_many_rows_an_example_are_not_enough(seeds: Any, fault: Fault) -> None:
    base = pd.DataFrame({"task": "t", "split": "s", "condition": "c", "example_id": ["a", "b"]})
    rows = pd.DataFrame(seeds, columns=["example_id", "seed"])
    run = rows.assign(task="t", split="s", condition="c", variant="final")
    with pytest.raises(UserError, match=r"incomplete: \d to \d rows a seed and var"):
        pair(base, run)
    fault("records that lack or double an example evenly", "one line with counts")


# Storage


class Stop(Exception):  # noqa: N818
    """What an interruption is made of."""


def stopped_at(moment: int, write: Callable[[], None]) -> bool:
    """Call `write`, which is stopped as it comes to its `moment`-th line of stages/storage.py.
    False where it has fewer."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != storage.__file__:
            return None
        if event == "line":
            lines += 1
            if lines == moment:
                sys.settrace(None)
                raise Stop
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        write()
    except Stop:
        return True
    finally:
        sys.settrace(before)
    return False


def write_file(path: Path) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text("new" * 100, encoding="utf-8")


def write_folder(path: Path) -> None:
    with atomic_directory(path) as temporary:
        (temporary / "inner").mkdir()
        for name in ("a", "inner/b"):
            (temporary / name).write_text("new" * 100, encoding="utf-8")


def content(path: Path) -> dict[str, str] | None:
    if path.is_file():
        return {"": path.read_text(encoding="utf-8")}
    files = (one for one in path.rglob("*") if one.is_file())
    found = {one.relative_to(path).as_posix(): one.read_text(encoding="utf-8") for one in files}
    return found if path.exists() else None


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_stopped_at_any_line_it_is_whole_or_not_there(
    write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    whole = tmp_path / "whole" / "x"
    write(whole)
    new = content(whole)
    moment = 1
    while True:
        path = tmp_path / str(moment) / "x"
        write(path)
        before = {"old": "o"} if write is write_folder else {"": "old"}
        for name, text in before.items():
            if write is write_folder:
                (path / name).write_text(text, encoding="utf-8")
            else:
                path.write_text(text, encoding="utf-8")
        old = content(path)
        if not stopped_at(moment, partial(write, path)):
            break
        # A folder is replaced in two moves: between them there is none.
        allowed = (old, new, None) if write is write_folder else (old, new)
        assert content(path) in allowed, moment
        moment += 1
    assert moment > 30
    assert content(path) == new
    kind = "folder" if write is write_folder else "file"
    fault(f"an exception at each line of the writing of a {kind}", "old or new, never a part")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below, max_size=3)
    ),
    max_leaves=8,
)


def turned(value: Any) -> Any:
    """The same, with the names of objects the other way round."""
    if isinstance(value, dict):
        return {name: turned(inner) for name, inner in reversed(value.items())}
    return [turned(inner) for inner in value] if isinstance(value, list) else value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = put(value[path[0]], path[1:], new)
    return changed


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@quick
@given(JSON)
def test_a_fingerprint_does_not_depend_on_the_order_of_names(value: Any) -> None:
    assert fingerprint(value) == fingerprint(turned(value)) == fingerprint(copy.deepcopy(value))


@quick
@given(JSON, JSON, st.data())
def test_a_fingerprint_changes_with_any_part(value: Any, new: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(places(value)))
    told = json.dumps(at(value, path), sort_keys=True), json.dumps(new, sort_keys=True)
    assume(told[0] != told[1])
    changed = put(value, path, new)
    assert fingerprint(value) != fingerprint(changed)
    assert content_id(value) != content_id(changed)
    assert fingerprint(value, changed) != fingerprint(changed, value)
    assert fingerprint([value, new]) != fingerprint(value, new) != fingerprint(value)


# The noise floor

SCORES = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=n, max_size=n),
        st.lists(
            st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=n, max_size=n),
            min_size=1,
            max_size=4,
        ),
    )
)


@quick
@given(SCORES, st.randoms(use_true_random=False))
def test_the_noise_floor(scores: tuple[list[float], list[list[float]]], random: Any) -> None:
    clean, again = scores
    found = noise_floor(clean, again, 0.95)
    net = [np.mean(one) - np.mean(clean) for one in again]
    assert 0 <= found.flip_rate <= 1
    assert abs(found.mean) <= 1
    # No difference that was seen with nothing changed is called real.
    assert found.floor >= abs(found.mean)
    assert found.floor >= max(map(abs, net)) - 1e-12 or len(again) > 2
    assert (found.floor == 0) == (found.flip_rate == 0) or len(again) > 1
    # Neither the order of examples nor of repeats matters, nor which answers count as right.
    order = list(range(len(clean)))
    random.shuffle(order)
    turned_round = noise_floor(
        [clean[n] for n in order], [[one[n] for n in order] for one in reversed(again)], 0.95
    )
    assert math.isclose(turned_round.floor, found.floor, abs_tol=1e-12)
    mirrored = noise_floor(1 - np.asarray(clean), 1 - np.asarray(again), 0.95)
    assert math.isclose(mirrored.floor, found.floor, abs_tol=1e-12)
    assert math.isclose(mirrored.mean, -found.mean, abs_tol=1e-12)
    # Surer means wider.
    assert noise_floor(clean, again, 0.99).floor >= found.floor
    same = noise_floor(clean, [clean] * len(again), 0.95)
    assert (same.floor, same.flip_rate) == (0, 0)


# The gate

CHANGES = st.lists(st.sampled_from([-1.0, 0.0, 0.0, 1.0]), min_size=2, max_size=60)
LIMITS = st.sampled_from([-0.5, -0.2, -0.05, 0.0, 0.1, 0.3])
RANK = {DEGRADED: 0, UNDECIDED: 1, PASS: 2}


@quick
@given(CHANGES, LIMITS, LIMITS, st.booleans(), st.randoms(use_true_random=False))
def test_the_gate(
    changes: list[float], one: float, other: float, of_text: bool, random: Any
) -> None:
    groups = range(len(changes))

    def judged(values: list[float], limit: float, confidence: float = 0.95) -> Judged:
        return judge(values, groups, limit, confidence, of_text)

    loose, strict = judged(changes, min(one, other)), judged(changes, max(one, other))
    assert RANK[loose.status] >= RANK[strict.status]
    assert loose.change == strict.change
    assert loose.change.low <= loose.change.value + 1e-12
    assert loose.change.value <= loose.change.high + 1e-12
    assert math.isclose(loose.change.value, float(np.mean(changes)), abs_tol=1e-12)
    if not of_text:
        assert loose.change.low >= -1 and loose.change.high <= 1
    shuffled = changes[:]
    random.shuffle(shuffled)
    assert math.isclose(judged(shuffled, one).change.low, loose.change.low, abs_tol=1e-9)
    mirrored = judged([-value for value in changes], one).change
    assert math.isclose(mirrored.low, -loose.change.high, abs_tol=1e-9)
    # Surer claims are rarer: what is decided at 99 % is decided the same at 95 %.
    surer = judged(changes, one, 0.99)
    if surer.status != UNDECIDED:
        assert judged(changes, one).status == surer.status
    found = judged(changes, one)
    assert (found.needed is None) or (found.status == UNDECIDED and found.needed > len(changes))
    # One more loss never helps.
    if 1.0 in changes and not of_text:
        worse = changes[:]
        worse[worse.index(1.0)] = -1.0
        assert judged(worse, one).change.value < found.change.value


@quick
@given(st.lists(st.sampled_from([PASS, DEGRADED, UNDECIDED]), min_size=1, max_size=6))
def test_a_run_is_as_good_as_its_worst_task(statuses: list[str]) -> None:
    some = judge([0.0, 0.0], "ab", 0.0, 0.95, of_text=False)
    found = verdict(Judged(one, some.change, 0.0, 2) for one in statuses)
    assert RANK[found] == min(RANK[one] for one in statuses)


@quick
@given(st.floats(0.001, 0.9), st.floats(0.001, 9), st.floats(0.001, 9), st.booleans())
def test_a_margin_of_its_own_counts(share: float, bits: float, own: float, of_text: bool) -> None:
    limits = Limits(share, bits, None, 0.95, {"mine": own})
    assert limits.of_retain("mine", of_text) == -own
    assert limits.of_retain("other", of_text) == (-bits if of_text else -share)


# Sources

NAMES = st.text(st.sampled_from("ab1._-/!=:@ \n\x00\u202eé%\\"), max_size=14)


class Asked(Exception):  # noqa: N818
    """The network would have been asked."""


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["pypi:", "pypi:", "hf:", "hf:datasets/", "file:", "PyPI:", "git+https:", ""]),
    NAMES | st.sampled_from(["a==1", "a/b", "a-b.c==1.0.dev1+x", "a_b/c.d", "a==1==2", "a/b/c"]),
    st.sampled_from([None, "a" * 64, "a" * 64, "A" * 64, "a" * 63, ""]),
    st.sampled_from([None, "b" * 40, "b" * 40, "B" * 40, "main", ""]),
)
def test_any_source_is_read_or_told(
    scheme: str, name: str, sha256: str | None, revision: str | None
) -> None:
    """Nothing is asked for but under a name of the scheme's form, with a whole pin."""
    source = f"{scheme}{name}"
    pin = revision if scheme.startswith("hf:") else sha256
    other = sha256 if scheme.startswith("hf:") else revision

    def asked(*_: Any) -> Any:
        raise Asked

    with pytest.MonkeyPatch.context() as patch:
        for function in ("pypi._release", "pypi.fetch", "hub.Repository._listing"):
            patch.setattr(f"stages.sources.{function}", asked)
        try:
            open_source(source, sha256=sha256, revision=revision)
        except UserError as error:
            assert str(error).startswith(f"{source}: ")
        except Asked:
            form = r"pypi:[\w.-]+==[\w.+!-]+|hf:(datasets/)?[\w.-]+/[\w.-]+"
            assert re.fullmatch(form, source, re.ASCII)
            assert other is None
            # Of a release without a sha256, those to be had are listed.
            assert pin in ("a" * 64, "b" * 40) or (scheme, pin) == ("pypi:", None)


# params.yaml


@quick
@example("\x85")
@example("\u2028")
@given(JSON)
def test_what_is_written_is_what_is_read(value: Any) -> None:
    """JSON is YAML: numbers keep their type and their value, words stay words."""
    assume(not any(isinstance(one, float) and math.isinf(one) for one in leaves(value)))
    with pytest.MonkeyPatch.context() as patch:
        text = json.dumps({"x": value}, ensure_ascii=False)
        patch.setattr(Path, "read_text", lambda *_, **__: text)
        try:
            found = load()
        except UserError as error:
            assert str(error).startswith(str(PARAMS))
            return
    assert json.dumps(found["x"], sort_keys=True) == json.dumps(value, sort_keys=True)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [leaf for one in inner for leaf in leaves(one)]
    return [value]
