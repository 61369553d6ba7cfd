"""params.yaml, section `runs`: one recipe each."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from stages.config.reading import (
    NAME,
    Name,
    Names,
    Section,
    check_name,
    load,
    lookup,
    parse,
    section,
)


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds:
        raise ValueError("give one seed or more")
    if len(set(seeds)) < len(seeds):
        raise ValueError("duplicate seed")
    return seeds


TEACHER = rf"^(models/base/{NAME.pattern}\.json|models/tuned/{NAME.pattern})$"
"""The base manifest, or the folder of a run whose tuned model is distilled or begun with."""
TUNED = "models/tuned/"

WHOLE = ("ewc", "freeze", "l1", "l2", "l2-sp")
"""Methods that reckon with the base's weights, or choose among them."""

Step = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False), AfterValidator(_distinct)]


Rate = Annotated[float, Field(gt=0, le=1)]


class Plateau(Section):
    """`factor`: what the rate is multiplied by after `patience` looks without a better one."""

    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=1)]


class Draw(Section):
    """Of a target's train rows: `rows` in all, or `per_label` of each label."""

    rows: Annotated[int, Field(ge=2)] | None = None
    per_label: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.rows is None) == (self.per_label is None):
            raise ValueError(f"rows = {self.rows}: give rows or per_label, one of the two")
        return self


class RunConfig(Section):
    case: Name
    pool: Literal["target", "retain/train"]
    teacher: Annotated[str, StringConstraints(pattern=TEACHER)]
    starts: Literal["base", "teacher"] = "base"
    """teacher: a step of a sequence, which goes on from the tuned model of an earlier run."""
    learns: Names | None = None
    """Of the case's targets; None: all."""
    methods: dict[str, Any]
    """By name; stages/training/methods/ knows what they are."""
    head: Literal["probe", "random"] | None = None
    learning_rate: Rate
    head_learning_rate: Rate | None = None
    layer_decay: Rate = 1.0
    schedule: Literal["linear", "constant", "cosine", "restarts", "plateau"] = "linear"
    cycles: Annotated[int, Field(ge=2)] | None = None
    plateau: Plateau | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    steps: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    accumulate: Annotated[int, Field(ge=1)] = 1
    """The parts of a step's rows that each process takes one after the other."""
    gradient_checkpointing: bool = False
    compile: bool = False
    quantise: Literal["4bit"] | None = None
    """Of the base under a LoRA adapter."""
    precision: Literal["auto", "fp32", "bf16"]
    validate_every: Annotated[int, Field(ge=1)]
    validation_rows: Annotated[int, Field(ge=10)]
    early_stopping: Annotated[int, Field(ge=1)] | None = None
    checkpoint_every: Annotated[int, Field(ge=1)]
    snapshots: Annotated[tuple[Step, ...], Field(strict=False)] = ()
    seeds: Seeds
    draw: Draw | None = None
    """Few train rows, drawn anew by each seed; all of them where it is None."""
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    """Of cross-validation: models more, each trained without a fold of the target's train rows."""

    @property
    def before(self) -> str | None:
        """The run that it starts from; None where it starts from the base."""
        return self.teacher.removeprefix(TUNED) if self.starts == "teacher" else None

    @property
    def is_step(self) -> bool:
        """Whether it starts from another run, or leaves targets for others to learn."""
        return self.starts == "teacher" or self.learns is not None

    @model_validator(mode="after")
    def _start_is_a_run(self) -> Self:
        if self.starts == "teacher" and not self.teacher.startswith(TUNED):
            raise ValueError(
                f"starts = 'teacher': teacher is {self.teacher}: give models/tuned/<run>, the step "
                "before"
            )
        return self

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if self.learns is not None:
            if not self.learns:
                raise ValueError("learns = []: give one target or more, or leave it out for all")
            if len(set(self.learns)) < len(self.learns):
                raise ValueError(f"learns = {list(self.learns)}: a target stands there twice")
            if self.folds:
                raise ValueError(
                    f"folds = {self.folds}: every target of the case is asked of a fold's model, "
                    "and this run does not learn them all: leave folds or learns out"
                )
        return self

    @model_validator(mode="after")
    def _head_is_whole(self) -> Self:
        if (self.head is None) != (self.head_learning_rate is None):
            raise ValueError(
                f"head_learning_rate = {self.head_learning_rate}: goes with head, "
                f"which is {self.head!r}: give both or neither"
            )
        return self

    @model_validator(mode="after")
    def _compiled_is_kept(self) -> Self:
        if self.compile and self.gradient_checkpointing:
            raise ValueError(
                "compile = True: not with gradient_checkpointing, which calls layers as they are "
                "written: leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _quantised_is_frozen(self) -> Self:
        if self.quantise and "lora" not in self.methods:
            raise ValueError(f"quantise = {self.quantise}: goes with methods.lora: add it")
        if self.quantise and self.starts == "teacher":
            raise ValueError(
                f"quantise = {self.quantise}: a base is held in 4 bits, and this run starts from "
                "another's weights: leave one of the two out"
            )
        moving = [name for name in WHOLE if name in self.methods]
        if self.quantise and moving:
            raise ValueError(
                f"quantise = {self.quantise}: {moving[0]} needs the base's weights as they are: "
                "leave one of the two out"
            )
        return self

    @model_validator(mode="after")
    def _snapshots_are_reached(self) -> Self:
        shown = f"snapshots = {list(self.snapshots)}: "
        if len(set(self.snapshots)) < len(self.snapshots):
            raise ValueError(f"{shown}duplicate step")
        if max(self.snapshots, default=0) > self.steps:
            raise ValueError(f"{shown}the run ends after {self.steps} steps")
        if self.snapshots and self.early_stopping is not None:
            raise ValueError(f"{shown}early_stopping may end before: leave one of the two out")
        return self

    @model_validator(mode="after")
    def _folds_are_unseen(self) -> Self:
        if self.folds and self.draw:
            raise ValueError(
                f"folds = {self.folds}: of all train rows, and the run has a draw of them: leave "
                "one of the two out"
            )
        if self.folds and self.teacher.startswith(TUNED):
            raise ValueError(
                f"folds = {self.folds}: {self.teacher} has learned the rows that a fold holds out: "
                "leave folds out"
            )
        return self

    @model_validator(mode="after")
    def _schedule_is_whole(self) -> Self:
        for key, shape, example in (
            ("cycles", "restarts", "cycles: 2"),
            ("plateau", "plateau", "plateau: {factor: 0.5, patience: 2}"),
        ):
            given = getattr(self, key)
            if (given is None) == (self.schedule == shape):
                shown = given.model_dump() if isinstance(given, Section) else given
                add = f"add {key}, such as {example}" if given is None else f"leave {key} out"
                raise ValueError(
                    f"{key} = {shown}: goes with schedule: {shape}, and only with it; "
                    f"schedule is {self.schedule}: {add}"
                )
        return self


def read_run(name: str) -> RunConfig:
    return section(RunConfig, f"runs.{name}")


def read_runs() -> dict[str, RunConfig]:
    runs: dict[str, Any] = lookup(load(), "runs")
    for name in runs:
        check_name("runs", name)
    return {name: parse(RunConfig, value, f"runs.{name}") for name, value in runs.items()}
