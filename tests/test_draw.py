"""Little data: few train rows, drawn by each seed, and self-training on those that are left."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_training as toy
import torch

from stages import check, finetune
from stages.config.runs import Draw
from stages.errors import UserError
from stages.models.base import materialise
from stages.models.loading import EncoderModel, load
from stages.records import read_records, read_table
from stages.scoring.encoder import EncoderScorer
from stages.storage import read_json
from stages.tasks.draw import drawn, drawn_alike
from stages.tasks.examples import Examples, read_examples
from stages.training.methods.self_training import SelfTraining
from stages.training.run import compose, train_seed

TRAIN = toy.examples(toy.LABELLED, 0, 80)
UNEVEN = Examples(
    TRAIN.task,
    TRAIN.rows[
        (TRAIN.rows["label"] == "red") | (TRAIN.rows.groupby("label").cumcount() < 3)
    ].reset_index(drop=True),
)
"""Twenty red rows, three of each other colour."""


def counted(examples: Examples) -> dict[str, int]:
    return dict(Counter(examples.column("label")))


def test_so_many_rows_of_each_label() -> None:
    few, rest = drawn(UNEVEN, Draw(per_label=2), 0)
    assert counted(few) == dict.fromkeys(("red", "green", "blue", "grey"), 2)
    assert counted(rest) == {"red": 18, "green": 1, "blue": 1, "grey": 1}
    assert set(few.column("example_id")).isdisjoint(rest.column("example_id"))
    # All that a label has, where that is less.
    assert counted(drawn(UNEVEN, Draw(per_label=5), 0)[0]) == {
        "red": 5,
        "green": 3,
        "blue": 3,
        "grey": 3,
    }


def test_rows_are_stratified_and_leave_no_label_out() -> None:
    assert counted(drawn(UNEVEN, Draw(rows=4), 0)[0]) == dict.fromkeys(
        ("red", "green", "blue", "grey"), 1
    )
    # Of 29 rows 20 are red: of 16 about eleven.
    few = counted(drawn(UNEVEN, Draw(rows=16), 0)[0])
    assert sum(few.values()) == 16
    assert abs(few["red"] - 16 * 20 / 29) < 1.5
    with pytest.raises(UserError, match=r"draw.rows = 3: task color-qa has 4 labels"):
        drawn(UNEVEN, Draw(rows=3), 0)
    with pytest.raises(UserError, match=r"draw = {'rows': 29}: task color-qa has 29 train rows"):
        drawn(UNEVEN, Draw(rows=29), 0)


def test_each_seed_is_a_draw_of_its_own_whatever_the_order() -> None:
    turned = Examples(TRAIN.task, TRAIN.rows[::-1].reset_index(drop=True))
    draws = [set(drawn(TRAIN, Draw(rows=16), seed)[0].column("example_id")) for seed in range(5)]
    assert len(set(map(frozenset, draws))) == 5
    assert set(drawn(turned, Draw(rows=16), 3)[0].column("example_id")) == draws[3]
    # A smaller draw is the beginning of a larger one.
    assert set(drawn(TRAIN, Draw(per_label=1), 0)[0].column("example_id")) < set(
        drawn(TRAIN, Draw(per_label=4), 0)[0].column("example_id")
    )


def test_rows_without_one_label_are_drawn_as_they_come() -> None:
    pairs = toy.examples(toy.PAIRED)
    few, rest = drawn(pairs, Draw(rows=8), 0)
    assert (len(few), len(rest)) == (8, len(pairs) - 8)
    assert len(drawn_alike(pairs, Draw(rows=500), 0)) == len(pairs)


SELF: dict[str, Any] = {"self-training": {"threshold": 0.6, "fraction": 0.5}}


@pytest.fixture
def few(bench: Path) -> Path:
    """A teacher and its student, of two draws."""
    params = tiny.read_params(bench)
    base = {**params["runs"]["full"], "draw": {"per_label": 4}, "seeds": [0, 3]}
    base["precision"] = "fp32"
    student = {**base, "teacher": "models/tuned/few", "methods": SELF}
    params["runs"] = {"few": base, "student": student}
    params["variants"] = {"few": ["lines-0.5"], "student": []}
    tiny.write_params(bench, params)
    return bench


def test_through_the_stages(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: dict[tuple[str, int], tuple[Examples, Examples]] = {}

    def spied(recipe: Any, methods: Any, seed: int, checkpoint: Any, out: Path) -> Any:
        learned[recipe.name, seed] = (recipe.train[0], recipe.validation[0])
        return train_seed(recipe, methods, seed, checkpoint, out)

    monkeypatch.setattr(finetune, "train_seed", spied)
    check.check()
    for run in ("few", "student"):
        tiny.run_stage("finetune", run)
        tiny.run_stage("retention_eval", run)
    tiny.run_stage("compare")
    for seed in (0, 3):
        train, validation = learned["few", seed]
        assert set(counted(train).values()) == set(counted(validation).values()) == {4}
        other, _ = learned["student", seed]
        assert train.column("example_id") == other.column("example_id")
    assert learned["few", 0][0].column("example_id") != learned["few", 3][0].column("example_id")

    _, about = read_table(Path(f"metrics/training/{tiny.CASE}/student.parquet"))
    whole = read_examples(Path(f"data/{tiny.CASE}/target/train/{tiny.TARGET}.parquet"))
    for seed in (0, 3):
        found = about["notes"][str(seed)]["self-training"][tiny.TARGET]
        assert found == by_hand(whole, learned["few", seed][0], seed)
        assert 0 < found["kept"] < found["unlabelled"] == len(whole) - 16
    found = about["notes"]["3"]["self-training"][tiny.TARGET]
    for page in ("report.md", "report.html"):
        text = " ".join(Path("metrics", page).read_text(encoding="utf-8").split())
        told = f"16 train rows of {tiny.TARGET}, and 16 of validation to choose the step by"
        assert f"seed 3 is a draw of its own: {told}" in text
        kept, right = found["kept"], found["right"]
        assert f"the teacher was sure of {kept}, and right about {right} of them" in text
    told = read_json(Path("metrics/diagnosis.json"))[tiny.CASE]["few"]
    (gap,) = (
        one
        for one in told["errors"]
        if one["error"] == "over-fitting" and one["seed"] == 0 and one["unit"] == "loss"
    )
    assert gap["value"] is not None
    records, _ = read_records(Path(f"metrics/records/{tiny.CASE}/few.parquet"))
    for seed in (0, 3):
        of_seed = records[(records["seed"] == seed) & (records["split"] == "train")]
        asked = set(of_seed[of_seed["task"] == tiny.TARGET]["example_id"])
        assert asked, "of what it was trained on some is asked"
        assert asked <= set(learned["few", seed][0].column("example_id"))


def by_hand(whole: Examples, labelled: Examples, seed: int) -> dict[str, int]:
    """What the teacher says of the other rows, by the scorer."""
    manifest = read_json(Path(f"models/base/{tiny.CASE}.json"))
    loaded = load(manifest, materialise(manifest), Path(f"models/tuned/few/seed-{seed}"))
    assert isinstance(loaded, EncoderModel)
    scorer = EncoderScorer(loaded.encoder, loaded.tokenizer, loaded.heads, 512)
    known = set(labelled.column("example_id"))
    rest = whole.rows[~whole.rows["example_id"].isin(known)].reset_index(drop=True)
    records = scorer._answer(loaded.heads[tiny.TARGET], Examples(whole.task, rest), "train")
    sure = np.stack(records["probabilities"].to_list()).max(axis=1) >= 0.6
    return {
        "unlabelled": len(rest),
        "kept": int(sure.sum()),
        "right": int(records["score"][sure].sum()),
    }


def test_the_labels_of_unlabelled_rows_are_not_learned(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of them changed, the student is the same to the bit."""
    tiny.run_stage("finetune", "few")
    tiny.run_stage("finetune", "student")
    before = weights(few)
    honest = drawn

    def lying(train: Examples, draw: Draw, seed: int) -> tuple[Examples, Examples]:
        chosen, rest = honest(train, draw, seed)
        return chosen, Examples(rest.task, rest.rows.assign(label="grey"))

    monkeypatch.setattr("stages.training.recipe.drawn", lying)
    tiny.run_stage("finetune", "student")
    assert weights(few) == before


def weights(project: Path) -> list[bytes]:
    return [
        path.read_bytes() for path in sorted(project.glob("models/tuned/student/*/*.safetens*"))
    ]


def test_pseudo_labels_are_mixed_in_at_their_share(few: Path) -> None:
    """A share of a half: as many rows a step as of the target, through the same head."""
    tiny.run_stage("finetune", "few")
    rows = read_examples(Path(f"data/{tiny.CASE}/target/train/{tiny.TARGET}.parquet"))
    method = SelfTraining(threshold=0.6, fraction=0.5)
    manifest = read_json(Path(f"models/base/{tiny.CASE}.json"))
    subject = toy.subject(materialise(manifest), teacher="models/tuned/few", **toy.SMALL)
    subject.recipe.unlabelled.append(rows)
    objective = compose(subject, [method])
    target, extra = objective.streams
    assert extra.trainee is target.trainee
    assert target.share == extra.share == 1.0
    parts = toy.parts(objective)
    assert set(parts) == {tiny.TARGET, f"self-training: {tiny.TARGET}"}
    assert all(torch.isfinite(part) for part in parts.values())
    strict = SelfTraining(threshold=0.9999999, fraction=0.5)
    with pytest.raises(
        UserError, match=r"threshold = 0.9999999: models/tuned/few is as sure of no"
    ):
        strict.streams(subject)


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "both": ({"draw": {"rows": 8, "per_label": 8}}, "rows = 8: give rows or per_label"),
    "neither": ({"draw": {}}, "rows = None: give rows or per_label"),
    "folds": ({"draw": {"rows": 8}, "folds": 3}, "folds = 3: of all train rows"),
    "no draw": ({"draw": None, "methods": SELF}, "give the run a draw"),
    "no teacher": ({"methods": SELF}, "set the run's teacher to models/tuned/<run>"),
    "another draw": (
        {"methods": SELF, "teacher": "models/tuned/few", "draw": {"rows": 16}},
        "its teacher few has learned other rows",
    ),
    "another seed": (
        {"methods": SELF, "teacher": "models/tuned/few", "seeds": [3, 4]},
        "its teacher few has no seed 4",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_what_does_not_fit(what: str, few: Path) -> None:
    changes, said = MISTAKES[what]
    params = tiny.read_params(few)
    run = {**params["runs"]["few"], **changes}
    params["runs"]["student"] = {key: value for key, value in run.items() if value is not None}
    tiny.write_params(few, params)
    with pytest.raises(UserError, match=said) as caught:
        check.check()
    assert "\n" not in str(caught.value)


def test_a_probe_of_all_rows_is_no_part_of_a_variant(few: Path) -> None:
    tiny.edit_params(few, variants__few=["wise-0.5"])
    with pytest.raises(
        UserError, match=r"variants.few = 'wise-0.5': mixes in a probe of all train"
    ):
        check.check()


def test_a_retrieval_target_needs_a_batch(few: Path) -> None:
    params = tiny.read_params(few)
    params["cases"][tiny.CASE]["targets"] = [tiny.RETRIEVAL]
    params["cases"][tiny.CASE]["retain"] = [tiny.TARGET, *tiny.RETAIN[:2]]
    run = params["runs"]["few"]
    for key in ("head", "head_learning_rate"):
        del run[key]
    params["runs"], params["variants"] = {"few": run}, {"few": []}
    for draw, said in (
        ({"per_label": 2}, "per_label = 2: a row of a retrieval target has no label: give rows"),
        ({"rows": 2}, "rows = 2: a retrieval target's rows are told apart within a batch"),
    ):
        run["draw"] = draw
        tiny.write_params(few, params)
        with pytest.raises(UserError, match=said):
            check.check()
