"""A model's manifest: which files, with which sha256, from which pinned source.

The manifest travels through git and DVC; the bytes stay in the machine-wide cache and are
fetched again, and verified again, where they are absent.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from stages.config.models import ModelConfig
from stages.config.pin import PinnedModel
from stages.errors import UserError
from stages.sources.pinned import Source, open_source
from stages.storage import sha256_file

KEPT = (".safetensors", ".json", ".txt", ".model", ".spm", ".jinja")
SETTINGS = ("config.json", "tokenizer_config.json")
"""The files by which transformers would load code."""
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def _model_files(config: PinnedModel, source: Source) -> list[str]:
    folder = PurePosixPath(config.path)
    inside = [PurePosixPath(name) for name in source.names()]
    names = sorted(name.name for name in inside if name.parent == folder)
    where = f"{config.source}, folder {config.path or '.'!r}"
    if not any(name.endswith(".safetensors") for name in names):
        pickles = [name for name in names if name.endswith(PICKLES)]
        if pickles:
            raise UserError(
                f"{where}: weights are a pickle ({pickles[0]}), which can run code when loaded; "
                "use a revision of the model that has safetensors"
            )
        raise UserError(f"{where}: no *.safetensors there; set `path` to the model's folder")
    if "config.json" not in names:
        raise UserError(f"{where}: no config.json there; set `path` to the model's folder")
    return [name for name in names if name.endswith(KEPT)]


def _check_weights(folder: Path, source: str) -> None:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as weights:
                weights.keys()
        except SafetensorError as error:
            raise UserError(
                f"{source}: {path.name} is no safetensors file ({error}); "
                "a renamed pickle is refused: choose another source"
            ) from None


def _check_settings(folder: Path, names: list[str], source: str) -> None:
    for name in names:
        if name not in SETTINGS:
            continue
        try:
            settings = json.loads((folder / name).read_bytes())
        except (ValueError, RecursionError) as error:
            reason = f"{source}: {name} is no JSON ({error}): choose another source"
            raise UserError(reason) from None
        if not isinstance(settings, dict):
            raise UserError(f"{source}: {name} holds no settings: choose another source")
        if "auto_map" in settings:
            raise UserError(
                f"{source}: {name} asks for code of the model's own (auto_map), which is never "
                "run: choose a model that transformers knows by itself"
            )


def fetch(config: PinnedModel, weights: bool = True) -> tuple[Path, list[str]]:
    """A model's folder and the names of its files, checked; without `weights`, of its settings and
    tokenizer alone. Raises UserError, see sources."""
    source = open_source(config.source, sha256=config.sha256, revision=config.revision)
    names = [
        name
        for name in _model_files(config, source)
        if weights or not name.endswith(".safetensors")
    ]
    folder = source.folder(config.path, names)
    _check_settings(folder, names, config.source)
    if weights:
        _check_weights(folder, config.source)
    return folder, names


def fetched(config: ModelConfig, weights: bool = True) -> tuple[Path, list[str]]:
    """The same of a model of params.yaml; one in a GGUF file is converted whole."""
    return _converted(config, config.gguf) if config.gguf else fetch(config, weights)


def make_manifest(config: ModelConfig) -> dict[str, Any]:
    """Fetch a model and write down what it consists of. Raises UserError, see sources."""
    pin = config.model_dump(mode="json", exclude_none=True)
    folder, names = fetched(config)
    return {**pin, "files": {name: sha256_file(folder / name) for name in names}}


def _converted(config: ModelConfig, gguf: str) -> tuple[Path, list[str]]:
    from stages.models.gguf import convert  # torch, which prepare does not need otherwise

    source = open_source(config.source, sha256=config.sha256, revision=config.revision)
    folder = convert(source.folder(config.path, [gguf]) / gguf)
    return folder, sorted(path.name for path in folder.iterdir())
