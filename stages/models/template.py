"""Whether a model's tokenizer has a chat template, told from its files, without torch."""

import json
from collections.abc import Sequence
from pathlib import Path

from stages.config.models import ModelConfig
from stages.errors import UserError
from stages.models.manifest import fetched

FILE = "chat_template.jinja"
LACKING = (
    f"its tokenizer has no chat template ({FILE}, or chat_template in tokenizer_config.json): give "
    "a model with one, or tasks of kind completion"
)


def has_template(folder: Path) -> bool:
    """As transformers looks for one."""
    if (folder / FILE).exists():
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def known_to_lack(config: ModelConfig) -> bool:
    """Whether it can be said before anything is fetched: of a folder of the user's own."""
    scheme, _, place = config.source.partition(":")
    folder = Path(place) / config.path
    return scheme == "file" and (folder / "config.json").exists() and not has_template(folder)


def require_template(config: ModelConfig, tasks: Sequence[str]) -> None:
    """Raises UserError where the model has none, which `tasks` need."""
    if not has_template(fetched(config)[0]):
        raise UserError(f"task {', '.join(tasks)}: {config.source}: {LACKING}")
