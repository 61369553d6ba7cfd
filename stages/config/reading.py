"""params.yaml as YAML 1.2, and every mistake in it as one line."""

import difflib
import re
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from stages.errors import UserError, one_line
from stages.secrets import is_secret

PARAMS = Path("params.yaml")

BREAKS = re.compile("[\x85\u2028\u2029]")
"""Line breaks of YAML 1.1, which PyYAML folds into a space; by YAML 1.2, and for DVC, they are
characters like others."""
MOST_TEXTS = 100_000
"""Beyond it, a few lines of YAML have been unfolded into more than anybody wrote."""

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
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
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
        line = key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            raise UserError(f"{PARAMS}: line {line}: {key!r} is no name")
        if key in seen:
            raise UserError(f"{PARAMS}: line {line}: duplicate name {key!r}: keep one of the two")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    text = str(loader.construct_scalar(node))
    if len(text) > 100:
        return text  # beyond all bounds; left to the check of its key, which will name it
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"(?i)\.(inf|nan)", r"\1", str(loader.construct_scalar(node))))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load() -> dict[str, Any]:
    """The whole of params.yaml. Raises UserError where it is absent, not a mapping, or holds a
    secret: DVC copies it into dvc.lock, and git keeps that."""
    try:
        text = PARAMS.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{PARAMS}: not found; run from the project's top folder") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{PARAMS}: not UTF-8 at byte {error.start}") from None
    except OSError as error:
        raise UserError(f"{PARAMS}: cannot be read: {error.strerror}") from None
    params = parsed(text)
    texts = list(islice(_texts(params, ""), MOST_TEXTS))
    if len(texts) == MOST_TEXTS:
        raise UserError(f"{PARAMS}: more than {MOST_TEXTS} texts: aliases of aliases?")
    if is_secret("\n".join(text for _, text in texts)):
        key = next((key for key, text in texts if is_secret(text)), "a text")
        raise UserError(
            one_line(
                f"{PARAMS}: {key}: looks like a secret (not shown): remove it and revoke it; "
                "tokens belong into the environment, such as HF_TOKEN"
            )
        )
    return params


@lru_cache(maxsize=1)
def parsed(text: str) -> dict[str, Any]:
    """YAML 1.2 of a whole file. A stage looks several sections up, each time in the file; nobody
    changes what it finds."""
    if odd := BREAKS.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise UserError(
            f"{PARAMS}: line {line}: holds U+{ord(odd.group()):04X}, which not all readers of YAML "
            "take for a line break: leave it out"
        )
    try:
        params = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise UserError(f"{PARAMS}: not YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        # PyYAML lets out the last four where a value does not fit its tag, such as !!int x.
        reason = " ".join(str(error).split())
        raise UserError(one_line(f"{PARAMS}: not YAML: {reason}")) from None
    if not isinstance(params, dict):
        raise UserError(f"{PARAMS}: holds no mapping of sections")
    return params


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every text in a value of params.yaml, names included, with the key it stands at."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield f"a name under {key}" if key else "a name", str(name)
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)


def check_name(section: str, name: Any) -> None:
    """Raises UserError where an entry has no name that can stand in paths and commands."""
    if not isinstance(name, str):
        raise UserError(mistake(section, name, "a name is text: put it in quotes"))
    if not NAME.fullmatch(name):
        reason = "a name is lower-case letters, digits and hyphens, at most 60"
        raise UserError(mistake(section, name, reason))


def lookup(params: dict[str, Any], key: str) -> Any:
    """The value at a dotted `key`. Raises UserError naming the key and what stands there."""
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            near = suggestion(part, list(value) if isinstance(value, dict) else [])
            raise UserError(one_line(f"{PARAMS}: {key}: not there{near}"))
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
    return one_line(f"{PARAMS}: {key} = {shown}: {reason}")


REASONS = {
    "string_pattern_mismatch": "use lower-case letters, digits and hyphens",
    "tuple_type": "give a list, such as [a, b]",
    "model_type": "give keys with values",
    "dict_type": "give keys with values",
    "model_attributes_type": "give keys with values",
}
"""What is said instead of pydantic's words, by the type of its error."""


def parse(model: type[SectionType], value: Any, key: str) -> SectionType:
    """Validate what stands at `key`. Raises UserError with a line for every mistake.

    A validator of a whole section begins its message with the key inside: `source = 'x': …`.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [_line(model, value, key, detail) for detail in error.errors()]
        raise UserError("\n".join(lines)) from None


def _line(model: type[BaseModel], value: Any, key: str, detail: ErrorDetails) -> str:
    kind, found = detail["type"], detail["input"]
    location = _path(detail["loc"], value)
    where = ".".join([key, *location])
    reason = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error" and isinstance(found, dict):
        return one_line(f"{PARAMS}: {where}.{reason}")
    if kind == "missing":
        return one_line(f"{PARAMS}: {where}: missing")
    if kind == "union_tag_not_found":
        return one_line(f"{PARAMS}: {where}.reader: missing")
    if kind == "union_tag_invalid":
        expected = detail["ctx"]["expected_tags"]
        return mistake(f"{where}.reader", found["reader"], f"give one of {expected}")
    if kind == "extra_forbidden":
        reason = "unknown key" + suggestion(location[-1], _known(model, detail["loc"]))
    if kind == "too_short":
        reason = f"give {detail['ctx']['min_length']} or more"
    reason = REASONS.get(kind, reason)
    return mistake(where, found, reason[0].lower() + reason[1:])


def _path(location: Sequence[int | str], value: Any) -> list[str]:
    """Where a mistake is, as params.yaml has it.

    pydantic also names the tag (`reader`) of a union's chosen member, right after its place, and
    says `[key]` after a key that is wrong.
    """
    path: list[str] = []
    tagged = False
    for part in location:
        tagged = (
            bool(path) and not tagged and isinstance(value, dict) and value.get("reader") == part
        )
        if not tagged and part != "[key]":
            path.append(str(part))
            value = value.get(part) if isinstance(value, dict) else None
    return path


def _known(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The keys that may stand beside the last part of a location that pydantic gives."""
    models = [model]
    for part in location[:-1]:
        below = [m.model_fields[str(part)].annotation for m in models if part in m.model_fields]
        if below:
            models = [m for found in below for m in get_args(found) or (found,) if _is_section(m)]
        else:
            models = [m for m in models if part in get_args(m.model_fields["reader"].annotation)]
    return sorted({field for m in models for field in m.model_fields})


def _is_section(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, Section)


def section(model: type[SectionType], key: str) -> SectionType:
    """Read and validate one section of params.yaml, or one entry (`cases.<name>`) of it."""
    section, _, name = key.partition(".")
    if name:
        check_name(section, name)
    return parse(model, lookup(load(), key), key)
