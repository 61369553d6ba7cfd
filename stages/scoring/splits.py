"""The examples of one task that a scorer is given, and how it is to ask them."""

from collections.abc import Iterator
from dataclasses import dataclass

from stages.tasks.examples import ROLES, SPLITS, Examples, Task, read_role


@dataclass(frozen=True)
class Asking:
    """How a task is asked beyond once.

    `repeats`: times the test split is asked again under condition `rescored` (0: not at all).
    `conditions`: of noise on the test split. `seed`: what both derive from. `brief`: validation
    and test as they are, nothing else: neither train rows nor texts of the model's own.
    `validation`: whether that split is asked at all. `shots`: examples that a target is also asked
    with (0: it is not), see stages/scoring/shots.py. `trained`: ids of train rows that the model
    was trained on, which it is asked too.
    """

    repeats: int
    conditions: tuple[str, ...]
    seed: int
    brief: bool = False
    validation: bool = True
    shots: int = 0
    trained: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TaskSplits:
    """The three splits of one task. `role` is target or retain."""

    role: str
    train: Examples
    validation: Examples
    test: Examples

    @property
    def task(self) -> Task:
        return self.test.task

    def scored(self, asking: Asking) -> Iterator[tuple[str, Examples]]:
        """Train rows only where the model was trained on them: what it has learned by heart."""
        learned = self.train.rows[self.train.rows["example_id"].isin(asking.trained)]
        if len(learned) and not asking.brief:
            yield "train", Examples(self.task, learned.reset_index(drop=True))
        if asking.validation:
            yield "validation", self.validation
        yield "test", self.test


def read_splits(case: str) -> list[TaskSplits]:
    """All tasks of a case, targets first, each role in order of names."""
    return [
        TaskSplits(role, *of_task)
        for role in ROLES
        for of_task in zip(*(read_role(case, role, split) for split in SPLITS), strict=True)
    ]
