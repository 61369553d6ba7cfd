"""params.yaml, section `variants`: models derived from each run without more training."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from stages.config.reading import load, lookup, mistake
from stages.config.runs import RunConfig
from stages.errors import UserError

SHARE = r"0|1|0\.\d{0,3}[1-9]"
DECIMALS = "four decimals at most"
NAMES = {
    "wise": (rf"wise-({SHARE})", f"wise-<alpha>, from 0 to 1, {DECIMALS}, such as wise-0.5"),
    "lines": (rf"lines-({SHARE})", f"lines-<alpha>, from 0 to 1, {DECIMALS}, such as lines-0.5"),
    "prune": (
        r"prune-(0\.\d{0,3}[1-9])",
        f"prune-<share>, between 0 and 1, {DECIMALS}, such as prune-0.3",
    ),
    "int8": (r"int8", "int8"),
    "soup": (r"soup", "soup"),
    "step": (r"step-([1-9]\d{0,8})", "step-<n>, a step of the run's snapshots, such as step-100"),
}
"""By kind: how a variant is called. A number has one spelling, or a model would have two names."""
MIXED = ("wise", "lines", "soup")
"""Kinds that mix weights, and so need models of one shape."""


class Variant(NamedTuple):
    """`number`: alpha, share or step; 0 of kinds without one."""

    name: str
    kind: str
    number: float


def variant_of(name: str) -> Variant | None:
    """What a name of a variant says; None of what is no name of one."""
    for kind, (pattern, _) in NAMES.items():
        if found := re.fullmatch(pattern, name):
            return Variant(name, kind, float(found[1]) if found.groups() else 0.0)
    return None


def variants_of(value: Any, run: str) -> tuple[Variant, ...]:
    """What stands at variants.<run>. Raises UserError with a line for every mistake."""
    key = f"variants.{run}"
    if not isinstance(value, list):
        raise UserError(mistake(key, value, "give a list, such as [wise-0.5], or [] for none"))
    found, mistakes = [], []
    for place, name in enumerate(value):
        variant = variant_of(name) if isinstance(name, str) else None
        if variant is None:
            mistakes.append(mistake(key, name, f"give {_spelling(name)}"))
        elif name in value[:place]:
            mistakes.append(mistake(key, name, "stands there twice"))
        else:
            found.append(variant)
    if mistakes:
        raise UserError("\n".join(dict.fromkeys(mistakes)))
    return tuple(found)


def _spelling(name: Any) -> str:
    kind = name.partition("-")[0] if isinstance(name, str) else ""
    return NAMES[kind][1] if kind in NAMES else "one of " + "; ".join(s for _, s in NAMES.values())


def misfits(run: str, variants: Sequence[Variant], config: RunConfig) -> Iterator[str]:
    """A line for each variant that a run with this `config` cannot have."""
    for variant in variants:
        key = f"variants.{run}"
        if variant.kind == "step" and variant.number not in config.snapshots:
            saved = list(config.snapshots)
            yield mistake(key, variant.name, f"runs.{run}.snapshots is {saved}: add the step there")
        if variant.kind == "wise" and 0 < variant.number < 1 and config.draw and config.head:
            reason = f"mixes in a probe of all train rows, of which runs.{run}.draw takes few"
            yield mistake(key, variant.name, f"{reason}: leave it out, or take lines-<alpha>")
        if variant.kind == "soup" and len(config.seeds) < 2:
            yield mistake(key, variant.name, f"runs.{run}.seeds has one seed: give two or more")


def read_variants(run: str) -> tuple[Variant, ...]:
    return variants_of(lookup(load(), f"variants.{run}"), run)


def read_all_variants(runs: Sequence[str]) -> Mapping[str, tuple[Variant, ...]]:
    """By run."""
    section = lookup(load(), "variants")
    if not isinstance(section, dict):
        raise UserError(mistake("variants", section, "give a list for each run, by its name"))
    # What is not there is no list either.
    return {run: variants_of(section.get(run), run) for run in runs}
