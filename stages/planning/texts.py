"""How many rows a task has, and how many tokens are read of one: counted where `prepare` has run,
and else the most that params.yaml allows."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from stages.config.tasks import TaskConfig
from stages.models.encoder import UNLIMITED
from stages.models.pretrained import load_tokenizer
from stages.planning.requests import (
    Count,
    Lengths,
    of_choices,
    of_requests,
    of_windows,
    written_of_requests,
)
from stages.tasks.chat import ASSISTANT
from stages.tasks.examples import SPLITS, Task, path_of, read_examples

SAMPLE = 128
"""Rows of the train split, or where there is none of test, whose tokens are counted."""
TOPICS = 5
"""Of news, where the texts are not there yet."""
CHAT_TOKENS, TURN_TOKENS = 25, 5
"""Around a prompt, by a chat template, and around each further message of a conversation."""
ANSWERED = ("instruction-following", "completion", "chat", "refusal")
"""Kinds that a text is written for, an example."""
TWICE = ("retrieval", "minimal-pairs", "bias-pairs")
"""Kinds with two texts a row, each of max_length."""

AGAIN = ("masked-lm", "extractive-qa")
"""Kinds whose row is read several times over, or in parts."""


@dataclass(frozen=True)
class Texts:
    """A task's texts, as a model reads them.

    `rows`: of each split. `read`: tokens of some rows as they are asked, all choices, windows or
    texts of a row together; `learned`: the same as they are trained on. `judged`: tokens of a row
    whose likelihood is taken, in the mean; of what is written, in training. `written`: tokens that
    the model writes on each split, at most, and `answer`: at a time. `outputs`: of a head.
    `counted`: whether this is so, or the most that it can be.
    """

    kind: str
    rows: Mapping[str, int]
    read: Sequence[int]
    learned: Sequence[int]
    judged: float
    written: Mapping[str, int]
    outputs: int
    counted: bool
    answer: int = 0

    @property
    def parts(self) -> float:
        """Rows in training that an example makes, in the mean: of a long context its windows."""
        return len(self.learned) / len(self.read)

    @property
    def tokens(self) -> float:
        """Read of a row, in the mean."""
        return sum(self.read) / len(self.read)

    @property
    def length(self) -> float:
        """Tokens that see each other, in the mean: a row's, however often it is read."""
        return self.judged if self.kind in AGAIN else self.tokens


def mean_longest(lengths: Sequence[int], rows: int) -> float:
    """Of the rows of a random batch, which are padded to it, in the mean over batches."""
    draw = random.Random(0)
    batches = (max(draw.choices(lengths, k=max(1, rows))) for _ in range(64))
    return sum(batches) / 64


def bound(config: TaskConfig, model: str = "causal", longest: int = UNLIMITED) -> Texts:
    """What params.yaml allows a `model` of this kind, whose positions reach `longest` tokens. Of
    multiple choice, extractive-qa and lm-eval a row has as many choices, windows and requests as
    its data say: one here."""
    rows = {split: getattr(config, split) or 0 for split in SPLITS}
    most, answer = min(config.max_length, longest), config.max_new_tokens or 0
    read = {"masked-lm": most**2, **dict.fromkeys(TWICE, 2 * most)}.get(config.kind, most)
    learned = most if config.kind == "masked-lm" else read
    if model == "seq2seq":  # its prompt has all of max_length
        learned += answer
    judged = answer if config.kind == "completion" else most
    written = _written(config.kind, rows, answer, config.texts_per_topic, TOPICS)
    return Texts(config.kind, rows, (read,), (learned,), judged, written, 20, False, answer)


def counted(
    case: str, role: str, name: str, folder: Path, model: str, longest: int = UNLIMITED
) -> Texts | None:
    """What `prepare` has written, in tokens of the tokenizer in `folder`; None where it has not.
    `model`, `longest`: see `bound`."""
    paths = {split: path_of(case, role, split, name) for split in SPLITS}
    if not all(path.exists() for path in paths.values()):
        return None
    examples = {split: read_examples(path) for split, path in paths.items()}
    rows = {split: len(found) for split, found in examples.items()}
    test = examples["test"]
    sampled = (examples["train"] if rows["train"] else test).rows.head(SAMPLE)
    task, tokenizer = test.task, load_tokenizer(folder)
    task = replace(task, max_length=min(task.max_length, longest))

    def tokens(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), add_special_tokens=True)["input_ids"]]

    read, learned, judged = _lengths(task, sampled, tokens, model)
    options = task.options
    topics = int(test.rows["slice"].nunique()) or 1
    most, per_topic = options.get("max_new_tokens") or 0, options.get("texts_per_topic")
    if task.kind == "lm-eval":
        most = written_of_requests(sampled["requests"])
    written = _written(task.kind, rows, most, per_topic, topics)
    mean = sum(judged) / len(judged)
    return Texts(task.kind, rows, read, learned, mean, written, task.outputs, True, most)


def _written(
    kind: str, rows: Mapping[str, int], most: int, per_topic: int | None, topics: int
) -> dict[str, int]:
    if kind == "news-writing":
        return {"test": topics * (per_topic or 0) * most}
    if kind in (*ANSWERED, "lm-eval"):
        return {split: rows[split] * most for split in ("validation", "test")}
    return {}


def _lengths(task: Task, rows: pd.DataFrame, tokens: Count, model: str = "causal") -> Lengths:
    """Cut as training and scoring cut them."""
    most, answer = task.max_length, task.options.get("max_new_tokens") or 0
    if task.kind == "multiple-choice":
        return of_choices(rows["context"], rows["choices"], most, tokens)
    if task.kind == "extractive-qa":
        return of_windows(rows["question"], rows["context"], most, tokens)
    if task.kind == "lm-eval":
        read, judged = of_requests(rows["requests"], most, tokens)
        return read, read, judged
    if task.kind in ("instruction-following", "refusal"):
        read = [n + CHAT_TOKENS for n in tokens(rows["prompt"].map(str))]
        return read, read, [0] * len(read)
    if task.kind == "completion":
        # What a prompt leaves of max_length is the answer's, but of an encoder and a decoder.
        room = most if model == "seq2seq" else max(1, most - answer)
        read = [min(room, n) for n in tokens(rows["prompt"].map(str))]
        said = tokens([str(accepted[0]) for accepted in rows["completion"]])
        judged = [min(answer, n) for n in said]
        return read, [p + n for p, n in zip(read, judged, strict=True)], judged
    if task.kind == "chat":
        return _conversations(rows, max(1, most - answer), answer, tokens)
    if task.kind == "masked-lm":  # once for each of its tokens
        read = [min(most, n) for n in tokens(rows["text"].map(str))]
        return [n * n for n in read], read, read
    if task.kind in ("language-modelling", "news-writing"):
        prompt, text = tokens(rows["prompt"].map(str)), tokens(rows["text"].map(str))
        pairs = list(zip(prompt, text, strict=True))
        read = [min(most, p + t) for p, t in pairs]
        return read, read, [max(1, r - p) for r, p in zip(read, prompt, strict=True)]
    columns = [tokens(rows[name].map(str)) for name in task.texts]
    if task.kind in TWICE:
        read = [sum(row) for row in _cut(columns, most)]
    else:
        read = [min(most, sum(row)) for row in zip(*columns, strict=True)]
    return read, read, read


def _conversations(rows: pd.DataFrame, room: int, most: int, tokens: Count) -> Lengths:
    """Of what stands before the last answer `room` tokens are read, and of it `most` learned; all
    that the assistant says in them is judged in training."""
    found: Lengths = ([], [], [])
    for roles, contents in zip(rows["roles"], rows["contents"], strict=True):
        *before, last = tokens([str(one) for one in contents])
        around = CHAT_TOKENS + TURN_TOKENS * max(0, len(before) - 1)
        said = sum(n for n, role in zip(before, roles, strict=False) if role == ASSISTANT)
        read, answer = min(room, sum(before) + around), min(most, last)
        for lengths, n in zip(found, (read, read + answer, min(read, said) + answer), strict=True):
            lengths.append(n)
    return found


def _cut(columns: Sequence[Sequence[int]], most: int) -> Iterator[tuple[int, ...]]:
    return zip(*([min(most, n) for n in column] for column in columns), strict=True)
