"""Whether a model has a head for masked words, told from its settings, without torch."""

from collections.abc import Sequence

from stages.config.models import ModelConfig
from stages.errors import UserError
from stages.models.manifest import fetched
from stages.storage import read_json

WITH_HEAD = ("MaskedLM", "PreTraining")
"""What the name of an architecture with such a head holds."""


def require_masked_head(config: ModelConfig, tasks: Sequence[str]) -> None:
    """Raises UserError where the model was saved as one without the head that `tasks` need."""
    named = read_json(fetched(config)[0] / "config.json").get("architectures") or []
    if named and not any(part in str(one) for one in named for part in WITH_HEAD):
        raise UserError(
            f"task {', '.join(tasks)}: {config.source}: is a {named[0]}, which has no head for "
            "masked words: give a model with one, or leave tasks of kind masked-lm out"
        )
