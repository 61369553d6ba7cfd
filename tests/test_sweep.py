"""make sweep: a grid as queued DVC experiments, taken up where it ended, chosen on validation."""

import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from stages import experiments, sweep
from stages.check import check
from stages.config.overrides import overrides
from stages.config.sweep import read_sweep
from stages.errors import UserError
from stages.experiments import left_by

COMPARE = """
import json, sys, yaml
from pathlib import Path

params = yaml.safe_load(Path("params.yaml").read_text())
case, runs = "medical-bert", {{}}
for name, run in params["runs"].items():
    if run["case"] == case:
        runs[name] = run
# Of the mean drop; of all tasks and of those that no replay touches it is the same.
shares = {{"news-retrieval": 1.0, "newsgroup-topics": 0.5, "movie-sentiment": 1.5}}
replayed = [run["methods"].get("replay", {{"tasks": []}})["tasks"] for run in runs.values()]
unseen = [task for task in shares if task not in sum(replayed, [])]
attempts, scores = [], {{}}
for name, run in runs.items():
    rate = float(run["learning_rate"])
    if rate > 0.5 and not Path("{mended}").exists():
        sys.exit("diverged")
    gain = 1000 * rate
    drop = gain / (10 if "replay" in run["methods"] else 2)

    def interval(value):
        return {{"value": value, "low": value - 0.01, "high": value + 0.01}}

    mean = sum(shares[task] for task in unseen) / len(unseen) * drop
    attempts.append({{
        "name": name,
        "validation": [gain, mean],
        "gain": interval(gain),
        "drop": interval(mean),
        "by_task": {{task: drop * shares[task] for task in unseen}},
    }})
    scores[name] = {{task: {{"drop": interval(drop * share)}} for task, share in shares.items()}}
Path("metrics").mkdir(exist_ok=True)
Path("metrics/frontier.json").write_text(json.dumps({{case: {{"attempts": attempts}}}}))
Path("metrics/scores.json").write_text(json.dumps({{case: scores}}))
"""
REPLAY = {"replay": {"fraction": 0.05, "tasks": ["news-retrieval"]}}
GRID = {
    "run": "bert-full",
    "values": {"learning_rate": [1.0e-4, 2.0e-4], "methods": [{}, REPLAY]},
}


def real_params() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    found["runs"]["bert-full"]["pool"] = "retain/train"
    return found


@pytest.fixture
def project(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> tiny.Project:
    """A pipeline of one stage that says how a run would do; a rate of 0.9 fails."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "compare.py").write_text(COMPARE.format(mended=tmp_path / "mended"))
    stage = {
        "cmd": f"{sys.executable} compare.py",
        "deps": ["compare.py"],
        "params": ["runs", "tasks"],
        "outs": [{f"metrics/{name}.json": {"cache": False}} for name in ("frontier", "scores")],
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"compare": stage}}))
    project = tiny.Project(folder, environment)
    tiny.write_params(folder, {**real_params(), "sweep": {"medical-bert": GRID}})
    project.git("init", "--quiet", "--initial-branch=main")
    project.dvc("init", "--quiet")
    project.dvc("repro", "--quiet")
    project.commit("A run")
    monkeypatch.setattr(sweep, "WAIT", 1.0)
    monkeypatch.chdir(folder)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return project


def test_a_sweep(project: tiny.Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.main("medical-bert", "2")
    said = capsys.readouterr().out
    names = project.dvc("exp", "list", "--name-only").split()
    assert len(names) == 4
    head, *rows, last = said.splitlines()
    assert head.split()[:3] == ["experiment", "learning_rate", "methods"]
    # The faster rate with replay gains most; at the slower one, only with replay is less lost.
    assert [("replay" in row, "0.0002" in row) for row in rows] == [
        (True, True),
        (True, False),
        (False, False),
        (False, True),
    ]
    assert ["[" in row.split("}")[-1] for row in rows[:2]] == [True, True]
    assert all("[" not in row for row in rows[2:])
    assert last.startswith("4 tried; ")
    assert project.git("status", "--porcelain") == ""

    # Again: nothing runs, the same is said. One value more: what is there stays, one fails.
    before = project.git("for-each-ref", "refs/exps")
    sweep.main("medical-bert")
    assert capsys.readouterr().out == said
    assert project.git("for-each-ref", "refs/exps") == before
    grid = {"run": "bert-full", "values": {"learning_rate": [1.0e-4, 0.9], "methods": [REPLAY]}}
    tiny.write_params(project.path, {**real_params(), "sweep": {"medical-bert": grid}})
    with pytest.raises(UserError, match=r"^bert-full-\w{8} failed: see `dvc queue logs bert-full"):
        sweep.main("medical-bert")
    assert "2 tried; " in capsys.readouterr().out
    (tmp_path / "mended").touch()
    sweep.main("medical-bert")
    head, *rows, _ = capsys.readouterr().out.splitlines()
    assert len(rows) == 2
    assert len(project.dvc("exp", "list", "--name-only").split()) == 5


def swept(project: tiny.Project, grid: Any, **others: Any) -> dict[str, dict[str, Any]]:
    """Goes through a grid of bert-full. The runs of params.yaml of each experiment, by its name."""
    params = {**real_params(), **others, "sweep": {"medical-bert": grid}}
    tiny.write_params(project.path, params)
    sweep.main("medical-bert", "2")
    return {
        name: yaml.safe_load(left_by(name, "params.yaml"))["runs"]
        for name in project.dvc("exp", "list", "--name-only").split()
    }


def test_what_trains_is_what_the_table_says(project: tiny.Project) -> None:
    """From a run with methods, of which none may outlive a combination without them."""
    l2 = {"l2-sp": {"alpha": 0.1}}
    tried = [{}, {"lora": {"r": 8}}, {"lora": {"r": 8, "lora_alpha": 32}, **l2}]
    runs = real_params()["runs"]
    runs["bert-lora"]["methods"] = {"lora": {"r": 16, "lora_alpha": 32}}
    found = swept(project, {"run": "bert-lora", "values": {"methods": tried}}, runs=runs)
    made = [one["bert-lora"] for one in found.values()]
    assert len(made) == len(tried)
    for methods in tried:
        assert {**runs["bert-lora"], "methods": methods} in made


def test_an_edit_is_tried_anew(project: tiny.Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Of params.yaml and of the code; each sweep shows its own."""
    grid = {"run": "bert-full", "values": {"learning_rate": [1.0e-4]}}
    runs = real_params()["runs"]
    (first,) = swept(project, grid)
    runs["bert-full"]["steps"] += 1
    capsys.readouterr()
    found = swept(project, grid, runs=runs)
    (second,) = set(found) - {first}
    assert found[second]["bert-full"]["steps"] == runs["bert-full"]["steps"]
    assert second in capsys.readouterr().out.split()
    code = project.path / "compare.py"
    code.write_text(code.read_text().replace("1000 * rate", "2000 * rate"))
    (third,) = set(swept(project, grid, runs=runs)) - {first, second}
    _, row, _ = capsys.readouterr().out.splitlines()
    assert row.split()[:3] == [third, "0.0001", "+0.2000"]


def test_what_a_worker_took_along_is_run_all_the_same(project: tiny.Project) -> None:
    """Taken from the queue by a worker that is no more, DVC says of it that it runs."""
    grid = {"run": "bert-full", "values": {"learning_rate": [1.0e-4]}}
    params = {**real_params(), "sweep": {"medical-bert": grid}}
    tiny.write_params(project.path, params)
    ((name, changes),) = sweep._grid(read_sweep("medical-bert")).items()
    sweep._enqueue({name: overrides("bert-full", changes)})
    assert sweep._queue()[name] == "Queued"
    broker = project.path / ".dvc/tmp/exps/celery/broker"
    (message,) = (broker / "in").glob("*.celery.msg")
    message.rename(broker / "processed" / message.name)
    assert sweep._queue()[name] == "Running"
    (done,) = swept(project, grid)
    assert done == name
    assert sweep._queue()[name] == "Success"


def test_workers_that_do_nothing_are_told(
    project: tiny.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"run": "bert-full", "values": {"learning_rate": [1.0e-4]}}

    def call(*command: str) -> str:
        return "" if command[:3] == ("dvc", "queue", "start") else experiments.call(*command)

    monkeypatch.setattr(sweep, "call", call)
    told = r"^workers of DVC's queue end before bert-full-\w{8} has run$"
    with pytest.raises(UserError, match=told):
        swept(project, grid)


def test_what_an_experiment_is_named_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of params.yaml but the grids, as it is with the combination; dvc.yaml and the code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text("")
    stage = {"cmd": "true", "deps": ["code.py", "data", "models/${key}.json"]}
    pipeline = {"stages": {"prepare": {"foreach": ["a"], "do": stage}, "compare": stage}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline))

    def name(grid: dict[str, Any] = GRID, **others: Any) -> str:
        params = {**real_params(), **others, "sweep": {"medical-bert": grid}}
        tiny.write_params(tmp_path, params)
        return next(iter(sweep._grid(read_sweep("medical-bert"))))

    before, params = name(), real_params()
    assert name({**GRID, "values": {"learning_rate": [1.0e-4], "methods": [{}]}}) == before
    (tmp_path / "data").mkdir()
    (tmp_path / "data/made.json").write_text("{}")
    params["runs"]["bert-full"]["learning_rate"] = 0.5  # which the grid sets
    assert name(runs=params["runs"]) == before
    params["runs"]["bert-full"]["seeds"] = [0, 1]
    edits = [{"runs": params["runs"]}, {"seed": params["seed"] + 1}, {"tasks": {}}]
    names = {before, *(name(**edit) for edit in edits)}
    assert len(names) == 4
    (tmp_path / "code.py").write_text("1")
    names.add(name())
    stage["cmd"] = "false"
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    assert len({*names, name()}) == 6


def without_replay() -> dict[str, Any]:
    """Runs of which none has seen a retain task."""
    runs: dict[str, Any] = real_params()["runs"]
    runs["bert-replay"]["methods"] = {}
    return runs


def replay(task: str) -> dict[str, Any]:
    return {"replay": {"fraction": 0.05, "tasks": [task]}}


def test_drops_are_over_tasks_that_no_combination_has_seen(
    project: tiny.Project, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = [replay("newsgroup-topics"), replay("news-retrieval")]
    grid = {"run": "bert-full", "values": {"methods": [{}, *tried], "learning_rate": [1e-4]}}
    swept(project, grid, runs=without_replay())
    _, *rows, last = capsys.readouterr().out.splitlines()
    assert "mean drop over movie-sentiment, which no combination" in last
    # One task is left, of which half as much again is lost as of all.
    drops = {("replay" in row, row.split("}")[-1].split()[2]) for row in rows}
    assert drops == {(False, "+0.0750"), (True, "+0.0150")}
    assert "+0.0150 [+0.0050, +0.0250]" in rows[0]

    swept(project, {**grid, "values": {"methods": [{}, tried[0]]}}, runs=without_replay())
    _, *rows, last = capsys.readouterr().out.splitlines()
    assert "mean drop over movie-sentiment, news-retrieval, which no combination" in last
    # The mean of two independent estimates: 1 / sqrt(2) of the width of one.
    (plain,) = (row for row in rows if "replay" not in row)
    assert "+0.1250" in plain
    (replays,) = (row for row in rows if "replay" in row)
    assert "+0.0250 [+0.0150, +0.0350]" in replays


def test_tasks_must_be_left_to_compare_by(project: tiny.Project) -> None:
    tried = [replay(task) for task in real_params()["cases"]["medical-bert"]["retain"]]
    grid = {"run": "bert-full", "values": {"methods": tried}}
    with pytest.raises(UserError) as error:
        swept(project, grid, runs=without_replay())
    assert str(error.value) == (
        "medical-bert: movie-sentiment, news-retrieval, newsgroup-topics: each is seen by a "
        "combination, and none is left to compare drops over: let the grid's methods see fewer "
        "tasks, or add retain tasks"
    )


def test_a_grid_that_leaves_no_task_to_compare_by_is_refused_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    retain = real_params()["cases"]["medical-bert"]["retain"]

    def told(seen: list[str], runs: Any) -> list[str]:
        grid = {"run": "bert-full", "values": {"methods": [{}, *map(replay, seen)]}}
        params = {**real_params(), "runs": runs, "sweep": {"medical-bert": grid}}
        tiny.write_params(tmp_path, params)
        try:
            check()
        except UserError as error:
            return str(error).splitlines()
        return []

    assert told(retain[:2], without_replay()) == []
    key = "params.yaml: sweep.medical-bert.run = 'bert-full': combinations see "
    (line,) = told(retain, without_replay())
    assert line.startswith(f"{key}{', '.join(sorted(retain))}, and no retain task is left to comp")
    # bert-replay sees a task as well: with each other one too few are left.
    (line,) = told(retain[:2], real_params()["runs"])
    assert line.endswith("or let the methods see fewer (in sweep.medical-bert)")


@pytest.mark.parametrize(
    ("case", "run", "values", "said"),
    [
        (
            "news-gpt",
            "gpt-full",
            {"methods": [{}, {"block-expansion": {"blocks": 3}}]},
            "variants.gpt-full = 'wise-0.5': the run has block-expansion, and its copies",
        ),
        (
            "medical-bert",
            "bert-full",
            {"draw": [{"rows": 64}]},
            "variants.bert-full = 'wise-0.25': mixes in a probe of all train rows",
        ),
        (
            "medical-bert",
            "bert-full",
            {"head": [None], "head_learning_rate": [None]},
            "runs.bert-full.head = None: a classification target needs a head",
        ),
    ],
)
def test_each_combination_fits_the_rest_of_the_file(
    case: str, run: str, values: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its case, its variants and its teacher: told before any of the grid is trained."""
    monkeypatch.chdir(tmp_path)
    params = {**real_params(), "sweep": {case: {"run": run, "values": values}}}
    params["variants"] = {**params["variants"], "bert-full": ["wise-0.25"]}
    tiny.write_params(tmp_path, params)
    with pytest.raises(UserError) as error:
        check()
    (line,) = str(error.value).splitlines()
    assert said in line
    assert line.endswith(f"(in sweep.{case})")


def test_texts_are_no_tasks_to_compare_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = real_params()
    params["sweep"] = {"news-gpt": {"run": "gpt-full", "values": {"steps": [10, 20]}}}
    params["runs"] = {"gpt-full": params["runs"]["gpt-full"]}
    params["variants"] = {"gpt-full": []}
    texts = [name for name, task in params["tasks"].items() if task["kind"] == "language-modelling"]
    params["tasks"] |= {f"more-{name}": params["tasks"][name] for name in texts}
    case = {**params["cases"]["news-gpt"]}
    params["cases"] = {"news-gpt": case}
    tiny.write_params(tmp_path, params)
    check()
    case["retain"] = [*texts, *(f"more-{name}" for name in texts)]
    assert len(case["retain"]) >= 2
    tiny.write_params(tmp_path, params)
    told = r"combinations see none, and no retain task is left to compare them by, for texts do not"
    with pytest.raises(UserError, match=told):
        check()


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"run": "bert-full"}, "sweep.medical-bert.values: missing"),
        ({**GRID, "run": "gpt-full"}, "sweep.medical-bert.run = 'gpt-full': no run of it"),
        ({**GRID, "runs": 3}, "sweep.medical-bert.runs = 3: unknown key; did you mean run?"),
        ({**GRID, "values": {"steps": []}}, "sweep.medical-bert.values.steps = []: "),
        ({**GRID, "values": {"steps": [0]}}, "sweep.medical-bert.values.steps = 0: "),
        ({**GRID, "values": {"stepps": [1]}}, "sweep.medical-bert.values.stepps = 1: unknown key"),
        ({**GRID, "values": {"steps": [*range(1, 2000)]}}, "sweep.medical-bert.values = 1999: "),
        (
            {**GRID, "values": {"methods.l2-sp.alpha": [0.1], "methods": [{}, REPLAY]}},
            "sweep.medical-bert.values = 'methods.l2-sp.alpha': lies within methods, another key",
        ),
        (
            {**GRID, "values": {"methods": [{"replay": {"fraction": 5, "tasks": ["trivia"]}}]}},
            "runs.bert-full.methods.replay.fraction = 5: ",
        ),
    ],
)
def test_what_is_refused(
    grid: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_params(tmp_path, {**real_params(), "sweep": {"medical-bert": grid}})
    with pytest.raises(UserError) as error:
        check()
    assert str(error.value).startswith(f"params.yaml: {said}")


def test_a_case_without_a_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write_params(tmp_path, {**real_params(), "sweep": {"medical-bert": GRID}})
    with pytest.raises(UserError, match="news-gpt: no grid of this case under sweep"):
        sweep.main("news-gpt")
    with pytest.raises(UserError, match="JOBS=0: give a whole number from 1"):
        sweep.main("medical-bert", "0")


def test_by_make(project: tiny.Project) -> None:
    grid = {"run": "bert-full", "values": {"learning_rate": [1.0e-4]}}
    tiny.write_params(project.path, {**real_params(), "sweep": {"medical-bert": grid}})
    done = tiny.with_make(project).call("make", "sweep", "CASE=medical-bert", "JOBS=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("1 tried; ")
