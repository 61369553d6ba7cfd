"""Prompts are read before a model goes on from them."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from stages.models.causal import decoder
from stages.models.encoder import TokenIds, batches_by_tokens, pad
from stages.scoring.caches import Preamble, buffers, joined

AT_ONCE = 1024
"""Tokens, padding included. What is read with prompts of other lengths is mostly padding."""


def advance(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, cache: Cache | None
) -> tuple[Tensor, Any]:
    """Read `ids` [rows, tokens] after what `cache` holds -> their last states [rows, hidden] and
    the cache with them. `mask` [rows, all tokens]: 0 where one is padding."""
    body = decoder(model)
    given = {}
    # Models without position embeddings (ALiBi) take none.
    if "position_ids" in inspect.signature(body.forward).parameters:
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    outputs = body(
        input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given
    )
    return outputs.last_hidden_state[:, -1], outputs.past_key_values


def read_prompts(
    model: PreTrainedModel,
    prompts: Sequence[TokenIds],
    pad_id: int,
    preamble: Preamble | None,
    room: int | None,
) -> tuple[Tensor, Tensor, Any]:
    """Last states, mask and cache of prompts that follow `preamble`, the longest first.

    Padding stands on the left. `room`: tokens that each row will have at most; None where the
    model must keep its own cache, which cannot be put together from parts.
    """
    if room is None:
        ids, mask = _padded(prompts, pad_id, model.device)
        state, cache = advance(model, ids, mask, None)
        return state, mask, cache
    begun, longest = 0 if preamble is None else preamble.tokens, len(prompts[0])
    states, masks, caches = [], [], []
    for part in batches_by_tokens([len(prompt) for prompt in prompts], AT_ONCE):
        ids, mask = _padded([prompts[row] for row in part], pad_id, model.device)
        mask = torch.cat([mask.new_ones(len(part), begun), mask], dim=1)
        own = buffers(mask.shape[1], len(part), preamble)
        state, cache = advance(model, ids, mask, own)
        states.append(state)
        caches.append(cache)
        gap = mask.new_zeros(len(part), longest - ids.shape[1])
        masks.append(torch.cat([mask[:, :begun], gap, mask[:, begun:]], dim=1))
    return torch.cat(states), torch.cat(masks), joined(caches, begun, room)


def _padded(
    prompts: Sequence[TokenIds], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    ids, mask = pad([prompt[::-1] for prompt in prompts], pad_id, device)
    return ids.flip(1), mask.flip(1)
