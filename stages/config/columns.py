"""Columns of a table of one's own, by role: the name of one, or a text with names in braces."""

import string
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

from stages.config.reading import Section


def _parts(told: str) -> list[tuple[str, str | None]]:
    """Each piece of text, and the column that follows it. Raises ValueError at a brace alone."""
    parts = []
    for text, name, form, conversion in string.Formatter().parse(told):
        if name is not None and (not name or form or conversion):
            raise ValueError("a column's name stands in braces, and nothing else, such as {body}")
        parts.append((text, name))
    return parts


def is_template(told: str) -> bool:
    return "{" in told or "}" in told


def names_in(told: str) -> tuple[str, ...]:
    """The columns that a role is made of."""
    if not is_template(told):
        return (told,)
    return tuple(name for _, name in _parts(told) if name is not None)


def filled(template: str, cells: Mapping[str, str]) -> str:
    """`cells`: text by column."""
    return "".join(text + ("" if name is None else cells[name]) for text, name in _parts(template))


def _is_told(told: str) -> str:
    try:
        names = names_in(told)
    except ValueError as error:
        raise ValueError(f"{error}; two braces, {{{{ or }}}}, stand for one") from None
    if not names:
        raise ValueError("names no column: give one in braces, such as {body}")
    return told


Column = Annotated[str, AfterValidator(_is_told)]


class Columns(Section):
    """`{instruction}\\n{input}\\n` is a text of two columns; in a name a dot leads into a column
    that holds objects, as in `translation.de`."""

    text: Column | None = None
    text_pair: Column | None = None
    marked: Column | None = None
    """A text with `<e1>head</e1>` and `<e2>tail</e2>` in it."""
    label: Column | None = None
    labels: Column | None = None
    value: Column | None = None
    query: Column | None = None
    document: Column | None = None
    context: Column | None = None
    choices: Column | None = None
    answer: Column | None = None
    good: Column | None = None
    bad: Column | None = None
    stereotype: Column | None = None
    antistereotype: Column | None = None
    prompt: Column | None = None
    expected: Column | None = None
    completion: Column | None = None
    messages: Column | None = None
    group: Column | None = None
    slice: Column | None = None
    id: Column | None = None
