"""params.yaml, `data` of a task: the reader of its rows, and what it needs to know."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from stages.config.columns import Columns
from stages.config.pin import Pin
from stages.config.reading import Section


class Icd10(Pin):
    reader: Literal["icd10"]
    per_category: Annotated[int, Field(ge=1)]


class Bbc(Pin):
    reader: Literal["bbc"]


class Newsgroups(Pin):
    reader: Literal["newsgroups"]


class Reuters(Pin):
    reader: Literal["reuters"]


class Vader(Pin):
    reader: Literal["vader"]
    corpus: Literal["movie", "amazon", "nyt", "tweets"]
    threshold: Annotated[float, Field(ge=0, le=4)]


class Geonames(Pin):
    reader: Literal["geonames"]


class Cldr(Section):
    """Names from Unicode's CLDR, through babel, which constraints.txt pins."""

    reader: Literal["cldr"]
    language: Annotated[str, StringConstraints(pattern="^[a-z]{2,3}$")]


class Chatter(Pin):
    reader: Literal["chatter"]


class HumanEval(Pin):
    reader: Literal["humaneval"]


class Made(Section):
    """Rows that this project makes itself, from word lists and `seed`."""

    reader: Literal["agreement", "addition", "instructions"]


class Files(Pin):
    """A source's files by split, or one that is split here; None where it has one only."""

    files: dict[Literal["all", "train", "validation", "test"], str] | None = None

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


class Table(Files):
    """Rows of one's own: csv, jsonl or parquet."""

    reader: Literal["table"]
    columns: Columns
    labels: Annotated[tuple[str, ...], Field(strict=False, min_length=2)] | None = None
    drop_unanswered: bool = False
    """Whether rows without a completion are left out and counted; they are an error if not."""


class Conll(Files):
    """Sentences of tagged words. `token`, `tag`: their columns, from 0; from the last, -1."""

    reader: Literal["conll"]
    token: Annotated[int, Field(ge=-100, le=99)] = 0
    tag: Annotated[int, Field(ge=-100, le=99)] = -1


class Squad(Files):
    """SQuAD's JSON, version 1.1 or 2.0, or its rows in parquet."""

    reader: Literal["squad"]


class LmEval(Section):
    """A task of lm-evaluation-harness, or of YAML files of one's own under `include_path`.

    `sha256` pins that folder, `revision` the data set of the hub that the task loads.
    """

    reader: Literal["lm-eval"]
    task: Annotated[str, StringConstraints(min_length=1)]
    include_path: str | None = None
    sha256: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")] | None = None
    revision: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")] | None = None
    num_fewshot: Annotated[int, Field(ge=0, le=1000)] | None = None
    metric: str | None = None
    filter: str | None = None

    @model_validator(mode="after")
    def _folder_is_pinned(self) -> Self:
        if self.include_path is not None and self.sha256 is None:
            raise ValueError(
                f"sha256 = None: include_path {self.include_path!r} needs a sha256 of 64 hex digits"
            )
        if self.include_path is None and self.sha256 is not None:
            raise ValueError(f"sha256 = {self.sha256!r}: pins include_path, which is not given")
        return self


Data = Annotated[
    Icd10
    | Bbc
    | Newsgroups
    | Reuters
    | Vader
    | Geonames
    | Cldr
    | Chatter
    | HumanEval
    | Made
    | Table
    | Conll
    | Squad
    | LmEval,
    Field(discriminator="reader"),
]
