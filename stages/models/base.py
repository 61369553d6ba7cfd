"""The base model's files, from its manifest: fetched where absent, verified always."""

from importlib.metadata import version
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
        _check_conversion(manifest, folder)
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


def _check_conversion(manifest: dict[str, Any], folder: Path) -> None:
    """config.json names the transformers that wrote it: under another, to delete it is no help."""
    if sha256_file(folder / "config.json") != manifest["files"].get("config.json"):
        raise UserError(
            f"{manifest['source']}: {manifest['gguf']} converted by transformers "
            f"{version('transformers')} has another config.json than the manifest says: if prepare "
            "ran under another version, install that one, or run `dvc repro --force --single-item "
            f"prepare@<case>` to go on with this one; if not, delete {folder} and run again"
        )
