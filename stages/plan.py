"""`python -m stages.plan [case …]`: memory, disk and time of each stage, before anything runs.

Reckoned from params.yaml by stages/planning/, of all cases if none is given; what cannot fit is
refused, with the key to change. Options:

--parameters 7e9  of each model, on paper, in place of its own
--device h200     one that is not here: a100, h100, h200, l4 or l40s
--devices 8       that finetune and scoring run on (1)
--sharded         devices share a run's weights and their states (FSDP)
--check           what was reckoned beside what the stages took here
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from stages import errors, phases
from stages.check import check
from stages.config.cases import CaseConfig, read_cases
from stages.config.compare import read_compare
from stages.config.evaluation import read_evaluation
from stages.config.models import read_model
from stages.config.runs import RunConfig, read_runs
from stages.config.tasks import read_tasks
from stages.config.variants import read_all_variants
from stages.errors import UserError
from stages.models.placing import device_map
from stages.planning.case import Case, Recipe
from stages.planning.checked import beside, refitted
from stages.planning.machine import GB, here, published
from stages.planning.planned import Plan, Planned, disk_of
from stages.planning.shape import Shape, of_config, on_paper, settings_of
from stages.planning.texts import Texts, bound, counted

SEVERAL = ("multiple-choice", "lm-eval")
"""Kinds whose rows ask as often as their data say."""


def _case(name: str, config: CaseConfig, parameters: float | None) -> Case:
    model = read_model(config.model)
    paper = on_paper(parameters, model.kind != "encoder") if parameters else None
    if paper and not Path(f"models/base/{name}.json").exists():
        return Case(name, config, paper, dict(_texts(name, config, None, model.kind, paper)))
    folder = settings_of(model)
    shape = paper or of_config(folder, model.kind)
    return Case(name, config, shape, dict(_texts(name, config, folder, model.kind, shape)))


def _texts(
    case: str, config: CaseConfig, folder: Path | None, kind: str, shape: Shape
) -> Iterator[tuple[str, Texts]]:
    for role, names in (("target", config.targets), ("retain", config.retain)):
        for name, task in read_tasks(names).items():
            found = counted(case, role, name, folder, kind, shape.longest) if folder else None
            yield name, found or bound(task, kind, shape.longest)


def _there(cases: Iterable[str], runs: Mapping[str, RunConfig]) -> Iterator[str]:
    """The stages whose outs lie here, be they still what params.yaml says or not."""
    outs = {f"prepare@{case}": f"models/base/{case}.json" for case in cases}
    outs["compare"] = "metrics/report.html"
    outs |= {f"pretrain-baseline-eval@{c}": f"metrics/records/{c}/base.parquet" for c in cases}
    for name, run in runs.items():
        outs[f"finetune@{name}"] = f"models/tuned/{name}"
        outs[f"retention-eval@{name}"] = f"metrics/records/{run.case}/{name}.parquet"
    return (stage for stage, out in outs.items() if Path(out).exists())


def _chosen(names: Sequence[str], cases: dict[str, CaseConfig]) -> dict[str, CaseConfig]:
    for name in names:
        if name not in cases:
            raise UserError(f"{name}: no case of params.yaml; there are {', '.join(cases)}")
    return {name: config for name, config in cases.items() if not names or name in names}


def reckoned(asked: argparse.Namespace) -> Plan:
    """What params.yaml of the working directory costs; `asked`: see `arguments`. Raises UserError
    where it is not sound, or a model cannot be had."""
    check()
    configs = _chosen(asked.cases, read_cases())
    machine = published(asked.device, asked.devices) if asked.device else here(asked.devices)
    cases = {name: _case(name, config, asked.parameters) for name, config in configs.items()}
    runs = {name: run for name, run in read_runs().items() if run.case in cases}
    variants = read_all_variants(list(runs))
    recipes = [Recipe(name, run, variants[name]) for name, run in runs.items()]
    resamples = read_compare().resamples
    spread = device_map() is not None
    # What lies here is of the models of params.yaml, and not of one on paper.
    there = frozenset(() if asked.parameters else _there(cases, runs))
    return Plan(cases, recipes, read_evaluation(), resamples, machine, asked.sharded, spread, there)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(shape: Shape) -> str:
    return (
        f"{shape.parameters:,} parameters, {shape.layers} layers of width {shape.width}, "
        f"a vocabulary of {shape.vocabulary:,}"
    )


def _said(plan: Plan, stages: Sequence[Planned]) -> Iterator[str]:
    machine = plan.machine
    for case in plan.cases.values():
        yield f"{case.name}: {_size(case.shape)}"
        bounds = [name for name, texts in case.texts.items() if not texts.counted]
        if bounds:
            yield f"  not prepared, so each text counts as max_length: {', '.join(bounds)}"
        several = [name for name in bounds if case.texts[name].kind in SEVERAL]
        if several:
            yield f"  and each row as one choice or request, nothing written: {', '.join(several)}"
    of = "published peaks, of which 40 % are assumed"
    if machine.measured:
        of = "measured here just now, beside whatever else runs"
    split = "split over them" if plan.sharded else "copied to each"
    many = f"; {machine.devices} of them, a run's weights {split}" if machine.devices > 1 else ""
    yield f"{machine.name}, {machine.memory / GB:.1f} GB{many}; rates: {of}"
    yield ""
    yield f"{'stage':<42} {'memory GB':>10} {'disk GB':>8} {'time':>9}"
    for one in stages:
        fits = "" if one.memory <= machine.memory else "  does not fit"
        figures = f"{one.memory / GB:>10.1f} {one.disk / GB:>8.2f} {_duration(one.total):>9}"
        yield f"{one.stage:<42} {figures}{fits}"
    memory, disk = max(one.memory for one in stages), disk_of(stages)
    total = _duration(sum(one.total for one in stages))
    yield f"{'all, one after the other':<42} {memory / GB:>10.1f} {disk / GB:>8.2f} {total:>9}"
    products = _duration(sum(sum(one.products.values()) for one in stages))
    of = "this machine" if machine.measured else machine.name
    yield f"Of it, products of matrices at the full rate of {of}: {products}"
    if plan.there:
        left = disk_of([one for one in stages if one.stage not in plan.there])
        yield f"Of the disk {left / GB:.2f} GB are still to be written; the rest lies here"
    yield ""
    yield "Not in it: what prepare has to fetch. A third of the retain tasks counts as relearned."
    kinds = {texts.kind for case in plan.cases.values() for texts in case.texts.values()}
    if "lm-eval" in kinds:
        yield "Not in it either: answers that an lm-eval task asks for more than once (repeats)."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m stages.plan --help")


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Of the command line. Raises UserError where one is unknown or wrong."""
    parser = _Parser(prog="python -m stages.plan", add_help=False)  # it stands at the head
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--parameters", type=float)
    parser.add_argument("--device")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--sharded", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args(given)
    if asked.devices < 1:
        parser.error(f"--devices {asked.devices}: give 1 or more")
    if asked.sharded and asked.devices == 1:
        parser.error("--sharded: shares the states of several devices: give --devices")
    if asked.parameters is not None and not 1 <= asked.parameters <= 1e15:
        parser.error(f"--parameters {asked.parameters:g}: give 1 to 1e15, such as 7e9")
    return asked


def main(*given: str) -> None:
    asked = arguments(given)
    plan = reckoned(asked)
    stages = list(plan.stages())
    if asked.check:
        timings = phases.kept()
        if not timings:
            raise UserError(f"{phases.FOLDER}: no stage has run here yet; run `dvc repro`")
        print("\n".join([*beside(stages, timings), "", *refitted(stages, timings)]))
        return
    print("\n".join(_said(plan, stages)))
    if refused := list(plan.refusals(stages)):
        raise UserError("\n".join(refused))


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
