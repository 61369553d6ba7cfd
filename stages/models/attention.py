"""Attention in fp32, in blocks of queries, for a CPU that multiplies bf16 without tiles."""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "palimpsest_blocks"
BLOCK = 32
"""Queries at once: their scores stay in the cache, and no key after the block is looked at."""
UNSEEN = torch.finfo(torch.float32).min
"""Not -inf: padding that sees nothing would be NaN."""


def block_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers has it for `sdpa`: query [batch, heads, queries, size], key and value [batch,
    key-value heads, keys, size] -> [batch, queries, heads, size].

    torch's own kernel for bf16 takes half as long again without AMX, and rounds the shares of the
    keys to bf16.
    """
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    (rows, heads, queries, size), (own, keys) = query.shape, key.shape[1:3]
    if not causal or kwargs.get("position_bias") is not None:
        left: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
        return left
    past = keys - queries
    # The heads that share keys are more queries of one head.
    grouped = query.float().mul_(scaling or size**-0.5)
    grouped = grouped.reshape(rows * own, heads // own, queries, size)
    key, value = (one.float().reshape(rows * own, keys, -1) for one in (key, value))
    out = query.new_empty(rows, queries, heads, value.shape[-1])
    for start in range(0, queries, BLOCK):
        end = min(start + BLOCK, queries)
        seen = past + end
        asked = grouped[:, :, start:end].reshape(rows * own, -1, size)
        scores = torch.bmm(asked, key[:, :seen].transpose(1, 2))
        scores = scores.view(rows, heads, end - start, seen)
        if attention_mask is None:
            later = torch.ones(end - start, end - start, dtype=torch.bool, device=query.device)
            scores[..., past + start :].masked_fill_(later.triu(1), UNSEEN)
        elif attention_mask.dtype == torch.bool:
            scores.masked_fill_(~attention_mask[:, :, start:end, :seen], UNSEEN)
        else:
            scores.add_(attention_mask[:, :, start:end, :seen])
        shares = scores.softmax(-1).view(rows * own, -1, seen)
        read = torch.bmm(shares, value[:, :seen]).view(rows, heads, end - start, -1)
        out[:, start:end] = read.transpose(1, 2)
    return out, None


AttentionInterface.register(NAME, block_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def attend_in_blocks(model: PreTrainedModel) -> None:
    """Let a causal model that attends by `sdpa` do so in blocks, where that is faster."""
    bf16 = model.device.type == "cpu" and model.dtype == torch.bfloat16
    tiles = torch.cpu._is_amx_tile_supported()
    if bf16 and not tiles and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
