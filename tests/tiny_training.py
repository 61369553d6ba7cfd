"""Tiny models about to be trained: a subject of each kind, with rows made on the spot."""

from pathlib import Path
from typing import Any

import pandas as pd
import tiny
import tiny_causal
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from stages.config.runs import RunConfig
from stages.tasks.examples import Examples, Task, identify
from stages.training import order
from stages.training.methods.method import Method
from stages.training.objective import Objective
from stages.training.run import compose
from stages.training.subject import Recipe, Subject

LABELLED, PAIRED, TALES = "color-qa", tiny.RETRIEVAL, "tales"
KINDS = {LABELLED: "classification", PAIRED: "retrieval", TALES: "language-modelling"}


def config(**settings: Any) -> RunConfig:
    """A run of a few fp32 steps; the keys are those of the real file's first run."""
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    small = {
        "case": tiny.CASE,
        "pool": "target",
        "teacher": f"models/base/{tiny.CASE}.json",
        "methods": {},
        "steps": 6,
        "batch_size": 4,
        "precision": "fp32",
        "seeds": [0],
    }
    return RunConfig(**{**next(iter(real["runs"].values())), **small, **settings})


def rows(task: str, count: int = 40) -> Examples:
    """Examples of one of the tasks above, or of any task of tiny.LABELS."""
    kind = KINDS.get(task, "classification")
    if task == TALES:
        frame = pd.DataFrame({"prompt": "", "text": tiny_causal.texts()})
    else:
        frame = pd.DataFrame(tiny._rows(task))
    frame = identify(frame.head(count), kind).assign(slice="all", group="all")
    labels = tuple(sorted(set(frame["label"]))) if "label" in frame else ()
    return Examples(Task(task, kind, 24, labels, {}), frame.reset_index(drop=True))


def write_model(folder: Path, kind: str) -> None:
    (tiny if kind == "encoder" else tiny_causal).write_model(folder)


def subject(
    folder: Path,
    targets: tuple[str, ...] = (LABELLED,),
    retain: tuple[str, ...] = (),
    seed: int = 0,
    **settings: Any,
) -> Subject:
    """The model in `folder`, about to learn `targets`; not yet tokenised, see `compose`."""
    causal = targets == (TALES,)
    manifest = {"source": "file:own/model", "kind": "causal" if causal else "encoder"}
    head = {"head": None, "head_learning_rate": None} if causal or targets == (PAIRED,) else {}
    run = config(**{**head, **settings})
    train, other = [rows(task) for task in targets], [rows(task, 12) for task in targets]
    old = {task: rows(task) for task in retain}
    recipe = Recipe(
        "tiny-run", run, {**manifest, "pooling": "mean", "files": {}}, folder, train, other, old
    )
    AcceleratorState._reset_state(reset_partial_state=True)
    order.seed_step(seed, 0, 0)
    return Subject(recipe, seed, Accelerator(cpu=True, mixed_precision="no"))


def composed(folder: Path, methods: list[Method], **given: Any) -> tuple[Subject, Objective]:
    """A subject and what training it by these methods minimises."""
    made = subject(folder, **given)
    return made, compose(made, methods)


def parts(objective: Objective, step: int = 0, seed: int = 0) -> dict[str, torch.Tensor]:
    """The parts of the objective at a step, with that step's dropout."""
    order.seed_step(seed, step, 0)
    found: dict[str, torch.Tensor] = objective(seed, step)
    return found
