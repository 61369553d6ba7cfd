"""Settings with which each method is tried on a case of params.yaml: in test_methods_real.py, to
see that it trains and is scored; in methods.py, to see what it costs."""

from typing import Any

Tried = tuple[dict[str, dict[str, Any]], dict[str, Any]]
"""The methods of a run, and what else of the recipe is changed."""

REPLAYING = {"pool": "retain/train"}
FASTER = {"learning_rate": 1.0e-3}

MEDICAL: dict[str, Tried] = {
    "full": ({}, {}),
    "augment": ({"augment": {"swap": 0.1, "delete": 0.1, "copies": 2}}, {}),
    "balance": ({"balance": {"by": "sampling"}}, {}),
    "ewc": (
        {"ewc": {"strength": 1.0, "tasks": ["news-retrieval"], "rows": 64}},
        REPLAYING,
    ),
    "fgm": ({"fgm": {"epsilon": 0.5}}, {}),
    "l1": ({"l1": {"strength": 1.0e-6}}, {}),
    "l2": ({"l2": {"strength": 1.0e-4}}, {}),
    "l2-sp": ({"l2-sp": {"alpha": 0.01, "beta": 0.01}}, {}),
    "label-smoothing": ({"label-smoothing": {"share": 0.1}}, {}),
    "lora": ({"lora": {"r": 16}}, FASTER),
    "lora + l2-sp": ({"lora": {"r": 16}, "l2-sp": {"alpha": 0.01}}, FASTER),
    "lwf": ({"lwf": {"weight": 1.0}}, {}),
    "replay": ({"replay": {"fraction": 0.05, "tasks": ["news-retrieval"]}}, REPLAYING),
    "supervised-contrastive": (
        {"supervised-contrastive": {"weight": 0.1, "temperature": 0.1}},
        {},
    ),
}

NEWS: dict[str, Tried] = {
    "full": ({}, {}),
    "ewc": ({"ewc": {"strength": 1.0, "tasks": ["agreement"], "rows": 32}}, REPLAYING),
    "fgm": ({"fgm": {"epsilon": 0.5}}, {}),
    "l2-sp": ({"l2-sp": {"alpha": 0.01}}, {}),
    "label-smoothing": ({"label-smoothing": {"share": 0.1}}, {}),
    "lora": ({"lora": {"r": 16}}, FASTER),
    "lwf": ({"lwf": {"weight": 1.0, "temperature": 2.0}}, {}),
    "replay": ({"replay": {"fraction": 0.1, "tasks": ["agreement", "python-code"]}}, REPLAYING),
    "self-replay": ({"self-replay": {"fraction": 0.1, "length": 64}}, {}),
}

TRIED = {"medical-bert": MEDICAL, "news-gpt": NEWS}
"""By case and name. Add a line a method."""
