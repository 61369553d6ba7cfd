"""CoNLL files: what they hold, and what is said of a wrong line."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_kinds

from stages.config.readers import Conll
from stages.errors import UserError
from stages.inputs.encoder import labels_of, read
from stages.models.encoder import features, load_encoder, longest_input
from stages.models.probe import UNKNOWN
from stages.models.texts import Tokenizer
from stages.sources.pinned import open_source
from stages.storage import sha256_path
from stages.tasks.conll import read_conll
from stages.tasks.examples import Examples, Task, identify

FILE = """\
-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter\tNNP\tB-NP\tB-PER
Blackburn\tNNP\tI-NP\tI-PER
\t
-DOCSTART- -X- -X- O

BRUSSELS NNP B-NP B-LOC"""


def config(path: Path, **settings: int) -> Conll:
    told = {"reader": "conll", "source": f"file:{path}", "sha256": sha256_path(path), **settings}
    return Conll.model_validate(told)


def rows_of(path: Path, text: str, **settings: int) -> list[dict[Hashable, Any]]:
    path.write_text(text, encoding="utf-8")
    made = config(path, **settings)
    source = open_source(made.source, sha256=made.sha256)
    found: list[dict[Hashable, Any]] = read_conll(source, made).to_dict("records")
    return found


def test_sentences_documents_and_columns(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a.conll", FILE)
    assert [row["text"] for row in rows] == ["EU rejects", "Peter Blackburn", "BRUSSELS"]
    assert [row["tokens"] for row in rows] == [
        ["EU", "rejects"],
        ["Peter", "Blackburn"],
        ["BRUSSELS"],
    ]
    assert [row["tags"] for row in rows] == [["B-ORG", "O"], ["B-PER", "I-PER"], ["B-LOC"]]
    assert [row["group"] for row in rows] == ["a.conll 1", "a.conll 1", "a.conll 2"]
    chunks = rows_of(tmp_path / "a.conll", FILE.replace("-X- O", "O O"), tag=2)
    assert chunks[0]["tags"] == ["B-NP", "B-VP"]
    crlf = rows_of(tmp_path / "a.conll", "a O\r\nb B-X\r\n\r\n\r\nc O\r\n")
    assert [row["tags"] for row in crlf] == [["O", "B-X"], ["O"]]
    assert "group" not in crlf[0]


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        (
            "a O\nb\n",
            {"tag": 1},
            "row 2: has 1 columns, and no column 1: see data.token and data.tag",
        ),
        ("a O\nb LOC\n", {}, "row 2, column '-1': 'LOC' is no tag"),
        ("a\tO\n\tO\n", {}, "row 2, column '0': is empty"),
        ("\n\n", {}, "has no sentences"),
    ],
)
def test_a_wrong_line(tmp_path: Path, text: str, settings: dict[str, int], said: str) -> None:
    with pytest.raises(UserError) as caught:
        rows_of(tmp_path / "b.conll", text, **settings)
    assert said in str(caught.value)
    assert "b.conll" in str(caught.value)


def test_a_word_is_judged_by_its_first_token(tmp_path: Path) -> None:
    tiny_kinds.write_model(tmp_path)
    encoder = load_encoder(tmp_path, "mean")
    tokenizer = Tokenizer(tmp_path, longest_input(encoder))
    # name10 is one token, name1name2 two; a word of nothing but a space has none.
    tokens = [["name1", "name1:name2", " ", "sad1"], ["glad1"] * 9]
    tags = [["O", "B-A", "O", "B-new"], ["I-A"] * 9]
    rows = identify(_frame(tokens, tags), "token-classification")
    examples = Examples(Task("t", "token-classification", 8, ("B-A", "I-A", "O"), {}), rows)
    inputs = read(examples, tokenizer)
    assert inputs.items == [[0, 1, 3], [0, 1, 2, 3, 4, 5]]
    assert inputs.places == [[1, 2, 5], [1, 2, 3, 4, 5, 6]]
    assert labels_of(examples, inputs) == [[2, 0, UNKNOWN], [1] * 6]
    seen = features(encoder, inputs, 0, 64)
    alone = encoder.states(*inputs.batch([0], 0, next(encoder.parameters()).device))
    np.testing.assert_allclose(seen[0], alone[0, [1, 2, 5]].detach().numpy(), atol=1e-5)


def _frame(tokens: list[list[str]], tags: list[list[str]]) -> pd.DataFrame:
    text = [" ".join(words) for words in tokens]
    return pd.DataFrame({"text": text, "tokens": tokens, "tags": tags})


def test_a_causal_model_refuses_it(bench: Path) -> None:
    params = tiny.read_params(bench)
    (bench / "own/s.conll").write_text(FILE, encoding="utf-8")
    data = {"reader": "conll", **tiny.pinned(bench, "own/s.conll")}
    params["tasks"]["ner"] = {
        **params["tasks"]["color-qa"],
        "kind": "token-classification",
        "data": data,
    }
    params["models"]["gpt"] = {**tiny.pinned(bench, "own/model"), "kind": "causal"}
    params["cases"][tiny.CASE] |= {"model": "gpt", "targets": ["ner"]}
    tiny.write_params(bench, params)
    with pytest.raises(
        UserError, match="is token-classification; gpt is of kind causal, which fits"
    ):
        tiny.run_stage("check")
