"""Tables of runs and cases that params.yaml no longer has.

DVC leaves the outs of a removed run in place. compare depends on their folders, so they would
stand in its hash, and no other clone could ever be up to date.
"""

from collections.abc import Collection
from pathlib import Path

FOLDERS = tuple(f"metrics/{kind}" for kind in ("cards", "drift", "records", "shift", "training"))


def remove_leftovers(owned: Collection[Path]) -> list[Path]:
    """Delete every file below FOLDERS that is not `owned`; return them, sorted.

    Nothing is lost: they are DVC outs, and come back from its cache with their run.
    """
    found = [path for folder in FOLDERS for path in sorted(Path(folder).rglob("*"))]
    removed = [path for path in found if path.is_file() and path not in owned]
    for path in removed:
        path.unlink()
    return removed
