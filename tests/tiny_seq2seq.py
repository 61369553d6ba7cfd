"""Sequence-to-sequence models in miniature with random weights: what they write is nonsense, but
always the same."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tiny_causal
import tokenizers
import torch
import transformers
from tiny_completions import ANIMALS, COUNT, CRIES, DEEDS
from tokenizers import models, pre_tokenizers, processors

WORDS = [*map(str, range(100, 100 + COUNT)), *ANIMALS, *CRIES, *DEEDS, "the", "and", ":"]
"""Those of the tasks of tests/tiny_completions.py."""
SPECIAL = ["<pad>", "</s>", "<unk>"]
TOKENS = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}


def _t5(vocabulary: int, config: Any) -> Any:
    return config(
        vocab_size=vocabulary,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        initializer_factor=4.0,  # so that what is read makes a difference to what is written
        **TOKENS,
    )


def _bart(vocabulary: int, config: Any) -> Any:
    return config(
        vocab_size=vocabulary,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        init_std=0.2,
        forced_eos_token_id=None,
        **TOKENS,
    )


FAMILIES: Mapping[str, tuple[Callable[[int, Any], Any], Any, Any]] = {
    "t5": (_t5, transformers.T5Config, transformers.T5ForConditionalGeneration),
    "mt5": (_t5, transformers.MT5Config, transformers.MT5ForConditionalGeneration),
    "bart": (_bart, transformers.BartConfig, transformers.BartForConditionalGeneration),
    "marian": (_bart, transformers.MarianConfig, transformers.MarianMTModel),
}


def write_model(folder: Path, words: Sequence[str], seed: int, family: str = "t5") -> None:
    ids = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    make, config, model = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model(make(len(ids), config)).save_pretrained(folder)


def write_sources(project: Path, family: str = "t5") -> None:
    """Those of tests/tiny_causal.py, with a model of this family in the place of its own."""
    tiny_causal.write_sources(project)
    shutil.rmtree(project / "own/model")
    write_model(project / "own/model", WORDS, 0, family)
