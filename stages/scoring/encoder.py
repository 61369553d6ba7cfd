"""An encoder and the splits of one task -> records."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.inputs.encoder import labels_of, read, truncated
from stages.models.encoder import Encoder, embed, features
from stages.models.masked import Masking
from stages.models.probe import Probe, Sample
from stages.models.texts import Inputs, Tokenizer
from stages.scoring.answers import answered
from stages.scoring.frame import byte_count, record_frame
from stages.scoring.pairs import pair_records
from stages.scoring.pseudo import pseudo_log_likelihoods, shared_places
from stages.scoring.splits import Asking, TaskSplits
from stages.tasks.examples import Examples
from stages.tasks.noise import noisy

Floats = NDArray[np.floating]

AT_ONCE = 1024
"""Queries that are held against all documents side by side: of 100,000 documents, 400 MB."""


@dataclass(frozen=True)
class EncoderScorer:
    """Scores tasks with one encoder. `batch_tokens` bounds a batch, padding included.

    A target with a head is answered by the one that was trained for it; every other task that a
    head answers, and the base's target, by a probe fitted on the train split.
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
        answer = self._headless(splits.task.kind)
        again = self._headless_again(splits.test)
        if splits.task.head:
            train = cache(partial(self._sample, splits.train))
            head = self.heads.get(splits.task.name) or train().fit(splits.task.outputs)
            if asking.repeats:
                again = self._answer_again(splits.test, train(), asking)
            answer = partial(self._answer, head)
        parts = [answer(part, split) for split, part in splits.scored(asking)]
        for condition in asking.conditions:
            asked = answer(noisy(splits.test, condition, asking.seed), "test")
            parts.append(asked.assign(condition=condition))
        if asking.repeats:
            parts += [
                records.assign(condition="rescored", seed=repeat)
                for repeat, records in enumerate(again)
            ]
        return pd.concat(parts, ignore_index=True), truncated(splits.test, self.tokenizer)

    def probe(self, splits: TaskSplits) -> Probe:
        """What answers a task with a head for which none was trained."""
        return self._sample(splits.train).fit(splits.task.outputs)

    def _rebatched(self) -> "EncoderScorer":
        return replace(self, batch_tokens=max(1, self.batch_tokens // 2), known={})

    def _sample(self, examples: Examples) -> Sample:
        inputs = read(examples, self.tokenizer)
        head, labels = examples.task.head, labels_of(examples, inputs)
        assert head is not None
        return Sample.of(head, self._features(inputs), labels)

    def _features(self, inputs: Inputs) -> list[Floats]:
        """What a head sees of each row."""
        if inputs.places is None:
            return list(self._embed(inputs)[:, None])
        return features(self.encoder, inputs, self.tokenizer.pad_id, self.batch_tokens)

    def _embed(self, inputs: Inputs) -> Floats:
        """[rows, hidden]."""
        keys = inputs.keys()
        new = {key: row for row, key in enumerate(keys) if key not in self.known}
        if new:
            unread = inputs.of(new.values())
            vectors = embed(self.encoder, unread, self.tokenizer.pad_id, self.batch_tokens)
            self.known.update(zip(new, vectors, strict=True))
        return np.stack([self.known[key] for key in keys])

    def _answer(self, head: Probe, examples: Examples, split: str) -> pd.DataFrame:
        inputs = read(examples, self.tokenizer)
        return answered(examples, split, inputs, head, self._features(inputs))

    def _answer_again(
        self, test: Examples, train: Sample, asking: Asking
    ) -> Iterator[pd.DataFrame]:
        inputs = read(test, self.tokenizer)
        seen = self._rebatched()._features(inputs)
        for repeat in range(asking.repeats):
            generator = np.random.default_rng((asking.seed, repeat))
            probe = _redrawn(train, generator).fit(test.task.outputs)
            yield answered(test, "test", inputs, probe, seen)

    def _retrieve(self, examples: Examples, split: str) -> pd.DataFrame:
        """Which document is nearest to each query, by cosine? hit@1 among the split's own."""
        length = examples.task.max_length
        queries, documents = (
            _unit(self._embed(Inputs(self.tokenizer(examples.column(column), length))))
            for column in examples.task.texts
        )
        parts = np.array_split(queries, -(-len(queries) // AT_ONCE))
        nearest = np.concatenate([(part @ documents.T).argmax(axis=1) for part in parts])
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

    def _masked(self, examples: Examples, split: str) -> pd.DataFrame:
        """How likely is `text`, as far as it is read? nll in nats, over all its tokens."""
        inputs = self._tokens(examples, "text")
        assert inputs.items is not None
        texts = zip(examples.column("text"), inputs.items, strict=True)
        return record_frame(
            examples,
            split,
            nll=-self._likelihoods(inputs),
            bytes=[len(text[: items[-1][1]].encode()) for text, items in texts],
            tokens=[len(items) for items in inputs.items],
        )

    def _pairs(self, examples: Examples, split: str) -> pd.DataFrame:
        """Which sentence is likelier? Of bias pairs by the tokens that both have, given the others,
        as CrowS-Pairs has it (Nangia et al. 2020, arXiv 2010.00133, section 4.1)."""
        sides = [self._tokens(examples, column) for column in examples.task.texts]
        biased = examples.task.kind == "bias-pairs"
        asked = shared_places(*sides) if biased else sides
        found = np.stack([self._likelihoods(inputs) for inputs in asked], axis=1)
        counts = np.array([[len(row) for row in inputs.places or ()] for inputs in sides]).T
        return pair_records(examples, split, found, counts, 0.0 if biased else 1 / 2)

    def _tokens(self, examples: Examples, column: str) -> Inputs:
        return self._masking.read(examples.column(column), examples.task.max_length)

    def _likelihoods(self, inputs: Inputs) -> NDArray[np.float64]:
        pad_id = self.tokenizer.pad_id
        return pseudo_log_likelihoods(
            self.encoder, self._masking, inputs, pad_id, self.batch_tokens
        )

    @cached_property
    def _masking(self) -> Masking:
        return Masking(self.encoder, self.tokenizer.folder)

    def _headless(self, kind: str) -> Callable[[Examples, str], pd.DataFrame]:
        """What answers a kind that no head of a target's answers."""
        if kind == "masked-lm":
            return self._masked
        return self._pairs if kind in ("minimal-pairs", "bias-pairs") else self._retrieve

    def _headless_again(self, test: Examples) -> Iterator[pd.DataFrame]:
        yield self._rebatched()._headless(test.task.kind)(test, "test")


def _redrawn(sample: Sample, generator: np.random.Generator) -> Sample:
    """As many rows, drawn with replacement; anew where a draw has one class and the sample more."""
    while True:
        drawn = sample.drawn(generator.integers(len(sample), size=len(sample)))
        if drawn.varied or not sample.varied:
            return drawn


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
