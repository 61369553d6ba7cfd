"""Block expansion, LLaMA Pro (Wu et al. 2024, arXiv 2401.02415): copies of blocks that do nothing
at first, and only they are trained."""

import copy
import re
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from stages.errors import UserError
from stages.models.causal import decoder, hidden_states
from stages.models.expanded import COPIES
from stages.training.methods.method import Fit, Method
from stages.training.methods.peft_wrapper import METHODS as ADAPTERS
from stages.training.subject import Subject

LAST = re.compile(r"(?:^|\.)(?:o_proj|out_proj|c_proj|dense|down_proj|fc2|fc_out|dense_4h_to_h)$")
"""What writes into the residual stream: the last linear layers of attention and of the MLP."""
PROBE = [[0, 1, 2, 3, 1]]
"""Token ids that every vocabulary has."""
MOOT = (*ADAPTERS, "ewc", "freeze", "l2-sp")
"""Methods that say how the base's weights may move, which here do not."""


class BlockExpansion(Method):
    """`blocks`: how many copies, evenly spread; each stands over the block that it copies."""

    name: ClassVar[str] = "block-expansion"
    blocks: Annotated[int, Field(ge=1)]

    def misfit(self, fit: Fit) -> str | None:
        if fit.model == "seq2seq":
            return "its copies are of a causal model's blocks; freeze or lora would fit"
        if fit.model != "causal":
            return (
                f"an {fit.model}'s blocks normalise the sum of what they read and write, so no "
                "copy of one does nothing; freeze or lora would fit"
            )
        others = [other for other in MOOT if other in fit.run.methods]
        if others:
            return f"trains its copies alone: leave out {', '.join(others)} or this"
        return None

    def grows(self) -> str | None:
        return "its copies of blocks have no weights in the base"

    def unmerged(self) -> str | None:
        return self.grows()

    def shape(self, subject: Subject) -> None:
        """Raises UserError where the model has fewer blocks, or where its copies change it."""
        model = subject.body
        where = f"runs.{subject.recipe.name}.methods.block-expansion.blocks = {self.blocks}"
        layers = decoder_layers(model)
        if self.blocks > len(layers):
            raise UserError(
                f"{where}: the model has {len(layers)} blocks: give {len(layers)} or less"
            )
        model.requires_grad_(False)
        ids = torch.tensor(PROBE, device=model.device)
        with torch.no_grad():
            before = hidden_states(model, ids, None)
            expand(model, self.blocks)
            if not torch.equal(hidden_states(model, ids, None), before):
                raise UserError(
                    f"{where}: copies of blocks change what a model of type "
                    f"{model.config.model_type!r} says: take freeze or lora"
                )


def decoder_layers(model: Any) -> nn.ModuleList:
    """The blocks of a causal model."""
    count = model.config.get_text_config().num_hidden_layers
    found: nn.ModuleList = next(
        module
        for module in decoder(model).modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    )
    return found


def expand(model: Any, blocks: int) -> None:
    """Put `blocks` copies into the model, in place; only they require gradients.

    Of L blocks the copied ones are the last of `blocks` groups in a row, as equal as can be
    (section 3.2). The weights that write into the residual stream are zero in a copy.
    """
    layers = decoder_layers(model)
    count = len(layers)
    copied = {(group + 1) * count // blocks - 1 for group in range(blocks)}
    order = [source for source in range(count) for _ in range(2 if source in copied else 1)]
    expanded: list[nn.Module] = []
    for place, source in enumerate(order):
        block = layers[source]
        if expanded and order[place - 1] == source:
            block = copy.deepcopy(block).requires_grad_(True)
            _silence(block)
        _number(block, place)
        expanded.append(block)
    del layers[:]
    layers.extend(expanded)
    config = model.config.get_text_config()
    config.num_hidden_layers = len(order)
    # Some models say of each layer which attention, or which positions, it has.
    for key, of_layers in list(vars(config).items()):
        if "layer" in key and isinstance(of_layers, list) and len(of_layers) == count:
            setattr(config, key, [of_layers[source] for source in order])
    model.config.update({COPIES: [at for at in range(1, len(order)) if order[at] == order[at - 1]]})


def _silence(block: nn.Module) -> None:
    for name, module in block.named_modules():
        if LAST.search(name):
            for weight in module.parameters(recurse=False):
                nn.init.zeros_(weight)


def _number(block: nn.Module, place: int) -> None:
    """A cache keeps the keys and values of each layer by its number."""
    for module in block.modules():
        if "layer_idx" in vars(module):
            vars(module)["layer_idx"] = place
