"""The benchmark's tasks, for lm-evaluation-harness: python -m tests.benchmarks.make_tasks <folder>

The rows come from the sources that params.yaml pins.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stages import errors
from stages.config.seed import read_seed
from stages.config.tasks import read_tasks
from stages.errors import UserError
from stages.storage import atomic_file, content_id
from stages.tasks.choices import choose
from stages.tasks.reading import read_rows

Row = dict[str, Any]
TEMPLATES = Path(__file__).parent / "tasks"

NEWS, CAPITALS, AGREEMENT = "news-retrieval", "capitals", "agreement"
HEADLINES, PAIRS, QUESTIONS, SHOTS, TEXTS, PROMPTS = 150, 800, 150, 5, 100, 48
WORDS = 150
"""Of an article: about 200 tokens."""
SHORTEST, LONGEST = 20, 120
"""Words of the prompts that are to be continued."""
ENDS = {"has": "been easy to remember", "have": "been easy to remember"}
END = "easy to remember"
"""How a sentence of a pair goes on after its verb."""


def make_rows(
    articles: pd.DataFrame, capitals: pd.DataFrame, agreement: pd.DataFrame, seed: int
) -> dict[str, list[Row]]:
    """The rows of each file, in an order drawn by `seed`, so that the first ones are a sample."""
    articles = _shuffled(articles.drop_duplicates("document").drop_duplicates("query"), seed)
    questions = _shuffled(capitals, seed)
    shots, questions = questions[:SHOTS], questions[SHOTS:][:QUESTIONS]
    return {
        "headlines": _headlines(articles, seed),
        "pairs": [_pair(row) for row in _rows(_shuffled(agreement, seed)[:PAIRS])],
        "five_shot": [_question(row) for row in _rows(questions)],
        "five_shot.shots": [_question(row) for row in _rows(shots)],
        "rolling": [{"text": _words(text, 0, WORDS)} for text in articles["document"][:TEXTS]],
        "generation": _prompts(articles, seed),
    }


def write_tasks(folder: Path, rows: Mapping[str, list[Row]]) -> None:
    """`<name>.jsonl` of each name in `rows`, and the tasks that read them from there."""
    folder = folder.resolve()
    for name, listed in rows.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in listed)
        _write(folder / f"{name}.jsonl", lines)
    for template in sorted(TEMPLATES.glob("*.yaml")):
        task = yaml.safe_load(template.read_text(encoding="utf-8"))
        # datasets would look for a bare name in the folder that lm-eval is started from.
        files = task["dataset_kwargs"]["data_files"]
        task["dataset_kwargs"]["data_files"] = {
            split: str(folder / name) for split, name in files.items()
        }
        _write(folder / template.name, yaml.safe_dump(task, sort_keys=False))


def _headlines(articles: pd.DataFrame, seed: int) -> list[Row]:
    """The wrong headlines are those of other articles on the same topic."""
    titles = articles.groupby("slice")["query"].agg(list)
    rows = []
    for article in _rows(articles[:HEADLINES]):
        context = f"{_words(article['document'], 0, WORDS)}\nHeadline:"
        choices, answer = choose(seed, context, article["query"], titles[article["slice"]])
        rows.append({"context": context, "choices": choices, "answer": answer})
    return rows


def _pair(row: Row) -> Row:
    sentences = [
        f"{row['context']}{choice} {ENDS.get(choice.strip(), END)}." for choice in row["choices"]
    ]
    good, bad = sentences[row["answer"]], sentences[1 - row["answer"]]
    return {"sentence_good": good, "sentence_bad": bad}


def _question(row: Row) -> Row:
    """`The capital of Peru is`, as a question."""
    country = row["context"].removeprefix("The capital of ").removesuffix(" is")
    return {
        "context": f"Question: Which city is the capital of {country}?\nAnswer:",
        "choices": list(row["choices"]),
        "answer": row["answer"],
    }


def _prompts(articles: pd.DataFrame, seed: int) -> list[Row]:
    rows = []
    for text in articles["document"][:PROMPTS]:
        length = SHORTEST + int(content_id(str(seed), text), 16) % (LONGEST - SHORTEST + 1)
        rows.append({"prompt": _words(text, 0, length), "next": _words(text, length, 50)})
    return rows


def _shuffled(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    key = [content_id(str(seed), row) for row in _rows(rows)]
    return rows.assign(key=key).sort_values("key").drop(columns="key").reset_index(drop=True)


def _rows(table: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _words(text: str, first: int, count: int) -> str:
    return " ".join(text.split()[first : first + count])


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main(*arguments: str) -> None:
    if len(arguments) != 1:
        raise UserError("give one folder: python -m tests.benchmarks.make_tasks <folder>")
    seed = read_seed()
    tasks = read_tasks((NEWS, CAPITALS, AGREEMENT))
    tables = {name: read_rows(task, seed) for name, task in tasks.items()}
    rows = make_rows(tables[NEWS], tables[CAPITALS], tables[AGREEMENT], seed)
    write_tasks(Path(arguments[0]), rows)
    print(", ".join(f"{name}: {len(listed)} rows" for name, listed in rows.items()))


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
