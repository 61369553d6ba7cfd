"""Stage pretrain-baseline-eval: what the untouched model can do, how sure that is, and how far the
target's data is from what it is to keep."""

import sys
from pathlib import Path
from typing import Any

from stages import errors, processes
from stages.config.cases import read_case
from stages.config.evaluation import EvaluationConfig, read_evaluation
from stages.config.seed import read_seed
from stages.drift.data import data_shift
from stages.models.base import materialise
from stages.models.loading import CausalModel, Loaded, load
from stages.models.sharing import join
from stages.phases import phase, recorded
from stages.records import write_records
from stages.scoring.case import score_case, scored_with
from stages.scoring.own_text import own_text
from stages.storage import read_json, write_json
from stages.tasks.examples import folders, read_role


@phase("shift")
def _shift(case: str, loaded: Loaded, evaluation: EvaluationConfig, seed: int) -> dict[str, Any]:
    """`loaded`: as it was scored."""
    train, target = (read_role(case, "target", split) for split in ("train", "test"))
    retain = read_role(case, "retain", "test")
    found = data_shift(loaded, train, target, retain, evaluation.batch_tokens, seed)
    if isinstance(loaded, CausalModel):
        found["own_text"] = own_text(loaded, evaluation.batch_tokens, seed)
    return found


@recorded("pretrain-baseline-eval")
def main(case: str) -> None:
    join()
    config, evaluation, seed = read_case(case), read_evaluation(), read_seed()
    told = Path(f"models/base/{case}.json")
    manifest = read_json(told)
    loaded = load(manifest, materialise(manifest))
    records, about = score_case(
        case,
        loaded,
        evaluation,
        seed,
        repeats=evaluation.noise_repeats,
        label=f"{case}, base",
        shots=config.shots or 0,
    )
    shift = _shift(case, loaded, evaluation, seed)
    if processes.is_first():
        about["provenance"] = scored_with(evaluation, [told, *folders(case)])
        write_records(Path(f"metrics/records/{case}/base.parquet"), records, about)
        write_json(Path(f"metrics/shift/{case}.json"), shift)


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
