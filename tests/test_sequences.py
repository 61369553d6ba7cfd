"""Sequences of targets: runs that start from one another, through the stages."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import tiny_training as toy
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from faults_page import Fault
from safetensors.numpy import load_file
from safetensors.torch import save_file

from stages.errors import UserError
from stages.models.encoder import load_encoder
from stages.models.loading import EncoderModel, load
from stages.models.tuned import save_tuned
from stages.records import read_records, read_table
from stages.report import study as report
from stages.statistics.sequence import MEASURES
from stages.storage import read_json, write_json
from stages.training.methods.ewc import LEFT, Ewc
from stages.training.subject import Subject

FIRST, SECOND = "color-qa", "shape-topics"
RETAIN = ["mood-words", tiny.RETRIEVAL]


def sequence(project: Path, **second: Any) -> dict[str, Any]:
    """A case of two targets: `first` learns one, `second` goes on from there with the other."""
    params = tiny.read_params(project)
    recipe = params["runs"].get("full") or params["runs"]["first"]
    recipe["steps"] = 60
    params["cases"][tiny.CASE] |= {"targets": [FIRST, SECOND], "retain": RETAIN}
    begun = {"teacher": "models/tuned/first", "starts": "teacher"}
    params["runs"] = {
        "first": {**recipe, "learns": [FIRST]},
        "second": {**recipe, **begun, "learns": [SECOND], **second},
    }
    params["variants"] = {run: [] for run in params["runs"]}
    tiny.write_params(project, params)
    return params


@pytest.fixture(scope="module")
def learned(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the first step is done; to be copied."""
    folder = tmp_path_factory.mktemp("learned") / "project"
    shutil.copytree(own, folder / tiny.OWN)
    tiny.write_params(folder, tiny.make_params(folder))
    tiny.edit_params(folder, evaluation__noise__conditions=[], evaluation__noise_repeats=2)
    sequence(folder)
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        tiny.run_stage("check")
        tiny.run_stage("prepare", tiny.CASE)
        tiny.run_stage("pretrain_baseline_eval", tiny.CASE)
        tiny.run_stage("finetune", "first")
        tiny.run_stage("retention_eval", "first")
    return folder


@pytest.fixture
def begun(learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "begun"
    shutil.copytree(learned, folder)
    monkeypatch.chdir(folder)
    return folder


def body(folder: Path) -> dict[str, torch.Tensor]:
    loaded = load(read_json(folder / "base.json"), Path(tiny.OWN) / "model", folder)
    assert isinstance(loaded, EncoderModel)
    return dict(loaded.encoder.body.state_dict())


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


TUNED = Path("models/tuned")


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("methods", [{}, {"lora": {"r": 2}}])
def test_a_step_starts_where_the_other_ended(begun: Path, methods: dict[str, Any]) -> None:
    """A rate of next to nothing leaves the weights, and not those of the base."""
    sequence(begun, methods=methods, learning_rate=1e-30, head_learning_rate=1e-30, steps=2)
    tiny.run_stage("check")
    tiny.run_stage("finetune", "second")
    first, second = (TUNED / run / "seed-0" for run in ("first", "second"))
    assert alike(body(first), body(second))
    untouched = dict(load_encoder(Path(tiny.OWN) / "model", "mean").body.state_dict())
    assert not alike(body(second), untouched)
    heads = load_file(second / "heads.safetensors")
    assert {name.rpartition(".")[0] for name in heads} == {FIRST, SECOND}
    for name, kept in load_file(first / "heads.safetensors").items():
        assert (heads[name] == kept).all(), name
    assert read_json(TUNED / "first/learned.json") == [FIRST]
    assert read_json(TUNED / "second/learned.json") == [FIRST, SECOND]


@pytest.mark.usefixtures("one_thread")
def test_the_sequence_is_told(begun: Path) -> None:
    """R has a row the base and each step; a target that another step learns may be lost."""
    tiny.edit_params(begun, runs__second__steps=120)
    tiny.run_stage("finetune", "second")
    tiny.run_stage("retention_eval", "second")
    tiny.run_stage("compare")
    scores, retention = (
        read_json(begun / f"metrics/{name}.json")[tiny.CASE] for name in ("scores", "retention")
    )
    told = scores["sequence@second"]
    assert told["steps"] == ["first", "second"]
    assert told["learned"] == {FIRST: 1, SECOND: 2}
    for task in (FIRST, SECOND, *RETAIN):
        measure = "hit_at_1" if task == tiny.RETRIEVAL else "accuracy"
        rows = [scores[model][task][measure]["value"] for model in ("base", "first", "second")]
        assert told["R"][task] == pytest.approx(rows)
    r = told["R"]
    assert told["backward_transfer"]["value"] == pytest.approx(r[FIRST][2] - r[FIRST][1])
    assert told["forward_transfer"]["value"] == pytest.approx(r[SECOND][1] - r[SECOND][0])
    assert told["forgetting"]["value"] == pytest.approx(r[FIRST][1] - r[FIRST][2])
    assert told["average_accuracy"]["value"] == pytest.approx((r[FIRST][2] + r[SECOND][2]) / 2)
    assert told["forgetting"]["value"] > 0.1
    for name in MEASURES:
        assert retention["second"][name] == told[name]["value"]
        assert name not in retention["first"]

    assert {
        run: tuple(set(retention[run][side]) for side in ("gain", "drop"))
        for run in ("first", "second")
    } == {
        "first": ({FIRST}, {SECOND, *RETAIN}),
        "second": ({SECOND}, {FIRST, *RETAIN}),
    }
    assert scores["first"][SECOND]["drop"]["target"] == "later"
    assert scores["second"][FIRST]["drop"]["target"] == "earlier"
    lost = scores["base"][FIRST]["accuracy"]["value"] - r[FIRST][2]
    assert scores["second"][FIRST]["drop"]["value"] == pytest.approx(lost)
    gate = read_json(begun / "metrics/gate.json")["cases"][tiny.CASE]["second"]["tasks"]
    assert {task: one["role"] for task, one in gate.items()} == {
        FIRST: "retain",
        SECOND: "target",
        **dict.fromkeys(RETAIN, "retain"),
    }
    # What has not learned all targets cannot be an attempt at them.
    attempts = read_json(begun / "metrics/frontier.json")[tiny.CASE]["attempts"]
    assert [one["name"] for one in attempts] == ["second"]
    plotted = read_json(begun / "metrics/plots/sequences.json")
    assert len(plotted) == 3 * 4
    assert {
        (row["step"], row["score"]) for row in plotted if row["task"] == f"{FIRST} (step 1)"
    } == {
        (step, r[FIRST][at])
        for at, step in enumerate(("base", "first (step 1)", "second (step 2)"))
    }
    page = (begun / "metrics/report.md").read_text(encoding="utf-8")
    assert "### The sequence that ends with second" in page
    assert f"{FIRST} (earlier target)" in page.replace("\\", "")
    assert "| forgetting |" in page
    drawn = (begun / "metrics/report.html").read_text(encoding="utf-8")
    assert drawn.count('class="own"') == 2
    assert drawn.count('class="cell ') == 3 * 4

    in_a_study(begun, told["R"], {name: told[name]["value"] for name in MEASURES})


@pytest.mark.usefixtures("one_thread")
def test_a_step_is_told_of_the_shift_of_what_it_learns(begun: Path) -> None:
    """And of no other target's, whose training texts it never sees."""
    tiny.edit_params(begun, runs__second__steps=2)
    tiny.run_stage("finetune", "second")
    tiny.run_stage("retention_eval", "second")
    path = begun / f"metrics/shift/{tiny.CASE}.json"
    shift = read_json(path)
    for task, auc in ((FIRST, 0.91), (SECOND, 0.92)):
        shift["comparisons"][task] |= {"auc": auc, "auc_error": 0.01}
        shift["comparisons"][f"same source, {task}"] |= {"auc": auc - 0.4, "auc_error": 0.01}
    write_json(path, shift)
    tiny.run_stage("compare")
    diagnosis = read_json(begun / "metrics/diagnosis.json")[tiny.CASE]
    for run, said in (
        ("first", f"{FIRST} from its test texts with an AUC of 0.91; "),
        ("second", f"{SECOND} from its test texts with an AUC of 0.92; "),
    ):
        verdict = diagnosis[run]["verdict"]
        (told,) = [one["evidence"] for one in verdict if one["cause"] == "distribution shift"]
        assert said in told
    page = (begun / "metrics/report.md").read_text(encoding="utf-8")
    for task, shown in ((FIRST, "0.51"), (SECOND, "0.52")):
        assert f"| same source, {task} | " in page
        assert f"| {shown} ± 0.02 | " in page


def in_a_study(project: Path, r: dict[str, list[float]], measures: dict[str, float]) -> None:
    """R and its measures are the same from a study's compact records."""
    base, about = read_records(project / f"metrics/records/{tiny.CASE}/base.parquet")
    parts = [report.compact(base, report.BASE)]
    for run in ("first", "second"):
        records, _ = read_records(project / f"metrics/records/{tiny.CASE}/{run}.parquet")
        parts.append(report.compact(records, run))
    compare = tiny.read_params(project)["compare"]
    told = {
        "tasks": about["tasks"],
        "methods": {"second": "full"},
        "sequences": {"second": ["first", "second"]},
        "learned": {"first": [FIRST], "second": [SECOND]},
        "seen": [],
        "settings": {**{key: compare[key] for key in ("confidence", "resamples")}, "seed": 20},
        "git": "0123456789ab",
    }
    report.write_compact(tiny.CASE, pd.concat(parts, ignore_index=True), told)
    page = report.write_pages().read_text(encoding="utf-8")
    assert "### The sequence that ends with second\n\n![tasks by steps](second.svg)" in page
    row = " | ".join(f"{100 * figures[1]:.1f}" for figures in r.values())
    assert f"| 1 first | {row} |" in page
    assert f"| forgetting | {100 * measures['forgetting']:+.1f} \\[" in page
    drawing = (report.FOLDER / "second.svg").read_text(encoding="utf-8")
    assert drawing.count('stroke="#000"') == 2


def replaying(**settings: Any) -> dict[str, Any]:
    return {"replay": {"fraction": 0.5, "tasks": [FIRST], "repeats": 10, **settings}}


@pytest.mark.usefixtures("one_thread")
def test_replay_draws_what_an_earlier_step_learned(begun: Path) -> None:
    """From the target's own rows, with its head, which goes on learning: more is kept."""
    sequence(begun, methods=replaying())
    tiny.run_stage("check")
    tiny.run_stage("finetune", "second")
    tiny.run_stage("retention_eval", "second")
    tiny.run_stage("compare")
    curves, about = read_table(begun / f"metrics/training/{tiny.CASE}/second.parquet")
    assert about["seen"] == [FIRST]
    drawn = curves[f"batch_loss:{FIRST}"].dropna()
    assert len(drawn) == 60
    heads = [load_file(TUNED / run / "seed-0/heads.safetensors") for run in ("first", "second")]
    assert (heads[0][f"{FIRST}.weight"] != heads[1][f"{FIRST}.weight"]).any()
    # It starts from that head: its first loss is that of a model that knows the task.
    first, _ = read_table(begun / f"metrics/training/{tiny.CASE}/first.parquet")
    assert drawn.iloc[0] < 0.7 * first["batch_loss"].dropna().iloc[0]
    scores = read_json(begun / "metrics/scores.json")[tiny.CASE]
    assert (
        scores["second"][FIRST]["drop"] | {"seen": True, "target": "earlier"}
        == (scores["second"][FIRST]["drop"])
    )
    r = scores["sequence@second"]["R"]
    assert r[FIRST][2] > r[FIRST][1] - 0.1


def subject_at(start: Path | None, tasks: list[str], model: Path, **settings: Any) -> Subject:
    """A step that starts from `start`, whose ewc takes what it holds of `tasks`."""
    ewc = {"ewc": {"strength": 0.5, "tasks": tasks, "rows": 6}}
    begun: dict[str, Any] = {}
    if start:
        begun = {"teacher": "models/tuned/before", "starts": "teacher"}
    made = toy.subject(
        model, methods=ewc, pool="retain/train", learns=[tiny.TARGET], **begun, **settings
    )
    recipe = replace(made.recipe, start=start)
    AcceleratorState._reset_state(reset_partial_state=True)
    subject = Subject(recipe, 0, Accelerator(cpu=True))
    subject.leave_out_padding()  # as a run does, before a method takes anything
    return subject


def information(subject: Subject) -> dict[str, torch.Tensor]:
    """Of the run's own tasks alone."""
    (ewc,) = toy.methods(subject.config)
    assert isinstance(ewc, Ewc)
    return ewc._information(subject)


@pytest.mark.usefixtures("one_thread")
def test_ewc_accumulates(own: Path, tmp_path: Path) -> None:
    """F of step 3 is the sum of what each step took, at the weights that it started from."""
    model = own / "model"
    step = subject_at(None, ["mood-words"], model)
    total = information(step)
    for number, task in enumerate(("shape-topics", tiny.RETRIEVAL), start=1):
        toy.objective(step)
        assert alike(step.left[LEFT], total)
        with torch.no_grad():
            for weight in step.body.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.02)
        folder = tmp_path / f"step-{number}"
        save_tuned(folder / "seed-0", step.saved(), {}, step.recipe.manifest)
        save_file(step.left[LEFT], folder / "seed-0" / LEFT)
        step = subject_at(folder, [task], model)
        own_part = information(step)
        assert torch.cat([one.flatten() for one in own_part.values()]).mean().item() == (
            pytest.approx(1)
        )
        total = {name: one + total[name] for name, one in own_part.items()}
    penalty = toy.objective(step).penalties["ewc"]
    assert alike(step.left[LEFT], total)
    # By hand: 0.5 / 2 * sum F (w - w0)^2, around the weights that this step started from.
    start = {name: one.detach().clone() for name, one in step.body.named_parameters()}
    assert penalty().item() == 0
    with torch.no_grad():
        for weight in step.body.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    expected = sum(
        0.25 * (total[name] * (one.detach() - start[name]) ** 2).sum().item()
        for name, one in step.body.named_parameters()
    )
    assert penalty().item() == pytest.approx(expected, rel=1e-4)
    mean = torch.cat([one.flatten() for one in total.values()]).mean().item()
    assert mean == pytest.approx(3, rel=1e-4)


@pytest.mark.usefixtures("one_thread")
def test_lwf_and_l2_sp_stay_near_the_step_before(begun: Path, own: Path) -> None:
    """What they add is 0 where the step starts, though it is far from the base."""
    methods = {"lwf": {"weight": 1.0}, "l2-sp": {"alpha": 0.1}}
    made = toy.subject(
        own / "model",
        (SECOND,),
        (),
        methods=methods,
        learns=[SECOND],
        teacher="models/tuned/first",
        starts="teacher",
    )
    recipe = replace(made.recipe, start=TUNED / "first")
    AcceleratorState._reset_state(reset_partial_state=True)
    step = Subject(recipe, 0, Accelerator(cpu=True))
    objective = toy.objective(step).eval()
    parts = objective(0, 0)
    assert parts["l2-sp"].item() == 0
    assert parts["lwf"].item() == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        untouched = load_encoder(own / "model", "mean").body.state_dict()
        step.body.load_state_dict(untouched)
    moved = objective(0, 0)
    assert moved["l2-sp"].item() > 0
    assert moved["lwf"].item() > 1e-3


def test_a_sweep_is_of_the_last_run(begun: Path) -> None:
    params = tiny.read_params(begun)
    params["sweep"] = {tiny.CASE: {"run": "second", "values": {"steps": [10]}}}
    tiny.write_params(begun, params)
    tiny.run_stage("check")
    params["sweep"][tiny.CASE]["run"] = "first"
    tiny.write_params(begun, params)
    with pytest.raises(UserError) as refused:
        tiny.run_stage("check")
    assert str(refused.value) == (
        "params.yaml: sweep.tiny.run = 'first': has not learned shape-topics: give the last run of "
        "a sequence"
    )


def mistakes(project: Path, change: dict[str, Any]) -> list[str]:
    params = tiny.read_params(project)
    for key, value in change.items():
        run, _, name = key.partition(".")
        params["runs"][run][name] = value
    tiny.write_params(project, params)
    with pytest.raises(UserError) as refused:
        tiny.run_stage("check")
    return str(refused.value).splitlines()


OTHER = "models/tuned/other"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no run": (
        {"second.teacher": "models/base/tiny.json"},
        "runs.second.starts = 'teacher': teacher is models/base/tiny.json: give models/tuned/<run>",
    ),
    "an unknown run": (
        {"second.teacher": "models/tuned/frist"},
        "runs.second.teacher = 'frist': no such name under runs; did you mean first?",
    ),
    "a run of another case": (
        {"second.teacher": OTHER},
        f"runs.second.teacher = '{OTHER}': a run of else: a step starts from a run of its own case",
    ),
    "a circle": (
        {"first.teacher": "models/tuned/second", "first.starts": "teacher"},
        "runs.first.teacher = 'models/tuned/second': goes in a circle: first, second, first",
    ),
    "a seed that the step before lacks": (
        {"second.seeds": [0, 3]},
        "runs.second.seeds = [0, 3]: first has no seed 3: a step's seed starts from the same",
    ),
    "a task that is no target": (
        {"second.learns": ["shape-topic"]},
        "runs.second.learns = 'shape-topic': no target of tiny, which has color-qa, shape-topics; "
        "did you mean shape-topics?",
    ),
    "nothing": ({"second.learns": []}, "runs.second.learns = []: give one target or more"),
    "a target twice": (
        {"second.learns": [SECOND, SECOND]},
        "runs.second.learns = ['shape-topics', 'shape-topics']: a target stands there twice",
    ),
    "what was learned before": (
        {"second.learns": None},
        "runs.second.learns = None: first has learned color-qa before: give targets that are new",
    ),
    "folds of some targets": (
        {"first.folds": 3},
        "runs.first.folds = 3: every target of the case is asked of a fold's model",
    ),
    "replay of what is learned later": (
        {"first.methods": replaying(tasks=[SECOND]), "first.pool": "retain/train"},
        "shape-topics is no retain task of tiny: give some of mood-words, twin-retrieval",
    ),
    "replay of what nobody learned": (
        {"second.methods": replaying(tasks=["tales"]), "second.pool": "retain/train"},
        "tales is no retain task of tiny, and no earlier step learned it: give some of color-qa,",
    ),
    "replay of a retain task without its rows": (
        {"second.methods": replaying(tasks=[FIRST, "mood-words"])},
        "uses train rows of retain tasks: set the run's pool to retain/train",
    ),
    "distillation from where it starts": (
        {"second.methods": {"distil": {"weight": 1.0, "temperature": 2.0}}},
        "first, where the run starts, knows nothing of what it learns; lwf",
    ),
    "labels by where it starts": (
        {
            "second.methods": {"self-training": {"threshold": 0.5, "fraction": 0.5}},
            "second.draw": {"rows": 32},
        },
        "first, where the run starts, knows nothing of what it learns",
    ),
    "virtual tokens": (
        {
            "second.methods": {
                "adapter": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2},
            }
        },
        "a step of a sequence is kept as whole weights, and virtual tokens are no change of them",
    ),
    "a start with virtual tokens": (
        {"first.methods": {"adapter": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2}}},
        "runs.second.teacher = 'models/tuned/first': first has adapter, and virtual tokens are no "
        "change of weights: start from another run",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_pairings_are_told(begun: Path, what: str, fault: Fault) -> None:
    params = tiny.read_params(begun)
    params["cases"]["else"] = params["cases"][tiny.CASE]
    params["runs"]["other"] = {
        **params["runs"]["first"],
        "case": "else",
        "teacher": "models/base/else.json",
    }
    params["variants"]["other"] = []
    tiny.write_params(begun, params)
    tiny.run_stage("check")
    change, said = WRONG[what]
    lines = mistakes(begun, change)
    assert all(line.startswith("params.yaml: ") for line in lines)
    assert sum(said in line for line in lines) == 1
    fault(f"a sequence: {what}", "exit 1, one line")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": [0, 3]}, "runs.second.seeds: models/tuned/first has no seed 3 to start from"),
        ({"learns": [FIRST]}, "runs.second.learns: models/tuned/first has learned color-qa before"),
        ({"learns": ["tales"]}, "runs.second.learns: tales is no target of tiny"),
        ({"methods": replaying(tasks=[SECOND])}, "shape-topics is no retain task of tiny"),
    ],
)
def test_finetune_alone_tells_them_too(begun: Path, change: dict[str, Any], said: str) -> None:
    sequence(begun, **change, **({"pool": "retain/train"} if "methods" in change else {}))
    with pytest.raises(UserError, match=r"^[^\n]*$") as refused:
        tiny.run_stage("finetune", "second")
    assert said in str(refused.value)
    assert not (TUNED / "second").exists()
