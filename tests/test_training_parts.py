"""The parts of training that are functions: order, dropout, rate, losses, probe, checkpoint."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_training as small
import torch
import transformers
import yaml
from faults_page import Fault
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from stages.config.runs import RunConfig
from stages.models.probe import INVERSE_PENALTY, Probe, fit_probe
from stages.training import losses
from stages.training.checkpoint import Checkpoint
from stages.training.optimizer import make_optimizer, set_rate
from stages.training.order import draw, seed_step
from stages.training.schedule import is_over, rate_factor
from stages.training.state import Progress, resume

# Order


def first_rows(rows: int, size: int, seed: int, count: int) -> list[int]:
    """What the first batches see, one after the other."""
    return [int(row) for step in range(count) for row in batch(rows, size, seed, step)]


def batch(rows: int, size: int, seed: int, step: int) -> NDArray[np.intp]:
    return draw(rows, seed, step * size, (step + 1) * size)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), size=st.integers(2, 60), seed=st.integers(0, 2**31 - 1))
def test_each_epoch_is_a_permutation(rows: int, size: int, seed: int) -> None:
    seen = first_rows(rows, size, seed, math.ceil(3 * rows / size))
    for epoch in range(3):
        assert sorted(seen[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_epochs_and_seeds_differ() -> None:
    seen = first_rows(50, 10, 7, 10)
    assert seen[:50] != seen[50:]
    assert seen[:50] != list(range(50))
    assert seen != first_rows(50, 10, 8, 10)
    assert seen != first_rows(50, 10, 0, 10)


def test_a_batch_is_a_function_of_seed_and_step_alone() -> None:
    forwards = [batch(50, 8, 3, step).tolist() for step in range(20)]
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    assert [batch(50, 8, 3, step).tolist() for step in reversed(range(20))] == forwards[::-1]


def test_a_batch_runs_over_into_the_next_epoch() -> None:
    assert [len(batch(10, 4, 0, step)) for step in range(5)] == [4] * 5
    over = batch(10, 4, 0, 2).tolist()
    whole_epochs = first_rows(10, 10, 0, 2)
    assert over == whole_epochs[8:12]


def test_the_size_of_a_batch_does_not_change_the_order() -> None:
    assert first_rows(12, 3, 5, 8) == first_rows(12, 8, 5, 3)


def dropout(seed: int, step: int, process: int) -> list[float]:
    seed_step(seed, step, process)
    found: list[float] = nn.functional.dropout(torch.ones(64), 0.5).tolist()
    return found


def test_dropout_is_a_function_of_seed_step_and_process() -> None:
    triples = [(s, t, p) for s in (0, 1, 2**31 - 1) for t in (0, 1, 2, 70_000) for p in (0, 1, 2)]
    masks = [dropout(*triple) for triple in triples]
    torch.rand(1000)
    assert [dropout(*triple) for triple in triples] == masks
    assert len({tuple(mask) for mask in masks}) == len(triples)


# Learning rate and optimizer


def run_config(**settings: Any) -> RunConfig:
    """The first run of the real params.yaml, changed."""
    params = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    return RunConfig(**{**next(iter(params["runs"].values())), **settings})


def rates(losses: Sequence[float] = (), **settings: Any) -> list[float]:
    config = run_config(**settings)
    return [rate_factor(config, step, losses) for step in range(config.steps)]


def test_rate_by_hand() -> None:
    down = [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert rates(steps=10, warmup=0.4) == pytest.approx([0.25, 0.5, 0.75, 1, *down])
    assert rates(steps=4, warmup=0.0) == pytest.approx([1, 1, 2 / 3, 1 / 3])
    constant = rates(steps=5, warmup=0.4, schedule="constant")
    assert constant == pytest.approx([0.5, 1, 1, 1, 1])


def test_cosine_is_that_of_transformers() -> None:
    """transformers counts the last warm-up step as 0 of the wave, and so does this."""
    found = rates(steps=12, warmup=0.25, schedule="cosine")
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1)
    theirs = transformers.get_cosine_schedule_with_warmup(optimizer, 3, 12)
    expected = [theirs.lr_lambdas[0](step) for step in range(12)]
    assert found[3:] == pytest.approx(expected[3:])
    assert found[:3] == pytest.approx([1 / 3, 2 / 3, 1])


def test_restarts_are_those_of_torch() -> None:
    found = rates(steps=13, warmup=0.0, schedule="restarts", cycles=3)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=4)
    expected = []
    for _ in range(12):
        expected.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert found[1:] == pytest.approx(expected)


@pytest.mark.parametrize(("steps", "cycles"), [(101, 5), (301, 6), (601, 5)])
def test_a_wave_begins_at_the_whole_rate(steps: int, cycles: int) -> None:
    found = rates(steps=steps, warmup=0.0, schedule="restarts", cycles=cycles)
    assert min(found) > 0
    assert found.count(1.0) == cycles + 1  # that of the warm-up's one step


def test_plateau_by_hand() -> None:
    settings = {"steps": 4, "warmup": 0.0, "schedule": "plateau"}
    plateau = {"factor": 0.5, "patience": 2}
    for looks, factor in (
        ([3, 2, 1], 1.0),
        ([1, 2], 1.0),
        ([1, 2, 2], 0.5),
        ([1, 2, 2, 2, 2], 0.25),  # patience begins anew
        ([1, 2, 2, 0.5, 1], 0.5),
        ([1, 1, 1], 0.5),  # equal is no better
    ):
        assert rates(looks, plateau=plateau, **settings)[-1] == factor, looks


def test_early_stopping_by_hand() -> None:
    assert not is_over([3, 2, 1], None)
    assert not is_over([1, 2], 2)
    assert is_over([1, 2, 2], 2)
    assert is_over([1, 1, 1], 2)
    assert not is_over([2, 3, 1], 2)
    assert not is_over([], 1)


@given(
    steps=st.integers(1, 500),
    warmup=st.floats(0, 1, exclude_max=True),
    schedule=st.sampled_from(["linear", "cosine"]),
)
def test_rate_rises_then_falls_and_is_never_zero(steps: int, warmup: float, schedule: str) -> None:
    found = rates(steps=steps, warmup=warmup, schedule=schedule)
    assert max(found) == 1
    assert min(found) > 0
    peak = found.index(1)
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert peak + 1 == max(1, round(warmup * steps))


class Model(nn.Module):
    """Something of each sort of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict(
            {"embed": nn.Embedding(5, 4), "dense": nn.Linear(4, 4), "norm": nn.LayerNorm(4)}
        )
        self.headway = nn.Linear(4, 4)  # not the head, for all its name
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.head = nn.Linear(4, 3)


RATE, HEAD_RATE, DECAY = 1e-3, 1e-2, 0.1


def groups_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """The optimizer's group of each parameter, by name."""
    by_id = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if id(p) in by_id}


def test_which_parameters_decay_and_at_which_rate() -> None:
    model = Model()
    found = groups_of(model, make_optimizer(model, RATE, HEAD_RATE, DECAY))
    assert {name: (group["lr"], group["weight_decay"]) for name, group in found.items()} == {
        "body.embed.weight": (RATE, DECAY),
        "body.dense.weight": (RATE, DECAY),
        "body.dense.bias": (RATE, 0.0),
        "body.norm.weight": (RATE, 0.0),
        "body.norm.bias": (RATE, 0.0),
        "headway.weight": (RATE, DECAY),
        "headway.bias": (RATE, 0.0),
        "head.weight": (HEAD_RATE, DECAY),
        "head.bias": (HEAD_RATE, 0.0),
    }


def test_a_replayed_head_learns_where_no_target_has_one() -> None:
    model = Model()
    found = groups_of(model, make_optimizer(model, RATE, None, DECAY))
    assert {group["lr"] for group in found.values()} == {RATE}


def test_every_parameter_is_in_one_group() -> None:
    model = Model()
    optimizer = make_optimizer(model, RATE, HEAD_RATE, DECAY)
    listed = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_a_step_without_gradient_decays_matrices_only() -> None:
    model = Model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, RATE, HEAD_RATE, DECAY)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    set_rate(optimizer, 0.5)
    optimizer.step()
    for name, parameter in model.named_parameters():
        rate = HEAD_RATE if name.startswith("head.") else RATE
        matrix = parameter.ndim > 1 and parameter.requires_grad
        left = 1 - 0.5 * rate * DECAY if matrix else 1
        torch.testing.assert_close(parameter.detach(), before[name] * left)


def test_the_rate_is_set_from_the_peak_each_time() -> None:
    model = Model()
    optimizer = make_optimizer(model, RATE, HEAD_RATE, DECAY)
    for factor in (0.5, 0.5, 1.0):
        set_rate(optimizer, factor)
        found = groups_of(model, optimizer)
        assert found["body.dense.bias"]["lr"] == pytest.approx(RATE * factor)
        assert found["head.weight"]["lr"] == pytest.approx(HEAD_RATE * factor)


def test_a_model_without_a_head() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), RATE, HEAD_RATE, DECAY)
    assert [group["lr"] for group in optimizer.param_groups] == [RATE, RATE]


# Losses


def test_contrastive_by_hand() -> None:
    queries = torch.tensor([[2.0, 0.0], [0.0, 3.0]])  # lengths do not matter
    hit = math.log1p(math.exp(-20))  # cosines 1 and 0, at scale 20
    found = losses.contrastive(queries, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert found.tolist() == pytest.approx([hit, hit], abs=1e-6)
    found = losses.contrastive(queries, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert found.tolist() == pytest.approx([20 + hit, 20 + hit])
    found = losses.contrastive(queries, torch.ones(2, 2))
    assert found.tolist() == pytest.approx([math.log(2)] * 2)


def test_contrastive_is_that_of_sentence_transformers() -> None:
    """MultipleNegativesRankingLoss: cross-entropy of scale * cos_sim(a, b), scale = 20."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 8)), rng.normal(size=(5, 8))
    norms = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None, :]
    scores = 20 * (a @ b.T) / norms
    expected = np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)
    found = losses.contrastive(torch.tensor(a), torch.tensor(b))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    # A query looks for its document, not the other way round.
    swapped = losses.contrastive(torch.tensor(b), torch.tensor(a))
    assert not np.allclose(swapped.numpy(), expected, rtol=1e-3)


def test_classification_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, math.log(3), 0.0, -math.inf]])
    found = losses.classification(logits, torch.tensor([2, 1]))
    assert found.tolist() == pytest.approx([math.log(4), math.log(5 / 3)])


@pytest.mark.parametrize("loss", [losses.classification, losses.contrastive])
def test_losses_are_taken_in_fp32(loss: Any) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(6, 6).bfloat16()
    other = torch.arange(6) if loss is losses.classification else torch.randn(6, 6).bfloat16()
    full = other.float() if other.is_floating_point() else other
    found = loss(vectors, other)
    assert found.dtype == torch.float32
    assert found.shape == (6,)
    torch.testing.assert_close(found, loss(vectors.float(), full))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(vectors, other), found)


# Probe


def embeddings(
    classes: int, rows: int = 120, hidden: int = 6
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(classes)
    labels = rng.integers(classes, size=rows)
    centres = rng.normal(size=(classes, hidden))
    found = centres[labels] + rng.normal(size=(rows, hidden))
    found = found * np.array([1, 5, 0.3, 1, 2, 1]) + np.array([0, 10, -3, 0, 100, 0])
    return found.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_probe_is_the_pipeline_of_scikit_learn(classes: int) -> None:
    train, labels = embeddings(classes)
    other = embeddings(classes, rows=50)[0] + np.float32(0.5)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=2000))
    pipeline.fit(train.astype(float), labels)
    probe = fit_probe(train, labels, classes)
    found = probe.probabilities(other)
    assert probe.weight.shape == (classes, 6)
    np.testing.assert_allclose(found, pipeline.predict_proba(other.astype(float)), atol=1e-5)
    assert (found.argmax(axis=1) == pipeline.predict(other.astype(float))).all()
    assert (found.argmax(axis=1) != found.argmax(axis=1)[0]).any()


@pytest.mark.parametrize(("present", "classes"), [((0, 2), 3), ((1, 3, 4), 6)])
def test_a_class_without_rows_has_probability_zero(present: tuple[int, ...], classes: int) -> None:
    train, labels = embeddings(len(present))
    names = np.array(present)
    found = fit_probe(train, names[labels], classes).probabilities(train)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    absent = [name for name in range(classes) if name not in present]
    assert (found[:, absent] == 0).all()
    whole = fit_probe(train, labels, len(present)).probabilities(train)
    np.testing.assert_allclose(found[:, names], whole, atol=1e-9)


def test_one_class_only_is_refused() -> None:
    train, labels = embeddings(2)
    with pytest.raises(ValueError, match="class"):
        fit_probe(train, labels * 0, 2)


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_a_dead_unit_is_not_blown_up(noise: float) -> None:
    train, labels = embeddings(2)
    train[:, 3] = 7 + noise * np.random.default_rng(0).normal(size=len(train))
    probe = fit_probe(train, labels, 2)
    assert np.abs(probe.weight).max() < 10
    assert np.abs(probe.weight[:, 3]).max() < 1e-3
    moved = train.copy()
    moved[:, 3] += 0.01
    difference = probe.probabilities(moved) - probe.probabilities(train)
    assert np.abs(difference).max() < 1e-4


def test_probabilities_do_not_overflow() -> None:
    found = Probe(np.array([[1e4], [-1e4]]), np.zeros(2)).probabilities(np.array([[1.0], [-1.0]]))
    np.testing.assert_array_equal(found, [[1, 0], [0, 1]])


# Checkpoint


def test_a_checkpoint_comes_back_as_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = Model()
    optimizer = make_optimizer(model, RATE, HEAD_RATE, DECAY)
    model.head(model.headway(torch.ones(4))).sum().backward()
    optimizer.step()
    state = {
        "weights": dict(model.state_dict()),
        "optimizer": optimizer.state_dict(),
        "progress": {"step": 3, "best_loss": math.inf, "history": [{"step": 1, "x": None}]},
    }
    checkpoint = Checkpoint("f" * 64, 1)
    assert checkpoint.load() is None
    checkpoint.save({"old": 1})
    checkpoint.save(state)
    found = Checkpoint("f" * 64, 1).load()
    assert found is not None
    assert found["progress"] == state["progress"]
    for name, weight in model.state_dict().items():
        assert torch.equal(found["weights"][name], weight)
    other = make_optimizer(Model(), 2 * RATE, 2 * HEAD_RATE, DECAY)
    other.load_state_dict(found["optimizer"])
    assert other.param_groups[0]["lr"] == RATE
    assert len(other.state) == 4  # what had a gradient
    files = sorted(path for path in Path(".scratch").rglob("*") if path.is_file())
    assert [path.name for path in files] == ["seed-1.json", "seed-1.pt"]


def test_checkpoints_of_other_work_and_seeds_are_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for work in ("a", "b"):
        for seed in (0, 1):
            Checkpoint(work, seed).save({"is": f"{work}{seed}"})
    assert Checkpoint("a", 1).load() == {"is": "a1"}
    assert Checkpoint("a", 2).load() is None
    Checkpoint("a", 0).remove_all()
    assert Checkpoint("a", 0).load() is None
    assert Checkpoint("a", 1).load() is None
    assert Checkpoint("b", 1).load() == {"is": "b1"}
    Checkpoint("none", 0).remove_all()


def test_the_best_of_a_fold_is_not_that_of_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {(1, None): 50, (1, 0): 50, (1, 1): 60, (11, None): 50}
    made = {kind: Checkpoint("a", kind[0], fold=kind[1]) for kind in kinds}

    def best() -> set[str]:
        return {path.name for path in (tmp_path / ".scratch/a").glob("*.pt")}

    for kind, step in kinds.items():
        for at in (10, step):
            made[kind].best(at).save({"is": at})
    everything = best()
    assert len(everything) == 8
    made[1, None].keep_best([50])
    assert everything - best() == {"best-1-10.pt"}
    made[1, 0].keep_best([])
    assert everything - best() == {"best-1-10.pt", "best-1-fold-0-10.pt", "best-1-fold-0-50.pt"}


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.999])
def test_a_damaged_checkpoint_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: float, fault: Fault
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint("a", 0)
    checkpoint.save({"weights": torch.zeros(1000)})
    path = tmp_path / ".scratch/a/seed-0.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    assert checkpoint.load() is None
    path.write_bytes(whole)
    assert checkpoint.load() is not None
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(flipped)
    assert checkpoint.load() is None
    path.with_suffix(".json").unlink()
    path.write_bytes(whole)
    assert checkpoint.load() is None
    fault(f"a checkpoint cut off at {keep:.1%} of its size, or with a bit flipped", ANEW)


def test_what_lies_beside_a_checkpoint_is_not_loaded_to_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the state there may be no room for the best weights, nor for those of snapshots."""
    monkeypatch.chdir(tmp_path)
    model, checkpoint = Model(), Checkpoint("a", 0)
    weights = {name: weight + 1 for name, weight in model.state_dict().items()}
    optimizer = make_optimizer(model, RATE, HEAD_RATE, DECAY)
    progress = Progress(step=6, best_step=4, resumed_best=4)
    state = {"weights": weights, "optimizer": optimizer.state_dict(), "progress": vars(progress)}
    checkpoint.save(state)
    beside = {"best-0-4": checkpoint.best(4), "snapshot-0-2": checkpoint.snapshot(2)}
    for one in beside.values():
        one.save({"weights": weights})
    read: list[str] = []
    load = torch.load

    def told(path: Path, **settings: Any) -> Any:
        read.append(path.stem)
        return load(path, **settings)

    monkeypatch.setattr(torch, "load", told)
    config = small.config(steps=9, snapshots=[2, 8])
    objective: Any = model
    assert resume(objective, optimizer, checkpoint, config) == progress
    assert read == ["seed-0"]
    assert torch.equal(model.state_dict()["head.weight"], weights["head.weight"])
    for name in beside:
        path = tmp_path / ".scratch/a" / f"{name}.pt"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert resume(objective, optimizer, checkpoint, config) == Progress()
        path.unlink()
        assert resume(objective, optimizer, checkpoint, config) == Progress()
        path.write_bytes(whole)
    assert resume(objective, optimizer, checkpoint, config) == progress


ANEW = "it is not read; training begins anew"


class Unwritable:
    def __reduce__(self) -> Any:
        raise RuntimeError("killed half-way")


def test_a_checkpoint_is_not_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint("a", 0)
    checkpoint.save({"step": 1})
    with pytest.raises(RuntimeError, match="half-way"):
        checkpoint.save({"step": 2, "weights": torch.ones(1000), "bad": Unwritable()})
    assert checkpoint.load() == {"step": 1}
    assert len(list(Path(".scratch/a").iterdir())) == 2
