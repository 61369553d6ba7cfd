"""A GPT-like model in miniature, and the tales that its tokenizer was made of."""

import json
import random
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

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
