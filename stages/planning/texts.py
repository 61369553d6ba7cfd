"""How many rows a task has, and how many tokens are read of one: counted where `prepare` has run,
and else the most that params.yaml allows."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from stages.config.tasks import TaskConfig
from stages.models.pretrained import load_tokenizer
from stages.tasks.examples import SPLITS, Task, path_of, read_examples

SAMPLE = 128
"""Rows of the train split, or where there is none of test, whose tokens are counted."""
TOPICS = 5
"""Of news, where the texts are not there yet."""
CHAT_TOKENS = 25
"""Around a prompt, by a chat template."""
ANSWERED = ("instruction-following", "completion", "chat", "refusal")
"""Kinds that a text is written for, an example."""


@dataclass(frozen=True)
class Texts:
    """A task's texts, as a model reads them.

    `rows`: of each split. `read`: tokens of some rows as they are asked, all choices or texts of a
    row together; `learned`: the same as they are trained on. `judged`: tokens of a row whose
    likelihood is taken, in the mean. `written`: tokens that the model writes on the test split, at
    most. `outputs`: of a head. `counted`: whether this is so, or the most that it can be.
    """

    kind: str
    rows: Mapping[str, int]
    read: Sequence[int]
    learned: Sequence[int]
    judged: float
    written: Mapping[str, int]
    outputs: int
    counted: bool

    @property
    def tokens(self) -> float:
        """Read of a row, in the mean."""
        return sum(self.read) / len(self.read)

    @property
    def length(self) -> float:
        """Tokens that see each other, in the mean: a row's, however often it is read."""
        return self.judged if self.kind == "masked-lm" else self.tokens


def mean_longest(lengths: Sequence[int], rows: int) -> float:
    """Of the rows of a random batch, which are padded to it, in the mean over batches."""
    draw = random.Random(0)
    batches = (max(draw.choices(lengths, k=max(1, rows))) for _ in range(64))
    return sum(batches) / 64


def bound(config: TaskConfig) -> Texts:
    """What params.yaml allows."""
    rows = {split: getattr(config, split) or 0 for split in SPLITS}
    longest = config.max_length
    read = {"retrieval": 2 * longest, "masked-lm": longest**2}.get(config.kind, longest)
    learned = longest if config.kind == "masked-lm" else read
    written = _written(config.kind, rows, config.max_new_tokens, config.texts_per_topic, TOPICS)
    return Texts(config.kind, rows, (read,), (learned,), longest, written, 20, False)


def counted(case: str, role: str, name: str, folder: Path) -> Texts | None:
    """What `prepare` has written, in tokens of the tokenizer in `folder`; None where it has not."""
    paths = {split: path_of(case, role, split, name) for split in SPLITS}
    if not all(path.exists() for path in paths.values()):
        return None
    examples = {split: read_examples(path) for split, path in paths.items()}
    rows = {split: len(found) for split, found in examples.items()}
    test = examples["test"]
    sampled = (examples["train"] if rows["train"] else test).rows.head(SAMPLE)
    task, tokenizer = test.task, load_tokenizer(folder)

    def tokens(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=True)["input_ids"]]

    read, learned, judged = _lengths(task, sampled, tokens)
    options = task.options
    topics = int(test.rows["slice"].nunique()) or 1
    most, per_topic = options.get("max_new_tokens"), options.get("texts_per_topic")
    written = _written(task.kind, rows, most, per_topic, topics)
    mean = sum(judged) / len(judged)
    return Texts(task.kind, rows, read, learned, mean, written, task.outputs, True)


def _written(
    kind: str, rows: Mapping[str, int], most: int | None, per_topic: int | None, topics: int
) -> dict[str, int]:
    if kind == "news-writing":
        return {"test": topics * (per_topic or 0) * (most or 0)}
    if kind in ANSWERED:
        return {split: rows[split] * (most or 0) for split in ("validation", "test")}
    return {}


def _lengths(task: Task, rows: pd.DataFrame, tokens: Any) -> tuple[list[int], list[int], list[int]]:
    """Of each row: tokens that are read, those that are trained on, and those that are judged."""
    if task.kind == "multiple-choice":
        context, choices = (
            tokens(rows["context"].map(str)),
            [list(map(str, c)) for c in rows["choices"]],
        )
        each = iter(tokens(list(chain.from_iterable(choices))))
        of_choices = [[next(each) for _ in row] for row in choices]
        read = [c + sum(row) for c, row in zip(context, of_choices, strict=True)]
        learned = [c + max(row) for c, row in zip(context, of_choices, strict=True)]
        return read, learned, [sum(row) for row in of_choices]
    if task.kind == "instruction-following":
        read = [n + CHAT_TOKENS for n in tokens(rows["prompt"].map(str))]
        return read, read, [0] * len(read)
    if task.kind == "completion":
        read = tokens(rows["prompt"].map(str))
        answers = tokens([str(accepted[0]) for accepted in rows["completion"]])
        return read, [p + a for p, a in zip(read, answers, strict=True)], answers
    if task.kind == "masked-lm":  # once for each of its tokens
        read = [min(task.max_length, n) for n in tokens(rows["text"].map(str))]
        return [n * n for n in read], read, read
    if task.kind in ("language-modelling", "news-writing"):
        prompt, text = tokens(rows["prompt"].map(str)), tokens(rows["text"].map(str))
        pairs = list(zip(prompt, text, strict=True))
        read = [min(task.max_length, p + t) for p, t in pairs]
        return read, read, [max(1, r - p) for r, p in zip(read, prompt, strict=True)]
    columns = [tokens(rows[name].map(str)) for name in task.texts]
    if task.kind == "retrieval":
        read = [sum(row) for row in _cut(columns, task.max_length)]
    else:
        read = [min(task.max_length, sum(row)) for row in zip(*columns, strict=True)]
    return read, read, read


def _cut(columns: Sequence[Sequence[int]], most: int) -> Iterator[tuple[int, ...]]:
    return zip(*([min(most, n) for n in column] for column in columns), strict=True)
