"""A GPT-like model in miniature, the tales of its tokenizer, and a project with both."""

import json
import random
from pathlib import Path
from typing import Any

import tiny
import tokenizers
import torch
import transformers
import yaml
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

CASE = "tiny-gpt"
TARGET = "animal-tales"
CHOICES = ("addition", "agreement", "country-names-fr")
RETAIN = (*CHOICES, "instructions")
RUNS = ("full", "lora", "still")
RANK, STEPS, STILL = 2, 30, 1e-6
VARIANTS = ("wise-0.5", "int8")

TEMPLATE = (
    "{% for m in messages %}<bos>{{ m['role'] }}\n{{ m['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)


def texts() -> list[str]:
    """Short tales, no two alike; one of them is not ASCII, so that bytes are not characters."""
    draw = random.Random(0)
    animals = ["cat", "dog", "fox", "hen", "owl", "pig", "rat", "cow"]
    deeds = ["saw", "met", "fed", "chased"]
    tales = [
        f"One day the {first} {deed} the {second}, and then the {second} ran home."
        for first in animals
        for second in animals
        for deed in deeds
    ]
    tales = [tale.replace("hen", "poulé") for tale in tales]
    return draw.sample(tales, 80)


def write_model(folder: Path) -> None:
    """A Llama of 2 layers and hidden size 32; a byte-level BPE that puts <bos> in front."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
    )
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    wrapped.chat_template = TEMPLATE
    wrapped.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(wrapped),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        initializer_range=0.2,  # with the usual 0.02 all tokens are about as likely
        pad_token_id=wrapped.pad_token_id,
        bos_token_id=wrapped.bos_token_id,
        eos_token_id=wrapped.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)


def write_sources(project: Path) -> None:
    """What a project's params name under `own`: the texts as JSONL, and the model."""
    (project / "own").mkdir()
    lines = [json.dumps({"tale": tale}) for tale in texts()]
    (project / "own/tales.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_model(project / "own/model")


def make_params(project: Path) -> dict[str, Any]:
    """Sections that say how are the real file's with smaller numbers, as in tiny.make_params."""
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    first = next(iter(real["runs"].values()))
    recipe = {
        **{key: value for key, value in first.items() if key not in ("head", "head_learning_rate")},
        "case": CASE,
        "pool": "target",
        "teacher": f"models/base/{CASE}.json",
        "methods": {},
        "learning_rate": 0.01,
        "steps": STEPS,
        "batch_size": 8,
        "precision": "fp32",
        "validate_every": 10,
        "validation_rows": 10,
        "checkpoint_every": 50,
        "seeds": [0],
    }
    sizes = {"max_length": 128, "train": 30, "validation": 10, "test": 20}
    made = {"kind": "multiple-choice", **sizes}
    table = {**tiny.pinned(project, "own/tales.jsonl"), "columns": {"text": "tale"}}
    return {
        "launch": "python",
        "seed": 20,
        "models": {"gpt": {**tiny.pinned(project, "own/model"), "kind": "causal"}},
        "tasks": {
            TARGET: {"kind": "language-modelling", "data": {"reader": "table", **table}, **sizes},
            "addition": {**made, "data": {"reader": "addition"}},
            "agreement": {**made, "data": {"reader": "agreement"}},
            "country-names-fr": {**made, "data": {"reader": "cldr", "language": "fr"}},
            "instructions": {
                "kind": "instruction-following",
                "data": {"reader": "instructions"},
                **{**sizes, "train": 10, "test": 10},
                "max_new_tokens": 8,
            },
        },
        "cases": {CASE: {"model": "gpt", "targets": [TARGET], "retain": list(RETAIN)}},
        "runs": {
            "full": recipe,
            "lora": {**recipe, "methods": {"lora": {"r": RANK}}},
            "still": {**recipe, "learning_rate": STILL},
        },
        "variants": {**{run: [] for run in RUNS}, "full": list(VARIANTS)},
        "evaluation": {
            **real["evaluation"],
            "precision": "fp32",
            "batch_tokens": 1024,
            "noise_repeats": 2,
            "noise": {"tasks": ["agreement"], "conditions": ["typos-0.1"]},
        },
        "compare": {**real["compare"], "resamples": 200},
    }
