"""What is watched while it trains: TensorBoard reads the curves, and nothing else changes."""

from pathlib import Path

import pytest
import tiny
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stages.errors import UserError
from stages.records import read_table
from stages.storage import sha256_path

CURVES = Path(f"metrics/training/{tiny.CASE}/full.parquet")
TUNED = Path("models/tuned/full")
REPORT_TO = "PALIMPSEST_REPORT_TO"


def test_tensorboard_has_the_curves(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sha256_path(TUNED), read_table(CURVES)[0]
    monkeypatch.setenv(REPORT_TO, "tensorboard")
    tiny.run_stage("finetune", "full")
    curves = read_table(CURVES)[0]
    assert sha256_path(TUNED) == before[0], "the weights are the same to the byte"
    assert curves.equals(before[1])

    events = EventAccumulator("logs/full-seed-0")
    events.Reload()
    measured = set(curves.columns) - {"step", "seed"}
    assert set(events.Tags()["scalars"]) == measured
    for name in measured:
        told = {event.step: event.value for event in events.Scalars(name)}
        kept = curves[["step", name]].dropna()
        assert told == pytest.approx(dict(zip(kept["step"], kept[name], strict=True)), rel=1e-6)


def test_off_by_default(bench: Path) -> None:
    tiny.edit_params(bench, runs__full__steps=2)
    tiny.run_stage("finetune", "full")
    assert not Path("logs").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tensorbord", "tensorbord is no tracker; did you mean tensorboard?"),
        ("tensorboard, excel", "excel is no tracker; give some of aim, "),
        ("aim", "aim is not installed"),
    ],
)
def test_what_it_refuses(
    given: str, said: str, bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REPORT_TO, given)
    with pytest.raises(UserError) as error:
        tiny.run_stage("finetune", "full")
    assert str(error.value).startswith(f"{REPORT_TO}={given}: {said}")
