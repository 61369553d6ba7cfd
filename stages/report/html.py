"""metrics/report.html: the whole report on one page that needs nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jinja2
from markupsafe import Markup

from stages.report.case_report import CaseReport, RunReport
from stages.report.markdown import LETTERS, p_value, percent
from stages.report.words import clipped, finalize
from stages.statistics.results import Settings

TEMPLATE = Path(__file__).with_name("report.html.jinja")
STYLE = Path(__file__).with_name("report.css")
SCRIPT = Path(__file__).with_name("report.js")
LIMIT = 2_000_000
"""Bytes of the page."""


def render(cases: Sequence[CaseReport], settings: Settings) -> str:
    """With fewer example texts where it would be larger than LIMIT."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
        finalize=finalize,
    )
    environment.filters["clip"] = partial(clipped, most=LETTERS)
    environment.filters["percent"] = percent
    environment.filters["p"] = p_value
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    style, script = (Markup(path.read_text(encoding="utf-8")) for path in (STYLE, SCRIPT))  # ours
    # Nothing is loaded, and no style and no script but these count.
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    page = ""
    for most in (None, 3, 1, 0):
        shown = cases if most is None else [_fewer(case, most) for case in cases]
        page = template.render(
            cases=shown,
            confidence=settings.confidence,
            limits=settings.limits,
            style=style,
            script=script,
            policy=policy,
            shortened=most is not None,
        )
        if len(page.encode()) <= LIMIT:
            break
    return page


def _digest(text: str) -> str:
    """As a content security policy names what stands in the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _fewer(case: CaseReport, most: int) -> CaseReport:
    return replace(case, runs=tuple(_fewer_texts(run, most) for run in case.runs))


def _fewer_texts(run: RunReport, most: int) -> RunReport:
    return replace(
        run,
        flips=tuple(
            replace(one, lost_shown=one.lost_shown[:most], won_shown=one.won_shown[:most])
            for one in run.flips
        ),
        written=run.written if most else (),
    )
