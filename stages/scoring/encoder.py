"""An encoder and the splits of one task -> records."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.inputs.encoder import read
from stages.models.encoder import Encoder, Inputs, Tokenizer, embed
from stages.models.probe import Probe, fit_probe
from stages.scoring.frame import byte_count, record_frame
from stages.scoring.splits import Asking, TaskSplits
from stages.tasks.examples import Examples
from stages.tasks.noise import noisy

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
TINY = 1e-12  # the smallest probability that enters a log: 27.6 nats


@dataclass(frozen=True)
class EncoderScorer:
    """Scores tasks with one encoder. `batch_tokens` bounds a batch, padding included.

    A labelled target is answered by the head that was trained for it; every other labelled
    task, and the base's target, by a probe fitted on the train split.
    """

    encoder: Encoder
    tokenizer: Tokenizer
    heads: Mapping[str, Probe]
    batch_tokens: int
    known: dict[tuple[tuple[int, ...], ...], NDArray[np.float32]] = field(default_factory=dict)
    """What has been embedded, by its tokens: a text that several tasks ask is read once."""

    def score(self, splits: TaskSplits, asking: Asking) -> tuple[pd.DataFrame, int]:
        """Records of the validation and test split, and of the test split as `asking` says;
        and how many test texts are longer than what the model reads of them.

        Asked again, what changes is what should not matter: the batches (half the budget), and
        for a probe its train rows, drawn anew with replacement by (seed, repeat). Where nothing
        but the batches can change, once is enough.
        """
        answer: Callable[[Examples, str], pd.DataFrame] = self._retrieve
        again = self._retrieve_again(splits.test)
        if splits.task.labelled:
            probe = self.heads.get(splits.task.name)
            probe = probe or self.probe(splits)
            if asking.repeats:
                train, labels = self._read(splits.train), np.asarray(splits.train.targets())
                again = self._label_again(splits.test, train, labels, asking)
            answer = partial(self._label, probe)
        parts = [answer(part, split) for split, part in splits.scored(asking.brief)]
        for condition in asking.conditions:
            asked = answer(noisy(splits.test, condition, asking.seed), "test")
            parts.append(asked.assign(condition=condition))
        if asking.repeats:
            parts += [
                records.assign(condition="rescored", seed=repeat)
                for repeat, records in enumerate(again)
            ]
        return pd.concat(parts, ignore_index=True), self._truncated(splits.test)

    def probe(self, splits: TaskSplits) -> Probe:
        """What answers a labelled task for which no head was trained."""
        labels = np.asarray(splits.train.targets())
        return fit_probe(self._read(splits.train), labels, len(splits.task.labels))

    def _rebatched(self) -> "EncoderScorer":
        return replace(self, batch_tokens=max(1, self.batch_tokens // 2), known={})

    def _truncated(self, examples: Examples) -> int:
        columns = [examples.column(name) for name in examples.task.texts]
        if examples.task.kind == "retrieval":
            columns = [[text for column in columns for text in column]]
        return self.tokenizer.truncated(*columns, max_length=examples.task.max_length)

    def _read(self, examples: Examples) -> Floats:
        return self._embed(read(examples, self.tokenizer))

    def _embed(self, inputs: Inputs) -> Floats:
        """[rows, hidden]."""
        keys = inputs.keys()
        new = {key: row for row, key in enumerate(keys) if key not in self.known}
        if new:
            unread = inputs.of(new.values())
            vectors = embed(self.encoder, unread, self.tokenizer.pad_id, self.batch_tokens)
            self.known.update(zip(new, vectors, strict=True))
        return np.stack([self.known[key] for key in keys])

    def _label(self, probe: Probe, examples: Examples, split: str) -> pd.DataFrame:
        return labelled_records(examples, split, probe.probabilities(self._read(examples)))

    def _label_again(
        self, test: Examples, train: Floats, labels: Integers, asking: Asking
    ) -> Iterator[pd.DataFrame]:
        embedded = self._rebatched()._read(test)
        for repeat in range(asking.repeats):
            generator = np.random.default_rng((asking.seed, repeat))
            drawn = generator.integers(len(labels), size=len(labels))
            probe = fit_probe(train[drawn], labels[drawn], len(test.task.labels))
            yield labelled_records(test, "test", probe.probabilities(embedded))

    def _retrieve(self, examples: Examples, split: str) -> pd.DataFrame:
        """Which document is nearest to each query, by cosine? hit@1 among the split's own."""
        length = examples.task.max_length
        queries, documents = (
            _unit(self._embed(Inputs(self.tokenizer(examples.column(column), length))))
            for column in examples.task.texts
        )
        nearest = (queries @ documents.T).argmax(axis=1)
        ids = np.asarray(examples.column("example_id"))
        return record_frame(
            examples,
            split,
            bytes=byte_count(examples, examples.task.texts),
            score=(nearest == np.arange(len(ids))).astype(float),
            chance=1 / len(ids),
            prediction=ids[nearest],
            target=ids,
        )

    def _retrieve_again(self, test: Examples) -> Iterator[pd.DataFrame]:
        yield self._rebatched()._retrieve(test, "test")


def labelled_records(examples: Examples, split: str, probabilities: Floats) -> pd.DataFrame:
    """Records from class probabilities [n, labels]; chance is the commonest label's share."""
    targets = np.asarray(examples.targets())
    labels = np.asarray(examples.task.labels)
    predictions = probabilities.argmax(axis=1)
    of_target = probabilities[np.arange(len(targets)), targets]
    return record_frame(
        examples,
        split,
        bytes=byte_count(examples, examples.task.texts),
        score=(predictions == targets).astype(float),
        chance=float(np.bincount(targets).max() / len(targets)),
        nll=-np.log(np.maximum(of_target, TINY)),
        probabilities=list(probabilities.astype(np.float32)),
        prediction=labels[predictions],
        target=labels[targets],
    )


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
