"""Is params.yaml still what figures were made with? dvc.lock has the params of each stage."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.config.cases import read_cases
from stages.config.overrides import GONE, at
from stages.config.reading import PARAMS, load, parsed
from stages.config.runs import TUNED, RunConfig, read_runs
from stages.errors import UserError

LOCK = Path("dvc.lock")


def require_fresh(figures: Path, runs: Iterable[str]) -> None:
    """Raises UserError where what `figures` say of one of `runs` was made with other params than
    params.yaml has now. What dvc.lock does not tell of is not looked at."""
    recorded = _recorded()
    for run in runs if recorded else ():
        for stage, key in _edited(run, recorded):
            raise UserError(
                f"{figures}: made with another {key} than params.yaml's ({stage}); run `dvc repro`"
            )


def is_as_recorded(stage: str) -> bool:
    """Whether all params of `stage` are what they were when it ran."""
    params, told = load(), _recorded().get(stage, {})
    return bool(told) and all(at(params, key) == before for key, before in told.items())


def _recorded() -> dict[str, dict[str, Any]]:
    """stage -> key, dots within, as dvc.yaml has it -> what stood there when the stage ran."""
    try:
        stages = parsed(LOCK.read_text(encoding="utf-8"))["stages"]
        return {
            stage: dict(told.get("params", {}).get(str(PARAMS), {}))
            for stage, told in stages.items()
        }
    except FileNotFoundError:
        return {}
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{LOCK}: damaged: `git checkout {LOCK}`") from None


def _edited(run: str, recorded: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Stages that `run`'s figures come from, first ones first, and a key of each that differs."""
    params, runs = load(), read_runs()
    names = _behind(run, runs)
    cases = list(dict.fromkeys(runs[name].case for name in names if name in runs))
    stages = [
        *(f"prepare@{case}" for case in cases),
        *(f"pretrain-baseline-eval@{case}" for case in cases[:1]),
        *(f"finetune@{name}" for name in reversed(names)),
        f"retention-eval@{run}",
        "compare",
    ]
    asked = _asked(cases, params) | {"runs": names, "variants": [run]}
    for stage in stages:
        for key, before in recorded.get(stage, {}).items():
            now = at(params, key)
            if key in asked:  # a section, of which others' entries change nothing here
                before, now = (_of(part, asked[key]) for part in (before, now))
            if differing := _difference(key, before, now):
                yield stage, differing


def _behind(run: str, runs: Mapping[str, RunConfig]) -> list[str]:
    """It, and the runs that it starts from or is taught by."""
    found = [run]
    while (config := runs.get(found[-1])) and config.teacher.startswith(TUNED):
        teacher = config.teacher.removeprefix(TUNED)
        if teacher in found:
            break
        found.append(teacher)
    return found


def _asked(names: Iterable[str], params: Mapping[str, Any]) -> dict[str, list[str]]:
    """The entries, by section, that the cases of these `names` read."""
    known = read_cases()
    cases = {name: known[name] for name in names if name in known}
    tasks = [task for case in cases.values() for task in (*case.targets, *case.retain)]
    judges = [at(params, f"tasks.{task}.judge") for task in tasks]
    models = [case.model for case in cases.values()]
    return {"cases": list(cases), "tasks": tasks, "models": [*models, *judges]}


def _of(section: Any, names: list[str]) -> Any:
    if not isinstance(section, dict):
        return section
    return {name: section[name] for name in names if name in section}


def _difference(key: str, before: Any, now: Any) -> str | None:
    """The first key at or below `key` where they differ."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return None if before == now else key
    for name in dict.fromkeys([*before, *now]):
        differing = _difference(f"{key}.{name}", before.get(name, GONE), now.get(name, GONE))
        if differing:
            return differing
    return None
