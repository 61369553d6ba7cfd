"""Each bad input, through the real stage: one line, nothing written; and then all is well again."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from bad_inputs.bad import Bad
from bad_inputs.models import MODELS
from bad_inputs.params import PARAMS
from bad_inputs.records import RECORDS
from bad_inputs.tables import TABLES
from faults_page import Fault

from stages import errors, storage
from stages.storage import hash_files

CASES = [*TABLES, *MODELS, *PARAMS, *RECORDS]
FIRST = {bad.stage: bad for bad in reversed(CASES)}


def test_the_table_is_long() -> None:
    assert len(CASES) >= 60
    assert len({bad.name for bad in CASES}) == len(CASES)


@pytest.fixture(scope="module")
def ready(walked: tiny.Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after its last stage, to be copied."""
    folder = tmp_path_factory.mktemp("ready") / "project"
    shutil.copytree(walked.path, folder)
    return folder


@pytest.fixture
def project(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "project"
    shutil.copytree(ready, folder)
    monkeypatch.chdir(folder)
    # The disk is not what is tested here, and waiting for it is slow.
    monkeypatch.setattr(storage, "_sync", lambda path: None)
    with tiny.one_thread():
        yield folder


def outs_of(stage: tuple[str, ...]) -> list[str]:
    """Of a stage with a hostile name there are none."""
    dvc_yaml = (tiny.ROOT / "dvc.yaml").read_text(encoding="utf-8")
    stages = tiny.expand(dvc_yaml, tiny.read_params(Path()))
    name = "@".join([stage[0].replace("_", "-"), *stage[1:]])
    return tiny.outs(stages[name]) if name in stages else []


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(stage: tuple[str, ...]) -> str | None:
    """What the stage says on stderr when it fails, as the program it is; None where it succeeds."""
    try:
        errors.run(lambda *names: tiny.run_stage(stage[0], *names), *stage[1:])
    except SystemExit as end:
        # sys.exit with a text prints it and ends with 1.
        assert isinstance(end.code, str), end.code
        return end.code
    return None


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("bad", CASES, ids=str)
def test_a_bad_input_is_one_line(
    bad: Bad,
    project: Path,
    ready: Path,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    outs = outs_of(bad.stage)
    expected = {out: storage.sha256_path(ready / out) for out in outs}
    for out in outs:
        remove(project / out)  # as DVC does
    bad.spoil(project)
    before = everything(project)
    capfd.readouterr()

    said = run(bad.stage)
    assert said is not None, "it was taken for sound"
    assert re.match("error: " + bad.said, said), said
    assert len(said.splitlines()) == 1
    assert said.isprintable()
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert everything(project) == before, "something was written"

    remove(project / tiny.OWN)
    shutil.copytree(ready / tiny.OWN, project / tiny.OWN)
    shutil.copy2(ready / "params.yaml", project)
    restore(project, ready, outs)
    assert hash_files(project) == {
        name: sha256
        for name, sha256 in hash_files(ready).items()
        if not any(Path(out) in (Path(name), *Path(name).parents) for out in outs)
    }
    # From here on one case is like another, so each stage is run once.
    if bad is FIRST[bad.stage] and outs:
        assert run(bad.stage) is None, "it does not go on once the fault is removed"
        assert {out: storage.sha256_path(project / out) for out in outs} == expected
    fault(bad.name, shown(said, project))


def restore(project: Path, ready: Path, outs: list[str]) -> None:
    """What another stage wrote, as it was."""
    for folder in ("data", "models", "metrics"):
        for name in hash_files(ready / folder):
            path = Path(folder) / name
            if not any(path == Path(out) or Path(out) in path.parents for out in outs):
                (project / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ready / path, project / path)


def shown(said: str, project: Path) -> str:
    """Without what differs from one machine to the next."""
    return f"exit 1, {said.replace(str(project), '…')}"
