"""`python -m stages.verify`: is every byte here what dvc.lock and the manifests say?

`dvc status` and `dvc checkout` trust sizes and times that they have noted; this reads everything.
It changes nothing and needs no network.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo

from stages import errors
from stages.config.cases import read_cases
from stages.config.tasks import read_tasks
from stages.errors import UserError, one_line
from stages.models.base import materialise
from stages.sources.hub import in_cache
from stages.sources.names import within
from stages.sources.pinned import open_source
from stages.storage import cache_directory, read_json, sha256_file

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Out:
    """What a stage left behind, by dvc.lock. `md5` ends in `.dir` where it is a folder."""

    path: Path
    stage: str
    md5: str


def locked_outs() -> list[Out]:
    """Raises UserError where there is no dvc.lock, or it is none. It goes on naming stages that are
    no more."""
    try:
        lock = yaml.safe_load(LOCK.read_text(encoding="utf-8"))
        return [
            Out(Path(out["path"]), stage, out["md5"])
            for stage, told in lock["stages"].items()
            for out in told.get("outs", [])
        ]
    except FileNotFoundError:
        raise UserError(f"{LOCK}: not there; run `dvc repro`") from None
    except (
        yaml.YAMLError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = one_line(" ".join(str(error).split())[:120])
        raise UserError(f"{LOCK}: damaged ({reason}): `git checkout {LOCK}`") from None


def md5_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _wrong_object(cached: Callable[[str], Path], md5: str) -> Path | None:
    """The object in DVC's cache that is not what its name says, if it is there at all."""
    path = cached(md5)
    return path if path.exists() and md5_file(path) != md5.removesuffix(".dir") else None


def _members(cached: Callable[[str], Path], out: Out) -> dict[str, str]:
    """The md5 of each file of an out by its path within it; empty where the cache cannot tell."""
    if not out.md5.endswith(".dir"):
        return {"": out.md5}
    listing = cached(out.md5)
    if not listing.exists() or _wrong_object(cached, out.md5):
        return {}
    return {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_bytes())}


def _found(path: Path) -> dict[str, str]:
    """The md5 of each file at `path`, as `_members` has them."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {file.relative_to(path).as_posix(): md5_file(file) for file in files}
    return {"": md5_file(path)} if path.exists() else {}


def _has_files(path: Path) -> bool:
    """An interrupted checkout may leave a folder without its files."""
    return path.is_file() or any(one.is_file() for one in path.rglob("*"))


def _md5_of(out: Out, found: dict[str, str]) -> str | None:
    """What dvc.lock would say of an out that consists of `found`."""
    if not out.md5.endswith(".dir"):
        return found.get("")
    listing = [{"md5": found[name], "relpath": name} for name in sorted(found)]
    text = json.dumps(listing, sort_keys=True).encode()
    return hashlib.md5(text, usedforsecurity=False).hexdigest() + ".dir"


def wrong_out(cached: Callable[[str], Path], out: Out) -> Iterator[str]:
    """A line for whatever is damaged of an out, here and in DVC's cache, and the way out."""
    expected, found = _members(cached, out), _found(out.path)
    intact = _md5_of(out, found) == out.md5
    remake = f"`dvc pull --force {out.path}` or `dvc repro --force --single-item {out.stage}`"
    damaged = [_wrong_object(cached, md5) for md5 in {out.md5, *expected.values()}]
    objects = ", ".join(sorted(str(path) for path in damaged if path))
    if objects:
        mend = f"`dvc commit --force {out.stage}`" if intact else remake
        yield f"{out.path}: damaged in DVC's cache: delete {objects}, then {mend}"
    if found and not intact:
        wrong = sorted(name for name in found | expected if found.get(name) != expected.get(name))
        names = ", ".join(str(out.path / name) for name in wrong[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        way = remake if objects else f"`dvc checkout --force {out.path}`, or {remake}"
        yield f"{names}{more}: not what dvc.lock says: {way}"


def wrong_source(pin: dict[str, Any]) -> str | None:
    """What is wrong with the bytes of a pinned source, if they are here: a line or None."""
    source = pin["source"]
    if source.startswith("file:"):
        try:
            open_source(source, sha256=pin["sha256"])
        except UserError as error:
            return str(error)
    damaged = [path for path, sound in _fetched(pin).values() if not sound]
    if damaged:
        told = ", ".join(map(str, damaged))
        return f"{source}: damaged: {told}: delete it; it is fetched again when needed"
    return None


def wrong_model(manifest: dict[str, Any]) -> str | None:
    """What is wrong with the files of a base model, if they are here: a line or None."""
    wrong = wrong_source(manifest)
    if wrong or not _is_here(manifest):
        return wrong
    try:
        materialise(manifest)
    except UserError as error:
        return str(error)
    return None


def _fetched(pin: dict[str, Any]) -> dict[str, tuple[Path, bool]]:
    """What the cache holds of a source, by its name: where, and whether it is what was pinned."""
    if pin["source"].startswith("hf:"):
        files = in_cache(pin["source"], pin["revision"])
        return {name: (path, sound) for name, path, sound in files}
    if pin["source"].startswith("pypi:"):
        archives = sorted((cache_directory() / "downloads" / pin["sha256"]).glob("[!.]*"))
        return {path.name: (path, sha256_file(path) == pin["sha256"]) for path in archives}
    return {}


def _is_here(manifest: dict[str, Any]) -> bool:
    """Whether nothing of a model would have to be fetched."""
    if manifest["source"].startswith("hf:"):
        asked = [manifest["gguf"]] if "gguf" in manifest else list(manifest["files"])
        return set(within(manifest["path"], asked).values()) <= set(_fetched(manifest))
    return manifest["source"].startswith("file:") or bool(_fetched(manifest))


def wrong_of_case(case: str, tasks: tuple[str, ...]) -> Iterator[str | None]:
    path = Path(f"models/base/{case}.json")
    if path.exists():
        try:
            yield wrong_model(read_json(path))
        except (UserError, KeyError, TypeError):
            yield f"{path}: no manifest: `dvc checkout --force {path}`"
    for config in read_tasks(tasks).values():
        pin = config.data.model_dump(exclude_none=True)
        if "source" in pin:
            yield wrong_source(pin)


def main() -> None:
    outs, cases = locked_outs(), read_cases()
    try:
        repo = Repo()
        root, stages = Path(repo.cache.local.path), {one.addressing for one in repo.index.stages}
    except DvcException as error:
        raise UserError(f"DVC cannot say where its cache is: {error}") from None
    outs = [out for out in outs if out.stage in stages]

    def cached(md5: str) -> Path:
        return root / md5[:2] / md5[2:]

    wrong = [line for out in outs for line in wrong_out(cached, out)]
    absent = [str(out.path) for out in outs if not _has_files(out.path)]
    if absent:
        wrong.append(f"not here: {', '.join(absent)}: `dvc checkout`, `dvc pull` or `dvc repro`")
    for case, config in cases.items():
        wrong += [line for line in wrong_of_case(case, (*config.targets, *config.retain)) if line]
    if wrong:
        raise UserError("\n".join(dict.fromkeys(wrong)))
    print(f"{len(outs)} outs of dvc.lock, and the models and data of {len(cases)} cases: sound")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
