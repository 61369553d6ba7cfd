"""The bytes of a csv, jsonl or parquet file to rows: strictly, and by row where it fails."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stages.tasks.cells import WrongCellError

DEEPEST = 20
"""Levels of lists and objects in a row of JSON."""

Row = dict[str, Any]
SCALAR = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
STRING = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)


def read_rows(suffix: str, content: bytes, wanted: Sequence[str]) -> list[Row]:
    """Each row as column -> value, for the `wanted` columns; None where a cell is empty.

    Where no column is called so, `a.b` is what objects in the column `a` call `b`.

    Bytes that are no UTF-8 come as surrogates, as `text_of` expects. Raises WrongCellError where
    the file is damaged, lacks a column or has no rows.
    """
    if not content.strip():
        raise WrongCellError(0, None, "has no rows")
    rows = list(READERS[suffix](content, wanted))
    if not rows:
        raise WrongCellError(0, None, "has no rows")
    return rows


def decoded(content: bytes) -> str:
    """Text; bytes that are no UTF-8 as surrogates. Raises WrongCellError at a byte order mark."""
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise WrongCellError(
            1, None, "begins with a byte order mark: save it as UTF-8 without one (not `utf-8-sig`)"
        )
    return content.decode("utf-8", errors="surrogateescape")


def _check_columns(wanted: Sequence[str], present: Sequence[str]) -> None:
    for column in wanted:
        if column not in present:
            shown = ", ".join(map(ascii, present[:20]))
            raise WrongCellError(0, column, f"is missing; there are {shown}")


def _csv(content: bytes, wanted: Sequence[str]) -> Iterator[Row]:
    """All is text: 007 keeps its zeros, and NA or None is a word like any other."""
    csv.field_size_limit(sys.maxsize)  # what is too long is told by its row and column
    lines = csv.reader(io.StringIO(decoded(content), newline=""), strict=True)
    number = 0
    try:
        header = next((line for line in lines if line), [])
        for column in header:
            if header.count(column) > 1:
                raise WrongCellError(0, column, "stands twice in the header: rename one")
        _check_columns(wanted, header)
        for line in lines:
            if not line:
                continue
            number += 1
            if len(line) != len(header):
                raise WrongCellError(
                    number, None, f"has {len(line)} fields, the header {len(header)}: quote commas"
                )
            yield {column: cell or None for column, cell in zip(header, line, strict=True)}
    except csv.Error as error:
        raise WrongCellError(number + 1, None, f"is not CSV: {error}") from None


def _jsonl(content: bytes, wanted: Sequence[str]) -> Iterator[Row]:
    """An object a line, or one list of objects."""
    for number, row in enumerate(_json_values(decoded(content)), 1):
        if not isinstance(row, dict):
            raise WrongCellError(number, None, f"is a {type(row).__name__}, no object with names")
        if _depth(row) > DEEPEST:
            raise WrongCellError(number, None, f"is nested more than {DEEPEST} levels deep")
        if number == 1:
            _check_columns(wanted, list(_paths(row)))
        yield {column: _reached(row, column) for column in wanted}


def _paths(row: Row) -> Iterator[str]:
    for name, value in row.items():
        yield name
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _paths(value))


def _reached(row: Row, column: str) -> Any:
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _json_values(text: str) -> Iterator[Any]:
    if text.lstrip().startswith("["):
        yield from parsed(text, 1)
        return
    lines = (line for line in text.split("\n") if line.strip())
    for number, line in enumerate(lines, 1):
        yield parsed(line, number)


def parsed(text: str, number: int) -> Any:
    """JSON. Raises WrongCellError, of row `number`, where it is none or has a name twice."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise WrongCellError(number, None, f"is nested more than {DEEPEST} levels deep") from None
    except ValueError as error:
        raise WrongCellError(number, None, f"is not JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!a} stands twice in an object")
    return row


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no value of JSON")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        nested = [inner for inner in level if isinstance(inner, dict | list)]
        level = [
            one
            for inner in nested
            for one in (inner.values() if isinstance(inner, dict) else inner)
        ]
    return depth - 1


def _parquet(content: bytes, wanted: Sequence[str]) -> Iterator[Row]:
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        _check_columns(wanted, list(_fields(file.schema_arrow)))
        columns = [_values(_column(file, column), column) for column in wanted]
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise WrongCellError(0, None, f"is not Parquet: {reason[:200]}") from None
    if len(set(map(len, columns))) > 1:
        raise WrongCellError(0, None, "is not Parquet: its columns are of different lengths")
    for cells in zip(*columns, strict=True):
        yield dict(zip(wanted, cells, strict=True))


def _fields(fields: Iterable[pa.Field]) -> Iterator[str]:
    for field in fields:
        yield field.name
        if pa.types.is_struct(field.type):
            yield from (f"{field.name}.{inner}" for inner in _fields(field.type))


def _column(file: pq.ParquetFile, name: str) -> pa.ChunkedArray:
    if name in file.schema_arrow.names:
        return file.read([name]).column(0)
    outer, *inner = name.split(".")
    return pc.struct_field(file.read([outer]).column(0), inner)


def _values(column: pa.ChunkedArray, name: str) -> list[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if any(is_kind(kind) for is_kind in STRING):
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if cell is None else cell.decode("utf-8", "surrogateescape") for cell in raw]
    if any(is_kind(kind) for is_kind in SCALAR) or _is_list(kind):
        values: list[Any] = column.to_pylist()
        return values
    raise WrongCellError(0, name, f"is of type {kind}: give text, numbers or lists of text")


def _is_list(kind: pa.DataType) -> bool:
    """Of texts, or of messages: objects of texts."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return False
    inner = kind.value_type
    kinds = [field.type for field in inner] if pa.types.is_struct(inner) else [inner]
    return all(any(is_kind(one) for is_kind in STRING) for one in kinds)


READERS = {".csv": _csv, ".json": _jsonl, ".jsonl": _jsonl, ".parquet": _parquet}
