"""A manifest to a model, base or tuned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from stages.errors import UserError
from stages.models.causal import CausalTokenizer, load_causal
from stages.models.causal import longest_input as longest_causal
from stages.models.encoder import Encoder, load_encoder
from stages.models.encoder import longest_input as longest_encoder
from stages.models.finite import first_wrong
from stages.models.pretrained import kept_to
from stages.models.probe import Probe
from stages.models.seq2seq import Seq2SeqTokenizer, load_seq2seq
from stages.models.seq2seq import longest_input as longest_seq2seq
from stages.models.texts import Tokenizer
from stages.models.tuned import apply_adapter, has_adapter, load_heads
from stages.phases import phase


@dataclass(frozen=True)
class EncoderModel:
    encoder: Encoder
    tokenizer: Tokenizer
    heads: Mapping[str, Probe] = field(default_factory=dict)


@dataclass(frozen=True)
class CausalModel:
    model: Any
    tokenizer: CausalTokenizer


@dataclass(frozen=True)
class Seq2SeqModel:
    model: Any
    tokenizer: Seq2SeqTokenizer


Loaded = EncoderModel | CausalModel | Seq2SeqModel


@phase("load")
def load(manifest: dict[str, Any], base: Path, tuned: Path | None = None, **how: Any) -> Loaded:
    """The model of `manifest`, whose files are in `base`, or what a run made of it in `tuned`.

    In fp32, on the CPU, in evaluation mode; an adapter is merged where it can be. `how`, of causal
    models: see load_weights. Raises UserError where it cannot be loaded, or a weight is not finite.
    """
    whole = tuned if tuned and not has_adapter(tuned) else base
    adapter = tuned if tuned and has_adapter(tuned) else None
    if manifest["kind"] == "encoder":
        encoder = load_encoder(whole, manifest["pooling"])
        if adapter:
            encoder.body = apply_adapter(encoder.body, adapter)
        tokenizer = kept_to(encoder.body, Tokenizer(base, longest_encoder(encoder)), base)
        check_finite(encoder, whole)
        return EncoderModel(encoder.eval(), tokenizer, load_heads(tuned) if tuned else {})
    seq2seq = manifest["kind"] == "seq2seq"
    model = load_seq2seq(whole) if seq2seq else load_causal(whole, **how)
    if adapter:
        model = apply_adapter(model, adapter)
    check_finite(model, whole)
    if seq2seq:
        written = Seq2SeqTokenizer(base, longest_seq2seq(model))
        return Seq2SeqModel(model.eval(), kept_to(model, written, base))
    read = CausalTokenizer(base, longest_causal(model))
    return CausalModel(model.eval(), kept_to(model, read, base))


def check_finite(model: nn.Module, folder: Path) -> None:
    """Raises UserError that names the first weight that is not finite."""
    if wrong := first_wrong(model.named_parameters()):
        raise UserError(
            f"{folder}: not finite: {wrong}; fetch the model again, train it with a lower "
            "learning_rate, or choose another"
        )
