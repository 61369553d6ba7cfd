"""How many layers a model has, told from its files, without torch."""

import json
from pathlib import Path

from stages.config.models import ModelConfig

COUNTED = ("num_hidden_layers", "n_layer", "n_layers")
"""What config.json calls their number, one architecture or another."""


def known_layers(config: ModelConfig) -> int | None:
    """What can be said before anything is fetched: of a folder of the user's own. None of seq2seq
    models, whose sides may differ, and where config.json does not say it."""
    scheme, _, place = config.source.partition(":")
    if scheme != "file" or config.kind == "seq2seq":
        return None
    try:
        settings = json.loads((Path(place) / config.path / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    told = [settings.get(key) for key in COUNTED] if isinstance(settings, dict) else []
    return next((one for one in told if type(one) is int), None)
