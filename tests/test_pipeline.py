"""The real thing, in small: dvc, git and the stages as processes, in a project of their own.

The tests share one project, in which `dvc repro` ran once; each leaves it as it found it.
"""

import html
import json
import math
import platform
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from faults_page import Fault
from safetensors.numpy import load_file

from stages import gate, provenance
from stages.models import device
from stages.models.device import describe
from stages.provenance import LIBRARIES
from stages.records import read_table
from stages.scoring import case
from stages.storage import hash_files, sha256_file, sha256_path

CASE = tiny.CASE
ALL = [
    f"prepare@{CASE}",
    f"pretrain-baseline-eval@{CASE}",
    "finetune@full",
    "finetune@lora",
    "retention-eval@full",
    "retention-eval@lora",
    "compare",
]


@pytest.fixture
def project(reproduced: tiny.Project) -> Iterator[tiny.Project]:
    yield reproduced
    reproduced.restore()


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves by dotted key, as DVC names them."""
    if not isinstance(value, dict):
        return {key: value}
    return {
        name: leaf
        for part, inner in value.items()
        for name, leaf in _flat(inner, f"{key}.{part}" if key else part).items()
    }


def test_a_first_repro_runs_everything(reproduced: tiny.Project) -> None:
    output = reproduced.path.with_name("output.txt").read_text(encoding="utf-8")
    assert sorted(tiny.ran(output)) == sorted(ALL)


def test_a_second_repro_runs_nothing(reproduced: tiny.Project) -> None:
    output = reproduced.dvc("repro")
    assert tiny.ran(output) == []
    assert "up to date" in output


def test_the_lock_holds_what_the_contract_test_expands(
    reproduced: tiny.Project,
) -> None:
    """The control of tiny.expand, which the contract test stands on: DVC's own answer."""
    import yaml

    locked = yaml.safe_load((reproduced.path / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    text = (reproduced.path / "dvc.yaml").read_text(encoding="utf-8")
    expanded = tiny.expand(text, tiny.read_params(reproduced.path))
    assert set(locked) == set(expanded) == set(ALL)
    for name, stage in expanded.items():
        assert {dep["path"] for dep in locked[name]["deps"]} == set(stage["deps"])
        assert set(locked[name]["params"]["params.yaml"]) == set(stage["params"])
        assert {out["path"] for out in locked[name]["outs"]} == set(tiny.outs(stage))
        assert locked[name]["cmd"] == stage["cmd"]


def test_the_headline_holds_finite_numbers_only(reproduced: tiny.Project) -> None:
    headline = _json(reproduced.path / "metrics/retention.json")
    assert set(headline) == {CASE}
    assert set(headline[CASE]) - {"frontier"} == {"full", "lora"}
    for run in ("full", "lora"):
        assert set(headline[CASE][run]["gain"]) == {tiny.TARGET}
        assert set(headline[CASE][run]["drop"]) == set(tiny.RETAIN)
    values = _flat(headline).values()
    assert all(type(value) in (int, float) and math.isfinite(value) for value in values), headline
    assert all(value == round(value, 4) for value in values)


def test_lora_leaves_adapters_only(reproduced: tiny.Project) -> None:
    folder = reproduced.path / "models/tuned/lora/seed-0"
    weights = load_file(folder / "adapter_model.safetensors")
    assert weights
    assert all("lora_" in name for name in weights)
    tuned = sum(path.stat().st_size for path in folder.iterdir())
    base = (reproduced.path / tiny.OWN / "model/model.safetensors").stat().st_size
    assert tuned < base / 4


def test_the_same_seed_at_another_path_gives_the_same_headline(
    reproduced: tiny.Project, walked: tiny.Walk, bench: Path
) -> None:
    """One pipeline ran under dvc, a process a stage; the other in this process, elsewhere."""
    assert walked.path != reproduced.path
    headline = (reproduced.path / "metrics/retention.json").read_bytes()
    assert (walked.path / "metrics/retention.json").read_bytes() == headline

    tiny.edit_params(bench, runs__full__seeds=[1])
    tiny.run_stage("finetune", "full")
    tiny.run_stage("retention_eval", "full")
    tiny.run_stage("compare")
    other = _json(bench / "metrics/retention.json")[CASE]
    assert other["full"] != json.loads(headline)[CASE]["full"]
    assert other["lora"] == json.loads(headline)[CASE]["lora"]


KINDS = ("records", "training", "drift")
REPORTS = ("report.html", "report.md")


def test_every_table_and_the_report_say_what_they_are_made_with(reproduced: tiny.Project) -> None:
    project = reproduced.path
    first = reproduced.git("rev-list", "--max-parents=0", "HEAD").strip()
    model = {
        name: sha256_file(project / tiny.OWN / "model" / name)
        for name in hash_files(project / tiny.OWN / "model")
    }
    manifest = _json(project / f"models/base/{CASE}.json")
    assert manifest["files"].items() <= model.items()
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(manifest["files"])
    data = {f"data/{CASE}/target", f"models/base/{CASE}.json"}
    tables = [path for kind in KINDS for path in (project / "metrics" / kind).rglob("*.parquet")]
    assert len(tables) == 1 + 2 * len(KINDS)
    for path in tables:
        told = read_table(path)[1]["provenance"]
        assert told["libraries"] == {name: version(name) for name in LIBRARIES}
        assert {"torch", "transformers", "numpy", "pyarrow"} <= set(LIBRARIES)
        assert told["python"] == platform.python_version()
        assert told["system"] == platform.system()
        assert told["processor"]
        assert told["cores"] >= 1
        assert (told["device"], told["threads"]) == ("cpu", 1)
        assert told["dtype"] in ("float32", "bfloat16")
        assert told["git"].removesuffix("-dirty") == first[:12]
        assert data <= set(told["inputs"])
        assert told["inputs"] == {name: sha256_path(project / name) for name in told["inputs"]}
    base = read_table(project / f"metrics/records/{CASE}/base.parquet")[1]["provenance"]
    pins = [task["data"]["sha256"] for task in tiny.read_params(project)["tasks"].values()]
    for name in REPORTS:
        report = html.unescape((project / "metrics" / name).read_text(encoding="utf-8"))
        report = report.replace("\\", "")
        single = [str(base[key]) for key in ("device", "dtype", "threads", "python", "git")]
        for text in (*single, base["processor"], manifest["sha256"]):
            assert text in report, (name, text)
        for what, value in (*base["libraries"].items(), *base["inputs"].items()):
            assert re.search(f"{re.escape(what)}\\W.*{re.escape(value)}", report), (name, what)
    page = (project / "metrics/report.html").read_text(encoding="utf-8")
    assert all(sha256 in page for sha256 in [*manifest["files"].values(), *pins])


def test_a_run_that_was_measured_elsewhere_is_flagged(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    """The base here; the run on another processor, with more threads and a newer library."""
    told = read_table(bench / f"metrics/records/{CASE}/base.parquet")[1]["provenance"]
    other = {"float32": "bfloat16", "bfloat16": "float32"}[told["dtype"]]
    monkeypatch.setattr(device, "has_bf16", lambda _: other == "bfloat16")
    monkeypatch.setattr(case, "describe", lambda *asked: describe(*asked) | {"device": "cuda"})
    monkeypatch.setattr(
        provenance, "version", lambda name: "9.9" if name == "tokenizers" else version(name)
    )
    torch.set_num_threads(2)
    for stage in (["retention_eval", "full"], ["compare"]):
        tiny.run_stage(*stage)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        gate.main("full")
    printed = capsys.readouterr().out
    pages = [(bench / "metrics" / name).read_text(encoding="utf-8") for name in REPORTS]
    changed = {
        "device": ("cuda", "cpu"),
        "dtype": (other, told["dtype"]),
        "threads": (2, 1),
        "tokenizers": ("9.9", version("tokenizers")),
    }
    for what, (after, before) in changed.items():
        said = f"full was measured with another {what} than its base ({after}, not {before})"
        assert all(said in text for text in (printed, *pages)), said
    assert printed.count("measured with another") == len(changed)
    fault("a run measured on another device, dtype, threads, library", "flagged; the stages go on")


def test_an_edit_of_compare_reruns_compare(project: tiny.Project) -> None:
    script = project.path / "stages/compare.py"
    script.write_text(script.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    assert tiny.ran(project.dvc("repro")) == ["compare"]


def test_an_edit_of_a_learning_rate_reruns_its_run(project: tiny.Project, tmp_path: Path) -> None:
    """By way of `dvc exp run -S`; then the branch with the new result beside main."""
    rate = "runs.full.learning_rate"
    output = project.dvc("exp", "run", "-S", f"{rate}=1e-5")
    assert tiny.ran(output) == ["finetune@full", "retention-eval@full", "compare"]
    assert "1e-05" in (project.path / "params.yaml").read_text(encoding="utf-8")
    curves, _ = read_table(project.path / f"metrics/training/{CASE}/full.parquet")
    assert curves["learning_rate"].max() == pytest.approx(1e-5)

    project.git("checkout", "--quiet", "-b", "colder")
    project.commit("Colder")
    before, after = (
        _flat(json.loads(project.git("show", f"{branch}:metrics/retention.json")))
        for branch in ("main", "colder")
    )
    found = json.loads(project.dvc("metrics", "diff", "--json", "main", "colder"))
    assert set(found) == {"metrics/retention.json"}
    changed = {
        key: (values.get("old"), values.get("new"))
        for key, values in found["metrics/retention.json"].items()
    }
    assert changed == {
        key: (before.get(key), after.get(key))
        for key in before.keys() | after.keys()
        if before.get(key) != after.get(key)
    }
    assert any(key.startswith(f"{CASE}.full.drop.") for key in changed)
    assert not any(key.startswith(f"{CASE}.lora.") for key in changed)

    project.dvc("plots", "diff", "main", "colder", "--out", str(tmp_path / "plots"))
    page = (tmp_path / "plots/index.html").read_text(encoding="utf-8")
    assert "colder" in page
    assert "full" in page


def test_an_edit_of_a_retain_task_never_retrains(project: tiny.Project) -> None:
    tiny.edit_params(project.path, **{f"tasks__{tiny.RETAIN[0]}__max_length": 12})
    assert tiny.ran(project.dvc("repro", f"prepare@{CASE}")) == [f"prepare@{CASE}"]
    waiting = json.loads(project.dvc("status", "--json"))
    asked_anew = [{"changed deps": {f"data/{CASE}/retain": "modified"}}]
    assert waiting == {
        f"pretrain-baseline-eval@{CASE}": asked_anew,
        "retention-eval@full": asked_anew,
        "retention-eval@lora": asked_anew,
        "compare": [{"changed deps": {"data": "modified"}}],
    }


def test_a_second_clone_pulls_and_runs_nothing(project: tiny.Project, tmp_path: Path) -> None:
    project.dvc("push")
    project.git("clone", "--quiet", str(project.path), str(tmp_path / "clone"))
    clone = tiny.Project(tmp_path / "clone", project.environment)
    assert not (clone.path / "models").exists()
    clone.dvc("pull")
    assert json.loads(clone.dvc("status", "--json")) == {}
    assert tiny.ran(clone.dvc("repro")) == []
    assert clone.git("status", "--porcelain") == ""
    for path in ("models/tuned/full/seed-0/model.safetensors", "metrics/retention.json"):
        assert (clone.path / path).read_bytes() == (project.path / path).read_bytes()


def test_two_branches_are_compared_on_their_records(project: tiny.Project) -> None:
    project.git("switch", "--quiet", "--create", "longer")
    tiny.edit_params(project.path, runs__full__steps=9)
    project.dvc("repro")
    project.commit("More steps")
    said = project.call("python", "-m", "stages.branches", "main", "longer")
    assert said.returncode == 0, said.stderr
    assert "\n| run | task | unit | main | longer | change |" in said.stdout
    lines = [line.split(" | ") for line in said.stdout.splitlines() if line.startswith("| full")]
    scores = {
        branch: json.loads(project.git("show", f"{branch}:metrics/scores.json"))[CASE]["full"]
        for branch in ("main", "longer")
    }
    assert len(lines) == len(scores["main"])
    for cells in lines:
        before, after = (
            100 * next(iter(of_branch[cells[1]].values()))["value"] for of_branch in scores.values()
        )
        assert [float(cells[3]), float(cells[4])] == pytest.approx([before, after], abs=0.051)
        assert float(cells[5].split()[0]) == pytest.approx(after - before, abs=0.051)
    assert any(cells[3] != cells[4] for cells in lines)
    # The other run is the same on both, so that nothing of it is real.
    others = [line for line in said.stdout.splitlines() if line.startswith("| lora")]
    assert all("| +0.0 [+0.0, +0.0] | 0.0, 0.0 | no |" in line for line in others)

    there = project.call("python", "-m", "stages.branches", "main")
    assert there.stdout == said.stdout.replace("longer", "workspace")
    unknown = project.call("python", "-m", "stages.branches", "mian")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("error: mian: params.yaml cannot be read there: ")
    assert unknown.stderr.count("\n") == 1


def test_compare_misses_a_run_in_one_line(bench: Path, reproduced: tiny.Project) -> None:
    shutil.copytree(reproduced.path / "stages", bench / "stages")
    (bench / f"metrics/records/{CASE}/lora.parquet").unlink()
    headline = (bench / "metrics/retention.json").read_bytes()
    done = tiny.Project(bench, reproduced.environment).call("python", "-m", "stages.compare")
    assert done.returncode == 1
    assert (
        done.stderr == f"error: metrics/records/{CASE}/lora.parquet: not there; run `dvc repro`\n"
    )
    assert (bench / "metrics/retention.json").read_bytes() == headline


@pytest.mark.parametrize("run", ["full", "lora"])
def test_tuned_models_tell_no_path_of_this_machine(
    bench: Path, own: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    """Not even where the base lies at an absolute path, as in the cache."""
    model = own / "model"
    assert model.is_absolute()
    monkeypatch.setattr("stages.training.recipe.materialise", lambda manifest: model)
    tiny.edit_params(bench, **{f"runs__{run}__steps": 2})
    tiny.run_stage("finetune", run)
    files = [path for path in (bench / "models/tuned" / run).rglob("*") if path.is_file()]
    assert len(files) > 2
    for path in files:
        content = path.read_bytes()
        assert str(model).encode() not in content, path
        assert str(bench).encode() not in content, path
    if run == "lora":
        settings = _json(bench / "models/tuned/lora/seed-0/adapter_config.json")
        assert settings["base_model_name_or_path"] == f"file:{tiny.OWN}/model"
