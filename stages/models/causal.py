"""A causal language model: its tokens, its hidden states, and the vocabulary head."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import Cache, PreTrainedConfig, PreTrainedModel

from stages.errors import UserError
from stages.models.alike import alike
from stages.models.chat import ChatTemplate, Message
from stages.models.encoder import UNLIMITED
from stages.models.pretrained import load_tokenizer, load_weights, reading_tokenizer
from stages.models.texts import TOKENISE, TokenIds
from stages.phases import phase

PROBE = [[0, 1, 1]]
"""The token ids that every model is tried out on when it is loaded."""


def load_causal(folder: Path, **how: Any) -> PreTrainedModel:
    """Load a causal model in fp32, in evaluation mode. `how`: see load_weights.

    Raises UserError where it is none, where weights are missing, and where `head_logits` does
    not reproduce the model's own logits.
    """
    model, missing = load_weights(transformers.AutoModelForCausalLM, folder, **how)
    if missing:
        named = ", ".join(missing[:3])
        raise UserError(f"{folder}: no causal model: {len(missing)} weights missing ({named})")
    model.eval()
    if not _head_is_known(model):
        raise UserError(
            f"{folder}: the logits of model type {model.config.model_type!r} are scaled in a way "
            "that is not known here"
        )
    return model


class CausalTokenizer:
    """Texts to token ids and back. `longest`: the tokens that the model's positions reach.
    `eos_ids`: what ends an answer; `end_id`: the one that a text to be learned ends with."""

    pad_id: int
    eos_ids: tuple[int, ...]
    end_id: int | None

    def __init__(self, folder: Path, longest: int) -> None:
        self._folder = folder
        self._tokenizer = load_tokenizer(folder)
        self.longest = longest
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        self._prefix: int | None = eos if bos is None else bos
        self.eos_ids = tuple(sorted({*_generation_ends(folder), *([] if eos is None else [eos])}))
        self.end_id = next((one for one in (eos, *self.eos_ids) if one is not None), None)
        padding = (self._tokenizer.pad_token_id, eos, 0)
        self.pad_id = next(token for token in padding if token is not None)
        # The continuations of a context come one after the other.
        self._encode = lru_cache(maxsize=2)(self.encode)

    def __len__(self) -> int:
        """Tokens that it tells apart."""
        return len(self._tokenizer)

    @phase(TOKENISE)
    def encode(self, text: str) -> TokenIds:
        """Special tokens as the tokenizer says, but no second BOS where the text has one."""
        with reading_tokenizer(self._folder):
            bos = None if self._prefix is None else self._tokenizer.decode(self._prefix)
            begun = bos is not None and text.startswith(bos)
            return list(self._tokenizer.encode(text, add_special_tokens=not begun))

    @phase(TOKENISE)
    def clip(self, prompt: str, text: str, max_length: int) -> str:
        """The beginning of `text` that fits into `max_length` tokens with its prompt.

        At least one token, so that a text never vanishes behind its prompt.
        """
        room = max(1, max_length - len(self.encode(prompt)))
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [end for _, end in encoded["offset_mapping"]]
        return text if len(ends) <= room else text[: ends[room - 1]]

    @phase(TOKENISE)
    def pair(self, context: str, continuation: str) -> tuple[TokenIds, TokenIds]:
        """Token ids of both, cut where the context alone would end.

        As lm-evaluation-harness 0.4.13 does it: white space that ends the context goes to the
        continuation; an empty context is the BOS token, or EOS where the tokenizer has no BOS.
        A continuation that merges with the context's last token may be left without tokens.
        """
        context, continuation = shift_space(context, continuation)
        if context:
            ids = self._encode(context)
            return ids, self._encode(context + continuation)[len(ids) :]
        if self._prefix is None:
            raise UserError(
                f"{self._folder}: an empty context needs a BOS or EOS token; the tokenizer has none"
            )
        ids = list(self._tokenizer.encode(continuation, add_special_tokens=False))
        return ([self._prefix], ids) if ids[:1] != [self._prefix] else (ids[:1], ids[1:])

    def room(self, max_length: int, max_new_tokens: int) -> int:
        """Tokens that are read of a prompt, of `max_length` with what is written after it.

        Raises UserError where the model reads too few."""
        room = min(max_length, self.longest) - max_new_tokens
        if room < 1:
            raise UserError(
                f"max_new_tokens = {max_new_tokens}: the model reads no more than {self.longest} "
                "tokens, those of the prompt included"
            )
        return room

    def prompt(self, text: str) -> TokenIds:
        """Token ids for a model to go on from: as `text` is cut where a word follows it.

        Spaces at the end are left out: they belong to the word. Two line breaks are two of
        GPT-2's tokens before a word but one at the end of a text, which no word ever follows.
        """
        text = text.rstrip(" ")
        ids = self.encode(f"{text}A")[:-1] if text[-1:].isspace() else self.encode(text)
        return ids or self.pair("", "A")[0]

    def chat(self, prompt: str) -> TokenIds:
        """What the user says, in the model's chat template, up to where its answer begins."""
        return self.asked([{"role": "user", "content": prompt}])

    def chat_end(self) -> int | None:
        """The special token after an answer to `chat`; None where there is none."""
        return self.turn_end([{"role": role, "content": "."} for role in ("user", "assistant")])

    def asked(self, messages: Sequence[Message]) -> TokenIds:
        """The same of a conversation."""
        return self._template().asked(messages)

    def conversation(self, messages: Sequence[Message]) -> tuple[TokenIds, list[int]]:
        """A whole one, and 1 at each token that the assistant writes, ends of turns included."""
        return self._template().whole(messages)

    def turn_end(self, messages: Sequence[Message]) -> int | None:
        """The special token after the assistant's last message; None where there is none."""
        return self._template().end(messages)

    def _template(self) -> ChatTemplate:
        if not self._tokenizer.chat_template:
            raise UserError(
                f"{self._folder}: the tokenizer has no chat template; leave tasks of the kinds "
                "chat, instruction-following and refusal out of this model's cases"
            )
        return ChatTemplate(self._tokenizer, self._folder)

    def decode(self, ids: TokenIds, *, special: bool = False) -> str:
        """The text, special tokens left out unless `special`."""
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )
        return text


def shift_space(context: str, continuation: str) -> tuple[str, str]:
    """White space at the end of the context goes to the continuation."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def longest_input(model: PreTrainedModel) -> int:
    """Tokens that the positions of the model reach."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return longest if isinstance(longest, int) else UNLIMITED


def decoder(model: PreTrainedModel) -> Any:
    """The body under the vocabulary head."""
    return model.get_decoder()


def hidden_states(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor | None,
    positions: Tensor | None = None,
    past: Cache | None = None,
) -> Tensor:
    """Token ids [batch, length], padded on the right -> [batch, length, hidden].

    `mask`: 0/1 [batch, length]; or what is added to the attention scores, [batch, 1, length,
    past + length]; or None, as causal attention never sees padding on its right. `positions`
    [batch, length] count from the left where none are given. `past`: what was read before.
    """
    given = {} if positions is None else {"position_ids": positions}
    hidden: Tensor = decoder(model)(
        input_ids=ids, attention_mask=mask, past_key_values=past, use_cache=False, **given
    ).last_hidden_state
    return hidden


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Hidden states [..., hidden] -> logits [..., vocabulary] in fp32."""
    return apply_head(model.get_output_embeddings(), model.config, hidden)


def apply_head(head: nn.Module, config: PreTrainedConfig, hidden: Tensor) -> Tensor:
    """The same by the `head` alone of a model with this `config`; the product is taken in the
    head's dtype."""
    return finished(config, head(hidden))


def finished(config: PreTrainedConfig, product: Tensor) -> Tensor:
    """What a head makes of states, or any part of it -> logits in fp32.

    Scale and soft cap, where the model has them (Cohere and Granite; Gemma), are taken in fp32,
    element by element.
    """
    logits = product.float()
    config = config.get_text_config()
    if scale := getattr(config, "logit_scale", None):
        logits = logits * scale
    if divisor := getattr(config, "logits_scaling", None):
        logits = logits / divisor
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return logits


@torch.inference_mode()
def _head_is_known(model: PreTrainedModel) -> bool:
    if model.get_output_embeddings() is None:
        return False
    ids = torch.tensor(PROBE, device=model.device)
    expected = model(input_ids=ids).logits
    found = head_logits(model, hidden_states(model, ids, torch.ones_like(ids)))
    return alike(found, expected)


def _generation_ends(folder: Path) -> set[int]:
    """The end tokens of generation_config.json: chat models have several."""
    if not (folder / "generation_config.json").exists():
        return set()
    ends = transformers.GenerationConfig.from_pretrained(folder).eos_token_id
    return {ends} if isinstance(ends, int) else set(ends or [])
