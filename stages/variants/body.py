"""What variants change of a loaded model: its weights, and its linear layers."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from stages.errors import UserError
from stages.models.expanded import copies_of
from stages.models.loading import EncoderModel, Loaded


def body_of(loaded: Loaded) -> Any:
    return loaded.encoder.body if isinstance(loaded, EncoderModel) else loaded.model


def weights_of(loaded: Loaded, name: str) -> dict[str, Tensor]:
    """The weights of a model that variant `name` mixes with those of others.

    Raises UserError where it has some that its base lacks: virtual tokens or copies of blocks.
    """
    body = body_of(loaded)
    if hasattr(body, "peft_config"):
        raise UserError(f"{name}: virtual tokens are no change of weights: leave it out")
    if copies_of(body):
        raise UserError(f"{name}: copies of blocks have no weights in the base: leave it out")
    return dict(body.named_parameters())


def linear_layers(loaded: Loaded) -> Iterator[tuple[nn.Module, str, Any]]:
    """(parent, its attribute, the layer) of each linear layer but the vocabulary head, whose
    weights are often the embeddings as well. GPT-2's layers are `Conv1D`."""
    body = body_of(loaded)
    head = None if isinstance(loaded, EncoderModel) else body.get_output_embeddings()
    for parent in list(body.modules()):
        for attribute, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear | Conv1D) and layer is not head:
                yield parent, attribute, layer
