"""Curves shown while they are made, by the trackers that accelerate knows (accelerate.tracking)."""

import os

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from stages.config.reading import suggestion
from stages.errors import UserError

LOGS = "logs"
"""Where trackers write that need a folder: one a run and seed. Of git and DVC ignored."""


def trackers() -> list[str]:
    """Those of PALIMPSEST_REPORT_TO, with commas between; none where it is not set.

    Of the environment, as the device is: it changes nothing that is trained. Raises UserError
    where one is unknown or not installed.
    """
    given = os.environ.get("PALIMPSEST_REPORT_TO", "")
    names = [name for part in given.split(",") if (name := part.strip())]
    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    for name in names:
        if name not in known:
            told = suggestion(name, known) or f"; give some of {', '.join(known)}"
            raise UserError(f"PALIMPSEST_REPORT_TO={given}: {name} is no tracker{told}")
        if name not in map(str, get_available_trackers()):
            raise UserError(f"PALIMPSEST_REPORT_TO={given}: {name} is not installed")
    return names


def begin(accelerator: Accelerator, run: str, seed: int) -> None:
    accelerator.init_trackers(f"{run}-seed-{seed}")


def log(accelerator: Accelerator, row: dict[str, float | int | None]) -> None:
    """A row of the curves: what was measured after that step."""
    values = {name: value for name, value in row.items() if name != "step" and value is not None}
    accelerator.log(values, step=row["step"])


def finish(accelerator: Accelerator) -> None:
    # Not `end_training`, which also takes the processes apart that the next seed needs.
    for tracker in accelerator.trackers:
        tracker.finish()
