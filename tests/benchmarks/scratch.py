"""Where a training that is only measured keeps its weights while it lasts."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.training.checkpoint import Checkpoint


@contextmanager
def scratch() -> Iterator[list[Checkpoint]]:
    """Two checkpoints, of which nothing is left behind."""
    checkpoints = [Checkpoint("benchmark", who) for who in range(2)]
    try:
        yield checkpoints
    finally:
        checkpoints[0].remove_all()
        with suppress(OSError):  # a run's own are there
            Path(".scratch").rmdir()
