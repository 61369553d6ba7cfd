"""Where an lm-eval task is defined, and where its documents come from: pinned, or refused."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
from lm_eval.tasks import TaskManager

from stages.config.readers import LmEval
from stages.config.reading import mistake, suggestion
from stages.errors import UserError

MOST = 100
"""Names of a group's tasks that are listed: lm-eval's largest have hundreds."""


def find(key: str, data: LmEval, root: Path) -> str:
    """The YAML file of the task, relative to `root`. Raises UserError where it is not there, or
    is a group of tasks."""
    own = data.include_path is not None
    manager = TaskManager(include_path=root, include_defaults=False) if own else _built_in()
    where = data.include_path or "lm-eval"
    if data.task not in manager.task_index:
        near = suggestion(data.task, manager.all_tasks)
        raise UserError(mistake(f"{key}.task", data.task, f"no YAML of {where} has it{near}"))
    if data.task in {*manager.all_groups, *manager.all_tags}:
        names = sorted(set(_members(manager, data.task)))
        more = f" \u2026 ({len(names)} in all)" if len(names) > MOST else ""
        listed = ", ".join(names[:MOST]) + more
        raise UserError(
            mistake(
                f"{key}.task", data.task, f"a group of tasks: give each its own entry: {listed}"
            )
        )
    path: Path = manager.task_index[data.task].yaml_path
    return path.relative_to(root).as_posix()


@cache
def _built_in() -> Any:
    """It reads 14,000 files, which takes ten seconds."""
    return TaskManager()


def _members(manager: Any, name: str) -> Iterator[str]:
    entry = manager.task_index.get(name)
    if name in manager.all_tags:
        yield from entry.tags
    elif name in manager.all_groups:
        for child in entry.cfg.get("task") or []:
            named = child if isinstance(child, str) else child.get("task") or child.get("group")
            yield from _members(manager, str(named))
    else:
        yield name


def check_asked(key: str, config: Mapping[str, Any], shots: int | None) -> None:
    """Raises UserError for a task that cannot be asked here, or not with so many examples."""
    refused = {
        "class": "a Python class of lm-eval, which takes no revision of its data",
        "doc_to_image": "it asks about images",
        "doc_to_audio": "it asks about sound",
        "unsafe_code": "it runs code that the model wrote",
    }
    for name, reason in refused.items():
        if config.get(name):
            raise UserError(mistake(f"{key}.task", config["task"], reason))
    without = config.get("output_type") == "loglikelihood_rolling" or config.get("num_fewshot") == 0
    if shots and without:
        raise UserError(
            mistake(f"{key}.num_fewshot", shots, f"{config['task']} is asked without examples")
        )


def pinned(
    key: str, data: LmEval, config: Mapping[str, Any], cache: str
) -> tuple[dict[str, Any], str]:
    """`dataset_kwargs` that load what is pinned and nothing else, and the source for the card.

    Files on disk have to lie under include_path, whose sha256 pins them; they go through the
    empty folder `cache`. Raises UserError where neither that nor `revision` pins the data.
    """
    kwargs = {
        name: value
        for name, value in (config.get("dataset_kwargs") or {}).items()
        if name != "trust_remote_code"
    }
    path = str(config.get("dataset_path"))
    made = callable(config.get("custom_dataset"))
    if made or path in _PACKAGED_DATASETS_MODULES or Path(path).exists():
        if data.revision is not None:
            reason = f"{config['task']} loads nothing from a hub: remove it"
            raise UserError(mistake(f"{key}.revision", data.revision, reason))
        _check_inside(key, data, config, [] if made else [*_files(path, kwargs)])
        return kwargs if made else {**kwargs, "cache_dir": cache}, f"file:{data.include_path}"
    if data.revision is None:
        reason = f"{path} is a data set of the hub: give a commit of its history, 40 hex digits"
        raise UserError(mistake(f"{key}.revision", None, reason))
    return {**kwargs, "revision": data.revision}, f"hf:datasets/{path}"


def _files(path: str, kwargs: Mapping[str, Any]) -> Iterator[str]:
    if path not in _PACKAGED_DATASETS_MODULES:
        yield path
    if "data_dir" in kwargs:
        yield str(kwargs["data_dir"])
    given = kwargs.get("data_files", [])
    for files in given.values() if isinstance(given, dict) else [given]:
        yield from [files] if isinstance(files, str) else files


def _check_inside(key: str, data: LmEval, config: Mapping[str, Any], files: list[str]) -> None:
    if data.include_path is None:
        reason = f"{config['task']} takes its documents from {', '.join(files) or 'its own code'}"
        raise UserError(mistake(f"{key}.task", data.task, f"{reason}, which nothing pins"))
    root = Path(data.include_path).resolve()
    for file in files:
        if not Path(file).resolve().is_relative_to(root):
            reason = f"{file} lies outside of it, and its sha256 does not pin it"
            raise UserError(mistake(f"{key}.include_path", data.include_path, reason))
