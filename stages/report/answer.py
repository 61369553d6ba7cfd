"""One plain sentence a run: what was gained, what was lost, is it real."""

from collections.abc import Sequence

from stages.report.lines import Line


def answer(lines: Sequence[Line], noise_drop: float | None) -> str:
    """`lines`: of one run. `noise_drop`: of accuracy under noise, if it was measured."""
    parts = [_of_target(line) for line in lines if line.is_target]
    retain = [line for line in lines if not line.is_target]
    lost = [line for line in retain if line.tone == "worse"]
    won = [line for line in retain if line.tone == "better"]
    rest = [line for line in retain if line.tone == "unclear"]
    what = "other" if any("target" in line.told for line in retain) else "retain"
    if lost:
        parts.append(f"a real loss on {len(lost)} of {len(retain)} {what} tasks: {_listed(lost)}")
    else:
        parts.append(f"no real loss on {len(retain)} {what} tasks")
    if won:
        parts.append(f"a real gain on {_listed(won)}")
    if lost and rest:
        parts.append(f"no real change on {', '.join(map(_doubted, rest))}")
    if noise_drop is not None:
        way = "lower" if noise_drop > 0 else "higher"
        parts.append(f"accuracy under noise {abs(100 * noise_drop):.1f} points {way} on average")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _of_target(line: Line) -> str:
    unit = line.unit
    levels = f"{unit.level(line.before.value)} to {unit.level(line.after.value)} {unit.name}"
    change = unit.change(line.change.value)
    if line.tone == "better":
        return f"a real gain on {line.task}: {levels} ({change})"
    if line.tone == "worse":
        return f"a real loss on its own target {line.task}: {levels} ({change})"
    why = f", {line.doubt}" if line.doubt else ""
    return f"no real change on its target {line.task}: {levels} ({change}{why})"


def _doubted(line: Line) -> str:
    return f"{line.task} ({line.doubt})" if line.doubt else line.task


def _listed(lines: Sequence[Line]) -> str:
    return ", ".join(
        f"{line.task} ({line.unit.change(line.change.value)} {line.unit.step})" for line in lines
    )
