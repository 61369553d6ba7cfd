"""Our scorer as a model of lm-evaluation-harness."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from stages.errors import UserError
from stages.models.encoder import UNLIMITED
from stages.models.texts import TokenIds
from stages.scoring.causal import OVERLAP, CausalScorer
from stages.scoring.generation import Sampling
from stages.scoring.likelihood import Likelihoods


@dataclass(frozen=True)
class Answer:
    """`tokens`: that were written. `truncated`: written without all that stands before it."""

    text: str
    tokens: int
    truncated: bool


class LMEvalModel(LM):  # type: ignore[misc]
    """Answers lm-eval's requests with a CausalScorer.

    As lm-eval's own `hf` model does: an empty context is BOS or EOS, texts longer than the model
    are read in windows that overlap by one token, answers end at their `until`. But of a whole
    text the text is scored: where the tokenizer puts BOS in front, `hf` also scores a BOS after
    the BOS, which is no part of it and tuning moves at random. Its response cache is not used.
    """

    def __init__(self, scorer: CausalScorer, seed: int, max_length: int = UNLIMITED) -> None:
        """`seed`: what sampled answers derive from. `max_length`: the most tokens that are read
        at once, where the model's positions reach further."""
        super().__init__()
        self._scorer = scorer
        self._longest = min(max_length, scorer.tokenizer.longest)
        self._seed = seed

    def loglikelihood(self, requests: Sequence[Instance], **_: Any) -> list[tuple[float, bool]]:
        found = self.likelihoods(requests)
        return list(zip(found.logprobs.tolist(), found.greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: Sequence[Instance], **_: Any) -> list[float]:
        logprobs: list[float] = self.rolling(requests).logprobs.tolist()
        return logprobs

    def generate_until(self, requests: Sequence[Instance], **_: Any) -> list[str]:
        return [answer.text for answer in self.answers(requests)]

    def likelihoods(self, requests: Sequence[Instance]) -> Likelihoods:
        """Of continuations after their contexts."""
        return self._scorer.likelihoods([request.args for request in requests], self._longest)

    def rolling(self, requests: Sequence[Instance]) -> Likelihoods:
        """Of whole texts."""
        texts = [("", str(request.args[0])) for request in requests]
        return self._scorer.likelihoods(texts, self._longest, OVERLAP)

    def answers(self, requests: Sequence[Instance]) -> list[Answer]:
        """Requests with the same settings are answered together."""
        alike: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(index)
        found: dict[int, Answer] = {}
        for settings, indices in alike.items():
            contexts = [str(requests[index].args[0]) for index in indices]
            found.update(zip(indices, self._write(contexts, settings), strict=True))
        return [found[index] for index in range(len(requests))]

    def _write(self, contexts: Sequence[str], settings: str) -> list[Answer]:
        asked = dict(normalize_gen_kwargs(json.loads(settings)))
        until = [str(term) for term in asked["until"] if term]
        new = int(asked["max_gen_toks"])
        tokenizer = self._scorer.tokenizer
        room = self._longest - new
        if room < 1:
            raise UserError(f"max_gen_toks = {new}: the model reads {self._longest} tokens")
        prompts = [tokenizer.encode(context) for context in contexts]
        sample, temperature = None, float(asked.get("temperature", 1.0))  # as transformers' own
        if asked["do_sample"] and temperature > 0:
            sample = Sampling(temperature, float(asked.get("top_p", 1.0)), self._seed)
        cut = [prompt[-room:] for prompt in prompts]
        written = self._scorer.write(cut, new, sample, partial(self._ended, until))
        return [
            Answer(
                self._text(ids, until),
                len(ids),
                len(prompt) > room,
            )
            for prompt, ids in zip(prompts, written, strict=True)
        ]

    def _ended(self, until: Sequence[str], answer: TokenIds) -> bool:
        if not until:
            return False
        # A token has a byte or more, so a term stands in as many tokens as it has bytes.
        last = answer[-max(len(term.encode()) for term in until) :]
        tail = self._scorer.tokenizer.decode(last, special=True)
        return any(term in tail for term in until)

    def _text(self, answer: TokenIds, until: Sequence[str]) -> str:
        """Up to the first of `until`, which may have special tokens; those before are left out."""
        decode = self._scorer.tokenizer.decode
        wanted = postprocess_generated_text(decode(answer, special=True), until, None)
        hidden = (at for at, token in enumerate(answer) if not decode([token]))
        beyond = (at for at in hidden if decode(answer[:at], special=True).startswith(wanted))
        text: str = postprocess_generated_text(decode(answer[: next(beyond, None)]), until, None)
        return text
