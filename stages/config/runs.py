"""params.yaml, section `runs`: one recipe each."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.config.methods import Methods
from stages.config.reading import Name, Section, load, lookup, parse, section


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds:
        raise ValueError("give one seed or more")
    if len(set(seeds)) < len(seeds):
        raise ValueError("duplicate seed")
    return seeds


Seed = Annotated[int, Field(ge=0, lt=2**31)]
Seeds = Annotated[tuple[Seed, ...], Field(strict=False), AfterValidator(_distinct)]


class RunConfig(Section):
    case: Name
    methods: Methods
    head: Literal["probe", "random"] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    head_learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    max_grad_norm: Annotated[float, Field(gt=0)]
    steps: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    precision: Literal["auto", "fp32", "bf16"]
    validate_every: Annotated[int, Field(ge=1)]
    validation_rows: Annotated[int, Field(ge=10)]
    checkpoint_every: Annotated[int, Field(ge=1)]
    seeds: Seeds

    @model_validator(mode="after")
    def _head_is_whole(self) -> Self:
        if (self.head is None) != (self.head_learning_rate is None):
            raise ValueError(
                f"head_learning_rate = {self.head_learning_rate}: goes with head, "
                f"which is {self.head!r}: give both or neither"
            )
        return self


def read_run(name: str) -> RunConfig:
    return section(RunConfig, f"runs.{name}")


def read_runs() -> dict[str, RunConfig]:
    runs: dict[str, Any] = lookup(load(), "runs")
    return {name: parse(RunConfig, value, f"runs.{name}") for name, value in runs.items()}
