"""How likely an encoder finds a text: each of its tokens masked in turn."""

from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.errors import UserError
from stages.models.encoder import Encoder
from stages.models.finite import first_wrong_output, not_finite
from stages.models.masked import Masking
from stages.models.texts import Inputs, TokenIds, batches_by_tokens, pad

HEAD_STATES = 256
"""States that the head is applied to at once: 30 MB of logits of 30,000 tokens."""


@torch.inference_mode()
def pseudo_log_likelihoods(
    encoder: Encoder,
    masking: Masking,
    inputs: Inputs,
    pad_id: int,
    batch_tokens: int,
) -> NDArray[np.float64]:
    """Of n rows, [n], natural log: the sum over a row's places of the log-probability of the token
    there, that token alone being masked (Salazar et al. 2020, arXiv 1910.14659, equation 1).

    A word of several tokens looks likelier than it is, since each tells of the others (Kauf and
    Ivanova 2023, arXiv 2305.10588); before and after alike. A batch has at most `batch_tokens`,
    padding included. Raises UserError on a value that is not finite.
    """
    assert inputs.places is not None
    copies = [(row, place) for row, places in enumerate(inputs.places) for place in places]
    sums = np.zeros(len(inputs))
    for batch in batches_by_tokens([len(inputs.ids[row]) for row, _ in copies], batch_tokens):
        asked = [copies[index] for index in batch]
        read = partial(_read, encoder, masking, inputs.ids, asked, pad_id)
        found = read()
        if not np.isfinite(found).all():
            origin = first_wrong_output(encoder, read)
            raise UserError(not_finite(f"masked words of some of {len(inputs)} texts are", origin))
        np.add.at(sums, [row for row, _ in asked], found)
    return sums


def shared_places(one: Inputs, other: Inputs) -> tuple[Inputs, Inputs]:
    """The same rows, each with those places alone whose tokens the row beside it has too, in the
    same order."""
    kept: list[tuple[list[int], list[int]]] = []
    for rows in zip(one.ids, other.ids, one.places or (), other.places or (), strict=True):
        ids, places = rows[:2], rows[2:]
        first, second = ([row[at] for at in there] for row, there in zip(ids, places, strict=True))
        blocks = SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
        kept.append(
            (
                [places[0][at] for block in blocks for at in range(block.a, block.a + block.size)],
                [places[1][at] for block in blocks for at in range(block.b, block.b + block.size)],
            )
        )
    return Inputs(one.ids, None, [row[0] for row in kept]), Inputs(
        other.ids, None, [row[1] for row in kept]
    )


def _read(
    encoder: Encoder,
    masking: Masking,
    ids: Sequence[TokenIds],
    asked: Sequence[tuple[int, int]],
    pad_id: int,
) -> NDArray[np.float64]:
    """Of each (row, place): the log-probability of its token."""
    where = next(encoder.parameters()).device
    read, mask = pad([ids[row] for row, _ in asked], pad_id, where)
    copies, places = torch.arange(len(asked)), torch.tensor([place for _, place in asked])
    targets = read[copies, places]
    read[copies, places] = masking.mask_id
    states = encoder.states(read, mask, None)[copies, places]
    parts = zip(torch.split(states, HEAD_STATES), torch.split(targets, HEAD_STATES), strict=True)
    found: list[Tensor] = [
        masking.head(some).log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        for some, wanted in parts
    ]
    return np.asarray(torch.cat(found).double().cpu().numpy())
