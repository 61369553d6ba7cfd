"""Where a stage's time goes, phase by phase: `python -m stages.phases` prints it.

It is kept in logs/phases/, which neither git nor DVC sees, and in no out. An out is the same to the
byte whenever it is made, so that clones share it; how long it took is not.
"""

import functools
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ParamSpec

from stages import errors, processes
from stages.storage import write_json

FOLDER = Path("logs/phases")
START, OTHER = "start", "other"
"""Of a process until its `main` is called, imports included; and what no phase claims."""

P = ParamSpec("P")


class _Clock:
    """Seconds by phase. A phase within another interrupts it: each second is counted once."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._open = [OTHER]
        self._since = time.perf_counter()

    def begin(self, name: str) -> None:
        self._charge()
        self._open.append(name)

    def end(self) -> None:
        self._charge()
        self._open.pop()

    def _charge(self) -> None:
        now = time.perf_counter()
        self.spent[self._open[-1]] += now - self._since
        self._since = now


_clock = _Clock()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """The seconds of this block, or of each call of what it decorates, go to `name`."""
    _clock.begin(name)
    try:
        yield
    finally:
        _clock.end()


def recorded(stage: str) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Decorates a stage's `main`. Where it is run as a program, and succeeds, what each phase took
    is kept; of several processes by the first one."""

    def decorate(main: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(main)
        def timed(*arguments: P.args, **named: P.kwargs) -> None:
            if main.__module__ != "__main__" or not processes.is_first():
                return main(*arguments, **named)
            global _clock
            _clock = _Clock()
            started, before = time.time(), _since_start()
            main(*arguments, **named)
            _clock.begin(OTHER)
            address = "@".join([stage, *map(str, arguments)])
            spent = {START: before, **_clock.spent}
            _keep(address, started - before, {name: round(s, 3) for name, s in spent.items()})
            return None

        return timed

    return decorate


def _since_start() -> float:
    """Seconds since this process began; 0 where the system does not say (it is Linux's /proc)."""
    try:
        # After the name, in brackets, which may hold spaces; see proc_pid_stat(5), starttime.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def _keep(address: str, began: float, spent: dict[str, float]) -> None:
    told = {"stage": address, "began": round(began, 3), "group": os.getpgrp(), "seconds": spent}
    try:
        write_json(FOLDER / f"{address}.json", told)
    except errors.UserError as error:  # no reason to lose what the stage has made
        print(f"warning: {error}")


@dataclass(frozen=True)
class Timing:
    """`began`: seconds since the epoch. `group`: the process group, one of all stages of a run.
    `seconds`: by phase."""

    stage: str
    began: float
    group: int
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def ended(self) -> float:
        return self.began + self.total


def kept() -> list[Timing]:
    """Of each stage that ran here its last run, in the order in which they began. What cannot be
    read is left out."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            seconds = {str(name): float(value) for name, value in told["seconds"].items()}
            known = Timing(str(told["stage"]), float(told["began"]), int(told["group"]), seconds)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        found.append(known)
    return sorted(found, key=lambda one: one.began)


def between(timings: Sequence[Timing]) -> float:
    """Seconds from the end of a stage to the beginning of the next one of the same run: DVC hashes
    deps, and hashes and stores outs."""
    after = pairwise(timings)
    return sum(max(0.0, b.began - a.ended) for a, b in after if a.group == b.group)


def table(timings: Sequence[Timing]) -> str:
    """Phases by their share of all stages, and under them each stage by its phases."""
    spent: dict[str, float] = defaultdict(float)
    for timing in timings:
        for name, seconds in timing.seconds.items():
            spent[name] += seconds
    spent["between stages (DVC)"] = between(timings)
    total = sum(spent.values())
    lines = [f"{'phase':<42} {'seconds':>8} {'share':>6}"]
    lines += [
        f"{name:<42} {seconds:>8.1f} {seconds / total:>6.1%}"
        for name, seconds in sorted(spent.items(), key=lambda one: -one[1])
    ]
    lines += [f"{'all':<42} {total:>8.1f}", "", f"{'stage':<42} {'seconds':>8}  phases"]
    for timing in timings:
        phases = sorted(timing.seconds.items(), key=lambda one: -one[1])
        said = ", ".join(f"{name} {seconds:.1f}" for name, seconds in phases if seconds >= 0.05)
        lines.append(f"{timing.stage:<42} {timing.total:>8.1f}  {said}")
    return "\n".join(lines)


def main() -> None:
    timings = kept()
    if not timings:
        raise errors.UserError(f"{FOLDER}: no stage has run here yet; run `dvc repro`")
    print(table(timings))


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
