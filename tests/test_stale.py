"""Figures that were made with other params than params.yaml has now are not passed off as its own.

dvc.lock is what DVC itself writes of the stages, params and outs of the real dvc.yaml.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from stages import export, gate
from stages.config.locked import LOCK
from stages.config.stale import require_fresh
from stages.errors import UserError
from stages.storage import write_json

FIGURES = Path("figures.json")
RUNS = ("bert-full", "bert-lora", "gpt-full", "gpt-lora", "pupil", "step")


def params() -> dict[str, Any]:
    """The real ones, with a run that gpt-full teaches, and one that starts from bert-full."""
    found: dict[str, Any] = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipes = found["runs"]
    recipes["pupil"] = {**recipes["gpt-lora"], "teacher": "models/tuned/gpt-full"}
    recipes["step"] = {
        **recipes["bert-full"],
        "teacher": "models/tuned/bert-full",
        "starts": "teacher",
    }
    for section in ("runs", "variants"):
        found[section] = {name: found[section].get(name, []) for name in RUNS}
    found["tasks"]["news-retrieval"]["max_length"] = 97
    found["runs"]["bert-full"]["max_grad_norm"] = 1e-05  # which YAML 1.1 would take for a text
    return found


def stand_in(stage: dict[str, Any]) -> dict[str, Any]:
    """The stage without its code, which writes `tasks` of params.yaml into each of its outs."""
    deps = [dep for dep in stage["deps"] if not dep.startswith("stages/")]
    outs = [out for out in stage["outs"] if isinstance(out, str)]
    folders, files = ([o for o in outs if ("." in Path(o).name) == is_file] for is_file in (0, 1))
    made = [*files, *(f"{out}/it" for out in folders)]
    told = "sed -n '/^tasks:/,/^[^ t]/p' params.yaml"
    write = [f"mkdir -p {Path(out).parent}; {told} > {out}" for out in made]
    return {
        "cmd": "; ".join(write) or "true",
        "params": stage["params"],
        "deps": deps,
        "outs": outs,
    }


@dataclass(frozen=True)
class Reproduced:
    """`params` and `lock`: the texts of params.yaml, and of the dvc.lock that DVC leaves of it."""

    params: str
    lock: str

    def write(self) -> None:
        for name, text in (("params.yaml", self.params), (str(LOCK), self.lock)):
            Path(name).write_text(text)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> tiny.Project:
    """The pipeline, reproduced."""
    folder = tmp_path_factory.mktemp("locked")
    pipeline = yaml.safe_load((tiny.ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in pipeline.items():
        whole = stand_in(stage.get("do", stage))
        pipeline[name] = {"foreach": stage["foreach"], "do": whole} if "do" in stage else whole
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": pipeline}))
    tiny.write_params(folder, params())
    project = tiny.Project(folder, environment)
    project.dvc("init", "--no-scm", "--quiet")
    project.dvc("repro", "--quiet")
    return project


@pytest.fixture(scope="module")
def locked(project: tiny.Project) -> Reproduced:
    return Reproduced(*((project.path / name).read_text() for name in ("params.yaml", LOCK)))


@pytest.fixture(scope="module")
def interrupted(project: tiny.Project, locked: Reproduced) -> Reproduced:
    """An edit of a task, and a reproduction that was interrupted after gpt-lora was measured."""
    found = params()
    found["tasks"]["instructions"]["test"] = 400
    tiny.write_params(project.path, found)
    project.dvc("repro", "--quiet", "retention-eval@gpt-lora")
    return Reproduced(*((project.path / name).read_text() for name in ("params.yaml", LOCK)))


@pytest.fixture
def folder(locked: Reproduced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    locked.write()
    return tmp_path


def stale() -> dict[str, str]:
    """By run: what is said of it."""
    said = {}
    for run in RUNS:
        try:
            require_fresh(FIGURES, [run])
        except UserError as error:
            said[run] = str(error)
    return said


def test_params_that_did_not_change(folder: Path) -> None:
    assert stale() == {}
    require_fresh(FIGURES, RUNS)


BERT, GPT = {"bert-full", "bert-lora", "step"}, {"gpt-full", "gpt-lora", "pupil"}
LORA = {"lora": {"r": 8}}
EDITS: list[tuple[str, Any, str, set[str], str]] = [
    # key, its new value, the key that is named, the runs that it is said of, the first stage
    ("runs.gpt-lora.learning_rate", 0.5, "", {"gpt-lora"}, "finetune@gpt-lora"),
    ("runs.gpt-lora.methods", LORA, ".lora.r", {"gpt-lora"}, "finetune@gpt-lora"),
    ("runs.gpt-lora.methods", {}, ".lora", {"gpt-lora"}, "finetune@gpt-lora"),
    ("runs.gpt-lora.early_stopping", 3, "", {"gpt-lora"}, "finetune@gpt-lora"),
    ("runs.gpt-full.steps", 41, "", {"gpt-full", "pupil"}, "finetune@gpt-full"),
    ("runs.bert-full.steps", 41, "", {"bert-full", "step"}, "finetune@bert-full"),
    ("cases.news-gpt.retain", ["trivia", "addition"], "", GPT, "prepare@news-gpt"),
    ("cases.news-gpt.shots", 4, "", GPT, "prepare@news-gpt"),
    ("tasks.capitals.test", 149, "", GPT, "prepare@news-gpt"),
    ("models.minilm.pooling", "cls", "", BERT | GPT, ""),  # which judges news-writing
    ("models.smollm2.path", "", "", GPT, "prepare@news-gpt"),
    ("evaluation.batch_tokens", 64, "", BERT | GPT, ""),
    ("variants.bert-full", [], "", {"bert-full"}, "retention-eval@bert-full"),
    ("compare.resamples", 200, "", BERT | GPT, "compare"),
    ("seed", 21, "", BERT | GPT, ""),
    # which nothing that these runs were made with has
    ("tasks.more", {"kind": "retrieval"}, "", set(), ""),
    ("models.more", {"kind": "causal"}, "", set(), ""),
    ("launch", "python -O", "", set(), ""),
    ("sweep", {}, "", set(), ""),
    ("runs.bert-full.max_grad_norm", 0.00001, "", set(), ""),
]


@pytest.mark.parametrize(("key", "value", "below", "runs", "stage"), EDITS)
def test_an_edit_is_told(
    key: str, value: Any, below: str, runs: set[str], stage: str, folder: Path
) -> None:
    found = tiny.read_params(folder)
    *above, last = key.split(".")
    place = found
    for part in above:
        place = place[part]
    place[last] = value
    tiny.write_params(folder, found)
    said = stale()
    assert set(said) == runs
    for line in said.values():
        head, _, tail = line.partition(" (")
        assert head == f"figures.json: made with another {key}{below} than params.yaml's"
        assert tail.endswith("); run `dvc repro`")
        assert stage in tail


def test_a_run_that_was_taken_out(folder: Path) -> None:
    found = tiny.read_params(folder)
    del found["runs"]["gpt-lora"]
    tiny.write_params(folder, found)
    with pytest.raises(UserError, match=r"another runs\.gpt-lora than params\.yaml's \(finetune@"):
        require_fresh(FIGURES, ["gpt-lora"])


def test_what_was_made_before_the_figures(folder: Path) -> None:
    """`dvc repro finetune@gpt-lora` alone: its own params are those of now, compare's are not."""
    found, lock = tiny.read_params(folder), yaml.safe_load(LOCK.read_text())
    found["runs"]["gpt-lora"]["steps"] = 9
    tiny.write_params(folder, found)
    for stage in ("finetune", "retention-eval"):
        told = lock["stages"][f"{stage}@gpt-lora"]["params"]["params.yaml"]
        told["runs.gpt-lora"]["steps"] = 9
    LOCK.write_text(yaml.safe_dump(lock))
    assert stale() == {
        "gpt-lora": "figures.json: made with another runs.gpt-lora.steps than params.yaml's "
        "(compare); run `dvc repro`"
    }


def test_stages_before_the_figures_ran_again(folder: Path, interrupted: Reproduced) -> None:
    """No params tell: those that gpt-lora was made with are those of now, `compare`'s too."""
    interrupted.write()
    compare = "compare has not run since prepare wrote metrics/cards"
    prepared = "has not run since prepare@news-gpt wrote data/news-gpt/target"
    said = dict.fromkeys({*BERT, "gpt-lora"}, compare)
    said |= dict.fromkeys(("gpt-full", "pupil"), f"finetune@gpt-full {prepared}")
    assert stale() == {run: f"figures.json: {line}; run `dvc repro`" for run, line in said.items()}


@pytest.mark.parametrize(
    ("stage", "path", "runs", "said"),
    [
        # of a folder that holds the outs of others, dvc.lock does not tell which of them it was
        (
            "retention-eval@gpt-lora",
            "metrics/records/news-gpt/gpt-lora.parquet",
            set(RUNS),
            "compare has not run since pretrain-baseline-eval or retention-eval wrote "
            "metrics/records",
        ),
        (
            "finetune@gpt-full",
            "models/tuned/gpt-full",
            {"gpt-full", "pupil"},
            " has not run since finetune@gpt-full wrote models/tuned/gpt-full",
        ),
        (
            "prepare@news-gpt",
            "data/news-gpt/retain",
            GPT,
            "pretrain-baseline-eval@news-gpt has not run since prepare@news-gpt wrote "
            "data/news-gpt/retain",
        ),
    ],
)
def test_an_out_that_was_written_again(
    stage: str, path: str, runs: set[str], said: str, folder: Path
) -> None:
    lock = yaml.safe_load(LOCK.read_text())
    (out,) = (one for one in lock["stages"][stage]["outs"] if one["path"] == path)
    out["md5"] = out["md5"][::-1] if path.endswith(".parquet") else f"{'0' * 32}.dir"
    LOCK.write_text(yaml.safe_dump(lock))
    found = stale()
    assert set(found) == runs
    assert all(f"{said}; run `dvc repro`" in line for line in found.values())


def test_outs_of_a_run_that_was_taken_out_before(folder: Path) -> None:
    """dvc.lock keeps them; `compare` did not read them."""
    lock = yaml.safe_load(LOCK.read_text())
    (*_, out) = lock["stages"]["finetune@gpt-lora"]["outs"]
    gone = {**out, "path": "metrics/training/news-gpt/gone.parquet"}
    lock["stages"]["finetune@gone"] = {"cmd": "true", "outs": [gone]}
    LOCK.write_text(yaml.safe_dump(lock))
    assert stale() == {}


def test_what_dvc_lock_does_not_tell_of(folder: Path) -> None:
    found, lock = tiny.read_params(folder), yaml.safe_load(LOCK.read_text())
    found["runs"]["gpt-lora"]["steps"] = 9
    tiny.write_params(folder, found)
    del lock["stages"]["compare"], lock["stages"]["finetune@gpt-lora"]
    lock["stages"]["retention-eval@gpt-lora"].pop("params")
    LOCK.write_text(yaml.safe_dump(lock))
    assert stale() == {}
    LOCK.unlink()
    assert stale() == {}


@pytest.mark.parametrize("text", ["", "[", "stages: 3", "stages: {compare: 3}", "a: 1\na: 2"])
def test_a_damaged_lock(text: str, folder: Path) -> None:
    LOCK.write_text(text)
    with pytest.raises(UserError, match=r"^dvc\.lock: damaged: `git checkout dvc\.lock`$"):
        require_fresh(FIGURES, RUNS)


def test_gate_and_model_card(folder: Path) -> None:
    passed = {"verdict": "pass", "warnings": [], "tasks": {}}
    cases: dict[str, dict[str, Any]] = {"medical-bert": {}, "news-gpt": {}}
    for run in RUNS:
        cases[tiny.read_params(folder)["runs"][run]["case"]][run] = passed
    limits = tiny.read_params(folder)["compare"]["gate"]
    write_json(gate.GATE, {"limits": limits, "cases": cases})
    with pytest.raises(SystemExit) as ended:
        gate.main()
    assert ended.value.code == 0
    tiny.edit_params(folder, **{"runs__gpt-lora__learning_rate": 0.5})
    said = r"^metrics/gate\.json: made with another runs\.gpt-lora\.learning_rate than params"
    for runs in ([], ["gpt-lora"]):
        with pytest.raises(UserError, match=said):
            gate.main(*runs)
    with pytest.raises(SystemExit) as ended:
        gate.main("gpt-full")
    assert ended.value.code == 0
    Path("models/tuned/gpt-lora/seed-0").mkdir(parents=True)
    with pytest.raises(UserError, match=said):
        export.main("gpt-lora")
    assert not Path("export").exists()
