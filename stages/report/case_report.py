"""All that the reports say of one case."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.report.answer import answer
from stages.report.derived import Derived, derived
from stages.report.diagnosed import Apart, Diagnosed, apart, diagnosed
from stages.report.ensembles import ensembled
from stages.report.figures import Bar, Chart, bars, chart
from stages.report.folds import told
from stages.report.frontier import Table, plot_rows, table
from stages.report.gate import GateLine, gate_lines, summary
from stages.report.generated import Written, written
from stages.report.lines import Line, lines, of_runs
from stages.report.made_with import MadeWith, made_with
from stages.report.measured import Measured
from stages.report.pins import DataRow, Pinned, data_rows, pinned
from stages.report.plane import Plane, plane
from stages.report.plots import curve_rows
from stages.report.ranking import ranking
from stages.report.sequences import SequenceReport, sequence_report
from stages.report.training import Kept, kept, noted
from stages.report.transitions import Flips, flips
from stages.report.units import BITS, WRITING, Unit, ends_of, measure_of, unit_of
from stages.statistics.frontier import Frontier
from stages.statistics.paired import Undefined
from stages.statistics.rows import rows_of
from stages.tasks.examples import Examples, path_of, read_examples

UNDER = "under "
"""What the names of metrics under noise begin with in scores.json."""


@dataclass(frozen=True)
class Row:
    """A figure of one task for every model of the case, base first: text of cells."""

    task: str
    part: str
    n: int
    unit: Unit
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Floor:
    """The noise floor of a task: text of cells."""

    task: str
    unit: Unit
    repeats: int
    mean: str
    spread: str
    flipped: str
    floor: str


@dataclass(frozen=True)
class RunReport:
    name: str
    answer: str
    verdict: str
    summary: str
    diagnosis: Diagnosed
    gate: tuple[GateLine, ...]
    variants: Derived | None
    lines: tuple[Line, ...]
    flips: tuple[Flips, ...]
    written: tuple[Written, ...]
    curves: Chart
    training: tuple[Kept, ...]
    noted: tuple[str, ...]
    folds: tuple[str, ...]


@dataclass(frozen=True)
class CaseReport:
    """`scores`: the case's part of scores.json, without variants. `bars`: one a line. `ensembles`:
    their table, and what it leaves out. `files`: the model's hashes."""

    name: str
    scores: Mapping[str, Any]
    lines: tuple[Line, ...]
    bars: tuple[Bar, ...]
    frontier: Table | None
    plane: Plane | None
    ensembles: tuple[Derived, str] | None
    sequences: tuple[SequenceReport, ...]
    runs: tuple[RunReport, ...]
    writing: tuple[Row, ...]
    noisy: tuple[Row, ...]
    floors: tuple[Floor, ...]
    apart: tuple[Apart, ...]
    data: tuple[DataRow, ...]
    model: Pinned
    files: Mapping[str, str]
    made_with: tuple[MadeWith, ...]
    warnings: tuple[str, ...]

    @property
    def models(self) -> list[str]:
        return list(self.scores)

    @property
    def ranking(self) -> str:
        return ranking(self.lines)

    @property
    def sliced(self) -> list[Line]:
        return [line for line in self.lines if line.slices]


def case_report(
    measured: Measured,
    scores: Mapping[str, Any],
    gate: Mapping[str, Any],
    diagnosis: Mapping[str, Any],
    frontier: Frontier | Undefined,
) -> CaseReport:
    """`scores`, `gate`, `diagnosis`: the case's parts of those files.

    Raises UserError where its data is not there.
    """
    examples = [
        read_examples(path_of(measured.name, about.role, "test", task))
        for task, about in measured.case.tasks.items()
    ]
    of_run = of_runs(scores)
    listed = lines(of_run)
    base = measured.base.provenance
    of_text = all(line.unit is BITS for line in listed if line.is_target)
    compared = table(frontier, of_text)
    cut = {task: about.truncated for task, about in measured.case.tasks.items()}
    made = {
        f"{run}, {what}": told.provenance
        for run, ran in measured.runs.items()
        for what, told in (("measured", ran.records), ("trained", ran.training))
    }
    return CaseReport(
        name=measured.name,
        scores=of_run,
        lines=tuple(listed),
        bars=tuple(bars(listed)),
        frontier=compared,
        plane=plane(plot_rows(measured.name, frontier), of_text) if compared else None,
        ensembles=ensembled(measured, scores),
        sequences=tuple(
            sequence_report(one, measured.measures) for one in measured.sequences.values()
        ),
        runs=tuple(
            _run(
                measured,
                run,
                [line for line in listed if line.run == run],
                gate[run],
                diagnosis[run],
                examples,
                scores,
            )
            for run in measured.runs
        ),
        writing=tuple(_writing(measured, of_run)),
        noisy=tuple(_noisy(of_run)),
        floors=tuple(_floors(of_run)),
        apart=tuple(apart(measured.shift)),
        data=tuple(data_rows(measured.card, cut)),
        model=pinned(measured.card["model"]),
        files=measured.card["model"]["files"],
        made_with=tuple(made_with(base, made)),
        warnings=tuple(
            dict.fromkeys(warning for run in measured.runs for warning in gate[run]["warnings"])
        ),
    )


def _run(
    measured: Measured,
    name: str,
    of_run: list[Line],
    gate: Mapping[str, Any],
    diagnosis: Mapping[str, Any],
    examples: list[Examples],
    scores: Mapping[str, Any],
) -> RunReport:
    ran, judged = measured.runs[name], tuple(gate_lines(name, gate))
    base, records = measured.base.rows, ran.records.rows
    turned = (flips(asked, base, records) for asked in examples)
    return RunReport(
        name=name,
        answer=answer(of_run, ran.result.noise_drop),
        verdict=gate["verdict"],
        summary=summary(judged, gate["verdict"]),
        gate=judged,
        diagnosis=diagnosed(diagnosis, {line.task: line.unit for line in of_run}),
        variants=derived(name, ran, scores, measured.used),
        lines=tuple(of_run),
        flips=tuple(found for found in turned if found),
        written=tuple(text for asked in examples for text in written(asked, base, records)),
        curves=chart(curve_rows(measured.name, name, ran.training.rows)),
        training=tuple(kept(ran.training)),
        noted=tuple(noted(ran.training)),
        folds=tuple(told(ran.folds, measured.case.tasks)),
    )


def _writing(measured: Measured, scores: Mapping[str, Any]) -> Iterator[Row]:
    """Figures of generated texts, by topic; n is the base's number of texts."""
    for task, found in scores["base"].items():
        texts = rows_of(measured.base.rows, task, "generated")
        for part, figures in found.get("writing", {}).items():
            n = len(texts) if part == "all" else int((texts["slice"] == part).sum())
            for figure in figures:
                unit = WRITING[figure]
                ends = (ends_of(model[task]["writing"][part][figure]) for model in scores.values())
                yield Row(task, part, n, unit, tuple(unit.level_between(one) for one in ends))


def _noisy(scores: Mapping[str, Any]) -> Iterator[Row]:
    """The measure under each noise, below that without."""
    for task, found in scores["base"].items():
        measure = measure_of(found)
        conditions = [name for name in found if name.startswith(UNDER)]
        for name in [measure, *conditions] if conditions else []:
            unit = unit_of(measure)
            ends = (ends_of(model[task][name]) for model in scores.values())
            part = "no noise" if name == measure else name.removeprefix(UNDER)
            cells = tuple(unit.level_between(one) for one in ends)
            yield Row(task, part, found[name]["n"], unit, cells)


def _floors(scores: Mapping[str, Any]) -> Iterator[Floor]:
    for task, found in scores["base"].items():
        unit, noise = unit_of(measure_of(found)), found["noise"]
        yield Floor(
            task=task,
            unit=unit,
            repeats=noise["repeats"],
            mean=unit.change(noise["mean"]),
            spread=unit.level(noise["spread"]),
            flipped="-" if unit is BITS else f"{100 * noise['flip_rate']:.1f} %",
            floor=unit.level(noise["floor"]),
        )
