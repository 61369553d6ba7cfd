"""The variants of a run, scored: one model at a time, on what a variant is asked."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from stages.config.evaluation import EvaluationConfig
from stages.config.variants import Variant
from stages.models.probe import Probe
from stages.scoring.case import score_variant, scorer_of
from stages.scoring.encoder import EncoderScorer
from stages.scoring.splits import read_splits
from stages.statistics.variants import FINAL, brief
from stages.variants.variant import Origin, made, same_as, size_of

FP32 = ("int8",)
"""Kinds that are scored in fp32, whatever the others are scored in."""
ONCE = ("soup",)
"""Kinds that are one model of all seeds; their records bear the first seed."""


def score_variants(
    case: str,
    run: str,
    variants: Sequence[Variant],
    origin: Origin,
    evaluation: EvaluationConfig,
    before: pd.DataFrame,
    after: pd.DataFrame,
    size: int,
) -> tuple[list[pd.DataFrame], dict[str, int]]:
    """Records of each variant and seed; and the bytes of the run and of each variant, see size_of.

    `before`, `after`: records of the base and of the run, which are those of a variant that is the
    same model. Of a target with a head the records at alpha 0 are the base's, and so its probe's.
    `size`: of the run's model, of its first seed.
    """
    if any(variant.kind == "wise" and not same_as(variant) for variant in variants):
        origin = replace(origin, heads=base_heads(case, origin, evaluation))
    records: list[pd.DataFrame] = []
    sizes = {FINAL: size} if variants else {}
    for variant in variants:
        for seed in origin.seeds[:1] if variant.kind in ONCE else origin.seeds:
            known = {"base": before, FINAL: after[after["seed"] == seed]}
            model = made(variant, origin, seed)
            sizes[variant.name] = size_of(model)
            same = same_as(variant)
            if same:
                found = brief(known[same])
            else:
                label = f"{run}, seed {seed}, {variant.name}"
                found = score_variant(case, model, _precise(variant, evaluation), label)
            del model  # memory for the next
            records.append(found.assign(seed=seed, variant=variant.name))
    return records, sizes


def _precise(variant: Variant, evaluation: EvaluationConfig) -> EvaluationConfig:
    return evaluation.model_copy(update={"precision": "fp32"} if variant.kind in FP32 else {})


def base_heads(case: str, origin: Origin, evaluation: EvaluationConfig) -> dict[str, Probe]:
    """What the base answers targets with, as when its own records were made."""
    return dict(_probes(case, scorer_of(origin.untuned(), evaluation)))


def _probes(case: str, scorer: object) -> Iterator[tuple[str, Probe]]:
    if isinstance(scorer, EncoderScorer):
        for splits in read_splits(case):
            if splits.role == "target" and splits.task.head:
                yield splits.task.name, scorer.probe(splits)
