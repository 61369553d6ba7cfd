"""Train rows of one task that stand in the test split of another, by kind of task."""

from typing import Any

import pandas as pd
import pytest

from stages.config.tasks import COLUMNS, OPTIONS, TaskConfig
from stages.tasks.overlap import remove_overlap
from stages.tasks.splitting import Split

Row = dict[str, Any]
ARTICLE = (
    "The harbour of the old town was closed on Monday after a storm had torn two cranes from their "
    "rails and into the sea"
)
OPTION = {"max_new_tokens": 8, "metric": "f1"}


def _config(kind: str, **columns: str) -> TaskConfig:
    told = {name: name for name in COLUMNS[kind]} | columns
    data = {"reader": "table", "source": "file:x.jsonl", "sha256": "ab" * 32, "columns": told}
    sizes = {"max_length": 64, "train": 10, "validation": 10, "test": 10}
    options = {name: OPTION[name] for name in OPTIONS.get(kind, ())}
    return TaskConfig.model_validate({"kind": kind, "data": data, **sizes, **options})


def _removed(kind: str, train: list[Row], other: str, test: list[Row], **columns: str) -> Row:
    """How many rows of `train` overlap `test`; twice as many rows beside them do not."""
    odd: Row = {
        name: [f"{name} 1", f"{name} 2"] if name in ("choices", "contents") else f"odd {name}"
        for row in train
        for name in row
    }
    odd |= {"answer": 0} if "answer" in odd else {}
    odd |= {"completion": ["odd words"]} if "completion" in odd else {}
    ours = pd.DataFrame([*train, *[odd] * (2 * len(train))])
    theirs = pd.DataFrame(test)
    splits = {
        "ours": Split({"train": ours, "test": ours.iloc[:0]}, 0, 0, 0, 0),
        "theirs": Split({"train": theirs.iloc[:0], "test": theirs}, 0, 0, 0, 0),
    }
    configs = {"ours": _config(kind, **columns), "theirs": _config(other, **columns)}
    found = remove_overlap(configs, splits)["ours"]
    assert len(ours) - sum(found.values()) == len(splits["ours"].rows["train"])
    return found


EXACT, GRAM, NONE = ({"exact": a, "13-gram": b} for a, b in ((1, 0), (0, 1), (0, 0)))


def _completion(*accepted: str, prompt: str = "Write.") -> Row:
    return {"prompt": prompt, "completion": list(accepted)}


def _chat(said: str) -> Row:
    return {"prompt": "Write.", "contents": ["Write.", said]}


def _choice(*choices: str, context: str = "Which is true of it?", answer: int = 0) -> Row:
    return {"context": context, "choices": [f" {one}" for one in choices], "answer": answer}


@pytest.mark.parametrize(
    ("kind", "row", "found"),
    [
        ("completion", _completion(ARTICLE), EXACT),
        ("completion", _completion(f"News: {ARTICLE.upper()}!"), GRAM),
        ("completion", _completion("no such thing", ARTICLE), NONE),  # the first is learned
        ("chat", _chat(ARTICLE), EXACT),
        ("chat", _chat(f"{ARTICLE} today"), GRAM),
        ("chat", _chat("I will not"), NONE),
    ],
)
def test_what_is_learned_of_an_answer(kind: str, row: Row, found: Row) -> None:
    assert _removed(kind, [row], "language-modelling", [{"text": ARTICLE}]) == found


@pytest.mark.parametrize("kind", ["classification", "minimal-pairs"])
def test_a_short_answer_is_no_overlap(kind: str) -> None:
    test = [{"text": "Yes", "label": "a", "good": "Yes", "bad": "No"}]
    assert _removed("completion", [_completion("yes")], kind, test) == NONE


def test_an_answer_is_not_held_against_one_sentence_of_a_pair() -> None:
    good = "The cats that he saw sleep well"
    row = _completion(good)
    assert _removed("completion", [row], "minimal-pairs", [{"good": good, "bad": "x"}]) == NONE


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        ("minimal-pairs", {"good": "The cats sleep!", "bad": "The cats sleeps!"}),
        ("minimal-pairs", {"good": "The cat sleeps.", "bad": "The cats sleep."}),
        ("bias-pairs", {"stereotype": "the cats sleep", "antistereotype": "the dogs sleep"}),
        ("multiple-choice", _choice("yes", "no", context="The cats sleep?")),
    ],
)
def test_a_sentence_of_a_pair_that_is_learned(kind: str, test: Row) -> None:
    train = [{"text": "The cats sleep."}]
    assert _removed("language-modelling", train, kind, [test]) == EXACT


def test_an_entity_of_a_relation_is_no_text() -> None:
    test = {"text": "Rome is in Italy.", "head": "Rome", "tail": "Italy"}
    for text, found in (("Rome", NONE), ("rome is in italy", EXACT)):
        train = [{"text": text, "label": "a"}]
        assert _removed("classification", train, "relation", [test]) == found


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (_choice("it is wet", "it is dry"), EXACT),
        (_choice("it is dry", "it is wet", answer=1), EXACT),
        (_choice("it is wet", "it is mad"), EXACT),  # the same is learned
        (_choice("it is red", "it is blue"), NONE),
    ],
)
def test_multiple_choice_by_context_and_choices(row: Row, found: Row) -> None:
    test = [_choice("it is wet", "it is dry")]
    assert _removed("multiple-choice", [row], "multiple-choice", test) == found


def test_a_question_of_multiple_choice_that_is_prompted_elsewhere() -> None:
    question = "Which of these is the largest sea of all?"
    row = _choice("it is wet", "it is dry", context=question)
    test = [{"prompt": question, "completion": ["none"]}]
    assert _removed("multiple-choice", [row], "completion", test) == EXACT


INSTRUCTION = (
    "Say in one word whether the person who wrote this review of a film liked it:"  # 15 words
)


@pytest.mark.parametrize(("told", "found"), [("{text}", 0), ("text", 15)])
def test_a_template_of_any_text_is_no_overlap(told: str, found: int) -> None:
    """But of a text that is a column it counts, as ever."""
    train, test = (
        [{"text": f"{INSTRUCTION} {part} {n}", "label": "a"} for n in range(15)]
        for part in ("ours", "theirs")
    )
    config = _config("classification", text=told)
    splits = {
        "mine": Split(
            {"train": pd.DataFrame([*train, *[{"text": "odd"}] * 15]), "test": pd.DataFrame(test)},
            0,
            0,
            0,
            0,
        )
    }
    assert remove_overlap({"mine": config}, splits)["mine"] == {"exact": 0, "13-gram": found}


def test_a_template_of_questions_is_no_overlap() -> None:
    train, test = (
        [_choice(f"{part} {n}", "none", context=f"{INSTRUCTION} {part} {n}") for n in range(15)]
        for part in ("ours", "theirs")
    )
    assert _removed("multiple-choice", train, "multiple-choice", test) == NONE
