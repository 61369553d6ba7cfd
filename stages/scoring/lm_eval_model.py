"""Our scorer as a model of lm-evaluation-harness."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from stages.errors import UserError
from stages.models.encoder import TokenIds
from stages.scoring.causal import OVERLAP, CausalScorer
from stages.scoring.generation import Sampling


class LMEvalModel(LM):  # type: ignore[misc]
    """Answers lm-eval's requests with a CausalScorer.

    As lm-eval's own `hf` model does: an empty context is BOS or EOS, texts longer than the model
    are read in windows that overlap by one token, answers end at their `until`. Its response
    cache is not used.
    """

    def __init__(self, scorer: CausalScorer, seed: int) -> None:
        """`seed`: what sampled answers derive from."""
        super().__init__()
        self._scorer = scorer
        self._longest = scorer.tokenizer.longest
        self._seed = seed

    def loglikelihood(self, requests: Sequence[Instance], **_: Any) -> list[tuple[float, bool]]:
        found = self._scorer.likelihoods([request.args for request in requests], self._longest)
        return list(zip(found.logprobs.tolist(), found.greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: Sequence[Instance], **_: Any) -> list[float]:
        texts = [("", str(request.args[0])) for request in requests]
        logprobs: list[float] = self._scorer.likelihoods(
            texts, self._longest, OVERLAP
        ).logprobs.tolist()
        return logprobs

    def generate_until(self, requests: Sequence[Instance], **_: Any) -> list[str]:
        """Requests with the same settings are answered together."""
        alike: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(index)
        answers = [""] * len(requests)
        for settings, indices in alike.items():
            contexts = [str(requests[index].args[0]) for index in indices]
            for index, answer in zip(indices, self._write(contexts, settings), strict=True):
                answers[index] = answer
        return answers

    def _write(self, contexts: Sequence[str], settings: str) -> list[str]:
        asked = dict(normalize_gen_kwargs(json.loads(settings)))
        until = [str(term) for term in asked["until"] if term]
        new = int(asked["max_gen_toks"])
        tokenizer = self._scorer.tokenizer
        if new >= self._longest:
            raise UserError(f"max_gen_toks = {new}: the model reads {self._longest} tokens")
        prompts = [tokenizer.encode(context)[-(self._longest - new) :] for context in contexts]
        sample = None
        if asked["do_sample"]:
            sample = Sampling(asked["temperature"], float(asked.get("top_p", 1.0)), self._seed)
        written = self._scorer.write(prompts, new, sample, partial(self._ended, until))
        texts = [tokenizer.decode(ids) for ids in written]
        return [postprocess_generated_text(text, until, None) for text in texts]

    def _ended(self, until: Sequence[str], answer: TokenIds) -> bool:
        if not until:
            return False
        # A token has a byte or more, so a term stands in as many tokens as it has bytes.
        tail = self._scorer.tokenizer.decode(answer[-max(len(term.encode()) for term in until) :])
        return any(term in tail for term in until)
