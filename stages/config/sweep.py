"""params.yaml, section `sweep`: the grid of each case that `make sweep` goes through."""

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod
from typing import Annotated, Any

from pydantic import Field

from stages.config.overrides import changed
from stages.config.reading import Name, Section, load, mistake, parse, suggestion
from stages.config.runs import RunConfig
from stages.errors import UserError

MOST = 1000
"""Experiments of a sweep: more would be a slip of the pen."""

Values = Annotated[tuple[Any, ...], Field(min_length=1, strict=False)]


class SweepConfig(Section):
    """`values`: of keys under the run, dots within; every combination is tried."""

    run: Name
    values: Annotated[dict[str, Values], Field(min_length=1)]

    def combinations(self) -> list[dict[str, Any]]:
        """In the order in which they stand, the last key's values first."""
        return [
            dict(zip(self.values, chosen, strict=True)) for chosen in product(*self.values.values())
        ]


def read_sweep(case: str) -> SweepConfig:
    """Raises UserError where the case has none. The rest of params.yaml is taken as checked."""
    params = load()
    sweeps = params.get("sweep") or {}
    if not isinstance(sweeps, dict) or case not in sweeps:
        near = suggestion(case, list(sweeps))
        raise UserError(f"{case}: no grid of this case under sweep in params.yaml{near}")
    return parse(SweepConfig, sweeps[case], f"sweep.{case}")


def sweep_mistakes(params: Mapping[str, Any], case: str, config: SweepConfig) -> Iterator[str]:
    """A line for every mistake: the run must be the case's, and sound with every combination."""
    key = f"sweep.{case}"
    runs, cases = params["runs"], params["cases"]
    if case not in cases:
        yield mistake("sweep", case, f"no such name under cases{suggestion(case, list(cases))}")
        return
    known = [n for n, run in runs.items() if isinstance(run, dict) and run.get("case") == case]
    if config.run not in known:
        yield mistake(f"{key}.run", config.run, f"no run of it{suggestion(config.run, known)}")
        return
    if (size := prod(map(len, config.values.values()))) > MOST:
        yield mistake(f"{key}.values", size, f"combinations; try at most {MOST}")
        return
    nested = [
        (inner, outer)
        for inner in config.values
        for outer in config.values
        if inner.startswith(f"{outer}.")
    ]
    if nested:
        for inner, outer in nested:
            reason = (
                f"lies within {outer}, another key of the grid: write it into values of {outer}"
            )
            yield mistake(f"{key}.values", inner, reason)
        return
    said: set[str] = set()
    for changes in config.combinations():
        try:
            parse(RunConfig, changed(runs[config.run], changes), f"{key}.values")
        except UserError as error:
            said |= set(str(error).splitlines())
    yield from sorted(said)
