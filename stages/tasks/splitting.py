"""Rows to splits: duplicates out first, groups never torn apart."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from stages.errors import UserError
from stages.storage import content_id
from stages.tasks.examples import (
    COLUMNS,
    JOINED,
    SHARED,
    SPLITS,
    TEXTS,
    answered,
    compared,
    identify,
)


def _one_of(*categories: str) -> str:
    """A regular expression for one character of Unicode's categories."""
    found = [sign for sign in map(chr, range(0x20000)) if unicodedata.category(sign) in categories]
    near, far = (
        re.escape("".join(sign for sign in found if (sign > "\uffff") == beyond))
        for beyond in (False, True)
    )
    # re looks up the near ones in a table, and goes through all of the far ones for each sign.
    return rf"(?:[{near}]|(?=[^\0-\uffff])[{far}])"


MARK, SYMBOL = _one_of("Mn", "Mc", "Me"), _one_of("Sm", "Sc", "So")
OPERATOR = r"(?<!\w)-(?=\d)|(?<=\d)(?:%|[-*/](?=\d))|(?<=\d\s)[-*/%](?=\s\d)"
"""Signs that calculate, where they stand at numbers; elsewhere they are punctuation."""
WORD = re.compile(rf"\w+(?:{MARK}\w*)*|(?<=\w)#|{SYMBOL}|{OPERATOR}")
"""Letters and digits, with the marks on them that are vowels in many scripts; and each symbol by
itself, an emoji, +, <, £, for texts may differ in nothing else."""

FEW = 0.02
"""The share of a split that may be lost of the group that comes last in it: a few rows are no
reason to look for a group of just the right size."""

LEAST_TEXTS = 3
"""Of a topic that is written on, as many as stages/statistics/writing.py needs."""


@dataclass(frozen=True)
class Split:
    """rows by split, and how many were left out on the way there. `options`: of the task.
    `cut_off`: rows of groups that are in a split as far as they fit."""

    rows: dict[str, pd.DataFrame]
    read: int
    empty: int
    duplicates: int
    ambiguous: int
    options: dict[str, Any] = field(default_factory=dict)
    cut_off: int = 0


def normalise(text: str) -> str:
    """What makes two texts duplicates: case, layout and punctuation aside."""
    return " ".join(WORD.findall(unicodedata.normalize("NFC", text.casefold())))


def split_rows(
    name: str, rows: pd.DataFrame, kind: str, sizes: Mapping[str, int], seed: int
) -> Split:
    """Deduplicate and split: test is filled first, then validation, then train.

    A `split` column is kept to (a missing validation split is taken from train); otherwise
    whole groups go to the splits in the order of a hash with `seed`, so that a row added later
    leaves the order of the others as it was; see `_head` for those that do not fit. Of two equal
    texts the first is kept, the test split's before train's; equal texts under different labels
    are both left out. Raises UserError where a split would be empty.
    """
    distinct, left_out = _distinct(rows, kind)
    if "group" not in distinct or distinct["group"].isna().any():
        own = _groups(distinct, kind)
        given = distinct.get("group", own)
        distinct = distinct.assign(group=given.where(given.notna(), own))
    if "slice" not in distinct:
        distinct = distinct.assign(slice="all")
    placed = _place(name, distinct, sizes, seed)

    for split, part in placed.items():
        if part.empty:
            raise UserError(
                f"task {name}: no rows are left for {split}: {len(distinct)} distinct rows in "
                f"{distinct['group'].nunique()} groups; lower tasks.{name}.test or give more rows"
            )
    used = pd.concat([part["group"] for part in placed.values()])
    columns = [*COLUMNS[kind], "group", "slice", "example_id"]
    return Split(
        rows={split: part[columns].reset_index(drop=True) for split, part in placed.items()},
        read=len(rows),
        empty=left_out["empty"],
        duplicates=left_out["duplicates"],
        ambiguous=left_out["ambiguous"],
        cut_off=int(distinct["group"].isin(used).sum()) - len(used),
    )


def _groups(rows: pd.DataFrame, kind: str) -> pd.Series:
    """Where a table, or a row, names none: by the text that rows share, see SHARED. Questions of
    multiple choice with the same right answer are one group, whichever wrong ones stand beside it.
    """
    if kind == "multiple-choice":
        return rows.groupby(answered(rows).map(normalise))["example_id"].transform("min")
    return rows[SHARED[kind]].map(content_id) if kind in SHARED else rows["example_id"]


def _distinct(rows: pd.DataFrame, kind: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Rows without empty, ambiguous and repeated texts, identified; how many of each there were.
    A prompt without a completion counts as empty."""
    keys = pd.DataFrame({column: rows[column].map(normalise) for column in TEXTS[kind]})
    filled = (keys != "").all(axis=1)
    if "completion" in rows:
        filled &= rows["completion"].map(len) > 0
    rows, keys = rows[filled], keys[filled]
    if kind in JOINED:
        keys = compared(rows, kind).map(normalise)

    ambiguous = pd.Series(False, index=rows.index)
    if "label" in rows:
        ambiguous = rows.groupby(keys["text"])["label"].transform("nunique") > 1
    rows, keys = rows[~ambiguous], keys[~ambiguous]

    if "split" in rows:
        order = rows["split"].map({split: rank for rank, split in enumerate(reversed(SPLITS))})
        rows = rows.loc[order.sort_values(kind="stable").index]
        keys = keys.loc[rows.index]
    repeated = pd.Series(False, index=rows.index)
    for column in keys:
        repeated |= keys[column].duplicated()
    left_out = {"empty": ~filled, "duplicates": repeated, "ambiguous": ambiguous}
    return (
        identify(rows[~repeated], kind),
        {name: int(hit.sum()) for name, hit in left_out.items()},
    )


def check_test(name: str, kind: str, test: pd.DataFrame) -> None:
    """Raises UserError where no interval could be drawn from what is asked."""
    if test["group"].nunique() < 2:
        raise UserError(
            f"task {name}: its {len(test)} test rows are one group, which shows no spread: give "
            f"smaller groups, or raise tasks.{name}.test"
        )
    topics = test["slice"].value_counts()
    if kind == "news-writing" and topics.min() < LEAST_TEXTS:
        raise UserError(
            f"task {name}: {topics.min()} test rows of topic {topics.idxmin()!r}, and diversity "
            f"needs {LEAST_TEXTS}: raise tasks.{name}.test"
        )


def drop_unknown_labels(name: str, placed: dict[str, pd.DataFrame]) -> int:
    """Take rows whose label train lacks out of the other splits; return how many.

    Raises UserError where train holds one label only, or nothing is left of another split.
    """
    known = set(placed["train"]["label"])
    if len(known) == 1:
        raise UserError(f"task {name}: train holds one label only, {known.pop()!r}")
    dropped = 0
    for split in SPLITS[1:]:
        fits = placed[split]["label"].isin(known)
        dropped += int((~fits).sum())
        placed[split] = placed[split][fits].reset_index(drop=True)
        if placed[split].empty:
            raise UserError(f"task {name}: train holds none of the labels of {split}")
    return dropped


def _place(
    name: str, rows: pd.DataFrame, sizes: Mapping[str, int], seed: int
) -> dict[str, pd.DataFrame]:
    rank = {group: content_id(str(seed), name, group) for group in rows["group"].unique()}
    rows = rows.loc[rows["group"].map(rank).sort_values(kind="stable").index]
    if "split" in rows:
        given = {split: rows[rows["split"] == split] for split in SPLITS}
        placed = {"test": _head(given["test"], sizes["test"])[0]}
        if given["validation"].empty:
            placed["validation"], rest = _head(given["train"], sizes["validation"])
        else:
            placed["validation"], rest = (
                _head(given["validation"], sizes["validation"])[0],
                given["train"],
            )
    else:
        placed = {}
        placed["test"], rest = _head(rows, sizes["test"])
        placed["validation"], rest = _head(rest, sizes["validation"])
    placed["train"], _ = _head(rest, sizes["train"])
    return {split: placed[split] for split in SPLITS}


def _head(rows: pd.DataFrame, size: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Whole groups from the top until `size` rows are reached, and the rows of all other groups.

    A group that does not fit is passed over, but for FEW rows of it, which are cut off; where
    groups that fit do not fill `size`, the smallest of those passed over is cut to fit.
    """
    sizes = rows.groupby("group", sort=False).size().to_dict()  # in the order of rows
    taken, passed, room = [], [], size
    for group, count in sizes.items():
        if room <= 0:
            break
        if count <= room + FEW * size:
            taken.append(group)
            room -= count
        else:
            passed.append(group)
    if room > 0 and passed:
        taken.append(min(passed, key=sizes.__getitem__))
    place = rows["group"].map({group: number for number, group in enumerate(taken)})
    inside = place.sort_values(kind="stable").dropna().index
    return rows.loc[inside].iloc[:size], rows[place.isna()]
