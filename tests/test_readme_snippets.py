"""Bring your own: the README's entries for params.yaml, their placeholders filled, go through."""

import json
import re
import shutil
from pathlib import Path

import pytest
import tiny
from test_new import write_table

from stages.check import check
from stages.config.inserting import insert
from stages.errors import UserError

README = (tiny.ROOT / "README.md").read_text(encoding="utf-8")
LINES = 15
ZEROS = 64 * "0"


def snippet(heading: str) -> str:
    """The first YAML under a heading."""
    section = README[README.index(f"\n## {heading}\n") :]
    found = re.search(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
    assert found and len(found[1].splitlines()) < LINES
    return str(found[1])


def fill(text: str, **filled: str) -> str:
    """`text` with each of these lines' values replaced, comments left out; a key may change."""
    for key, line in filled.items():
        text, count = re.subn(rf"(?m)^( *){key}: .*$", rf"\g<1>{line}", text)
        assert count == 1, key
    return text


def pin(key: str) -> str:
    """The sha256 that the stage asks for where it is 64 zeros."""
    with pytest.raises(UserError) as error:
        tiny.run_stage("prepare", "tickets-bert")
    told: str
    (told,) = set(re.findall(r"\b[0-9a-f]{64}\b", str(error.value))) - {ZEROS}
    params = Path("params.yaml")
    params.write_text(params.read_text().replace(ZEROS, told, 1))
    return str(told)


def test_a_model_and_data_of_ones_own(bench: Path) -> None:
    shutil.copytree("own/model", "data/raw/model")
    write_table(Path("data/raw/tickets.jsonl"), 2900)
    model = fill(
        snippet("Your own model"),
        source='source: "file:data/raw/model"',
        revision=f'sha256: "{ZEROS}"',
    )
    tasks, cases = fill(snippet("Your own data"), sha256=f'sha256: "{ZEROS}"').split("cases:\n")
    cases = cases.replace("news-retrieval, movie-sentiment", ", ".join(tiny.RETAIN))
    text = Path("params.yaml").read_text(encoding="utf-8")
    for section, block in (("models", model), ("tasks", tasks[7:]), ("cases", cases)):
        text = insert(text, section, block.rstrip())
    Path("params.yaml").write_text(text, encoding="utf-8")
    check()
    assert pin("model") == tiny.pinned(bench, "data/raw/model")["sha256"]
    assert pin("data") == tiny.pinned(bench, "data/raw/tickets.jsonl")["sha256"]
    tiny.run_stage("prepare", "tickets-bert")
    card = json.loads(Path("metrics/cards/tickets-bert.json").read_text())["tasks"]["tickets"]
    assert card["rows"] == {"train": 2000, "validation": 300, "test": 500}
    assert set(card) >= {"groups", "duplicates"}


def test_a_retain_task_of_ones_own(bench: Path) -> None:
    write_table(Path("data/raw/tickets.jsonl"), 2900)
    pinned = tiny.pinned(bench, "data/raw/tickets.jsonl")["sha256"]
    tasks = fill(snippet("Your own data"), sha256=f"sha256: {pinned}").split("cases:\n")[0]
    params = Path("params.yaml")
    params.write_text(insert(params.read_text(), "tasks", tasks[7:].rstrip()))
    tiny.edit_params(bench, **{f"cases__{tiny.CASE}__retain": [*tiny.RETAIN, "tickets"]})
    tiny.run_stage("prepare", tiny.CASE)
    tiny.run_stage("pretrain_baseline_eval", tiny.CASE)
    told = json.loads(Path(f"metrics/cards/{tiny.CASE}.json").read_text())["tasks"]
    assert told["tickets"]["rows"]["test"] == 500


def test_a_method_of_ones_own_is_short() -> None:
    """test_methods_added.py adds it."""
    text = (tiny.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n.*?(^class .*?)```", text, flags=re.DOTALL | re.MULTILINE)
    assert found and len(found[1].splitlines()) < LINES
