"""From records by hand to the four files of compare: what they say, and what they never do."""

import base64
import hashlib
import json
import math
import re
import shutil
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tiny
import yaml
from faults_page import Fault

from stages import compare, gate
from stages.errors import UserError
from stages.records import read_table, write_records, write_table
from stages.report import headline, html
from stages.report.answer import answer
from stages.report.diagnosed import diagnosed
from stages.report.figures import ticks
from stages.report.lines import COLUMNS, lines
from stages.report.ranking import ranking
from stages.report.transitions import flips
from stages.report.units import BITS, CORRECT, Ends, unit_of
from stages.report.words import cell, clipped, plain
from stages.scoring.frame import record_frame
from stages.storage import read_json, write_json
from stages.tasks.examples import Examples, Task, identify, path_of, read_examples, write_examples

N, SEEDS = 40, (0, 1)
ODD = "=H(0) [x](javascript:alert(1)) ![y](data:z) <http://e.d> \x9b2J\x00 \x1b]8;;http://e.d\x07"
"""A formula, links and escapes: what a spreadsheet, a page or a terminal would act upon."""
NOISE = "typos-0.1"
TOPICS = ("arts", "sport")
HOSTILE = "<script>alert(1)</script> a | b \x1b[31m red \u202e turned `x` http://evil.example"
RUNS = {"enc-full": "enc", "gpt-full": "gpt"}
OUTS = (
    "retention.json",
    "scores.json",
    "gate.json",
    "diagnosis.json",
    "report.md",
    "report.html",
    "plots/changes.json",
    "plots/scores.json",
    "plots/curves.json",
)


# Examples on disk, and records by hand


def examples(name: str, kind: str, labels: Sequence[str] = (), **columns: list[Any]) -> Examples:
    rows = identify(pd.DataFrame(columns), kind)
    rows = rows.assign(group=rows["example_id"]) if "group" not in rows else rows
    rows = rows.assign(slice="all") if "slice" not in rows else rows
    options = {"max_new_tokens": 8, "texts_per_topic": 3} if kind == "news-writing" else {}
    return Examples(Task(name, kind, 64, tuple(labels), options), rows)


def encoder_tasks() -> dict[str, Examples]:
    labels = [("red", "blue")[i % 2] for i in range(N)]
    return {
        "color-qa": examples(
            "color-qa",
            "classification",
            ("blue", "red"),
            text=[f"color text {i} {HOSTILE}" for i in range(N)],
            label=labels,
            slice=["warm <b>|" if i % 2 else "cold" for i in range(N)],
        ),
        "mood": examples(
            "mood",
            "linear-probe",
            ("blue", "red"),
            text=[f"mood text {i} " + "long " * 100 for i in range(N)],
            label=labels,
        ),
        "twins": examples(
            "twins",
            "retrieval",
            query=[f"query {i}" for i in range(N)],
            document=[f"document {i}" for i in range(N)],
        ),
    }


def causal_tasks() -> dict[str, Examples]:
    return {
        "news": examples(
            "news",
            "news-writing",
            prompt=[f"Topic: {TOPICS[i % 2]}\nTitle: {i}" for i in range(N)],
            text=[f"body {i}" for i in range(N)],
            slice=[TOPICS[i % 2] for i in range(N)],
        ),
        "capitals": examples(
            "capitals",
            "multiple-choice",
            context=[f"The capital of {i} is" for i in range(N)],
            choices=[[f" right{i}", f" wrong{i}", " other", " <i>none</i>"] for i in range(N)],
            answer=[0] * N,
        ),
        "code": examples(
            "code",
            "language-modelling",
            prompt=[f"def f{i}():" for i in range(N)],
            text=[f"    return {i}" for i in range(N)],
        ),
        "rules": examples(
            "rules",
            "instruction-following",
            prompt=[f"{ODD} say {i}" for i in range(N)],
            check=["upper-case"] * N,
            argument=[""] * N,
        ),
    }


ROLES = {"color-qa": "target", "news": "target"}


def role(task: str) -> str:
    return ROLES.get(task, "retain")


def right(share: float, shift: int = 0) -> list[float]:
    """1 for so many of N, spread out; `shift` moves who they are."""
    count = round(share * N)
    return [float((7 * (i + shift)) % N < count) for i in range(N)]


def answers(asked: Examples, score: list[float]) -> pd.DataFrame:
    """Records whose answers are as right as `score` says."""
    kind, rows = asked.task.kind, asked.rows
    hit = [one == 1 for one in score]
    if asked.task.labels:
        other = {"red": "blue", "blue": "red"}
        target = list(rows["label"])
        said = [one if ok else other[one] for one, ok in zip(target, hit, strict=True)]
        sure = [[0.8, 0.2] if one == "blue" else [0.2, 0.8] for one in said]
        told = {"chance": 0.5, "nll": [0.2 if ok else 1.6 for ok in hit], "probabilities": sure}
    elif kind == "retrieval":
        target = list(rows["example_id"])
        said = [
            one if ok else target[i - 1]
            for i, (one, ok) in enumerate(zip(target, hit, strict=True))
        ]
        told = {"chance": 1 / N}
    elif kind == "multiple-choice":
        target = [row[0].strip() for row in rows["choices"]]
        said = [row[0 if ok else 1].strip() for row, ok in zip(rows["choices"], hit, strict=True)]
        told = {"chance": 0.25}
    else:
        target = ["upper-case"] * len(rows)
        said = ["YES\nINDEED" if ok else "no" for ok in hit]
        told = {"chance": 0.0}
    return record_frame(
        asked, "test", score=score, bytes=10, prediction=said, target=target, **told
    )


def likelihoods(asked: Examples, bits: float) -> pd.DataFrame:
    spread = np.linspace(0.9, 1.1, N)
    return record_frame(asked, "test", nll=10 * math.log(2) * bits * spread, bytes=10, tokens=3)


def texts(asked: Examples, who: str, on_topic: int) -> pd.DataFrame:
    """Three generated texts a topic; `on_topic` of each are."""
    first = asked.rows.sort_values("example_id").groupby("slice").head(3).reset_index(drop=True)
    chosen = Examples(asked.task, first)
    place = first.groupby("slice").cumcount()
    said = [f"{who} wrote {topic} {HOSTILE} no {i}" for i, topic in enumerate(first["slice"])]
    generated = record_frame(
        chosen,
        "test",
        condition="generated",
        score=[float(at < on_topic) for at in place],
        chance=0.5,
        bytes=20,
        tokens=8,
        prediction=said,
        target=first["slice"],
    )
    coherent = record_frame(chosen, "test", condition="coherence", score=0.25 + 0.1 * place)
    return pd.concat([generated, coherent])


def scored(tasks: dict[str, Examples], level: dict[str, float], who: str, on_topic: int) -> Any:
    """Records of a model: `level` is accuracy or bits per byte, by task."""
    parts = []
    for name, asked in tasks.items():
        shift = 3 if who == "base" else 0
        if asked.task.kind in ("news-writing", "language-modelling"):
            parts.append(likelihoods(asked, level[name]))
        else:
            parts.append(answers(asked, right(level[name], shift)))
        if name in ("color-qa", "capitals"):
            noisy = answers(asked, right(level[name] - 0.2, shift))
            parts.append(noisy.assign(condition=NOISE))
        if name == "news":
            parts.append(texts(asked, who, on_topic))
    return pd.concat(parts, ignore_index=True)


BEFORE = {"color-qa": 0.5, "mood": 0.9, "twins": 0.8, "news": 1.25, "capitals": 0.9, "code": 0.8}
AFTER = {"color-qa": 0.9, "mood": 0.9, "twins": 0.2, "news": 1.0, "capitals": 0.4, "code": 0.9}
for _level in (BEFORE, AFTER):
    _level["rules"] = 0.6

LIBRARIES = {"numpy": "2.4.6", "torch": "2.13.0"}
MADE_WITH = {
    "device": "cpu",
    "dtype": "float32",
    "threads": 2,
    "processor": "<b>chip</b> | one",
    "python": "3.11.7",
    "git": "0123456789ab",
    "libraries": LIBRARIES,
}


def about(case: str, tasks: dict[str, Examples], made_with: dict[str, Any]) -> dict[str, Any]:
    told = {
        name: {
            "kind": asked.task.kind,
            "role": role(name),
            "labels": list(asked.task.labels),
            "truncated": 3,
        }
        for name, asked in tasks.items()
    }
    return {"case": case, "tasks": told, "provenance": made_with}


def write_case(name: str, run: str, tasks: dict[str, Examples], seeds: Sequence[int]) -> None:
    for task, asked in tasks.items():
        write_examples(path_of(name, role(task), "test", task), asked)
    base = scored(tasks, BEFORE, "base", on_topic=3)
    clean = base[base["condition"] == "clean"]
    again = [clean.assign(condition="rescored", seed=repeat) for repeat in range(2)]
    records = pd.concat([base, *again], ignore_index=True)
    write_records(
        Path(f"metrics/records/{name}/base.parquet"), records, about(name, tasks, MADE_WITH)
    )
    after = scored(tasks, AFTER, "run", on_topic=1)
    parts = [after.assign(seed=seed) for seed in seeds]
    # The last seed turns one answer back, so that seeds differ.
    turned = (parts[-1]["score"] == 0) & (parts[-1]["condition"] == "clean")
    parts[-1].loc[turned & turned.cumsum().eq(1), "score"] = 1.0
    write_records(
        Path(f"metrics/records/{name}/{run}.parquet"),
        pd.concat(parts, ignore_index=True),
        about(name, tasks, {**MADE_WITH, "libraries": {**LIBRARIES, "torch": "2.14.0"}}),
    )
    write_training(name, run, seeds)
    write_drift(name, run, tasks, seeds)
    write_shift(name, tasks)
    write_card(name, tasks)


def write_training(name: str, run: str, seeds: Sequence[int]) -> None:
    curves = [
        {
            "step": step,
            "batch_loss": 2.0 / (step + 1),
            "train_loss": 1.5 - step / 8 if step % 2 == 0 else None,
            "validation_loss": 1.75 - step / 8 if step % 2 == 0 else None,
            "seed": seed,
        }
        for seed in seeds
        for step in range(5)
    ]
    table = pa.Table.from_pandas(pd.DataFrame(curves), preserve_index=False)
    told = {"seen": [], "best_step": {str(seed): 4 for seed in seeds}, "provenance": MADE_WITH}
    write_table(Path(f"metrics/training/{name}/{run}.parquet"), table, told)


def write_drift(name: str, run: str, tasks: dict[str, Examples], seeds: Sequence[int]) -> None:
    rows = [
        {"layer": 0, "module": "attention.query", "measure": "weight", "value": 0.125},
        {"layer": 0, "module": "attention.query", "measure": "spectral", "value": 0.25},
        *({"layer": layer, "measure": "cka", "value": 1 - layer / 4} for layer in range(3)),
    ]
    for task, asked in tasks.items():
        for place, one in enumerate(asked.column("example_id")[:4]):
            told = {"task": task, "example_id": one, "measure": "cosine", "value": 0.1 + place / 50}
            rows.append(told)
            if task in ("twins", "capitals"):
                rows.append({**told, "measure": "relearned", "value": float(place > 0)})
    empty = {"layer": -1, "module": "", "task": "", "example_id": ""}
    table = pd.concat([pd.DataFrame([empty | row for row in rows]).assign(seed=s) for s in seeds])
    path = Path(f"metrics/drift/{name}/{run}.parquet")
    write_table(path, pa.Table.from_pandas(table, preserve_index=False), {"run": run})


def write_shift(name: str, tasks: dict[str, Examples]) -> None:
    figures = {"n": 20, "n_grams": 0.5, "embeddings": 0.25, "auc": 0.95, "auc_error": 0.01}
    apart = {**figures, "unknown_words": 0.5, "words": 9.0, "words_there": 40.0}
    compared = {"same source": {**apart, "auc": 0.5}, **dict.fromkeys(tasks, apart)}
    target = next(task for task in tasks if role(task) == "target")
    compared[target] = {**apart, "auc": 0.5}
    even = {"evenness": 1.0, "rarest": 0.5, "commonest": 0.5}
    labels = {target: {"train": even, "test": even, "moved": 0.0}} if name == "enc" else {}
    own = {"bits": [20.0, 22.0, 24.0], "bytes": [20.0, 20.0, 20.0]}
    told = {"texts": 20, "comparisons": compared, "labels": labels}
    write_json(
        Path(f"metrics/shift/{name}.json"), told if name == "enc" else {**told, "own_text": own}
    )


def write_card(name: str, tasks: dict[str, Examples]) -> None:
    cards = {
        task: {
            "kind": asked.task.kind,
            "data": {"reader": "table", "source": f"file:{task} <u>.jsonl", "sha256": "ab" * 32},
            "duplicates": 1,
            "ambiguous": 0,
            "overlap_removed": {"exact": 2, "13-gram": 3},
            "rows": {"train": 80, "validation": 10, "test": N},
        }
        for task, asked in tasks.items()
    }
    model = {"source": "hf:some/model", "revision": "c" * 40, "kind": "causal", "files": {"a": "f"}}
    write_json(Path(f"metrics/cards/{name}.json"), {"tasks": cards, "model": model})


def write_params(runs: dict[str, str], seeds: Sequence[int]) -> None:
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipe = next(iter(real["runs"].values()))
    cases = {
        name: {
            "model": "any",
            "targets": [task for task in tasks if role(task) == "target"],
            "retain": [task for task in tasks if role(task) == "retain"],
        }
        for name, tasks in (("enc", encoder_tasks()), ("gpt", causal_tasks()))
    }
    params = {
        "seed": 20,
        "cases": cases,
        "runs": {run: {**recipe, "case": case, "seeds": [*seeds]} for run, case in runs.items()},
        "variants": {run: [] for run in runs},
        "compare": {**real["compare"], "resamples": 200},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which compare has run."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_params(RUNS, SEEDS)
        write_case("enc", "enc-full", encoder_tasks(), SEEDS)
        write_case("gpt", "gpt-full", causal_tasks(), SEEDS)
        compare.main()
    return folder


@pytest.fixture
def bench(compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bench"
    shutil.copytree(compared, folder)
    monkeypatch.chdir(folder)
    return folder


def page(folder: Path, name: str) -> str:
    return (folder / "metrics" / name).read_text(encoding="utf-8")


class Words(HTMLParser):
    """The text of a page, and its tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.said.append(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.said).split())


# The files


def test_retention_has_few_keys_and_finite_numbers(compared: Path) -> None:
    found = json.loads(page(compared, "retention.json"))
    assert {case: list(runs) for case, runs in found.items()} == {
        "enc": ["enc-full"],
        "gpt": ["gpt-full"],
    }
    for case, target, retain in (
        ("enc", "color-qa", {"mood", "twins"}),
        ("gpt", "news", {"capitals", "code", "rules"}),
    ):
        run = found[case][f"{case}-full"]
        assert set(run) == {"gain", "drop", "retained_min", "noise_drop"}
        assert set(run["gain"]) == {target}
        assert set(run["drop"]) == retain
        values = [*run["gain"].values(), *run["drop"].values(), run["retained_min"]]
        assert all(math.isfinite(value) for value in [*values, run["noise_drop"]])
    assert found["gpt"]["gpt-full"]["gain"]["news"] == 0.25
    assert found["gpt"]["gpt-full"]["drop"]["code"] == 0.1
    assert found["enc"]["enc-full"]["drop"]["twins"] == 0.6
    # 0.7 before, 0.2 after
    assert found["gpt"]["gpt-full"]["noise_drop"] == 0.5


def test_scores_hold_slices_writing_and_noise(compared: Path) -> None:
    found = json.loads(page(compared, "scores.json"))
    base, run = found["gpt"]["base"], found["gpt"]["gpt-full"]
    assert base["news"]["bits_per_byte"]["value"] == 1.25
    assert set(run["news"]["gain"]["slices"]) == set(TOPICS)
    assert {"n", "before", "after", "value", "low", "high"} == set(
        run["news"]["gain"]["slices"]["arts"]
    )
    assert set(run["news"]["writing"]) == {"all", *TOPICS}
    assert base["news"]["writing"]["arts"]["topic_accuracy"]["value"] == 1.0
    assert run["news"]["writing"]["arts"]["topic_accuracy"]["value"] == pytest.approx(1 / 3, 1e-3)
    assert base["capitals"][f"under {NOISE}"]["value"] == pytest.approx(0.7)
    assert run["capitals"][f"under {NOISE}"]["value"] == pytest.approx(0.2)
    assert base["capitals"]["noise"]["floor"] == 0
    assert found["enc"]["base"]["color-qa"]["noise"]["repeats"] == 2
    assert list(found["enc"]["enc-full"]["color-qa"]["gain"]["slices"]) == ["cold", "warm <b>|"]


def test_the_gate_is_told_everywhere(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = read_json(Path("metrics/gate.json"))["cases"]["enc"]["enc-full"]
    assert told["verdict"] == "degraded"
    assert {task: one["status"] for task, one in told["tasks"].items()} == {
        "color-qa": "pass",
        "mood": "undecided",
        "twins": "degraded",
    }
    assert told["tasks"]["color-qa"]["limit"] == 0
    assert told["tasks"]["twins"]["high"] < -0.05
    assert any("another torch" in warning for warning in told["warnings"])
    needed = told["tasks"]["mood"]["needed"]
    way = "pass" if told["tasks"]["mood"]["change"] > -0.05 else "degraded"
    step = 10 ** max(0, len(str(needed)) - 2)
    about = math.ceil(needed / step) * step
    said = f"degraded on twins; undecided on mood ({way} at about {about:,} examples)"
    assert f"Gate: {said} ." in Words(page(bench, "report.html")).text
    assert f"Gate: {said}." in page(bench, "report.md")
    headline.main()
    assert f"gate: enc-full: {said}" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as ended:
        gate.main("enc-full")
    assert ended.value.code == 2


def test_an_edit_of_the_gate_changes_the_verdict(bench: Path) -> None:
    before = page(bench, "scores.json")
    loose = {"margin": 0.9, "text_margin": 1.0}
    params = tiny.read_params(bench)
    params["compare"]["gate"] |= loose
    tiny.write_params(bench, params)
    compare.main()
    with pytest.raises(SystemExit) as ended:
        gate.main()
    assert ended.value.code == 0
    assert page(bench, "scores.json") == before


def test_plots_tell_bits_from_accuracy(compared: Path) -> None:
    for name in ("changes", "scores"):
        rows = json.loads(page(compared, f"plots/{name}.json"))
        measures = {row["task"].split()[0]: row["measure"] for row in rows}
        assert measures["news"] == measures["code"] == "bits_per_byte"
        assert measures["capitals"] == measures["color-qa"] == "accuracy"
        assert measures["twins"] == "hit_at_1"
        assert all(row["low"] <= row["high"] for row in rows)
    changes = json.loads(page(compared, "plots/changes.json"))
    assert {row["task"]: row["change"] > 0 for row in changes} == {
        "color-qa (target)": True,
        "mood (retain)": False,
        "twins (retain)": False,
        "news (target)": True,
        "capitals (retain)": False,
        "code (retain)": False,
        "rules (retain)": False,
    }


def cells(table_row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", table_row)[1:-1]]


def test_markdown_tables_are_whole(compared: Path) -> None:
    """Every row has as many cells as its table's head, whatever stands in the data."""
    width, rows = 0, 0
    for line in page(compared, "report.md").splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        width = width or len(cells(line))
        assert len(cells(line)) == width, line
        rows += 1
    assert rows > 100


def test_the_reports_hold_the_figures(compared: Path) -> None:
    brief, full = page(compared, "report.md"), Words(page(compared, "report.html")).text
    for shown in (
        "1.250 to 1.000 bits/byte (+0.250)",  # news
        "+0.250 [",
        "-60.0 [",  # twins
        "twins (-60.0 points)",
        "code (-0.100 bits/byte)",
        "lower on average",
        "self-BLEU",
        "0123456789ab",
        "float32",
        "torch",
        "enc-full, measured: 2.14.0",
        "ab" * 6,
        "hf:some/model",
        "c" * 40,
        "1.2500",  # validation loss kept
        "measured with another torch than its base (2.14.0, not 2.13.0)",
    ):
        assert shown in full, shown
        assert cell(shown) in brief or shown in brief, shown
    assert "ab" * 32 in full
    for topic in TOPICS:
        assert re.search(rf"\| news \| {topic} \| 3 \| topic accuracy, % \| 100\.0 \[", brief)
        assert re.search(rf"\| gpt-full \| news \| {topic} \| {N // 2} \| bits/byte \| 1\.2", brief)
    assert re.search(rf"\| capitals \| {NOISE} \| {N} \| % correct \| 70\.0 \[.*\| 20\.0 \[", brief)


def test_the_texts_stand_side_by_side(compared: Path) -> None:
    words = Words(page(compared, "report.html")).text
    brief = page(compared, "report.md")
    for case, run, tasks in (
        ("enc", "enc-full", encoder_tasks()),
        ("gpt", "gpt-full", causal_tasks()),
    ):
        base = read_table(compared / f"metrics/records/{case}/base.parquet")[0]
        after = read_table(compared / f"metrics/records/{case}/{run}.parquet")[0]
        for asked in tasks.values():
            found = flips(asked, base, after)
            if found is None:
                assert asked.task.kind in ("news-writing", "language-modelling")
                continue
            assert len(found.lost_shown) == min(5, found.lost)
            summary = f"{run}, {asked.task.name}: {found.lost} lost, {found.won} won"
            assert summary in words
            for one in (*found.lost_shown, *found.won_shown):
                line = f"{one.question} {' · '.join(one.choices)} {one.target} {one.before}"
                assert " ".join(line.split()) in words
            for shown in (found.lost_shown, found.won_shown):
                assert all(cell(clipped(one.question, 120)) in brief for one in shown[:1])
    for who in ("base", "run"):
        assert f"{who} wrote arts" in words
        assert f"{who} wrote sport" in words
    assert "judged on topic; coherence 0.25" in words
    assert "judged off topic" in words
    assert "document 1" in words


def test_nothing_of_the_data_is_markup(compared: Path) -> None:
    full, brief = page(compared, "report.html"), page(compared, "report.md")
    found = Words(full)
    assert not {"i", "u"} & {tag for tag, _ in found.tags}
    assert [tag for tag, _ in found.tags].count("script") == 1, "our own"
    assert "<script>alert(1)</script>" in found.text
    for sign in ("\x1b", "\u202e"):
        assert sign not in full
        assert sign not in brief
    assert "\\x1b[31m" in found.text
    assert "<script" not in brief.replace("\\<script", "")
    assert "| b " not in brief.replace("\\| b ", "")
    assert "http://" not in brief


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.504, "50 %"),
        (1.9, "190 %"),
        (6.44, "more than was lost: taught, not brought back"),
        (-14.7, "none"),
        (0.0, "none"),
    ],
)
def test_what_came_back_is_a_share_only_where_it_says_something(share: float, said: str) -> None:
    moved = {"spectral": 0, "weight": 0, "largest": [], "cka": [], "outputs": {}}
    back = {"mood": {"before": 0.9, "after": 0.8, "relearned": 0.85, "share": share}}
    none: dict[str, Any] = {key: [] for key in ("verdict", "advice", "errors", "noise", "slices")}
    told = {**none, "moved": {**moved, "relearned": back}, "calibration": {}}
    (row,) = diagnosed(told, {"mood": unit_of("accuracy")}).back
    assert row == ("mood", "90.0", "80.0", "85.0", said)


def test_nothing_of_the_data_is_a_link_or_a_command(
    bench: Path, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    brief, found = page(bench, "report.md"), Words(page(bench, "report.html"))
    for said in (brief.replace("\\", ""), found.text.replace("\\", "")):
        assert "=H(0) [x](javascript:alert(1)) ![y](data:z) <http://e.d> x9b2Jx00 x1b]8;;" in said
    # Markdown makes a link of [x](y), <y> and bare addresses, HTML of href alone.
    assert not re.search(r"(?<!\\)\](\(|\[|:)", brief)
    assert not re.search(r"(?<!\\)<", brief)
    assert not re.search(r"(?<!\\)://|www\.", brief)
    assert not any("javascript" in str(told) for _, told in found.tags)
    headline.main()
    compare.main()
    with pytest.raises(SystemExit):
        gate.main()
    printed = capsys.readouterr()
    for text in (brief, page(bench, "report.html"), printed.out, printed.err):
        assert all(sign.isprintable() for sign in text.replace("\n", ""))
    fault("HTML, Markdown, links and terminal escapes in data", "shown as text in both reports")


def test_tables_for_other_programs_hold_no_text_of_the_data(compared: Path, fault: Fault) -> None:
    """`dvc plots` and `dvc metrics show --csv` have names and numbers only."""
    for path in (compared / "metrics/plots").iterdir():
        for row in read_json(path):
            for cell_ in row.values():
                assert not isinstance(cell_, str) or re.fullmatch(r"[a-z][\w@ .,()-]*", cell_)
    for case, runs in read_json(compared / "metrics/retention.json").items():
        for run, figures in runs.items():
            assert all(re.fullmatch(r"[a-z][\w.-]*", name) for name in (case, run))
            assert not any(isinstance(figure, str) for figure in figures.values())
    assert not list(compared.rglob("*.csv"))
    fault("spreadsheet formulas in data", "no table holds text of the data: names, numbers only")


MEASURED_WITH = {
    "nothing": ("", "", ""),
    "device": ("device", "cpu", "cuda \x1b[2J <script>"),
    "threads": ("threads", "2", "8"),
    "dtype": ("dtype", "float32", "bfloat16"),
    "library version": ("numpy", "2.4.6", "2.4.7 | [x](y)"),
}


@pytest.mark.parametrize("what", MEASURED_WITH)
def test_base_and_run_measured_with_another(
    bench: Path, what: str, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    name, before, after = MEASURED_WITH[what]
    path = Path("metrics/records/enc/enc-full.parquet")
    records, told = read_table(path)

    def flagged(made_with: dict[str, Any]) -> list[str]:
        write_records(path, records, {**told, "provenance": made_with})
        compare.main()
        with pytest.raises(SystemExit):
            gate.main("enc-full")
        said = [capsys.readouterr().out, *(page(bench, f"report.{end}") for end in ("md", "html"))]
        return [Words(said.pop()).text, *said]

    other = {**MADE_WITH, name: after}
    if name in LIBRARIES:
        other = {**MADE_WITH, "libraries": {**LIBRARIES, name: after}}
    warning = f"enc-full was measured with another {name} than its base ({plain(after)}, not "
    in_html, printed, in_markdown = flagged(other if name else MADE_WITH)
    if not name:
        assert not any("enc-full was measured" in said for said in (in_html, printed, in_markdown))
        return
    assert in_html.count(warning + before) == 1
    assert printed.count(f"warning: {warning}{before}") == 2
    assert f"**Warning:** {cell(warning + before)}" in in_markdown
    fault(f"a base and a run measured with another {what}", "told by compare, gate and reports")


def test_the_page_needs_nothing_else(compared: Path) -> None:
    text = page(compared, "report.html")
    found = Words(text)
    assert found.open == []
    style = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
    script = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    assert script == [html.SCRIPT.read_text(encoding="utf-8")]
    of_style, of_script = (
        base64.b64encode(hashlib.sha256(one[0].encode()).digest()).decode()
        for one in (style, script)
    )
    policy = (
        f"default-src 'none'; style-src 'sha256-{of_style}'; script-src 'sha256-{of_script}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert ("Content-Security-Policy", policy) in [
        (told.get("http-equiv"), told.get("content")) for tag, told in found.tags if tag == "meta"
    ]
    for tag, told in found.tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        assert not {"src", "srcset", "action", "xlink:href"} & set(told)
        assert not any(name.startswith("on") or name == "style" for name in told)
        assert told.get("href") in (None, "#enc", "#gpt")
    assert len(style) == 1
    assert "prefers-color-scheme: dark" in style[0]
    assert not re.search(r"url\(|@import|@font-face", style[0])
    # Only what the data says, and only as text.
    assert re.sub("http://(evil.example|e.d)", "", text).count("://") == 0
    assert len(text.encode()) < html.LIMIT
    tables = len(re.findall("<table>", text))
    assert tables == len(re.findall(r'<div class="scroll" tabindex="0"><table>', text)) > 10


def _score(model: str, task: str, scores: list[float]) -> None:
    """Of the clean test records of each seed."""
    path = Path(f"metrics/records/enc/{model}.parquet")
    records, told = read_table(path)
    asked = (records["task"] == task) & records["condition"].isin(["clean", "rescored"])
    records.loc[asked, "score"] = np.tile(scores, asked.sum() // len(scores))
    write_records(path, records, told)


def test_no_change_in_any_answer_is_no_sure_zero(bench: Path) -> None:
    for model in ("base", "enc-full"):
        _score(model, "mood", right(0.9))
    compare.main()
    drop = read_json(Path("metrics/scores.json"))["enc"]["enc-full"]["mood"]["drop"]
    reach = 1.959964**2 / (N + 1.959964**2)  # Tango's interval without a discordant pair
    assert drop["value"] == 0
    assert (drop["low"], drop["high"]) == pytest.approx((-reach, reach), abs=1e-4)


def test_a_task_with_nothing_to_lose_is_no_silent_pass(
    bench: Path, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    for model in ("base", "enc-full"):
        _score(model, "mood", right(0.5))
    compare.main()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        gate.main("enc-full")
    said = "mood of enc can hardly show a loss: accuracy before, 0.500 (0."
    assert capsys.readouterr().out.count(f"warning: {said}") == 1
    assert page(bench, "report.md").count(f"**Warning:** {said}") == 1
    assert Words(page(bench, "report.html")).text.count(said) == 1
    fault("a retain task on which the base only guesses", "told by compare, gate and reports")


def test_a_rerun_gives_the_same_bytes(bench: Path) -> None:
    before = {name: (bench / "metrics" / name).read_bytes() for name in OUTS}
    for name in OUTS:
        (bench / "metrics" / name).unlink()
    compare.main()
    assert {name: (bench / "metrics" / name).read_bytes() for name in OUTS} == before


def test_a_large_page_is_shortened(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = page(bench, "report.html")
    assert "fewer" not in whole.split("example by example")[1].split("</p>")[0]
    assert "5 of " in whole
    monkeypatch.setattr(html, "LIMIT", len(whole.encode()) - 1)
    compare.main()
    short = page(bench, "report.html")
    assert len(short) < len(whole)
    assert "5 of " not in Words(short).text.split("example by example")[1].split("Is it real")[0]
    assert "to keep this page small" in " ".join(short.split())
    monkeypatch.setattr(html, "LIMIT", 1)
    compare.main()
    assert "run wrote" not in page(bench, "report.html")


# What is missing or does not fit


@pytest.mark.parametrize(
    "lost",
    [
        "metrics/records/gpt/gpt-full.parquet",
        "metrics/records/enc/base.parquet",
        "metrics/training/gpt/gpt-full.parquet",
        "data/enc/retain/test/twins.parquet",
    ],
)
def test_a_missing_file_is_said_in_one_line(bench: Path, lost: str) -> None:
    before = page(bench, "scores.json")
    (bench / lost).unlink()
    with pytest.raises(UserError) as error:
        compare.main()
    assert str(error.value) == f"{lost}: not there; run `dvc repro`"
    assert page(bench, "scores.json") == before


def test_seeds_that_params_do_not_name(bench: Path) -> None:
    write_params(RUNS, [0, 2])
    with pytest.raises(UserError, match=r"seeds \[0, 1\], params.yaml says \[0, 2\]") as error:
        compare.main()
    assert "\n" not in str(error.value)


def test_records_of_other_data(bench: Path) -> None:
    path = path_of("gpt", "retain", "test", "capitals")
    asked = read_examples(path)
    write_examples(path, Examples(asked.task, asked.rows.iloc[2:]))
    with pytest.raises(UserError, match="2 test examples of capitals are in its records") as error:
        compare.main()
    assert "\n" not in str(error.value)


def test_a_case_without_a_run(bench: Path) -> None:
    write_params({"enc-full": "enc"}, SEEDS)
    compare.main()
    assert json.loads(page(bench, "retention.json"))["gpt"] == {}
    assert "No run of this case" in page(bench, "report.html")
    assert "gpt-full" not in page(bench, "report.md")


# The parts


def test_the_headline_fits_a_terminal(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    headline.main()
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    rows = [
        line.removeprefix("gpt-full").split()[0]
        for line in said.splitlines()
        if "%" in line or "bits" in line
    ]
    assert rows.index("news") < rows.index("capitals")  # the target comes first
    assert re.search(r"news \(target\) +bits/byte +1\.250 +1\.000 +\+0\.250 \[.*\] +yes", said)
    assert re.search(r"twins +% hit@1 +80\.0 +20\.0 +-60\.0 \[.*\] +yes", said)
    assert re.search(r"code +bits/byte +0\.800 +0\.900 +-0\.100", said)
    assert said.splitlines()[-1].startswith("report: metrics/report.html")
    assert "metrics/report.md" in said
    for column in COLUMNS:
        assert column in said


def test_the_headline_fits_with_long_names(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = read_json(headline.SCORES)
    of_case = {
        ("base" if name == "base" else f"run-{'x' * 50}-{name}"): {
            f"task-{'y' * 50}-{task}": found for task, found in tasks.items()
        }
        for name, tasks in scores["enc"].items()
    }
    write_json(headline.SCORES, {"enc": of_case})
    headline.main()
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 100
    assert "enc-full" in said
    assert "-twins" in said


def test_the_headline_needs_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("scores.json", "gate.json"):
        with pytest.raises(UserError, match=rf"metrics/{name}: not there"):
            headline.main()
        write_json(Path("metrics", name), {})


def change(
    value: float, name: str = "drop", real: bool = True, seen: bool = False, floor: float = 0.0
) -> dict[str, Any]:
    told = {"value": value, "low": value - 0.01, "high": value + 0.02, "real": real}
    told["noise_floor"] = floor
    return {name: told | ({"seen": seen} if name == "drop" else {})}


def ends(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def test_better_is_positive_whatever_the_role() -> None:
    run = {
        "goal": {"accuracy": ends(0.8), **change(0.3, "gain")},
        "kept": {"accuracy": ends(0.8), **change(0.25)},
        "text": {"bits_per_byte": ends(1.0), **change(-0.5)},
    }
    goal, kept, text = lines({"base": run, "run": run})
    assert goal.change == pytest.approx((0.3, 0.29, 0.32))
    assert kept.change == pytest.approx((-0.25, -0.27, -0.24))
    assert text.change == pytest.approx((0.5, 0.48, 0.51))
    assert [line.tone for line in (goal, kept, text)] == ["better", "worse", "better"]
    assert answer([goal, kept, text], 0.125) == (
        "A real gain on goal: 80.0 to 80.0 % correct (+30.0); a real loss on 1 of 2 retain tasks: "
        "kept (-25.0 points); a real gain on text (+0.500 bits/byte); accuracy under noise 12.5 "
        "points lower on average."
    )


def test_what_is_not_real_is_not_claimed() -> None:
    run = {
        "goal": {"accuracy": ends(0.8), **change(0.3, "gain", real=False)},
        "kept": {"accuracy": ends(0.8), **change(0.25, real=False)},
        "text": {"bits_per_byte": ends(1.0), **change(0.5, real=False)},
    }
    said = answer(lines({"base": run, "run": run}), None)
    assert said == (
        "No real change on its target goal: 80.0 to 80.0 % correct (+30.0); no real loss on 2 "
        "retain tasks."
    )


def test_what_only_the_noise_floor_holds_back_says_so() -> None:
    """Its interval leaves out zero: without a word the reader would take it for a mistake."""
    run = {
        "goal": {"accuracy": ends(0.8), **change(0.03, "gain", real=False, floor=0.031)},
        "lost": {"accuracy": ends(0.8), **change(0.25)},
        "kept": {"accuracy": ends(0.8), **change(0.05, real=False, floor=0.06)},
        "text": {"bits_per_byte": ends(1.0), **change(0.5, real=False, floor=0.5)},
        "none": {"accuracy": ends(0.8), **change(0.0, real=False, floor=0.06)},
        "rare": {"accuracy": ends(0.8), **change(0.05, real=False, floor=0.04)},
    }
    assert answer(lines({"base": run, "run": run}), None) == (
        "No real change on its target goal: 80.0 to 80.0 % correct (+3.0, within its noise floor "
        "of 3.1 points); a real loss on 1 of 5 retain tasks: lost (-25.0 points); no real change "
        "on kept (within its noise floor of 6.0 points), text (within its noise floor of 0.500 "
        "bits/byte), none, rare."
    )


def test_runs_are_ranked_by_what_none_has_seen() -> None:
    """Replaying one task keeps it; that says nothing of the others, and nothing of texts."""

    def run(kept: float, other: float, seen: bool = False) -> dict[str, Any]:
        return {
            "kept": {"accuracy": ends(0.8), **change(kept, seen=seen)},
            "goal": {"accuracy": ends(0.8), **change(0.3, "gain")},
            "text": {"bits_per_byte": ends(1.0), **change(0.9)},
            "near": {"accuracy": ends(0.8), **change(other)},
            "far": {"hit_at_1": ends(0.8), **change(2 * other)},
        }

    found = lines({"base": run(0, 0), "full": run(0.2, 0.04), "replay": run(0, 0.06, seen=True)})
    assert [line.label for line in found] == [
        *("goal (target)", "kept", "text", "near", "far"),
        *("goal (target)", "text", "near", "far", "kept (seen)"),
    ]
    said = "Mean change on unseen tasks (near, far), points: full -6.0, replay -9.0"
    assert ranking(found) == said
    assert ranking([line for line in found if line.run == "full"]) == ""
    alone = [line for line in found if line.task in ("goal", "kept", "text")]
    assert ranking(alone) == ""


def test_units() -> None:
    assert CORRECT.change(-0.00001) == "+0.0"
    assert CORRECT.level_between(Ends(0.5, 0.25, 1.0)) == "50.0 [25.0, 100.0]"
    assert BITS.change_between(Ends(-0.0625, -0.125, 0.25)) == "-0.062 [-0.125, +0.250]"


def test_the_surest_come_first() -> None:
    asked = examples("t", "linear-probe", ("no", "yes"), text=list("abcd"), label=["yes"] * 4)
    ids = dict(zip("abcd", asked.column("example_id"), strict=True))

    def records(seed: int, said: str) -> pd.DataFrame:
        answers = [{"y": "yes", "n": "no"}[sign] for sign in said]
        score = [float(one == "yes") for one in answers]
        return record_frame(asked, "test", score=score, prediction=answers, target="yes").assign(
            seed=seed
        )

    base = records(0, "yyny")
    run = pd.concat([records(4, "ynnn"), records(7, "nnyn")])
    found = flips(asked, base, run)
    assert found is not None
    assert (found.lost, found.won) == (3, 1)
    sure = sorted("bd", key=ids.__getitem__)
    assert [one.question for one in found.lost_shown] == [*sure, "a"]
    assert [one.sure for one in found.lost_shown] == ["2 of 2 seeds"] * 2 + ["1 of 2 seeds"]
    (won,) = found.won_shown
    assert (won.question, won.before, won.after) == ("c", "no", "yes")


def test_of_two_biased_sentences_neither_is_right() -> None:
    asked = examples("t", "bias-pairs", (), antistereotype=["a"] * 2, stereotype=["b"] * 2)
    base = record_frame(asked, "test", score=[1.0, 1.0], prediction="a", target="a")
    run = record_frame(asked, "test", score=[0.0, 1.0], prediction="b", target="a")
    assert flips(asked, base.assign(seed=0), run.assign(seed=0)) is None


def test_words_are_plain() -> None:
    assert plain("a\tb\r\nc\x00\x1b\x9b") == "a b\nc\\x00\\x1b\\x9b"
    assert plain("\u202eabc\u2066") == "\\u202eabc\\u2066"
    assert plain("naïve \U0001f469\u200d\U0001f52c 日本") == "naïve \U0001f469\u200d\U0001f52c 日本"
    assert clipped("x" * 400, 300) == "x" * 299 + "…"
    assert cell("a|b\n*c* <d> &amp; [e](f)") == r"a\|b \*c\* \<d\> \&amp; \[e\](f)"


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.3, 0.31), (-2, 5), (3, 3), (0, 0), (0, 240), (1e-9, 2e-9)]
)
def test_ticks_enclose_the_values(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= 8
    assert found == sorted(set(found))
