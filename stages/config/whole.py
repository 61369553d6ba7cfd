"""params.yaml as a whole: every section, and what they say of each other."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.config.cases import CaseConfig
from stages.config.compare import CompareConfig
from stages.config.evaluation import EvaluationConfig
from stages.config.models import ModelConfig
from stages.config.reading import Section, check_name, load, lookup, mistake, parse, suggestion
from stages.config.references import references
from stages.config.runs import RunConfig
from stages.config.seed import seed_of
from stages.config.sweep import SweepConfig
from stages.config.tasks import TaskConfig
from stages.config.variants import variants_of
from stages.errors import UserError

NAMED: dict[str, type[Section]] = {
    "models": ModelConfig,
    "tasks": TaskConfig,
    "cases": CaseConfig,
    "runs": RunConfig,
}
SINGLE: dict[str, type[Section]] = {"evaluation": EvaluationConfig, "compare": CompareConfig}
SHELLS = ("bash", "dash", "fish", "sh", "zsh")
RESERVED = ("base", "ensemble", "frontier", "sequence")


def _collect(mistakes: list[str], check: Callable[..., Any], *arguments: Any) -> Any:
    """What `check` returns, or None and its mistakes noted."""
    try:
        return check(*arguments)
    except UserError as error:
        mistakes.extend(str(error).splitlines())
        return None


def _check_name(section: str, name: Any) -> None:
    check_name(section, name)
    if name in RESERVED:
        raise UserError(mistake(section, name, "this name is reserved"))


def _entries(params: dict[str, Any], section: str) -> dict[Any, Any]:
    entries = lookup(params, section)
    if not isinstance(entries, dict) or not entries:
        raise UserError(mistake(section, entries, "give at least one, by name"))
    return entries


def _single(params: dict[str, Any], section: str, model: type[Section]) -> Section:
    return parse(model, lookup(params, section), section)


def _launch(params: dict[str, Any]) -> None:
    launch = lookup(params, "launch")
    if not isinstance(launch, str) or not launch.strip():
        raise UserError(mistake("launch", launch, "give a command such as python"))
    try:
        words = shlex.split(launch)
    except ValueError as error:
        raise UserError(mistake("launch", launch, str(error).lower())) from None
    command = next((word for word in words if not re.match(r"\w+=", word)), "")
    # `make` puts the environment's own programs first, as here.
    own = str(Path(sys.executable).parent)
    if not shutil.which(command, path=os.pathsep.join([own, os.environ.get("PATH", "")])):
        raise UserError(mistake("launch", launch, f"{command or 'nothing'}: no such program here"))
    name, after = Path(command).name, words[words.index(command) + 1 :]
    if (name in SHELLS and not after) or (name == "accelerate" and "launch" not in after):
        instead = "accelerate launch" if name == "accelerate" else "python"
        raise UserError(mistake("launch", launch, f"runs no module of Python: give {instead}"))


def _read(params: dict[str, Any], mistakes: list[str]) -> dict[str, dict[str, Any]]:
    """Every section alone; what is wrong is left out and noted."""
    sound: dict[str, dict[str, Any]] = {}
    for section, model in NAMED.items():
        sound[section] = {}
        for name, value in (_collect(mistakes, _entries, params, section) or {}).items():
            _collect(mistakes, _check_name, section, name)
            parsed = _collect(mistakes, parse, model, value, f"{section}.{name}")
            if parsed is not None:
                sound[section][str(name)] = parsed
    for section, model in SINGLE.items():
        parsed = _collect(mistakes, _single, params, section, model)
        sound[section] = {section: parsed} if parsed else {}
    sound["variants"] = {}
    for run, value in (_collect(mistakes, _entries, params, "variants") or {}).items():
        variants = _collect(mistakes, variants_of, value, run)
        if variants is not None:
            sound["variants"][str(run)] = variants
    sound["sweep"] = {}
    swept = params.get("sweep") not in (None, {})  # all grids may be deleted
    grids = _collect(mistakes, _entries, params, "sweep") if swept else None
    for case, value in (grids or {}).items():
        sweep = _collect(mistakes, parse, SweepConfig, value, f"sweep.{case}")
        if sweep is not None:
            sound["sweep"][str(case)] = sweep
    _collect(mistakes, seed_of, params)
    _collect(mistakes, _launch, params)
    known = [*NAMED, *SINGLE, "variants", "sweep", "seed", "launch"]
    for key in sorted(set(params) - set(known), key=str):
        near = suggestion(str(key), known)
        mistakes.append(mistake(str(key), params[key], f"unknown section{near}"))
    return sound


def read_whole(mistakes: list[str]) -> dict[str, dict[str, Any]]:
    """section -> name -> what could be read of it. Adds a line for every mistake.

    Raises UserError where params.yaml is no YAML.
    """
    params = load()
    sound = _read(params, mistakes)
    if all(isinstance(params.get(section), dict) for section in (*NAMED, "variants")):
        mistakes.extend(references(params, sound))
    return sound
