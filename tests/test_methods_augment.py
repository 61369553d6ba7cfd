"""Augmentation: the edits, the rows that come of them, and translation there and back."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_seq2seq
import tiny_training as toy
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import UserError
from stages.models.seq2seq import Seq2Seq
from stages.tasks.examples import Examples
from stages.training.methods.augment import back_translated
from stages.training.word_edits import delete, replace, swap

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SENTENCE = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "today"]
Words = st.lists(st.sampled_from(SENTENCE), min_size=1, max_size=12)


# Edits


@given(words=Words, share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_edits_keep_what_they_do_not_edit(words: list[str], share: float, seed: int) -> None:
    before = list(words)
    swapped = swap(words, share, random.Random(seed))
    assert sorted(swapped) == sorted(words)
    kept = delete(words, share, random.Random(seed))
    assert kept and not Counter(kept) - Counter(words)
    replaced = replace({"fox": ["wolf"]})(words, share, random.Random(seed))
    most = max(1, int(share * len(words)))
    changed = [(old, new) for old, new in zip(words, replaced, strict=True) if old != new]
    assert len(changed) == min(most, words.count("fox"))
    assert set(changed) <= {("fox", "wolf")}
    assert words == before


def test_how_many_words_are_edited() -> None:
    """alpha * l words, rounded down, and one at least, as in the paper."""
    names = [f"w{number}" for number in range(20)]
    every = {name: [name.upper()] for name in names}
    for share, expected in ((0.1, 2), (0.19, 3), (0.01, 1), (0.5, 10)):
        found = replace(every)(names, share, random.Random(0))
        assert sum(word.isupper() for word in found) == expected
    one_swap = swap(names, 0.01, random.Random(0))
    assert sum(a != b for a, b in zip(names, one_swap, strict=True)) == 2
    left = [len(delete(names, 0.3, random.Random(seed))) for seed in range(500)]
    assert sum(left) / 500 == pytest.approx(14, abs=0.4)
    assert len(set(left)) > 5, "each word by itself"
    assert delete(["only"], 0.99, random.Random(0)) == ["only"]


def test_a_synonym_takes_the_place_of_its_word_alone() -> None:
    edit = replace({"fox": ["wolf"]})
    assert edit(["(Fox),", "foxes", '"fox"'], 0.9, random.Random(0)) == [
        "(Wolf),",
        "foxes",
        '"wolf"',
    ]
    assert edit(["nothing", "known"], 0.5, random.Random(0)) == ["nothing", "known"]


# Rows

EDITS = {"swap": 0.2, "delete": 0.2, "copies": 3}


def augmented(settings: dict[str, Any], seed: int = 0, task: str = tiny.TARGET) -> Examples:
    (method,) = toy.methods(toy.config({"augment": settings}))
    return method.rewrite(toy.examples(task, 0, 40), seed)


def by_source(rows: Examples, count: int = 40) -> list[list[str]]:
    """The first `count` rows each with what was made of it: no word is in them that it has not."""
    texts = rows.column("text")
    sources = [set(text.split()) for text in texts[:count]]
    found: list[list[str]] = [[text] for text in texts[:count]]
    for text in texts[count:]:
        (source,) = (n for n, words in enumerate(sources) if set(text.split()) <= words)
        found[source].append(text)
    return found


def test_rows_keep_label_and_group_and_get_ids_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, after = toy.examples(tiny.TARGET, 0, 40), augmented(EDITS)
    assert after.rows.iloc[:40].equals(before.rows), "the rows themselves are there first"
    assert list(after.rows.columns) == list(before.rows.columns)
    made = len(after) - 40
    assert 100 < made < 120, "where no word fell out, nothing is new"
    assert capsys.readouterr().out == (
        f"color-qa: 40 train rows and {made} by augmentation; "
        f"{120 - made} left out: empty, unchanged or there already\n"
    )
    assert after.rows["example_id"].is_unique and after.rows["text"].is_unique
    by_text = after.rows.set_index("text")[["label", "group"]]
    for texts in by_source(after):
        assert len(by_text.loc[texts].drop_duplicates()) == 1


def test_copies_take_turns_in_the_edits() -> None:
    for own, *copies in by_source(augmented({**EDITS, "copies": 2})):
        lengths = [len(copy.split()) for copy in copies]
        assert lengths.count(len(own.split())) == 1, "one swapped"
        assert len(lengths) <= 2, "and one shortened"


def test_a_row_derives_from_seed_and_id_alone() -> None:
    def texts(rows: list[int], seed: int) -> dict[str, set[str]]:
        (method,) = toy.methods(toy.config({"augment": EDITS}))
        whole = toy.examples(tiny.TARGET, 0, 40)
        some = Examples(whole.task, whole.rows.iloc[rows].reset_index(drop=True))
        found = by_source(method.rewrite(some, seed), len(rows))
        return {
            identity: set(texts)
            for identity, texts in zip(some.rows["example_id"], found, strict=True)
        }

    every = texts(list(range(40)), 0)
    assert texts(list(range(40)), 0) == every
    few = texts([7, 3], 0)
    assert few == {identity: every[identity] for identity in few}
    other = texts(list(range(40)), 1)
    assert sum(other[identity] != every[identity] for identity in every) > 35


def test_what_came_out_no_other_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the words of one label alone there is a synonym: ten rows of forty, and one version."""
    monkeypatch.chdir(tmp_path)
    pairs = [(word, "crimson") for word in tiny._telling("red")]
    Path("words.csv").write_text(
        "word,synonym\n" + "".join(f"{word},{other}\n" for word, other in pairs), encoding="utf-8"
    )
    synonyms = tiny.pinned(tmp_path, "words.csv")
    settings = {"synonym": 0.9, "copies": 2, "synonyms": synonyms}
    after = augmented(settings)
    assert len(after) == 50
    assert set(after.rows["label"].iloc[40:]) == {"red"}
    assert after.rows["text"].iloc[40:].str.count("crimson").eq(2).all()
    assert "40 train rows and 10 by augmentation; 70 left out" in capsys.readouterr().out

    lines = [json.dumps({"word": word, "synonym": other}) for word, other in pairs]
    Path("words.jsonl").write_text("\n".join(lines), encoding="utf-8")
    again = augmented({**settings, "synonyms": tiny.pinned(tmp_path, "words.jsonl")})
    assert again.rows.equals(after.rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("word,other\na,b\n", "words.csv, column 'synonym': is missing; there are 'word', 'other'"),
        ("word,synonym\na,b\nc,\n", "words.csv, row 2, column 'synonym': is empty"),
        ("", "words.csv: has no rows"),
    ],
)
def test_synonyms_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        augmented({"synonym": 0.9, "copies": 1, "synonyms": tiny.pinned(tmp_path, "words.csv")})
    assert str(caught.value) == f"file:words.csv: {said}"


def test_rows_that_were_trained_on_are_the_targets_own(own: Path) -> None:
    """As they are listed for the scorer: those that the first steps drew, no copy of them."""
    (method,) = toy.methods(toy.config({"augment": EDITS}))
    subject = toy.subject(own / "model", retain=(), methods={"augment": EDITS})
    subject.learn_targets(lambda rows: method.rewrite(rows, 0))
    (train,), (validation,) = subject.recipe.train, subject.recipe.validation
    (stream,) = subject.targets
    assert len(stream.rows) > len(train)
    ids, size = train.column("example_id"), subject.config.batch_size
    drawn = [row for step in range(2) for row in stream.batch(size, 0, step)]
    first = {ids[row] for row in drawn if row < len(ids)}
    assert 0 < len(first) < len(drawn) <= len(validation)
    assert subject.trained(2) == {tiny.TARGET: sorted(first)}
    assert subject.trained(0) == {tiny.TARGET: []}
    (all_of_them,) = subject.trained(1000).values()
    assert all_of_them == sorted(ids)[: len(validation)]


def test_training_sees_the_new_rows_and_validation_none(own: Path) -> None:
    subject = toy.subject(own / "model", retain=(), methods={"augment": EDITS})
    toy.objective(subject)
    assert len(subject.targets[0].rows) == len(augmented(EDITS)) > 140
    assert len(subject.validation[0]) == 20


# Back-translation


@pytest.fixture(scope="module")
def translators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translators")
    words = tiny._vocabulary()[5:60]
    tiny_seq2seq.write_model(folder / "there", words, 1)
    tiny_seq2seq.write_model(folder / "back", words, 2)
    return folder


def test_beam_search_is_that_of_generate(translators: Path) -> None:
    texts = toy.examples(tiny.TARGET, 0, 12).column("text")
    texts[3] = texts[3][:20]
    found = Seq2Seq(translators / "there", CPU).write(texts, 64, 3)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(translators / "there")
    tokenizer = transformers.AutoTokenizer.from_pretrained(translators / "there")
    longest = max(len(ids) for ids in tokenizer(texts)["input_ids"])
    for text, written in zip(texts, found, strict=True):  # one by one: padding changes nothing
        ids = tokenizer(text, return_tensors="pt").input_ids
        expected = model.generate(
            ids, num_beams=3, do_sample=False, max_new_tokens=2 * longest + 16
        )
        assert written == tokenizer.decode(expected[0], skip_special_tokens=True).strip()
    assert len(set(found)) > 3, "what is written depends on what is read"


def test_there_and_back(
    translators: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(translators)
    there, back = (tiny.pinned(translators, name) for name in ("there", "back"))
    after = augmented({"back_translation": {"there": there, "back": back, "beams": 2}})
    texts = toy.examples(tiny.TARGET, 0, 40).column("text")
    between = Seq2Seq(translators / "there", CPU).write(texts, 24, 2)
    written = Seq2Seq(translators / "back", CPU).write(between, 24, 2)
    kept = list(dict.fromkeys(text for text in written if text and text not in texts))
    assert after.column("text")[40:] == kept
    assert f"{len(kept)} by augmentation; {40 - len(kept)} left out" in capsys.readouterr().out
    assert 0 < len(kept) < 40
    labels = dict(zip(written[::-1], after.rows["label"].iloc[:40][::-1], strict=True))
    assert after.rows["label"].iloc[40:].tolist() == [labels[text] for text in kept]

    (method,) = toy.methods(
        toy.config({"augment": {"back_translation": {"there": there, "back": back, "beams": 2}}})
    )
    hits = back_translated.cache_info().hits
    method.rewrite(toy.examples(tiny.TARGET, 0, 40), 1)
    assert back_translated.cache_info().hits == hits + 1, "another seed translates nothing again"


def test_a_model_that_does_not_translate(own: Path) -> None:
    with pytest.raises(UserError, match="transformers cannot load this model"):
        Seq2Seq(own / "model", CPU)


# Settings

PIN = {"source": "file:words.csv", "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ".swap: missing: give swap, delete, synonym or back_translation"),
        ({"swap": 0.1}, ".copies = None: goes with swap, delete or synonym"),
        (
            {"swap": 0.1, "delete": 0.1},
            ".copies = None: goes with swap, delete or synonym: add copies, such as copies: 1",
        ),
        ({"back_translation": {"there": PIN, "back": PIN}, "copies": 2}, ".copies = 2: goes with"),
        ({"synonym": 0.1, "copies": 1}, ".synonym = 0.1: goes with synonyms"),
        ({"swap": 0.1, "copies": 1, "synonyms": PIN}, ".synonym = None: goes with synonyms"),
        ({"swap": 1.0, "copies": 1}, ".swap = 1.0: input should be less than 1"),
        ({"swap": 0.1, "copies": 0}, ".copies = 0: input should be greater than or equal to 1"),
        (
            {"synonym": 0.1, "copies": 1, "synonyms": {"source": "file:words.csv"}},
            ".synonyms.sha256 = None: a file: source needs a sha256 of 64 hex digits",
        ),
    ],
)
def test_settings_that_do_not_go_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        toy.methods(toy.config({"augment": settings}))
    assert f"params.yaml: runs.toy.methods.augment{said}" in str(caught.value)


def test_targets_that_do_not_fit() -> None:
    assert toy.misfit({"augment": EDITS}) == []
    for target, reason in (
        ("retrieval", "two rows of one document would be each other's negatives"),
        ("news-writing", "its text is what is learned, and so would the edits be"),
    ):
        (found,) = toy.misfit({"augment": EDITS}, target=target)
        fitting = "classification, linear-probe, pair-classification, multi-label, multiple-choice"
        assert found == f"target: {reason}; what would fit: targets of the kinds {fitting}"
