"""`file:` sources that cases read: is each there, and is a task's what its sha256 says?"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from stages.config.cases import CaseConfig
from stages.config.models import ModelConfig
from stages.config.readers import LmEval
from stages.config.reading import PARAMS
from stages.config.stale import is_as_recorded
from stages.config.tasks import TaskConfig
from stages.errors import UserError, one_line
from stages.sources.pinned import open_source

FILE = "file:"


def own_mistakes(
    cases: Mapping[str, CaseConfig],
    tasks: Mapping[str, TaskConfig],
    models: Mapping[str, ModelConfig],
) -> Iterator[str]:
    """A line for every mistake that `prepare` would tell. Models are not hashed: it takes long.

    What is absent is no mistake where the case was prepared from it: DVC keeps what was made.
    """
    for case_name, case in cases.items():
        asked = {task: tasks[task] for task in (*case.targets, *case.retain) if task in tasks}
        judges = (task.judge for task in asked.values() if task.judge)
        pins = [
            (f"models.{model}.source", models[model].source, models[model].sha256, False)
            for model in dict.fromkeys([case.model, *judges])
            if model in models
        ]
        pins += [(*_pin(name, task), True) for name, task in asked.items()]
        for key, source, sha256, hashed in pins:
            if not source.startswith(FILE):
                continue
            there = Path(source.removeprefix(FILE)).exists()
            if hashed if there else not is_as_recorded(f"prepare@{case_name}"):
                try:
                    open_source(source, sha256=sha256)
                except UserError as error:
                    yield one_line(f"{PARAMS}: {key}: {error}")


def _pin(name: str, task: TaskConfig) -> tuple[str, str, str | None]:
    """The key of the task's source, the source, and its sha256."""
    key, data = f"tasks.{name}.data", task.data
    if isinstance(data, LmEval):
        source = f"{FILE}{data.include_path}" if data.include_path else ""
        return f"{key}.include_path", source, data.sha256
    return f"{key}.source", getattr(data, "source", ""), getattr(data, "sha256", None)
