"""A run's diagnosis, as metrics/diagnosis.json has it: why it lost, and what to try."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.config.runs import RunConfig
from stages.diagnosis.advice import advice
from stages.diagnosis.evidence import Evidence, curves, labelled, losses, nearer
from stages.diagnosis.five_errors import Error, FiveErrors
from stages.diagnosis.movement import movement
from stages.diagnosis.slices import lost_slices
from stages.diagnosis.verdict import findings, verdict
from stages.statistics.calibration import calibration
from stages.statistics.results import About, BaseResult, RunResult, Settings
from stages.statistics.rows import rows_in_order

DECIMALS = 4


@dataclass(frozen=True)
class Given:
    """What a diagnosis is made from. `shift` and `card` are the case's, `training` and `drift` with
    what their files say of them. `mixes`: records of models between the run and its base, by name.
    `later`: targets that neither the run nor one before learned."""

    run: str
    config: RunConfig
    tasks: Mapping[str, About]
    base: pd.DataFrame
    records: pd.DataFrame
    mixes: Mapping[str, pd.DataFrame]
    training: pd.DataFrame
    best_steps: Mapping[str, int]
    seen: tuple[str, ...]
    seen_in_case: tuple[str, ...]
    later: tuple[str, ...]
    drift: pd.DataFrame
    shift: Mapping[str, Any]
    card: Mapping[str, Any]
    before: BaseResult
    result: RunResult


def diagnose(given: Given, settings: Settings) -> dict[str, Any]:
    """`verdict`: cause and evidence, surest first; `advice`; and the figures."""
    measures = {task: about.measure for task, about in given.tasks.items()}
    moved = movement(given.drift, given.base, given.records, measures, settings.confidence)
    errors = _errors(given, settings)
    each = [_evidence(given, target, moved, errors, settings) for target in _targets(given)]
    causes = findings(*each)
    slices = lost_slices(
        given.base,
        given.records,
        measures,
        settings.confidence,
        settings.resamples,
        settings.seed,
    )
    figures: dict[str, Any] = {
        "verdict": [asdict(one) for one in verdict(each[0], causes)],
        "advice": [one.told(given.run) for one in advice(each[0], causes)],
        "errors": [error.told() for error in errors],
        "moved": moved,
        "calibration": _calibration(given),
        "noise": _noise(given),
        "slices": [one.told() for one in slices],
    }
    return {key: _rounded(value) for key, value in figures.items()}


def _targets(given: Given) -> list[str]:
    return [task for task, about in given.tasks.items() if about.role == "target"]


def _train_rows(given: Given, target: str) -> int:
    there: int = given.card["tasks"][target]["rows"]["train"]
    if given.config.draw is None:
        return there
    rows, per_label = given.config.draw.rows, given.config.draw.per_label
    return min(there, rows or (per_label or 1) * len(given.tasks[target].labels))


def _seeds(given: Given) -> list[int]:
    return sorted({int(seed) for seed in given.records["seed"]})


def _errors(given: Given, settings: Settings) -> list[Error]:
    found: list[Error] = []
    for task in _targets(given):
        for seed in _seeds(given):
            run = given.records[given.records["seed"] == seed]
            curve = given.training[given.training["seed"] == seed]
            measure = given.tasks[task].measure
            errors = FiveErrors(given.base, run, task, measure, seed, settings.confidence)
            kept = given.best_steps[str(seed)]
            found += errors.all(curve, kept, given.shift.get("own_text"))
    return found


def _evidence(
    given: Given,
    target: str,
    moved: Mapping[str, Any],
    errors: list[Error],
    settings: Settings,
) -> Evidence:
    change = given.result.changes[target]
    lost, kept, within_noise = losses(given.tasks, given.result, settings.confidence)
    renamed, by_label = labelled(
        given.records, target, given.tasks[target].labels, settings.confidence
    )
    return Evidence(
        run=given.run,
        config=given.config,
        rows={task: one["rows"].get("train", 0) for task, one in given.card["tasks"].items()},
        train_rows=sum(_train_rows(given, task) for task in _targets(given)),
        causal=given.card["model"]["kind"] != "encoder",
        target=target,
        gained=change.is_real(settings.confidence) and change.interval.value > 0,
        lost=lost,
        kept=kept,
        within_noise=within_noise,
        seen=given.seen,
        seen_in_case=given.seen_in_case,
        later=given.later,
        kinds=tuple(given.tasks[task].kind for task in _targets(given)),
        errors=tuple(errors),
        curves=curves(given.training, given.best_steps, _targets(given)),
        moved=moved,
        shift=given.shift,
        renamed=renamed,
        by_label=by_label,
        nearer=nearer(
            given.mixes, given.records, target, given.tasks[target].measure, settings.confidence
        ),
    )


def _calibration(given: Given) -> dict[str, Any]:
    """By task whose answers have probabilities, and a right one: of two sentences that differ in
    whom they speak of neither is. Before, and after as the mean over seeds."""
    found = {}
    for task, about in given.tasks.items():
        if about.kind == "bias-pairs":
            continue
        before = _calibrated(given.base, task)
        after = [
            _calibrated(given.records[given.records["seed"] == seed], task)
            for seed in _seeds(given)
        ]
        if before and all(after):
            found[task] = {
                "before": before,
                "after": {
                    figure: float(np.mean([one[figure] for one in after if one]))
                    for figure in before
                },
            }
    return found


def _calibrated(records: pd.DataFrame, task: str) -> dict[str, float] | None:
    rows = rows_in_order(records, task)
    if rows.empty or rows["probabilities"].isna().any() or rows["nll"].isna().any():
        return None
    lists = rows["probabilities"].to_list()
    width = max(map(len, lists))
    table = np.zeros((len(lists), width))
    for place, row in enumerate(lists):
        table[place, : len(row)] = row
    return asdict(calibration(table, np.exp(-rows["nll"].to_numpy(dtype=np.float64))))


def _noise(given: Given) -> list[dict[str, Any]]:
    """How much of a task's figure a noise takes, of the base and of the run."""
    found = []
    for task, scores in given.before.scores.items():
        name = given.tasks[task].measure.name
        after = given.result.scores[task]
        for condition, noisy in scores.noisy.items():
            found.append(
                {
                    "task": task,
                    "condition": condition,
                    "before": scores.metrics[name].value - noisy.value,
                    "after": after.metrics[name].value - after.noisy[condition].value,
                }
            )
    return found


def _rounded(value: Any) -> Any:
    """Every float to DECIMALS, or as many digits where it is smaller; for files that git holds."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float):
        return round(value, DECIMALS) if abs(value) >= 0.01 else float(f"{value:.3g}") + 0.0
    return value
