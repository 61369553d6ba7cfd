"""params.yaml, section `cases`: one model, its targets, and what it must not lose."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from stages.config.reading import Name, Names, Section, check_name, load, lookup, parse, section

UNSEEN = 2
"""Retain tasks, at least, that no method of any run of a case may use: what runs are ranked by."""


class CaseConfig(Section):
    model: Name
    targets: Names
    retain: Names
    shots: Annotated[int, Field(ge=1, le=100)] | None = None
    """Of a prompt that the untouched model is also asked the targets with."""

    @model_validator(mode="after")
    def _lists_are_whole(self) -> Self:
        if not self.targets:
            raise ValueError("targets = []: give one target or more")
        if len(self.retain) < UNSEEN:
            raise ValueError(f"retain = {list(self.retain)}: give {UNSEEN} tasks or more")
        tasks = [*self.targets, *self.retain]
        for role, names in (("retain", self.retain), ("targets", self.targets)):
            for task in names:
                if tasks.count(task) > 1:
                    twice = "duplicate name" if names.count(task) > 1 else "also a target:"
                    raise ValueError(f"{role} = {list(names)}: {twice} {task!r}")
        return self


def read_case(name: str) -> CaseConfig:
    return section(CaseConfig, f"cases.{name}")


def read_cases() -> dict[str, CaseConfig]:
    cases = lookup(load(), "cases")
    for name in cases:
        check_name("cases", name)
    return {name: parse(CaseConfig, value, f"cases.{name}") for name, value in cases.items()}
