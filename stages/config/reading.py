"""params.yaml as YAML 1.2, and every mistake in it as one line."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from stages.errors import UserError

PARAMS = Path("params.yaml")

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
"""A slug: it becomes a file name and a part of a metric's key."""

Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]

Names = Annotated[tuple[Name, ...], Field(strict=False)]


class Section(BaseModel):
    """A frozen part of params.yaml: unknown keys fail, types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=Section)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: 1e-05 is a number and `no` is a word; a key stands once."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}",
        re.compile(f"^(?:{_pattern})$"),
        [*_first, *([""] if _tag == "null" else [])],
    )


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            line = key_node.start_mark.line + 1
            raise UserError(f"{PARAMS}: line {line}: duplicate name {key!r}: keep one of the two")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)))


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"(?i)\.(inf|nan)", r"\1", str(loader.construct_scalar(node))))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load() -> dict[str, Any]:
    """The whole of params.yaml. Raises UserError where it is absent or not a mapping."""
    try:
        text = PARAMS.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{PARAMS}: not found; run from the project's top folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{PARAMS}: not UTF-8 at byte {error.start}") from None
    try:
        params = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{PARAMS}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise UserError(f"{PARAMS}: holds no mapping of sections")
    return params


def lookup(params: dict[str, Any], key: str) -> Any:
    """The value at a dotted `key`. Raises UserError naming the key and what stands there."""
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            near = suggestion(part, list(value) if isinstance(value, dict) else [])
            raise UserError(f"{PARAMS}: {key}: not there{near}")
        value = value[part]
    return value


def suggestion(word: str, known: Sequence[object]) -> str:
    """`; did you mean …?`, or the empty string where nothing known is near `word`."""
    close = difflib.get_close_matches(word, [str(item) for item in known], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def mistake(key: str, value: Any, reason: str) -> str:
    """The one line that says what is wrong with a key of params.yaml."""
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{PARAMS}: {key} = {shown}: {reason}"


def parse(model: type[SectionType], value: Any, key: str) -> SectionType:
    """Validate what stands at `key`. Raises UserError with a line for every mistake."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            # pydantic puts the tag of a union's chosen member into the path; params.yaml has none.
            location = [str(part) for part in detail["loc"] if not _is_tag(part, value)]
            where = ".".join([key, *location])
            reason = detail["msg"].removeprefix("Value error, ")
            reason = reason[0].lower() + reason[1:]
            if detail["type"] == "extra_forbidden":
                reason = "unknown key" + suggestion(location[-1], sorted(model.model_fields))
            elif detail["type"] == "missing":
                lines.append(f"{PARAMS}: {where}: missing")
                continue
            elif detail["type"] == "string_pattern_mismatch":
                reason = "use lower-case letters, digits and hyphens"
            lines.append(mistake(where, detail["input"], reason))
        raise UserError("\n".join(lines)) from None


def _is_tag(part: Any, value: Any) -> bool:
    return isinstance(part, str) and isinstance(value, dict) and part in _tags(value)


def _tags(value: dict[str, Any]) -> set[str]:
    return {
        str(inner["reader"])
        for inner in value.values()
        if isinstance(inner, dict) and "reader" in inner
    }


def section(model: type[SectionType], key: str) -> SectionType:
    """Read and validate one section of params.yaml."""
    return parse(model, lookup(load(), key), key)
