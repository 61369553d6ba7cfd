"""What asking the models computes, and comparing what they answered, from params.yaml alone."""

from collections.abc import Sequence

from stages.config.evaluation import EvaluationConfig
from stages.config.kinds import HEADS, UNTAUGHT, WRITTEN
from stages.drift.table import TEXTS as DRIFT_TEXTS
from stages.drift.texts import TOKENS as DRIFT_TOKENS
from stages.planning.case import Case, Recipe
from stages.planning.work import (
    Work,
    at_once,
    forward,
    of_rows,
    probed,
    trained_on,
    writing,
)
from stages.scoring.own_text import TEXTS as OWN_TEXTS
from stages.scoring.own_text import TOKENS as OWN_TOKENS
from stages.tasks.noise import NOISED
from stages.training.relearn import EXAMPLES, STEPS

LOST_SHARE = 1 / 3
"""Of retain tasks: those that are relearned, because something of them was lost. A guess; of the
default runs it was a third."""


def _asked(
    case: Case, evaluation: EvaluationConfig, *, base: bool, brief: bool, tasks: Sequence[str]
) -> Work:
    """Asking one model the tasks; a variant is asked in `brief`."""
    work, noise = Work(), evaluation.noise
    for name in tasks:
        texts, target = case.texts[name], name in case.config.targets
        fitted = HEADS.get(texts.kind) is not None and (base or not target)
        noised = texts.kind in NOISED and (noise.tasks == "all" or name in noise.tasks)
        times = {"validation": 1, "test": 1 + base}
        if not brief:
            times["validation"] += target and not base  # as many of train
            times["test"] += len(noise.conditions) * noised
        rows = sum(count * texts.rows[split] for split, count in times.items())
        work["read"] += of_rows(case, texts, rows + texts.rows["train"] * fitted)
        fits = 1 + (evaluation.noise_repeats if base else 0)
        work["probe"] += fitted * fits * probed(case, texts, texts.rows["train"])
        if texts.kind == "news-writing":  # its texts are written once, or not at all
            times = {"test": int(not brief)}
        written = sum(count * texts.written.get(split, 0) for split, count in times.items())
        side_by_side = at_once(max(texts.read) + texts.answer, evaluation.batch_tokens)
        work.add(writing(case.shape, written, side_by_side))
    return work


def baseline(case: Case, evaluation: EvaluationConfig) -> Work:
    tasks = (*case.config.targets, *case.config.retain)
    work = _asked(case, evaluation, base=True, brief=False, tasks=tasks)
    if case.shape.causal:
        tokens = OWN_TEXTS * OWN_TOKENS
        work.add(writing(case.shape, tokens))
        work["read"] += forward(case.shape, tokens, OWN_TOKENS, tokens)
    if case.config.shots:
        for target in case.config.targets:
            texts = case.texts[target]
            rows = texts.rows["validation"] + texts.rows["test"]
            work["read"] += of_rows(case, texts, rows)
            if texts.kind in WRITTEN:
                work.add(writing(case.shape, sum(texts.written.values())))
    work["move"] += 8 * case.shape.parameters
    work["processes"] = 1
    return work


def retention(case: Case, run: Recipe, evaluation: EvaluationConfig) -> Work:
    shape, config = case.shape, run.config
    tasks = (*case.config.targets, *case.config.retain)
    once = _asked(case, evaluation, base=False, brief=False, tasks=tasks)
    texts = [case.texts[name] for name in tasks]
    tokens = sum(DRIFT_TEXTS * min(DRIFT_TOKENS, one.tokens) for one in texts)
    once["read"] += 2 * forward(shape, tokens, DRIFT_TOKENS, tokens)
    lost = [name for name in case.config.retain if case.texts[name].kind not in UNTAUGHT]
    for name in lost:
        again = _asked(case, evaluation, base=False, brief=True, tasks=[name])
        rows = EXAMPLES * case.texts[name].parts
        relearned = 3 * trained_on(case, case.texts[name], STEPS * rows)
        again.add({"read": relearned, "alone": relearned, "move": 4 * shape.parameters})
        once.add(again, LOST_SHARE)
    brief = _asked(case, evaluation, base=False, brief=True, tasks=tasks)
    brief["move"] += 8 * shape.parameters
    work = Work(processes=1)
    work.add(once, len(config.seeds))
    work.add(brief, _scored_variants(run))
    if any(variant.kind == "wise" for variant in run.variants):
        for target in case.config.targets:
            train = case.texts[target].rows["train"]
            work["read"] += of_rows(case, case.texts[target], train)
            work["probe"] += probed(case, case.texts[target], train) * (not shape.causal)
    for target in case.config.targets if config.folds else ():
        # Each row once of its fold's model, and once of the base.
        rows = 2 * case.texts[target].rows["train"] * len(config.seeds)
        work["read"] += of_rows(case, case.texts[target], rows)
    work["move"] += 8 * shape.parameters * (1 + len(config.seeds))
    return work


def _scored_variants(run: Recipe) -> int:
    same = sum(v.kind in ("wise", "lines") and v.number in (0, 1) for v in run.variants)
    soups = sum(v.kind == "soup" for v in run.variants)
    return (len(run.variants) - same - soups) * len(run.config.seeds) + soups


def compared(cases: Sequence[Case], runs: Sequence[Recipe], resamples: int) -> Work:
    """`tables`: resamples times test examples, once a run, variant and seed."""
    rows = {case.name: sum(one.rows["test"] for one in case.texts.values()) for case in cases}
    models = ((run, len(run.config.seeds) + len(run.variants)) for run in runs)
    drawn = sum(rows[run.config.case] * count for run, count in models)
    return Work(tables=resamples * drawn, processes=1)
