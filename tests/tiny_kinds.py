"""A project in miniature with a task of each kind that an encoder answers by a head."""

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import tiny

CASE = "kinds"
COUNT = 120
SIZES = {"max_length": 24, "train": 60, "validation": 24, "test": 30}


def write_model(folder: Path) -> None:
    """The model of tests/tiny.py, whose tokenizer tells the two texts of a pair apart."""
    tiny.write_model(folder)
    file = folder / "tokenizer.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    processor = settings["post_processor"]
    first, second = ({"Sequence": {"id": name, "type_id": at}} for at, name in enumerate("AB"))
    start = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    ends = [{"SpecialToken": {"id": "[SEP]", "type_id": at}} for at in (0, 1)]
    processor["pair"] = [start, first, ends[0], second, ends[1]]
    file.write_text(json.dumps(settings), encoding="utf-8")
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    file.write_text(json.dumps(settings), encoding="utf-8")


def words(draw: random.Random, *telling: str) -> str:
    """Filler with telling words among it."""
    found = [*telling, *draw.sample(tiny.FILLER, 4)]
    draw.shuffle(found)
    return " ".join(found)


def _pairs(draw: random.Random) -> list[dict[str, Any]]:
    labels = ("entailment", "neutral", "contradiction")
    rows = []
    for number in range(COUNT):
        label, told = labels[number % 3], tiny.LABELS["shape-topics"][number % 3]
        second = words(draw, f"{told}{number % 6}", f"{told}{number % 5}")
        rows.append({"premise": words(draw), "hypothesis": second, "label": label})
    return rows


def _relations(draw: random.Random) -> list[dict[str, Any]]:
    """What holds between two entities is told by the first word of each, and not by the others."""
    rows = []
    for number in range(COUNT):
        label, (head, tail) = (
            ("cause", ("glad", "sad")),
            ("part", ("sad", "glad")),
            ("none", ("round", "round")),
        )[number % 3]
        told = [f"{word}{draw.randrange(6)}" for word in (head, tail)]
        parts = [
            f"<e{at}>{word} {draw.choice(tiny.NAMES)}</e{at}>" for at, word in enumerate(told, 1)
        ]
        filler = draw.sample(tiny.FILLER, 4)
        if draw.random() < 0.5:
            parts.reverse()  # the tail may come first
        sentence = [filler[0], parts[0], *filler[1:3], parts[1], filler[3]]
        rows.append({"sentence": " ".join(sentence), "relation": label})
    return rows


def _sentences(draw: random.Random) -> str:
    """Two of eight words are an entity, whose type its words tell."""
    lines = ["-DOCSTART- -X- O", ""]
    for number in range(COUNT):
        kind, told = (("LOC", "glad"), ("PER", "sad"))[number % 2]
        sentence = [(word, "O") for word in draw.sample(tiny.FILLER, 5)]
        place = draw.randrange(5)
        sentence[place:place] = [
            (f"{told}{draw.randrange(6)}", f"{prefix}-{kind}") for prefix in "BI"
        ]
        lines += [f"{word} NN {tag}" for word, tag in sentence] + [""]
        if number % 3 == 2:
            lines += ["-DOCSTART- -X- O", ""]
    return "\n".join(lines)


def _questions(draw: random.Random, unanswered: int = 0) -> str:
    """Which name is in the context? It stands after a telling word. `unanswered`: of every ten."""
    paragraphs = []
    for number in range(COUNT):
        words = draw.sample(tiny.FILLER, 24)
        name, place = draw.choice(tiny.NAMES), draw.randrange(24)
        answered = number % 10 >= unanswered
        if answered:
            words[place:place] = [f"green{draw.randrange(6)}", name]
        context = " ".join(words)
        answers = [{"text": name, "answer_start": context.index(name + " ")}] if answered else []
        asked = {"question": "green0 green1", "id": str(number), "answers": answers}
        impossible = {"is_impossible": not answered} if unanswered else {}
        paragraphs.append({"context": context, "qas": [asked | impossible]})
    return json.dumps({"version": "x", "data": [{"title": "t", "paragraphs": paragraphs}]})


def _topics(draw: random.Random) -> list[dict[str, Any]]:
    """Each of three labels where its words are; some rows have none."""
    rows = []
    for _ in range(COUNT):
        labels = [label for label in tiny.LABELS["shape-topics"] if draw.random() < 0.35]
        telling = [f"{label}{number}" for label in labels for number in (0, 1)]
        rows.append({"text": words(draw, *telling), "topics": labels[::-1]})
    return rows


def _values(draw: random.Random) -> list[dict[str, Any]]:
    """How many of four words are red and not green."""
    rows = []
    for _ in range(COUNT):
        red = draw.randrange(5)
        colors = ["red"] * red + ["green"] * (4 - red)
        telling = [f"{color}{draw.randrange(6)}" for color in colors]
        rows.append({"text": words(draw), "other": words(draw, *telling), "score": red + 0.5})
    return rows


def _lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


TABLES: dict[str, Callable[[random.Random], str]] = {
    "pairs.jsonl": lambda draw: _lines(_pairs(draw)),
    "relations.jsonl": lambda draw: _lines(_relations(draw)),
    "sentences.conll": _sentences,
    "topics.jsonl": lambda draw: _lines(_topics(draw)),
    "values.jsonl": lambda draw: _lines(_values(draw)),
    "questions.json": partial(_questions, unanswered=2),
}
COLUMNS = {
    "multi-label": {"text": "text", "labels": "topics"},
    "regression": {"text": "other", "value": "score"},
    "pair-regression": {"text": "text", "text_pair": "other", "value": "score"},
    "pair-classification": {"text": "premise", "text_pair": "hypothesis", "label": "label"},
    "relation": {"marked": "sentence", "label": "relation"},
}
DATA = {
    "pair-classification": ("pairs.jsonl", "table"),
    "relation": ("relations.jsonl", "table"),
    "token-classification": ("sentences.conll", "conll"),
    "extractive-qa": ("questions.json", "squad"),
    "multi-label": ("topics.jsonl", "table"),
    "regression": ("values.jsonl", "table"),
    "pair-regression": ("values.jsonl", "table"),
}
"""By kind: the file, and what reads it."""


def make(folder: Path, own: Path, target: str) -> None:
    """A project in `folder`: a case whose target is of the kind `target`, and which is to keep a
    task of every other kind. Tasks are named like their kinds. `own`: of tests/conftest.py."""
    sources = folder / tiny.OWN
    sources.mkdir(parents=True)
    for path in own.glob("*.jsonl"):
        (sources / path.name).write_bytes(path.read_bytes())
    write_model(sources / "model")
    for name, table in TABLES.items():
        (sources / name).write_text(table(random.Random(name)), encoding="utf-8")
    params = tiny.make_params(folder)
    for kind, (name, reader) in DATA.items():
        data: dict[str, Any] = {"reader": reader, **tiny.pinned(folder, f"{tiny.OWN}/{name}")}
        if kind in COLUMNS:
            data["columns"] = COLUMNS[kind]
        params["tasks"][kind] = {"kind": kind, "data": data, **SIZES}
    params["tasks"]["relation"]["negative"] = "none"
    others = [kind for kind in DATA if kind != target]
    retain = [*others, *tiny.RETAIN[: max(2, 3 - len(others))]]
    params["cases"] = {CASE: {"model": "bert", "targets": [target], "retain": retain}}
    base = params["runs"]["full"]
    full = {**base, "case": CASE, "teacher": f"models/base/{CASE}.json", "head": "probe"}
    params["runs"] = {"full": full}
    params["variants"] = {"full": ["wise-0.5"]}
    params["evaluation"]["precision"] = "fp32"
    tiny.write_params(folder, params)
