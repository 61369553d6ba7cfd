"""Has a stage read what the stages before it wrote last? After an interrupted `dvc repro` it may
not have, though all params agree. dvc.lock has the md5 of both; no file is looked at.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import md5

from stages.config.locked import Locked

FOLDER = ".dir"
"""How DVC ends the md5 of a folder."""
EACH = {
    "prepare": "cases",
    "pretrain-baseline-eval": "cases",
    "finetune": "runs",
    "retention-eval": "runs",
}
"""The section of params.yaml that has an entry for each of a stage."""


def unread(
    stages: Iterable[str], locked: Mapping[str, Locked]
) -> Iterator[tuple[str, str, list[str]]]:
    """Each of `stages` that read something else than was written there last, what, and the stages
    that wrote it. What dvc.lock does not tell of is not looked at."""
    for stage in stages:
        if stage not in locked:
            continue
        written = _written(locked[stage], locked)
        for path, read in locked[stage].deps.items():
            last, writers = _last(path, written)
            if last not in (None, read):
                yield stage, path, writers


def _written(reader: Locked, locked: Mapping[str, Locked]) -> dict[str, tuple[str, str]]:
    """path -> stage and md5, of all outs that `reader` may have read: dvc.lock keeps those of runs
    and cases that were taken out, or came after it."""
    found: dict[str, tuple[str, str]] = {}
    for stage, told in locked.items():
        name, _, entry = stage.partition("@")
        known = reader.params.get(EACH.get(name, ""))
        if not known or entry in known:
            found |= {path: (stage, digest) for path, digest in told.outs.items()}
    return found


def _last(path: str, written: Mapping[str, tuple[str, str]]) -> tuple[str | None, list[str]]:
    """The md5 that `path` had when it was last written, and by which stages; None where that cannot
    be told: no stage writes there, or folders, whose own files dvc.lock does not list. Those are
    read by name in the stages between."""
    if path in written:
        stage, digest = written[path]
        return digest, [stage]
    within = f"{path}/"
    inside = {out: one for out, one in written.items() if out.startswith(within)}
    if not inside or any(digest.endswith(FOLDER) for _, digest in inside.values()):
        return None, []
    listed = [
        {"md5": digest, "relpath": out.removeprefix(within)}
        for out, (_, digest) in sorted(inside.items())
    ]
    kinds = list(dict.fromkeys(stage.partition("@")[0] for stage, _ in inside.values()))
    # As DVC hashes a folder: the list of its files as JSON.
    return md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + FOLDER, kinds
