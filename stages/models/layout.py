"""Where documents lie in one row of all their tokens, and what a token sees of its own."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

PAIRS = 2**16
"""Of tokens, whose scores are held at once for each head; one document may have more."""
EXACT = torch.float32
"""Of scores and shares."""
UNSEEN = torch.finfo(EXACT).min


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
