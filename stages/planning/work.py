"""What each stage computes, from params.yaml alone.

Passes are counted as Kaplan et al. 2020 do (arXiv 2001.08361, section 2.1): a token forward takes
two operations for each weight of the blocks, and the pass back twice as many; attention takes 4
layers width length a token forward, and three times that in training (Chowdhery et al. 2022, arXiv
2204.02311, appendix B). A vocabulary's head is counted where a token is judged, and nowhere else.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.config.cases import CaseConfig
from stages.config.evaluation import EvaluationConfig
from stages.config.kinds import HEADS, UNTAUGHT
from stages.config.runs import RunConfig
from stages.config.sequences import learned
from stages.config.variants import Variant
from stages.drift.table import TEXTS as DRIFT_TEXTS
from stages.drift.texts import TOKENS as DRIFT_TOKENS
from stages.planning.shape import Shape
from stages.planning.texts import Texts, mean_longest
from stages.scoring.causal_case import WRITTEN_AT_ONCE
from stages.scoring.own_text import TEXTS as OWN_TEXTS
from stages.scoring.own_text import TOKENS as OWN_TOKENS
from stages.tasks.noise import NOISED
from stages.training.relearn import EXAMPLES, STEPS

ADAMW_MOVES = 44
"""Bytes a trained weight and step, in fp32: AdamW reads weight, gradient and both moments and
writes three of them (28), clipping reads the gradient for its norm, reads and writes it (12), and
it is cleared (4)."""
PROBE_PASSES = 120
"""Evaluations of a probe's loss and gradient until L-BFGS ends; 4 operations a weight and row."""
LOST_SHARE = 1 / 3
"""Of retain tasks: those that are relearned, because something of them was lost. A guess; of the
default runs it was a third."""


class Work(defaultdict[str, float]):
    """Amounts by kind. train, adapt (training an adapter), read, write (a token after the other)
    and probe: floating-point operations. update: bytes that an optimizer moves. stream: bytes of
    weights that writing moves. move: bytes that are hashed, loaded or saved. tables: examples that
    are drawn anew. processes: a number."""

    def __init__(self, **amounts: float) -> None:
        super().__init__(float, amounts)

    def add(self, other: Mapping[str, float], times: float = 1.0) -> None:
        for kind, amount in other.items():
            self[kind] += times * amount


@dataclass(frozen=True)
class Recipe:
    """A run, of a case whose tasks' texts are known."""

    name: str
    config: RunConfig
    variants: Sequence[Variant]


@dataclass(frozen=True)
class Case:
    """`texts`: by task, targets and retain tasks. `shape`: of its model."""

    name: str
    config: CaseConfig
    shape: Shape
    texts: Mapping[str, Texts]

    @property
    def model(self) -> str:
        return "causal" if self.shape.causal else "encoder"


def trained(shape: Shape, methods: Mapping[str, Any]) -> int:
    """Weights that a run with these methods trains."""
    for name in ("lora", "adalora", "adapter"):
        if name in methods:
            told = methods[name] or {}
            return int(told.get("r") or told.get("init_r") or 8) * shape.ends
    if "block-expansion" in methods:
        return int(methods["block-expansion"]["blocks"]) * shape.body // shape.layers
    if "freeze" in methods:
        told = methods["freeze"]
        kept = shape.body * max(0, shape.layers - int(told.get("layers", 0))) // shape.layers
        return kept if told.get("embeddings", True) else kept + shape.parameters - shape.body
    return shape.parameters


def adapts(methods: Mapping[str, Any]) -> bool:
    return bool({"lora", "adalora", "adapter"} & set(methods))


def forward(shape: Shape, tokens: float, length: float, judged: float) -> float:
    """Operations of reading `tokens` in texts of `length`, of which `judged` get the vocabulary's
    head."""
    each = 2 * shape.body + 4 * shape.layers * shape.width * length
    head = 2 * shape.width * shape.vocabulary * judged if shape.causal else 0
    return tokens * each + head


def _of_rows(case: Case, texts: Texts, rows: float) -> float:
    judged = texts.judged if case.shape.causal else 0
    return forward(case.shape, rows * texts.tokens, texts.tokens, rows * judged)


def _learned(case: Case, texts: Texts, rows: float) -> float:
    """The same as they are trained on."""
    length = sum(texts.learned) / len(texts.learned)
    return forward(case.shape, rows * length, length, rows * min(length, texts.judged))


def _probed(case: Case, texts: Texts, rows: float) -> float:
    return rows * case.shape.width * max(2, texts.outputs) * 4 * PROBE_PASSES


def streams(case: Case, config: RunConfig) -> Iterator[tuple[Texts, float]]:
    """What a run learns from, and the share of a batch that comes of each."""
    replay = config.methods.get("replay") or {}
    share, targets = float(replay.get("fraction", 0.0)), learned(config, case.config)
    for target in targets:
        yield case.texts[target], (1 - share) / len(targets)
    for task in replay.get("tasks", ()):
        yield case.texts[task], share / len(replay["tasks"])


def step_tokens(case: Case, config: RunConfig) -> float:
    """Tokens of one step, padding included."""
    found = 0.0
    for texts, share in streams(case, config):
        rows = share * config.batch_size
        found += rows * mean_longest(texts.learned, round(rows))
    return found


def _step(case: Case, config: RunConfig) -> float:
    """Operations of one step's forward pass."""
    found = 0.0
    for texts, share in streams(case, config):
        rows = share * config.batch_size
        length = mean_longest(texts.learned, round(rows))
        judged = min(texts.judged, length)
        found += forward(case.shape, rows * length, length, rows * judged)
    return found


def finetune(case: Case, run: Recipe) -> Work:
    shape, config, methods = case.shape, run.config, run.config.methods
    models = len(config.seeds) * (1 + (config.folds or 0))
    kind = "adapt" if adapts(methods) else "train"
    changed = min(1.0, trained(shape, methods) / shape.parameters)
    # Back through the weights that stay runs the gradient, but not theirs.
    back = 1 if adapts(methods) else 2 * changed
    once = _step(case, config) * (1 + back)
    steps = once * config.steps * (2 if "fgm" in methods else 1)
    looks = 1 + -(-config.steps // config.validate_every)
    looked = 0.0
    for target in learned(config, case.config):
        texts = case.texts[target]
        rows = sum(min(config.validation_rows, texts.rows[s]) for s in ("train", "validation"))
        looked += _learned(case, texts, looks * rows)
    work = Work(read=models * (looked + _before(case, config)), processes=1)
    work[kind] = models * steps
    work["update"] = models * config.steps * ADAMW_MOVES * trained(shape, methods)
    saved = 4 * (trained(shape, methods) if adapts(methods) else shape.parameters)
    resumed = 16 * trained(shape, methods) * ((config.steps - 1) // config.checkpoint_every)
    kept = saved * (1 + len(config.snapshots))
    work["move"] = models * (4 * shape.parameters + 2 * kept + resumed)
    if "self-replay" in methods:
        told = methods["self-replay"]
        tokens = told["fraction"] * config.steps * config.batch_size * told.get("length", 128)
        work.add(_writing(shape, models * tokens))
    if config.head == "probe":
        for target in learned(config, case.config):
            texts = case.texts[target]
            work["probe"] += models * _probed(case, texts, texts.rows["train"])
    return work


def _before(case: Case, config: RunConfig) -> float:
    """Operations before the first step: what a teacher says of the rows, the Fisher information."""
    found, drawn = 0.0, config.steps * config.batch_size
    target = case.texts[learned(config, case.config)[0]]
    seen = min(drawn, target.rows["train"])
    teachers = sum(name in config.methods for name in ("lwf", "distil"))
    found += teachers * _of_rows(case, target, seen)
    if config.head == "probe":
        found += _of_rows(case, target, target.rows["train"])
    ewc = config.methods.get("ewc") or {}
    rows = ewc.get("rows", 64)
    return found + sum(3 * _learned(case, case.texts[task], rows) for task in ewc.get("tasks", ()))


def _writing(shape: Shape, tokens: float) -> Work:
    weights = 2 * (shape.body + shape.width * shape.vocabulary)
    return Work(write=tokens * weights, stream=tokens / WRITTEN_AT_ONCE * weights)


def _asked(
    case: Case, evaluation: EvaluationConfig, *, base: bool, brief: bool, tasks: Sequence[str]
) -> Work:
    """Asking one model the tasks; a variant is asked in `brief`."""
    work, noise = Work(), evaluation.noise
    for name in tasks:
        texts, target = case.texts[name], name in case.config.targets
        probed = HEADS.get(texts.kind) is not None and (base or not target)
        rows = texts.rows["validation"] + texts.rows["test"]
        noised = texts.kind in NOISED and (noise.tasks == "all" or name in noise.tasks)
        if not brief:
            rows += texts.rows["validation"] * target  # as many of train
            rows += texts.rows["test"] * len(noise.conditions) * noised
        rows += texts.rows["test"] * base + texts.rows["train"] * probed
        work["read"] += _of_rows(case, texts, rows)
        fits = 1 + (evaluation.noise_repeats if base else 0)
        work["probe"] += probed * fits * _probed(case, texts, texts.rows["train"])
        if texts.kind == "news-writing" and brief:
            continue
        again = base and texts.kind != "news-writing"
        written = sum(texts.written.values()) + texts.written.get("test", 0) * again
        work.add(_writing(case.shape, written))
    return work


def baseline(case: Case, evaluation: EvaluationConfig) -> Work:
    tasks = (*case.config.targets, *case.config.retain)
    work = _asked(case, evaluation, base=True, brief=False, tasks=tasks)
    if case.shape.causal:
        tokens = OWN_TEXTS * OWN_TOKENS
        work.add(_writing(case.shape, tokens))
        work["read"] += forward(case.shape, tokens, OWN_TOKENS, tokens)
    if case.config.shots:
        for target in case.config.targets:
            texts = case.texts[target]
            rows = texts.rows["validation"] + texts.rows["test"]
            work["read"] += _of_rows(case, texts, rows)
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
        relearned = 3 * _learned(case, case.texts[name], STEPS * EXAMPLES)
        again.add({"read": relearned, "move": 4 * shape.parameters})
        once.add(again, LOST_SHARE)
    brief = _asked(case, evaluation, base=False, brief=True, tasks=tasks)
    brief["move"] += 8 * shape.parameters
    work = Work(processes=1)
    work.add(once, len(config.seeds))
    work.add(brief, _scored_variants(run))
    if any(variant.kind == "wise" for variant in run.variants):
        for target in case.config.targets:
            train = case.texts[target].rows["train"]
            work["read"] += _of_rows(case, case.texts[target], train)
            work["probe"] += _probed(case, case.texts[target], train) * (not shape.causal)
    for target in case.config.targets if config.folds else ():
        # Each row once of its fold's model, and once of the base.
        rows = 2 * case.texts[target].rows["train"] * len(config.seeds)
        work["read"] += _of_rows(case, case.texts[target], rows)
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
