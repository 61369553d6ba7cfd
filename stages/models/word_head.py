"""Whether a model was published with a head that says masked words, told from its files, without
torch."""

import json
from collections.abc import Sequence
from pathlib import Path

from stages.config.models import ModelConfig
from stages.errors import UserError
from stages.models.manifest import fetched

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
    return scheme == "file" and _lacks(Path(place) / config.path)


def require_head(config: ModelConfig, tasks: Sequence[str]) -> None:
    """Raises UserError where the model was published without the head that `tasks` need."""
    if _lacks(fetched(config)[0]):
        raise UserError(f"task {', '.join(tasks)}: {config.source}: {LACKING}")


def _lacks(folder: Path) -> bool:
    """False where its settings do not say what it was published as."""
    try:
        settings = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    named = settings.get("architectures") if isinstance(settings, dict) else None
    if not isinstance(named, list) or not named:
        return False
    return not any(str(name).endswith(PUBLISHED) for name in named)
