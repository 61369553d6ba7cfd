"""What the pipeline tests share: made once a session, when a test first asks for it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import tiny_causal
from hypothesis import settings

pytest_plugins = ["faults_page"]

# A machine that has other work to do is no failure, and a commit passes or fails by what it holds:
# each run tries the same values. `--hypothesis-profile explore` draws others.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("same")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of subprocesses: none of the user's settings and caches."""
    return tiny.environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and the tables, to be copied into projects."""
    folder = tmp_path_factory.mktemp("sources") / tiny.OWN
    tiny.write_tables(folder)
    tiny.write_model(folder / "model")
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each kind, to be read only."""
    folder = tmp_path_factory.mktemp("models")
    for kind, module in (("encoder", tiny), ("causal", tiny_causal)):
        module.write_model(folder / kind)
    return {kind: folder / kind for kind in ("encoder", "causal")}


@pytest.fixture(scope="session")
def encoder(models: dict[str, Path]) -> Path:
    return models["encoder"]


@pytest.fixture(scope="session")
def causal(models: dict[str, Path]) -> Path:
    return models["causal"]


@pytest.fixture(scope="session")
def walked(tmp_path_factory: pytest.TempPathFactory, own: Path) -> tiny.Walk:
    """The whole pipeline, run in this process. Copy what you want to change."""
    dvc_yaml = (tiny.ROOT / "dvc.yaml").read_text(encoding="utf-8")
    with tiny.one_thread():
        return tiny.walk(tmp_path_factory.mktemp("walk"), own, dvc_yaml)


@pytest.fixture
def bench(walked: tiny.Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the walked pipeline's folder, to stand in and run stages of."""
    folder = tmp_path / "bench"
    shutil.copytree(walked.path, folder)
    monkeypatch.chdir(folder)
    with tiny.one_thread():
        yield folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


@pytest.fixture(scope="session")
def reproduced(
    tmp_path_factory: pytest.TempPathFactory, own: Path, environment: dict[str, str]
) -> tiny.Project:
    """A project in which `dvc repro` ran once. A test that changes it leaves it as it found it."""
    folder = tmp_path_factory.mktemp("reproduced")
    project = tiny.make_project(folder / "project", own, environment)
    project.dvc("remote", "add", "--default", "shelf", str(tmp_path_factory.mktemp("remote")))
    done = project.call("dvc", "repro")
    assert done.returncode == 0, done.stderr
    for name, text in (("output", done.stdout), ("errors", done.stderr)):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    project.commit("Results")
    return project
