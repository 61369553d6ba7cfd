"""Every command of the README is run: here, word for word, on a tiny project; or as RUN_BY says."""

import ast
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
from test_new import write_table

README = tiny.ROOT / "README.md"
HERE = Path(__file__)

PROGRAMS = r"(?:\.venv/bin/|\.ci/|(?:make|dvc|git|python|pip) )"
TIMED = r"^(?:/usr/bin/time -v|time) "
FENCED = re.compile(r"^```(\w*)\n(.*?)^```\n", flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> set[str]:
    """The lines of blocks without a language and the inline code that begin with a program, or with
    `… --`, which stands for the command before; without comments, on one line."""
    blocks = [block for language, block in FENCED.findall(page) if not language]
    found = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    found += re.findall(r"`([^`]+)`", FENCED.sub("", page))
    told = (re.sub(TIMED, "", " ".join(one.split())) for one in found)
    return {one for one in told if re.match(rf"{PROGRAMS}|(?:… )?--\w", one)}


NIGHTLY = ".github/workflows/nightly.yml"
QUEUE = "test_experiments.py::test_experiments_in_a_queue"
BENCHMARK = "python -m tests.benchmarks"
RUN_BY = {
    "make test": ".ci/run",
    "make faults": NIGHTLY,
    ".ci/run": ".github/workflows/ci.yml",
    ".ci/lock": "test_ci.py::test_a_stale_lock_is_told",
    ".ci/results <branch> <against>": "test_ci.py::test_results_of_a_branch",
    "make improve CASE=medical-bert ROUNDS=2": "test_improve.py::test_by_make",
    "make sweep CASE=medical-bert": "test_sweep.py::test_by_make",
    "make plan": "test_plan.py::test_the_commands_of_the_readme",
    "dvc repro prepare": "test_plan.py::test_the_commands_of_the_readme",
    "python -m stages.plan --parameters 7e9 --device h200 --devices 8 --sharded news-gpt": (
        "test_plan.py::test_the_commands_of_the_readme"
    ),
    "python -m stages.plan --check": "test_plan.py::test_beside_what_stages_took",
    "python -m stages.phases": "test_phases.py::test_every_stage_of_a_pipeline",
    "make study": "test_study.py::test_through_dvc",
    "make study STUDY=sequence": "test_study.py::test_through_dvc",
    "python -m stages.report.study": "test_study.py::test_through_dvc",
    "dvc exp run -S runs.bert-full.learning_rate=5e-5": (
        "test_pipeline.py::test_an_edit_of_a_learning_rate_reruns_its_run"
    ),
    "dvc exp run --queue -S …": QUEUE,
    "dvc exp show --only-changed --drop '.*(/|drop|frontier)'": QUEUE,
    "dvc queue start": QUEUE,
    "dvc queue start -j 2": QUEUE,
    "dvc exp branch <experiment> <branch>": QUEUE,
    ".venv/bin/pip install -c constraints.txt '.[s3]'": NIGHTLY,
    ".venv/bin/pip install -c constraints.txt '.[harness]'": NIGHTLY,
    ".venv/bin/pip install -c constraints.txt '.[tensorboard]'": NIGHTLY,
    ".venv/bin/pip install dvc-ssh": NIGHTLY,
    f"{BENCHMARK}.methods --case medical-bert --steps 8 --rounds 1": (
        "test_benchmarks_methods.py::test_the_commands_of_the_readme"
    ),
    "… --case news-gpt --only block-expansion,self-replay --steps 4 --rounds 1": (
        "test_benchmarks_methods.py::test_the_commands_of_the_readme"
    ),
    f"{BENCHMARK}.scoring --model … --tasks … --against lm-eval --dtype bf16 --threads 2 "
    "--batch-sizes 8,16 --rounds 1": "test_benchmarks.py::test_the_commands_of_the_readme",
    "--dtype fp32 --limit 40 --batch-sizes 16 --exact": (
        "test_benchmarks.py::test_the_commands_of_the_readme"
    ),
    "--exact --limit 400 --only pairs": ("test_benchmarks.py::test_the_commands_of_the_readme"),
    "--profile": ("test_benchmarks.py::test_the_commands_of_the_readme"),
}
"""Commands that are not run below: the test or the file of CI's that runs them."""

NAMES = {
    "medical-bert": tiny.CASE,
    "bert-full": "full",
    "minilm": "bert",
    "<run>": "lora",
    "<bucket>": "shelf",
    "<folder>": "palimpsest",
    "<host>": "example.invalid",
}
"""What the README's names are called in a tiny project."""


def run(project: tiny.Project, command: str, code: int = 0) -> str:
    """What a command of the README prints, its NAMES replaced."""
    assert command in commands(README.read_text(encoding="utf-8")), command
    for name, instead in NAMES.items():
        command = command.replace(name, instead)
    done = project.call("bash", "-c", command)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def project(reproduced: tiny.Project, tmp_path: Path) -> tiny.Project:
    """A clone that has what the first project gave."""
    run(reproduced, "dvc push --run-cache")
    reproduced.git("clone", "--quiet", str(reproduced.path), str(tmp_path / "clone"))
    clone = tiny.with_make(tiny.Project(tmp_path / "clone", reproduced.environment))
    run(clone, "dvc pull")
    return clone


def test_results(project: tiny.Project) -> None:
    said = run(project, "make run")
    assert tiny.ran(said) == []
    assert "params.yaml: sound" in said
    headline = project.call("python", "-m", "stages.report.headline").stdout
    assert headline and said.endswith(headline)
    verdicts = json.loads((project.path / "metrics/gate.json").read_text())["cases"][tiny.CASE]
    found = {one["verdict"] for one in verdicts.values()}
    code = 2 if "degraded" in found else 3 if "undecided" in found else 0
    assert "lora: " in run(project, "python -m stages.gate", code)
    assert "export/lora" in run(project, "python -m stages.export <run>")
    assert (project.path / "export/lora/README.md").is_file()
    assert run(project, "python -m stages.verify")


def test_a_case_of_ones_own(project: tiny.Project) -> None:
    # As some shells export it: the width of the terminal.
    project = replace(project, environment={**project.environment, "COLUMNS": "80"})
    write_table(project.path / "data/raw/tickets.jsonl")
    said = run(
        project,
        "make new CASE=tickets DATA=data/raw/tickets.jsonl MODEL=minilm "
        "COLUMNS=text:body,label:team",
    )
    assert "run tickets-full (classification, 160 rows)" in said
    assert run(project, "python -m stages.check") == "params.yaml: sound\n"
    shutil.copytree(tiny.ROOT / "params", project.path / "params", dirs_exist_ok=True)
    said = run(project, "make new CASE=sentiment DATA=params/sst2.yaml MODEL=minilm")
    assert "run sentiment-full (classification, params/sst2.yaml)" in said


def test_branches(project: tiny.Project) -> None:
    run(project, "git switch -c gentler")
    tiny.edit_params(project.path, runs__full__learning_rate=0.001)
    said = run(project, 'dvc repro && git commit -am "A gentler rate"')
    assert tiny.ran(said) == ["finetune@full", "retention-eval@full", "compare"]
    assert project.git("status", "--porcelain") == ""
    assert f"{tiny.CASE}.full.drop." in run(project, "dvc metrics diff main")
    run(project, "dvc plots diff main")
    assert "main" in (project.path / "dvc_plots/index.html").read_text(encoding="utf-8")
    said = run(project, "python -m stages.branches main")
    assert "| run | task | unit | main | workspace | change |" in said


def test_what_is_computed_is_shared(project: tiny.Project) -> None:
    assert tiny.ran(run(project, "dvc repro")) == []
    assert tiny.ran(run(project, "dvc repro --pull")) == []
    for command in (
        "dvc remote add -d store /some/folder",
        "dvc remote add -d store ssh://<host>/<folder>",
        "dvc remote add -d store s3://<bucket>/<folder>",
    ):
        project.git("checkout", "--quiet", "--", ".dvc/config")
        run(project, command)
        assert "store" in project.dvc("remote", "list")
    run(project, "dvc remote modify store endpointurl https://<host>")


def sources(path: Path, name: str) -> str:
    """A function of a module, and what else of the module it names, that names, and so on."""
    text = path.read_text(encoding="utf-8")
    defined = {
        one.name: one
        for one in ast.parse(text).body
        if isinstance(one, ast.FunctionDef | ast.ClassDef)
    }
    found, waiting = dict[str, str](), [name]
    while waiting:
        if (name := waiting.pop()) in defined and name not in found:
            found[name] = ast.get_source_segment(text, defined[name]) or ""
            waiting += re.findall(r"\w+", found[name])
    return "\n".join(found.values())


def words(command: str) -> list[str]:
    """Without what the reader fills in, and values."""
    plain = re.findall(r"(?<![^\s'])[-.]{0,2}[A-Za-z][\w./-]*(?![^\s'])", command)
    return [word for word in plain if word not in ("python", "-m")]


def unrun(page: str, run_by: dict[str, str]) -> Iterator[str]:
    """What is wrong with a page and a table of what runs its commands."""
    tree = ast.parse(HERE.read_text(encoding="utf-8"))
    bodies = [line for one in tree.body if isinstance(one, ast.FunctionDef) for line in one.body]
    nodes = (node for line in bodies for node in ast.walk(line))
    here = {node.value for node in nodes if isinstance(node, ast.Constant)}
    told = commands(page)
    yield from (f"{one}: nothing runs it" for one in sorted(told - here - set(run_by)))
    yield from (f"{one}: not in the README" for one in sorted(set(run_by) - told))
    for command, where in run_by.items():
        file, _, test = where.partition("::")
        path = HERE.with_name(file) if test else tiny.ROOT / file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = sources(path, test) if text and test else text
        if not found:
            yield f"{command}: {where} is not there"
        elif missing := [word for word in words(command) if word not in found]:
            yield f"{command}: {where} lacks {', '.join(missing)}"


def test_every_command_is_run() -> None:
    page = README.read_text(encoding="utf-8")
    assert len(commands(page)) > 35
    assert list(unrun(page, RUN_BY)) == []


@pytest.mark.parametrize(
    ("added", "run_by", "said"),
    [
        ("`make tea`", {}, "make tea: nothing runs it"),
        ("```\ncp a b\ndvc  gc # all\n```\n", {}, "dvc gc: nothing runs it"),
        ("", {"make tea": ".ci/run"}, "make tea: not in the README"),
        ("`make tea`", {"make tea": ".ci/run"}, "make tea: .ci/run lacks tea"),
        ("", {"make test": ".ci/walk"}, "make test: .ci/walk is not there"),
        ("", {"make test": "test_ci.py::test_tea"}, "make test: test_ci.py::test_tea is not there"),
        (
            "",
            {"dvc queue start -j 2": "test_ci.py::test_a_stale_lock_is_told"},
            "dvc queue start -j 2: test_ci.py::test_a_stale_lock_is_told lacks queue, start, -j",
        ),
    ],
)
def test_what_is_not_run_is_told(added: str, run_by: dict[str, str], said: str) -> None:
    page = README.read_text(encoding="utf-8")
    assert said in list(unrun(f"{page}\n{added}\n", {**RUN_BY, **run_by}))
