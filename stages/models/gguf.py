"""A GGUF file to safetensors and tokenizer.json, once a machine.

Loading a GGUF takes half a minute a process; its de-quantised weights load in a second.
"""

from pathlib import Path
from typing import Any

import gguf
import torch
import transformers
from filelock import FileLock

from stages.errors import UserError
from stages.models.bounded import bounded
from stages.models.pretrained import reason, silence
from stages.storage import atomic_directory, cache_directory, sha256_file


def convert(path: Path) -> Path:
    """A folder in the cache with the model at `path`, de-quantised to fp32, and its tokenizer.

    Raises UserError where transformers cannot read the file.
    """
    version = f"{sha256_file(path)[:32]}-transformers-{transformers.__version__}"
    out = cache_directory() / "converted" / version
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_suffix(".lock")):
        if not out.exists():
            with atomic_directory(out) as folder:
                _write(path, folder)
    return out


def _write(path: Path, folder: Path) -> None:
    silence()
    try:
        with bounded(*_header(path)):
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, output_loading_info=True
            )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"{len(missing)} weights are missing ({', '.join(missing[:3])})")
        tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # nothing checks what a damaged header says
        told = f"{path.name}: transformers cannot read this GGUF: {reason(error)}"
        raise UserError(told) from None
    # What is saved are plain weights: the state of the quantiser they came from would make
    # from_pretrained look for the GGUF again.
    model.hf_quantizer = None
    del model.config.quantization_config
    model.config._name_or_path = ""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _header(path: Path) -> tuple[dict[str, Any], int, int]:
    """Settings that are single numbers, without the architecture's name before them; tensors and
    elements."""
    reader = gguf.GGUFReader(path)
    numbers = {
        name.rpartition(".")[2]: field.contents()
        for name, field in reader.fields.items()
        if len(field.types) == 1 and field.types[0] != gguf.GGUFValueType.STRING
    }
    return numbers, len(reader.tensors), sum(int(one.n_elements) for one in reader.tensors)
