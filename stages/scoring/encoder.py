"""An encoder and a case's tasks -> records."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.models.encoder import Encoder, Tokenizer, embed
from stages.models.probe import Probe, fit_probe
from stages.tasks.examples import Examples

Floats = NDArray[np.floating]
TINY = 1e-12  # the smallest probability that enters a log: 27.6 nats


@dataclass(frozen=True)
class TaskSplits:
    """The three splits of one task."""

    train: Examples
    validation: Examples
    test: Examples

    @property
    def name(self) -> str:
        return self.test.task.name

    def scored(self) -> Iterator[tuple[str, Examples]]:
        yield "validation", self.validation
        yield "test", self.test


@dataclass(frozen=True)
class Scorer:
    """Scores tasks with one encoder. `batch_tokens` bounds a batch, padding included."""

    encoder: Encoder
    tokenizer: Tokenizer
    batch_tokens: int

    def score(
        self, splits: TaskSplits, head: Probe | None = None, repeats: int = 0, seed: int = 0
    ) -> pd.DataFrame:
        """Records of the validation and test split, condition `clean`.

        A labelled task is answered by `head`, or by a probe fitted on the train split.

        With `repeats`, the test split is asked that many times more, condition `rescored`, while
        what should not matter changes: the batches (half the budget), and for a probe the train
        rows, drawn anew with replacement by (`seed`, repeat).
        """
        if splits.test.task.labelled:
            parts = list(self._answer(splits, head, repeats, seed))
        else:
            parts = [self._retrieve(part, split) for split, part in splits.scored()]
            if repeats:
                again = self._rebatched()._retrieve(splits.test, "test")
                parts += [_rescored(again, repeat) for repeat in range(repeats)]
        return pd.concat(parts, ignore_index=True)

    def _answer(
        self, splits: TaskSplits, head: Probe | None, repeats: int, seed: int
    ) -> Iterator[pd.DataFrame]:
        classes = len(splits.test.task.labels)
        if head is None or repeats:
            train, labels = self._embed(splits.train), np.asarray(splits.train.targets())
        answering = head or fit_probe(train, labels, classes)
        for split, part in splits.scored():
            yield labelled_records(part, split, answering.probabilities(self._embed(part)))
        if repeats:
            embedded = self._rebatched()._embed(splits.test)
        for repeat in range(repeats):
            drawn = np.random.default_rng((seed, repeat)).integers(len(labels), size=len(labels))
            probe = fit_probe(train[drawn], labels[drawn], classes)
            again = labelled_records(splits.test, "test", probe.probabilities(embedded))
            yield _rescored(again, repeat)

    def _rebatched(self) -> "Scorer":
        return replace(self, batch_tokens=max(1, self.batch_tokens // 2))

    def truncated(self, splits: TaskSplits) -> int:
        """How many texts of the test split are longer than what the model reads of them."""
        task = splits.test.task
        texts = [text for column in task.texts for text in splits.test.column(column)]
        return self.tokenizer.truncated(texts, task.max_length)

    def _embed(self, examples: Examples, column: str = "text") -> Floats:
        rows = self.tokenizer(examples.column(column), examples.task.max_length)
        return embed(self.encoder, rows, self.tokenizer.pad_id, self.batch_tokens)

    def _retrieve(self, examples: Examples, split: str) -> pd.DataFrame:
        """Which document is nearest to each query, by cosine? hit@1 among the split's own."""
        queries, documents = (_unit(self._embed(examples, c)) for c in examples.task.texts)
        nearest = (queries @ documents.T).argmax(axis=1)
        ids = np.asarray(examples.column("example_id"))
        return _frame(
            examples,
            split,
            score=(nearest == np.arange(len(ids))).astype(float),
            chance=1 / len(ids),
            prediction=ids[nearest],
            target=ids,
        )


def labelled_records(examples: Examples, split: str, probabilities: Floats) -> pd.DataFrame:
    """Records from class probabilities [n, labels]; chance is the commonest label's share."""
    targets = np.asarray(examples.targets())
    labels = np.asarray(examples.task.labels)
    predictions = probabilities.argmax(axis=1)
    of_target = probabilities[np.arange(len(targets)), targets]
    return _frame(
        examples,
        split,
        score=(predictions == targets).astype(float),
        chance=float(np.bincount(targets).max() / len(targets)),
        nll=-np.log(np.maximum(of_target, TINY)),
        probabilities=list(probabilities.astype(np.float32)),
        prediction=labels[predictions],
        target=labels[targets],
    )


def _frame(examples: Examples, split: str, **columns: object) -> pd.DataFrame:
    texts = examples.rows[list(examples.task.texts)]
    about = {
        "task": examples.task.name,
        "split": split,
        "example_id": examples.column("example_id"),
        "group": examples.column("group"),
        "slice": examples.column("slice"),
        "seed": 0,
        "variant": "final",
        "condition": "clean",
        "bytes": texts.map(lambda text: len(text.encode())).sum(axis=1).to_numpy(),
    }
    return pd.DataFrame({**about, **columns})


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _rescored(records: pd.DataFrame, repeat: int) -> pd.DataFrame:
    return records.assign(condition="rescored", seed=repeat)
