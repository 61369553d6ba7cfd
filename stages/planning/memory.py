"""What each stage holds in memory at most, and leaves on disk.

Of a weight that is trained, in fp32: itself, its gradient and AdamW's two moments, 16 bytes
(Rajbhandari et al. 2020, arXiv 1910.02054, section 3.1; bf16's copies are 2 more).
Of a weight that is not, 4. Activations that the pass back needs, a token and layer: 34 width bytes
in 16 bits (Korthikanti et al. 2022, arXiv 2205.05198, equation 1, without the scores, which a fused
attention does not keep).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.config.evaluation import EvaluationConfig
from stages.planning.shape import Shape
from stages.planning.work import Case, Recipe, adapts, step_tokens, streams, trained
from stages.scoring.causal_case import WRITTEN_AT_ONCE
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


@dataclass(frozen=True)
class Memory:
    """Bytes on the device. `states`: of weights, gradients and moments; what of it is split over
    devices where they share them. `batch`: of what a batch adds, by its size and length. `kept`: of
    best weights and resume points, in the host's memory."""

    states: float
    batch: float = 0.0
    kept: float = 0.0
    process: float = PROCESS

    def on_device(self, devices: int, sharded: bool, host: bool) -> float:
        """`host`: the device's memory is the host's, which also holds the rest."""
        states = self.states / devices if sharded else self.states
        return states + self.batch + (self.kept + self.process if host else 0)


def _element(precision: str) -> int:
    return 2 if precision == "bf16" else 4


def states(shape: Shape, training: int, precision: str) -> float:
    """Bytes of weights, of gradients and moments of those in `training`, and bf16's copies."""
    added = training if training < shape.parameters else 0  # an adapter's stand beside the model's
    copies = 2 * shape.parameters if precision == "bf16" else 0
    return 4 * (shape.parameters + added) + 12 * training + copies


def activations(shape: Shape, tokens: float, precision: str) -> float:
    return 34 * shape.width * shape.layers * tokens * _element(precision) / 2


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
    training = trained(shape, config.methods)
    tokens = step_tokens(case, config) / devices
    batch = activations(shape, tokens, precision)
    if shape.causal:
        judged = sum(share * texts.judged for texts, share in streams(case, config))
        taught = bool({"lwf", "distil"} & set(config.methods))
        rows = config.batch_size / devices
        batch += logits(shape, rows * judged, precision, taught=taught, host=host)
    held = states(shape, training, precision)
    if {"l2-sp", "ewc"} & set(config.methods):
        held += (4 + 4 * ("ewc" in config.methods)) * shape.parameters
    # The best weights so far, and a copy for the resume point.
    return Memory(held, batch, 8 * training)


def _scoring(case: Case, evaluation: EvaluationConfig, precision: str) -> float:
    """Of a batch that is asked, and of what is written at once."""
    shape, element = case.shape, _element(precision)
    found = float(evaluation.batch_tokens * shape.width * 16 * element)
    if shape.causal:
        found += evaluation.batch_tokens * shape.vocabulary * (element + 4)
        longest = max(max(texts.read) for texts in case.texts.values())
        written = max(sum(t.written.values()) / max(1, t.rows["test"]) for t in case.texts.values())
        cached = WRITTEN_AT_ONCE * (longest + written)
        found += 2 * shape.layers * shape.keys * element * cached
    return found


def baseline(case: Case, evaluation: EvaluationConfig, precision: str) -> Memory:
    shape = case.shape
    # Loaded in fp32, and brought into its precision weight by weight.
    return Memory(4 * shape.parameters, _scoring(case, evaluation, precision))


def retention(case: Case, evaluation: EvaluationConfig, precision: str) -> Memory:
    """The larger of both models side by side, and of relearning, which trains all weights."""
    shape = case.shape
    side_by_side = 8 * shape.parameters
    relearning = states(shape, shape.parameters, precision)
    scored = _scoring(case, evaluation, precision)
    tokens = EXAMPLES * max(max(case.texts[name].learned) for name in case.config.retain)
    return Memory(max(side_by_side, relearning), max(scored, activations(shape, tokens, precision)))


def prepared_disk(cases: Sequence[Case]) -> float:
    """The base's files in the cache, as they came and as they are read."""
    return sum(8.0 * case.shape.parameters for case in cases)


def finetune_disk(case: Case, run: Recipe) -> float:
    """The tuned weights, here and in DVC's cache, and the resume points while it runs."""
    config, shape = run.config, case.shape
    training = trained(shape, config.methods)
    whole = 4 * (training if adapts(config.methods) else shape.parameters)
    models = 1 + len(config.snapshots) + (config.folds or 0)
    resumed = 16 * training + 4 * training * len(config.snapshots)
    return len(config.seeds) * (2 * whole * models + resumed)


def records_disk(case: Case, conditions: int, models: int) -> float:
    rows = sum(
        t.rows["validation"] + t.rows["test"] * (1 + conditions) for t in case.texts.values()
    )
    return 2.0 * RECORD_BYTES * rows * models
