"""Methods that hold a run to what another model says: the base (lwf), or another run (distil)."""

import copy
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import tiny_training as small
import torch
import transformers

from stages.errors import UserError
from stages.models.tuned import save_tuned
from stages.tasks.examples import Examples, Task, identify
from stages.training.methods.distil import Distil
from stages.training.methods.lora import Lora
from stages.training.methods.lwf import Lwf, relative_distance
from stages.training.methods.method import Fit
from stages.training.run import compose
from stages.training.teacher import divergence


def step_down(objective: Any, names: tuple[str, ...] | None = None, rate: float = 0.5) -> None:
    """One plain step of gradient descent on some parts of the objective."""
    found = small.parts(objective)
    chosen = [part for name, part in found.items() if names is None or name in names]
    torch.autograd.backward(torch.stack(chosen).sum())
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
                parameter.grad = None


# The divergence


def test_divergence_by_hand() -> None:
    """p0 = (3/4, 1/4), p = (1/2, 1/2) at T = 1; at T = 2 the same from doubled logits, times 4."""
    taught, learned = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert divergence(taught, learned, 1.0).tolist() == pytest.approx([kl])
    assert divergence(2 * taught, learned, 2.0).tolist() == pytest.approx([4 * kl])
    assert divergence(taught, taught, 3.0).tolist() == pytest.approx([0.0], abs=1e-7)
    assert divergence(learned, taught, 1.0).tolist() != pytest.approx([kl], rel=1e-3)


def test_t_squared_keeps_the_gradient() -> None:
    """For high T the gradient tends to (z - z0) / n, whatever T (Hinton 2015, equation 4)."""
    taught = torch.tensor([[0.3, -0.1, -0.2]])
    for temperature in (50.0, 500.0):
        learned = torch.zeros(1, 3, requires_grad=True)
        (gradient,) = torch.autograd.grad(divergence(taught, learned, temperature).sum(), learned)
        torch.testing.assert_close(gradient, -taught / 3, rtol=1e-2, atol=1e-4)


def test_relative_distance_by_hand() -> None:
    old, new = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert relative_distance(old, new).tolist() == [0.0, 1.0]
    assert relative_distance(10 * old, 10 * new).tolist() == [0.0, 1.0]


# Learning without forgetting

LWF = {"encoder": Lwf(weight=2.0), "causal": Lwf(weight=2.0, temperature=2.0)}


def lwf(kind: str, folder: Path, *more: Any, **given: Any) -> Any:
    targets = (small.TALES,) if kind == "causal" else (small.LABELLED,)
    return small.composed(folder, [LWF[kind], *more], **{"targets": targets, **given})


@pytest.mark.parametrize("kind", ["encoder", "causal"])
@pytest.mark.parametrize("more", [[], [Lora(r=2)]])
def test_lwf_is_nothing_at_the_base_and_grows_with_the_step(
    kind: str, more: list[Any], request: pytest.FixtureRequest
) -> None:
    _, objective = lwf(kind, request.getfixturevalue(kind), *more)
    objective.eval()
    assert float(small.parts(objective)["lwf"]) == pytest.approx(0, abs=1e-6)
    step_down(objective)
    moved = float(small.parts(objective)["lwf"])
    assert moved > 1e-4
    step_down(objective, ("lwf",), rate=0.01)
    assert float(small.parts(objective)["lwf"]) < moved, "its gradient leads away from the base"


def test_lwf_of_a_causal_model_is_the_divergence_from_the_bases_own_logits(causal: Path) -> None:
    """Against the base's whole forward pass, asked anew, after the student has moved: also its
    head, which is tied to the embeddings."""
    subject, objective = lwf("causal", causal)
    objective.eval()
    step_down(objective)
    base = small.subject(causal, targets=(small.TALES,)).loaded.model  # type: ignore[union-attr]
    stream = objective.streams[0]
    chosen = stream.batch(4, 0, 1)
    total, tokens = 0.0, 0
    for row in chosen:
        ids, start = torch.tensor([stream.rows.ids[row]]), stream.rows.starts[row]
        with torch.no_grad():
            old, new = (
                model(input_ids=ids).logits[0, start - 1 : -1] / 2 for model in (base, subject.body)
            )
        p0 = old.softmax(-1)
        total += 4 * float((p0 * (old.log_softmax(-1) - new.log_softmax(-1))).sum())
        tokens += len(old)
    found = float(small.parts(objective, 1)["lwf"])
    assert found == pytest.approx(2.0 * total / tokens, rel=1e-4)
    assert found > 1e-4


def test_lwf_of_an_encoder_is_the_distance_of_embeddings(encoder: Path) -> None:
    subject, objective = lwf("encoder", encoder)
    objective.eval()
    step_down(objective)
    base = small.subject(encoder)
    stream = objective.streams[0]
    chosen = stream.batch(4, 0, 1)
    with torch.no_grad():
        old, new = (
            made.learn(made.recipe.train[0], 1.0, "random").trainee(stream.rows, chosen).features
            for made in (base, subject)
        )
    expected = ((new - old).square().sum(1) / old.square().sum(1)).mean()
    assert float(small.parts(objective, 1)["lwf"]) == pytest.approx(2 * float(expected), rel=1e-4)


def test_lwf_of_a_target_of_pairs_holds_both_sides(encoder: Path) -> None:
    _, objective = lwf("encoder", encoder, targets=(small.PAIRED,))
    objective.eval()
    assert float(small.parts(objective)["lwf"]) == pytest.approx(0, abs=1e-6)
    step_down(objective)
    assert float(small.parts(objective)["lwf"]) > 1e-4


QUESTIONS = Task("qa", "extractive-qa", 16, (), {"no_answer": True})
TAGGED = Task("ner", "token-classification", 16, ("A", "B"), {})
LENGTHS = (2, 5, 9)


def rows_of(task: Task) -> pd.DataFrame:
    """A row of each length."""
    words = [tiny.FILLER[n : n + n] for n in LENGTHS]
    texts = [" ".join(row) for row in words]
    if task.kind == TAGGED.kind:
        tags = [["A", "B", *["C"] * (len(row) - 2)] for row in words]
        return pd.DataFrame({"text": texts, "tokens": words, "tags": tags})
    answers, starts = [[row[0]] for row in words], [[0]] * len(words)
    about = {"question": tiny.FILLER[0], "context": texts}
    return pd.DataFrame({**about, "answers": answers, "starts": starts})


def composed_of(task: Task, folder: Path, methods: list[Any], **given: Any) -> Any:
    """A subject that learns these rows, and what training it by the methods minimises."""
    made = small.subject(folder, head="random", **{**small.SMALL, **given})
    examples = Examples(task, identify(rows_of(task), task.kind))
    made.recipe = replace(made.recipe, train=[examples], validation=[examples])
    return made, compose(made, methods)


@pytest.mark.parametrize("task", [None, QUESTIONS, TAGGED])
def test_lwf_weighs_rows_alike_however_much_is_judged_of_each(
    task: Task | None, encoder: Path
) -> None:
    """Two texts of a pair and the places of a window count as their mean; words each, as in the
    loss, over those whose tags are known."""
    given: dict[str, Any] = {"batch_size": 3}
    if task is None:
        _, objective = lwf("encoder", encoder, targets=(small.PAIRED,), **given)
    else:
        _, objective = composed_of(task, encoder, [LWF["encoder"]], **given)
    objective.eval()
    old = copy.deepcopy(objective.streams[0].trainee)
    step_down(objective)
    stream = objective.streams[0]
    distances = []
    for row in stream.batch(3, 0, 1):
        with torch.no_grad():
            before, after = (one(stream.rows, [row]).features for one in (old, stream.trainee))
        distances.append((after - before).square().sum(1) / before.square().sum(1))
    if task is TAGGED:
        assert sorted(map(len, distances)) == list(LENGTHS)
        expected = float(torch.cat(distances).sum()) / (2 * len(LENGTHS))
    else:
        assert min(map(len, distances)) > 1
        expected = float(torch.stack([row.mean() for row in distances]).mean())
    found = float(small.parts(objective, 1)["lwf"])
    assert found == pytest.approx(2 * expected, rel=1e-4)
    assert found > 1e-4


@pytest.mark.parametrize(("kind", "other"), [("encoder", "causal"), ("causal", "encoder")])
def test_lwf_knows_what_has_a_temperature(kind: str, other: str) -> None:
    fit = Fit(small.config(), kind, {"any": "classification"}, {})
    assert LWF[kind].misfit(fit) is None
    assert "temperature" in str(LWF[other].misfit(fit))


# Distillation


def teacher(folder: Path, subject: Any, seed: int) -> None:
    save_tuned(folder / f"seed-{seed}", subject.body, subject.heads(), subject.recipe.manifest)


@pytest.fixture
def taught(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a tuned run: the base and a head moved by some steps, as seeds 2 and 10."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.training.teacher.materialise", lambda manifest: encoder)
    for seed, steps in ((10, 1), (2, 5)):
        subject, objective = small.composed(encoder, [], seed=seed)
        for _ in range(steps):
            step_down(objective)
        teacher(tmp_path / "models/tuned/elder", subject, seed)
    return tmp_path


ELDER: dict[str, Any] = {"teacher": "models/tuned/elder"}


def test_a_distilled_students_loss_by_hand(taught: Path, encoder: Path) -> None:
    method = Distil(weight=0.5, temperature=3.0)
    _, objective = small.composed(encoder, [method], **ELDER)
    objective.eval()
    elder, _ = small.composed(encoder, [], seed=2)
    from stages.models.loading import load

    loaded = load(elder.recipe.manifest, encoder, taught / "models/tuned/elder/seed-2")
    stream = objective.streams[0]
    chosen = stream.batch(4, 0, 0)
    expected = 0.0
    for row in chosen:
        ids = torch.tensor([stream.rows.texts[0].ids[row]])  # type: ignore[attr-defined]
        with torch.no_grad():
            vector = loaded.encoder(ids, torch.ones_like(ids))  # type: ignore[union-attr]
            head = loaded.heads[small.LABELLED]  # type: ignore[union-attr]
            old = torch.tensor(vector.numpy() @ head.weight.T + head.bias) / 3
            logits = stream.trainee(stream.rows, [row]).logits
            assert logits is not None
            new = logits() / 3
        p0 = old.softmax(-1)
        expected += 9 * float((p0 * (old.log_softmax(-1) - new.log_softmax(-1))).sum())
    assert float(small.parts(objective)["distil"]) == pytest.approx(0.5 * expected / 4, rel=1e-4)
    assert expected > 1e-3


def test_a_student_comes_to_agree_with_its_teacher(taught: Path, encoder: Path) -> None:
    _, objective = small.composed(encoder, [Distil(weight=1.0, temperature=2.0)], **ELDER)
    objective.eval()
    before = float(small.parts(objective)["distil"])
    for _ in range(20):
        step_down(objective, ("distil",), rate=0.2)
    assert float(small.parts(objective)["distil"]) < before / 3


def test_a_teacher_that_cannot_teach(taught: Path, encoder: Path) -> None:
    """It has a head for another task only."""
    made = small.subject(encoder, targets=("shape-topics",), teacher=ELDER["teacher"])
    with pytest.raises(UserError, match="has no head for the 3 labels of shape-topics"):
        compose(made, [Distil(weight=1.0, temperature=1.0)])


def test_a_teacher_with_another_tokenizer_must_read_the_same_words(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that halves words reads nine of them in 20 tokens."""
    monkeypatch.chdir(tmp_path)
    halving = tmp_path / "halving"
    shutil.copytree(encoder, halving)
    tokenizer = json.loads((halving / "tokenizer.json").read_text(encoding="utf-8"))
    halves = {"type": "Split", "pattern": {"Regex": ".{4}"}, "behavior": "Isolated"}
    tokenizer["pre_tokenizer"] = {**halves, "invert": False}
    (halving / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    elder, _ = composed_of(TAGGED, encoder, [])
    teacher(tmp_path / "models/tuned/elder", elder, 0)
    method = Distil(weight=1.0, temperature=1.0)
    long = replace(TAGGED, max_length=24)
    for base, task in ((encoder, TAGGED), (halving, long)):
        monkeypatch.setattr("stages.training.teacher.materialise", lambda _, base=base: base)
        _, objective = composed_of(task, encoder, [method], **ELDER)
        assert small.parts(objective)["distil"].isfinite()
    with pytest.raises(UserError, match="reads other words of ner than the student") as told:
        composed_of(TAGGED, encoder, [method], **ELDER)
    assert "\n" not in str(told.value)


def test_a_causal_teacher(causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.training.teacher.materialise", lambda manifest: causal)
    elder, objective = small.composed(causal, [], targets=(small.TALES,))
    step_down(objective)
    teacher(tmp_path / "models/tuned/elder", elder, 0)
    method = Distil(weight=1.0, temperature=1.0)
    _, student = small.composed(causal, [method], targets=(small.TALES,), **ELDER)
    student.eval()
    before = float(small.parts(student)["distil"])
    assert before > 1e-4
    step_down(student, ("distil",), rate=0.05)
    assert float(small.parts(student)["distil"]) < before


@pytest.mark.parametrize("padded", ["teacher", "student"])
def test_vocabularies_padded_to_different_sizes(
    padded: str, causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens that both have are compared, as of a teacher that is not padded."""
    monkeypatch.chdir(tmp_path)
    wider = tmp_path / "wider"
    shutil.copytree(causal, wider)
    model = transformers.AutoModelForCausalLM.from_pretrained(causal)
    model.resize_token_embeddings(model.config.vocab_size + 8)
    model.save_pretrained(wider)
    folders = {"teacher": causal, "student": causal}
    found = []
    for base in (causal, wider):
        folders[padded] = base
        monkeypatch.setattr("stages.training.teacher.materialise", lambda _: folders["teacher"])
        elder, _ = small.composed(folders["teacher"], [], targets=(small.TALES,))
        with torch.no_grad():
            elder.body.get_input_embeddings().weight[:50] *= 1.5
        shutil.rmtree(tmp_path / "models", ignore_errors=True)
        teacher(tmp_path / "models/tuned/elder", elder, 0)
        method = Distil(weight=1.0, temperature=1.0)
        _, student = small.composed(folders["student"], [method], targets=(small.TALES,), **ELDER)
        found.append(float(small.parts(student.eval())["distil"]))
    assert found[0] > 1e-4
    assert found[1] == pytest.approx(found[0], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "kinds", "said"),
    [
        ({}, {"a": "classification"}, "set the run's teacher to models/tuned/<run>"),
        (ELDER, {"a": "retrieval"}, "classification would fit"),
        ({**ELDER, "methods": {"augment": {}}}, {"a": "classification"}, "leave augment out"),
    ],
)
def test_distil_that_does_not_fit(
    settings: dict[str, Any], kinds: dict[str, str], said: str
) -> None:
    method = Distil(weight=1.0, temperature=1.0)
    assert said in str(method.misfit(Fit(small.config(**settings), "encoder", kinds, {})))
    good = Fit(small.config(**ELDER), "encoder", {"a": "classification"}, {})
    assert method.misfit(good) is None
