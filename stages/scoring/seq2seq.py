"""A sequence-to-sequence model and the splits of one task -> records."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from transformers import PreTrainedModel

from stages.errors import UserError
from stages.models.seq2seq import Seq2SeqTokenizer, write
from stages.models.sharing import dealt
from stages.models.texts import TokenIds, batches_by_tokens
from stages.scoring.completions import completion_records, ends_of, up_to
from stages.scoring.splits import Asking, TaskSplits
from stages.tasks.examples import Examples
from stages.tasks.noise import noisy


@dataclass(frozen=True)
class Seq2SeqScorer:
    """Scores completion tasks with one model. `batch_tokens` bounds a batch that is read and
    written, padding included."""

    model: PreTrainedModel
    tokenizer: Seq2SeqTokenizer
    batch_tokens: int

    def score(self, splits: TaskSplits, asking: Asking) -> tuple[pd.DataFrame, int]:
        """Records of the validation and test split, and of the test split as `asking` says;
        and how many test prompts are longer than what is read of them.

        Asked again, batches are of half the size.
        """
        usual = self.batch_tokens
        parts = [self._ask(part, split, usual) for split, part in splits.scored(asking)]
        for condition in asking.conditions:
            asked = self._ask(noisy(splits.test, condition, asking.seed), "test", usual)
            parts.append(asked.assign(condition=condition))
        if asking.repeats:
            again = self._ask(splits.test, "test", usual // 2)
            parts.append(again.assign(condition="rescored"))
        prompts, most = splits.test.column("prompt"), splits.task.max_length
        return pd.concat(parts, ignore_index=True), sum(self.tokenizer.truncated(prompts, most))

    def _ask(self, examples: Examples, split: str, batch_tokens: int) -> pd.DataFrame:
        """How near is the greedy answer to a prompt to the texts that are accepted?"""
        task = examples.task
        most = task.options["max_new_tokens"]
        if most > self.tokenizer.longest:
            raise UserError(
                f"max_new_tokens = {most}: the model writes no more than {self.tokenizer.longest} "
                "tokens"
            )
        rows = self.tokenizer(examples.column("prompt"), task.max_length)
        answers, tokens = [""] * len(rows), [0] * len(rows)

        def answer(batch: NDArray[np.intp]) -> list[TokenIds]:
            asked = [rows[at] for at in batch]
            return write(self.model, asked, self.tokenizer.pad_id, most)

        lengths = [len(row) + most for row in rows]
        batches = batches_by_tokens(lengths, batch_tokens, desc="writing")
        for batch, written in dealt(batches, answer):
            for at, ids in zip(batch.tolist(), written, strict=True):
                answers[at] = up_to(self.tokenizer.decode(ids), ends_of(examples))
                tokens[at] = len(ids)
        return completion_records(examples, split, answers, tokens)
