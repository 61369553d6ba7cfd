"""What a rule of the verdict finds, and how it says figures."""

from dataclasses import dataclass

from stages.diagnosis.evidence import Lost

APART = 0.6
"""AUC between two sets of texts from where they are of two sources."""


@dataclass(frozen=True)
class Finding:
    """`cause`, and the sentence with the figures that speak for it."""

    cause: str
    evidence: str


def level(lost: Lost, value: float, unit: str = "%") -> str:
    return figure(value, lost.of_text, unit)


def figure(value: float, of_text: bool, unit: str = "%") -> str:
    return f"{value:.3f} bits/byte" if of_text else f"{100 * value:.1f} {unit}"


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"
