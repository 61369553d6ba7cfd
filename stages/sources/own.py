"""`file:` sources that cases read: is each there, and is a task's what its sha256 says?"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from stages.config.cases import CaseConfig
from stages.config.models import ModelConfig
from stages.config.readers import LmEval
from stages.config.stale import is_as_recorded
from stages.config.tasks import TaskConfig
from stages.errors import UserError
from stages.sources.pinned import open_source

FILE = "file:"


def own_mistakes(
    cases: Mapping[str, CaseConfig],
    tasks: Mapping[str, TaskConfig],
    models: Mapping[str, ModelConfig],
) -> Iterator[str]:
    """A line for every mistake, as `prepare` would tell it. Models are not hashed: it takes long.

    What is absent is no mistake where the case was prepared from it: DVC keeps what was made.
    """
    for name, case in cases.items():
        asked = [tasks[task] for task in (*case.targets, *case.retain) if task in tasks]
        named = dict.fromkeys([case.model, *(task.judge for task in asked if task.judge)])
        pins = [
            (models[model].source, models[model].sha256, False)
            for model in named
            if model in models
        ]
        pins += [(*_pin(task), True) for task in asked]
        for source, sha256, hashed in pins:
            if not source.startswith(FILE):
                continue
            there = Path(source.removeprefix(FILE)).exists()
            if hashed if there else not is_as_recorded(f"prepare@{name}"):
                try:
                    open_source(source, sha256=sha256)
                except UserError as error:
                    yield str(error)


def _pin(task: TaskConfig) -> tuple[str, str | None]:
    data = task.data
    if isinstance(data, LmEval):
        return f"{FILE}{data.include_path}" if data.include_path else "", data.sha256
    return getattr(data, "source", ""), getattr(data, "sha256", None)
