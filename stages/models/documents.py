"""Documents one after another in one row, none of which sees another: training without padding."""

import math
from dataclasses import dataclass, field
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

NAME = "palimpsest_documents"
PAIRS = 2**16
"""Of tokens, whose scores are held at once for each head; one document may have more."""
EXACT = torch.float32
"""Of scores and shares."""
UNSEEN = torch.finfo(EXACT).min
PROBE = [[5, 7, 5, 6], [6, 5], [7, 5, 5]]
"""Documents that a model is tried out on."""


@dataclass(frozen=True)
class Part:
    """Some documents, of like length.

    `within` [documents, longest]: whether a place is the document's own. `places`: which token of
    the row stands at each of them; past a document's end, the row's first. `inside`: those of the
    places that are a document's own, and `tokens`: what stands there.
    """

    within: Tensor
    places: Tensor | slice
    inside: Tensor | slice
    tokens: Tensor | slice
    biases: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, within: Tensor, places: Tensor) -> "Part":
        """`places` as `within`."""
        places = places.flatten()
        first = int(places[0])
        if within.all() and bool((places.diff() == 1).all()):
            there = slice(first, first + len(places))
            return cls(within, there, slice(len(places)), there)
        inside = within.flatten().nonzero()[:, 0]
        return cls(within, places, inside, places[inside])

    def apart(self, row: Tensor, own: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
        """[tokens, heads, size] -> [documents * own, heads / own * longest, size], times `scale`:
        heads that share a key are more queries of one head. Maybe no copy."""
        apart = _at(row, self.places).view(*self.within.shape, *row.shape[1:]).transpose(1, 2)
        if scale == 1.0:
            apart = apart.to(dtype, memory_format=torch.contiguous_format)
        else:
            apart = torch.mul(apart, scale, out=apart.new_empty(apart.shape, dtype=dtype))
        return apart.reshape(len(self.within) * own, -1, row.shape[-1])

    def bias(self, sees: "Sees", own: int, shared: int) -> Tensor:
        """As `Sees.bias`; one for all layers."""
        asked = sees, own, shared
        if asked not in self.biases:
            self.biases[asked] = sees.bias(self.within, own, shared)
        return self.biases[asked]

    def together(self, apart: Tensor, row: Tensor) -> None:
        """The way back, into those places of `row` that are the documents' own."""
        documents, longest = self.within.shape
        by_place = apart.view(documents, row.shape[1], longest, -1).transpose(1, 2).flatten(0, 1)
        row[self.tokens] = _at(by_place, self.inside).to(row.dtype)


def _at(row: Tensor, places: Tensor | slice) -> Tensor:
    """Of places one after another no copy is made."""
    return row[places] if isinstance(places, slice) else row.index_select(0, places)


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

    def blank(self, row: Tensor) -> Tensor:
        """Zeros at those tokens of a row [tokens and more, ...] that are of no document: nothing
        may be left there that is no number."""
        row[self.positions.shape[1] :] = 0
        return row


@dataclass(frozen=True)
class Sees:
    """What a token sees of its document: all; where `causal`, itself and what stands before it, of
    which the last `window` tokens where there is one."""

    causal: bool
    window: int | None

    def bias(self, within: Tensor, own: int, shared: int) -> Tensor:
        """What is added to the scores of `own` heads, each asked by `shared`, in fp32: 0, or so
        little that nothing is left of them, at what is not seen. [documents * own or 1, shared *
        longest or 1, longest]. Of padding, what its document sees."""
        if not self.causal:
            unseen = ~within.repeat_interleave(own, 0)[:, None]
        else:
            longest = within.shape[1]
            pairs = torch.ones(longest, longest, dtype=torch.bool, device=within.device)
            unseen = pairs.triu(1)
            if self.window is not None:
                unseen |= pairs.tril(-self.window)
            unseen = unseen.repeat(shared, 1)[None]
        return torch.zeros(unseen.shape, dtype=EXACT, device=within.device).masked_fill_(
            unseen, UNSEEN
        )


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
        made = of_query, of_key, of_value = [*map(torch.empty_like, (query, key, value))]
        for one in made:
            documents.blank(one)
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
        documents=documents,
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
