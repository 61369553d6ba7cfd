"""A causal model and the examples of an lm-eval task -> records."""

import json
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from stages.scoring.causal import CausalScorer, Scored
from stages.scoring.frame import record_frame
from stages.scoring.lm_eval_model import LMEvalModel
from stages.tasks.examples import Examples
from stages.tasks.lm_eval_task import instances, judge, open_judge, score_of, told

Columns = dict[str, Any]
"""Of records, a value an example; `truncated` of it is none of theirs."""
OTHER = "(something else)"
"""The prediction where a model was asked about one continuation only, and prefers another."""
SIZES: dict[str, Callable[[str], int]] = {
    "acc_norm": len,
    "acc_bytes": lambda choice: len(choice.encode()),
}
"""What lm-eval divides a choice's log-likelihood by, for those of its metrics that do."""


def score_lm_eval(scorer: CausalScorer, examples: Examples, split: str) -> Scored:
    """One record a document, its score the task's metric; for text, nll and bytes instead.

    Raises UserError where the metric of a document is no number from 0 to 1.
    """
    task = examples.task
    metric = task.options["metric"]
    model = LMEvalModel(scorer, task.options["seed"], task.max_length)
    with open_judge(task) as judging:
        documents, requests = (map(json.loads, examples.column(c)) for c in ("doc", "requests"))
        asked = [
            instances(judging, document, arguments)
            for document, arguments in zip(documents, requests, strict=True)
        ]
        columns = ASK[judging.OUTPUT_TYPE](model, asked, examples)
        with told(f"task {task.name}"):
            results = judge(judging, asked)
            if judging.OUTPUT_TYPE == "loglikelihood_rolling":
                # The text that lm-eval counts need not be the one it asks: see its wikitext.
                columns["bytes"] = [int(of_document[metric][1]) for of_document in results]
            else:
                columns["score"] = [score_of(of_document, metric) for of_document in results]
    cut = np.asarray(columns.pop("truncated"), dtype=bool)
    ids = examples.rows["example_id"].to_numpy()[cut]
    return Scored(record_frame(examples, split, **columns), tuple(map(str, ids)))


def _multiple_choice(
    model: LMEvalModel, asked: Sequence[Sequence[Instance]], examples: Examples
) -> Columns:
    """Which of the choices? The prediction is what the task's metric goes by."""
    flat = list(chain(*asked))
    found = model.likelihoods(flat)
    _answered(flat, zip(found.logprobs.tolist(), found.greedy.tolist(), strict=True))
    starts = np.cumsum([len(one) for one in asked])[:-1]
    logprobs = np.split(found.logprobs, starts)
    choices = [[str(choice) for choice in row] for row in examples.rows["choices"]]
    answers = [[int(answer) for answer in row] for row in examples.rows["answers"]]
    # Mutual information has as many requests again, of the choices without their context.
    own = [row[: len(of)] for row, of in zip(logprobs, choices, strict=True)]
    shares = [log_softmax(row) for row in own]
    # A task has a likelihood for each of its examples, or for none: some may have no right answer.
    answered = all(answers)
    metric = examples.task.options["metric"]
    best = [_best(metric, *both) for both in zip(logprobs, choices, strict=True)]
    texts = [
        [str(request.args[1]) for request in one[: len(of)]]
        for one, of in zip(asked, choices, strict=True)
    ]
    return {
        "chance": [
            max(1, len(right)) / len(of) for right, of in zip(answers, choices, strict=True)
        ],
        "nll": [
            max(0.0, -float(logsumexp(row[right]))) if answered else None
            for row, right in zip(shares, answers, strict=True)
        ],
        "bytes": [_bytes(str(one[0].args[0]), *row) for one, row in zip(asked, texts, strict=True)],
        "tokens": [
            int(row[: len(of)].sum())
            for row, of in zip(np.split(found.tokens, starts), choices, strict=True)
        ],
        "choice_logprobs": own,
        "choice_bytes": [[_bytes(text.lstrip()) for text in row] for row in texts],
        "probabilities": [np.exp(row).astype(np.float32) for row in shares],
        "prediction": [row[one].strip() for row, one in zip(choices, best, strict=True)],
        "target": examples.column("target"),
        "truncated": [bool(row.any()) for row in np.split(found.truncated, starts)],
    }


def _best(metric: str, logprobs: NDArray[np.float64], choices: list[str]) -> int:
    own = logprobs[: len(choices)]
    if metric == "acc_mutual_info":
        own = own - logprobs[len(choices) :]
    elif metric in SIZES:
        own = own / np.array([SIZES[metric](choice) for choice in choices])
    return int(own.argmax())


def _loglikelihood(
    model: LMEvalModel, asked: Sequence[Sequence[Instance]], examples: Examples
) -> Columns:
    """Is the continuation what the model would write? nll and bytes are the continuation's."""
    flat = [one for (one,) in asked]
    found = model.likelihoods(flat)
    _answered(flat, zip(found.logprobs.tolist(), found.greedy.tolist(), strict=True))
    target = examples.column("target")
    return {
        "chance": 0.0,
        "nll": -found.logprobs,
        "bytes": [_bytes(str(one.args[1])) for one in flat],
        "tokens": found.tokens,
        "prediction": [
            one if alike else OTHER for one, alike in zip(target, found.greedy, strict=True)
        ],
        "target": target,
        "truncated": found.truncated,
    }


def _rolling(model: LMEvalModel, asked: Sequence[Sequence[Instance]], _: Examples) -> Columns:
    """How likely is the text?"""
    flat = [one for (one,) in asked]
    found = model.rolling(flat)
    _answered(flat, found.logprobs.tolist())
    return {"nll": -found.logprobs, "tokens": found.tokens, "truncated": found.truncated}


def _generate_until(
    model: LMEvalModel, asked: Sequence[Sequence[Instance]], examples: Examples
) -> Columns:
    """What does the model write? The prediction is its first answer, before any filter; `bytes`
    are those of the context, `tokens` those of the answer."""
    flat = [one for (one,) in asked]
    repeats = flat[0].repeats
    answers = model.answers([one for one in flat for _ in range(repeats)])
    for start, one in enumerate(flat):
        one.resps = [answer.text for answer in answers[start * repeats : (start + 1) * repeats]]
    first = answers[::repeats]
    return {
        "chance": 0.0,
        "bytes": [_bytes(str(one.args[0])) for one in flat],
        "tokens": [answer.tokens for answer in first],
        "prediction": [answer.text.strip() for answer in first],
        "target": examples.column("target"),
        "truncated": [answer.truncated for answer in first],
    }


ASK: dict[str, Callable[[LMEvalModel, Sequence[Sequence[Instance]], Examples], Columns]] = {
    "multiple_choice": _multiple_choice,
    "loglikelihood": _loglikelihood,
    "loglikelihood_rolling": _rolling,
    "generate_until": _generate_until,
}
"""By lm-eval's output types."""


def _answered(flat: Sequence[Instance], answers: Any) -> None:
    """A likelihood is the same however often it is asked for."""
    for one, answer in zip(flat, answers, strict=True):
        one.resps = [answer] * one.repeats


def _bytes(*texts: str) -> int:
    return sum(len(text.encode()) for text in texts)
