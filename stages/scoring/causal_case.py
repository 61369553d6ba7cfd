"""A causal model and the splits of one task -> records."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from stages.config.kinds import WRITTEN
from stages.models.causal import CausalTokenizer
from stages.scoring.causal import CausalScorer, Scored
from stages.scoring.frame import byte_count
from stages.scoring.generation import Sampling
from stages.scoring.judge import Judge
from stages.scoring.shots import BETWEEN, behind, few_shot_prompt, text_bytes
from stages.scoring.splits import Asking, TaskSplits
from stages.statistics.prompted import PROMPTED
from stages.tasks.examples import Examples
from stages.tasks.extra import require_harness
from stages.tasks.noise import noisy

WRITTEN_AT_ONCE = 48
"""Answers, at most: each keeps the keys and values of all its tokens, 23 kB a token in
SmolLM2-135M. Of long ones there are fewer, see `generate`."""
TEMPERATURE, TOP_P = 1.0, 0.95
"""Of generated news: the model's own distribution without its unlikeliest twentieth."""


@dataclass(frozen=True)
class CausalCaseScorer:
    """Scores tasks with one causal model. `batch_tokens` bounds a batch, padding included.

    `shared`: common beginnings are read once, see `reads_trees`.
    """

    model: Any
    tokenizer: CausalTokenizer
    batch_tokens: int
    shared: bool

    def score(self, splits: TaskSplits, asking: Asking) -> tuple[pd.DataFrame, int]:
        """Records of the validation and test split, and of the test split as `asking` says;
        and how many test examples lost their beginning to the model's length.

        News is written for the test split only. Asked again, batches are of half the size.
        """
        scorer = self._scorer(1)
        clean = {split: self._ask(scorer, part, split) for split, part in splits.scored(asking)}
        parts = [scored.records for scored in clean.values()]
        for condition in asking.conditions:
            asked = self._ask(scorer, noisy(splits.test, condition, asking.seed), "test")
            parts.append(asked.records.assign(condition=condition))
        if asking.repeats:
            again = self._ask(self._scorer(2), splits.test, "test")
            parts.append(again.records.assign(condition="rescored"))
        if splits.task.kind == "news-writing" and not asking.brief:
            parts.append(self._write(scorer, splits, asking.seed))
        if asking.shots and splits.role == "target":
            parts += self._prompted(scorer, splits, replace(asking, brief=True))
        return pd.concat(parts, ignore_index=True), len(clean["test"].truncated)

    def _scorer(self, divisor: int) -> CausalScorer:
        """With batches of a `divisor`-th of the usual size."""
        tokens, at_once = self.batch_tokens // divisor, WRITTEN_AT_ONCE // divisor
        return CausalScorer(self.model, self.tokenizer, max(1, tokens), at_once, self.shared)

    def _ask(self, scorer: CausalScorer, examples: Examples, split: str) -> Scored:
        task = examples.task
        if task.kind == "multiple-choice":
            return scorer.multiple_choice(examples, split)
        if task.kind == "instruction-following":
            return scorer.instructions(examples, split, task.options["max_new_tokens"])
        if task.kind == "refusal":
            return scorer.refusals(examples, split, task.options["max_new_tokens"])
        if task.kind in ("minimal-pairs", "bias-pairs"):
            return scorer.pairs(examples, split)
        if task.kind in WRITTEN:
            return scorer.completions(examples, split)
        if task.kind == "lm-eval":
            require_harness()
            # Seconds to import, and an optional extra: only a case with such a task has it.
            from stages.scoring.lm_eval_case import score_lm_eval

            return score_lm_eval(scorer, examples, split)
        return scorer.language_modelling(self._clipped(examples), split)

    def _clipped(self, examples: Examples) -> Examples:
        """Texts as far as they are read."""
        task = examples.task
        asked = zip(examples.column("prompt"), examples.column("text"), strict=True)
        texts = [self.tokenizer.clip(*both, task.max_length) for both in asked]
        return Examples(task, examples.rows.assign(text=texts))

    def _prompted(
        self, scorer: CausalScorer, splits: TaskSplits, asking: Asking
    ) -> Iterator[pd.DataFrame]:
        kind = splits.task.kind
        parts = {
            split: part if kind in ("multiple-choice", "completion") else self._clipped(part)
            for split, part in (("train", splits.train), *splits.scored(asking))
        }
        prompt = few_shot_prompt(parts.pop("train"), asking.shots, asking.seed)
        tokens = len(self.tokenizer.encode(prompt))
        for split, part in parts.items():
            asked = behind(prompt, tokens, part, self.tokenizer.longest)
            if kind == "completion":
                # What follows it is the beginning of another shot.
                found = scorer.completions(asked, split, ends=(BETWEEN,)).records
                found = found.assign(bytes=byte_count(part, ["prompt"]))
            elif kind == "multiple-choice":
                found = scorer.multiple_choice(asked, split).records
            else:
                found = scorer.language_modelling(asked, split).records
                # White space that ends the prompt is paid for, but is nothing that was asked for.
                found = found.assign(bytes=text_bytes(part))
            yield found.assign(condition=f"{PROMPTED}{asking.shots}")

    def _write(self, scorer: CausalScorer, splits: TaskSplits, seed: int) -> pd.DataFrame:
        options = splits.task.options
        model = self.model
        judge = Judge(options["judge"], splits.train, self.batch_tokens, model.device, model.dtype)
        return scorer.writing(
            splits.test,
            "test",
            per_topic=options["texts_per_topic"],
            max_new_tokens=options["max_new_tokens"],
            sample=Sampling(TEMPERATURE, TOP_P, seed),
            judge=judge.topics,
            embedding=judge.vectors,
        ).records
