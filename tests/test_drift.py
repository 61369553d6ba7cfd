"""How far models and data have moved: nowhere where nothing did, and where something did."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_causal
import tiny_seq2seq
import torch
import transformers
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stages.drift.data import data_shift
from stages.drift.states import Batch, body_of, divergence, pooled, read
from stages.drift.table import COLUMNS, drift_table, state_drift
from stages.drift.texts import encode, texts_of
from stages.drift.weights import place_of, spectral_norm, weight_drift
from stages.models.loading import CausalModel, EncoderModel, load
from stages.records import read_table, write_records
from stages.statistics.lost import clean_test, has_lost
from stages.statistics.measures import measure_for
from stages.storage import read_json
from stages.tasks.examples import Examples, Task, identify, path_of, read_examples
from stages.training.relearn import relearn

ENCODER = {"kind": "encoder", "pooling": "mean"}
CAUSAL = {"kind": "causal"}


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("causal")
    tiny_causal.write_sources(folder)
    return folder / "own" / "model"


def encoder_pair(own: Path) -> tuple[EncoderModel, EncoderModel]:
    first, second = (load(ENCODER, own / "model") for _ in range(2))
    assert isinstance(first, EncoderModel)
    assert isinstance(second, EncoderModel)
    return first, second


def causal_pair(folder: Path) -> tuple[CausalModel, CausalModel]:
    first, second = (load(CAUSAL, folder) for _ in range(2))
    assert isinstance(first, CausalModel)
    assert isinstance(second, CausalModel)
    return first, second


# Weights


def test_places() -> None:
    assert place_of("encoder.layer.3.attention.self.query.weight") == (3, "attention.self.query")
    assert place_of("model.layers.11.mlp.up_proj.weight") == (11, "mlp.up_proj")
    assert place_of("h.0.ln_1.bias") == (0, "ln_1")
    assert place_of("embeddings.word_embeddings.weight") == (-1, "embeddings.word_embeddings")
    for stack in ("encoder", "decoder"):
        query = f"{stack}.block.1.layer.0.SelfAttention.q.weight"
        assert place_of(query, stacks=True) == (1, f"{stack}.layer.0.SelfAttention.q")


def test_encoder_and_decoder_move_apart(tmp_path: Path) -> None:
    tiny_seq2seq.write_model(tmp_path, ["a", "b"], 0, "t5")
    base, tuned = (transformers.T5ForConditionalGeneration.from_pretrained(tmp_path) for _ in "ab")
    with torch.no_grad():
        tuned.decoder.block[0].layer[0].SelfAttention.q.weight *= 1.5
    rows = weight_drift(base, tuned)
    weight = {row["module"]: row["value"] for row in rows if row["measure"] == "weight"}
    moved = {module: value for module, value in weight.items() if value}
    assert moved == {"decoder.layer.0.SelfAttention.q": pytest.approx(0.5)}
    assert "encoder.layer.0.SelfAttention.q" in weight


def test_spectral_norm_is_the_largest_singular_value() -> None:
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(1))
    expected = float(torch.linalg.matrix_norm(matrix, 2))
    assert spectral_norm(matrix) == pytest.approx(expected, rel=0.01)
    assert spectral_norm(torch.zeros(3, 4)) == 0


def test_weight_drift_names_what_moved(own: Path) -> None:
    base, tuned = encoder_pair(own)
    moved = tuned.encoder.body.encoder.layer[1].intermediate.dense
    with torch.no_grad():
        moved.weight *= 1.5
        moved.bias *= 1.5
    found = list(weight_drift(body_of(base), body_of(tuned)))
    assert {row["layer"] for row in found} == {-1, 0, 1}
    for row in found:
        here = (row["layer"], row["module"]) == (1, "intermediate.dense")
        assert row["value"] == pytest.approx(0.5 if here else 0, abs=1e-6), row


def test_a_low_rank_change_shows_in_the_spectral_norm() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base, tuned = nn.Linear(64, 64), nn.Linear(64, 64)
    tuned.load_state_dict(base.state_dict())
    with torch.no_grad():
        tuned.weight += 0.05 * torch.outer(torch.ones(64), torch.ones(64)) / 8
    found = {row["measure"]: row["value"] for row in weight_drift(base, tuned)}
    expected = 0.05 * 8 / float(torch.linalg.matrix_norm(base.weight.detach(), 2))
    assert found["spectral"] == pytest.approx(expected, rel=0.02)
    assert found["spectral"] > 2 * found["weight"]


# States


def moved_head(pair: tuple[CausalModel, CausalModel]) -> None:
    with torch.no_grad():
        pair[1].model.get_output_embeddings().weight *= 1.2


def test_divergence_is_that_of_plain_calls(causal: Path) -> None:
    base, tuned = causal_pair(causal)
    moved_head((base, tuned))
    encoded = encode(base, ["one two three", "four", "five six seven eight"])
    batches = (read(loaded, encoded, 1000) for loaded in (base, tuned))
    ((before, after),) = zip(*batches, strict=True)
    found = dict(zip(before.rows.tolist(), divergence(base, tuned, before, after), strict=True))
    for row, ids in enumerate(encoded):
        first, second = (
            loaded.model(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            for loaded in (base, tuned)
        )
        expected = (first.exp() * (first - second)).sum(-1).mean().item()
        assert found[row] == pytest.approx(expected, rel=1e-4)
        assert expected > 0


def test_padding_changes_nothing(causal: Path, own: Path) -> None:
    for loaded in (causal_pair(causal)[0], encoder_pair(own)[0]):
        encoded = encode(loaded, ["name1 name2", "name3 name4 name5 name6 filler1 filler2"])
        together = {
            int(row): batch.layers[-1][place, : len(encoded[row])]
            for batch in read(loaded, encoded, 1000)
            for place, row in enumerate(batch.rows)
        }
        for row, ids in enumerate(encoded):
            (alone,) = read(loaded, [ids], 1000)
            assert torch.allclose(together[row], alone.layers[-1][0], atol=1e-5)


def test_states_may_lie_elsewhere_than_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs that are only pretended hold no values."""
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(torch.Tensor, "numpy", lambda self: shapes.append(tuple(self.shape)))
    with FakeTensorMode():
        ids = torch.ones(2, 3, dtype=torch.long, device="cuda:0")
        pooled(Batch(np.arange(2), ids, ids, (torch.ones(2, 3, 4, device="cuda:1"),)))
    assert shapes == [(2, 4)]


# The stages' tables


def test_the_drift_table_of_a_run(walked: tiny.Walk) -> None:
    tasks = {tiny.TARGET, *tiny.RETAIN}
    for run in ("full", "lora"):
        rows, about = read_table(walked.path / f"metrics/drift/{tiny.CASE}/{run}.parquet")
        assert set(rows.columns) == {*COLUMNS, "seed"}
        assert about["run"] == run
        assert about["provenance"]["device"]
        measures = {"weight", "spectral", "cka", "cosine"}
        assert set(rows["measure"]) - {"relearned"} == measures
        assert np.isfinite(rows["value"]).all()
        cka = rows[rows["measure"] == "cka"].set_index("layer")["value"]
        assert list(cka.index) == [0, 1, 2]
        assert (cka < 1.0001).all()
        cosine = rows[rows["measure"] == "cosine"]
        assert set(cosine["task"]) == tasks
        assert (cosine.groupby("task").size() == 32).all()
        weight = rows[rows["measure"] == "weight"]
        assert set(weight["layer"]) == {-1, 0, 1}
        embeddings = weight[weight["module"] == "embeddings.word_embeddings"]["value"].item()
        assert (embeddings == 0) == (run == "lora")
        if run == "full":
            assert cka[2] < cka[0]
            assert (cosine["value"] > 0).all()
            assert (weight["value"] > 0).all()


def test_identical_models_have_not_moved(
    walked: tiny.Walk, own: Path, causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(walked.path)
    tests = [
        read_examples(path_of(tiny.CASE, role, "test", task))
        for role, task in (("target", tiny.TARGET), ("retain", tiny.RETRIEVAL))
    ]
    for base, tuned in (encoder_pair(own), causal_pair(causal)):
        rows = [*weight_drift(body_of(base), body_of(tuned)), *state_drift(base, tuned, tests, 512)]
        table = drift_table(rows)
        cka = table["measure"] == "cka"
        assert table.loc[cka, "value"].to_list() == pytest.approx([1.0] * cka.sum(), abs=1e-5)
        assert table.loc[~cka, "value"].abs().max() < 1e-6


def test_states_that_have_all_become_one(
    walked: tiny.Walk, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that collapsed is told by its diagnosis, which needs its records."""
    monkeypatch.chdir(walked.path)
    tests = [read_examples(path_of(tiny.CASE, "target", "test", tiny.TARGET))]
    base, tuned = encoder_pair(own)
    last = tuned.encoder.body.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        last.weight.zero_()
    table = drift_table(state_drift(base, tuned, tests, 512))
    cka = table[table["measure"] == "cka"].set_index("layer")["value"]
    assert cka[max(cka.index)] == 0
    assert cka[0] == pytest.approx(1, abs=1e-5)


def test_the_texts_are_the_first_by_id(walked: tiny.Walk) -> None:
    test = read_examples(walked.path / path_of(tiny.CASE, "retain", "test", tiny.RETRIEVAL))
    found = texts_of(test, 5)
    assert [one for one, _ in found] == sorted(test.column("example_id"))[:5]
    row = test.rows.set_index("example_id").loc[found[0][0]]
    assert found[0][1] == f"{row['query']} {row['document']}"


def test_train_rows_of_the_target_are_scored(walked: tiny.Walk) -> None:
    base, run = (
        read_table(walked.path / f"metrics/records/{tiny.CASE}/{who}.parquet")[0]
        for who in ("base", "full")
    )
    train = read_examples(walked.path / path_of(tiny.CASE, "target", "train", tiny.TARGET))
    assert "train" not in set(base["split"]), "the base was trained on none of them"
    seen = run[run["split"] == "train"]
    assert set(seen["task"]) == {tiny.TARGET}
    assert len(seen) == (run["split"].eq("validation") & run["task"].eq(tiny.TARGET)).sum()
    assert set(seen["example_id"]) <= set(train.column("example_id"))


def test_the_data_shift_of_a_case(walked: tiny.Walk) -> None:
    found = read_json(walked.path / f"metrics/shift/{tiny.CASE}.json")
    compared = found["comparisons"]
    assert set(compared) == {"same source", tiny.TARGET, *tiny.RETAIN, "all retain tasks"}
    same, other = compared["same source"], compared[tiny.RETRIEVAL]
    assert abs(same["auc"] - 0.5) < 4 * same["auc_error"]
    assert other["auc"] > 0.75
    for figure in ("n_grams", "embeddings", "unknown_words"):
        assert other[figure] > same[figure]
    assert other["words"] == 8
    assert other["words_there"] == 14
    labels = found["labels"][tiny.TARGET]
    assert labels["train"]["evenness"] > 0.95
    assert 0 <= labels["moved"] < 0.3
    train = read_examples(walked.path / path_of(tiny.CASE, "target", "train", tiny.TARGET))
    assert labels["rows"] == dict(Counter(train.column("label")))


def texts_about(name: str, words: list[str], rows: int) -> Examples:
    draw = random.Random(name)
    texts = [" ".join(draw.sample(words, 6)) for _ in range(rows)]
    rows_ = identify(pd.DataFrame({"text": texts, "label": "red"}), "classification")
    return Examples(Task(name.partition(" ")[0], "classification", 24, ("red",), {}), rows_)


def test_a_target_is_held_against_its_own_texts(own: Path) -> None:
    """Two that differ, neither of which has shifted; then one that has."""
    loaded, _ = encoder_pair(own)
    kinds = {"a": tiny.FILLER[:20], "b": tiny.NAMES[:20]}
    train = [texts_about(f"{name} train", words, 150) for name, words in kinds.items()]
    test = [texts_about(f"{name} test", words, 80) for name, words in kinds.items()]
    retain = [texts_about("c", tiny.NAMES[40:], 80)]
    found = data_shift(loaded, train, test, retain, 512, 0)
    compared = found["comparisons"]
    rows = ["same source", "same source, a", "a", "same source, b", "b", "c", "all retain tasks"]
    assert list(compared) == rows
    for name in rows[:5]:
        assert compared[name]["auc"] < 0.6, name
    assert compared["c"]["auc"] > 0.8
    # Each as were it alone; the others against both, as many of each.
    for place, name in enumerate("ab"):
        alone = data_shift(
            loaded, train[place : place + 1], test[place : place + 1], retain, 512, 0
        )
        for one, other in ((name, name), (f"same source, {name}", "same source")):
            assert compared[one] == pytest.approx(alone["comparisons"][other], abs=2e-4)
        assert found["labels"][name] == alone["labels"][name]
    assert found["texts"] == compared["same source"]["n"] == 150
    test[1] = texts_about("b test", [*tiny.FILLER[20:40]], 80)
    compared = data_shift(loaded, train, test, retain, 512, 0)["comparisons"]
    assert compared["a"]["auc"] < 0.6
    assert compared["b"]["auc"] > 0.8


# What comes back by itself


def test_what_was_lost_and_what_was_not() -> None:
    rows = {"task": "t", "split": "test", "condition": "clean", "bytes": 10}
    ids = [f"{number:02}" for number in range(20)]
    base = pd.DataFrame({**rows, "example_id": ids, "group": ids, "score": 1.0, "nll": 10.0})
    half = base.assign(score=[float(number % 2) for number in range(20)])
    accuracy, bits = measure_for("retrieval", None), measure_for("language-modelling", None)
    assert has_lost(base, half, "t", accuracy)
    assert not has_lost(half, base, "t", accuracy)
    assert not has_lost(base, base.assign(score=[0.0, *[1.0] * 19]), "t", accuracy)
    # Of text more bits are worse.
    assert has_lost(base, base.assign(nll=11.0), "t", bits)
    assert not has_lost(base, base.assign(nll=9.0), "t", bits)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_relearning_finds_what_a_turned_layer_hides(causal: Path, precision: str) -> None:
    """Ten rows lower the loss on themselves, and the same ten always."""
    rows = pd.DataFrame({"prompt": "", "text": tiny_causal.texts()})
    rows = identify(rows, "language-modelling")
    train = Examples(Task("tales", "language-modelling", 64, (), {}), rows)
    first = rows.sort_values("example_id").head(10)["text"].to_list()
    found = []
    for _ in range(2):
        loaded = load(CAUSAL, causal)
        assert isinstance(loaded, CausalModel)
        before = loss_on(loaded, first)
        relearn(loaded, train, precision)
        assert not loaded.model.training
        assert loaded.model.dtype == torch.float32
        found.append(loss_on(loaded, first))
        assert found[-1] < before
    assert found[0] == found[1]


def loss_on(loaded: CausalModel, texts: list[str]) -> float:
    total = 0.0
    for text in texts:
        context, ids = loaded.tokenizer.pair("", text)
        given = torch.tensor([context + ids])
        with torch.no_grad():
            total += loaded.model(input_ids=given, labels=given).loss.item()
    return total


@pytest.mark.parametrize("task", [*tiny.RETAIN])
def test_relearning_of_an_encoders_tasks(walked: tiny.Walk, own: Path, task: str) -> None:
    train = read_examples(walked.path / path_of(tiny.CASE, "retain", "train", task))
    base, tuned = encoder_pair(own)
    relearn(tuned, train)
    moved = [row["value"] for row in weight_drift(body_of(base), body_of(tuned))]
    assert max(moved) > 0
    assert all(np.isfinite(moved))


def test_lost_tasks_are_relearned_and_others_are_not(bench: Path) -> None:
    """A base that answered everything of one task: then that is lost, and nothing else is."""
    path = Path(f"metrics/records/{tiny.CASE}/base.parquet")
    base, told = read_table(path)
    base.loc[base["task"] == "shape-topics", "score"] = 1.0
    write_records(path, base, told)
    tiny.run_stage("retention_eval", "full")
    rows, _ = read_table(Path(f"metrics/drift/{tiny.CASE}/full.parquet"))
    run, _ = read_table(Path(f"metrics/records/{tiny.CASE}/full.parquet"))
    kinds = {"shape-topics": "linear-probe", "mood-words": "classification"}
    lost = {
        task
        for task in tiny.RETAIN
        if has_lost(base, run, task, measure_for(kinds.get(task, "retrieval"), None))
    }
    assert "shape-topics" in lost
    relearned = rows[rows["measure"] == "relearned"]
    assert set(relearned["task"]) == lost
    found = relearned[relearned["task"] == "shape-topics"]
    assert set(found["example_id"]) == set(clean_test(run, "shape-topics")["example_id"])
    assert set(found["value"]) <= {0.0, 1.0}
