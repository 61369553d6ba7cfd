"""The base model's files, from its manifest: fetched where absent, verified always."""

from pathlib import Path
from typing import Any

from stages.errors import UserError
from stages.models.gguf import convert
from stages.models.sharing import join
from stages.phases import phase
from stages.sources.pinned import open_source
from stages.storage import sha256_file


@phase("hash")
def materialise(manifest: dict[str, Any]) -> Path:
    """A local folder that holds the manifest's files, each verified by its sha256.

    Of the processes of a machine one fetches, and the others find it there.
    """
    if lacking := [key for key in ("source", "path", "kind", "files") if key not in manifest]:
        raise UserError(f"a manifest under models/base lacks {lacking[0]!r}; run `dvc repro`")
    with join().local_main_process_first():
        return _fetched(manifest)


def _fetched(manifest: dict[str, Any]) -> Path:
    source = open_source(
        manifest["source"], sha256=manifest.get("sha256"), revision=manifest.get("revision")
    )
    if "gguf" in manifest:
        folder = convert(source.folder(manifest["path"], [manifest["gguf"]]) / manifest["gguf"])
    else:
        folder = source.folder(manifest["path"], list(manifest["files"]))
    for name, expected in manifest["files"].items():
        found = sha256_file(folder / name)
        if found != expected:
            raise UserError(
                f"{manifest['source']}: {name} has sha256 {found}, the manifest says {expected}; "
                f"delete {folder} and run again"
            )
    return folder
