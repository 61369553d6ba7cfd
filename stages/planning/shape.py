"""How large a model is: what its cost depends on, from its config.json, without its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from stages.config.models import ModelConfig
from stages.errors import UserError
from stages.models.bounded import bounded
from stages.models.encoder import UNLIMITED
from stages.models.manifest import fetched
from stages.models.pretrained import AUTO, reason, silence
from stages.storage import read_json

MOST_TENSORS, MOST_ELEMENTS = 100_000, 10**12
ASPECT = 128
"""Width over layers of a model of which only its size is known: that of the large models of Brown
et al. 2020 (arXiv 2005.14165, table 2.1)."""
PAPER_VOCABULARY = 32_000


@dataclass(frozen=True)
class Shape:
    """`parameters`: all of them. `body`: of them those of the blocks, by which every token is
    multiplied; of two `stacks`, an encoder and a decoder, by one of them. `keys`: width of a
    layer's keys, its values are alike. `ends`: inputs and outputs of all linear layers of the
    blocks; LoRA adds its rank times that. `longest`: tokens that its positions reach."""

    parameters: int
    body: int
    layers: int
    width: int
    vocabulary: int
    keys: int
    ends: int
    causal: bool
    stacks: int = 1
    longest: int = UNLIMITED


def settings_of(config: ModelConfig) -> Path:
    """A folder with the settings and tokenizer of a model of params.yaml. Of a model on a hub no
    weights are fetched. Raises UserError, see sources."""
    return fetched(config, weights=False)[0]


def of_config(folder: Path, kind: str) -> Shape:
    """Of the model that transformers builds from `folder`/config.json; nothing is allocated."""
    silence()
    causal = kind != "encoder"
    auto = getattr(transformers, AUTO[kind])
    try:
        settings = read_json(folder / "config.json")
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with bounded(settings, MOST_TENSORS, MOST_ELEMENTS), torch.device("meta"):
            model = auto.from_config(config, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # settings of the wrong type fail wherever they are first used
        raise UserError(f"{folder}: no settings of a model: {reason(error)}") from None
    return _measured(model, causal)


def _measured(model: Any, causal: bool) -> Shape:
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # as stages/models/encoder.py does
    model.tie_weights()
    config = model.config.get_text_config()
    parameters = sum(one.numel() for one in model.parameters())
    tables = {
        id(one.weight): one.weight for one in model.modules() if isinstance(one, nn.Embedding)
    }
    head = model.get_output_embeddings() if causal else None
    if head is not None:
        tables[id(head.weight)] = head.weight
    linear = [one for one in model.modules() if isinstance(one, nn.Linear) and one is not head]
    heads = config.num_attention_heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    longest = getattr(config, "max_position_embeddings", None)
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Shape(
        parameters=parameters,
        body=parameters - sum(one.numel() for one in tables.values()),
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        keys=keys * head_width,
        ends=sum(one.in_features + one.out_features for one in linear),
        causal=causal,
        stacks=2 if config.is_encoder_decoder else 1,
        longest=longest if isinstance(longest, int) else UNLIMITED,
    )


def on_paper(parameters: float, causal: bool) -> Shape:
    """A decoder or encoder of so many `parameters` in all, of the usual proportions: matrices of 12
    width^2 a layer, as many heads of keys as of queries, a vocabulary of 32,000 and, of a causal
    model, a head of its own. Raises UserError where that leaves nothing for the blocks."""
    layers = max(1, round((parameters / (12 * ASPECT**2)) ** (1 / 3)))
    width = max(1, round((parameters / (12 * layers)) ** 0.5))
    body = parameters - (1 + causal) * PAPER_VOCABULARY * width
    if body <= 0:
        raise UserError(f"--parameters {parameters:g}: too few; 1e8 or more")
    return Shape(
        parameters=round(parameters),
        body=round(body),
        layers=layers,
        width=width,
        vocabulary=PAPER_VOCABULARY,
        keys=width,
        ends=18 * width * layers,
        causal=causal,
    )
