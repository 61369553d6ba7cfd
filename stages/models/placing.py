"""Where a model that is scored lies: on one device, or over several and main memory and disk."""

import json
import os
import shutil
import tempfile
import weakref
from typing import Any

import torch
from accelerate import dispatch_model, infer_auto_device_map

from stages import processes
from stages.errors import UserError

Map = dict[str, int | str]


def device_map() -> str | Map | None:
    """PALIMPSEST_DEVICE_MAP: `auto`, or a JSON object of module names, each with the number of a
    GPU, `cpu` or `disk`; None where it is not set. Raises UserError where it is neither."""
    given = os.environ.get("PALIMPSEST_DEVICE_MAP")
    if not given or given == "auto":
        return given or None
    try:
        found = json.loads(given)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(to, int | str) for to in found.values()):
        raise UserError(
            f"PALIMPSEST_DEVICE_MAP={given}: no device map; give auto, or JSON such as "
            '{"model.embed_tokens": 0, "model.layers": "cpu"}'
        )
    return found


def placed(model: Any, where: torch.device, used: torch.dtype) -> Any:
    """The model in this precision: on `where`, or as `device_map` says. What lies in main memory or
    on disk is brought to the first GPU, or to the CPU where there is none, when it is its turn.

    Raises UserError where the map does not fit the model, or there are several processes.
    """
    wanted = device_map()
    if wanted is None:
        return model.to(where, used)
    if processes.count() > 1:
        raise UserError("PALIMPSEST_DEVICE_MAP: one process takes all devices; set launch: python")
    model = model.to(used)
    folder = tempfile.mkdtemp(prefix="palimpsest-offload-")
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    try:
        whole = list(getattr(model, "_no_split_modules", None) or [])
        parts: Map = (
            infer_auto_device_map(model, no_split_module_classes=whole)
            if isinstance(wanted, str)
            else wanted
        )
        _check_first(model, parts)
        keys = getattr(model, "_skip_keys_device_placement", None)
        return dispatch_model(model, parts, offload_dir=folder, skip_keys=keys)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"PALIMPSEST_DEVICE_MAP: does not fit the model: {reason}") from None


def _check_first(model: Any, parts: Map) -> None:
    """Raises UserError where the embeddings are brought when it is their turn: nothing would say
    where the tokens are to be."""
    first = next(name for name, _ in model.named_parameters())
    named = (key for key in sorted(parts, reverse=True) if first.startswith(key))
    place = next((parts[key] for key in named), 0)
    on_gpu = not {"cpu", "disk"}.issuperset(map(str, parts.values()))
    if place == "disk" or (place == "cpu" and on_gpu):
        raise UserError(
            f"PALIMPSEST_DEVICE_MAP: {first} is given {place}: a model reads its tokens there, so "
            f"give it {'a GPU' if on_gpu else 'cpu'}"
        )
