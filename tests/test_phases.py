"""Where a stage's time goes: counted once, kept apart from every out, and told."""

import time
from pathlib import Path

import pytest
import tiny

from stages import phases
from stages.phases import Timing


def test_a_phase_within_another_interrupts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 7.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(phases, "_clock", phases._Clock())  # at 0
    with phases.phase("score"), phases.phase("tokenise"):  # from 1 to 15, and from 3 to 7
        pass
    assert phases._clock.spent == {"other": 1.0, "score": 2.0 + 8.0, "tokenise": 4.0}


def test_a_phase_that_fails_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "_clock", phases._Clock())
    with pytest.raises(ValueError), phases.phase("score"):
        raise ValueError
    assert phases._clock._open == ["other"]


@phases.phase("twice")
def _twice(number: int) -> int:
    return 2 * number


def test_what_is_decorated_works_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "_clock", phases._Clock())
    assert [_twice(1), _twice(number=2)] == [2, 4]
    assert phases._clock.spent["twice"] > 0


def test_between_the_stages_of_a_run() -> None:
    timings = [
        Timing("prepare@a", 100.0, 7, {"start": 1.0, "other": 2.0}),  # to 103
        Timing("finetune@a", 105.0, 7, {"train": 10.0}),  # to 115
        Timing("compare", 1000.0, 8, {"other": 1.0}),  # of another run
    ]
    assert phases.between(timings) == 2.0
    shown = phases.table(timings).splitlines()
    assert shown[1].split() == ["train", "10.0", "62.5%"]
    assert "between stages (DVC)" in "\n".join(shown)
    assert shown[-1].split() == ["compare", "1.0", "other", "1.0"]


def test_damaged_files_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "FOLDER", tmp_path)
    for name, text in (("a", "{"), ("b", "[1]"), ("c", '{"stage": "c"}')):
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    assert phases.kept() == []


def test_every_stage_of_a_pipeline(reproduced: tiny.Project) -> None:
    """Kept where neither git nor DVC looks, and told by the command that the report names."""
    expected = set(
        tiny.expand(
            (tiny.ROOT / "dvc.yaml").read_text(encoding="utf-8"), tiny.read_params(reproduced.path)
        )
    )
    folder = reproduced.path / phases.FOLDER
    assert {path.stem for path in folder.glob("*.json")} == expected
    said = reproduced.call("python", "-m", "stages.phases").stdout
    spent = {line.split()[0]: line for line in said.splitlines() if line}
    assert expected <= set(spent)
    assert {"start", "load", "train", "validate", "score", "probe", "hash", "tokenise"} <= set(
        spent
    )
    assert "train" in spent["finetune@full"] and "score" in spent["retention-eval@full"]
    assert "train" not in spent["retention-eval@full"]
    assert reproduced.git("status", "--porcelain") == ""
    assert reproduced.dvc("status").strip() == "Data and pipelines are up to date."
    for name in ("report.md", "report.html"):
        report = (reproduced.path / "metrics" / name).read_text(encoding="utf-8")
        assert "python -m stages.phases" in report


def test_a_stage_that_fails_keeps_none(reproduced: tiny.Project) -> None:
    done = reproduced.call("python", "-m", "stages.finetune", "nobody")
    assert done.returncode == 1
    assert not (reproduced.path / phases.FOLDER / "finetune@nobody.json").exists()


def test_where_nothing_ran(tmp_path: Path, environment: dict[str, str]) -> None:
    project = tiny.Project(tmp_path, {**environment, "PYTHONPATH": str(tiny.ROOT)})
    done = project.call("python", "-m", "stages.phases")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: logs/phases: no stage has run here yet; run `dvc repro`\n"
