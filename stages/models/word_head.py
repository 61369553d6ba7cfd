"""Whether a model was published with a head that says masked words, told from its files, without
torch."""

import json
from pathlib import Path

from stages.config.models import ModelConfig

NEEDED = ("masked-lm", "minimal-pairs", "bias-pairs")
"""Kinds of task that an encoder answers by it."""
PUBLISHED = ("ForMaskedLM", "ForPreTraining")
"""How the names of architectures end that may have it."""
LACKING = (
    "its config.json names no architecture with a head for masked words: give a model that was "
    f"published as …{PUBLISHED[0]}"
)


def known_to_lack(config: ModelConfig) -> bool:
    """Whether it can be said before anything is fetched: of a folder of the user's own."""
    scheme, _, place = config.source.partition(":")
    if scheme != "file":
        return False
    try:
        settings = json.loads((Path(place) / config.path / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    named = settings.get("architectures") if isinstance(settings, dict) else None
    if not isinstance(named, list) or not named:
        return False
    return not any(str(name).endswith(PUBLISHED) for name in named)
