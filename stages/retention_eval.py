"""Stage retention-eval: ask a tuned model everything that the base was asked, and its variants what
they still know; how far it has moved, and what of its losses comes back by itself."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages import errors, processes
from stages.config.evaluation import EvaluationConfig, read_evaluation
from stages.config.kinds import UNTAUGHT
from stages.config.runs import read_run
from stages.config.seed import read_seed
from stages.config.variants import misfits, read_variants
from stages.drift.states import body_of
from stages.drift.table import drift_table, state_drift
from stages.drift.weights import weight_drift
from stages.errors import UserError
from stages.models.base import materialise
from stages.models.loading import Loaded, load
from stages.models.placing import device_map
from stages.models.sharing import join
from stages.models.tuned import trained_rows
from stages.phases import phase, recorded
from stages.records import read_records, write_records, write_table
from stages.scoring.case import ask, score_case, scored_with, scorer_of
from stages.scoring.derived import score_variants
from stages.scoring.folds import score_folds
from stages.scoring.splits import Asking, read_splits
from stages.statistics.lost import clean_test, has_lost
from stages.statistics.measures import measure_for, values
from stages.storage import read_json
from stages.tasks.examples import ROLES, folders, read_role
from stages.training.relearn import relearn
from stages.variants.variant import Origin, check_kinds, size_of


def _relearned(
    case: str,
    before: pd.DataFrame,
    after: pd.DataFrame,
    tuned: Callable[[], Loaded],
    evaluation: EvaluationConfig,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Rows of the drift table: what each retain task that was lost measures after `relearn`; of a
    model that is laid out over several devices, which cannot be trained, none."""
    if device_map():
        return
    for splits in read_splits(case):
        task = splits.task
        measure = measure_for(task.kind, task.options.get("metric"), task.options.get("negative"))
        if splits.role == "target" or task.kind in UNTAUGHT:
            continue
        if not has_lost(before, after, task.name, measure):
            continue
        loaded = tuned()
        relearn(loaded, splits.train, evaluation.precision)
        asking = Asking(0, (), seed, validation=False)
        scored, _ = ask(scorer_of(loaded, evaluation), splits, asking)
        found = clean_test(scored, task.name)
        for example_id, value in zip(found["example_id"], values(found, measure), strict=True):
            yield {
                "task": task.name,
                "example_id": example_id,
                "measure": "relearned",
                "value": float(value),
            }


@recorded("retention-eval")
def main(run: str) -> None:
    join()
    config, evaluation, asked_with = read_run(run), read_evaluation(), read_seed()
    variants = read_variants(run)
    if wrong := list(misfits(run, variants, config)):
        raise UserError("\n".join(wrong))
    check_kinds(variants)
    case, manifest_file = config.case, Path(f"models/base/{config.case}.json")
    manifest = read_json(manifest_file)
    folder = materialise(manifest)
    tests = [test for role in ROLES for test in read_role(case, role, "test")]
    before, _ = read_records(Path(f"metrics/records/{case}/base.parquet"))
    drifts, parts, sizes = [], [], []
    for seed in config.seeds:

        def tuned(seed: int = seed) -> Loaded:
            return load(manifest, folder, Path(f"models/tuned/{run}/seed-{seed}"))

        base, model = load(manifest, folder), tuned()
        sizes.append(size_of(model))
        with phase("drift"):
            rows = list(weight_drift(body_of(base), body_of(model)))
        records, about = score_case(
            case,
            model,
            evaluation,
            asked_with,
            repeats=0,
            label=f"{run}, seed {seed}",
            trained=trained_rows(Path(f"models/tuned/{run}/seed-{seed}")),
        )
        with phase("drift"):
            rows += state_drift(base, model, tests, evaluation.batch_tokens)
        del base, model  # memory for the one that is loaded again
        rows += _relearned(case, before, records, tuned, evaluation, asked_with)
        parts.append(records.assign(seed=seed))
        drifts.append(drift_table(rows).assign(seed=seed))
    origin = Origin(manifest, folder, Path(f"models/tuned/{run}"), config.seeds)
    after = pd.concat(parts, ignore_index=True)
    derived, bytes_ = score_variants(
        case, run, variants, origin, evaluation, before, after, sizes[0]
    )
    if config.folds:
        derived += score_folds(case, config.folds, origin, evaluation)
    if not processes.is_first():
        return
    path = Path(f"metrics/records/{case}/{run}.parquet")
    made_with = scored_with(evaluation, [manifest_file, *folders(case), origin.tuned])
    told = {**about, "provenance": made_with, "bytes": bytes_}
    write_records(path, pd.concat([after, *derived], ignore_index=True), told)
    moved = pa.Table.from_pandas(pd.concat(drifts, ignore_index=True), preserve_index=False)
    of_drift = {"run": run, "provenance": made_with}
    write_table(Path(f"metrics/drift/{case}/{run}.parquet"), moved, of_drift)


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
