"""params.yaml, section `tasks`: what is asked, and where its rows come from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.config.pin import Pin
from stages.config.reading import Section, section

Rows = Annotated[int, Field(ge=10, le=10_000_000)]


class Icd10(Pin):
    reader: Literal["icd10"]
    per_category: Annotated[int, Field(ge=1)]


class Bbc(Pin):
    reader: Literal["bbc"]


class Newsgroups(Pin):
    reader: Literal["newsgroups"]


class Vader(Pin):
    reader: Literal["vader"]
    corpus: Literal["movie", "amazon", "nyt", "tweets"]
    threshold: Annotated[float, Field(ge=0, le=4)]


class Columns(Section):
    text: str | None = None
    label: str | None = None
    query: str | None = None
    document: str | None = None
    group: str | None = None
    slice: str | None = None


class Table(Pin):
    """Rows of one's own: csv, jsonl or parquet."""

    reader: Literal["table"]
    files: dict[Literal["all", "train", "validation", "test"], str] | None = None
    columns: Columns

    @model_validator(mode="after")
    def _files_cover_all(self) -> Self:
        names = set(self.files or {"all": ""})
        if names != {"all"} and not {"train", "test"} <= names:
            raise ValueError(
                f"files = {sorted(names)}: give `all`, or `train` and `test` (and `validation`)"
            )
        if "all" in names and len(names) > 1:
            raise ValueError(f"files = {sorted(names)}: `all` stands alone")
        return self


class TaskConfig(Section):
    kind: Literal["classification", "linear-probe", "retrieval"]
    data: Annotated[Icd10 | Bbc | Newsgroups | Vader | Table, Field(discriminator="reader")]
    max_length: Annotated[int, Field(ge=8, le=131_072)]
    train: Rows
    validation: Rows
    test: Rows

    @model_validator(mode="after")
    def _rows_fit_kind(self) -> Self:
        if isinstance(self.data, Table):
            pairs, labelled = ("query", "document"), ("text", "label")
            retrieval = self.kind == "retrieval"
            for column in (*pairs, *labelled):
                name = getattr(self.data.columns, column)
                if (column in pairs) == retrieval and name is None:
                    raise ValueError(f"data.columns.{column}: missing: a {self.kind} task needs it")
                if (column in pairs) != retrieval and name is not None:
                    raise ValueError(
                        f"data.columns.{column} = {name!r}: does not apply to a {self.kind} task"
                    )
        elif (self.data.reader == "bbc") != (self.kind == "retrieval"):
            fits = "retrieval" if self.data.reader == "bbc" else "classification or linear-probe"
            raise ValueError(f"kind = {self.kind!r}: data of reader {self.data.reader} fits {fits}")
        return self


def read_tasks(names: tuple[str, ...]) -> dict[str, TaskConfig]:
    return {name: section(TaskConfig, f"tasks.{name}") for name in names}
