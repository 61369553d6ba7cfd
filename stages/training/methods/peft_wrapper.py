"""PEFT's adapters, put around the model that a run trains."""

import warnings
from typing import Any

from stages.training.subject import Subject

ALL_LINEAR = {"target_modules": "all-linear"}


def wrap(subject: Subject, peft_type: str, settings: dict[str, Any]) -> None:
    """Freeze the body and put an adapter of this type around it; in all linear layers."""
    import peft  # seconds to import, so only where an adapter is wanted

    config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(peft_type)](
        **{**ALL_LINEAR, **settings}
    )
    with warnings.catch_warnings():
        # PEFT asks transformers by a name that transformers is about to drop.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        subject.body = peft.get_peft_model(subject.body, config)
