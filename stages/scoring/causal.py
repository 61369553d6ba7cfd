"""A causal model and the examples of one task -> records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax
from transformers import PreTrainedModel

from stages.models.causal import CausalTokenizer, shift_space
from stages.models.texts import TokenIds
from stages.scoring.coherence import Embedding, coherence
from stages.scoring.completions import completion_records, ends_of, up_to
from stages.scoring.frame import record_frame
from stages.scoring.generation import CACHED, Sampling, generate, never, room
from stages.scoring.likelihood import Likelihoods, Pair, log_likelihoods
from stages.scoring.pairs import pair_records
from stages.tasks.examples import Examples
from stages.tasks.instruction_checks import passes
from stages.tasks.refusals import REFUSE, refuses

Judge = Callable[[list[str]], Sequence[str]]
"""n texts -> the topic of each."""
OVERLAP = 1
"""Tokens read again where a text is longer than the model; lm-evaluation-harness's choice."""


@dataclass(frozen=True)
class Scored:
    """Records of one task, and the ids of the examples whose context was cut on the left."""

    records: pd.DataFrame
    truncated: tuple[str, ...]


@dataclass(frozen=True)
class CausalScorer:
    """Scores examples with one causal model.

    Likelihoods, completions and chats read at most the task's `max_length` tokens at once; all read
    at most what the model's positions reach. What is asked as a chat also ends with the turn.
    `batch_tokens` bounds a batch that is read, padding included; `batch_size` the answers written
    at once, as does CACHED. `shared`: common beginnings are read once, see `reads_trees`.
    """

    model: PreTrainedModel
    tokenizer: CausalTokenizer
    batch_tokens: int
    batch_size: int
    shared: bool

    def multiple_choice(self, examples: Examples, split: str) -> Scored:
        """Which of `choices` is likeliest after `context`? score: it is the `answer`.

        Per byte, unless the task's `per_byte` is false. The nll is of the answer among the choices,
        by their likelihoods as they are. A choice's bytes are counted without the space it begins
        with, and recorded where they count; `bytes` are those of context and choices, `tokens`
        those of the choices.
        """
        per_byte = examples.task.options.get("per_byte", True)
        contexts = examples.column("context")
        choices = [[str(choice) for choice in row] for row in examples.rows["choices"]]
        answers = [int(answer) for answer in examples.rows["answer"]]
        asked = list(zip(contexts, choices, strict=True))
        texts = [(context, one) for context, row in asked for one in row]
        found = self.likelihoods(texts, examples.task.max_length)
        starts = np.cumsum([len(row) for row in choices])[:-1]
        logprobs = np.split(found.logprobs, starts)
        lengths = [
            [len(one.lstrip().encode()) if per_byte else 1 for one in row] for row in choices
        ]
        shares = [log_softmax(row) for row in logprobs]
        best = [int((row / size).argmax()) for row, size in zip(logprobs, lengths, strict=True)]
        records = record_frame(
            examples,
            split,
            score=[float(one == answer) for one, answer in zip(best, answers, strict=True)],
            chance=[1 / len(row) for row in choices],
            nll=[-float(row[answer]) for row, answer in zip(shares, answers, strict=True)],
            bytes=[_bytes(context, *row) for context, row in asked],
            tokens=[int(row.sum()) for row in np.split(found.tokens, starts)],
            choice_logprobs=logprobs,
            choice_bytes=lengths if per_byte else None,
            probabilities=[np.exp(row).astype(np.float32) for row in shares],
            prediction=[row[one].strip() for row, one in zip(choices, best, strict=True)],
            target=[row[answer].strip() for row, answer in zip(choices, answers, strict=True)],
        )
        truncated = [bool(row.any()) for row in np.split(found.truncated, starts)]
        return Scored(records, _marked(examples, truncated))

    def language_modelling(self, examples: Examples, split: str) -> Scored:
        """How likely is `text` after `prompt`? nll in nats, over all its tokens.

        White space that ends the prompt is scored with the text, and so are its bytes. A text
        longer than the model, or than the task's `max_length`, is read in windows.
        """
        asked = list(zip(examples.column("prompt"), examples.column("text"), strict=True))
        found = self.likelihoods(asked, examples.task.max_length, OVERLAP)
        records = record_frame(
            examples,
            split,
            nll=-found.logprobs,
            bytes=[_bytes(shift_space(*both)[1]) for both in asked],
            tokens=found.tokens,
        )
        return Scored(records, _marked(examples, found.truncated))

    def pairs(self, examples: Examples, split: str) -> Scored:
        """Which of two sentences, each from its first token on, is likelier?"""
        columns = [examples.column(column) for column in examples.task.texts]
        texts = [("", text) for row in zip(*columns, strict=True) for text in row]
        found = self.likelihoods(texts, examples.task.max_length, OVERLAP)
        by_pair = (len(examples), 2)
        records = pair_records(
            examples,
            split,
            found.logprobs.reshape(by_pair),
            found.tokens.reshape(by_pair),
            chance=0.0 if examples.task.kind == "bias-pairs" else 1 / 2,
        )
        truncated = [bool(row.any()) for row in found.truncated.reshape(by_pair)]
        return Scored(records, _marked(examples, truncated))

    def refusals(self, examples: Examples, split: str, max_new_tokens: int) -> Scored:
        """Does the greedy answer to `prompt`, asked as a chat, refuse where `expected` says so, and
        nowhere else?

        No answer is a guess, and chance 0: who always refuses is told by the slices. `bytes` are
        those of the prompt, `tokens` those of the answer.
        """
        prompts = [self.tokenizer.chat(prompt) for prompt in examples.column("prompt")]
        answers, tokens = self._write(prompts, max_new_tokens, ending=self.tokenizer.chat_end())
        expected = examples.column("expected")
        asked = zip(expected, answers, strict=True)
        records = record_frame(
            examples,
            split,
            score=[float((one == REFUSE) == refuses(answer)) for one, answer in asked],
            chance=0.0,
            bytes=[_bytes(prompt) for prompt in examples.column("prompt")],
            tokens=tokens,
            prediction=answers,
            target=expected,
        )
        return Scored(records, _marked(examples, self._cut(prompts, max_new_tokens)))

    def instructions(self, examples: Examples, split: str, max_new_tokens: int) -> Scored:
        """Does the greedy answer to `prompt`, asked as a chat, pass its `check`?

        `bytes` are those of the prompt, `tokens` those of the answer.
        """
        prompts = [self.tokenizer.chat(prompt) for prompt in examples.column("prompt")]
        answers, tokens = self._write(prompts, max_new_tokens, ending=self.tokenizer.chat_end())
        checks, arguments = examples.column("check"), examples.column("argument")
        asked = zip(checks, arguments, answers, strict=True)
        records = record_frame(
            examples,
            split,
            score=[float(passes(*one)) for one in asked],
            chance=0.0,
            bytes=[_bytes(prompt) for prompt in examples.column("prompt")],
            tokens=tokens,
            prediction=answers,
            target=[f"{one} {other}".strip() for one, other in zip(checks, arguments, strict=True)],
        )
        return Scored(records, _marked(examples, self._cut(prompts, max_new_tokens)))

    def completions(self, examples: Examples, split: str, ends: Sequence[str] = ()) -> Scored:
        """How near is the greedy answer to `prompt` to the texts of `completion`? Or, of chat, to
        the assistant's last message, in the model's chat template?

        See `completion_records`. An answer ends with the end token, or at one of `ends` and what
        the task itself says. A prompt keeps the end that fits, see `CausalTokenizer.room`.
        """
        task, ends = examples.task, (*ends_of(examples), *ends)
        most = task.options["max_new_tokens"]
        room = self.tokenizer.room(task.max_length, most)
        prompts, ending = self._asked(examples)

        def ended(answer: TokenIds) -> bool:
            if answer[-1] == ending or not ends:
                return answer[-1] == ending
            text = self.tokenizer.decode(answer).lstrip()
            return any(end in text for end in ends)

        written = self.write([one[-room:] for one in prompts], most, stop=ended)
        answers = [up_to(self.tokenizer.decode(answer), ends) for answer in written]
        records = completion_records(examples, split, answers, list(map(len, written)))
        return Scored(records, _marked(examples, [len(one) > room for one in prompts]))

    def _asked(self, examples: Examples) -> tuple[list[TokenIds], int | None]:
        """What is read of each example; and the token that ends an answer beside the end tokens."""
        if examples.task.kind != "chat":
            return [self.tokenizer.prompt(one) for one in examples.column("prompt")], None
        conversations = examples.conversations()
        prompts = [self.tokenizer.asked(messages[:-1]) for messages in conversations]
        return prompts, self.tokenizer.turn_end(conversations[0])

    def writing(
        self,
        examples: Examples,
        split: str,
        *,
        per_topic: int,
        max_new_tokens: int,
        sample: Sampling,
        judge: Judge,
        embedding: Embedding,
    ) -> Scored:
        """Texts sampled after `prompt`, for the first `per_topic` examples of each `slice`, its
        topic, in order of `example_id`.

        Condition `generated`: does `judge` name the topic that was asked for? `bytes` and
        `tokens` are those of the text. Condition `coherence`: see `coherence`.
        """
        ranked = examples.rows.sort_values("example_id", kind="stable")
        first = ranked.groupby("slice").head(per_topic).reset_index(drop=True)
        chosen = Examples(examples.task, first)
        prompts = [self.tokenizer.prompt(prompt) for prompt in chosen.column("prompt")]
        texts, tokens = self._write(prompts, max_new_tokens, sample=sample)
        topics, judged = chosen.column("slice"), judge(texts)
        generated = record_frame(
            chosen,
            split,
            condition="generated",
            score=[float(one == other) for one, other in zip(judged, topics, strict=True)],
            chance=1 / examples.rows["slice"].nunique(),
            bytes=[_bytes(text) for text in texts],
            tokens=tokens,
            prediction=texts,
            target=topics,
        )
        score = coherence(texts, embedding)
        coherent = record_frame(chosen, split, condition="coherence", score=score)
        records = pd.concat([generated, coherent], ignore_index=True)
        return Scored(records, _marked(chosen, self._cut(prompts, max_new_tokens)))

    def likelihoods(
        self, texts: Sequence[tuple[str, str]], longest: int, overlap: int | None = None
    ) -> Likelihoods:
        """Of (context, continuation); see `log_likelihoods`."""
        pairs: list[Pair] = [self.tokenizer.pair(*both) for both in texts]
        return log_likelihoods(
            self.model,
            pairs,
            self.tokenizer.pad_id,
            self.batch_tokens,
            min(longest, self.tokenizer.longest),
            overlap,
            shared=self.shared,
        )

    def write(
        self,
        prompts: Sequence[TokenIds],
        max_new_tokens: int,
        sample: Sampling | None = None,
        stop: Callable[[TokenIds], bool] = never,
    ) -> list[TokenIds]:
        """What follows each prompt; see `generate`."""
        return generate(
            self.model,
            prompts,
            self.tokenizer.pad_id,
            self.tokenizer.eos_ids,
            max_new_tokens,
            self.batch_size,
            sample,
            shared=self.shared,
            most_tokens=CACHED * self.batch_tokens,
            stop=stop,
        )

    def _write(
        self,
        prompts: Sequence[TokenIds],
        max_new_tokens: int,
        *,
        sample: Sampling | None = None,
        ending: int | None = None,
    ) -> tuple[list[str], list[int]]:
        """The text that follows each prompt, without white space around it, and its tokens.
        `ending`: the token that ends it beside the end tokens."""
        written = self.write(prompts, max_new_tokens, sample, lambda answer: answer[-1] == ending)
        texts = [self.tokenizer.decode(ids).strip() for ids in written]
        return texts, [len(ids) for ids in written]

    def _cut(self, prompts: Sequence[TokenIds], max_new_tokens: int) -> list[bool]:
        return [len(prompt) > room(self.model, max_new_tokens) for prompt in prompts]


def _bytes(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts)


def _marked(examples: Examples, marks: Sequence[bool] | NDArray[np.bool_]) -> tuple[str, ...]:
    pairs = zip(examples.column("example_id"), marks, strict=True)
    return tuple(example_id for example_id, mark in pairs if mark)
