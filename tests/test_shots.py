"""The untouched base with a few-shot prompt: what it is asked, and its place on the frontier."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_causal
import torch
import transformers
from tiny_causal import CASE, TARGET

from stages import check
from stages.errors import UserError
from stages.records import read_table
from stages.scoring.shots import behind, few_shot_prompt
from stages.statistics.frontier import Attempt, frontier
from stages.storage import read_json
from stages.tasks.examples import Examples, Task, read_examples

SHOTS = 2
CONDITION = f"shots-{SHOTS}"


def _project(folder: Path, **of_case: Any) -> None:
    tiny_causal.write_sources(folder)
    params = tiny_causal.make_params(folder)
    params["runs"] = {"full": params["runs"]["full"]}
    params["variants"] = {"full": ["wise-0.5"]}
    params["cases"][CASE].update(of_case)
    tiny.write_params(folder, params)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five stages, run in this process."""
    folder = tmp_path_factory.mktemp("shots")
    _project(folder, shots=SHOTS)
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        check.check()
        tiny.run_stage("prepare", CASE)
        tiny.run_stage("pretrain_baseline_eval", CASE)
        tiny.run_stage("finetune", "full")
        tiny.run_stage("retention_eval", "full")
        tiny.run_stage("compare")
    return folder


def _base(project: Path) -> pd.DataFrame:
    return read_table(project / f"metrics/records/{CASE}/base.parquet")[0]


def test_only_targets_are_asked_and_only_of_the_base(project: Path) -> None:
    base = _base(project)
    prompted = base[base["condition"] == CONDITION]
    assert set(prompted["task"]) == {TARGET}
    for split in ("validation", "test"):
        asked = base[(base["task"] == TARGET) & (base["split"] == split)]
        ids = {
            condition: set(asked.loc[asked["condition"] == condition, "example_id"])
            for condition in ("clean", CONDITION)
        }
        assert ids["clean"] == ids[CONDITION]
    records, _ = read_table(project / f"metrics/records/{CASE}/full.parquet")
    assert CONDITION not in set(records["condition"])


@torch.inference_mode()
def test_bits_are_those_of_plain_calls(project: Path) -> None:
    """The prompt is two texts of train; what follows it is scored, each byte of it once."""
    train = read_examples(project / f"data/{CASE}/target/train/{TARGET}.parquet")
    prompt = few_shot_prompt(train, SHOTS, 20)
    shown = prompt.removesuffix("\n\n").split("\n\n")
    assert len(shown) == SHOTS
    assert set(shown) < set(train.column("text"))
    test = read_examples(project / f"data/{CASE}/target/test/{TARGET}.parquet")
    assert not set(shown) & set(test.column("text"))
    folder = project / "own/model"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    base = _base(project)
    found = base[(base["condition"] == CONDITION) & (base["split"] == "test")]
    found = found.set_index("example_id")
    begin = len(tokenizer(prompt.rstrip())["input_ids"])
    for example_id, text in zip(test.column("example_id"), test.column("text"), strict=True):
        ids = tokenizer(prompt + text)["input_ids"]
        logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        nats = -sum(float(logprobs[at - 1, ids[at]]) for at in range(begin, len(ids)))
        assert found.loc[example_id, "nll"] == pytest.approx(nats, rel=1e-5)
        assert found.loc[example_id, "bytes"] == len(text.encode())


def test_the_prompt_is_a_point_of_the_frontier_and_no_method(project: Path) -> None:
    base = _base(project)
    asked = base[(base["task"] == TARGET) & (base["split"] == "test")]
    bits = {
        condition: rows["nll"].sum() / math.log(2) / rows["bytes"].sum()
        for condition, rows in asked.groupby("condition")
    }
    found = read_json(project / "metrics/frontier.json")[CASE]
    point = found["prompted"]["point"]
    assert point["name"] == f"base@{CONDITION}"
    assert point["gain"]["value"] == pytest.approx(bits["clean"] - bits[CONDITION], abs=1e-4)
    assert point["drop"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert "prompt" not in {one["method"] for one in found["attempts"]}
    assert "prompt" not in read_json(project / "metrics/retention.json")[CASE].get("frontier", {})
    rows = read_json(project / "metrics/plots/frontier.json")
    assert [row["model"] for row in rows if row["method"] == "prompt"] == [point["name"]]
    # The random base learns nothing from a prompt; tuning surely gains more.
    assert "full" in found["prompted"]["outgained_by"]
    for page in ("report.md", "report.html"):
        text = (project / "metrics" / page).read_text(encoding="utf-8")
        assert f"(base@{CONDITION}) gains" in text
        assert "A fine-tune that does not gain more is" in text


def attempt(name: str, method: str, gain: float, spread: float, validation: float) -> Attempt:
    """100 examples; the gain of each varies around `gain` by `spread`."""
    turned = np.tile([1.0, -1.0], 50)
    gains = {"target": gain + spread * turned}
    return Attempt(name, method, (validation, 0.1), gains, {"kept": np.full(100, 0.1)})


def test_which_methods_outgain_the_prompt() -> None:
    """By the attempt that gained most on validation, and surely."""
    found = frontier(
        [
            attempt("f1", "far", 0.2, 0.1, 0.2),
            attempt("n1", "near", 0.11, 0.5, 0.1),
            attempt("u1", "unlucky", 0.05, 0.1, 0.3),
            attempt("u2", "unlucky", 0.3, 0.1, 0.1),
        ],
        {"target": range(100), "kept": range(100)},
        draws=200,
        seed=0,
        confidence=0.95,
        prompted=attempt("base@shots-4", "prompt", 0.1, 0.0, 0.1),
    )
    assert found.prompted is not None
    assert found.prompted.outgained_by == ("far",)
    assert [one.name for one in found.attempts] == ["f1", "n1", "u1", "u2"]
    assert {one.method for one in found.curves} == {"far", "near", "unlucky"}


def choices(rows: int) -> Examples:
    frame = pd.DataFrame(
        {
            "context": [f"Question {n}:" for n in range(rows)],
            "choices": [[" no", f" yes {n}"] for n in range(rows)],
            "answer": 1,
            "example_id": [f"{n:016x}" for n in range(rows)],
        }
    )
    return Examples(Task("asked", "multiple-choice", 16, (), {}), frame)


def test_shots_of_multiple_choice_have_the_right_answer() -> None:
    prompt = few_shot_prompt(choices(9), 3, 0)
    first, *others = prompt.removesuffix("\n\n").split("\n\n")
    assert len({first, *others}) == 3
    number = first.split()[1].rstrip(":")
    assert first == f"Question {number}: yes {number}"
    assert few_shot_prompt(choices(9), 3, 0) == prompt
    assert few_shot_prompt(choices(9), 3, 1) != prompt
    asked = behind(prompt, 40, choices(2), 64)
    assert asked.column("context") == [f"{prompt}Question {n}:" for n in range(2)]
    assert asked.task.max_length == 56


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="shots = 10: its train split has 9 examples"):
        few_shot_prompt(choices(9), 10, 0)
    with pytest.raises(UserError, match="take 60 tokens and an example up to 16; the model reads"):
        behind("", 60, choices(2), 64)
    monkeypatch.chdir(tmp_path)
    _project(tmp_path, shots=0)
    with pytest.raises(UserError, match=rf"^params.yaml: cases.{CASE}.shots = 0: "):
        check.check()
    params = tiny_causal.make_params(tmp_path)
    params["models"]["bert"] = {**params["models"]["gpt"], "kind": "encoder", "pooling": "mean"}
    params["cases"][CASE].update(model="bert", shots=2)
    tiny.write_params(tmp_path, params)
    with pytest.raises(UserError, match=r"shots = 2: bert is of kind encoder and takes no prompt"):
        check.check()
