"""An encoder: texts to one vector each."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.errors import UserError
from stages.models.documents import read_documents
from stages.models.finite import first_wrong_output, not_finite
from stages.models.pretrained import load_tokenizer, load_weights, reading_tokenizer
from stages.models.sharing import dealt
from stages.phases import phase
from stages.progress import patient

TokenIds = list[int]
UNLIMITED = 131_072
TOKENISE = "tokenise"
OFFSET_POSITIONS = (
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
)


class Encoder(nn.Module):
    """A transformer body and the pooling of its last hidden states."""

    body: Any  # a transformers model, or PEFT's wrapper of one

    def __init__(self, body: nn.Module, pooling: str) -> None:
        super().__init__()
        self.body = body
        self.pooling = pooling
        self.unpadded = False
        """Whether the body reads texts as documents of one row."""

        self._segmented = _reads_segments(body)

    def states(self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor | None) -> Tensor:
        """[batch, length] token ids, 0/1 mask and, of pairs, 0/1 segments -> the last states
        [batch, length, hidden], in the body's dtype. A body that does not tell segments apart is
        given none."""
        given = {"token_type_ids": segments} if segments is not None and self._segmented else {}
        if self.unpadded:
            return read_documents(self.body, input_ids, attention_mask.bool(), **given)
        hidden: Tensor = self.body(
            input_ids=input_ids, attention_mask=attention_mask, **given
        ).last_hidden_state
        return hidden[:, -input_ids.shape[1] :]  # virtual tokens stand in front, and stay out

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, segments: Tensor | None = None
    ) -> Tensor:
        """The same -> [batch, hidden], pooled."""
        hidden = self.states(input_ids, attention_mask, segments)
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        # Sums of hundreds of bf16 values lose digits; the mean is taken in fp32.
        total = (hidden * mask).sum(1, dtype=torch.float32)
        return (total / mask.sum(1, dtype=torch.float32)).to(hidden.dtype)


def _reads_segments(body: nn.Module) -> bool:
    """A tokenizer may tell of segments where the body has no embeddings for them (RoBERTa), or
    takes none (MPNet)."""
    taken = "token_type_ids" in inspect.signature(body.forward).parameters
    kinds = getattr(getattr(body, "config", None), "type_vocab_size", 2)
    return taken and kinds > 1


def load_encoder(folder: Path, pooling: str) -> Encoder:
    """Load an encoder in fp32, in evaluation mode. Raises UserError where it is none."""
    body, lacking = load_weights(transformers.AutoModel, folder)
    missing = [key for key in lacking if not key.startswith("pooler.")]
    if missing:
        named = ", ".join(missing[:3])
        raise UserError(f"{folder}: no whole encoder: {len(missing)} weights missing ({named})")
    if getattr(body, "pooler", None) is not None:
        body.pooler = None  # its output is not used: it would neither train nor be an adapter's
    return Encoder(body, pooling).eval()


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
        """Texts of words each. A place is a word's first token; its item is the word's number.

        A word that is cut off, or that the tokenizer has no token for, has no place.
        """
        length = min(max_length, self._longest)
        with reading_tokenizer(self.folder):
            encoded = self._tokenizer(
                list(map(list, texts)),
                is_split_into_words=True,
                truncation=True,
                max_length=length,
            )
        places, items = [], []
        for row in range(len(texts)):
            words = encoded.word_ids(row)
            first = {word: at for at, word in reversed(list(enumerate(words))) if word is not None}
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


def longest_input(encoder: Encoder) -> int:
    """Tokens that the positions of the model reach, special ones included, virtual ones not."""
    config = encoder.body.config
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int):
        return UNLIMITED
    adapter = getattr(encoder.body, "active_peft_config", None)
    virtual: int = getattr(adapter, "num_virtual_tokens", 0)
    # RoBERTa's positions start after the padding id.
    offset = config.pad_token_id + 1 if config.model_type in OFFSET_POSITIONS else 0
    return longest - offset - virtual


def pad(rows: Sequence[TokenIds], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids of several texts -> ids and 0/1 mask, both [rows, longest]."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad_id)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids.to(device), mask.to(device)


def batches_by_tokens(lengths: Sequence[int], batch_tokens: int) -> Iterator[NDArray[np.intp]]:
    """Indices of rows of like length, longest first, at most `batch_tokens` with padding."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    with patient(total=len(order), desc="reading", unit="text") as bar:
        while start < len(order):
            size = max(1, batch_tokens // lengths[order[start]])
            yield (batch := order[start : start + size])
            bar.update(len(batch))
            start += size


@torch.inference_mode()
def embed(
    encoder: Encoder, rows: Sequence[TokenIds] | Inputs, pad_id: int, batch_tokens: int
) -> NDArray[np.float32]:
    """Token ids of n texts -> [n, hidden] in fp32. Raises UserError on a non-finite value."""
    inputs = rows if isinstance(rows, Inputs) else Inputs(list(rows))
    where = next(encoder.parameters()).device
    found: NDArray[np.float32] | None = None

    def read(batch: NDArray[np.intp]) -> NDArray[np.float32]:
        pooled: Tensor = encoder(*inputs.batch(batch, pad_id, where))
        return pooled.float().cpu().numpy()

    batches = batches_by_tokens(inputs.lengths(range(len(rows))), batch_tokens)
    for batch, pooled in dealt(batches, read):
        if found is None:
            found = np.empty((len(rows), pooled.shape[1]), dtype=np.float32)
        found[batch] = pooled
    if found is None:
        raise ValueError("no texts to embed")
    hit = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(hit):
        wrong = inputs.batch(hit[:1], pad_id, where)
        origin = first_wrong_output(encoder, lambda: encoder(*wrong))
        raise UserError(not_finite(f"embeddings of {len(hit)} of {len(rows)} texts are", origin))
    return found


@torch.inference_mode()
def place_states(
    encoder: Encoder, inputs: Inputs, pad_id: int, batch_tokens: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each row and the states [places, hidden] of its places, in fp32, rows in the order in which
    they are read. Raises UserError on a non-finite value."""
    assert inputs.places is not None
    where = next(encoder.parameters()).device

    def read(batch: NDArray[np.intp]) -> list[NDArray[np.float32]]:
        assert inputs.places is not None
        given = inputs.batch(batch, pad_id, where)
        states = encoder.states(*given).float().cpu().numpy()
        if not np.isfinite(states[given[1].cpu().numpy() == 1]).all():
            origin = first_wrong_output(encoder, partial(encoder.states, *given))
            raise UserError(not_finite(f"states of some of {len(batch)} texts are", origin))
        rows = zip(batch.tolist(), states, strict=True)
        return [of_row[inputs.places[row]] for row, of_row in rows]

    batches = batches_by_tokens(inputs.lengths(range(len(inputs))), batch_tokens)
    for batch, of_batch in dealt(batches, read):
        yield from zip(batch.tolist(), of_batch, strict=True)


def features(
    encoder: Encoder, inputs: Inputs, pad_id: int, batch_tokens: int
) -> list[NDArray[np.float32]]:
    """What a head sees of each row, [k, hidden]: its pooled states, or those of its places."""
    if inputs.places is None:
        return list(embed(encoder, inputs, pad_id, batch_tokens)[:, None])
    found = dict(place_states(encoder, inputs, pad_id, batch_tokens))
    states = [found[row] for row in range(len(inputs))]
    return [of_row.reshape(1, -1) for of_row in states] if inputs.joined else states
