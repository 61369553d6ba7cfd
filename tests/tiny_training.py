"""Tiny models about to be trained, without the stages around them: rows made on the spot."""

from pathlib import Path
from typing import Any

import pandas as pd
import tiny
import tiny_causal
import torch
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from stages.config.runs import RunConfig
from stages.tasks.examples import Examples, Task, identify
from stages.training import order
from stages.training.encoder import EncoderTrainee
from stages.training.methods.method import Fit, Method
from stages.training.methods.table import chosen
from stages.training.objective import Objective
from stages.training.recipe import Recipe
from stages.training.run import compose
from stages.training.subject import Subject

KINDS = {
    "color-qa": "classification",
    "shape-topics": "linear-probe",
    "mood-words": "linear-probe",
    tiny.RETRIEVAL: "retrieval",
    "tales": "language-modelling",
    "proverbs": "multiple-choice",
}
LABELLED, PAIRED, TALES, CHOICES = tiny.TARGET, tiny.RETRIEVAL, "tales", "proverbs"
SMALL: dict[str, Any] = {"retain": (), "batch_size": 4}


def _rows(task: str) -> pd.DataFrame:
    if task == TALES:
        texts = [
            (" ".join(t.split()[:4]), " " + " ".join(t.split()[4:])) for t in tiny_causal.texts()
        ]
        return pd.DataFrame(texts, columns=["prompt", "text"])
    if task == CHOICES:
        firsts = [tale.partition(", and ")[0] for tale in tiny_causal.texts()]
        rows = [(first, [", and then", ", or else"], 0) for first in firsts]
        return pd.DataFrame(rows, columns=["context", "choices", "answer"])
    return pd.DataFrame(tiny._rows(task)).rename(columns={"family": "group"})


def examples(task: str, start: int = 0, stop: int | None = None) -> Examples:
    """Rows of a task of tests/tiny.py or of the tales."""
    kind, rows = KINDS[task], identify(_rows(task), KINDS[task])
    labels = tuple(sorted(set(rows["label"]))) if "label" in rows else ()
    about = Task(task, kind, 64 if task in (TALES, CHOICES) else 24, labels, {})
    return Examples(about, rows.iloc[start:stop].reset_index(drop=True))


def config(methods: dict[str, Any] | None = None, **settings: Any) -> RunConfig:
    """The first run of the real params.yaml, changed."""
    params = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    first = next(iter(params["runs"].values()))
    small: dict[str, Any] = {
        "case": tiny.CASE,
        "pool": "target",
        "teacher": f"models/base/{tiny.CASE}.json",
        "methods": methods or {},
        "steps": 6,
        "batch_size": 8,
        "precision": "fp32",
    }
    return RunConfig(**{**first, **small, **settings})


def subject(
    folder: Path,
    targets: tuple[str, ...] = (tiny.TARGET,),
    retain: tuple[str, ...] = tiny.RETAIN,
    seed: int = 0,
    **settings: Any,
) -> Subject:
    """The model in `folder`, about to learn the first 40 rows of each target."""
    causal = targets[0] in (TALES, CHOICES)
    kind = "causal" if causal else "encoder"
    headless = {"head": None, "head_learning_rate": None} if causal or targets == (PAIRED,) else {}
    recipe = Recipe(
        "toy",
        config(**{**headless, **settings}),
        {"source": "file:own/model", "kind": kind, "pooling": "mean", "files": {}},
        folder,
        [examples(task, 0, 40) for task in targets],
        [examples(task, 40, 60) for task in targets],
        {task: examples(task, 0, 40) for task in retain},
    )
    AcceleratorState._reset_state(reset_partial_state=True)
    order.seed_step(seed, 0, 0)
    return Subject(recipe, seed, Accelerator(cpu=True))


def objective(subject: Subject) -> Objective:
    """What a run with the subject's methods minimises."""
    return compose(subject, methods(subject.config))


def composed(folder: Path, methods: list[Method], **given: Any) -> tuple[Subject, Objective]:
    """A small subject, and what training it by these methods minimises."""
    made = subject(folder, **{**SMALL, **given})
    return made, compose(made, methods)


def parts(objective: Objective, step: int = 0, seed: int = 0) -> dict[str, Tensor]:
    """The parts of the objective at a step, with that step's dropout."""
    order.seed_step(seed, step, 0)
    found: dict[str, Tensor] = objective(seed, step)
    return found


def train(subject: Subject, objective: Objective, methods: list[Method], steps: int) -> None:
    """As the loop does it, at a high rate."""
    weights = [weight for weight in objective.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.02)
    objective.train()
    for number in range(steps):
        torch.autograd.backward(list(parts(objective, number).values()))
        optimizer.step()
        for method in methods:
            method.after_step(subject, number)
        optimizer.zero_grad()
    objective.eval()


def head(subject: Subject) -> nn.Linear:
    """Of the only target, which has one."""
    (stream,) = subject.targets
    assert isinstance(stream.trainee, EncoderTrainee) and stream.trainee.head
    return stream.trainee.head


def methods(run: RunConfig) -> list[Method]:
    return chosen("toy", run)


def misfit(
    methods: dict[str, Any], model: str = "encoder", target: str = "classification", **run: Any
) -> list[str]:
    """What is said of a run's methods; retain tasks are those of tests/tiny.py."""
    retain = {task: KINDS[task] for task in tiny.RETAIN}
    fit = Fit(config(methods, **run), model, {"target": target}, retain)
    found = (method.misfit(fit) for method in chosen("toy", fit.run))
    return [reason for reason in found if reason]
