"""A sequence-to-sequence model in training: each token of the text, those before it given."""

from collections.abc import Sequence
from dataclasses import dataclass

from stages.models.seq2seq import IGNORED, Head, Seq2SeqTokenizer, states
from stages.models.texts import TokenIds, pad
from stages.tasks.examples import Examples
from stages.training.trainee import Output, Rows, Writer


@dataclass(frozen=True)
class Seq2SeqRows:
    """Token ids of what is read, and of what is to be written."""

    ids: list[TokenIds]
    labels: list[TokenIds]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def owners(self) -> Sequence[int]:
        return range(len(self))

    def lengths(self, indices: Sequence[int]) -> list[int]:
        return [max(len(self.ids[i]), len(self.labels[i])) for i in indices]

    def weight(self, indices: Sequence[int]) -> int:
        return sum(len(self.labels[i]) for i in indices)


def tokenise(examples: Examples, tokenizer: Seq2SeqTokenizer) -> Seq2SeqRows:
    """Prompts, and the first completion that is accepted of each."""
    task = examples.task
    texts = [accepted[0].strip() for accepted in examples.references()]
    return Seq2SeqRows(
        tokenizer(examples.column("prompt"), task.max_length),
        tokenizer.labels(texts, task.options["max_new_tokens"]),
    )


class Seq2SeqTrainee(Writer):
    def forward(self, rows: Rows, indices: Sequence[int]) -> Output:
        assert isinstance(rows, Seq2SeqRows)
        ids, mask = pad([rows.ids[i] for i in indices], self.pad_id, self.device)
        labels, _ = pad([rows.labels[i] for i in indices], IGNORED, self.device)
        text, head = labels != IGNORED, Head(self.model)
        features = states(self.model, ids, mask, labels)[text]
        return self.judged(features, text, labels[text], head.product, head.finished)
