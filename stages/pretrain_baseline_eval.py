"""Stage pretrain-baseline-eval: what the untouched model can do, and how sure that is."""

import sys
from pathlib import Path

from stages import errors
from stages.config.evaluation import read_evaluation
from stages.config.seed import read_seed
from stages.models.base import materialise
from stages.models.loading import load
from stages.records import write_records
from stages.scoring.case import score_case
from stages.storage import read_json
from stages.tasks.examples import folders


def main(case: str) -> None:
    evaluation, seed = read_evaluation(), read_seed()
    told = Path(f"models/base/{case}.json")
    manifest = read_json(told)
    folder = materialise(manifest)
    records, about = score_case(
        case,
        load(manifest, folder),
        evaluation,
        seed,
        inputs=[told, *folders(case)],
        repeats=evaluation.noise_repeats,
        label=f"{case}, base",
    )
    write_records(Path(f"metrics/records/{case}/base.parquet"), records, about)


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
