"""CoNLL files: what they hold, and what is said of a wrong line."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_kinds
import tokenizers
import transformers
from tokenizers import models, pre_tokenizers, processors, trainers

from stages.config.readers import Conll
from stages.errors import UserError
from stages.inputs.encoder import labels_of, read, truncated
from stages.models.encoder import features, load_encoder, longest_input
from stages.models.probe import UNKNOWN
from stages.models.texts import Tokenizer
from stages.sources.pinned import open_source
from stages.storage import sha256_path
from stages.tasks.conll import read_conll
from stages.tasks.examples import Examples, Task, identify
from stages.tasks.splitting import split_rows

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


def _document(*names: str) -> str:
    return "\n\n".join(["-DOCSTART- O", *(f"{name} B-X" for name in names)])


def _alone(*names: str) -> str:
    return "\n\n".join(f"{name} B-X" for name in names)


@pytest.mark.parametrize("apart", [False, True])
def test_sentences_outside_of_documents_are_groups_of_their_own(
    apart: bool, tmp_path: Path
) -> None:
    """Before the first one of a file; or in another file, which tells none apart."""
    single, told = list("abcdefgh"), ["i j k l", "m n o p", "q r s t"]
    documents = "\n\n".join(_document(*names.split()) for names in told)
    texts = {"train": documents, "test": _alone(*single)}
    if not apart:
        texts = {"all": f"{_alone(*single)}\n\n{documents}"}
    (tmp_path / "made").mkdir()
    for name, text in texts.items():
        (tmp_path / f"made/{name}.conll").write_text(text, encoding="utf-8")
    made = config(tmp_path / "made")
    if apart:
        made = made.model_copy(update={"files": {one: f"{one}.conll" for one in texts}})
    rows = read_conll(open_source(made.source, sha256=made.sha256), made)
    sizes = {"train": 12, "validation": 4, "test": 8}
    split = split_rows("ner", rows, "token-classification", sizes, 0)
    placed = pd.concat(split.rows.values())
    assert sorted(placed["text"]) == sorted([*single, *" ".join(told).split()])
    groups = placed.groupby("group")["text"].apply(lambda part: " ".join(sorted(part)))
    assert sorted(groups) == sorted([*single, *told])
    assert split.cut_off == 0
    if apart:
        assert sorted(split.rows["test"]["text"]) == single


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


def test_word_pieces_are_those_of_the_words_alone(tmp_path: Path) -> None:
    tiny_kinds.write_model(tmp_path)
    words = ["name1", "name1:name2", "", "[SEP]", "never", "été", "中文", " ", "x y", "-", "sad1"]
    texts = [words, words[::-1], words[2:3], ["glad1"] * 9]
    given = {"is_split_into_words": True, "truncation": True}
    for length in (6, 64):
        inputs = Tokenizer(tmp_path, 64).words(texts, length)
        alone = transformers.AutoTokenizer.from_pretrained(tmp_path)(
            texts, max_length=length, **given
        )
        assert inputs.ids == alone["input_ids"]
        assert inputs.places is not None and inputs.items is not None
        for row, (places, items) in enumerate(zip(inputs.places, inputs.items, strict=True)):
            owners = alone.word_ids(row)
            assert items == sorted({owner for owner in owners if owner is not None})
            assert places == [owners.index(item) for item in items]


BEGIN, END = ("<s>", 0), ("</s>", 1)
TRIMMING = processors.RobertaProcessing(END, BEGIN, trim_offsets=True, add_prefix_space=False)
WITH_SPACES = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[BEGIN, END])


@pytest.mark.parametrize("ends", [TRIMMING, WITH_SPACES])
def test_byte_level_tokens_are_those_of_the_text(ends: Any, tmp_path: Path) -> None:
    """RoBERTa's tokenizer, and one whose tokens' offsets hold the space before a word."""
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.post_processor = ends
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(["the German call"] * 3, trainer)
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>")
    wrapped.save_pretrained(tmp_path)
    tokenizer = Tokenizer(tmp_path, 64)
    # No token has the space with the x: it stands alone, before the word.
    tokens = [["the", "German", "call"], ["xé", "call", "", "x", "call"]]
    rows = identify(_frame(tokens, [["O"] * 3, ["O"] * 5]), "token-classification")
    examples = Examples(Task("t", "token-classification", 8, ("O",), {}), rows)
    inputs = read(examples, tokenizer)
    assert [wrapped.convert_ids_to_tokens(row) for row in inputs.ids] == [
        ["<s>", "the", "ĠGerman", "Ġcall", "</s>"],
        ["<s>", "x", "Ã", "©", "Ġcall", "Ġ", "Ġ", "</s>"],
    ]
    assert inputs.items == [[0, 1, 2], [0, 1]]
    assert inputs.places == [[1, 2, 3], [1, 4]]
    assert inputs.ids == tokenizer(examples.column("text"), 8)
    assert truncated(examples, tokenizer) == 1
    whole = tokenizer.words(tokens, 64)
    assert wrapped.convert_ids_to_tokens(whole.ids[1])[5:-1] == ["Ġ", "Ġ", "x", "Ġcall"]
    assert whole.items is not None and whole.places is not None
    assert (whole.items[1], whole.places[1]) == ([0, 1, 3, 4], [1, 4, 7, 8])


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
