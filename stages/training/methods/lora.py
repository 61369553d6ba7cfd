"""LoRA through PEFT (Hu et al. 2021): low-rank additions to all linear layers."""

import warnings

import peft
from torch import nn

from stages.config.methods import LoraSettings


def attach(body: nn.Module, settings: LoraSettings) -> nn.Module:
    """Freeze `body` and add adapters; alpha is 2r unless given."""
    config = peft.LoraConfig(
        r=settings.r,
        lora_alpha=settings.lora_alpha or 2 * settings.r,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
    )
    with warnings.catch_warnings():
        # PEFT asks transformers by a name that transformers is about to drop.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        adapted: nn.Module = peft.get_peft_model(body, config)
    return adapted
