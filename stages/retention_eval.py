"""Stage retention-eval: ask a tuned model everything that the base was asked."""

import sys
from pathlib import Path

import pandas as pd

from stages import errors
from stages.config.evaluation import read_evaluation
from stages.config.runs import read_run
from stages.config.seed import read_seed
from stages.models.base import materialise
from stages.models.loading import load
from stages.records import write_records
from stages.scoring.case import score_case
from stages.storage import read_json
from stages.tasks.examples import folders


def main(run: str) -> None:
    config, evaluation, asked_with = read_run(run), read_evaluation(), read_seed()
    told = Path(f"models/base/{config.case}.json")
    manifest = read_json(told)
    base = materialise(manifest)
    parts = []
    for seed in config.seeds:
        tuned = load(manifest, base, Path(f"models/tuned/{run}/seed-{seed}"))
        records, about = score_case(
            config.case,
            tuned,
            evaluation,
            asked_with,
            inputs=[told, *folders(config.case), Path(f"models/tuned/{run}")],
            repeats=0,
            label=f"{run}, seed {seed}",
        )
        parts.append(records.assign(seed=seed))
    path = Path(f"metrics/records/{config.case}/{run}.parquet")
    write_records(path, pd.concat(parts, ignore_index=True), about)


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
