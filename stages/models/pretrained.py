"""transformers' own loading, quiet, from safetensors alone, and its failures in one line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
import transformers

from stages.errors import UserError, one_line, short_of_memory
from stages.models.bounded import bounded, held
from stages.storage import read_json

AUTO = {
    "encoder": "AutoModel",
    "causal": "AutoModelForCausalLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
"""transformers' class that loads a kind of model."""


class Tokens(Protocol):
    """A tokenizer; its length is how many tokens it tells apart."""

    pad_id: int

    def __len__(self) -> int: ...


Kept = TypeVar("Kept", bound=Tokens)


def silence() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def load_weights(auto: Any, folder: Path, **how: Any) -> tuple[Any, list[str]]:
    """A model in fp32 by one of transformers' Auto classes, and the names of the weights that it
    lacks, for which transformers would fill in random ones. `how`: what else transformers is told.
    Raises UserError where it is none."""
    silence()
    try:
        settings, quantised = read_json(folder / "config.json"), "quantization_config" in how
        with bounded(settings, *held(folder), quantised=quantised):
            model, report = auto.from_pretrained(
                folder,
                dtype=torch.float32,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # to say below which: transformers says it in its log
                **how,
            )
    except Exception as error:  # settings of the wrong type fail wherever they are first used
        if short_of_memory(error):
            raise
        raise UserError(f"{folder}: transformers cannot load this model: {reason(error)}") from None
    for name, found, told in sorted(report["mismatched_keys"]):
        raise UserError(
            f"{folder}: {name} is {_size(found)} among the weights, {_size(told)} by config.json; "
            "they are of two models: choose another source"
        )
    return model, sorted(report["missing_keys"])


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def load_tokenizer(folder: Path) -> Any:
    """Raises UserError where there is none, or it is damaged."""
    silence()
    with reading_tokenizer(folder):
        found = transformers.AutoTokenizer.from_pretrained(
            folder, use_fast=True, trust_remote_code=False
        )
    # Without any of them transformers makes one that knows no word, and says nothing.
    files = sorted(found.vocab_files_names.values())
    if not any((folder / name).exists() for name in files):
        raise UserError(
            f"{folder}: the model has no tokenizer: none of {', '.join(files)} is there; give a "
            "folder that has it"
        )
    return found


def kept_to(model: Any, tokenizer: Kept, folder: Path) -> Kept:
    """`tokenizer`, of the files in `folder`. Where it has more tokens than `model`, as when one was
    added to it alone, padding is a token that the model knows, and the model raises UserError when
    it is to read another."""
    embeddings = model.get_input_embeddings()
    known = int(embeddings.weight.shape[0])
    if len(tokenizer) <= known:
        return tokenizer
    if tokenizer.pad_id >= known:
        tokenizer.pad_id = 0  # padding is masked: any token serves

    def refuse(_: object, given: tuple[torch.Tensor]) -> None:
        if (most := int(given[0].max())) >= known:
            raise UserError(
                f"{folder}: the tokenizer makes token {most} of a text, and the model knows "
                f"{known}: they are not of one model; choose another source"
            )

    embeddings.register_forward_pre_hook(refuse)
    return tokenizer


@contextmanager
def reading_tokenizer(folder: Path) -> Iterator[None]:
    """Turns whatever a damaged tokenizer raises, when it is loaded or used, into a UserError."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library's Rust is no Exception
        raise UserError(f"{folder}: the tokenizer cannot be read: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """The beginning of its text, on one line; its name where it has none."""
    text = " ".join(str(error).split())
    return one_line(text[:200] if text else type(error).__name__)
