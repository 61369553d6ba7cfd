"""make improve: tries advice as DVC experiments, keeps what is better, touches nothing else."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from stages import improve
from stages.diagnosis.advice import Advice
from stages.diagnosis.attempt import Attempt
from stages.errors import UserError

COMPARE = """
import json, yaml
from pathlib import Path

run = yaml.safe_load(Path("params.yaml").read_text())["runs"]["first"]
rate, replays = float(run["learning_rate"]), "replay" in run["methods"]
# A tenth of the rate halves the drop, at no cost; replay loses the gain.
drop = 0.4 if rate > 1e-4 else 0.04
gain = 0.0 if replays else 0.1
status = "pass" if drop < 0.05 else "degraded"
tasks = {
    "goal": {"role": "target", "change": gain, "limit": 0.0},
    "kept": {"role": "retain", "change": -drop, "limit": -0.05},
}
advice = [
    {"settings": ["++runs.first.methods={replay:{fraction:0.05}}"], "because": "it helps"},
    {"settings": ["++runs.first.learning_rate=1e-05"], "because": "gentler"},
]
told_gain = {"value": gain, "low": gain - 0.02}
told = [{**one, "command": str(one["settings"])} for one in advice]
files = {
    "gate": {"cases": {"case": {"first": {"verdict": status, "tasks": tasks}}}},
    "scores": {"case": {"first": {"goal": {"gain": told_gain}, "kept": {}}}},
    "diagnosis": {"case": {"first": {"advice": told}}},
}
Path("metrics").mkdir(exist_ok=True)
for name, text in files.items():
    Path(f"metrics/{name}.json").write_text(json.dumps(text))
"""


@pytest.fixture
def project(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> tiny.Project:
    """A pipeline of one stage that says how a run would do."""
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipe = {**next(iter(real["runs"].values())), "case": "case", "methods": {}}
    case = {"model": "minilm", "targets": ["goal"], "retain": ["kept", "other"]}
    params = {"cases": {"case": case}, "runs": {"first": recipe}}
    tiny.write_params(tmp_path, params)
    (tmp_path / "compare.py").write_text(COMPARE, encoding="utf-8")
    stage = {
        "cmd": f"{sys.executable} compare.py",
        "deps": ["compare.py"],
        "params": ["runs"],
        "outs": [{f"metrics/{name}.json": {"cache": False}} for name in improve.FILES],
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"compare": stage}}))
    project = tiny.Project(tmp_path, environment)
    project.git("init", "--quiet", "--initial-branch=main")
    project.dvc("init", "--quiet")
    project.dvc("repro", "--quiet")
    project.commit("A run")
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return project


def test_the_first_advice_fails_and_the_second_passes(
    project: tiny.Project, capsys: pytest.CaptureFixture[str]
) -> None:
    improve.main("case", "5")
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "first: gate degraded, gain +0.1000 (at least +0.0800), drops of 8.00 margins",
        "first-try-1: ++runs.first.methods={replay:{fraction:0.05}}: it helps",
        "first-try-1: gate degraded, gain +0.0000 (at least -0.0200), drops of 8.00 margins",
        "first-try-2: ++runs.first.learning_rate=1e-05: gentler",
        "first-try-2: gate pass, gain +0.1000 (at least +0.0800), drops of 0.80 margins",
        "the gate passes",
        "chosen on test, the best of 2 tries: its gate errs more than it says",
        "best: first-try-2; take it with `dvc exp apply first-try-2`",
    ]
    # Every attempt is kept, and the workspace is as it was.
    assert {"first-try-1", "first-try-2"} <= set(project.dvc("exp", "list", "--name-only").split())
    assert project.git("status", "--porcelain") == ""
    project.dvc("exp", "apply", "first-try-2")
    gate = json.loads((project.path / "metrics/gate.json").read_text())
    assert gate["cases"]["case"]["first"]["verdict"] == "pass"


def test_a_try_that_cannot_run_is_passed_over(
    project: tiny.Project, capsys: pytest.CaptureFixture[str]
) -> None:
    refusing = COMPARE.replace("drop = 0.4", "assert not replays, 'too few rows'\ndrop = 0.4")
    (project.path / "compare.py").write_text(refusing, encoding="utf-8")
    project.dvc("repro", "--quiet")
    project.commit("Replay is refused")
    improve.main("case", "5")
    _, tried, failed, *rest = capsys.readouterr().out.splitlines()
    assert tried.startswith("first-try-1: ++runs.first.methods=")
    assert failed.startswith("first-try-1: dvc exp run failed: ")
    assert rest == [
        "first-try-1: ++runs.first.learning_rate=1e-05: gentler",
        "first-try-1: gate pass, gain +0.1000 (at least +0.0800), drops of 0.80 margins",
        "the gate passes",
        "best: first-try-1; take it with `dvc exp apply first-try-1`",
    ]


def test_rounds_are_kept_to(project: tiny.Project, capsys: pytest.CaptureFixture[str]) -> None:
    improve.main("case", "1", "first")
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4
    assert said[-1] == "best: first, as it is"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("", "1"), "CASE is not given: give a case of params.yaml, as CASE=medical-bert"),
        (("cas", "1"), "cas: no such case; did you mean case?"),
        (("case", "0"), "ROUNDS=0: give a whole number from 1"),
        (("case", "x"), "ROUNDS=x: give a whole number from 1"),
        (("case", "1", "frist"), "frist: no run of case; did you mean first?"),
    ],
)
def test_what_it_refuses(project: tiny.Project, arguments: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        improve.main(*arguments)
    assert str(error.value) == said


def test_it_needs_results(project: tiny.Project) -> None:
    (project.path / "metrics/gate.json").unlink()
    with pytest.raises(UserError, match=r"metrics/gate\.json: not there; run `dvc repro`"):
        improve.main("case", "1")


def attempt(gain: float, burden: float, verdict: str = "degraded") -> Attempt:
    return Attempt(verdict, gain, gain - 0.02, burden)


def test_an_attempt_is_read_from_the_files() -> None:
    """The mean gain of several targets; what got better makes up for no loss."""
    tasks = {
        "goal": {"role": "target", "change": -1.0, "limit": 0.01},
        "kept": {"role": "retain", "change": -0.02, "limit": -0.05},
        "text": {"role": "retain", "change": -0.03, "limit": -0.01},
        "better": {"role": "retain", "change": 0.3, "limit": -0.05},
    }
    scores = {
        "goal": {"gain": {"value": 0.1, "low": 0.05}},
        "aim": {"gain": {"value": 0.3, "low": 0.2}},
        "kept": {"drop": {"value": 0.02, "low": 0.0}},
    }
    found = Attempt.of({"verdict": "undecided", "tasks": tasks}, scores)
    assert found.verdict == "undecided"
    assert (found.gain, found.least_gain, found.burden) == pytest.approx((0.2, 0.125, 3.4))


def test_better_is_less_lost_for_as_much_gained() -> None:
    before = attempt(0.1, 4.0)
    assert attempt(0.1, 3.9).is_better_than(before, before)
    assert attempt(0.09, 1.0).is_better_than(before, before)
    assert not attempt(0.07, 1.0).is_better_than(before, before)
    assert not attempt(0.3, 4.0).is_better_than(before, before)


def test_the_gate_is_asked_before_the_burden() -> None:
    worst, middling, best = (
        attempt(gain, burden, verdict)
        for gain, burden, verdict in (
            (0.02, 0.29, "degraded"),
            (0.001, 0.30, "undecided"),
            (0.05, 0.31, "pass"),
        )
    )
    assert best.is_better_than(middling, middling)
    assert best.is_better_than(worst, worst)
    assert middling.is_better_than(worst, worst)
    for one, other in ((worst, middling), (worst, best), (middling, best)):
        assert not one.is_better_than(other, middling)
    # What learns nothing loses nothing, and is no better for it.
    learned = attempt(0.1, 4.0)
    assert not attempt(0.0, 0.0, "pass").is_better_than(learned, learned)


def test_a_gain_does_not_ebb_away_try_by_try(
    project: tiny.Project, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each try is within the interval of the one before, and only the first within the run's."""
    ebbing = COMPARE.replace(
        '"replay" in run["methods"]', 'run["steps"] if run["steps"] < 4 else 0'
    )
    ebbing = ebbing.replace(
        "gain = 0.0 if replays else 0.1", "gain, drop = 0.05 - 0.019 * replays, 0.4 - 0.1 * replays"
    )
    start, end = ebbing.index("advice = ["), ebbing.index("told_gain")
    steps = '[{"settings": [f"++runs.first.steps={n}"], "because": ""} for n in (1, 2, 3)]'
    ebbing = f"{ebbing[:start]}advice = {steps}\n{ebbing[end:]}"
    (project.path / "compare.py").write_text(ebbing, encoding="utf-8")
    project.dvc("repro", "--quiet")
    project.commit("Another way to do")
    improve.main("case", "3")
    said = capsys.readouterr().out.splitlines()
    gains = [line.partition("gain ")[2][:7] for line in said if "gate" in line][:4]
    assert gains == ["+0.0500", "+0.0310", "+0.0120", "-0.0070"]
    assert said[-1] == "best: first-try-1; take it with `dvc exp apply first-try-1`"


def test_tries_add_to_what_a_run_has(tmp_path: Path) -> None:
    """Advice of a try builds on that of the try before: nothing is deleted, and nothing lost."""
    before: dict[str, Any] = {"steps": 9, "methods": {"lora": {"r": 16}}}
    replay = {"replay": {"fraction": 0.05, "tasks": ["kept"]}}
    first: dict[str, Any] = {"pool": "retain/train", "methods": {**before["methods"], **replay}}
    second: dict[str, Any] = {"methods": {**first["methods"], "lwf": {"weight": 1.0}}}
    tried = [Advice(changes, "", 0.5) for changes in (first, second)]
    settings = [one for advice in tried for one in advice.settings("first")]
    assert not [one for one in settings if one.startswith("~")]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"runs": {"first": before}}))
    (given,) = get_hydra_sweeps({str(path): settings})
    apply_overrides(path, given[str(path)])
    assert yaml.safe_load(path.read_text())["runs"]["first"] == {**before, **first, **second}


def test_by_make(project: tiny.Project) -> None:
    done = tiny.with_make(project).call("make", "improve", "CASE=case", "ROUNDS=2", "RUN=first")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "best: first-try-2; take it with `dvc exp apply first-try-2`"
    )
