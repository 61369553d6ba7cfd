"""A causal model in training: next-token prediction of the text, the prompt given."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from stages.models.causal import CausalTokenizer, decoder, finished, hidden_states
from stages.models.documents import read_documents
from stages.models.texts import TokenIds, pad
from stages.tasks.examples import Examples
from stages.training.trainee import Output, Rows, Writer


@dataclass(frozen=True)
class CausalRows:
    """Token ids of prompt and text, and where the text begins. `marks`: 1 at each token of a row
    that is learned, where these are not all from its start on. `kept`: the examples that rows were
    made of, in order; None where of all."""

    ids: list[TokenIds]
    starts: list[int]
    marks: list[list[int]] | None = None
    kept: list[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def owners(self) -> Sequence[int]:
        return range(len(self)) if self.kept is None else self.kept

    def lengths(self, indices: Sequence[int]) -> list[int]:
        return [len(self.ids[i]) for i in indices]

    def weight(self, indices: Sequence[int]) -> int:
        if self.marks is not None:
            return sum(sum(self.marks[i]) for i in indices)
        return sum(len(self.ids[i]) - self.starts[i] for i in indices)


def tokenise(examples: Examples, tokenizer: CausalTokenizer) -> CausalRows:
    """Rows of prompt and text; of multiple choice, context and the right answer, as much of the
    context's end as is read when the task is asked; of completions, prompt, the first that is
    accepted, and the end token, so that it learns to stop; of chat, whole conversations, of which
    the assistant's messages are learned."""
    if examples.task.kind == "completion":
        return _completions(examples, tokenizer)
    if examples.task.kind == "chat":
        return _conversations(examples, tokenizer)
    if examples.task.kind == "multiple-choice":
        answers = zip(examples.rows["choices"], examples.rows["answer"], strict=True)
        texts = [str(choices[int(answer)]) for choices, answer in answers]
        prompts = examples.column("context")
    else:
        prompts = examples.column("prompt")
        texts = [
            tokenizer.clip(prompt, text, examples.task.max_length)
            for prompt, text in zip(prompts, examples.column("text"), strict=True)
        ]
    room = tokenizer.longest
    if examples.task.kind == "multiple-choice":
        room = min(examples.task.max_length + 1, room)  # the last token is only predicted
    rows = CausalRows([], [], kept=[])
    assert rows.kept is not None
    for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
        context, learned = tokenizer.pair(prompt, text)
        if not learned:
            continue
        # An answer is learned whole; of a text at least its first token, as `clip` leaves it.
        least = len(learned) if examples.task.kind == "multiple-choice" else 1
        context = context[-max(1, room - least) :]
        rows.ids.append((context + learned)[:room])
        rows.starts.append(len(context))
        rows.kept.append(number)
    return rows


def _completions(examples: Examples, tokenizer: CausalTokenizer) -> CausalRows:
    """As far as they are read and written when the task is asked."""
    task = examples.task
    most = task.options["max_new_tokens"]
    room = tokenizer.room(task.max_length, most)
    end = [] if tokenizer.end_id is None else [tokenizer.end_id]
    texts = [accepted[0] for accepted in examples.references()]
    pairs = [tokenizer.pair(*both) for both in zip(examples.column("prompt"), texts, strict=True)]
    rows = [(context[-room:], (text + end)[:most]) for context, text in pairs if text]
    return CausalRows(
        ids=[context + text for context, text in rows],
        starts=[len(one) for one, _ in rows],
        kept=[number for number, (_, text) in enumerate(pairs) if text],
    )


def _conversations(examples: Examples, tokenizer: CausalTokenizer) -> CausalRows:
    """As many tokens before the last answer, and of it, as when the task is asked."""
    task = examples.task
    most = task.options["max_new_tokens"]
    room = tokenizer.room(task.max_length, most)
    rows = CausalRows([], [], [], [])
    assert rows.marks is not None and rows.kept is not None
    talks = map(tokenizer.conversation, examples.conversations())
    for number, (ids, marks) in enumerate(talks):
        if 1 not in marks:
            continue
        last = len(marks) - marks[::-1].index(1)
        while last and marks[last - 1]:
            last -= 1
        first = max(0, last - room)
        rows.ids.append(ids[first : last + most])
        rows.starts.append(last - first)
        # Nothing stands before the first token that it could be told from.
        rows.marks.append([0, *marks[first + 1 : last + most]])
        rows.kept.append(number)
    return rows


class CausalTrainee(Writer):
    unpadded = False
    """Whether the model reads rows as documents of one row."""

    def forward(self, rows: Rows, indices: Sequence[int]) -> Output:
        assert isinstance(rows, CausalRows)
        ids, mask = pad([rows.ids[i] for i in indices], self.pad_id, self.device)
        if rows.marks is None:
            places = torch.arange(ids.shape[1], device=self.device)
            starts = torch.tensor([rows.starts[i] for i in indices], device=self.device)
            text = mask.bool() & (places >= starts[:, None])
        else:
            text = pad([rows.marks[i] for i in indices], 0, self.device)[0].bool()
        # The hidden state before a token predicts it.
        predicts = text.roll(-1, dims=1)
        predicts[:, -1] = False
        if self.unpadded:
            states = read_documents(decoder(self.model), ids, mask.bool())
        else:
            states = hidden_states(self.model, ids, None)
        head, finish = self.model.get_output_embeddings(), partial(finished, self.model.config)
        return self.judged(states[predicts], text, ids[text], head, finish)
