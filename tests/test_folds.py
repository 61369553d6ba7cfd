"""Cross-validation: what a fold is, and five models more through the stages."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_training as small

from stages import check, finetune
from stages.config.evaluation import read_evaluation
from stages.errors import UserError
from stages.inputs.encoder import read
from stages.models.base import materialise
from stages.models.loading import EncoderModel, load
from stages.models.probe import fit_probe
from stages.records import read_records
from stages.scoring.case import scorer_of
from stages.scoring.encoder import EncoderScorer
from stages.statistics.folds import validated
from stages.statistics.results import About
from stages.storage import read_json
from stages.tasks.examples import Examples, Task, read_examples
from stages.tasks.folds import held_out, in_folds
from stages.training.recipe import Recipe, check_folds
from stages.training.run import train_seed

FOLDS = 3


def examples(groups: dict[str, tuple[str, int]]) -> Examples:
    """By group: its label and how many rows it has."""
    rows = [
        {"text": f"{group} {n}", "label": label, "group": group, "example_id": f"{group}{n}"}
        for group, (label, size) in groups.items()
        for n in range(size)
    ]
    labels = tuple(sorted({label for label, _ in groups.values()}))
    return Examples(Task("asked", "classification", 16, labels, {}), pd.DataFrame(rows))


MANY = examples({f"g{n}": (("a", "b", "c")[n % 3], 1 + n % 4) for n in range(60)})


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_groups_stay_whole_and_folds_are_alike(folds: int) -> None:
    places = in_folds(MANY, folds, 3)
    rows = MANY.rows.assign(fold=places)
    assert set(places) == set(range(folds))
    assert len(rows[["group", "fold"]].drop_duplicates()) == rows["group"].nunique()
    for _, of_label in rows.groupby("label"):
        sizes = Counter(of_label["fold"])
        assert max(sizes.values()) - min(sizes.values()) <= 4  # a group's rows
    seen = []
    for fold in range(folds):
        kept, held = held_out(MANY, folds, 3, fold)
        assert not set(kept.rows["group"]) & set(held.rows["group"])
        assert len(kept) + len(held) == len(MANY)
        seen += held.column("example_id")
    assert sorted(seen) == sorted(MANY.column("example_id"))


def test_folds_derive_from_the_seed_and_not_from_the_order() -> None:
    turned = Examples(MANY.task, MANY.rows[::-1].reset_index(drop=True))
    assert in_folds(MANY, 5, 3) == in_folds(turned, 5, 3)[::-1]
    assert in_folds(MANY, 5, 3) != in_folds(MANY, 5, 4)


def test_what_no_fold_could_be_asked_is_refused() -> None:
    lonely = examples({"g0": ("rare", 9), "g1": ("a", 1), "g2": ("a", 1)})
    with pytest.raises(UserError, match="task asked has label 'rare' in one group only"):
        in_folds(lonely, 2, 0)
    # A group of both labels goes by the first; the other's two groups may meet in one fold.
    mixed = examples({"g0": ("a", 1), "g1": ("a", 3), "g2": ("a", 3), "g3": ("b", 1)})
    mixed.rows.loc[mixed.rows["example_id"] == "g11", "label"] = "b"
    seeds = []
    for seed in range(20):
        try:
            folds = in_folds(mixed, 2, seed)
        except UserError as error:
            assert "task asked has label 'b' in one fold only" in str(error)
            continue
        seeds.append(seed)
        assert mixed.rows.assign(fold=folds).groupby("label")["fold"].nunique().min() == 2
    assert 0 < len(seeds) < 20
    with pytest.raises(UserError, match="folds = 5: task asked has 4 groups of train rows"):
        in_folds(examples({f"g{n}": (("a", "b")[n % 2], 2) for n in range(4)}), 5, 0)


@pytest.fixture
def folded(bench: Path) -> Path:
    params = tiny.read_params(bench)
    params["runs"] = {"full": {**params["runs"]["full"], "folds": FOLDS, "seeds": [0, 1]}}
    params["variants"] = {"full": ["wise-0.5"]}
    tiny.write_params(bench, params)
    return bench


@pytest.mark.parametrize("seed", [0, 1])
def test_folds_that_cannot_be_are_refused_before_anything_is_trained(
    seed: int, folded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it by the folds of a later seed."""

    def refused(train: Examples, folds: int, of_seed: int) -> list[int]:
        if of_seed == seed:
            raise UserError(f"folds = {folds}: task {train.task.name} has label 'red' in one fold")
        return in_folds(train, folds, of_seed)

    def trained(*_: Any) -> Any:
        raise AssertionError("a model is trained")

    monkeypatch.setattr("stages.training.recipe.in_folds", refused)
    monkeypatch.setattr(finetune, "train_seed", trained)
    with pytest.raises(UserError, match=rf"^runs.full.folds = 3: task {tiny.TARGET} has label"):
        tiny.run_stage("finetune", "full")


def test_a_label_of_one_group_is_refused_by_the_run() -> None:
    lonely = examples({"g0": ("rare", 9), "g1": ("a", 1), "g2": ("a", 1)})
    config = small.config(folds=2)
    recipe = Recipe("toy", config, {}, Path(), [MANY, lonely], [])
    with pytest.raises(UserError, match=r"^runs.toy.folds = 2: task asked has label 'rare' in one"):
        check_folds(recipe)
    check_folds(replace(recipe, train=[MANY]))
    check_folds(replace(recipe, config=small.config()))  # without folds nothing is asked


def test_through_the_stages(folded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: dict[tuple[int, str], set[str]] = {}

    def spied(recipe: Any, methods: Any, seed: int, checkpoint: Any, out: Path) -> Any:
        (train,) = recipe.train
        learned[seed, out.name] = set(train.column("example_id"))
        return train_seed(recipe, methods, seed, checkpoint, out)

    monkeypatch.setattr(finetune, "train_seed", spied)
    check.check()
    for stage, argument in (("finetune", "full"), ("retention_eval", "full")):
        tiny.run_stage(stage, argument)
    tiny.run_stage("compare")
    assert not list((folded / ".scratch").glob("*/*"))

    records, _ = read_records(Path(f"metrics/records/{tiny.CASE}/full.parquet"))
    train = read_examples(Path(f"data/{tiny.CASE}/target/train/{tiny.TARGET}.parquet"))
    group_of = dict(zip(train.column("example_id"), train.column("group"), strict=True))
    for seed in (0, 1):
        assert learned[seed, f"seed-{seed}"] == set(group_of)
        asked: list[str] = []
        for fold in range(FOLDS):
            of_fold = records[(records["seed"] == seed) & (records["split"] == f"fold-{fold}")]
            tuned, base = (
                of_fold[of_fold["variant"] == one].sort_values("example_id")
                for one in ("fold", "fold-base")
            )
            assert list(tuned["example_id"]) == list(base["example_id"])
            # No row, and no other row of its group, was trained on by the model that answers it.
            known = {group_of[one] for one in learned[seed, f"fold-{fold}"]}
            assert not known & set(tuned["group"])
            asked += list(tuned["example_id"])
        assert sorted(asked) == sorted(group_of)

    told = read_json(Path("metrics/scores.json"))[tiny.CASE]["full"][tiny.TARGET]["gain"]["folds"]
    held = records[records["variant"] == "fold"]
    means = held.groupby(["seed", "split"])["score"].mean()
    assert told["models"] == 2 * FOLDS == len(means)
    assert told["after"]["mean"] == pytest.approx(means.mean(), abs=1e-4)
    assert told["after"]["spread"] == pytest.approx(means.std(ddof=1), abs=1e-4)
    assert told["gain"]["mean"] == pytest.approx(
        told["after"]["mean"] - told["before"]["mean"], abs=2e-4
    )
    for page in ("report.md", "report.html"):
        text = Path("metrics", page).read_text(encoding="utf-8")
        assert "Cross-validation of full" in text
        assert "on the rows that each of 6 models was not trained on, the base" in text
    _base_probe_is_fitted_without_the_fold(records, train)

    # Records of other folds are not those of params.yaml.
    tiny.edit_params(folded, runs__full__folds=FOLDS + 1)
    with pytest.raises(UserError, match=r"hold 6 models of folds for color-qa, .* 4 folds of 2"):
        tiny.run_stage("compare")


def _base_probe_is_fitted_without_the_fold(records: pd.DataFrame, train: Examples) -> None:
    manifest = read_json(Path(f"models/base/{tiny.CASE}.json"))
    loaded = load(manifest, materialise(manifest))
    assert isinstance(loaded, EncoderModel)
    scorer = scorer_of(loaded, read_evaluation())
    assert isinstance(scorer, EncoderScorer)
    kept, held = held_out(train, FOLDS, 0, 0)
    labels = np.asarray(kept.targets())
    probe = fit_probe(scorer._embed(read(kept, scorer.tokenizer)), labels, len(train.task.labels))
    said = probe.probabilities(scorer._embed(read(held, scorer.tokenizer))).argmax(axis=1)
    chosen = records[(records["variant"] == "fold-base") & (records["split"] == "fold-0")]
    found = chosen[chosen["seed"] == 0].set_index("example_id")["prediction"]
    expected = [train.task.labels[one] for one in said]
    assert [found[one] for one in held.column("example_id")] == expected


def test_mean_and_spread_by_hand() -> None:
    """Accuracies of 0.5 and 1 where the base has 0.5 twice; of text, fewer bits are a gain."""
    scores = {("fold", 0): [0, 1], ("fold", 1): [1, 1], ("fold-base", 0): [0, 1]}
    scores["fold-base", 1] = [1, 0]
    rows = [
        {"task": "t", "variant": variant, "seed": 0, "split": f"fold-{fold}", "score": one}
        for (variant, fold), of_fold in scores.items()
        for one in of_fold
    ]
    about = {"t": About("classification", "target", ("a", "b"), 0)}
    found = validated("run", pd.DataFrame(rows), about, 2, 1)["t"]
    assert (found.models, found.after.mean, found.before.mean) == (2, 0.75, 0.5)
    assert found.gain.mean == 0.25
    assert found.gain.spread == pytest.approx(0.5 / np.sqrt(2))
    assert found.before.spread == 0
    told = pd.DataFrame(rows).assign(nll=lambda one: one["score"], bytes=1)
    text = {"t": About("language-modelling", "target", (), 0)}
    assert validated("run", told, text, 2, 1)["t"].gain.mean == pytest.approx(-0.25 / np.log(2))


def test_params(bench: Path) -> None:
    params = tiny.read_params(bench)
    for folds in (1, 21, 2.5):
        params["runs"]["lora"]["folds"] = folds
        tiny.write_params(bench, params)
        with pytest.raises(UserError, match=rf"^params.yaml: runs.lora.folds = {folds}: "):
            check.check()
    params["runs"]["lora"].update(folds=3, teacher="models/tuned/full")
    params["runs"]["lora"]["methods"] = {"distil": {"weight": 1.0, "temperature": 2.0}}
    tiny.write_params(bench, params)
    with pytest.raises(UserError, match=r"folds = 3: models/tuned/full has learned the rows"):
        check.check()
