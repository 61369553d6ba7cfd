"""A study's records as git keeps them, and its table and drawing, made of these alone.

`python -m stages.report.study` makes the pages in metrics/study again.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa

from stages import errors
from stages.config.variants import variant_of
from stages.errors import UserError
from stages.records import pair, read_table, write_table
from stages.report.frontier import Table, frontier_among, method_of_variant, plot_rows, table
from stages.report.lines import OF_RUN
from stages.report.plane import plane
from stages.report.sequences import MEASURED, sequence_report
from stages.report.tables import tasks_of
from stages.report.units import BITS, CORRECT, Unit
from stages.report.words import cell
from stages.statistics.attempts import Weighed, attempt
from stages.statistics.frontier import Attempt, Point
from stages.statistics.prompted import PROMPTED, apart
from stages.statistics.sequence import follow, in_order
from stages.statistics.variants import FINAL
from stages.storage import atomic_file

FOLDER = Path("metrics/study")
PAGE = FOLDER / "study.md"
PLANE, HEAT_MAP = (Path(__file__).with_name(f"{name}.svg.jinja") for name in ("study", "sequence"))
BASE = "base"
NAMES = ("run", "variant", "task", "split", "example_id", "group", "condition")
KEPT = [*NAMES, "seed", "score", "nll", "bytes", "target", "prediction"]
"""What the frontier needs of a record, and the recipe as `run`."""


def compact(records: pd.DataFrame, run: str) -> pd.DataFrame:
    """What is kept of records of one model and its variants: validation and test without noise, and
    the base's with a few-shot prompt. Likelihoods and bytes of what has a score are left out."""
    condition = records["condition"]
    asked = (condition == "clean") | condition.str.startswith(PROMPTED)
    rows = records[asked & records["split"].isin(["validation", "test"])].assign(run=run)
    of_text = {one: rows[one].where(rows["score"].isna()) for one in ("nll", "bytes")}
    return rows.assign(**of_text)[KEPT]


def write_compact(case: str, records: pd.DataFrame, about: Mapping[str, Any]) -> Path:
    """`records`: of the base and of each recipe, see `compact`; `about`: the tasks as in a file of
    records, the method of each recipe, tasks that were seen, and what intervals are made with."""
    # What models say of one example is much alike, and packs well.
    order = ["task", "split", "condition", "example_id", "run", "variant", "seed"]
    rows = records.sort_values(order, ignore_index=True)
    together = [task for task, one in tasks_of(about).items() if one.measure.of_all]
    for answer in ("target", "prediction"):  # git keeps no more of the data than is needed
        rows[answer] = rows[answer].where(rows["task"].isin(together))
    rows = rows.astype(dict.fromkeys(NAMES, "category"))
    path = FOLDER / f"{case}.parquet"
    write_table(path, pa.Table.from_pandas(rows, preserve_index=False), dict(about), "zstd")
    return path


def _attempts(
    records: pd.DataFrame, base: pd.DataFrame, about: Mapping[str, Any], weighed: Weighed
) -> Iterator[Attempt]:
    clean = base[base["split"].isin(["validation", "test"])]
    for run, method in about["methods"].items():
        of_run = records[records["run"] == run]
        for name, rows in of_run.groupby("variant", sort=True):
            pair(clean, rows)
            variant = variant_of(str(name))
            kind = method_of_variant(method, variant.kind) if variant else method
            told = run if name == FINAL else f"{run}{OF_RUN}{name}"
            yield attempt(told, kind, base, rows, weighed)


def _by_seed(
    records: pd.DataFrame, base: pd.DataFrame, about: Mapping[str, Any], weighed: Weighed
) -> dict[str, dict[int, tuple[float, float]]]:
    """By attempt: gain and drop on test of each seed alone, as if it had been the only one."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for seed, rows in records.groupby("seed", sort=True):
        for one in _attempts(rows, base, about, weighed):
            gain, drop = (
                float(np.mean([change.mean() for change in side.values()]))
                for side in (one.gain, one.drop)
            )
            found.setdefault(one.name, {})[int(str(seed))] = gain, drop
    return found


def _page(case: str) -> str:
    """Writes the drawing, returns the case's part of the page."""
    records, about = read_table(FOLDER / f"{case}.parquet")
    records = records.astype(dict.fromkeys(NAMES, str))
    base, prompted = apart(records[records["run"] == BASE])
    weighed = Weighed.of(tasks_of(about), about["seen"])
    seeds = records[records["run"] != BASE].groupby("run")["seed"].unique()
    parts = [f"## {case}", _told(about, seeds), *_sequences(records, base, about)]
    if reason := weighed.lacking(base):
        return "\n\n".join([*parts, f"No frontier: {reason}."])
    attempts = list(_attempts(records, base, about, weighed))
    found = frontier_among(attempts, base, prompted, weighed, about["settings"])
    of_text = any(one.of_text for one in weighed.targets.values())
    shown = table(found, of_text)
    if shown is None:
        reasons = [f"{method}: {reason}." for method, reason in found.left_out.items()]
        return "\n\n".join([*parts, "Fewer than two methods gained: no frontier.", *reasons])
    _draw(f"{case}.svg", PLANE, plane=plane(plot_rows(case, found), of_text), name=case)
    of_seeds = _by_seed(records[records["run"] != BASE], base, about, weighed)
    drawn, every = f"![drop over gain]({case}.svg)", _every(found.attempts, of_seeds, of_text)
    return "\n\n".join([*parts, drawn, *_table(shown), *every])


def _told(about: Mapping[str, Any], seeds: "pd.Series[Any]") -> str:
    counts = seeds.map(len)
    few = [f"{run} has {counts[run]}" for run in counts.index if counts[run] < counts.max()]
    exact = f" ({', '.join(few)})" if few else ""
    most = "one seed" if counts.max() == 1 else f"{counts.max()} seeds"
    return (
        f"{len(seeds)} recipes of {most} each{exact}, at commit {about['git']}. "
        "Seeds are averaged example by example; intervals are over examples. Attempts were chosen "
        "on validation, and their figures are on test; a drop is the mean over the tasks that no "
        "run has seen."
    )


def _table(shown: Table) -> Iterator[str]:
    yield _cells(shown.head, shown.rows)
    if shown.held:
        yield f"{shown.held}."
    for one in shown.left_out:
        yield f"Left out: {one}."
    if shown.prompted:
        yield f"A point off the curves: the untouched {shown.prompted}."


def _every(
    attempts: Sequence[Point],
    of_seeds: Mapping[str, Mapping[int, tuple[float, float]]],
    of_text: bool,
) -> Iterator[str]:
    """All attempts, so that two that differ in one thing can be compared. `of_seeds`: see
    `_by_seed`."""
    unit = BITS if of_text else CORRECT
    head = (
        "attempt",
        f"gain on validation, {unit.step}",
        f"gain on test, {unit.step}",
        f"gain of each seed, {unit.step}",
        "mean drop of unseen tasks on test, points",
        "drop of each seed, points",
    )

    def apart(name: str, side: int, unit: Unit) -> str:
        told = of_seeds[name].items()
        return ", ".join(f"{seed}: {unit.change(figures[side])}" for seed, figures in told)

    rows = [
        (
            one.name,
            unit.change(one.validation[0]),
            unit.change_between(one.gain),
            apart(one.name, 0, unit),
            CORRECT.change_between(one.drop),
            apart(one.name, 1, CORRECT),
        )
        for one in sorted(attempts, key=lambda one: one.name)
    ]
    yield (
        "Every attempt, those that were not chosen too. Intervals are over examples, and say "
        "nothing of what another seed would change; each seed's own figure on test is beside them:"
    )
    yield _cells(head, rows)


def _sequences(
    records: pd.DataFrame, base: pd.DataFrame, about: Mapping[str, Any]
) -> Iterator[str]:
    """R of each sequence that is done, its measures, and its drawing, which is written."""
    measures = {task: one.measure for task, one in tasks_of(about).items()}
    finals = records[records["variant"] == FINAL]
    for last, way in about.get("sequences", {}).items():
        found = follow(
            base,
            {step: finals[finals["run"] == step] for step in way},
            in_order([about["learned"][step] for step in way]),
            measures,
            confidence=about["settings"]["confidence"],
            draws=about["settings"]["resamples"],
            seed=about["settings"]["seed"],
        )
        shown = sequence_report(found, measures)
        _draw(f"{last}.svg", HEAT_MAP, map=shown.map, name=last)
        yield f"### The sequence that ends with {last}"
        yield f"![tasks by steps]({last}.svg)"
        yield _cells(shown.head, shown.rows)
        yield _cells(MEASURED, shown.measures)


def _cells(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(one) for one in row) + " |" for row in lines)


def _draw(file: str, template: Path, **given: Any) -> None:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True
    )
    drawing = environment.from_string(template.read_text(encoding="utf-8"))
    with atomic_file(FOLDER / file) as temporary:
        temporary.write_text(drawing.render(**given), encoding="utf-8")


def write_pages() -> Path:
    """Table and drawings of every case in metrics/study. Raises UserError where there is none."""
    cases = sorted(path.stem for path in FOLDER.glob("*.parquet"))
    if not cases:
        raise UserError(f"{FOLDER}: no records of a study; run `make study`")
    head = (
        "# What a gain costs\n\nMade of the records in this folder by "
        "`python -m stages.report.study`; how to read it stands in the README, under that title."
    )
    text = "\n\n".join([head, *map(_page, cases)])
    with atomic_file(PAGE) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return PAGE


def main() -> None:
    print(write_pages())


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
