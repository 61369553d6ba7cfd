"""Settings with which each method is tried on a case of params.yaml: in test_methods_real.py, to
see that it trains and is scored; in methods.py, to see what it costs."""

from typing import Any

Tried = tuple[dict[str, dict[str, Any]], dict[str, Any]]
"""The methods of a run, and what else of the recipe is changed."""

REPLAYING = {"pool": "retain/train"}
FASTER = {"learning_rate": 1.0e-3}
FASTEST = {"learning_rate": 1.0e-2}
"""Of adapters with few parameters, which start small."""
SLOWER = {"learning_rate": 1.0e-4}
"""A few steps at the default run's rate end where they began."""
GENTLE = {"learning_rate": 2.0e-5}
"""From where a head starts that already fits."""


def _adapter(peft_type: str, **settings: Any) -> dict[str, dict[str, Any]]:
    return {"adapter": {"peft_type": peft_type, **settings}}


MEDICAL: dict[str, Tried] = {
    "full": ({}, {}),
    "LP-FT": ({}, {"head": "probe"} | GENTLE),
    "layer_decay": ({}, {"layer_decay": 0.8}),
    "cosine": ({}, {"schedule": "cosine"}),
    "restarts": ({}, {"schedule": "restarts", "cycles": 2}),
    "plateau": ({}, {"schedule": "plateau", "plateau": {"factor": 0.5, "patience": 1}}),
    "early_stopping": ({}, {"schedule": "constant", "early_stopping": 2}),
    "lora": ({"lora": {"r": 16}}, FASTER),
    "lora (use_dora)": ({"lora": {"r": 16, "use_dora": True}}, FASTER),
    "lora (use_rslora)": ({"lora": {"r": 16, "use_rslora": True}}, FASTER),
    "adalora": ({"adalora": {"target_r": 4, "init_r": 8, "tinit": 2, "tfinal": 2}}, FASTER),
    "adapter (IA3)": (_adapter("IA3"), FASTEST),
    "adapter (OFT)": (_adapter("OFT", oft_block_size=32), FASTER),
    "adapter (BOFT)": (_adapter("BOFT", boft_block_size=32), FASTER),
    "adapter (VERA)": (_adapter("VERA", r=64), FASTEST),
    "adapter (LOHA)": (_adapter("LOHA", r=8), FASTER),
    "adapter (LOKR)": (_adapter("LOKR", r=8), FASTER),
    "adapter (PREFIX_TUNING)": (_adapter("PREFIX_TUNING", num_virtual_tokens=8), FASTEST),
    "adapter (PROMPT_TUNING)": (_adapter("PROMPT_TUNING", num_virtual_tokens=8), FASTEST),
    "freeze": ({"freeze": {"layers": 3}}, {}),
    "dropout": ({"dropout": {"p": 0.2}}, {}),
    "augment": ({"augment": {"swap": 0.1, "delete": 0.1, "copies": 2}}, {}),
    "balance (sampling)": ({"balance": {"by": "sampling"}}, {}),
    "balance (weights)": ({"balance": {"by": "weights"}}, {}),
    "label-smoothing": ({"label-smoothing": {"share": 0.1}}, {}),
    "replay": ({"replay": {"fraction": 0.05, "tasks": ["news-retrieval"]}}, REPLAYING),
    "ewc": ({"ewc": {"strength": 1.0, "tasks": ["news-retrieval"], "rows": 64}}, REPLAYING),
    "lwf": ({"lwf": {"weight": 1.0}}, {}),
    "l2-sp": ({"l2-sp": {"alpha": 0.01, "beta": 0.01}}, {}),
    "l1": ({"l1": {"strength": 1.0e-6}}, {}),
    "l2": ({"l2": {"strength": 1.0e-4}}, {}),
    "fgm": ({"fgm": {"epsilon": 0.5}}, {}),
    "supervised-contrastive": (
        {"supervised-contrastive": {"weight": 0.1, "temperature": 0.1}},
        {},
    ),
    "distil": (
        {"distil": {"weight": 1.0, "temperature": 2.0}},
        {"teacher": "models/tuned/bert-full"},
    ),
    "self-training": (
        {"self-training": {"threshold": 0.3, "fraction": 0.3}},
        {"draw": {"rows": 160}, "teacher": "models/tuned/bert-full"},
    ),
    "replay + lora + l2-sp": (
        {
            "replay": {"fraction": 0.05, "tasks": ["news-retrieval"]},
            "lora": {"r": 16},
            "l2-sp": {"alpha": 0.01},
        },
        FASTER | REPLAYING,
    ),
}

NEWS: dict[str, Tried] = {
    "full": ({}, {}),
    "lora": ({"lora": {"r": 16}}, FASTER),
    "block-expansion": ({"block-expansion": {"blocks": 3}}, FASTER),
    "freeze": ({"freeze": {"layers": 15}}, {}),
    "replay": ({"replay": {"fraction": 0.1, "tasks": ["agreement", "python-code"]}}, REPLAYING),
    "self-replay": ({"self-replay": {"fraction": 0.1, "length": 64}}, SLOWER),
    "ewc": ({"ewc": {"strength": 1.0, "tasks": ["agreement"], "rows": 32}}, REPLAYING),
    "lwf": ({"lwf": {"weight": 1.0, "temperature": 2.0}}, {}),
    "l2-sp": ({"l2-sp": {"alpha": 0.01}}, {}),
    "label-smoothing": ({"label-smoothing": {"share": 0.1}}, {}),
    "fgm": ({"fgm": {"epsilon": 0.5}}, {}),
}

TRIED = {"medical-bert": MEDICAL, "news-gpt": NEWS}
"""By case and name. Add a line a method."""
