"""What a model makes of texts: the states of every layer, and what comes out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.models.causal import decoder, head_logits
from stages.models.expanded import copies_of
from stages.models.loading import CausalModel, EncoderModel, Loaded, Seq2SeqModel
from stages.models.texts import TokenIds, batches_by_tokens, pad

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Batch:
    """Some texts, read. `rows` are their places among all; `mask` is 1 at their tokens."""

    rows: NDArray[np.intp]
    ids: Tensor
    mask: Tensor
    layers: tuple[Tensor, ...]
    """Embeddings and each layer's output, [rows, length, hidden]; the last is the model's. A copied
    layer's output stands for the layer that it copies."""


def body_of(loaded: Loaded) -> Any:
    return loaded.encoder.body if isinstance(loaded, EncoderModel) else loaded.model


@torch.inference_mode()
def read(loaded: Loaded, texts: Sequence[TokenIds], batch_tokens: int) -> Iterator[Batch]:
    """Batches of at most `batch_tokens`, padding included; the same ones for models of one kind."""
    body = body_of(loaded)
    model = _reader(loaded, body)
    where, copies = next(body.parameters()).device, copies_of(body)
    for rows in batches_by_tokens([len(ids) for ids in texts], batch_tokens):
        ids, mask = pad([texts[row] for row in rows], loaded.tokenizer.pad_id, where)
        found = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        # transformers' last entry is before the final norm in some models and after it in others.
        layers = (*found.hidden_states[:-1], found.last_hidden_state)
        # Virtual tokens stand in front of the text's own.
        own = (layer[:, -ids.shape[1] :] for at, layer in enumerate(layers) if at not in copies)
        yield Batch(rows, ids, mask, tuple(own))


def _reader(loaded: Loaded, body: Any) -> Any:
    """What reads a text: of a sequence-to-sequence model its encoder."""
    if isinstance(loaded, Seq2SeqModel):
        return body.get_encoder()
    return decoder(body) if isinstance(loaded, CausalModel) else body


def divergence(base: CausalModel, tuned: CausalModel, before: Batch, after: Batch) -> Floats:
    """KL(base || tuned) of the next token in nats, [rows]: the mean over a text's tokens."""
    # A text at a time: logits of a whole batch would be the most memory that the stage needs.
    lengths = before.mask.sum(1).tolist()
    return np.array(
        [
            _text_divergence(
                base, tuned, before.layers[-1][row, : n - 1], after.layers[-1][row, : n - 1]
            )
            for row, n in enumerate(lengths)
        ]
    )


@torch.inference_mode()
def _text_divergence(base: CausalModel, tuned: CausalModel, before: Tensor, after: Tensor) -> float:
    if not len(before):
        return 0.0
    first, second = (
        head_logits(loaded.model, states).log_softmax(-1)
        for loaded, states in ((base, before), (tuned, after))
    )
    # Of models on several devices the heads may be apart.
    return float((first.exp() * (first - second.to(first.device))).sum(-1).mean())


def vectors(loaded: Loaded, texts: Sequence[TokenIds], batch_tokens: int) -> Floats:
    """One vector a text, [n, hidden] in fp32: the mean of its tokens' last states."""
    found: dict[int, Floats] = {}
    for batch in read(loaded, texts, batch_tokens):
        found.update(zip(batch.rows.tolist(), pooled(batch), strict=True))
    return np.stack([found[row] for row in range(len(texts))])


def pooled(batch: Batch) -> Floats:
    """The mean of each text's last states, [rows, hidden] in fp32."""
    states = batch.layers[-1].float()
    # Of a model on several devices the last layer is elsewhere than what is read.
    mask = batch.mask.to(states.device).unsqueeze(-1).float()
    mean = (states * mask).sum(1) / mask.sum(1)
    return np.asarray(mean.cpu().numpy())
