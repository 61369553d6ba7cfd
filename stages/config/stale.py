"""Are figures of params.yaml as it is, and of what the stages wrote last? dvc.lock tells."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.config.cases import read_cases
from stages.config.locked import Locked, read_locked
from stages.config.overrides import GONE, at
from stages.config.reading import load
from stages.config.runs import TUNED, RunConfig, read_runs
from stages.config.unread import unread
from stages.errors import UserError


def require_fresh(figures: Path, runs: Iterable[str]) -> None:
    """Raises UserError where what `figures` say of one of `runs` was made with other params than
    params.yaml has now, or of other files than the stages before wrote last. What dvc.lock does not
    tell of is not looked at."""
    locked = read_locked()
    for run in runs if locked else ():
        names = _behind(run, read_runs())
        stages = _stages(names)
        for stage, key in _edited(names, stages, locked):
            raise UserError(
                f"{figures}: made with another {key} than params.yaml's ({stage}); run `dvc repro`"
            )
        for stage, path, writers in unread(stages, locked):
            raise UserError(
                f"{figures}: {stage} has not run since {' or '.join(writers)} wrote {path}; run "
                "`dvc repro`"
            )


def is_as_recorded(stage: str) -> bool:
    """Whether all params of `stage` are what they were when it ran."""
    params, locked = load(), read_locked()
    told = locked[stage].params if stage in locked else {}
    return bool(told) and all(at(params, key) == before for key, before in told.items())


def _cases(names: Iterable[str]) -> list[str]:
    """Of the runs `names`, each once."""
    runs = read_runs()
    return list(dict.fromkeys(runs[name].case for name in names if name in runs))


def _stages(names: list[str]) -> list[str]:
    """What the figures of a run come from, first ones first. `names`: see `_behind`."""
    cases = _cases(names)
    return [
        *(f"prepare@{case}" for case in cases),
        *(f"pretrain-baseline-eval@{case}" for case in cases[:1]),
        *(f"finetune@{name}" for name in reversed(names)),
        f"retention-eval@{names[0]}",
        "compare",
    ]


def _edited(
    names: list[str], stages: Iterable[str], locked: Mapping[str, Locked]
) -> Iterator[tuple[str, str]]:
    """Each of `stages` of which a param differs, and its key. `names`: see `_behind`."""
    params = load()
    asked = _asked(_cases(names), params) | {"runs": names, "variants": names[:1]}
    for stage in stages:
        for key, before in locked[stage].params.items() if stage in locked else ():
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
