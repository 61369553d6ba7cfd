"""What each stage holds in memory at most, and leaves on disk.

Of a weight that is trained, in fp32: itself, its gradient and AdamW's two moments, 16 bytes
(Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1; bf16's copies are 2 more).
Of a weight that is not, 4. Activations that the pass back needs: Korthikanti et al. 2022, arXiv
2205.05198, equation 1, without the scores, which a fused attention does not keep.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.config.evaluation import EvaluationConfig
from stages.config.sequences import learned
from stages.planning.case import Case, Recipe
from stages.planning.shape import Shape
from stages.planning.streams import streams
from stages.planning.work import (
    adapts,
    adds,
    at_once,
    reads_first,
    rows_drawn,
    taught,
    trained,
)
from stages.training.losses import CHUNK, CPU_CHUNK
from stages.training.relearn import EXAMPLES

PROCESS = 0.8e9
"""Of a process that has imported what it needs, and holds its tables: in the host's memory."""
TABLES = 0.8e9
"""The same of prepare and compare, which hold no model."""
CHUNK_BYTES, DIVERGENCE_BYTES = 4, 28
"""A token and entry of the vocabulary, in fp32: of a chunk the gradient; of a divergence the logits
of both sides, the same by the temperature, their logarithms, and a gradient."""
RECORD_BYTES = 300
FOUR_BITS = 0.52
"""Of a weight in 4 bits, its constants quantised too: 4.127 bits (Dettmers et al. 2023, arXiv
2305.14314, section 3)."""
LAYER, INPUT = 34, 2
"""Bytes of a layer's activations in 16 bits, a token and entry of its width: all that the pass back
needs, and its input alone, from which checkpointing computes the rest again."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the device. `states`: of weights, gradients and moments; what of it is split over
    devices where they share them. Of its weights `layer` is brought together at a time, and `whole`
    is read before they are split. `batch`: of what a batch adds, by its size and length. `kept`: of
    best weights as they are read back and of what a teacher said, in the host's memory."""

    states: float
    batch: float = 0.0
    kept: float = 0.0
    process: float = PROCESS
    layer: float = 0.0
    whole: float = 0.0

    def alone(self, devices: int, sharded: bool) -> float:
        """Of weights, gradients and moments, on each device."""
        return max(self.states / devices + self.layer, self.whole) if sharded else self.states

    def on_device(self, devices: int, sharded: bool, host: bool) -> float:
        """`host`: the devices' memory is the host's, which also holds the rest of each."""
        each = self.alone(devices, sharded) + self.batch
        return devices * (each + self.kept + self.process) if host else each


def _element(precision: str) -> int:
    return 2 if precision == "bf16" else 4


def states(
    shape: Shape, training: int, precision: str, *, quantised: bool = False, own: bool = False
) -> float:
    """Bytes of weights, of gradients and moments of those in `training`, and bf16's copies. `own`:
    a part of the model's weights is trained, as where layers are frozen, and nothing added."""
    # An adapter's stand beside the model's.
    added = training if training < shape.parameters and not own else 0
    blocks = shape.body if quantised else 0
    copies = 2 * (shape.parameters - blocks) if precision == "bf16" else 0
    held = FOUR_BITS * blocks + 4 * (shape.parameters - blocks)
    return held + 4 * added + 12 * training + copies


def activations(
    shape: Shape, tokens: float, precision: str, *, checkpointed: bool = False
) -> float:
    layers = LAYER + INPUT * shape.layers if checkpointed else LAYER * shape.layers
    return layers * shape.width * tokens * _element(precision) / 2


def logits(shape: Shape, judged: float, precision: str, *, taught: bool, host: bool) -> float:
    """Bytes of a causal model's vocabulary in training, of so many `judged` tokens.

    Its loss (stages/training/losses.py) holds the head's product, on the way back its gradient, in
    the precision of training, and CHUNK tokens at a time in fp32, on the `host` CPU_CHUNK; where
    that is another precision, their logits and the gradient in it as well.
    Where it is `taught` by another's logits (lwf, distil), both sides' are held whole in fp32,
    beside bf16's product.
    """
    element = _element(precision)
    if taught:
        return judged * shape.vocabulary * (DIVERGENCE_BYTES + (element if element < 4 else 0))
    chunk = CPU_CHUNK if host else CHUNK
    each = CHUNK_BYTES + (4 + element if element < 4 else 0)
    return shape.vocabulary * (judged * element + chunk * each)


def finetune(case: Case, run: Recipe, precision: str, devices: int, host: bool) -> Memory:
    config, shape = run.config, case.shape
    training, teachers = trained(shape, config.methods), taught(config.methods)
    # Of a turn in which rows of every stream come, as many of each as may.
    turns = devices * config.accumulate
    rows = [(one, one.most(turns)) for one in streams(case, config)]
    tokens, again = sum(n * one.length for one, n in rows), config.gradient_checkpointing
    batch = activations(shape, tokens, precision, checkpointed=again)
    each = 1.0  # vectors that a teacher says of a row
    if shape.causal:
        each = case.texts[learned(config, case.config)[0]].judged
        judged = sum(n * one.judged for one, n in rows)
        batch += logits(shape, judged, precision, taught=bool(teachers), host=host)
    quantised, own = bool(config.quantise), not adds(config.methods)
    held = states(shape, training, precision, quantised=quantised, own=own)
    if {"l2-sp", "ewc"} & set(config.methods):
        held += (4 + 4 * ("ewc" in config.methods)) * shape.parameters
    if shape.causal:
        held += teachers * 4 * shape.vocabulary * shape.width  # its head, as it was
    told = teachers * rows_drawn(case, config) * each * shape.width * 4
    # One, and what lies outside of the layers, which stays together for a step.
    layer = 4.0 * (shape.body / shape.layers + shape.parameters - shape.body)
    # An encoder stands on the device from the beginning.
    whole = 4.0 * shape.parameters if reads_first(config.methods) or not shape.causal else 0.0
    return Memory(held, batch, 4 * training + told, layer=layer, whole=whole)


def _scoring(case: Case, evaluation: EvaluationConfig, precision: str) -> float:
    """Of a batch that is asked, and of what is written at once."""
    shape, element = case.shape, _element(precision)
    found = float(evaluation.batch_tokens * shape.width * 16 * element)
    if shape.causal:
        found += evaluation.batch_tokens * shape.vocabulary * (element + 4)
        asked = case.texts.values()
        length = max(max(texts.read) for texts in asked) + max(texts.answer for texts in asked)
        cached = at_once(length, evaluation.batch_tokens) * length
        found += 2 * shape.layers * shape.keys * element * cached
    return found


def baseline(case: Case, evaluation: EvaluationConfig, precision: str, host: bool) -> Memory:
    held = _loaded(case.shape, precision, host)
    return Memory(held, _scoring(case, evaluation, precision))


def retention(
    case: Case, evaluation: EvaluationConfig, precision: str, host: bool, room: float
) -> Memory:
    """The larger of both models side by side, and of relearning, which trains all weights; where a
    device of its own has no `room` for that, it is done in the host's memory."""
    shape = case.shape
    scored = Memory(2 * _loaded(shape, precision, host), _scoring(case, evaluation, precision))
    retain = [case.texts[name] for name in case.config.retain]
    tokens = EXAMPLES * max(one.parts * max(one.learned) for one in retain)
    held, batch = states(shape, shape.parameters, precision), activations(shape, tokens, precision)
    if not host and held + batch > room:
        return scored
    return Memory(max(scored.states, held), max(scored.batch, batch))


def _loaded(shape: Shape, precision: str, host: bool) -> float:
    """In fp32 in the host's memory, and from there brought into its precision weight by weight."""
    return shape.parameters * (4 if host else _element(precision))


def prepared_disk(cases: Sequence[Case]) -> float:
    """The base's files in the cache, as they came and as they are read."""
    return sum(8.0 * case.shape.parameters for case in cases)


def finetune_disk(case: Case, run: Recipe) -> float:
    """The tuned weights, here and in DVC's cache, and the resume points while it runs."""
    config, shape = run.config, case.shape
    whole = 4 * (trained(shape, config.methods) if adapts(config.methods) else shape.parameters)
    models = 1 + len(config.snapshots) + (config.folds or 0)
    return len(config.seeds) * 2 * whole * models + resumed_disk(case, run)


def resumed_disk(case: Case, run: Recipe) -> float:
    """The resume points, which a run removes when all its seeds are done."""
    config = run.config
    each = (16 + 4 * len(config.snapshots)) * trained(case.shape, config.methods)
    return float(len(config.seeds) * each * (1 + (config.folds or 0)))


def records_disk(case: Case, conditions: int, models: int) -> float:
    rows = sum(
        t.rows["validation"] + t.rows["test"] * (1 + conditions) for t in case.texts.values()
    )
    return 2.0 * RECORD_BYTES * rows * models
