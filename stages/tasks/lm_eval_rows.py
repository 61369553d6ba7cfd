"""A task of params.yaml that is lm-eval's -> its documents, split, with what is asked of each."""

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import pandas as pd

from stages.config.readers import LmEval
from stages.config.reading import mistake
from stages.config.tasks import TaskConfig
from stages.errors import UserError
from stages.storage import content_id
from stages.tasks.examples import SPLITS
from stages.tasks.lm_eval_metric import choose_metric
from stages.tasks.lm_eval_requests import draw_shots, make_rows, text_of
from stages.tasks.lm_eval_source import check_asked, find, pinned
from stages.tasks.lm_eval_task import (
    definitions,
    instances,
    judge,
    make_task,
    narrowed,
    read_config,
    score_of,
    told,
)
from stages.tasks.splitting import Split

Documents = dict[str, Any]
"""By the hash of their content."""
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What lm-eval calls the most tokens of an answer; the first that is given counts."""
UNSAID = 256
"""That many where none is given."""
FOLLOWED = ("until", "do_sample", "temperature", "top_p", *LENGTHS)
NEUTRAL = {"num_beams": 1, "num_return_sequences": 1, "repetition_penalty": 1}
"""What stages/scoring/lm_eval_model.py has no part of, where it asks nothing."""


def read_lm_eval(name: str, config: TaskConfig, data: LmEval, seed: int) -> Split:
    """Documents of the task's test split (of its validation split where it has none) fill test,
    then validation; its training split, or else what is left, fills train.

    They are taken in the order of a hash with `seed`, equal ones once. Raises UserError where
    the task or its data cannot be had, and where test or validation would be empty.
    """
    key = f"tasks.{name}.data"
    datasets.disable_progress_bars()
    datasets.disable_caching()  # by a function's name: another lm-eval may do otherwise
    with (
        definitions(data.include_path, data.sha256) as root,
        TemporaryDirectory() as cache,
        told(f"{key}.task = {data.task!r}"),
    ):
        file = find(key, data, root)
        whole = read_config(root / file)
        check_asked(key, whole, data.num_fewshot)
        metric = choose_metric(key, whole, data.metric)
        chosen = narrowed(whole, metric, _choose_filter(key, whole, data.filter))
        kwargs, source = pinned(key, data, whole, cache)
        task = make_task({**chosen, "dataset_kwargs": kwargs})
        _check_written(name, config, task)
        read = task.task_docs
        documents = _distinct(read)
        placed = _place(name, config, documents, task, seed)
        shots = draw_shots(task, data.num_fewshot, seed)
        rows = {split: make_rows(task, placed[split], shots) for split in SPLITS}
        _try(key, task, rows["test"], metric)
        first = text_of(read[0])
    options = {
        "lm_eval": version("lm_eval"),
        "file": file,
        "include_path": data.include_path,
        "sha256": data.sha256,
        "source": source,
        "metric": metric,
        "filter": chosen["filter_list"][0]["name"] if chosen.get("filter_list") else None,
        "first": first,
        "seed": seed,
    }
    return Split(rows, len(read), 0, len(read) - len(documents), 0, options)


def _choose_filter(key: str, config: Mapping[str, Any], wanted: str | None) -> str | None:
    """`wanted`, or the first one; None where the task has none."""
    names = [str(one["name"]) for one in config.get("filter_list") or []]
    if wanted is None:
        return names[0] if names else None
    if wanted not in names:
        instead = f"give one of {', '.join(names)}" if names else "it has none"
        raise UserError(
            mistake(f"{key}.filter", wanted, f"no filter of {config['task']}: {instead}")
        )
    return wanted


def _check_written(name: str, config: TaskConfig, task: Any) -> None:
    if task.OUTPUT_TYPE != "generate_until":
        return
    settings = task.config.generation_kwargs or {}
    for key, value in settings.items():
        if key not in FOLLOWED and value != NEUTRAL.get(key):
            reason = f"its generation_kwargs have {key}: {value}, which would not be followed here"
            raise UserError(mistake(f"tasks.{name}.data.task", task.config.task, reason))
    written = next((settings[key] for key in LENGTHS if key in settings), UNSAID)
    if written >= config.max_length:
        reason = f"{task.config.task} writes up to {written} tokens: no room is left to ask"
        raise UserError(mistake(f"tasks.{name}.max_length", config.max_length, reason))


def _distinct(documents: Iterable[Any]) -> Documents:
    """By identity; as what JSON keeps of them, for that is what will be judged."""
    texts = map(text_of, documents)
    return {content_id(text): json.loads(text) for text in texts}


def _place(
    name: str, config: TaskConfig, documents: Documents, task: Any, seed: int
) -> dict[str, Documents]:
    def ranked(found: Documents) -> list[str]:
        return sorted(found, key=lambda identity: content_id(str(seed), name, identity))

    order, middle = ranked(documents), config.test + config.validation
    chosen = {"test": order[: config.test], "validation": order[config.test : middle]}
    for split, part in chosen.items():
        if not part:
            raise UserError(
                f"task {name}: no documents are left for {split}: {len(documents)} distinct ones; "
                f"lower tasks.{name}.test"
            )
    placed = {split: {one: documents[one] for one in part} for split, part in chosen.items()}
    pool = {one: documents[one] for one in order[middle:]}
    if config.train and task.has_training_docs():
        pool = _distinct(task.training_docs())
    free = [one for one in ranked(pool) if one not in {*order[:middle]}]
    return {**placed, "train": {one: pool[one] for one in free[: config.train or 0]}}


def _try(key: str, task: Any, rows: pd.DataFrame, metric: str) -> None:
    """Judge made-up answers to one document: what cannot be judged is to fail before scoring."""
    fake = {"generate_until": "", "loglikelihood_rolling": -1.0}
    row = rows.iloc[0]
    asked = instances(task, json.loads(row["doc"]), json.loads(row["requests"]))
    for number, instance in enumerate(asked):
        answer = fake.get(task.OUTPUT_TYPE, (-1.0 - number, False))
        instance.resps = [answer] * task.config.repeats
    (results,) = judge(task, [asked])
    if metric not in results:
        named = ", ".join(map(str, results)) or "nothing"
        raise UserError(mistake(f"{key}.metric", metric, f"its results hold {named} instead"))
    if task.OUTPUT_TYPE != "loglikelihood_rolling":
        score_of(results, metric)
