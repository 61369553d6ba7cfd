"""The five stages on a causal model in miniature, against plain transformers calls."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import tiny_causal
import torch
import transformers
from safetensors.torch import load_file
from tiny_causal import CASE, CHOICES, RANK, RETAIN, RUNS, STEPS, STILL, TARGET, VARIANTS

from stages import check
from stages.errors import UserError
from stages.records import read_table
from stages.storage import read_json

DERIVED = tuple(f"full@{variant}" for variant in VARIANTS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five stages, run in this process."""
    folder = tmp_path_factory.mktemp("causal")
    tiny_causal.write_sources(folder)
    tiny.write_params(folder, tiny_causal.make_params(folder))
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        check.check()
        tiny.run_stage("prepare", CASE)
        tiny.run_stage("pretrain_baseline_eval", CASE)
        for run in RUNS:
            tiny.run_stage("finetune", run)
            tiny.run_stage("retention_eval", run)
        tiny.run_stage("compare")
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def _records(
    project: Path, who: str, task: str, condition: str = "clean", variant: str = "final"
) -> pd.DataFrame:
    """Of the test split, by example."""
    records, _ = read_table(project / f"metrics/records/{CASE}/{who}.parquet")
    chosen = (records["task"] == task) & (records["split"] == "test")
    chosen &= records["variant"] == variant
    return records[chosen & (records["condition"] == condition)].set_index("example_id")


def _rows(project: Path, role: str, task: str) -> pd.DataFrame:
    return pd.read_parquet(project / f"data/{CASE}/{role}/test/{task}.parquet")


def _tuned(project: Path, run: str) -> Path:
    return project / "models/tuned" / run / "seed-0"


def _model(project: Path, who: str) -> Any:
    """By plain transformers; an adapter is added to the weights by hand."""
    base = project / "own/model"
    whole_model = who in ("full", "still")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        _tuned(project, who) if whole_model else base, dtype=torch.float32
    )
    if who == "lora":
        scale = read_json(_tuned(project, who) / "adapter_config.json")["lora_alpha"] / RANK
        adapter = load_file(_tuned(project, who) / "adapter_model.safetensors")
        weights = dict(model.named_parameters())
        for name, down in adapter.items():
            if ".lora_A." not in name:
                continue
            up = adapter[name.replace(".lora_A.", ".lora_B.")]
            place = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
            weights[place].data += scale * up @ down
    return model.eval()


@torch.inference_mode()
def _logprob(model: Any, ids: list[int], begin: int) -> float:
    """Of the tokens from `begin` on, in nats."""
    logprobs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(logprobs[at - 1, ids[at]]) for at in range(begin, len(ids)))


def _tokenizer(project: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(project / "own/model")


def _bits_per_byte(project: Path, who: str) -> float:
    model, tokenizer = _model(project, who), _tokenizer(project)
    texts = list(_rows(project, "target", TARGET)["text"])
    assert len(texts) == 20
    nats = -sum(_logprob(model, tokenizer(text)["input_ids"], 1) for text in texts)
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def _chosen(project: Path, who: str, task: str) -> dict[str, tuple[int, int]]:
    """example -> the likeliest choice per byte, and the right one."""
    model, tokenizer = _model(project, who), _tokenizer(project)
    found = {}
    for row in _rows(project, "retain", task).to_dict("records"):
        begin = len(tokenizer(row["context"])["input_ids"])
        rates = [
            _logprob(model, tokenizer(row["context"] + choice)["input_ids"], begin)
            / len(choice.strip().encode())
            for choice in row["choices"]
        ]
        found[str(row["example_id"])] = (rates.index(max(rates)), int(row["answer"]))
    return found


def test_retention_and_scores_are_whole(project: Path) -> None:
    retention = read_json(project / "metrics/retention.json")[CASE]
    frontier = retention.pop("frontier", {})
    assert all(math.isfinite(drop) for drop in frontier.values())
    assert set(retention) == {*RUNS, *DERIVED}
    for told in retention.values():
        assert set(told["gain"]) == {TARGET}
        assert set(told["drop"]) == set(RETAIN)
        for value in (*told["gain"].values(), *told["drop"].values()):
            assert math.isfinite(value)
    scores = read_json(project / "metrics/scores.json")[CASE]
    assert set(scores) == {"base", *RUNS, *DERIVED}
    for name, told in scores.items():
        assert told[TARGET]["bits_per_byte"]["value"] > 0
        assert "accuracy" not in told[TARGET]
        for task in RETAIN:
            assert 0 <= told[task]["accuracy"]["value"] <= 1
            assert "bits_per_byte" not in told[task]
            noisy_too = task == "agreement" and name not in DERIVED
            assert ("under typos-0.1" in told[task]) == noisy_too
    clean, noisy = (
        _records(project, "base", "agreement", condition) for condition in ("clean", "typos-0.1")
    )
    assert set(clean.index) == set(noisy.index)
    assert not clean["nll"].equals(noisy["nll"].reindex(clean.index))


@pytest.mark.parametrize("who", ["base", "full", "lora"])
def test_bits_per_byte_are_those_of_plain_calls(project: Path, who: str) -> None:
    expected = _bits_per_byte(project, who)
    records = _records(project, who, TARGET)
    texts = _rows(project, "target", TARGET).set_index("example_id")["text"]
    assert sorted(records.index) == sorted(texts.index)
    assert records["bytes"].to_dict() == {key: len(text.encode()) for key, text in texts.items()}
    found = records["nll"].sum() / math.log(2) / records["bytes"].sum()
    assert found == pytest.approx(expected, rel=1e-6)
    told = read_json(project / "metrics/scores.json")[CASE][who][TARGET]["bits_per_byte"]
    assert told["value"] == pytest.approx(expected, abs=6e-5)


def test_the_gain_is_in_bits_and_it_learned(project: Path) -> None:
    retention = read_json(project / "metrics/retention.json")[CASE]
    base = _bits_per_byte(project, "base")
    for run in ("full", "lora"):
        gain = base - _bits_per_byte(project, run)
        assert gain > 0.1
        assert retention[run]["gain"][TARGET] == pytest.approx(gain, abs=6e-5)


@pytest.mark.parametrize("task", CHOICES)
@pytest.mark.parametrize("who", ["base", "full"])
def test_accuracy_is_that_of_plain_calls(project: Path, who: str, task: str) -> None:
    expected = _chosen(project, who, task)
    assert len(expected) == 20
    records = _records(project, who, task)
    right = {key: float(best == answer) for key, (best, answer) in expected.items()}
    assert records["score"].to_dict() == right
    accuracy = sum(right.values()) / len(right)
    assert records["score"].mean() == accuracy
    told = read_json(project / "metrics/scores.json")[CASE][who][task]["accuracy"]
    assert told["value"] == pytest.approx(accuracy, abs=6e-5)


@pytest.mark.parametrize("run", RUNS)
def test_a_drop_is_before_minus_after(project: Path, run: str) -> None:
    drops = read_json(project / "metrics/retention.json")[CASE][run]["drop"]
    for task in RETAIN:
        before, after = (_records(project, who, task)["score"].mean() for who in ("base", run))
        assert drops[task] == pytest.approx(before - after, abs=6e-5)


def test_tuning_changes_some_choice(project: Path) -> None:
    """Else the tuned model's accuracies would say no more than the base's."""
    before, after = (
        {task: list(_records(project, who, task)["prediction"].sort_index()) for task in CHOICES}
        for who in ("base", "full")
    )
    assert before != after


def test_lora_stores_an_adapter_only(project: Path) -> None:
    kept = {path.name for path in _tuned(project, "lora").rglob("*") if path.is_file()}
    beside = {"base.json", "trained.json"}
    assert kept == {"adapter_config.json", "adapter_model.safetensors"} | beside
    adapter = load_file(_tuned(project, "lora") / "adapter_model.safetensors")
    assert {RANK} == {
        tensor.shape[0 if ".lora_A." in name else 1] for name, tensor in adapter.items()
    }
    assert all(".lora_A." in name or ".lora_B." in name for name in adapter)
    assert any(bool(up.abs().max() > 0) for name, up in adapter.items() if ".lora_B." in name)
    whole_model = {path.name for path in _tuned(project, "full").iterdir()}
    assert "model.safetensors" in whole_model
    assert whole_model & kept == beside


def test_a_tiny_rate_hardly_moves_the_model(project: Path) -> None:
    def moved(run: str) -> float:
        base, tuned = (_model(project, who).state_dict() for who in ("base", run))
        assert set(base) == set(tuned)
        return max(float((tuned[name] - base[name]).abs().max()) for name in base)

    # AdamW's step is at most about the learning rate.
    bound = 10 * STEPS * STILL
    assert 0 < moved("still") < bound
    assert min(moved("full"), moved("lora")) > 10 * bound
    base, still, full = (_records(project, who, TARGET)["nll"] for who in ("base", "still", "full"))
    assert still.to_dict() == pytest.approx(base.to_dict(), rel=1e-3)
    assert full.to_dict() != pytest.approx(base.to_dict(), rel=1e-2)


@pytest.mark.parametrize("kind", ["classification", "linear-probe", "retrieval"])
def test_an_encoders_task_is_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    named = ("query", "document") if kind == "retrieval" else ("text", "label")
    params = tiny.read_params(project)
    params["tasks"]["topics"] = {
        **params["tasks"][TARGET],
        "kind": kind,
        "data": {**params["tasks"][TARGET]["data"], "columns": {name: name for name in named}},
    }
    monkeypatch.chdir(tmp_path)
    tiny.write_params(tmp_path, params)
    check.check()  # the task itself is sound
    params["cases"][CASE]["retain"].append("topics")
    tiny.write_params(tmp_path, params)
    with pytest.raises(UserError) as refused:
        check.check()
    assert str(refused.value) == (
        f"params.yaml: cases.{CASE}.retain = 'topics': is {kind}; gpt is of kind causal, which "
        "fits multiple-choice, language-modelling, news-writing, instruction-following, "
        "minimal-pairs, bias-pairs, refusal, completion, chat, lm-eval"
    )


def test_variants_lie_between_or_near(project: Path) -> None:
    """Half way to a model of other weights is another model; 8 bits are nearly the same one."""
    before = _records(project, "base", TARGET)["nll"].mean()
    after = _records(project, "full", TARGET)["nll"].mean()
    half, rounded = (
        _records(project, "full", TARGET, variant=variant)["nll"].mean() for variant in VARIANTS
    )
    assert after < half < before
    assert rounded == pytest.approx(after, rel=0.05)
    assert rounded != after
    records, _ = read_table(project / f"metrics/records/{CASE}/full.parquet")
    asked = records[records["variant"] != "final"]
    assert set(asked["condition"]) == {"clean"}
    assert set(asked["split"]) == {"validation", "test"}
