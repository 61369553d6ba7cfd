"""Training rows that stand in a test split too, whole or by 13 words in a row.

The 13-gram rule is that of Brown et al. 2020 (GPT-3), appendix C.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from stages.config.kinds import WRITTEN
from stages.config.tasks import TaskConfig
from stages.errors import UserError
from stages.tasks.examples import compared
from stages.tasks.splitting import Split, normalise

N = 13
COMMON = 10
"""Texts of a test split that a 13-gram may stand in at most to count, where texts have a template:
what stands in more is the template's. Appendix C leaves out those of more than ten documents."""
MOST = 0.5
"""The share of train rows that may overlap: beyond it, the splits are not what they seem."""

Rows = Mapping[str, tuple[tuple[str, ...], pd.DataFrame]]
"""task -> the names of its text columns, and its rows."""


def _grams(text: str) -> Iterable[int]:
    words = text.split()
    return (hash(tuple(words[start : start + N])) for start in range(len(words) - N + 1))


def overlapping(
    train: Rows, test: Rows, templated: Collection[str] = ()
) -> dict[str, dict[str, pd.Series]]:
    """train task -> {"exact", "13-gram"} -> a boolean per row: it overlaps some test split.

    A row counts once: as exact where one of its texts equals a test text up to case and
    punctuation, as 13-gram where it shares 13 consecutive words. `templated`: tasks whose texts
    say the same before or after what each asks, see COMMON.
    """
    whole: set[str] = set()
    grams: set[int] = set()
    for task, (columns, rows) in test.items():
        for column in columns:
            counts: Counter[int] = Counter()
            for text in rows[column].map(normalise):
                whole.add(text)
                counts.update(set(_grams(text)))
            most = COMMON if task in templated else len(rows)
            grams.update(gram for gram, count in counts.items() if count <= most)
    found = {}
    for task, (columns, rows) in train.items():
        texts = [rows[column].map(normalise) for column in columns]
        exact = pd.Series(False, index=rows.index)
        shared = pd.Series(False, index=rows.index)
        for text in texts:
            exact |= text.isin(whole)
            hit = text.map(lambda value: any(gram in grams for gram in _grams(value)))
            shared |= hit.astype(bool)  # of no rows, `map` makes no booleans
        found[task] = {"exact": exact, "13-gram": shared & ~exact}
    return found


def _compared(rows: pd.DataFrame, kind: str) -> tuple[tuple[str, ...], pd.DataFrame]:
    texts = compared(rows, kind)
    return tuple(map(str, texts.columns)), texts


def remove_overlap(
    configs: dict[str, TaskConfig], splits: dict[str, Split]
) -> dict[str, dict[str, int]]:
    """Take overlapping rows out of every train split; return how many, by task and kind."""
    train, test = (
        {name: _compared(split.rows[part], configs[name].kind) for name, split in splits.items()}
        for part in ("train", "test")
    )
    templated = [name for name, config in configs.items() if config.kind in WRITTEN]
    found = overlapping(train, test, templated)
    for name, split in splits.items():
        hit = found[name]["exact"] | found[name]["13-gram"]
        split.rows["train"] = split.rows["train"][~hit].reset_index(drop=True)
        if hit.mean() > MOST:
            raise UserError(
                f"task {name}: {hit.sum()} of {len(hit)} train rows stand in a test split too, "
                f"more than {MOST:.0%}: give data whose splits are apart"
            )
    return {
        name: {kind: int(rows.sum()) for kind, rows in by_kind.items()}
        for name, by_kind in found.items()
    }
