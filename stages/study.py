"""Go through a study: `python -m stages.study <name> [cases] [seeds]`.

It is laid over params.yaml in a clone of this repository, build/study/<name>, whose DVC shares this
one's cache: the default results stay as they are. What is up to date there is not run again, so an
interrupted study is taken up by the same command. Of every run that is done, in this call or an
earlier one, the records are kept in metrics/study, and table and drawing are made of them.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stages import errors
from stages.config.reading import PARAMS
from stages.config.study import StudyRun, chosen, laid_over, named, read_study, runs_of
from stages.errors import UserError
from stages.experiments import call
from stages.records import read_records, read_table
from stages.report.frontier import DRAWN_WITH
from stages.report.study import BASE, compact, write_compact, write_pages
from stages.storage import atomic_file

WORKSPACES = Path("build/study")
RAW = Path("data/raw")


def _workspace(name: str, params: Mapping[str, Any]) -> Path:
    """A clone at the present commit, with the study's params.yaml, and its dvc.lock where it has
    been used before."""
    folder, head = WORKSPACES / name, call("git", "rev-parse", "HEAD").strip()
    if not (folder / ".git").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        call("git", "clone", "--quiet", ".", str(folder))
    inside = ("git", "-C", str(folder))
    if call(*inside, "rev-parse", "HEAD").strip() != head:
        lock = folder / "dvc.lock"
        done = lock.read_bytes() if lock.exists() else None
        call(*inside, "fetch", "--quiet", "origin", head)
        call(*inside, "checkout", "--quiet", "--force", "--detach", head)
        if done is not None:
            lock.write_bytes(done)
    cache = call("dvc", "cache", "dir").strip()
    call("dvc", "--cd", str(folder), "cache", "dir", "--local", str(Path(cache).absolute()))
    # A second copy of every tuned model would double what the study takes on the disk.
    links = "reflink,hardlink,copy"
    call("dvc", "--cd", str(folder), "config", "--local", "cache.type", links)
    if RAW.exists() and not (folder / RAW).exists():
        (folder / RAW).parent.mkdir(parents=True, exist_ok=True)
        (folder / RAW).symlink_to(RAW.absolute(), target_is_directory=True)
    with atomic_file(folder / PARAMS) as temporary:
        temporary.write_text(yaml.safe_dump(dict(params), sort_keys=False), encoding="utf-8")
    return folder


def _here(folder: Path, *command: str) -> int:
    """In the workspace, before the user's eyes."""
    return subprocess.run(command, cwd=folder).returncode


def _stages(name: str, run: StudyRun) -> list[str]:
    return [
        f"prepare@{run.case}",
        f"pretrain-baseline-eval@{run.case}",
        *(f"finetune@{named(step, run.seed)}" for step in run.steps),
        f"retention-eval@{name}",
    ]


def _up_to_date(folder: Path, runs: Mapping[str, StudyRun]) -> set[str]:
    """Names of the runs whose records are there, of the present code and params."""
    # Of all stages: asked for by name, with what they depend on, they take DVC ten times as long.
    told = call("dvc", "--cd", str(folder), "status", "--json")
    stale = set(json.loads(told or "{}"))
    return {name for name, run in runs.items() if not stale.intersection(_stages(name, run))}


def _keep(
    folder: Path,
    case: str,
    runs: Mapping[str, StudyRun],
    done: Collection[str],
    params: Mapping[str, Any],
) -> None:
    """Writes metrics/study/<case>.parquet, of the runs that are done."""
    base, about = read_records(folder / f"metrics/records/{case}/base.parquet")
    parts, methods, seen = [compact(base, BASE)], {}, set[str]()
    targets = [task for task, told in about["tasks"].items() if told["role"] == "target"]
    learned, sequences = dict[str, list[str]](), dict[str, list[str]]()
    for name, run in runs.items():
        if run.case != case or name not in done:
            continue
        records, _ = read_records(folder / f"metrics/records/{case}/{name}.parquet")
        _, training = read_table(folder / f"metrics/training/{case}/{name}.parquet")
        parts.append(compact(records, run.recipe))
        seen |= set(training["seen"])
        learned[run.recipe] = run.settings.get("learns", targets)
        if {task for step in run.steps for task in learned.get(step, ())} >= set(targets):
            methods[run.recipe] = run.method  # what has not learned them all is no attempt at them
            if len(run.steps) > 1:
                sequences[run.recipe] = list(run.steps)
    told = {
        "case": case,
        "tasks": about["tasks"],
        "methods": methods,
        "sequences": sequences,
        "learned": learned,
        "seen": sorted(seen),
        "settings": {
            key: params["seed"] if key == "seed" else params["compare"][key] for key in DRAWN_WITH
        },
        "git": call("git", "rev-parse", "--short=12", "HEAD").strip(),
    }
    path = write_compact(case, pd.concat(parts, ignore_index=True), told)
    print(f"{path}: {len(learned)} recipes, {path.stat().st_size / 1e6:.2f} MB")


def main(name: str = "", cases: str = "", seeds: str = "") -> None:
    study = read_study(name)
    asked = set(chosen(cases, list(study.cases), "CASES"))
    numbers = [int(one) for one in chosen(seeds, list(map(str, study.seeds)), "SEEDS")]
    runs, params = runs_of(study), laid_over(study)
    folder = _workspace(name, params)
    if _here(folder, sys.executable, "-m", "stages.check"):
        raise UserError(f"studies/{name}.yaml: its params are not sound, see above")
    wanted = {one: run for one, run in runs.items() if run.case in asked and run.seed in numbers}
    # A seed of all methods before the next: what is there of an interrupted study is comparable.
    for seed in numbers:
        stages = [f"retention-eval@{one}" for one, run in wanted.items() if run.seed == seed]
        _here(folder, "dvc", "repro", "--keep-going", *stages)
    done = _up_to_date(folder, runs)
    for case in study.cases:
        if any(runs[one].case == case for one in done):
            _keep(folder, case, runs, done, params)
    if done:
        print(write_pages())
    if failed := [one for one in wanted if one not in done]:
        raise UserError(
            f"{len(failed)} of {len(wanted)} runs are not done: {', '.join(failed[:5])} …; "
            "see above, and call it again"
        )


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
