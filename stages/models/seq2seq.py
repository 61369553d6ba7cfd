"""A sequence-to-sequence model: text in, text out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from stages.errors import UserError
from stages.models.alike import alike
from stages.models.encoder import UNLIMITED
from stages.models.pretrained import load_tokenizer, load_weights, reading_tokenizer
from stages.models.sharing import dealt
from stages.models.texts import TokenIds, batches_by_tokens, pad

BATCH_TOKENS = 2048
PROBE = [[0, 1, 1]]
"""The token ids that every model is tried out on when it is loaded."""
IGNORED = -100
"""A label that stands for none: padding."""
KEPT = (
    "bad_words_ids",
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "forced_bos_token_id",
    "pad_token_id",
    "suppress_tokens",
)
"""What is taken of generation_config.json, which also has beams and lengths."""


def load_seq2seq(folder: Path) -> PreTrainedModel:
    """Load in fp32, in evaluation mode.

    Raises UserError where the folder holds no such model, or not all of it, and where `states` and
    `Head` do not reproduce the model's own logits.
    """
    model, missing = load_weights(transformers.AutoModelForSeq2SeqLM, folder)
    if missing:
        raise UserError(f"{folder}: weights are missing, such as {missing[0]}")
    model.eval()
    if not _head_is_known(model):
        raise UserError(
            f"{folder}: the logits of model type {model.config.model_type!r} are made in a way "
            "that is not known here"
        )
    return model


def longest_input(model: PreTrainedModel) -> int:
    """Tokens that the positions of encoder and decoder reach."""
    longest = getattr(model.config, "max_position_embeddings", None)
    return longest if isinstance(longest, int) else UNLIMITED


class Seq2SeqTokenizer:
    """Texts to token ids and back. `longest`: the tokens that the model's positions reach."""

    def __init__(self, folder: Path, longest: int) -> None:
        self._folder = folder
        self._tokenizer = load_tokenizer(folder)
        self.longest = min(longest, self._tokenizer.model_max_length)
        self.pad_id = int(self._tokenizer.pad_token_id or 0)

    def __len__(self) -> int:
        """Tokens that it tells apart."""
        return len(self._tokenizer)

    def __call__(self, texts: Sequence[str], max_length: int) -> list[TokenIds]:
        """What the encoder reads of each, special tokens included, cut at the end."""
        length = min(max_length, self.longest)
        with reading_tokenizer(self._folder):
            read = self._tokenizer(list(texts), truncation=True, max_length=length)
        return list(read["input_ids"])

    def truncated(self, texts: Sequence[str], max_length: int) -> list[bool]:
        """Whether each is longer than what is read of it."""
        length = min(max_length, self.longest)
        return [len(ids) > length for ids in self._tokenizer(list(texts))["input_ids"]]

    def labels(self, texts: Sequence[str], max_length: int) -> list[TokenIds]:
        """What the decoder is to write of each: the text, of which no more than `max_length` tokens
        are learned, and the end token. Marian has another vocabulary for it."""
        end = self._tokenizer.eos_token_id
        with reading_tokenizer(self._folder):
            read = self._tokenizer(text_target=list(texts))["input_ids"]
        whole = [ids if end is None or ids[-1:] == [end] else [*ids, end] for ids in read]
        return [ids[: min(max_length, self.longest)] for ids in whole]

    def decode(self, ids: TokenIds) -> str:
        """The text, special tokens left out, and with the spaces that were written: some settings
        would take those before a full stop or "n't" away."""
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text


def states(model: PreTrainedModel, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """The decoder's last states [rows, written, hidden], each before one of `labels` [rows,
    written], IGNORED where there is none; teacher forcing."""
    read = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    begun = model.prepare_decoder_input_ids_from_labels(labels=labels)
    found: Tensor = model.get_decoder()(
        input_ids=begun,
        encoder_hidden_states=read,
        encoder_attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return found


class Head:
    """What turns the states of a model's decoder into logits over its vocabulary: a linear layer,
    the scale of T5, the bias of BART and Marian."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.layer: nn.Module = model.get_output_embeddings()
        scaled = getattr(model.config, "scale_decoder_outputs", False)
        self.scale = float(model.config.d_model**-0.5) if scaled else 1.0
        self.bias: Tensor | None = getattr(model, "final_logits_bias", None)

    def __call__(self, features: Tensor) -> Tensor:
        """[..., hidden] -> [..., vocabulary] in fp32."""
        return self.finished(self.product(features))

    def product(self, features: Tensor) -> Tensor:
        """What the layer makes of the states, in its own dtype."""
        product: Tensor = self.layer(features * self.scale)
        return product

    def finished(self, product: Tensor) -> Tensor:
        """A product, or any part of it -> logits in fp32."""
        logits = product.float()
        return logits if self.bias is None else logits + self.bias


@torch.inference_mode()
def _head_is_known(model: PreTrainedModel) -> bool:
    if not hasattr(model, "prepare_decoder_input_ids_from_labels"):
        return False
    ids = torch.tensor(PROBE)
    mask = torch.ones_like(ids)
    expected = model(input_ids=ids, attention_mask=mask, labels=ids).logits
    found = Head(model)(states(model, ids, mask, ids))
    return alike(found, expected)


def greedy(model: PreTrainedModel, max_new_tokens: int) -> GenerationConfig:
    """One beam, the likeliest token each time, and nothing else of what the model's own says."""
    own = model.generation_config.to_dict()
    return GenerationConfig(
        **{key: own[key] for key in KEPT if own.get(key) is not None},
        num_beams=1,
        do_sample=False,
        max_new_tokens=max_new_tokens,
    )


@torch.inference_mode()
def write(
    model: PreTrainedModel, rows: Sequence[TokenIds], pad_id: int, max_new_tokens: int
) -> list[TokenIds]:
    """What the model makes of each text of one batch, see `greedy`; its first token, the end token
    and padding are left out."""
    settings = greedy(model, max_new_tokens)
    ids, mask = pad(rows, pad_id, model.device)
    # The model's own settings would fill in what these leave open.
    model.generation_config = settings
    found = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    ends = settings.eos_token_id
    out = {pad_id, *(ends if isinstance(ends, list) else [ends])}
    return [[token for token in row[1:] if token not in out] for row in found.tolist()]


class Seq2Seq:
    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load in fp32. Raises UserError where the folder holds no such model, or not all of it."""
        self._tokenizer = load_tokenizer(folder)
        model, missing = load_weights(transformers.AutoModelForSeq2SeqLM, folder)
        if missing:
            raise UserError(f"{folder}: weights are missing, such as {missing[0]}")
        self._model: Any = model.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def write(self, texts: Sequence[str], longest: int, beams: int) -> list[str]:
        """What the model makes of each text by beam search, special tokens left out.

        At most `longest` tokens of a text are read, and twice as many and 16 are written.
        """
        longest = min(longest, self._tokenizer.model_max_length)
        rows = self._tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        written = [""] * len(rows)

        def translate(batch: NDArray[np.intp]) -> list[str]:
            given = self._tokenizer.pad(
                {"input_ids": [rows[i] for i in batch]}, return_tensors="pt"
            )
            ids = self._model.generate(
                **given.to(self._device),
                num_beams=beams,
                do_sample=False,
                max_new_tokens=2 * given["input_ids"].shape[1] + 16,
            )
            found: list[str] = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
            return found

        lengths = [len(row) for row in rows]
        batches = batches_by_tokens(lengths, BATCH_TOKENS, desc="translation")
        for batch, found in dealt(batches, translate):
            for place, text in zip(batch, found, strict=True):
                written[place] = text.strip()
        return written
