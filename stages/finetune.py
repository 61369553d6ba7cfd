"""Stage finetune: apply one run's recipe to its case, once a seed."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages import errors
from stages.config.runs import RunConfig, read_run
from stages.models.base import materialise
from stages.models.device import describe, device, dtype
from stages.provenance import provenance
from stages.records import write_table
from stages.storage import atomic_directory, fingerprint, read_json, sha256_file
from stages.tasks.examples import read_role
from stages.training.checkpoint import Checkpoint
from stages.training.run import Recipe, train_seed


def _fingerprint(
    run: str, config: RunConfig, manifest: dict[str, Any], made_with: dict[str, Any]
) -> str:
    """What must be the same for a checkpoint to be the beginning of this very work."""
    data = sorted(Path(f"data/{config.case}/target").rglob("*.parquet"))
    code = sorted(Path(__file__).parent.rglob("*.py"))
    hashes = [sha256_file(path) for path in [*data, *code]]
    versions = {key: made_with[key] for key in ("device", "dtype", "threads", "libraries")}
    return fingerprint(run, config.model_dump(mode="json"), manifest, hashes, versions)


def main(run: str) -> None:
    config = read_run(run)
    manifest = read_json(Path(f"models/base/{config.case}.json"))
    where = device()
    inputs = [Path(f"models/base/{config.case}.json"), Path(f"data/{config.case}/target")]
    made_with = provenance(inputs, **describe(where, dtype(config.precision, where)))
    (train,), (validation,) = (
        read_role(config.case, "target", split) for split in ("train", "validation")
    )
    recipe = Recipe(run, config, manifest, materialise(manifest), train, validation)
    fingerprint_ = _fingerprint(run, config, manifest, made_with)
    curves, best_steps = [], {}
    with atomic_directory(Path(f"models/tuned/{run}")) as folder:
        for seed in config.seeds:
            history, best = train_seed(
                recipe, seed, Checkpoint(fingerprint_, seed), folder / f"seed-{seed}"
            )
            curves.append(pd.DataFrame(history).assign(seed=seed))
            best_steps[str(seed)] = best
            if best == 0:
                print(f"{run}, seed {seed}: no step was better on validation than the start")
    table = pa.Table.from_pandas(pd.concat(curves, ignore_index=True), preserve_index=False)
    about = {"run": run, "best_step": best_steps, "provenance": made_with}
    write_table(Path(f"metrics/training/{config.case}/{run}.parquet"), table, about)
    Checkpoint(fingerprint_, 0).remove_all()


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
