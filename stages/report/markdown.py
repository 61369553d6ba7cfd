"""metrics/report.md: the same answer with its grounds, for a terminal or a pull request."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jinja2

from stages.report.case_report import CaseReport
from stages.report.lines import COLUMNS
from stages.report.words import cell, clipped, finalize
from stages.statistics.results import Settings

LETTERS = 120
"""Of an example's text."""
TEMPLATE = Path(__file__).with_name("report.md.jinja")


def render(cases: Sequence[CaseReport], settings: Settings) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        finalize=finalize,
    )
    environment.filters["cell"] = cell
    environment.filters["clip"] = partial(clipped, most=LETTERS)
    environment.filters["percent"] = percent
    environment.filters["p"] = p_value
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        cases=cases, confidence=settings.confidence, limits=settings.limits, columns=COLUMNS
    )


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
