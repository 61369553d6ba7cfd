"""Examples on disk: a parquet file a task and split, which also says what the task is."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.config.kinds import HEADS, LABELLED
from stages.records import read_table, write_table
from stages.storage import content_id

ROLES = ("target", "retain")
SPLITS = ("train", "validation", "test")
COLUMNS = {
    "classification": ("text", "label"),
    "linear-probe": ("text", "label"),
    "retrieval": ("query", "document"),
    "pair-classification": ("text", "text_pair", "label"),
    "relation": ("text", "head", "tail", "starts", "label"),
    "token-classification": ("text", "tokens", "tags"),
    "extractive-qa": ("question", "context", "answers", "starts"),
    "multi-label": ("text", "labels"),
    "regression": ("text", "value"),
    "pair-regression": ("text", "text_pair", "value"),
    "multiple-choice": ("context", "choices", "answer"),
    "language-modelling": ("prompt", "text"),
    "news-writing": ("prompt", "text"),
    "instruction-following": ("prompt", "check", "argument"),
    "masked-lm": ("text",),
    "minimal-pairs": ("good", "bad"),
    "bias-pairs": ("antistereotype", "stereotype"),
    "refusal": ("prompt", "expected"),
    "completion": ("prompt", "completion"),
    "chat": ("prompt", "roles", "contents"),
    "lm-eval": ("text", "choices", "answers", "target", "doc", "requests"),
}
"""What an example consists of, by kind of task."""

TEXTS = {
    "classification": ("text",),
    "linear-probe": ("text",),
    "retrieval": ("query", "document"),
    "pair-classification": ("text", "text_pair"),
    "relation": ("text", "head", "tail"),
    "token-classification": ("text",),
    "extractive-qa": ("question", "context"),
    "multi-label": ("text",),
    "regression": ("text",),
    "pair-regression": ("text", "text_pair"),
    "multiple-choice": ("context",),
    "language-modelling": ("text",),
    "news-writing": ("text",),
    "instruction-following": ("prompt",),
    "masked-lm": ("text",),
    "minimal-pairs": ("good", "bad"),
    "bias-pairs": ("antistereotype", "stereotype"),
    "refusal": ("prompt",),
    "completion": ("prompt",),
    "chat": ("prompt",),
    "lm-eval": ("text",),
}
"""The columns in which two rows may not be the same, and in which train and test may not overlap;
see JOINED.

Documents of lm-eval are told apart as a whole: see stages/tasks/lm_eval_rows.py.
"""

SHARED = {
    "pair-classification": "text",
    "relation": "text",
    "pair-regression": "text",
    "extractive-qa": "context",
    "minimal-pairs": "good",
    "bias-pairs": "stereotype",
}
"""Kinds whose texts are compared together, as one: a premise stands in several rows. The column
named is the text that rows share; where a table has no `group`, it is the group."""

JOINED = (*SHARED, "multiple-choice")
"""Kinds of which rows may share one text, and are told apart by all: "Which of these is true?"
is asked of many choices."""


@dataclass(frozen=True)
class Task:
    """What is asked. `labels` is empty where a task has none; `options` are its kind's own."""

    name: str
    kind: str
    max_length: int
    labels: tuple[str, ...]
    options: dict[str, Any]

    @property
    def texts(self) -> tuple[str, ...]:
        return TEXTS[self.kind]

    @property
    def head(self) -> str | None:
        """What an encoder's head gives, see HEADS; None of a kind that has none."""
        return HEADS.get(self.kind)

    @property
    def outputs(self) -> int:
        """Of its head; 0 where it has none."""
        return {None: 0, "span": 2, "value": 1}.get(self.head, len(self.labels))

    @property
    def labelled(self) -> bool:
        """Whether each example has one of the labels."""
        return self.kind in LABELLED


@dataclass(frozen=True)
class Examples:
    """Rows of one split: the text columns of the kind, `label` where labelled, `group`,
    `slice` and `example_id`."""

    task: Task
    rows: pd.DataFrame

    def __len__(self) -> int:
        return len(self.rows)

    def column(self, name: str) -> list[str]:
        return [str(value) for value in self.rows[name]]

    def references(self) -> list[list[str]]:
        """The texts that are accepted of each example; of a completion the first is learned."""
        if self.task.kind == "chat":
            return [[messages[-1]["content"]] for messages in self.conversations()]
        return [[str(one) for one in row] for row in self.rows["completion"]]

    def conversations(self) -> list[list[dict[str, str]]]:
        """The messages of each example, {role, content}; the last is the assistant's."""
        return [
            [{"role": str(role), "content": str(text)} for role, text in zip(*row, strict=True)]
            for row in zip(self.rows["roles"], self.rows["contents"], strict=True)
        ]

    def targets(self) -> list[int]:
        """The labels as indices into `task.labels`."""
        index = {label: position for position, label in enumerate(self.task.labels)}
        return [index[label] for label in self.rows["label"]]


def identify(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Add `example_id`, a hash of the example's columns."""
    examples = rows[list(COLUMNS[kind])].itertuples(index=False)
    return rows.assign(example_id=[content_id(*example) for example in examples])


def compared(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The columns TEXTS of `rows`; of a kind in JOINED one column, `text`, of them together, and
    of the choices, in whichever order they stand."""
    texts = rows[list(TEXTS[kind])]
    if kind not in JOINED:
        return texts
    parts = [list(row) for row in texts.itertuples(index=False)]
    if kind == "multiple-choice":
        choices = rows["choices"].map(lambda row: sorted(row, key=str.casefold))
        parts = [[*texts, *row] for texts, row in zip(parts, choices, strict=True)]
    joined = [" ".join(row) for row in parts]
    return pd.DataFrame({"text": joined}, index=rows.index, dtype=object)


def answered(rows: pd.DataFrame) -> pd.Series:
    """Of multiple choice: each context with its right choice, which is what is learned of it."""
    texts = [
        f"{context}{choices[answer]}"
        for context, choices, answer in zip(
            rows["context"], rows["choices"], rows["answer"], strict=True
        )
    ]
    return pd.Series(texts, index=rows.index, dtype=object)


def folders(case: str) -> list[Path]:
    """Where the examples of a case lie, one a role."""
    return [Path("data") / case / role for role in ROLES]


def path_of(case: str, role: str, split: str, task: str) -> Path:
    """`role` is target or retain."""
    return Path("data") / case / role / split / f"{task}.parquet"


def write_examples(path: Path, examples: Examples) -> None:
    table = pa.Table.from_pandas(examples.rows, preserve_index=False)
    write_table(path, table, asdict(examples.task))


def read_examples(path: Path) -> Examples:
    """Raises UserError where there is no such file."""
    rows, about = read_table(path)
    return Examples(_task(about), rows)


def _task(about: dict[str, Any]) -> Task:
    return Task(**{**about, "labels": tuple(about["labels"])})


def read_role(case: str, role: str, split: str) -> list[Examples]:
    """All tasks of a role, in order of their names."""
    folder = Path("data") / case / role / split
    return [read_examples(path) for path in sorted(folder.glob("*.parquet"))]
