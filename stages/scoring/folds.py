"""The target's train rows, each asked of the model that was trained without its fold."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from stages.config.evaluation import EvaluationConfig
from stages.scoring.case import ask, scorer_of
from stages.scoring.splits import Asking, read_splits
from stages.statistics.variants import FOLD, FOLD_BASE
from stages.tasks.folds import held_out
from stages.variants.variant import Origin

HELD_OUT = Asking(0, (), 0, brief=True, validation=False)


def score_folds(
    case: str, folds: int, origin: Origin, evaluation: EvaluationConfig
) -> Iterator[pd.DataFrame]:
    """Records of each seed and fold, of the fold's model and of the base, whose probe is fitted
    on the rows that this model was trained on. Their split is `fold-<n>`."""
    targets = [splits for splits in read_splits(case) if splits.role == "target"]
    base = scorer_of(origin.untuned(), evaluation)
    for seed in origin.seeds:
        for fold in range(folds):
            tuned = scorer_of(origin.model(seed, f"fold-{fold}"), evaluation)
            for splits in targets:
                kept, held = held_out(splits.train, folds, seed, fold)
                asked = replace(splits, train=kept, test=held)
                for variant, scorer in ((FOLD, tuned), (FOLD_BASE, base)):
                    found, _ = ask(scorer, asked, HELD_OUT)
                    yield found.assign(seed=seed, variant=variant, split=f"fold-{fold}")
