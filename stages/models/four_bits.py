"""A base model in 4 bits, for an adapter to be trained on (QLoRA; Dettmers et al. 2023, arXiv
2305.14314, section 3)."""

from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from stages.errors import UserError
from stages.models.device import device


def four_bits() -> dict[str, Any]:
    """What transformers is to be told when it loads: NF4, its constants quantised too; products are
    taken in bf16. Raises UserError without bitsandbytes or a GPU."""
    where = device()
    if find_spec("bitsandbytes") is None or where.type != "cuda":
        raise UserError(
            f"quantise = 4bit: needs bitsandbytes and a GPU (the device is {where}): "
            "`pip install bitsandbytes` on such a machine, or leave quantise out"
        )
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": settings, "device_map": {"": where}}
