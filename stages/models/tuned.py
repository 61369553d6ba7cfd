"""What a run leaves behind: an adapter or the whole body, and a head. Never the base."""

from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from stages.models.encoder import Encoder, load_encoder
from stages.models.probe import Probe
from stages.storage import read_json, write_json

ADAPTER = "adapter_config.json"
HEAD = "head.safetensors"


def save_tuned(folder: Path, encoder: Encoder, head: Probe | None, base: str) -> None:
    """Write into `folder`: an adapter's weights where the body has one, else all weights.

    `base` is the source of the base model: an adapter names it, rather than a local path.
    """
    encoder.body.save_pretrained(folder)
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


def load_tuned(folder: Path, base: Path, manifest: dict[str, Any]) -> tuple[Encoder, Probe | None]:
    """Load what `save_tuned` wrote, adapter merged, in fp32 and in evaluation mode."""
    if (folder / ADAPTER).exists():
        import peft  # seconds to import, so only where an adapter needs it

        encoder = load_encoder(base, manifest["pooling"])
        adapted = peft.PeftModel.from_pretrained(encoder.body, folder)
        encoder.body = adapted.merge_and_unload()
    else:
        encoder = load_encoder(folder, manifest["pooling"])
    return encoder.eval(), _load_head(folder / HEAD)


def _load_head(path: Path) -> Probe | None:
    if not path.exists():
        return None
    tensors = load_file(path)
    return Probe(tensors["weight"], tensors["bias"])
