"""Little data: some train rows of a target, drawn anew by each seed, and those that are left."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.config.runs import Draw
from stages.errors import UserError
from stages.storage import content_id
from stages.tasks.examples import Examples


def drawn(train: Examples, draw: Draw, seed: int) -> tuple[Examples, Examples]:
    """The rows that `seed` draws, and the others; both in the order of `train`.

    Raises UserError where no row is left out, or a label would have no row.
    """
    task, labels = train.task, _labels(train)
    if draw.rows is not None and draw.rows < len(set(labels)):
        raise UserError(
            f"draw.rows = {draw.rows}: task {task.name} has {len(set(labels))} labels, and each "
            "needs a row: give as many or more, or per_label"
        )
    chosen = _chosen(train, draw, seed)
    if chosen.all():
        raise UserError(
            f"draw = {draw.model_dump(exclude_none=True)}: task {task.name} has {len(train)} train "
            "rows, so nothing is left to draw from: leave draw out, or give fewer"
        )
    return _of(train, chosen), _of(train, ~chosen)


def drawn_alike(validation: Examples, draw: Draw, seed: int) -> Examples:
    """As many rows, to choose the best step by: who has eight rows has no 800 to validate on (Perez
    et al. 2021, arXiv 2105.11447). All of them where there are no more."""
    return _of(validation, _chosen(validation, draw, seed))


def _chosen(examples: Examples, draw: Draw, seed: int) -> NDArray[np.bool_]:
    """Of each row, whether it is drawn.

    In the order of a hash with `seed`: per label the first `per_label`; or of `rows` the first of
    each label, and then of each label its share.
    """
    keys = [content_id(str(seed), "draw", one) for one in examples.column("example_id")]
    rows = pd.DataFrame({"key": keys, "label": _labels(examples)}).sort_values("key")
    of_label = rows.groupby("label")["key"]
    place, size = of_label.cumcount(), of_label.transform("size")
    if draw.per_label is not None:
        first = rows.index[place < draw.per_label]
    else:
        rows = rows.assign(later=place > 0, share=(place + 0.5) / size)
        first = rows.sort_values(["later", "share", "key"]).index[: draw.rows]
    return np.isin(np.arange(len(examples)), first)


def _labels(examples: Examples) -> list[str]:
    """All alike where rows have no label, or several."""
    return examples.column("label") if examples.task.labelled else [""] * len(examples)


def _of(examples: Examples, chosen: NDArray[np.bool_]) -> Examples:
    return Examples(examples.task, examples.rows[chosen].reset_index(drop=True))
