"""Documents one after another in one row, none of which sees another: training without padding."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from stages.models.alike import alike
from stages.models.dropout import factors, kept
from stages.models.layout import EXACT, Documents, Sees

NAME = "palimpsest_documents"
PROBE = [[5, 7, 5, 6], [6, 5], [7, 5, 5]]
"""Documents that a model is tried out on."""


class _Attend(torch.autograd.Function):
    """softmax(scale Q K') V of each document by itself, and its gradient.

    The shares of the keys are not kept but taken again, from Q and K, as in Dao et al. 2022
    (arXiv 2205.14135, section 3.1). Scores and shares, and their gradients, are computed in fp32;
    products that are made of them have the dtype of V.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        documents: Documents,
        sees: Sees,
        scale: float,
        dropout: float,
    ) -> Tensor:
        """query [tokens, heads, size], key and value [tokens, key-value heads, size] -> like
        query, in the dtype of value."""
        out = documents.blank(value.new_empty(*query.shape[:2], value.shape[-1]))
        own, low = key.shape[1], value.dtype
        keep = []
        for part in documents.parts:
            q, k = part.apart(query, own, EXACT, scale), part.apart(key, own, EXACT)
            shares = _shares(q, k, part.bias(sees, own, query.shape[1] // own))
            if dropout:
                keep.append(kept(shares, dropout))
                shares *= factors(keep[-1], dropout, EXACT)
            part.together(shares.to(low) @ part.apart(value, own, low), out)
        ctx.save_for_backward(query, key, value, *keep)
        ctx.settings = documents, sees, scale, dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        query, key, value, *keep = ctx.saved_tensors
        documents, sees, scale, dropout = ctx.settings
        of_query, of_key, of_value = (
            documents.blank(torch.empty_like(one)) for one in (query, key, value)
        )
        own, low = key.shape[1], value.dtype
        for at, part in enumerate(documents.parts):
            q = part.apart(query, own, EXACT, scale)
            k, v, given = (part.apart(one, own, EXACT) for one in (key, value, grad))
            if not isinstance(part.inside, slice):
                # What stands past a document's end is another's, and has no gradient here.
                by_place = given.view(len(part.within), -1, part.within.shape[1], given.shape[-1])
                given = (by_place * part.within[:, None, :, None]).view_as(given)
            shares = _shares(q, k, part.bias(sees, own, query.shape[1] // own))
            of_shares, used = given @ v.transpose(1, 2), shares
            if dropout:
                left = factors(keep[at], dropout, EXACT)
                of_shares *= left
                used = shares * left
            part.together(used.to(low).transpose(1, 2) @ given.to(low), of_value)
            of_scores = torch._softmax_backward_data(of_shares, shares, -1, EXACT).to(low)
            part.together((of_scores @ k.to(low)).mul_(scale), of_query)
            part.together(of_scores.transpose(1, 2) @ q.to(low), of_key)
        return of_query, of_key, of_value, None, None, None, None


def _shares(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """[documents * own, queries, size] and [documents * own, keys, size] -> [documents * own,
    queries, keys]"""
    return torch.baddbmm(bias, q, k.transpose(1, 2)).softmax(-1)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    documents: Documents | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers has it for `sdpa`, which is also what is done without `documents`: query
    [1, heads, tokens, size], key and value [1, key-value heads, tokens, size] -> [1, tokens, heads,
    size]."""
    if documents is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
        return plain
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    sees = Sees(causal, kwargs.get("sliding_window"))
    if sees.window is not None and not causal:
        raise ValueError("windows to both sides are not known here")
    rows = (one[0].transpose(0, 1) for one in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        out = _Attend.apply(*rows, documents, sees, scale, dropout)  # type: ignore[no-untyped-call]
        return out[None], None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def read_documents(body: Any, ids: Tensor, within: Tensor, **given: Tensor) -> Tensor:
    """Token ids [batch, length], padded on the right where not `within` -> the last hidden states
    [batch, length, hidden], zeros at the padding, of which a thirty-second at most is
    computed.

    `given`: what else the body takes, [batch, length] each.
    """
    documents = Documents.of(within)
    tokens = documents.positions.shape[1]
    # Rows of one length are as many tokens at every step.
    more = 0 if len(ids) > 1 and tokens == within.numel() else -tokens % _step(tokens)
    row = {name: functional.pad(one[within][None], (0, more)) for name, one in given.items()}
    # What a method does to the embeddings of a text, it does to those of one text.
    embedded = body.get_input_embeddings()(ids)[within][None]
    hidden: Tensor = body(
        inputs_embeds=functional.pad(embedded, (0, 0, 0, more)),
        position_ids=functional.pad(documents.positions, (0, more)) + _first_position(body),
        # Looked at by nobody, but transformers would make one of every token by every other.
        attention_mask=within.new_ones(1, 1, 1, 1),
        documents=documents,
        use_cache=False,
        **row,
    ).last_hidden_state[0, :tokens]
    return hidden.new_zeros(*ids.shape, hidden.shape[-1]).masked_scatter(within[..., None], hidden)


def _step(tokens: int) -> int:
    """What a row's length is a multiple of. For each number of rows that it has not met oneDNN
    prepares the product with each shape of weight, which takes milliseconds."""
    return 1 << max(0, tokens.bit_length() - 6)


def _first_position(body: Any) -> int:
    """RoBERTa and its kin count from the one after that of padding."""
    table = getattr(getattr(body, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def let_read_documents(body: Any) -> bool:
    """Make a body, in fp32 and on the CPU, ready for `read_documents`, where it can be.

    It cannot where a token knows of others but by attention and by its position: where a state is
    carried along, or virtual tokens stand in front.
    """
    if body.config._attn_implementation not in ("sdpa", NAME):
        return False
    training = body.training
    body.eval().set_attn_implementation(NAME)
    try:
        fits = _fits(body)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        fits = False
    if not fits:
        body.set_attn_implementation("sdpa")
    body.train(training)
    return fits


@torch.no_grad()
def _fits(body: Any) -> bool:
    padding = body.config.pad_token_id or 0
    ids = pad_sequence([torch.tensor(one) for one in PROBE], True, padding)
    within = torch.arange(ids.shape[1]) < torch.tensor([[len(one)] for one in PROBE])
    found = read_documents(body, ids, within)[within]
    expected = body(input_ids=ids, attention_mask=within.long()).last_hidden_state[within]
    return alike(found, expected)
