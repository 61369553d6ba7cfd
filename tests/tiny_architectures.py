"""A model in miniature of each architecture that the README names, with random weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import tiny_causal
import torch
import transformers

LONGEST = 64
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": LONGEST,
    "initializer_range": 0.2,  # with the usual 0.02 so narrow a layer hardly says a thing
}
GROUPED = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
NEAR = {"sliding_window": 6}
"""Fewer tokens than a text has: what a layer sees of it is what is near."""
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
QKV = ("q_proj", "k_proj", "v_proj", "o_proj")
BERT = ("query", "key", "value", "attention.output.dense")


@dataclass(frozen=True)
class Architecture:
    """`config`: a class of transformers, and its settings. `attention`: what the linear layers of
    each block's attention are called; all of them are LoRA's."""

    config: str
    settings: dict[str, Any]
    attention: tuple[str, ...]
    pad_id: int = 0

    def made(self, **more: Any) -> Any:
        return getattr(transformers, self.config)(**{**self.settings, **more})


ENCODERS = {
    "bert": Architecture("BertConfig", SMALL, BERT),
    "roberta": Architecture(
        "RobertaConfig",
        # The positions of its texts begin behind that of padding.
        {**SMALL, "max_position_embeddings": LONGEST + 2, "type_vocab_size": 1},
        BERT,
        pad_id=1,
    ),
    "distilbert": Architecture(
        "DistilBertConfig",
        {**SMALL, "dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
        ("q_lin", "k_lin", "v_lin", "out_lin"),
    ),
    "deberta": Architecture(
        "DebertaConfig",
        {**SMALL, **RELATIVE},
        ("in_proj", "pos_proj", "pos_q_proj", "attention.output.dense"),
    ),
    "deberta-v3": Architecture(
        "DebertaV2Config",
        {
            **SMALL,
            **RELATIVE,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
        ("query_proj", "key_proj", "value_proj", "attention.output.dense"),
    ),
    "electra": Architecture("ElectraConfig", {**SMALL, "embedding_size": 16}, BERT),
    "modernbert": Architecture(
        "ModernBertConfig",
        {**SMALL, "num_hidden_layers": 3, "local_attention": 6, "global_attn_every_n_layers": 2},
        ("Wqkv", "attn.Wo"),
    ),
}
CAUSAL = {
    "gpt2": Architecture(
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.2},
        ("attn.c_attn", "attn.c_proj"),
    ),
    "gpt-neox": Architecture("GPTNeoXConfig", SMALL, ("query_key_value", "attention.dense")),
    "llama": Architecture("LlamaConfig", GROUPED, QKV),
    "smollm2": Architecture("LlamaConfig", {**GROUPED, "tie_word_embeddings": True}, QKV),
    "smollm3": Architecture("SmolLM3Config", {**GROUPED, "no_rope_layer_interval": 2}, QKV),
    "mistral": Architecture("MistralConfig", {**GROUPED, **NEAR}, QKV),
    "qwen2": Architecture(
        "Qwen2Config", {**GROUPED, **NEAR, "use_sliding_window": True, "max_window_layers": 1}, QKV
    ),
    "qwen3": Architecture("Qwen3Config", {**GROUPED, "tie_word_embeddings": True}, QKV),
    "gemma": Architecture("GemmaConfig", GROUPED, QKV),
    "gemma2": Architecture(
        "Gemma2Config",
        {**GROUPED, **NEAR, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0},
        QKV,
    ),
    "gemma3": Architecture("Gemma3TextConfig", {**GROUPED, **NEAR}, QKV),
    "phi": Architecture("PhiConfig", SMALL, ("q_proj", "k_proj", "v_proj", "self_attn.dense")),
    "phi3": Architecture("Phi3Config", GROUPED, ("qkv_proj", "o_proj")),
}
ALL = {**ENCODERS, **CAUSAL}


def write_model(name: str, folder: Path) -> None:
    """The model, with the tokenizer of tests/tiny.py or tests/tiny_causal.py; an encoder with its
    head of masked-language modelling, as models are published."""
    kind = ALL[name]
    (tiny if name in ENCODERS else tiny_causal).write_model(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if name in ENCODERS:
        _move_padding(folder, kind.pad_id)
        ids = {"pad_token_id": kind.pad_id}
    else:
        ids = {word: getattr(tokenizer, word) for word in ("pad_token_id", "bos_token_id")}
        ids |= {"eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": 256}
    config = kind.made(vocab_size=len(tokenizer), **ids)
    auto = "AutoModelForMaskedLM" if name in ENCODERS else "AutoModelForCausalLM"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, auto).from_config(config).save_pretrained(folder)


def _move_padding(folder: Path, pad_id: int) -> None:
    """Padding and the word that stood at `pad_id` change places."""
    file = folder / "tokenizer.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    words = settings["model"]["vocab"]
    moved = next(word for word, at in words.items() if at == pad_id)
    words[moved], words["[PAD]"] = words["[PAD]"], pad_id
    for token in settings["added_tokens"]:
        token["id"] = words[token["content"]]
    settings["added_tokens"].sort(key=lambda token: token["id"])
    file.write_text(json.dumps(settings), encoding="utf-8")


def make(name: str, folder: Path) -> None:
    """A project in `folder` whose only case is of this architecture: a full and a LoRA run of few
    steps, and no more tasks and rows than a case needs."""
    if name in ENCODERS:
        tiny.write_tables(folder / tiny.OWN)
        (folder / tiny.OWN / "model").mkdir()
    else:
        tiny_causal.write_sources(folder)
    write_model(name, folder / "own/model")
    params = (tiny if name in ENCODERS else tiny_causal).make_params(folder)
    ((case, settings),) = params["cases"].items()
    settings["retain"] = settings["retain"][:3]
    for task in params["tasks"].values():
        task |= {"train": 24, "validation": 10, "test": 16}
    for run in params["runs"].values():
        run |= {"steps": 4, "validate_every": 2, "learning_rate": 0.003, "precision": "fp32"}
    for part in ("runs", "variants"):
        params[part] = {key: params[part][key] for key in ("full", "lora")}
    params["variants"] = {"full": ["wise-0.5", "lines-0.5"], "lora": ["wise-0.5"]}
    params["evaluation"] |= {"precision": "fp32", "noise_repeats": 2}
    params["compare"]["resamples"] = 100
    assert case in (tiny.CASE, tiny_causal.CASE)
    tiny.write_params(folder, params)
