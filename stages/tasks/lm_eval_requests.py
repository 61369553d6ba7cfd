"""A document of an lm-eval task -> a row that holds it, and what a model is asked about it.

Requests are built in `prepare`, few-shot examples and all, so that scoring needs neither the data
nor a network, and base and run are asked the same to the letter.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd

from stages.storage import content_id
from stages.tasks.examples import COLUMNS


def text_of(document: Any) -> str:
    """A document as JSON; days and times as their ISO texts."""
    return json.dumps(document, ensure_ascii=False, default=_iso)


def _iso(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"its documents hold a {type(value).__name__}, which JSON cannot keep")


@dataclass(frozen=True)
class Shots:
    """How many examples stand before a document, and what they are drawn from."""

    count: int
    pool: list[Any]
    identities: list[str]
    seed: int

    def draw_for(self, task: Any, identity: str) -> None:
        """Make the task's examples depend on the seed and the document alone: they stay when
        other documents come and go. lm-eval takes a document out of its own examples in one
        case of several; here it is never among them."""
        if self.count:
            known = zip(self.pool, self.identities, strict=True)
            task.sampler.replace_df([one for one, other in known if other != identity])
        task.set_fewshot_seed(int(content_id(str(self.seed), identity), 16))


def draw_shots(task: Any, given: int | None, seed: int) -> Shots:
    """`given`: params.yaml's number of examples; None: the task's own."""
    own = task.config.num_fewshot if given is None else given
    pool = list(task.sampler.df) if own else []
    return Shots(own or 0, pool, [content_id(text_of(one)) for one in pool], seed)


def make_rows(task: Any, documents: Mapping[str, Any], shots: Shots) -> pd.DataFrame:
    """A row a document, given by identity, with the COLUMNS of the kind lm-eval.

    `doc` and `requests` are JSON; `choices` and `answers`, the indices of the right ones, are
    empty but for multiple choice.
    """
    rows = []
    for identity, document in documents.items():
        shots.draw_for(task, identity)
        requests = _requests(task, document, shots.count)
        choices = _choices(task, document)
        answers = _answers(task, document, choices)
        rows.append(
            {
                "text": _shown(task, document, requests, choices, answers),
                "choices": choices,
                "answers": answers,
                "target": _target(task, document, requests, choices, answers),
                "doc": text_of(document),
                "requests": json.dumps(requests, ensure_ascii=False),
                "group": identity,
                "slice": "all",
                "example_id": identity,
            }
        )
    columns = [*COLUMNS["lm-eval"], "group", "slice", "example_id"]
    return pd.DataFrame(rows, columns=columns)


def _requests(task: Any, document: Any, shots: int) -> list[list[Any]]:
    """The arguments of each request, in lm-eval's order."""
    prefix = task.doc_to_prefix(document)
    context = task.fewshot_context(document, num_fewshot=shots, gen_prefix=prefix)
    built = task.construct_requests(doc=document, ctx=context, metadata=(None, 0, 1))
    return [list(one.args) for one in (built if isinstance(built, list) else [built])]


def _choices(task: Any, document: Any) -> list[str]:
    if task.OUTPUT_TYPE != "multiple_choice":
        return []
    return [str(choice) for choice in task.doc_to_choice(document)]


def _answers(task: Any, document: Any, choices: list[str]) -> list[int]:
    """Indices of the right choices, as lm-eval reads its `gold`."""
    if not choices:
        return []
    gold = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    found = gold if isinstance(gold, list) else [gold]
    indices = [choices.index(one) if one in choices else one for one in found]
    return [one for one in indices if isinstance(one, int) and 0 <= one < len(choices)]


def _target(
    task: Any, document: Any, requests: list[list[Any]], choices: list[str], answers: list[int]
) -> str:
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return ""
    if choices:
        return " / ".join(choices[one].strip() for one in answers)
    if task.OUTPUT_TYPE == "loglikelihood":
        return str(requests[0][1]).strip()
    target = task.doc_to_target(document)
    if task.config.doc_to_choice is not None:
        target = task.doc_to_choice(document)[target]
    return " / ".join(map(str, target)) if isinstance(target, list) else str(target).strip()


def _shown(
    task: Any, document: Any, requests: list[list[Any]], choices: list[str], answers: list[int]
) -> str:
    """What a model could have read elsewhere: the question without its examples, with the answer
    where the two are one text."""
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return str(requests[0][0])
    if task.multiple_input:
        right = answers[0] if answers else 0
        return f"{choices[right]}{requests[right][1]}"
    question = str(task.doc_to_text(document))
    if task.OUTPUT_TYPE == "loglikelihood":
        return f"{question}{requests[0][1]}"
    return question if question.strip() else "\n".join(choices[one] for one in answers)
