"""What runners do: the workflows fit their schemas, and their shell does what it says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import yaml

WORKFLOWS = sorted((tiny.ROOT / ".github/workflows").glob("*.yml"))
GITLAB = tiny.ROOT / ".gitlab-ci.yml"
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
    GITLAB: "vendor.gitlab-ci",
}


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_workflow_fits_its_schema(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[path], str(path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _steps() -> Iterator[tuple[Path, str]]:
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            yield from ((path, step["run"]) for step in job["steps"] if "run" in step)
    for job in yaml.safe_load(GITLAB.read_text(encoding="utf-8")).values():
        if isinstance(job, dict):
            lines = [*job.get("script", ()), *job.get("after_script", ())]
            yield from ((GITLAB, line) for line in lines)


def test_every_step_is_shell_and_calls_what_is_there() -> None:
    steps = list(_steps())
    assert len(steps) > 8
    for path, step in steps:
        subprocess.run(["bash", "-n", "-c", step], check=True)
        # A name of a branch inside a command would be a command.
        assert "${{" not in step, path
        for script in re.findall(r"(?<!\S)\.ci/\w+", step):
            assert (tiny.ROOT / script).stat().st_mode & 0o100


@pytest.fixture
def project(reproduced: tiny.Project, tmp_path: Path, environment: dict[str, str]) -> tiny.Project:
    """A clone of a project with results, as a runner has it: of a repository that takes pushes."""
    reproduced.dvc("push", "--quiet", "--run-cache")
    bare = tmp_path / "origin.git"
    reproduced.git("clone", "--quiet", "--bare", str(reproduced.path), str(bare))
    return _clone(reproduced, bare, tmp_path / "runner")


def _clone(project: tiny.Project, origin: Path, folder: Path) -> tiny.Project:
    project.git("clone", "--quiet", str(origin), str(folder))
    clone = tiny.Project(folder, project.environment)
    for key, value in (("user.name", "Runner"), ("user.email", "runner@example.invalid")):
        clone.git("config", key, value)
    return clone


def test_a_stale_lock_is_told(project: tiny.Project) -> None:
    """With nothing fetched, whether a remote is within reach or not."""
    project.dvc("remote", "modify", "--local", "shelf", "url", "nowhere")
    fresh = project.call(".ci/lock")
    assert (fresh.returncode, fresh.stdout) == (0, "dvc.lock is up to date\n"), fresh.stderr
    tiny.edit_params(project.path, runs__full__steps=9)
    stale = project.call(".ci/lock")
    assert stale.returncode == 1
    *stages, last = stale.stderr.splitlines()
    assert last == "error: dvc.lock is stale: run `dvc repro`, and commit dvc.lock and metrics/"
    assert [line.split(":")[0] for line in stages] == [
        "finetune@full",
        "retention-eval@full",
        "compare",
    ]


def test_results_of_a_branch(project: tiny.Project, tmp_path: Path) -> None:
    project.git("switch", "--quiet", "--create", "longer")
    tiny.edit_params(project.path, runs__full__steps=9)
    project.git("commit", "--quiet", "--all", "--message", "More steps")
    project.git("push", "--quiet", "origin", "longer")
    done = project.call(".ci/results", "longer", "origin/main")
    assert done.returncode in (0, 2, 3), done.stderr
    assert sorted(tiny.ran(done.stdout)) == ["compare", "finetune@full", "retention-eval@full"]
    assert project.git("status", "--porcelain") == ""

    comment = (project.path / "comment.md").read_text(encoding="utf-8")
    assert "| run | task | unit | origin/main | workspace | change |" in comment
    assert "| full | " in comment
    gate = project.call("python", "-m", "stages.gate")
    assert gate.returncode == done.returncode
    assert gate.stdout.strip() in comment
    assert (project.path / "plots/index.html").exists()

    # Another clone of the branch needs nothing but what was pushed.
    other = _clone(project, tmp_path / "origin.git", tmp_path / "other")
    other.git("switch", "--quiet", "longer")
    assert other.git("log", "-1", "--format=%s").strip() == "Results of dvc repro"
    other.dvc("pull", "--quiet")
    assert tiny.ran(other.dvc("repro")) == []

    # Once more there is nothing to commit, and nothing runs.
    again = project.call(".ci/results", "longer", "origin/main")
    assert again.returncode == done.returncode, again.stderr
    assert tiny.ran(again.stdout) == []
    assert project.git("rev-parse", "HEAD") == project.git("rev-parse", "origin/longer")
