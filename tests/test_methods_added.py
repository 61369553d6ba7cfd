"""A method is added as CONTRIBUTING says, with the very lines that stand there."""

import re
from pathlib import Path

import pytest
import tiny

from stages.records import read_table

TABLE = "stages/training/methods/table.py"
LINE = "from stages.training.methods.embedding_noise import EmbeddingNoise\n"


@pytest.fixture
def project(bench: Path, environment: dict[str, str]) -> tiny.Project:
    """The walked pipeline, with the code beside it."""
    for name in tiny.tracked_files():
        if name.startswith("stages/"):
            (bench / name).parent.mkdir(parents=True, exist_ok=True)
            (bench / name).write_bytes((tiny.ROOT / name).read_bytes())
    return tiny.Project(bench, environment)


def test_one_file_and_one_line(project: tiny.Project) -> None:
    tiny.edit_params(project.path, runs__full__methods={"embedding-noise": {"alpha": 5.0}})
    refused = project.call("python", "-m", "stages.check")
    assert refused.returncode == 1
    assert "methods.embedding-noise = {'alpha': 5.0}: unknown key" in refused.stderr

    text = (tiny.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n# (stages/\S+)\n(.*?)```", text, flags=re.DOTALL)
    assert found
    (project.path / found[1]).write_text(found[2], encoding="utf-8")
    table = project.path / TABLE
    before = table.read_text(encoding="utf-8")
    first = "from stages.training.methods"
    table.write_text(before.replace(first, f"{LINE}{first}", 1), encoding="utf-8")

    checked = project.call("python", "-m", "stages.check")
    assert (checked.returncode, checked.stderr) == (0, "")
    plain, _ = read_table(project.path / f"metrics/training/{tiny.CASE}/full.parquet")
    trained = project.call("python", "-m", "stages.finetune", "full")
    assert trained.returncode == 0, trained.stderr
    noisy, _ = read_table(project.path / f"metrics/training/{tiny.CASE}/full.parquet")
    assert noisy["validation_loss"][0] == plain["validation_loss"][0], (
        "there is noise in evaluation"
    )
    assert noisy["batch_loss"][1] != plain["batch_loss"][1]

    tiny.edit_params(project.path, runs__full__methods={"embedding-noise": {"alpha": 0}})
    refused = project.call("python", "-m", "stages.check")
    assert refused.stderr == (
        "error: params.yaml: runs.full.methods.embedding-noise.alpha = 0: "
        "input should be greater than 0\n"
    )
