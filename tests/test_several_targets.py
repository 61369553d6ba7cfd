"""Several targets mixed in one run, and the plain knobs of a run, through the stages."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file
from torch import nn

from stages.records import read_table
from stages.storage import read_json
from stages.training.optimizer import make_optimizer

TARGETS, RETAIN = ["color-qa", "shape-topics"], ["mood-words", tiny.RETRIEVAL]


def test_two_targets_are_learned_and_judged_each(bench: Path) -> None:
    tiny.edit_params(
        bench,
        cases__tiny__targets=TARGETS,
        cases__tiny__retain=RETAIN,
        runs__full__steps=60,
        runs__lora__steps=2,
    )
    tiny.run_stage("check")
    tiny.run_stage("prepare", tiny.CASE)
    tiny.run_stage("pretrain_baseline_eval", tiny.CASE)
    for run in ("full", "lora"):
        tiny.run_stage("finetune", run)
        tiny.run_stage("retention_eval", run)
    tiny.run_stage("compare")

    heads = load_file(bench / "models/tuned/full/seed-0/heads.safetensors")
    classes = {"color-qa": 4, "shape-topics": 3}
    assert {name: tensor.shape[0] for name, tensor in heads.items()} == {
        f"{task}.{part}": count for task, count in classes.items() for part in ("weight", "bias")
    }
    headline = read_json(bench / "metrics/retention.json")[tiny.CASE]["full"]
    assert set(headline["gain"]) == set(TARGETS)
    assert set(headline["drop"]) == set(RETAIN)
    # Each target is answered by its own head: a head of 4 classes cannot answer for 3.
    records, _ = read_table(bench / f"metrics/records/{tiny.CASE}/full.parquet")
    for task, count in classes.items():
        of_task = records[(records["task"] == task) & (records["split"] == "test")]
        assert {len(row) for row in of_task["probabilities"]} == {count}
    curves, _ = read_table(bench / f"metrics/training/{tiny.CASE}/full.parquet")
    each = [curves[f"batch_loss:{task}"].dropna() for task in TARGETS]
    assert (each[0] + each[1]).to_numpy() == pytest.approx(curves["batch_loss"].dropna().to_numpy())
    for losses in each:
        assert losses.tail(10).mean() < losses.head(10).mean()


def test_training_stops_early_and_keeps_the_best(bench: Path) -> None:
    """At a rate that spoils the model, looks after the best one are worse."""
    spoiling = {"learning_rate": 0.3, "steps": 200, "validate_every": 5, "early_stopping": 2}
    params = tiny.read_params(bench)
    params["runs"]["full"] |= spoiling
    tiny.write_params(bench, params)
    tiny.run_stage("finetune", "full")
    curves, about = read_table(bench / f"metrics/training/{tiny.CASE}/full.parquet")
    looks = curves[curves["validation_loss"].notna()]
    last = int(curves["step"].max())
    assert last < 200
    best = int(looks["step"].to_numpy()[looks["validation_loss"].to_numpy().argmin()])
    assert about["best_step"]["0"] == best == last - 10


def test_each_layer_has_its_rate(own: Path) -> None:
    """0.5 from a layer to the one below; the embeddings below all, heads apart."""
    import transformers

    model = nn.Module()
    model.body = transformers.AutoModel.from_pretrained(own / "model")
    model.head = nn.Linear(32, 2)
    optimizer = make_optimizer(model, 1.0, 7.0, 0.0, layer_decay=0.5)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: rate[id(parameter)] for name, parameter in model.named_parameters()}
    expected = {"body.embeddings.": 0.25, "body.encoder.layer.0.": 0.5}
    expected |= {"body.encoder.layer.1.": 1.0, "head.": 7.0, "body.pooler.": 1.0}
    for start, value in expected.items():
        of_start = [found[name] for name in found if name.startswith(start)]
        assert of_start
        assert set(of_start) == {value}, start
    assert all(name.startswith(tuple(expected)) for name in found)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_schedule_is_the_runs(bench: Path, schedule: str) -> None:
    params = tiny.read_params(bench)
    params["runs"]["full"] |= {"schedule": schedule, "steps": 10, "warmup": 0.2}
    tiny.write_params(bench, params)
    tiny.run_stage("finetune", "full")
    curves, _ = read_table(bench / f"metrics/training/{tiny.CASE}/full.parquet")
    rates = curves["learning_rate"].dropna().to_numpy() / params["runs"]["full"]["learning_rate"]
    done = np.arange(8) / 8
    after = np.ones(8) if schedule == "constant" else (1 + np.cos(np.pi * done)) / 2
    np.testing.assert_allclose(rates, [0.5, 1.0, *after])
