"""Documents one after another in one row, none of which sees another: training without padding."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from stages.models.alike import alike

NAME = "palimpsest_documents"
PAIRS = 2**14
"""Of tokens, whose scores are held at once for each head; one document may have more."""
UNSEEN = torch.finfo(torch.float32).min
PROBE = [[5, 7, 5, 6], [6, 5], [7, 5, 5]]
"""Documents that a model is tried out on."""


@dataclass(frozen=True)
class Part:
    """Some documents, of like length.

    `within` [documents, longest]: whether a place is the document's own. `places` [documents *
    longest]: which token of the row stands there; past a document's end, the row's first. `inside`:
    those of the places that are a document's own, and `tokens`: what stands there.
    """

    within: Tensor
    places: Tensor
    inside: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, within: Tensor, places: Tensor) -> "Part":
        inside = within.flatten().nonzero()[:, 0]
        return cls(within, places.flatten(), inside, places.flatten()[inside])

    def apart(self, row: Tensor, own: int) -> Tensor:
        """[tokens, heads, size] -> [documents * own, heads / own * longest, size] in fp32: heads
        that share a key are more queries of one head."""
        apart = row.index_select(0, self.places).float()
        apart = apart.view(*self.within.shape, *row.shape[1:]).transpose(1, 2)
        return apart.reshape(len(self.within) * own, -1, row.shape[-1])

    def together(self, apart: Tensor, row: Tensor) -> None:
        """The way back, into those places of `row` that are the documents' own."""
        documents, longest = self.within.shape
        by_place = apart.view(documents, row.shape[1], longest, -1).transpose(1, 2).flatten(0, 1)
        found = by_place.index_select(0, self.inside).to(row.dtype)
        row.index_copy_(0, self.tokens, found)


@dataclass(frozen=True)
class Documents:
    """Where documents lie in a row of all their tokens: `parts`, documents of like length in each.

    `positions` [1, tokens]: of each token in its document.
    """

    positions: Tensor
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, within: Tensor) -> "Documents":
        """`within` [documents, longest]: of documents padded on the right."""
        lengths = within.sum(1)
        steps = torch.arange(within.shape[1], device=within.device)
        places = ((lengths.cumsum(0) - lengths)[:, None] + steps).where(within, 0)
        parts, start = [], 0
        by_length = lengths.argsort(stable=True)
        squares = lengths[by_length].square().tolist()
        for end in range(1, len(squares) + 1):
            if end == len(squares) or squares[end] * (end + 1 - start) > PAIRS:
                chosen, longest = by_length[start:end], math.isqrt(squares[end - 1])
                parts.append(Part.of(within[chosen, :longest], places[chosen, :longest]))
                start = end
        return cls(steps.expand_as(within)[within][None], tuple(parts))


@dataclass(frozen=True)
class Sees:
    """What a token sees of its document: all; where `causal`, itself and what stands before it, of
    which the last `window` tokens where there is one."""

    causal: bool
    window: int | None

    def unseen(self, within: Tensor) -> Tensor:
        """[documents, 1, queries or 1, keys]; of padding, what its document does not see."""
        if not self.causal:
            return ~within[:, None, None]
        longest = within.shape[1]
        pairs = torch.ones(longest, longest, dtype=torch.bool, device=within.device)
        later = pairs.triu(1)
        return later if self.window is None else later | pairs.tril(-self.window)


class _Attend(torch.autograd.Function):
    """softmax(scale Q K') V of each document by itself, in fp32, and its gradient.

    The shares of the keys are not kept but taken again, from Q and K, as in Dao et al. 2022
    (arXiv 2205.14135, section 3.1).
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
        own = key.shape[1]
        out = value.new_empty(*query.shape[:2], value.shape[-1])
        kept = []
        for part in documents.parts:
            q, k, v = (part.apart(one, own) for one in (query, key, value))
            shares = _shares(q.mul_(scale), k, part.within, sees)
            if dropout:
                kept.append(torch.rand_like(shares) >= dropout)
                shares *= kept[-1]
                shares /= 1 - dropout
            part.together(shares @ v, out)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.settings = documents, sees, scale, dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        query, key, value, *kept = ctx.saved_tensors
        documents, sees, scale, dropout = ctx.settings
        of_query, of_key, of_value = map(torch.empty_like, (query, key, value))
        own = key.shape[1]
        for at, part in enumerate(documents.parts):
            q, k, v = (part.apart(one, own) for one in (query, key, value))
            given = part.apart(grad, own)
            # What stands past a document's end is another's, and has no gradient here.
            given.view(len(part.within), -1, part.within.shape[1], given.shape[-1]).mul_(
                part.within[:, None, :, None]
            )
            shares = _shares(q.mul_(scale), k, part.within, sees)
            of_shares, used = given @ v.transpose(1, 2), shares
            if dropout:
                of_shares *= kept[at]
                of_shares /= 1 - dropout
                used = shares * kept[at]
                used /= 1 - dropout
            part.together(used.transpose(1, 2) @ given, of_value)
            of_scores = of_shares.sub_((of_shares * shares).sum(-1, keepdim=True)).mul_(shares)
            part.together((of_scores @ k).mul_(scale), of_query)
            part.together(of_scores.transpose(1, 2) @ q, of_key)
        return of_query, of_key, of_value, None, None, None, None


def _shares(q: Tensor, k: Tensor, within: Tensor, sees: Sees) -> Tensor:
    """[documents * own, queries, size] and [documents * own, keys, size] -> [documents * own,
    queries, keys]"""
    documents, longest = within.shape
    scores = q @ k.transpose(1, 2)
    scores.view(documents, -1, longest, longest).masked_fill_(sees.unseen(within), UNSEEN)
    return torch.softmax(scores, -1)


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
    [batch, length, hidden], zeros at the padding, which is not computed.

    `given`: what else the body takes, [batch, length] each.
    """
    documents = Documents.of(within)
    row = {name: one[within][None] for name, one in given.items()}
    # What a method does to the embeddings of a text, it does to those of one text.
    embedded = body.get_input_embeddings()(ids)[within][None]
    hidden: Tensor = body(
        inputs_embeds=embedded,
        position_ids=documents.positions + _first_position(body),
        documents=documents,
        **row,
    ).last_hidden_state[0]
    return hidden.new_zeros(*ids.shape, hidden.shape[-1]).masked_scatter(within[..., None], hidden)


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
