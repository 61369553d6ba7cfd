"""What a run leaves behind: an adapter or the whole body, and heads. Never the base."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from stages.errors import UserError, one_line, short_of_memory
from stages.models.probe import Probe
from stages.phases import phase
from stages.storage import read_json, write_json

ADAPTER = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
HEADS = "heads.safetensors"
MANIFEST = "base.json"
TRAINED = "trained.json"


@phase("save")
def save_tuned(
    folder: Path, body: Any, heads: Mapping[str, Probe], manifest: Mapping[str, Any]
) -> None:
    """Write into `folder`: an adapter's weights where the body has one, else all weights; the head
    of each target that has one; and the base's manifest, by which the folder can be loaded alone.

    An adapter names the source of its base, rather than a local path.
    """
    for settings in getattr(body, "peft_config", {}).values():
        if settings.peft_type == "ADALORA":
            # Ranks cut by the last step would be cut out of the weights of the best one.
            settings.rank_pattern = None
    with quiet_peft():
        body.save_pretrained(folder)
    if (folder / ADAPTER).exists():
        settings = read_json(folder / ADAPTER)
        settings["base_model_name_or_path"] = manifest["source"]
        # PEFT keeps sets, whose order changes from process to process.
        for key in ("target_modules", "exclude_modules", "modules_to_save"):
            if isinstance(settings.get(key), list):
                settings[key].sort()
        write_json(folder / ADAPTER, settings)
        (folder / "README.md").unlink(missing_ok=True)
    if heads:
        named = {
            f"{task}.{part}": getattr(head, part)
            for task, head in heads.items()
            for part in ("weight", "bias")
        }
        save_file(named, folder / HEADS)
    write_json(folder / MANIFEST, manifest)


def save_trained(folder: Path, rows: Mapping[str, Sequence[str]]) -> None:
    """`rows`: of each target, ids of train rows that the weights in `folder` were trained on."""
    write_json(folder / TRAINED, dict(rows))


def trained_rows(folder: Path) -> dict[str, list[str]]:
    found = read_json(folder / TRAINED)
    return {str(task): [str(one) for one in ids] for task, ids in found.items()}


def has_adapter(folder: Path) -> bool:
    return (folder / ADAPTER).exists()


def apply_adapter(body: Any, folder: Path) -> Any:
    """The base's `body` with the adapter in `folder` added to its weights; virtual tokens, which
    are no change of weights, in PEFT's wrapper."""
    import peft  # seconds to import, so only where an adapter needs it

    with quiet_peft(), _told(folder):
        wrapped = peft.PeftModel.from_pretrained(body, folder, torch_device="cpu")
        # PEFT warns, and leaves what is missing as an adapter that does nothing.
        with safe_open(folder / WEIGHTS, framework="np") as saved:
            odd = set(peft.get_peft_model_state_dict(wrapped)) ^ set(saved.keys())
        if odd:
            raise ValueError(f"{min(odd)} is not both in {WEIGHTS} and in the adapter")
    prompted = wrapped.active_peft_config.is_prompt_learning
    applied = wrapped if prompted else wrapped.merge_and_unload()
    return applied.requires_grad_(True)  # PEFT has frozen the base


@contextmanager
def quiet_peft() -> Iterator[None]:
    """PEFT asks transformers by a name that it is about to drop, and looks for the base on the hub,
    where only its source knows it: no affair of the user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        warnings.filterwarnings("ignore", message="Could not find a config file in")
        yield


def load_heads(folder: Path) -> dict[str, Probe]:
    """The head that was trained for each target."""
    if not (folder / HEADS).exists():
        return {}
    with _told(folder):
        tensors = load_file(folder / HEADS)
        tasks = sorted({name.rpartition(".")[0] for name in tensors})
        for name, weights in tensors.items():
            if not np.isfinite(weights).all():
                raise ValueError(f"{name} of {HEADS} is not finite")
        return {task: Probe(tensors[f"{task}.weight"], tensors[f"{task}.bias"]) for task in tasks}


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # settings of the wrong type fail wherever they are first used
        if short_of_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            one_line(f"{folder}: cannot be read ({reason}); delete it and run `dvc repro`")
        ) from None
