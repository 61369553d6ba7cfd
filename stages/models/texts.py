"""Texts as an encoder reads them: tokens, segments of pairs, places; and batches of them."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.models.pretrained import load_tokenizer, reading_tokenizer
from stages.phases import phase
from stages.progress import patient

TokenIds = list[int]
TOKENISE = "tokenise"


@dataclass(frozen=True)
class Inputs:
    """Rows that an encoder reads.

    `segments`: of each row, 0 at the tokens of a pair's first text and 1 at those of its second;
    None where there are no pairs, or the model does not tell them apart. `places`: of each row, the
    tokens that are judged by their own states; None where a row is judged by its pooled states.
    `joined`: whether the states of its places are judged side by side, as one.
    `items`: of each row, what its places stand for. `owners`: the example of each row; None where
    every example is one row.
    """

    ids: list[TokenIds]
    segments: list[TokenIds] | None = None
    places: list[list[int]] | None = None
    items: list[list[Any]] | None = None
    owners: list[int] | None = None
    joined: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, rows: Iterable[int]) -> "Inputs":
        """Some of the rows."""
        rows = list(rows)
        segments = self.segments and [self.segments[row] for row in rows]
        return Inputs([self.ids[row] for row in rows], segments)

    def keys(self) -> list[tuple[tuple[int, ...], ...]]:
        """Of each row: rows of one key are read alike."""
        parts = [self.ids] if self.segments is None else [self.ids, self.segments]
        return list(zip(*(map(tuple, part) for part in parts), strict=True))

    def lengths(self, rows: Iterable[int]) -> list[int]:
        """Tokens of each of the rows."""
        return [len(self.ids[row]) for row in rows]

    def batch(
        self, rows: Iterable[int], pad_id: int, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Ids, mask and segments of some rows, [rows, longest], as Encoder.states takes them."""
        rows = list(rows)
        ids, mask = pad([self.ids[row] for row in rows], pad_id, device)
        if self.segments is None:
            return ids, mask, None
        return ids, mask, pad([self.segments[row] for row in rows], 0, device)[0]


class Tokenizer:
    """Texts to token ids, special tokens included, cut at the model's or the task's length."""

    def __init__(self, folder: Path, longest: int) -> None:
        self.folder = folder
        self._tokenizer = load_tokenizer(folder)
        self._longest = longest
        self.pad_id = self._tokenizer.pad_token_id or 0

    def __len__(self) -> int:
        """Tokens that it tells apart."""
        return len(self._tokenizer)

    @phase(TOKENISE)
    def __call__(self, texts: Sequence[str], max_length: int) -> list[TokenIds]:
        length = min(max_length, self._longest)
        with reading_tokenizer(self.folder):
            encoded = self._tokenizer(list(texts), truncation=True, max_length=length)
        return list(encoded["input_ids"])

    @phase(TOKENISE)
    def pairs(self, texts: Sequence[str], others: Sequence[str], max_length: int) -> Inputs:
        """Two texts at a time, cut from the end of the longer one first."""
        length = min(max_length, self._longest)
        with reading_tokenizer(self.folder):
            encoded = self._tokenizer(list(texts), list(others), truncation=True, max_length=length)
        return Inputs(list(encoded["input_ids"]), encoded.get("token_type_ids"))

    @phase(TOKENISE)
    def words(self, texts: Sequence[Sequence[str]], max_length: int) -> Inputs:
        """Texts of words each, read with a space between two. A place is a word's first token; its
        item is the word's number.

        A word that is cut off, or that the tokenizer has no token for, has no place.
        """
        length = min(max_length, self._longest)
        # Not is_split_into_words: byte-level BPE then reads a text of words without the spaces.
        with reading_tokenizer(self.folder):
            encoded = self._tokenizer(
                list(map(" ".join, texts)),
                truncation=True,
                max_length=length,
                return_offsets_mapping=True,
            )
        places, items = [], []
        for words, offsets in zip(texts, encoded["offset_mapping"], strict=True):
            first = _first_tokens(words, offsets)
            items.append(sorted(first))
            places.append([first[word] for word in items[-1]])
        return Inputs(list(encoded["input_ids"]), None, places, items)

    @phase(TOKENISE)
    def windows(self, questions: Sequence[str], contexts: Sequence[str], max_length: int) -> Inputs:
        """Each question with every part of its context, parts overlapping by a third of the length;
        of a question, what a third holds. Places: the first token, which stands for no answer, and
        those of the context. Items: where these begin and end in it, in characters.
        """
        length = min(max_length, self._longest)
        with reading_tokenizer(self.folder):
            encoded = self._tokenizer(
                [self._beginning(question, length // 3) for question in questions],
                list(contexts),
                truncation="only_second",
                max_length=length,
                stride=length // 3,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
            )
        places, items = [], []
        for row, offsets in enumerate(encoded["offset_mapping"]):
            parts = encoded.sequence_ids(row)
            places.append([0, *(at for at, part in enumerate(parts) if part == 1)])
            items.append([(0, 0), *(offsets[at] for at in places[-1][1:])])
        owners = list(encoded["overflow_to_sample_mapping"])
        segments = encoded.get("token_type_ids")
        return Inputs(list(encoded["input_ids"]), segments, places, items, owners)

    def at(self, texts: Sequence[str], signs: Sequence[Sequence[int]], max_length: int) -> Inputs:
        """Places: the tokens of these characters, side by side; of one not read the first token."""
        length = min(max_length, self._longest)
        with reading_tokenizer(self.folder):
            encoded = self._tokenizer(list(texts), truncation=True, max_length=length)
        places = [
            [encoded.char_to_token(row, place) or 0 for place in of_row]
            for row, of_row in enumerate(signs)
        ]
        return Inputs(list(encoded["input_ids"]), None, places, joined=True)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a whole text begins and ends, in characters."""
        read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return list(read["offset_mapping"])

    def room(self, max_length: int) -> int:
        """Tokens of a text that are read, special ones aside."""
        return min(max_length, self._longest) - int(self._tokenizer.num_special_tokens_to_add())

    def _beginning(self, text: str, tokens: int) -> str:
        offsets = self.offsets(text)
        return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]

    @phase(TOKENISE)
    def truncated(self, *columns: Sequence[str], max_length: int) -> int:
        """How many of the texts, or pairs of texts, are longer than what is read of them."""
        length = min(max_length, self._longest)
        return sum(len(row) > length for row in self._tokenizer(*map(list, columns))["input_ids"])


def _first_tokens(words: Sequence[str], offsets: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Of each word with a token, where its first one is; `offsets` are those of the tokens in the
    words with a space between two."""
    owners: list[int | None] = []
    for number, word in enumerate(words):
        owners += [*[number] * len(word), None]
    first: dict[int, int] = {}
    for at, (start, end) in enumerate(offsets):
        # A token may begin with the space before its word, or be nothing else.
        inside = [owner for owner in owners[start:end] if owner is not None]
        if inside:
            first.setdefault(inside[0], at)
    return first


def pad(rows: Sequence[TokenIds], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids of several texts -> ids and 0/1 mask, both [rows, longest]."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids.to(device), mask.to(device)


def batches_by_tokens(
    lengths: Sequence[int], batch_tokens: int, most: int = sys.maxsize, desc: str = "reading"
) -> Iterator[NDArray[np.intp]]:
    """Indices of rows of like length, longest first: at most `batch_tokens` with padding, and at
    most `most` rows, one at least. `desc`: what a bar says that is done with them."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    with patient(total=len(order), desc=desc, unit="text") as bar:
        while start < len(order):
            size = max(1, min(most, batch_tokens // lengths[order[start]]))
            yield (batch := order[start : start + size])
            bar.update(len(batch))
            start += size
