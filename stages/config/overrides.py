"""Changes of a run: the run with them, and as `dvc exp run -S` takes them."""

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

GONE = object()


def changed(run: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The run with keys set, dots within; what lies between is made where it is missing."""
    found: dict[str, Any] = deepcopy(dict(run))
    for key, value in changes.items():
        *way, last = key.split(".")
        inner = found
        for part in way:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[last] = deepcopy(value)
    return found


def overrides(
    run: str, changes: Mapping[str, Any], present: Mapping[str, Any] | None = None
) -> list[str]:
    """`changes`: of keys under the run, dots within. ++ sets a key whether it is there or not, and
    merges a mapping with the one that is there: so ~ deletes first what would outlive the change.

    `present`: the run as it is; left out where the changes take nothing away from mappings.
    """
    settings, now = [], dict(present or {})
    for key, value in changes.items():
        name = f"runs.{run}.{key}"
        if _outlives(at(now, key), value):
            settings.append(f"~{name}")
        settings.append(f"++{name}={_value(value)}")
        now = changed(now, {key: value})
    return settings


def at(params: Any, key: str) -> Any:
    """What stands at a key, dots within; GONE where there is no such key."""
    for part in key.split("."):
        params = params.get(part, GONE) if isinstance(params, Mapping) else GONE
    return params


def _outlives(before: Any, value: Any) -> bool:
    """Whether a key of the mapping `before`, at any depth, is not in `value`."""
    if not isinstance(before, Mapping) or not isinstance(value, Mapping):
        return False
    return any(key not in value or _outlives(inner, value[key]) for key, inner in before.items())


def _value(value: Any) -> str:
    """In Hydra's grammar, which DVC reads: mappings and lists without quotes or spaces."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_value, value)) + "]"
    return json.dumps(value) if not isinstance(value, str) else value
