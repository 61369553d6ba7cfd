"""Stage retention-eval: ask a tuned model everything that the base was asked."""

import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa

from stages import errors
from stages.config.evaluation import read_evaluation
from stages.config.runs import read_run
from stages.config.seed import read_seed
from stages.drift.states import body_of
from stages.drift.table import drift_table, state_drift
from stages.drift.weights import weight_drift
from stages.models.base import materialise
from stages.models.loading import load
from stages.records import write_records, write_table
from stages.scoring.case import score_case
from stages.storage import read_json
from stages.tasks.examples import ROLES, folders, read_role


def main(run: str) -> None:
    config, evaluation, asked_with = read_run(run), read_evaluation(), read_seed()
    manifest_file = Path(f"models/base/{config.case}.json")
    manifest = read_json(manifest_file)
    folder = materialise(manifest)
    tests = [test for role in ROLES for test in read_role(config.case, role, "test")]
    drifts, parts = [], []
    for seed in config.seeds:
        base = load(manifest, folder)
        tuned = load(manifest, folder, Path(f"models/tuned/{run}/seed-{seed}"))
        rows = list(weight_drift(body_of(base), body_of(tuned)))
        records, about = score_case(
            config.case,
            tuned,
            evaluation,
            asked_with,
            inputs=[manifest_file, *folders(config.case), Path(f"models/tuned/{run}")],
            repeats=0,
            label=f"{run}, seed {seed}",
        )
        rows += state_drift(base, tuned, tests, evaluation.batch_tokens)
        parts.append(records.assign(seed=seed))
        drifts.append(drift_table(rows).assign(seed=seed))
    path = Path(f"metrics/records/{config.case}/{run}.parquet")
    write_records(path, pd.concat(parts, ignore_index=True), about)
    moved = pa.Table.from_pandas(pd.concat(drifts, ignore_index=True), preserve_index=False)
    told = {"run": run, "provenance": about["provenance"]}
    write_table(Path(f"metrics/drift/{config.case}/{run}.parquet"), moved, told)


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
