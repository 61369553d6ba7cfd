"""What a run leaves behind: an adapter or the whole body, and a head. Never the base."""

import warnings
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from stages.models.probe import Probe
from stages.storage import read_json, write_json

ADAPTER = "adapter_config.json"
HEAD = "head.safetensors"


def save_tuned(folder: Path, body: Any, head: Probe | None, base: str) -> None:
    """Write into `folder`: an adapter's weights where the body has one, else all weights.

    `base` is the source of the base model: an adapter names it, rather than a local path.
    """
    body.save_pretrained(folder)
    if (folder / ADAPTER).exists():
        settings = read_json(folder / ADAPTER)
        settings["base_model_name_or_path"] = base
        # PEFT keeps sets, whose order changes from process to process.
        for key in ("target_modules", "exclude_modules", "modules_to_save"):
            if isinstance(settings.get(key), list):
                settings[key].sort()
        write_json(folder / ADAPTER, settings)
        (folder / "README.md").unlink(missing_ok=True)
    if head is not None:
        save_file({"weight": head.weight, "bias": head.bias}, folder / HEAD)


def has_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).exists()


def merge_adapter(body: Any, folder: Path) -> Any:
    """The base's `body` with the adapter in `folder` added to its weights."""
    import peft  # seconds to import, so only where an adapter needs it

    with warnings.catch_warnings():
        # PEFT asks transformers by a name that transformers is about to drop.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        return peft.PeftModel.from_pretrained(body, folder).merge_and_unload()


def load_head(folder: Path) -> Probe | None:
    """The head that was trained with the body, or None."""
    if not (folder / HEAD).exists():
        return None
    tensors = load_file(folder / HEAD)
    return Probe(tensors["weight"], tensors["bias"])
