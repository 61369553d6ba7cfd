"""The head by which an encoder's base says masked words, put back on a body."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from stages.errors import UserError
from stages.models.encoder import Encoder, longest_input
from stages.models.pretrained import load_tokenizer, load_weights, reading_tokenizer
from stages.models.texts import Inputs


class Masking:
    """How an encoder's base reads texts whose words are masked. `folder`: the base's files.

    Raises UserError where the base has no token that masks, or no head that says what it masks.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self._folder, self._tokenizer = folder, load_tokenizer(folder)
        embedded = encoder.body.get_input_embeddings().weight.shape[0]
        mask_id = self._tokenizer.mask_token_id
        if mask_id is None or mask_id >= embedded:
            raise UserError(f"{folder}: the model knows no token that masks a word")
        self._longest = longest_input(encoder)
        self.mask_id: int = mask_id
        self.vocabulary: int = min(len(self._tokenizer), embedded)
        self.head = masked_head(folder, encoder.body)

    def read(self, texts: Sequence[str], max_length: int) -> Inputs:
        """Places: all tokens but those that the tokenizer adds. Items: where they begin and end in
        the text, in characters."""
        with reading_tokenizer(self._folder):
            encoded = self._tokenizer(
                list(texts),
                truncation=True,
                max_length=min(max_length, self._longest),
                return_offsets_mapping=True,
                return_special_tokens_mask=True,
            )
        added = encoded["special_tokens_mask"]
        places = [[at for at, one in enumerate(row) if not one] for row in added]
        offsets = zip(encoded["offset_mapping"], places, strict=True)
        items = [[row[at] for at in of_row] for row, of_row in offsets]
        return Inputs(list(encoded["input_ids"]), None, places, items)


class MaskedHead(nn.Module):
    """Last states [n, hidden] -> logits [n, vocabulary] in fp32."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = self.model(inputs_embeds=states[:, None]).logits[:, 0]
        return logits.float()


class _Read(nn.Module):
    """Stands where the body stood: what it is given has been read already."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.embeddings = getattr(body, "embeddings", None)  # the decoder of DeBERTa's own head

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


def masked_head(folder: Path, body: Any) -> MaskedHead:
    """The head of the base in `folder`, on `body`, tuned or not, in its device and dtype.

    The head's own weights are the base's, and are not trained. Where the base's decoder is its
    word embeddings, as most are, it is those of `body`: as whoever loads a tuned body and the
    base's head into one transformers model has it. Raises UserError where the base has no such
    head.
    """
    model, missing = load_weights(transformers.AutoModelForMaskedLM, folder)
    prefix = model.base_model_prefix
    if lacking := [key for key in missing if not key.startswith(f"{prefix}.")]:
        raise UserError(
            f"{folder}: the base has no head for masked words ({len(lacking)} weights missing, "
            f"{lacking[0]} first): leave such tasks out of this model's cases, or take a base "
            "that was published with its head"
        )
    where = next(body.parameters())
    own = body.get_base_model() if hasattr(body, "peft_config") else body
    setattr(model, prefix, own)
    model.tie_weights()
    setattr(model, prefix, _Read(own))
    head = MaskedHead(model).to(where.device, where.dtype).eval()
    shared = set(own.parameters())
    for weight in head.parameters():
        if weight not in shared:
            weight.requires_grad_(False)
    return head
