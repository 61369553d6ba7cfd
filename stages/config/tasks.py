"""params.yaml, section `tasks`: what is asked, and where its rows come from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.config.columns import Columns
from stages.config.kinds import WRITTEN
from stages.config.readers import Data, Table
from stages.config.reading import Name, Section, section

Metric = Literal["exact-match", "f1", "rouge-l", "chrf", "bleu"]
"""What a written answer is held against its references by, see stages/statistics/references.py."""
Rows = Annotated[int, Field(ge=10, le=10_000_000)]


Kind = Literal[
    "classification",
    "linear-probe",
    "retrieval",
    "pair-classification",
    "relation",
    "token-classification",
    "extractive-qa",
    "multi-label",
    "regression",
    "pair-regression",
    "multiple-choice",
    "language-modelling",
    "news-writing",
    "instruction-following",
    "masked-lm",
    "minimal-pairs",
    "bias-pairs",
    "refusal",
    "completion",
    "chat",
    "lm-eval",
]
FITS: dict[str, tuple[Kind, ...]] = {
    "icd10": ("classification", "linear-probe"),
    "bbc": ("retrieval", "news-writing"),
    "newsgroups": ("classification", "linear-probe"),
    "reuters": ("classification", "linear-probe"),
    "vader": ("classification", "linear-probe"),
    "geonames": ("multiple-choice",),
    "cldr": ("multiple-choice",),
    "chatter": ("multiple-choice",),
    "agreement": ("multiple-choice",),
    "addition": ("multiple-choice",),
    "humaneval": ("language-modelling",),
    "instructions": ("instruction-following",),
    "table": (
        "classification",
        "linear-probe",
        "retrieval",
        "pair-classification",
        "relation",
        "multi-label",
        "regression",
        "pair-regression",
        "multiple-choice",
        "language-modelling",
        "masked-lm",
        "minimal-pairs",
        "bias-pairs",
        "refusal",
        "completion",
        "chat",
    ),
    "conll": ("token-classification",),
    "squad": ("extractive-qa",),
    "lm-eval": ("lm-eval",),
}
"""The kinds of task that the rows of a reader can be."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "classification": ("text", "label"),
    "linear-probe": ("text", "label"),
    "retrieval": ("query", "document"),
    "pair-classification": ("text", "text_pair", "label"),
    "relation": ("marked", "label"),
    "multi-label": ("text", "labels"),
    "regression": ("text", "value"),
    "pair-regression": ("text", "text_pair", "value"),
    "multiple-choice": ("context", "choices", "answer"),
    "language-modelling": ("text",),
    "masked-lm": ("text",),
    "minimal-pairs": ("good", "bad"),
    "bias-pairs": ("stereotype", "antistereotype"),
    "refusal": ("prompt", "expected"),
    "completion": ("prompt", "completion"),
    "chat": ("messages",),
}
"""The columns that a table of one's own needs, by kind."""
OPTIONAL = ("group", "slice", "id")
"""Those that any table may name."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "news-writing": ("max_new_tokens", "texts_per_topic", "judge"),
    "instruction-following": ("max_new_tokens",),
    "refusal": ("max_new_tokens",),
    **dict.fromkeys(WRITTEN, ("max_new_tokens", "metric")),
}
"""The keys that some kinds need and the others do not have."""
ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(WRITTEN, ("stop_at_newline",)),
    "multiple-choice": ("per_byte",),
}
"""The keys that some kinds may have besides."""
CHOSEN = ("max_new_tokens", "texts_per_topic", "judge", "metric", "stop_at_newline", "per_byte")
"""All of these keys."""


class TaskConfig(Section):
    kind: Kind
    data: Data
    max_length: Annotated[int, Field(ge=8, le=131_072)]
    train: Rows | None = None
    validation: Rows
    test: Rows
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] | None = None
    texts_per_topic: Annotated[int, Field(ge=3, le=10_000)] | None = None
    judge: Name | None = None
    negative: str | None = None
    """The label of a relation task that stands for none."""
    metric: Metric | None = None
    stop_at_newline: bool | None = None
    per_byte: bool | None = None

    @model_validator(mode="after")
    def _rows_fit_kind(self) -> Self:
        reader = self.data.reader
        if self.kind not in FITS[reader]:
            fits = " or ".join(FITS[reader])
            raise ValueError(f"kind = {self.kind!r}: data of reader {reader} fits {fits}")
        if self.train is None and self.kind != "lm-eval":
            raise ValueError(f"train: missing: a {self.kind} task needs it")
        if isinstance(self.data, Table):
            needed = COLUMNS[self.kind]
            for column in (one for one in Columns.model_fields if one not in OPTIONAL):
                name = getattr(self.data.columns, column)
                if column in needed and name is None:
                    raise ValueError(f"data.columns.{column}: missing: a {self.kind} task needs it")
                if column not in needed and name is not None:
                    raise ValueError(
                        f"data.columns.{column} = {name!r}: does not apply to a {self.kind} task"
                    )
            if self.data.labels is not None and not {"label", "labels"} & set(needed):
                raise ValueError(f"data.labels: does not apply to a {self.kind} task")
            if self.data.drop_unanswered and "completion" not in needed:
                raise ValueError(f"data.drop_unanswered: does not apply to a {self.kind} task")
        return self

    @model_validator(mode="after")
    def _options_fit_kind(self) -> Self:
        needed, allowed = OPTIONS.get(self.kind, ()), ALLOWED.get(self.kind, ())
        for option in CHOSEN:
            value = getattr(self, option)
            if option in needed and value is None:
                raise ValueError(f"{option}: missing: a {self.kind} task needs it")
            if option not in (*needed, *allowed) and value is not None:
                raise ValueError(f"{option} = {value!r}: does not apply to a {self.kind} task")
        written = self.max_new_tokens or 0
        if self.metric is not None and written >= self.max_length:
            raise ValueError(
                f"max_new_tokens = {written}: of max_length = {self.max_length} tokens some are to "
                "be left for the prompt: give less"
            )
        return self

    @model_validator(mode="after")
    def _negative_is_a_label(self) -> Self:
        labels = getattr(self.data, "labels", None)
        if self.negative is not None and self.kind != "relation":
            raise ValueError(f"negative = {self.negative!r}: does not apply to a {self.kind} task")
        if self.negative is not None and labels and self.negative not in labels:
            raise ValueError(f"negative = {self.negative!r}: is none of data.labels")
        return self


def read_tasks(names: tuple[str, ...]) -> dict[str, TaskConfig]:
    return {name: section(TaskConfig, f"tasks.{name}") for name in names}
