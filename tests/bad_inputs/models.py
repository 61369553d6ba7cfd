"""Models of strangers that are not loaded."""

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tiny
from safetensors.numpy import load_file, save_file

from bad_inputs.bad import Bad, Spoil, words

MODEL = f"{tiny.OWN}/model"
SOURCE = f"file:{MODEL}"
BASE = ("pretrain_baseline_eval", tiny.CASE)
WEIGHTS = "model.safetensors"


class Hostile:
    """Unpickled, it would leave a file behind."""

    def __reduce__(self) -> Any:
        return Path("was-run").touch, ()


def _pinned(project: Path) -> None:
    params = tiny.read_params(project)
    params["models"]["bert"].update(tiny.pinned(project, MODEL))
    tiny.write_params(project, params)


def _file(name: str, content: bytes | Callable[[bytes], bytes]) -> Spoil:
    """The model with one file written anew, and pinned as it is then."""

    def spoil(project: Path) -> None:
        path = project / MODEL / name
        path.write_bytes(content if isinstance(content, bytes) else content(path.read_bytes()))
        _pinned(project)

    return spoil


def _without(*names: str, **instead: bytes) -> Spoil:
    def spoil(project: Path) -> None:
        for name in names:
            (project / MODEL / name).unlink()
        for name, content in instead.items():
            (project / MODEL / name.replace("_bin", ".bin")).write_bytes(content)
        _pinned(project)

    return spoil


def _settings(name: str, **settings: Any) -> Spoil:
    return _file(name, lambda text: json.dumps(json.loads(text) | settings).encode())


def _weights(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Spoil:
    """Sound for prepare; what is wrong is in the tensors."""

    def spoil(project: Path) -> None:
        path = project / MODEL / WEIGHTS
        save_file(change(load_file(path)), path, metadata={"format": "pt"})
        _pinned(project)
        tiny.run_stage("prepare", tiny.CASE)

    return spoil


def _then_prepare(spoil: Spoil) -> Spoil:
    def both(project: Path) -> None:
        spoil(project)
        tiny.run_stage("prepare", tiny.CASE)

    return both


def safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _tensors(*offsets: tuple[int, int]) -> bytes:
    told = {
        f"t{number}": {"dtype": "F32", "shape": [(end - start) // 4], "data_offsets": [start, end]}
        for number, (start, end) in enumerate(offsets)
    }
    return json.dumps(told).encode()


def _with_nan(tensors: dict[str, Any]) -> dict[str, Any]:
    weight = tensors["encoder.layer.1.output.dense.weight"].copy()
    weight[3, 5] = np.nan
    return tensors | {"encoder.layer.1.output.dense.weight": weight}


def _that_overflow(tensors: dict[str, Any]) -> dict[str, Any]:
    """Finite, as a product with them is not."""
    name = "encoder.layer.1.output.dense.weight"
    return tensors | {name: np.full_like(tensors[name], 3e38)}


NO_SAFETENSORS = "is no safetensors file"

MODELS = [
    Bad(
        "a pickle renamed .safetensors",
        _file(WEIGHTS, pickle.dumps(Hostile())),
        words(f"{SOURCE}: {WEIGHTS} {NO_SAFETENSORS}", "a renamed pickle is refused"),
    ),
    Bad(
        "safetensors whose tensors overlap",
        _file(WEIGHTS, safetensors(_tensors((0, 8), (4, 12)), b"\0" * 12)),
        words(f"{SOURCE}: {WEIGHTS} {NO_SAFETENSORS}"),
    ),
    Bad(
        "safetensors with a hole between tensors",
        _file(WEIGHTS, safetensors(_tensors((0, 4), (8, 12)), b"\0" * 12)),
        words(f"{SOURCE}: {WEIGHTS} {NO_SAFETENSORS}"),
    ),
    Bad(
        "safetensors whose header is said to be 2^62 bytes long",
        _file(WEIGHTS, safetensors(b"{}", length=2**62)),
        words(f"{SOURCE}: {WEIGHTS} {NO_SAFETENSORS}"),
    ),
    Bad(
        "safetensors whose header is longer than the file",
        _file(WEIGHTS, safetensors(b"{}", length=1000)),
        words(f"{SOURCE}: {WEIGHTS} {NO_SAFETENSORS}"),
    ),
    Bad(
        "safetensors whose data end too early",
        _file(WEIGHTS, lambda content: content[:-100]),
        words(f"{SOURCE}: {WEIGHTS} {NO_SAFETENSORS}"),
    ),
    Bad(
        "empty safetensors",
        _file(WEIGHTS, b""),
        words(f"{SOURCE}: {WEIGHTS} {NO_SAFETENSORS}"),
    ),
    Bad(
        "weights that are a pickle",
        _without(WEIGHTS, pytorch_model_bin=pickle.dumps(Hostile())),
        words(f"{SOURCE}, folder '.': weights are a pickle (pytorch_model.bin)"),
    ),
    Bad(
        "a model without weights",
        _without(WEIGHTS),
        words(f"{SOURCE}, folder '.': no *.safetensors there"),
    ),
    Bad(
        "a model without settings",
        _without("config.json"),
        words(f"{SOURCE}, folder '.': no config.json there"),
    ),
    Bad(
        "a model with code of its own (auto_map)",
        _settings("config.json", auto_map={"AutoModel": "evil.Model"}),
        words(f"{SOURCE}: config.json asks for code of the model's own (auto_map)"),
    ),
    Bad(
        "a tokenizer with code of its own (auto_map)",
        _settings("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]}),
        words(f"{SOURCE}: tokenizer_config.json asks for code of the model's own (auto_map)"),
    ),
    Bad(
        "settings that are no JSON",
        _file("config.json", b"{model_type: bert"),
        words(f"{SOURCE}: config.json is no JSON"),
    ),
    Bad(
        "settings that are a list",
        _file("config.json", b"[]"),
        words(f"{SOURCE}: config.json holds no settings"),
    ),
    Bad(
        "settings nested 100,000 levels deep",
        _file("config.json", b"[" * 100_000),
        words(f"{SOURCE}: config.json is no JSON"),
    ),
    Bad(
        "an unknown kind of model",
        _then_prepare(_settings("config.json", model_type="evil", architectures=["Evil"])),
        words(f"{MODEL}: transformers cannot load this model: "),
        BASE,
    ),
    Bad(
        "settings that do not fit the weights",
        _then_prepare(_settings("config.json", hidden_size=64)),
        words(f"{MODEL}: embeddings.LayerNorm.bias is 32 among the weights, 64 by config.json"),
        BASE,
    ),
    Bad(
        "a layer without weights",
        _weights(lambda tensors: {k: v for k, v in tensors.items() if "layer.1.output" not in k}),
        words(f"{MODEL}: no whole encoder: 4 weights missing (encoder.layer.1.output."),
        BASE,
    ),
    Bad(
        "a weight that is NaN",
        _weights(_with_nan),
        words(f"{MODEL}: not finite: ", "encoder.layer.1.output.dense.weight (1 of 2048 values)"),
        BASE,
    ),
    Bad(
        "weights whose products are not finite",
        _weights(_that_overflow),
        words(
            "task ",
            ": embeddings of ",
            " texts are not finite, from body.encoder.layer.1.output.dense (",
            "); set evaluation.precision to fp32, or choose another model",
        ),
        BASE,
    ),
    Bad(
        "a tokenizer that is no JSON",
        _then_prepare(_file("tokenizer.json", b"{")),
        words(f"{MODEL}: the tokenizer cannot be read: "),
        BASE,
    ),
    Bad(
        "a model changed after it was pinned",
        lambda project: _flip(project / MODEL / WEIGHTS),
        words(f"{SOURCE}: expected sha256", ", got "),
        BASE,
    ),
    Bad(
        "a manifest cut off",
        lambda project: _cut(project / f"models/base/{tiny.CASE}.json"),
        words("models/base/tiny.json: no JSON", "; delete it and run `dvc repro`"),
        BASE,
    ),
    Bad(
        "a tuned model cut off",
        lambda project: _cut(project / f"models/tuned/full/seed-0/{WEIGHTS}"),
        words("models/tuned/full/seed-0: transformers cannot load this model: "),
        ("retention_eval", "full"),
    ),
    Bad(
        "an adapter cut off",
        lambda project: _cut(project / "models/tuned/lora/seed-0/adapter_model.safetensors"),
        words("models/tuned/lora/seed-0: cannot be read (", "delete it and run `dvc repro`"),
        ("retention_eval", "lora"),
    ),
    Bad(
        "an adapter that lacks a matrix",
        lambda project: _drop_first(project / "models/tuned/lora/seed-0/adapter_model.safetensors"),
        words("models/tuned/lora/seed-0: cannot be read (base_model.", " is not both in "),
        ("retention_eval", "lora"),
    ),
    Bad(
        "an adapter's settings cut off",
        lambda project: _cut(project / "models/tuned/lora/seed-0/adapter_config.json"),
        words("models/tuned/lora/seed-0: cannot be read (", "delete it and run `dvc repro`"),
        ("retention_eval", "lora"),
    ),
    Bad(
        "a head cut off",
        lambda project: _cut(project / "models/tuned/full/seed-0/heads.safetensors"),
        words("models/tuned/full/seed-0: cannot be read (", "delete it and run `dvc repro`"),
        ("retention_eval", "full"),
    ),
]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _drop_first(path: Path) -> None:
    tensors = load_file(path)
    del tensors[min(tensors)]
    save_file(tensors, path)


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
