"""Stages that are stopped, and disks that are full: nothing half-written is taken for whole."""

import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import interruption
import pytest
import tiny
from faults_page import Fault
from interruption import STAGES, Ended, Plan

from stages.storage import sha256_path

NAMES = {
    "kill": "SIGKILL",
    "time": "SIGKILL by the clock",
    "write": "SIGXFSZ in a write",
    "term": "SIGTERM",
    "power": "power loss",
}
SAME = "no part of an out is left; run again, every out is the same to the bit"
Stage = tuple[str, ...]
TRIALS = 120
SEED = 9

ENDED = {
    "kill": -signal.SIGKILL,
    "power": -signal.SIGKILL,
    "time": -signal.SIGKILL,
    "write": -signal.SIGXFSZ,
    "term": 128 + signal.SIGTERM,
}


class Bench:
    """Every stage's outs as they are when nothing goes wrong, and rooms to go wrong in."""

    def __init__(self, whole: Path, folder: Path) -> None:
        self.whole, self._folder = whole, folder
        self.params = tiny.read_params(whole)
        self.runs: dict[Stage, Ended] = {}
        self._rooms = 0

    def outs(self, stage: Stage) -> dict[str, str]:
        """The hash of each, as it should be."""
        outs = interruption.outs_of(stage, self.params)
        return {out: sha256_path(self.whole / out) for out in outs}

    def room(self, stage: Stage) -> Path:
        """Where the stage is about to be run: what comes before it is there, its outs are not."""
        self._rooms += 1
        room = self._folder / f"room-{self._rooms}"
        shutil.copytree(self.whole, room)
        _remove(room, self.outs(stage))
        return room

    def measured(self, stage: Stage) -> Ended:
        """How long the stage takes, and how many calls that a plan can end it at."""
        if stage not in self.runs:
            room = self.room(stage)
            self.runs[stage] = interruption.run(room, stage)
            self.check_whole(room, stage, self.runs[stage])
        return self.runs[stage]

    def largest(self, stage: Stage) -> int:
        """Bytes of the largest file that the stage writes."""
        paths = [self.whole / out for out in self.outs(stage)]
        files = [file for path in paths for file in (path, *path.rglob("*")) if file.is_file()]
        return max(file.stat().st_size for file in files)

    def check_whole(self, room: Path, stage: Stage, ended: Ended) -> None:
        """The stage ended well, wrote what it always writes, and left nothing else behind."""
        assert ended.code == 0, ended.said
        assert {out: sha256_path(room / out) for out in self.outs(stage)} == self.outs(stage)
        assert leftovers(room) == []

    def check_parts(self, room: Path, stage: Stage) -> None:
        """Whatever out is there is whole: DVC would take it for that."""
        for out, sha256 in self.outs(stage).items():
            assert not (room / out).exists() or sha256_path(room / out) == sha256, out

    def interrupt(self, stage: Stage, plan: Plan) -> Ended:
        """Stop the stage, look at what is left, and run it again."""
        room = self.room(stage)
        ended = interruption.run(room, stage, plan)
        if ended.code == ENDED[plan.how]:
            assert "Traceback" not in ended.said
            self.check_parts(room, stage)
            if plan.seed % 2:
                _remove(room, self.outs(stage))  # as DVC does before it runs a stage again
            self.check_whole(room, stage, interruption.run(room, stage))
        else:
            self.check_whole(room, stage, ended)  # it was over before
        shutil.rmtree(room)
        return ended


def _remove(room: Path, outs: dict[str, str]) -> None:
    for out in outs:
        if (room / out).is_dir():
            shutil.rmtree(room / out)
        else:
            (room / out).unlink(missing_ok=True)


def leftovers(room: Path) -> list[Path]:
    scratch = [path for path in (room / ".scratch").rglob("*") if path.is_file()]
    return sorted([*scratch, *room.rglob(".*.tmp")])


@pytest.fixture(scope="module")
def bench(walked: tiny.Walk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("interruption")
    whole = folder / "whole"
    shutil.copytree(walked.path, whole)
    tiny.edit_params(whole, runs__full__checkpoint_every=5)
    bench = Bench(whole, folder)
    yield bench


FULL = ("finetune", "full")
CHOSEN = [
    (("prepare", tiny.CASE), Plan("kill", 1, "os.rename"), "as its second out is put in place"),
    (("pretrain_baseline_eval", tiny.CASE), Plan("write", 4000), "in the middle of its records"),
    (FULL, Plan("write", 100_000), "in the middle of a checkpoint"),
    (FULL, Plan("power", 2, "seed-0.pt", seed=1), "before a checkpoint is synced"),
    (FULL, Plan("kill", 3, "seed-0.pt"), "as a checkpoint is put in place"),
    (FULL, Plan("term", 4, "seed-0.pt"), "after a checkpoint is put in place"),
    (FULL, Plan("power", 0, "new/seed-0", seed=2), "as the tuned model is written"),
    (
        ("retention_eval", "lora"),
        Plan("power", 0, "fsync", seed=3),
        "before records are synced",
    ),
    (("compare",), Plan("kill", 4, "os.rename"), "between its outs"),
]
"""A stage, how it is stopped, and in words when."""


@pytest.mark.parametrize(("stage", "plan", "when"), CHOSEN)
def test_stopped_and_run_again(
    bench: Bench, stage: Stage, plan: Plan, when: str, fault: Fault
) -> None:
    ended = bench.interrupt(stage, plan)
    assert ended.code == ENDED[plan.how], ended
    fault(f"{NAMES[plan.how]} in {' '.join(stage)}, {when}", SAME)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_many_random_moments(bench: Bench, fault: Fault) -> None:
    """TRIALS stages that really were stopped, over all stages and all ways to stop."""
    draw = random.Random(SEED)
    stopped: Counter[tuple[str, str]] = Counter()
    while stopped.total() < TRIALS:
        stage = STAGES[stopped.total() % len(STAGES)]
        whole = bench.measured(stage)
        plan = interruption.random_plan(draw, whole.seconds, whole.events, bench.largest(stage))
        ended = bench.interrupt(stage, plan)
        if ended.code == ENDED[plan.how]:
            stopped[stage[0], NAMES[plan.how]] += 1
            print(f"{stopped.total()}: {stage} {plan}", flush=True)
    for way in sorted({way for _, way in stopped}):
        counts = [f"{n} in {name}" for (name, by), n in sorted(stopped.items()) if by == way]
        fault(f"{way} at random moments: {', '.join(counts)}", SAME)


PLACES = [
    (("prepare", tiny.CASE), "data", 8192),
    (("pretrain_baseline_eval", tiny.CASE), "metrics/records", 4096),
    (FULL, ".scratch", 65536),
    (FULL, "models/tuned", 65536),
    (("retention_eval", "full"), "metrics/records", 4096),
    (("compare",), "metrics", 4096),
]
"""A stage, where it writes, and what room is left there: too little."""


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not interruption.can_mount(tmp_path_factory.mktemp("disk") / "mounted"):
        pytest.skip("this system gives no process a disk of its own")


@pytest.mark.parametrize(("stage", "place", "room"), PLACES)
def test_a_full_disk(
    bench: Bench, disks: None, stage: Stage, place: str, room: int, fault: Fault
) -> None:
    said = _refused(bench, stage, Plan("full", room, place))
    assert re.fullmatch(
        rf"error: {place}/\S+: cannot be written: no space left on device; make room, then run "
        r"`dvc repro` again",
        said,
    ), said
    said = _without_names(said)
    fault(f"a full disk under {place} in {stage[0]}", f"exit 1, {said}; then a sound rerun")


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        (PLACES[0][0], "data"),
        (PLACES[1][0], "metrics"),
        (FULL, "models"),
        (PLACES[4][0], "metrics"),
        (("compare",), "metrics"),
    ],
)
def test_a_read_only_disk(
    bench: Bench, disks: None, stage: Stage, place: str, fault: Fault
) -> None:
    said = _refused(bench, stage, Plan("read-only", 65536, place))
    assert re.fullmatch(
        rf"error: {place}/\S+: cannot be written: read-only file system; make the place writable, "
        r"then run `dvc repro` again",
        said,
    ), said
    fault(f"a read-only disk under {place} in {stage[0]}", f"exit 1, {said}; then a sound rerun")


def test_a_limit_on_the_size_of_files(bench: Bench, fault: Fault) -> None:
    said = _refused(bench, FULL, Plan("limit", 100_000))
    assert re.fullmatch(r"error: \.scratch/\S+: cannot be written: file too large; raise .*", said)
    said = _without_names(said)
    fault("a limit on the size of files in finetune", f"exit 1, {said}; then a sound rerun")


def _without_names(said: str) -> str:
    """What every run, and every version of the code, calls otherwise."""
    return re.sub(r"[0-9a-f]{64}|(?<=\.)[a-z0-9_]{8}(?=\.tmp)", "…", said)


def _refused(bench: Bench, stage: Stage, plan: Plan) -> str:
    """The one line of a stage that cannot write; nothing of it is left, and then it goes well."""
    room = bench.room(stage)
    ended = interruption.run(room, stage, plan)
    assert ended.code == 1, ended
    assert "Traceback" not in ended.said
    bench.check_parts(room, stage)
    assert list(room.rglob(".*.tmp")) == []
    bench.check_whole(room, stage, interruption.run(room, stage))
    shutil.rmtree(room)
    (line,) = (line for line in ended.said.splitlines() if line.startswith("error: "))
    assert ended.said.rstrip().endswith(line), "something is said after the error"
    return line
