"""What only some tasks need, and pyproject.toml has as an optional extra."""

from importlib.util import find_spec

from stages.errors import UserError


def require_harness() -> None:
    """Raises UserError where lm-evaluation-harness is not installed."""
    if find_spec("lm_eval") is None:
        raise UserError(
            "tasks of kind lm-eval need lm-evaluation-harness: pip install '.[harness]'"
        )
