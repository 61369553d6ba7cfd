"""What passes through a model, and training, compute, from params.yaml alone.

Passes are counted as Kaplan et al. 2020 do (arXiv 2001.08361, section 2.1): a token forward takes
two operations for each weight of the blocks, and the pass back twice as many; attention takes 4
layers width length a token forward, and three times that in training (Chowdhery et al. 2022, arXiv
2204.02311, appendix B). A vocabulary's head is counted where a token is judged, and nowhere else.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from stages.config.kinds import WRITTEN
from stages.config.runs import RunConfig
from stages.config.sequences import learned
from stages.planning.case import Case, Recipe
from stages.planning.shape import Shape
from stages.planning.streams import added, streams
from stages.planning.texts import Texts
from stages.scoring.causal_case import WRITTEN_AT_ONCE
from stages.scoring.generation import CACHED
from stages.training.methods.self_replay import AT_ONCE

PASSES = ("train", "adapt", "read", "write")
"""Kinds of work that are products of matrices."""
TEACHERS = ("lwf", "distil")
"""Methods for which a model says something of each row beforehand."""
ADAMW_MOVES = 44
"""Bytes a trained weight and step, in fp32: AdamW reads weight, gradient and both moments and
writes three of them (28), clipping reads the gradient for its norm, reads and writes it (12), and
it is cleared (4)."""
PROBE_PASSES = 120
"""Evaluations of a probe's loss and gradient until L-BFGS ends; 4 operations a weight and row."""


class Work(defaultdict[str, float]):
    """Amounts by kind. train, adapt (training an adapter), read, write (a token after the other)
    and probe: floating-point operations. alone: those of read that several processes do not share.
    update: bytes that an optimizer moves. stream: bytes of weights that writing moves. move: bytes
    that are hashed, loaded or saved. tables: examples that are drawn anew. processes: a number."""

    def __init__(self, **amounts: float) -> None:
        super().__init__(float, amounts)

    def each(self, devices: int, sharded: bool) -> "Work":
        """What each of several devices does, which share passes and writing, and where states are
        `sharded` the optimizer's part."""
        found, alone = Work(**self), self.get("alone", 0.0)
        for kind in (*PASSES, "stream", *(("update",) if sharded else ())):
            found[kind] /= devices
        found["read"] += alone - alone / devices
        return found

    def add(self, other: Mapping[str, float], times: float = 1.0) -> None:
        for kind, amount in other.items():
            self[kind] += times * amount


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


def taught(methods: Mapping[str, Any]) -> int:
    """How many teachers say something of each row beforehand."""
    return sum(name in methods for name in TEACHERS)


def reads_first(methods: Mapping[str, Any]) -> list[str]:
    """Those of a run's methods that read a whole model before it trains."""
    return [name for name in (*TEACHERS, "self-replay") if name in methods]


def rows_drawn(case: Case, config: RunConfig) -> int:
    """Distinct rows of the first target that a run learns."""
    there = case.texts[learned(config, case.config)[0]].rows["train"]
    return min(config.steps * config.batch_size, there)


def adapts(methods: Mapping[str, Any]) -> bool:
    return bool({"lora", "adalora", "adapter"} & set(methods))


def adds(methods: Mapping[str, Any]) -> bool:
    """Whether what trains stands beside the model's own weights."""
    return adapts(methods) or "block-expansion" in methods


def forward(shape: Shape, tokens: float, length: float, judged: float) -> float:
    """Operations of reading `tokens` in texts of `length`, of which `judged` get the vocabulary's
    head."""
    each = 2 * shape.body / shape.stacks + 4 * shape.layers * shape.width * length
    head = 2 * shape.width * shape.vocabulary * judged if shape.causal else 0
    return tokens * each + head


def of_rows(case: Case, texts: Texts, rows: float) -> float:
    # What is written after a prompt is judged word by word, as a text.
    judged = texts.judged if case.shape.causal and texts.kind not in WRITTEN else 0
    return forward(case.shape, rows * texts.tokens, texts.length, rows * judged)


def trained_on(case: Case, texts: Texts, rows: float) -> float:
    """The same as they are trained on."""
    length = sum(texts.learned) / len(texts.learned)
    return forward(case.shape, rows * length, length, rows * min(length, texts.judged))


def probed(case: Case, texts: Texts, rows: float) -> float:
    return rows * case.shape.width * max(2, texts.outputs) * 4 * PROBE_PASSES


def _step(case: Case, config: RunConfig) -> float:
    """Operations of one step's forward pass, in the mean over steps."""
    return sum(
        forward(case.shape, one.rate * one.length, one.length, one.rate * one.judged)
        for one in streams(case, config)
    )


def finetune(case: Case, run: Recipe) -> Work:
    shape, config, methods = case.shape, run.config, run.config.methods
    models = len(config.seeds) * (1 + (config.folds or 0))
    kind = "adapt" if adapts(methods) else "train"
    changed = min(1.0, trained(shape, methods) / shape.parameters)
    # Back through the weights that stay runs the gradient, but not theirs.
    back = 1 if adapts(methods) else 2 * changed
    once = _step(case, config) * (1 + back + config.gradient_checkpointing)
    steps = once * config.steps * (2 if "fgm" in methods else 1)
    looks = 1 + -(-config.steps // config.validate_every)
    looked = 0.0
    for target in learned(config, case.config):
        texts = case.texts[target]
        rows = sum(min(config.validation_rows, texts.rows[s]) for s in ("train", "validation"))
        looked += trained_on(case, texts, looks * rows)
    work = Work(read=models * (looked + _before(case, config)), processes=1)
    work[kind] = models * steps
    work["update"] = models * config.steps * ADAMW_MOVES * trained(shape, methods)
    saved = 4 * (trained(shape, methods) if adapts(methods) else shape.parameters)
    resumed = 12 * ((config.steps - 1) // config.checkpoint_every)
    # The best weights, at each look that is the best so far: at most all.
    resumed += 4 * looks
    kept = saved * (1 + len(config.snapshots))
    moved = 4 * shape.parameters + 2 * kept + resumed * trained(shape, methods)
    work["move"] = models * moved
    if told := methods.get("self-replay"):
        rows = math.floor(added(told) * config.batch_size * config.steps)
        work.add(writing(shape, models * rows * told["length"], AT_ONCE))
    if config.head == "probe":
        for target in learned(config, case.config):
            texts = case.texts[target]
            work["probe"] += models * probed(case, texts, texts.rows["train"])
    return work


def _before(case: Case, config: RunConfig) -> float:
    """Operations before the first step: what a teacher says of the rows, the Fisher information."""
    targets = [case.texts[name] for name in learned(config, case.config)]
    target = targets[0]
    found = taught(config.methods) * trained_on(case, target, rows_drawn(case, config))
    if config.head == "probe":
        found += of_rows(case, target, target.rows["train"])
    if "self-training" in config.methods:  # its teacher labels all that the draw leaves out
        found += sum(of_rows(case, one, one.rows["train"]) for one in targets)
    ewc = config.methods.get("ewc") or {}
    rows = ewc.get("rows", 64)
    return found + sum(
        3 * trained_on(case, case.texts[task], rows) for task in ewc.get("tasks", ())
    )


def at_once(length: float, batch_tokens: int) -> float:
    """Answers that are written at once, of `length` tokens with their prompts."""
    return max(1.0, min(WRITTEN_AT_ONCE, CACHED * batch_tokens / length))


def writing(shape: Shape, tokens: float, rows: float = WRITTEN_AT_ONCE) -> Work:
    """Of texts, of which `rows` are written side by side."""
    weights = 2 * (shape.body / shape.stacks + shape.width * shape.vocabulary)
    return Work(write=tokens * weights, stream=tokens / rows * weights)
