"""metrics/report.md: the same answer with its grounds, for a terminal or a pull request."""

from pathlib import Path
from typing import Any

import jinja2

from stages.report.headline import COLUMNS, rows

TEMPLATE = Path(__file__).with_name("report.md.jinja")


def _cell(value: object) -> str:
    """A value as the text of one table cell: no markup, no line break, no new column."""
    text = " ".join(str(value).split())
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text


def render(
    scores: dict[str, Any],
    cards: dict[str, Any],
    training: dict[str, Any],
    made_with: dict[str, Any],
    warnings: list[str],
    confidence: float,
) -> str:
    """`scores`: as scores.json. `cards`, `made_with`: by case. `training`: by run."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters["cell"] = _cell
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    environment.filters["p"] = lambda p: f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        scores=scores,
        cards=cards,
        training=training,
        made_with=made_with,
        warnings=warnings,
        confidence=confidence,
        columns=COLUMNS,
        rows=rows,
    )
