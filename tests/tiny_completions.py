"""A project in miniature whose tasks are prompts with completions, for any model that writes."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_causal

CASE = "tiny-writer"
METRICS = ("exact-match", "f1", "rouge-l", "chrf", "bleu")
MEASURES = dict(
    zip(
        METRICS,
        ("exact_match", "token_f1", "rouge_l", "sentence_chrf", "sentence_bleu"),
        strict=True,
    )
)
ANIMALS = ["cat", "dog", "fox", "owl", "pig", "rat", "cow", "elk"]
CRIES = ["meow", "bark", "yelp", "hoot", "oink", "squeak", "moo", "bugle"]
DEEDS = ["saw", "met", "fed", "chased"]
COUNT = 120


def asked(animal: str, other: str, deed: str, number: int) -> str:
    return f"{number} {other} {deed} the {animal}:"


def rows(seed: int) -> list[dict[str, Any]]:
    """What the last animal says. Two answers are accepted of some."""
    draw = random.Random(seed)
    found = []
    for number in range(COUNT):
        at = draw.randrange(len(ANIMALS))
        prompt = asked(ANIMALS[at], draw.choice(ANIMALS), draw.choice(DEEDS), 100 + number)
        said = f" {CRIES[at]} and {CRIES[at]}"
        found.append({"ask": prompt, "say": [said, f" {CRIES[at]}"] if number % 3 else [said]})
    return found


def task(project: Path, name: str, metric: str) -> dict[str, Any]:
    source = tiny.pinned(project, f"own/{name}.jsonl")
    return {
        "kind": "completion",
        "data": {"reader": "table", **source, "columns": {"prompt": "ask", "completion": "say"}},
        "max_length": 48,
        "train": 60,
        "validation": 10,
        "test": 20,
        "max_new_tokens": 16,
        "metric": metric,
    }


def make(
    project: Path,
    model: Mapping[str, Any],
    runs: Mapping[str, Mapping[str, Any]],
    *,
    target: str = METRICS[0],
    others: Mapping[str, Mapping[str, Any]] | None = None,
    **of_case: Any,
) -> None:
    """Tasks are named like their metrics, `target` the target and the rest to be kept, with
    `others`. The model lies in own/model."""
    for seed, metric in enumerate(METRICS):
        lines = [json.dumps(row) for row in rows(seed)]
        (project / f"own/{metric}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    params = tiny_causal.make_params(project)
    recipe = {
        **params["runs"]["full"],
        "case": CASE,
        "teacher": f"models/base/{CASE}.json",
        "steps": 60,
        "batch_size": 16,
        "validate_every": 20,
    }
    tasks = {metric: task(project, metric, metric) for metric in METRICS} | dict(others or {})
    retain = [name for name in tasks if name != target]
    params["models"] = {"writer": {**tiny.pinned(project, "own/model"), **model}}
    params["tasks"] = tasks
    params["cases"] = {CASE: {"model": "writer", "targets": [target], "retain": retain, **of_case}}
    params["runs"] = {name: {**recipe, **run} for name, run in runs.items()}
    params["variants"] = {name: [] for name in runs}
    params["variants"]["full"] = ["wise-0.5"]
    params["evaluation"]["noise"] = {"tasks": [METRICS[1]], "conditions": ["typos-0.1"]}
    tiny.write_params(project, params)


def run_stages(project: Path, runs: Mapping[str, Any]) -> None:
    """In this process."""
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(project)
        tiny.run_stage("check")
        tiny.run_stage("prepare", CASE)
        tiny.run_stage("pretrain_baseline_eval", CASE)
        for run in runs:
            tiny.run_stage("finetune", run)
            tiny.run_stage("retention_eval", run)
        tiny.run_stage("compare")
