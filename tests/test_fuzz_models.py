"""A model's files, damaged: it is refused in one line, or it loads and reads a text."""

import json
import resource
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import tiny
import transformers
from damage import OUTCOME, damaged, fuzz, told
from faults_page import Fault
from hypothesis import given
from hypothesis import strategies as st

from stages.config.models import ModelConfig
from stages.errors import UserError, said
from stages.models import base
from stages.models import tuned as tuned_models
from stages.models.base import materialise
from stages.models.encoder import embed
from stages.models.gguf import convert
from stages.models.loading import EncoderModel, load
from stages.models.manifest import make_manifest
from stages.storage import read_json, sha256_file

EXAMPLES = 30
MOST = 10**12
"""Of a number in the settings."""


@pytest.fixture
def folder(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(encoder, tmp_path / tiny.OWN / "model")
    with tiny.one_thread():
        yield tmp_path / tiny.OWN / "model"


def read() -> Any:
    """As prepare and pretrain-baseline-eval do it."""
    pin = tiny.pinned(Path(), f"{tiny.OWN}/model")
    config = ModelConfig.model_validate({**pin, "kind": "encoder", "pooling": "mean"})
    manifest = make_manifest(config)
    loaded = load(manifest, materialise(manifest))
    assert isinstance(loaded, EncoderModel)
    ids = loaded.tokenizer(["red1 filler2 unknown", "blue3"], 16)
    return embed(loaded.encoder, ids, loaded.tokenizer.pad_id, 64)


def try_with(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    found = told(read)
    if found is not None:
        assert len(found) == 2
        assert np.isfinite(found).all()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_tokenizers(name: str, folder: Path, fault: Fault) -> None:
    path = folder / name
    sound = path.read_bytes()
    try_with(path, sound)

    @fuzz(EXAMPLES)
    @given(damaged([sound]))
    def each(content: bytes) -> None:
        try_with(path, content)

    each()
    fault(f"a damaged {name}, by fuzzing", OUTCOME.format(EXAMPLES))


def test_a_model_without_a_tokenizer(folder: Path, fault: Fault) -> None:
    """transformers makes one of a few tokens, to which every word is unknown."""
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"has no tokenizer: none of tokenizer\.json"):
        read()
    fault("a model's folder without tokenizer files", "says: the model has no tokenizer")


def test_a_template_with_a_token_that_is_not_there(folder: Path, fault: Fault) -> None:
    """The tokenizer loads, and the library's Rust panics at the first text: no Exception."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_bytes())
    content["post_processor"]["single"].insert(0, {"SpecialToken": {"id": "[GONE]", "type_id": 0}})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="the tokenizer cannot be read: no entry found"):
        read()
    fault("a tokenizer's template names a token it lacks", "says: the tokenizer cannot be read")


def test_a_token_that_was_added_to_the_tokenizer_alone(folder: Path, fault: Fault) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "sep_token": "unknown"}))
    with pytest.raises(UserError, match=r"makes token (\d+) of a text, and the model knows \1:"):
        read()
    fault(
        "a text with a token that was added to the tokenizer alone",
        "says: the model does not know it; they are not of one model",
    )


def test_a_token_of_padding_that_was_added_later(folder: Path) -> None:
    sound, path = read(), folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "pad_token": "[ADDED]"}))
    assert (read() == sound).all()


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, MOST)
    | st.floats()
    | st.text(max_size=4)
    | st.lists(st.integers(0, 3), max_size=2)
    | st.sampled_from(["gelu", "bert", "roberta", "gpt2", "t5", "../evil", {"a": 1}, {}])
)


def test_settings(folder: Path, fault: Fault) -> None:
    """By value: a file that is no JSON is refused before transformers sees it."""
    path = folder / "config.json"
    settings = json.loads(path.read_bytes())

    @fuzz(EXAMPLES)
    @given(st.sampled_from(sorted(settings)), VALUES, st.booleans())
    def each(key: str, value: Any, gone: bool) -> None:
        changed = {**settings, key: value}
        if gone:
            del changed[key]
        try_with(path, json.dumps(changed).encode())

    @fuzz(EXAMPLES)
    @given(damaged([json.dumps({"model_type": "bert", "hidden_size": 32}).encode()]))
    def of_bytes(content: bytes) -> None:
        try_with(path, content)

    each()
    of_bytes()
    fault("a damaged config.json, by fuzzing", OUTCOME.format(2 * EXAMPLES))


ASKED = {
    "num_hidden_layers": 10**9,
    "num_labels": 10**9,
    "vocab_size": 10**12,
    "hidden_size": 2**20,
    "intermediate_size": 10**12,
    "max_position_embeddings": 10**12,
}


@pytest.mark.parametrize("key", ASKED)
def test_settings_that_ask_for_more_than_the_weights_hold(
    key: str, folder: Path, fault: Fault
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), key: ASKED[key]}))
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"its settings ask for (a num|far more)"):
        read()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began
    assert grown < 2**18, "KiB"
    fault(f"a config.json whose {key} is {ASKED[key]:,}", "exit 1, one line; nothing is built")


def test_more_layers_than_the_weights_hold(folder: Path, fault: Fault) -> None:
    """Few enough to be listed, and too many to be built."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "num_hidden_layers": 9999}))
    with pytest.raises(UserError, match=r"ask for far more than the weights hold \(\d+ tensors"):
        read()
    fault("a config.json whose num_hidden_layers is 9,999", "exit 1, one line; it is not built")


def test_weights(folder: Path, fault: Fault) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = whole[8 : 8 + length], whole[8 + length :]

    @fuzz(EXAMPLES)
    @given(damaged([header]), st.integers(-9, 9) | st.just(0))
    def of_headers(changed: bytes, more: int) -> None:
        size = max(0, len(changed) + more)
        try_with(path, struct.pack("<Q", size) + changed + data)

    @fuzz(EXAMPLES)
    @given(damaged([whole]))
    def of_all(changed: bytes) -> None:
        try_with(path, changed)

    of_headers()
    of_all()
    fault("damaged safetensors, by fuzzing", OUTCOME.format(2 * EXAMPLES))


TUNED = ("adapter_config.json", "adapter_model.safetensors", "heads.safetensors")


@pytest.mark.parametrize("name", TUNED)
def test_what_a_run_left_behind(name: str, bench: Path, fault: Fault) -> None:
    """As retention-eval loads it; a head is used as it is scored with."""
    tuned = bench / "models/tuned/lora/seed-0"
    path = tuned / name
    manifest = read_json(bench / f"models/base/{tiny.CASE}.json")
    base = materialise(manifest)
    sound = path.read_bytes()

    @fuzz(EXAMPLES // 2)
    @given(damaged([sound]))
    def each(content: bytes) -> None:
        path.write_bytes(content)
        loaded = told(lambda: load(manifest, base, tuned))
        if isinstance(loaded, EncoderModel):
            assert all(np.isfinite(head.weight).all() for head in loaded.heads.values())

    each()
    fault(f"a damaged {name} of a run, by fuzzing", OUTCOME.format(EXAMPLES // 2))


def test_no_memory_is_not_the_files_fault(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told to delete what was trained."""
    manifest = read_json(bench / f"models/base/{tiny.CASE}.json")

    def full(_: Path) -> None:
        raise MemoryError("Unable to allocate 32.0 GiB")

    monkeypatch.setattr(tuned_models, "load_file", full)
    with pytest.raises(MemoryError) as error:
        load(manifest, materialise(manifest), bench / "models/tuned/lora/seed-0")
    assert said(error.value).startswith("out of memory (Unable to allocate 32.0 GiB); where a run")


KEY = struct.pack("<Q", 20) + b"general.architecture"
GGUF = {
    "no bytes": b"",
    "a name alone": b"GGUF",
    "another format": b"\x80\x04." * 20,
    "an unknown version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "a count beyond the file": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60),
    "a text beyond the file": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + b"a",
    "an unknown type": b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<I", 77),
    "no architecture": b"GGUF" + struct.pack("<IQQ", 3, 0, 0),
    "an unknown architecture": (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + KEY + struct.pack("<IQ", 8, 4) + b"evil"
    ),
}


@pytest.mark.parametrize("what", GGUF)
def test_a_damaged_gguf(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "m.gguf"
    path.write_bytes(GGUF[what])
    with pytest.raises(UserError) as caught:
        convert(path)
    said = str(caught.value)
    assert said.startswith("m.gguf: transformers cannot read this GGUF: ")
    assert said.isprintable()
    assert [one for one in (tmp_path / "cache/converted").iterdir() if one.is_dir()] == []
    fault(f"a GGUF with {what}", "exit 1, one line; nothing is kept")


def test_a_gguf_that_another_transformers_converts_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """To convert it again makes the same files again; only damaged ones are to be deleted."""
    source = SimpleNamespace(folder=lambda *_: tmp_path)
    monkeypatch.setattr(base, "open_source", lambda *_, **__: source)
    monkeypatch.setattr(base, "convert", lambda _: tmp_path)
    for name in ("chat_template.jinja", "config.json", "model.safetensors"):
        (tmp_path / name).write_text("as prepare found it", encoding="utf-8")
    files = {path.name: sha256_file(path) for path in tmp_path.iterdir()}
    told = {"source": "pypi:one==1.0", "path": "", "kind": "causal", "gguf": "m.gguf"}
    manifest = {**told, "files": files}
    assert materialise(manifest) == tmp_path
    (tmp_path / "model.safetensors").write_text("damaged", encoding="utf-8")
    with pytest.raises(UserError, match=r"model\.safetensors has .*; delete .* and run again"):
        materialise(manifest)
    for name in ("chat_template.jinja", "config.json"):
        (tmp_path / name).write_text("of another version", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        materialise(manifest)
    said = str(caught.value)
    ours = transformers.__version__
    assert said.startswith(f"pypi:one==1.0: m.gguf converted by transformers {ours} has another")
    assert "dvc repro --force --single-item prepare@<case>" in said
    assert said.isprintable()
    fault("a GGUF that was prepared under another transformers", "exit 1, one line that says so")


def write_gguf(path: Path, blocks: int, written: int) -> None:
    """A Llama that says it has so many blocks, and of which so many are there."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(blocks)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(12)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (12, 8), "output_norm": (8,)}
    for block in range(written):
        own = {
            **dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (8, 8)),
            **{"ffn_gate": (16, 8), "ffn_up": (16, 8), "ffn_down": (8, 16)},
            **{"attn_norm": (8,), "ffn_norm": (8,)},
        }
        shapes |= {f"blk.{block}.{name}": shape for name, shape in own.items()}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.ones(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (10**9, "its settings ask for a block_count of 1000000000; at most 10000"),
        (9999, "its settings ask for far more than the weights hold"),
        (2, "9 weights are missing"),
    ],
)
def test_a_gguf_that_holds_less_than_it_says(
    blocks: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    write_gguf(tmp_path / "m.gguf", blocks, 1)
    with pytest.raises(UserError, match=said):
        convert(tmp_path / "m.gguf")
    assert [one for one in (tmp_path / "cache/converted").iterdir() if one.is_dir()] == []
    fault(f"a GGUF of 1 block that says it has {blocks:,}", "exit 1, one line; nothing is kept")
