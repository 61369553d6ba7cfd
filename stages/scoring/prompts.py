"""Prompts are read before a model goes on from them."""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from stages.models.causal import decoder
from stages.models.texts import TokenIds, batches_by_tokens, pad
from stages.scoring.caches import Preamble, buffers, tokens_of

AT_ONCE = 1024
"""Tokens, padding included. What is read with prompts of other lengths is mostly padding."""


def advance(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, cache: Cache | None
) -> tuple[Tensor, Any]:
    """Read `ids` [rows, tokens] after what `cache` holds -> their last states [rows, hidden] and
    the cache with them. `mask` [rows, all tokens]: 0 where one is padding."""
    body = decoder(model)
    given = {}
    if _takes_positions(type(body).forward):
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    outputs = body(
        input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **given
    )
    return outputs.last_hidden_state[:, -1], outputs.past_key_values


@cache
def _takes_positions(forward: Callable[..., Any]) -> bool:
    """Models without position embeddings (ALiBi) take none."""
    return "position_ids" in inspect.signature(forward).parameters


def read_prompts(
    model: PreTrainedModel,
    prompts: Sequence[TokenIds],
    pad_id: int,
    preamble: Preamble | None,
    room: int | None,
) -> tuple[Tensor, Tensor, Any]:
    """Last states, mask and cache of prompts that follow `preamble`, the longest first.

    Padding stands on the left. `room`: tokens that each row will have at most; None where the
    model must keep its own cache, which cannot be filled in parts.
    """
    ids, mask = _padded(prompts, pad_id, model.device)
    if room is None:
        state, cache = advance(model, ids, mask, None)
        return state, mask, cache
    begun, longest = tokens_of(preamble), ids.shape[1]
    cache = buffers(model, len(prompts), room, preamble)
    mask = torch.cat([mask.new_ones(len(prompts), begun), mask], dim=1)
    states = []
    for part in batches_by_tokens([len(prompt) for prompt in prompts], AT_ONCE):
        # Rows that are short begin further on, so that all end at the same place.
        rows, gap = slice(part[0], part[-1] + 1), longest - len(prompts[part[0]])
        _aim(cache, rows, begun + gap)
        states.append(advance(model, ids[rows, gap:], mask[rows], cache)[0])
    _aim(cache, slice(len(prompts)), begun + longest)
    return torch.cat(states), mask, cache


def _aim(cache: Cache, rows: slice, end: int) -> None:
    for layer in cache.layers:
        layer.aim(rows, end)


def _padded(
    prompts: Sequence[TokenIds], pad_id: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    ids, mask = pad([prompt[::-1] for prompt in prompts], pad_id, device)
    return ids.flip(1), mask.flip(1)
