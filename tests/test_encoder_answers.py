"""What a head of several labels, or of a value, learns and says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score

from stages.config.readers import Table
from stages.errors import UserError
from stages.models.probe import INVERSE_PENALTY, UNKNOWN, Sample, fit_probe
from stages.scoring.answers import best_constant_f1, multi_label_records, value_records
from stages.sources.pinned import open_source
from stages.storage import sha256_path
from stages.tasks.examples import Examples, Task, identify
from stages.tasks.table import read_table_rows
from stages.training import losses

DRAW = np.random.default_rng(0)
EMBEDDED = DRAW.normal(3, 2, (60, 5)).astype(np.float32)
SCALED = (EMBEDDED - EMBEDDED.mean(0)) / EMBEDDED.std(0)
ROWS = list(EMBEDDED[:, None])


def examples(kind: str, names: tuple[str, ...] = (), **columns: Any) -> Examples:
    rows = pd.DataFrame(columns)
    rows["text"] = [f"text {n}" for n in range(len(rows))]
    options = {"mean": 2.0, "spread": 0.5, "range": 4.0} if kind == "regression" else {}
    rows = identify(rows, kind).assign(group="g", slice="all")
    return Examples(Task("t", kind, 16, names, options), rows)


def test_a_probe_of_labels_is_a_regression_for_each() -> None:
    labels = (EMBEDDED[:, :2] > 3).astype(float)
    labels = np.column_stack([labels, np.ones(60), np.zeros(60)])
    probe = Sample.of("labels", ROWS, labels).fit(4)
    # Scaled as the probe does it: from inputs that differ in their last digit, scikit-learn's
    # optimiser ends elsewhere, by more than the tolerance.
    mean, spread = EMBEDDED.mean(0, dtype=float), EMBEDDED.std(0, dtype=float)
    scaled = ((EMBEDDED - mean) / spread).astype(np.float32)
    for at in (0, 1):
        model = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000)
        model.fit(scaled, labels[:, at])
        np.testing.assert_allclose(
            probe.logits(EMBEDDED)[:, at], model.decision_function(scaled), atol=1e-4
        )
    # Labels that all rows have, or none: 60.5 to 0.5.
    np.testing.assert_allclose(probe.logits(EMBEDDED)[:, 2], np.log(121))
    np.testing.assert_allclose(probe.logits(EMBEDDED)[:, 3], -np.log(121))


def test_a_probe_of_words_passes_over_unknown_tags_and_forbids_none() -> None:
    features = [EMBEDDED[:40], EMBEDDED[40:]]
    tags = (EMBEDDED[:, 0] > 3).astype(int)
    tags[[3, 50]] = UNKNOWN
    probe = Sample.of("words", features, [tags[:40], tags[40:]]).fit(3)
    known = tags != UNKNOWN
    expected = fit_probe(EMBEDDED[known], tags[known], 3)
    np.testing.assert_array_equal(probe.weight, expected.weight)
    np.testing.assert_array_equal(probe.bias[:2], expected.bias[:2])
    assert np.isfinite(probe.bias).all()
    assert probe.probabilities(EMBEDDED)[:, 2].max() < 1e-6
    assert not Sample.of("words", features, [tags[:40] * 0, [UNKNOWN] * 20]).varied


def test_a_probe_of_values_is_ridge_regression() -> None:
    values = EMBEDDED[:, 0] - 2 * EMBEDDED[:, 1] + DRAW.normal(size=60)
    probe = Sample.of("value", ROWS, values).fit(1)
    model = Ridge(alpha=1 / INVERSE_PENALTY).fit(SCALED, values)
    np.testing.assert_allclose(probe.logits(EMBEDDED)[:, 0], model.predict(SCALED), atol=1e-4)


def test_answers_of_several_labels() -> None:
    asked = examples("multi-label", ("a", "b"), labels=[["a"], [], ["a", "c"]])
    found = multi_label_records(asked, "test", np.array([[0.9, 0.6], [0.5, 0.1], [0.8, 0.2]]))
    assert list(map(json.loads, found["prediction"])) == [["a", "b"], [], ["a"]]
    assert list(map(json.loads, found["target"])) == [["a"], [], ["a", "c"]]
    assert found["score"].tolist() == pytest.approx([2 / 3, 1, 2 / 3])
    expected = [-np.log(0.9 * 0.4), -np.log(0.5 * 0.9), -np.log(0.8 * 0.8)]
    assert found["nll"].tolist() == pytest.approx(expected)


def test_the_best_answer_that_is_always_the_same() -> None:
    target = DRAW.random((30, 4)) < np.array([0.7, 0.5, 0.2, 0.05])
    names = np.array(list("abcd"))
    each = []
    for answer in np.ndindex(2, 2, 2, 2):
        given = np.tile(np.array(answer, dtype=bool), (30, 1))
        each.append(f1_score(target, given, average="micro", zero_division=0))
    found = best_constant_f1([names[row].tolist() for row in target])
    assert found == pytest.approx(max(each))
    assert best_constant_f1([[], []]) == 0


def test_values_come_back_in_their_unit() -> None:
    found = value_records(examples("regression", value=[2.5, 0.0]), "test", np.array([2.0, 8.0]))
    assert found["prediction"].astype(float).tolist() == [3.0, 6.0]
    assert found["target"].tolist() == ["2.5", "0.0"]
    assert found["score"].tolist() == [1 - 0.5 / 4, 0]


def test_losses_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0]])
    found = losses.labels(logits, torch.tensor([[1.0, 0.0]]))
    assert found.item() == pytest.approx((np.log(2) + np.log1p(np.exp(2))) / 2)
    assert losses.value(torch.tensor([[1.5]]), torch.tensor([1.0])).item() == 0.25
    places = torch.tensor([[0.0, 1.0], [1.0, 0.0], [5.0, 5.0]])
    spans = losses.spans(places, [2, 1], torch.tensor([[1, 0], [0, 0]]))
    assert spans.tolist() == pytest.approx([2 * np.log1p(np.exp(-1)), 0])


@pytest.mark.parametrize(
    ("columns", "cell", "said"),
    [
        ({"labels": "it"}, "a", "row 1, column 'it': is no list of texts"),
        ({"labels": "it"}, ["a", ""], "row 1, column 'it': holds an empty label"),
        ({"value": "it"}, "much", "row 1, column 'it': 'much': give a number"),
        ({"value": "it"}, "inf", "row 1, column 'it': 'inf': give a finite number"),
    ],
)
def test_a_wrong_cell(tmp_path: Path, columns: dict[str, str], cell: Any, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "x", "it": cell}))
    with pytest.raises(UserError) as caught:
        table(path, columns)
    assert said in str(caught.value)


def test_labels_have_no_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": "x", "it": ["b", "a", "b"]}))
    assert table(path, {"labels": "it"})["labels"].tolist() == [["a", "b"]]


def table(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    told = {"reader": "table", "source": f"file:{path}", "sha256": sha256_path(path)}
    config = Table.model_validate({**told, "columns": {"text": "text", **columns}})
    return read_table_rows(open_source(config.source, sha256=config.sha256), config)
