"""Relations between two marked entities: how they are read, asked and counted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_kinds
import torch
import transformers
from sklearn.metrics import f1_score

from stages.config.readers import Table
from stages.config.tasks import TaskConfig
from stages.errors import UserError
from stages.inputs.encoder import truncated
from stages.inputs.relation import around, mark, read_entities
from stages.models.encoder import features, load_encoder, longest_input
from stages.models.probe import Sample
from stages.models.texts import Tokenizer
from stages.scoring.answers import labelled_records
from stages.sources.pinned import open_source
from stages.statistics.measures import measure_for, values
from stages.storage import sha256_path
from stages.tasks.examples import Examples, Task, identify
from stages.tasks.relation import unmarked
from stages.tasks.splitting import split_rows
from stages.tasks.table import read_table_rows
from stages.training.encoder import EncoderTrainee, tokenise

SENTENCE = "The <e1>burst</e1> has been caused by <e2>water hammer</e2>."
REVERSED = "<e2>Water</e2>, the <e1>burst</e1>"
LABELS = ("cause", "none", "part")


def examples(*sentences: str, labels: tuple[str, ...] = (), length: int = 24) -> Examples:
    rows = pd.DataFrame([unmarked(sentence) for sentence in sentences])
    rows["label"] = labels or ["cause"] * len(rows)
    rows = identify(rows, "relation").assign(group="g", slice="all")
    return Examples(Task("t", "relation", length, LABELS, {"negative": "none"}), rows)


def test_marks_are_taken_out_of_a_text() -> None:
    assert unmarked(SENTENCE) == {
        "text": "The burst has been caused by water hammer.",
        "head": "burst",
        "tail": "water hammer",
        "starts": [4, 29],
    }
    # A tail may come first.
    found = unmarked(REVERSED)
    assert found is not None
    assert (found["head"], found["tail"], found["starts"]) == ("burst", "Water", [11, 0])


def test_other_marks_are_put_in() -> None:
    text, places = mark("The burst by water hammer.", ("burst", "water hammer"), (4, 13))
    assert text == "The @ burst @ by # water hammer # ."
    assert [text[place] for place in places] == ["@", "#"]
    text, places = mark("Water, the burst", ("burst", "Water"), (11, 0))
    assert text == "# Water # , the @ burst @"
    assert places == (16, 0)


@pytest.mark.parametrize(
    "sentence",
    [
        "no marks at all",
        "<e1>one</e1> alone",
        "<e1>one <e2>in</e2> another</e1>",
        "<e1>one</e1> <e2>two</e2> <e1>three</e1>",
        "<e1> </e1> and <e2>blank</e2>",
        "<e1>open <e2>two</e2>",
    ],
)
def test_a_sentence_that_is_not_marked_so(sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"it": sentence, "label": "x"}))
    with pytest.raises(UserError) as caught:
        table(path)
    assert "row 1, column 'it': needs <e1>…</e1> and <e2>…</e2> around two" in str(caught.value)


def table(path: Path) -> pd.DataFrame:
    columns = {"marked": "it", "label": "label"}
    told = {"reader": "table", "source": f"file:{path}", "sha256": sha256_path(path)}
    config = Table.model_validate({**told, "columns": columns})
    return read_table_rows(open_source(config.source, sha256=config.sha256), config)


def test_relations_of_one_sentence_stand_in_one_split(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    sentences = [
        (f"<e1>a{n}</e1> or <e2>b{n}</e2> or c{n}", f"a{n} or <e1>b{n}</e1> or <e2>c{n}</e2>")
        for n in range(8)
    ]
    rows = [
        {"it": sentence, "label": label}
        for pair in sentences
        for sentence, label in zip(pair, ("cause", "part"), strict=True)
    ]
    rows.append(rows[0] | {"it": "<e1>A0</e1> or <e2>B0</e2>, or c0!"})  # but for its signs
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    split = split_rows("r", table(path), "relation", {"train": 8, "validation": 4, "test": 4}, 0)
    assert {part: len(found) for part, found in split.rows.items()} == {
        "train": 8,
        "validation": 4,
        "test": 4,
    }
    assert split.duplicates == 1
    texts = [set(part["text"]) for part in split.rows.values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 8


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny_kinds.write_model(tmp_path)
    return tmp_path


def test_the_states_at_the_entities_starts_stand_side_by_side(model: Path) -> None:
    encoder = load_encoder(model, "mean")
    tokenizer = Tokenizer(model, longest_input(encoder))
    asked = examples(
        "filler1 <e1>glad1 filler2</e1> filler3 <e2>sad1</e2>",
        "<e2>sad1</e2> <e1>glad1</e1>",
    )
    inputs = read_entities(asked, tokenizer)
    assert inputs.places == [[2, 7], [4, 1]]
    reference = transformers.AutoTokenizer.from_pretrained(model)
    with torch.inference_mode():
        for text, places, seen in zip(
            ("filler1 @ glad1 filler2 @ filler3 # sad1 #", "# sad1 # @ glad1 @"),
            inputs.places,
            features(encoder, inputs, 0, 64),
            strict=True,
        ):
            states = encoder.body(**reference(text, return_tensors="pt")).last_hidden_state[0]
            np.testing.assert_allclose(seen, states[places].reshape(1, -1), atol=1e-6)
    # In training the same states are judged, by a head of that width.
    trainee = EncoderTrainee(encoder, asked.task, tokenizer.pad_id).eval()
    output = trainee(tokenise(asked, tokenizer), [1, 0])
    assert output.logits is not None and trainee.head is not None
    expected = np.concatenate(features(encoder, inputs, 0, 64))[[1, 0]]
    np.testing.assert_allclose(output.features.detach(), expected, atol=1e-6)
    assert trainee.head.weight.shape == (3, 64)
    assert output.losses.tolist() == pytest.approx(
        torch.nn.functional.cross_entropy(
            output.logits(), torch.tensor([0, 0]), reduction="none"
        ).tolist()
    )


def test_a_long_text_is_read_around_its_entities(model: Path) -> None:
    tokenizer = Tokenizer(model, 64)
    filler = " ".join(tiny.FILLER)
    far = f"{filler} <e1>glad1</e1> and <e2>sad1</e2> {filler}"
    apart = f"{filler} <e1>glad1</e1> {filler} <e2>sad1</e2>"
    asked = examples(far, apart, "<e1>glad1</e1> <e2>sad1</e2>", length=16)
    inputs = read_entities(asked, tokenizer)
    names = transformers.AutoTokenizer.from_pretrained(model).convert_ids_to_tokens
    assert [len(ids) for ids in inputs.ids] == [16, 16, 8]
    assert inputs.places is not None
    read = names(inputs.ids[0])
    # Room for 14: five of filler, the seven of entities and marks, and what is between.
    assert {"glad1", "sad1"} <= set(read[3:-3])
    assert [read[place + 1] for place in inputs.places[0]] == ["glad1", "sad1"]
    # Of a tail out of reach the first token stands there.
    assert names(inputs.ids[1])[1:3] == ["[UNK]", "glad1"]
    assert inputs.places[1] == [1, 0]
    assert truncated(asked, tokenizer) == 2


def test_where_reading_begins_and_ends() -> None:
    tokens = [(at, at + 1) for at in range(10)]
    assert around(tokens, (2, 5), 10) == (None, 0)
    assert around(tokens, (4, 5), 4) == (7, 3)
    assert around(tokens, (0, 1), 4) == (4, 0)
    assert around(tokens, (8, 9), 4) == (10, 6)
    assert around(tokens, (1, 8), 4) == (5, 1)


def test_f1_is_over_the_labels_that_say_something() -> None:
    truth = ("cause", "cause", "part", "none", "none", "none", "part", "cause")
    asked = examples(*(f"<e1>a</e1> {n} <e2>b</e2>" for n in range(8)), labels=truth)
    draw = np.random.default_rng(3)
    probabilities = draw.dirichlet(np.ones(3), 8)
    records = labelled_records(asked, "test", probabilities)
    measure = measure_for("relation", negative="none")
    found = values(records, measure)
    expected = f1_score(truth, records["prediction"], labels=["cause", "part"], average="micro")
    assert found.mean() == pytest.approx(expected)
    # Always "cause": 3 right of 8 said, where 5 are to be found.
    assert set(records["chance"]) == {2 * 3 / (8 + 5)}
    constant = f1_score(truth, ["cause"] * 8, labels=["cause", "part"], average="micro")
    assert records["chance"][0] == pytest.approx(constant)
    # Without a negative label it is accuracy.
    assert measure_for("relation").name == "accuracy"
    plain = Examples(Task("t", "relation", 24, LABELS, {}), asked.rows)
    assert set(labelled_records(plain, "test", probabilities)["chance"]) == {3 / 8}


def test_a_probe_of_both_states_tells_who_is_head() -> None:
    """What mean pooling cannot see: the same words the other way round."""
    draw = np.random.default_rng(0)
    kinds = draw.integers(2, size=80)
    states = np.stack([np.eye(2)[kinds], np.eye(2)[1 - kinds]], axis=1)
    rows = [one.reshape(1, -1) + draw.normal(0, 0.01, (1, 4)) for one in states]
    probe = Sample.of("entities", rows, kinds).fit(2)
    assert (probe.logits(np.concatenate(rows)).argmax(1) == kinds).all()
    assert np.allclose(states.mean(1), 0.5)


PARAMS: dict[str, Any] = {
    "kind": "relation",
    "data": {
        "reader": "table",
        "source": "file:x.csv",
        "sha256": "0" * 64,
        "columns": {"marked": "sentence", "label": "relation"},
    },
    "max_length": 64,
    "train": 100,
    "validation": 20,
    "test": 20,
    "negative": "Other",
}


def test_what_a_relation_task_is_told() -> None:
    assert TaskConfig.model_validate(PARAMS).negative == "Other"
    data = {**PARAMS["data"], "labels": ["Cause", "Part"]}
    with pytest.raises(ValueError, match=r"negative = 'Other': is none of data.labels"):
        TaskConfig.model_validate({**PARAMS, "data": data})
    columns = {"text": "sentence", "label": "relation"}
    with pytest.raises(ValueError, match=r"data.columns.text = 'sentence': does not apply"):
        TaskConfig.model_validate({**PARAMS, "data": {**PARAMS["data"], "columns": columns}})
    other = {**PARAMS, "kind": "classification", "data": {**PARAMS["data"], "columns": columns}}
    with pytest.raises(ValueError, match="negative = 'Other': does not apply to a classification"):
        TaskConfig.model_validate(other)


def test_a_negative_label_that_train_lacks(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_kinds.make(tmp_path, own, "relation")
    params = tiny.read_params(tmp_path)
    params["tasks"]["relation"]["negative"] = "nothing"
    tiny.write_params(tmp_path, params)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"tasks.relation.negative = 'nothing': is none of the 3"):
        tiny.run_stage("prepare", tiny_kinds.CASE)
