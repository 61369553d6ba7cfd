"""Changes of a run, as `dvc exp run -S` takes them."""

import json
from collections.abc import Mapping
from typing import Any


def overrides(run: str, changes: Mapping[str, Any]) -> list[str]:
    """`changes`: of keys under the run, dots within. ++ sets a key whether it is there or not."""
    return [f"++runs.{run}.{key}={_value(value)}" for key, value in changes.items()]


def _value(value: Any) -> str:
    """In Hydra's grammar, which DVC reads: mappings and lists without quotes or spaces."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_value, value)) + "]"
    return json.dumps(value) if not isinstance(value, str) else value
