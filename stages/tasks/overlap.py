"""Training rows that stand in a test split too, whole or by 13 words in a row.

The 13-gram rule is that of Brown et al. 2020 (GPT-3), appendix C; of text without spaces between
words it is one of characters, see UNSPACED.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

import pandas as pd

from stages.config.columns import is_template
from stages.config.kinds import WRITTEN
from stages.config.readers import Table
from stages.config.tasks import TaskConfig
from stages.errors import UserError
from stages.tasks.examples import JOINED, TEXTS, answered, compared
from stages.tasks.splitting import Split, normalise

N = 13
HAN = r"\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = r"\u3040-\u30ff\u31f0-\u31ff"
THAI_LAO_BURMESE_KHMER = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
UNSPACED = tuple(
    (re.compile(f"[{signs}][{signs} ]*"), N * of_word)
    for signs, of_word in ((HAN + KANA, 2), (THAI_LAO_BURMESE_KHMER, 4))
)
"""Scripts that put no space between words, and the signs in a row that stand for N words there: a
word of Chinese or Japanese has about two, a word of Thai, letters and vowel marks, about four."""
COMMON = 10
"""Texts of a test split that a 13-gram may stand in at most to count, where texts have a template:
what stands in more is the template's. Appendix C leaves out those of more than ten documents."""
ANSWER = 5
"""Words of what is learned as an answer up to which it may equal a test's text: yes, a name, a
label are written of many questions."""
MOST = 0.5
"""The share of train rows that may overlap: beyond it, the splits are not what they seem."""

Rows = Mapping[str, tuple[tuple[str, ...], pd.DataFrame]]
"""task -> the names of its text columns, and its rows."""


def _grams(text: str) -> Iterator[int]:
    words = text.split()
    yield from (hash(tuple(words[start : start + N])) for start in range(len(words) - N + 1))
    for run, length in UNSPACED:
        for found in run.findall(text):
            signs = found.replace(" ", "")  # where punctuation was
            last = len(signs) - length
            yield from (hash(signs[start : start + length]) for start in range(last + 1))


def overlapping(
    train: Rows,
    test: Rows,
    templated: Collection[str] = (),
    parts: Iterable[str] = (),
    learned: Mapping[str, pd.Series] = MappingProxyType({}),
) -> dict[str, dict[str, pd.Series]]:
    """train task -> {"exact", "13-gram"} -> a boolean per row: it overlaps some test split.

    A row counts once: as exact where one of its texts equals a test text up to case and
    punctuation, as 13-gram where it shares 13 consecutive words. `templated`: tasks whose texts
    say the same before or after what each asks, see COMMON. `parts`: texts that are a test row's
    only together with others. `learned`: by train task, what else is learned of each row; it is
    held against whole texts, not against parts, for an answer may well be one.
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
    anywhere = whole | set(map(normalise, parts))
    found = {}
    for task, (columns, rows) in train.items():
        texts = [rows[column].map(normalise) for column in columns]
        exact = pd.Series(False, index=rows.index)
        for text in texts:
            exact |= text.isin(anywhere)
        if task in learned:
            texts.append(learned[task].map(normalise))
            exact |= texts[-1].isin(whole) & (texts[-1].str.count(" ") >= ANSWER)
        shared = pd.Series(False, index=rows.index)
        for text in texts:
            hit = text.map(lambda value: any(gram in grams for gram in _grams(value)))
            shared |= hit.astype(bool)  # of no rows, `map` makes no booleans
        found[task] = {"exact": exact, "13-gram": shared & ~exact}
    return found


def _is_templated(config: TaskConfig) -> bool:
    """Prompts and questions have templates, and so has any text that is made of columns."""
    if config.kind in (*WRITTEN, "multiple-choice"):
        return True
    told = (
        config.data.columns.model_dump(exclude_none=True) if isinstance(config.data, Table) else {}
    )
    return any(map(is_template, told.values()))


def _compared(rows: pd.DataFrame, kind: str) -> tuple[tuple[str, ...], pd.DataFrame]:
    """Of multiple choice also what is right, which other wrong choices do not make another."""
    texts = compared(rows, kind)
    if kind == "multiple-choice":
        texts = texts.assign(answered=answered(rows))
    return tuple(map(str, texts.columns)), texts


def _parts(rows: pd.DataFrame, kind: str) -> Iterator[str]:
    """The texts that are compared together, each by itself; of a relation no entity, which many
    texts name."""
    if kind in JOINED:
        for column in TEXTS[kind] if kind != "relation" else ("text",):
            yield from rows[column]


def _learned(rows: pd.DataFrame, kind: str) -> pd.Series | None:
    """A text of a row that is not compared by itself, and alone may be a whole text of a test: the
    answer that is learned, or a question without its choices."""
    match kind:
        case "completion":
            return rows["completion"].map(lambda accepted: accepted[0])
        case "chat":
            return rows["contents"].map(lambda contents: contents[-1])
        case "multiple-choice":
            return rows["context"]
    return None


def remove_overlap(
    configs: dict[str, TaskConfig], splits: dict[str, Split]
) -> dict[str, dict[str, int]]:
    """Take overlapping rows out of every train split; return how many, by task and kind."""
    train, test = (
        {name: _compared(split.rows[part], configs[name].kind) for name, split in splits.items()}
        for part in ("train", "test")
    )
    templated = [name for name, config in configs.items() if _is_templated(config)]
    kinds = {name: configs[name].kind for name in splits}
    parts = [
        part for name, kind in kinds.items() for part in _parts(splits[name].rows["test"], kind)
    ]
    learned = {
        name: texts
        for name, kind in kinds.items()
        if (texts := _learned(splits[name].rows["train"], kind)) is not None
    }
    found = overlapping(train, test, templated, parts, learned)
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
