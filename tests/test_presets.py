"""params/: entries of public tasks and models, by their schema and on samples of their shape."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import yaml
from test_new import write_table

from stages import new
from stages.config.pin import PinnedModel
from stages.config.readers import Files, Squad
from stages.config.tasks import TaskConfig
from stages.errors import UserError
from stages.sources.pinned import open_source
from stages.storage import read_json, sha256_path
from stages.tasks.examples import SPLITS, read_examples
from stages.tasks.squad import read_squad

FOLDER = tiny.ROOT / "params"
ENTRIES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.iterdir()}
TASKS = {name: told["tasks"][name] for name, told in ENTRIES.items() if "tasks" in told}
MODELS = {name: told["models"][name] for name, told in ENTRIES.items() if "models" in told}
ROWS = 60
WRITTEN = ("alpaca", "gsm8k", "wmt14-en-de", "xsum")
MODEL = dict.fromkeys(WRITTEN, "smollm2")
"""What answers those that no encoder does."""


def test_each_is_one_task_or_one_model() -> None:
    assert sorted([*TASKS, *MODELS]) == sorted(ENTRIES)
    for told in ENTRIES.values():
        ((_, entries),) = told.items()
        assert len(entries) == 1


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_sound_and_pinned(name: str) -> None:
    told = TaskConfig.model_validate(TASKS[name]).data
    assert isinstance(told, Files)
    if told.source.startswith("hf:datasets/"):
        assert told.revision and re.fullmatch(r"[0-9a-f]{40}", told.revision)
    else:
        # No hash is made up: whoever fetches the files is told theirs.
        assert told.source.startswith("file:") and told.sha256 == 64 * "0"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_pinned(name: str) -> None:
    told = MODELS[name]
    pin = {key: told[key] for key in ("source", "revision")}
    assert PinnedModel.model_validate(pin).source.startswith("hf:")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real params.yaml, and params/."""
    shutil.copy(tiny.ROOT / "params.yaml", tmp_path)
    shutil.copytree(FOLDER, tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", TASKS)
def test_a_task_becomes_a_case(name: str, project: Path) -> None:
    """Comments of the entry and all."""
    new.main("trial", f"params/{name}.yaml", MODEL.get(name, "minilm"))
    params = tiny.read_params(project)
    assert params["tasks"][name] == TASKS[name]
    assert params["cases"]["trial"]["targets"] == [name]
    assert params["runs"]["trial-full"]["case"] == "trial"
    entry = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\ntasks:\n")[2]
    assert entry.rstrip("\n") in Path("params.yaml").read_text(encoding="utf-8")


ROLES = {
    "encoder": "text:body,label:team",
    "causal": "text:body",
    "seq2seq": "prompt:body,completion:team",
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_taken_once(name: str, project: Path) -> None:
    """A second case of it finds it there."""
    write_table(project / "data/raw/tickets.jsonl")
    columns = ROLES[MODELS[name]["kind"]]
    if MODELS[name]["kind"] == "seq2seq":
        params = tiny.read_params(project)
        params["tasks"] |= {task: TASKS[task] for task in ("wmt14-en-de", "xsum")}
        tiny.write_params(project, params)
    for case in ("trial", "again"):
        new.main(case, "data/raw/tickets.jsonl", f"params/{name}.yaml", columns)
    params = tiny.read_params(project)
    assert params["models"][name] == MODELS[name]
    assert [params["cases"][one]["model"] for one in ("trial", "again")] == [name, name]


MISTAKES = {
    "no such file": (
        "params/sst3.yaml",
        "minilm",
        "",
        "no such file; did you mean params/sst2.yaml",
    ),
    "columns": ("params/sst2.yaml", "minilm", "text:body", "names its columns: leave COLUMNS out"),
    "a model for data": (
        "params/gpt2.yaml",
        "minilm",
        "",
        "DATA=params/gpt2.yaml: has no single entry under tasks",
    ),
    "a kind that the model has not": (
        "params/sst2.yaml",
        "smollm2",
        "",
        "is classification; a model of kind causal fits multiple-choice",
    ),
    "a model whose like has no case": (
        "params/xsum.yaml",
        "params/t5-small.yaml",
        "",
        "of a model of kind seq2seq to copy, and 0 tasks that it could retain: put 2 under tasks",
    ),
    "no yaml": ("params/torn.yaml", "minilm", "", "DATA=params/torn.yaml: not YAML"),
    "another model of the name": (
        "params/sst2.yaml",
        "params/minilm.yaml",
        "",
        "has another model of the name minilm",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_leaves_params_as_they_were(what: str, project: Path) -> None:
    Path("params/torn.yaml").write_text("tasks: [")
    text = Path("params/roberta-base.yaml").read_text(encoding="utf-8")
    Path("params/minilm.yaml").write_text(text.replace("  roberta-base:", "  minilm:"))
    before = Path("params.yaml").read_bytes()
    *given, said = MISTAKES[what]
    with pytest.raises(UserError, match=said) as caught:
        new.main("trial", *given)
    assert "\n" not in str(caught.value)
    assert Path("params.yaml").read_bytes() == before


def _sst2(split: str, number: int) -> dict[str, Any]:
    return {"idx": number, "sentence": f"{split} film {number} ", "label": number % 2}


def _mnli(split: str, number: int) -> dict[str, Any]:
    texts = {"premise": f"{split} premise {number // 3}", "hypothesis": f"so {number}"}
    return {**texts, "label": number % 3, "idx": number}


def _squad(split: str, number: int) -> dict[str, Any]:
    answers = {"text": [f"name{number}"], "answer_start": [len(split) + 1]}
    about = {"id": str(number), "title": "t", "context": f"{split} name{number} wrote it."}
    return {**about, "question": f"Who wrote {number}?", "answers": answers}


def _gsm8k(split: str, number: int) -> dict[str, Any]:
    return {
        "question": f"{split} Ann has {number} eggs and buys {number}. How many has she?",
        "answer": f"{number} + {number} = <<{number}+{number}={2 * number}>>\n#### {2 * number}",
    }


def _xsum(split: str, number: int) -> dict[str, Any]:
    told = f"{split} bridge {number} was opened.\nIt is long."
    return {"document": told, "summary": f"Bridge {number} is open.", "id": str(number)}


def _wmt14(split: str, number: int) -> dict[str, Any]:
    said = {"de": f"{split} Haus {number} ist alt.", "en": f"{split} house {number} is old."}
    return {"translation": said}


def _alpaca(_: str, number: int) -> dict[str, Any]:
    """Half of the rows have an input; the last has no output."""
    return {
        "instruction": f"Name {number} of them.",
        "input": f"{number} apples" * (number % 2),
        "output": f"Here are {number}." * (number < 2 * ROWS - 1),
        "text": f"Below is an instruction: name {number}",
    }


SHAPES: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "sst2": _sst2,
    "mnli": _mnli,
    "squad": _squad,
    "gsm8k": _gsm8k,
    "xsum": _xsum,
    "wmt14-en-de": _wmt14,
    "alpaca": _alpaca,
}
"""A row of each as its dataset card shows it."""


def _wnut17(split: str) -> str:
    """A word, a tab and its tag a line; a blank line, or one of a tab, between sentences."""
    told = [
        f"{split}{number}\tO\nEmpire\tB-location\nState\tI-location\n" for number in range(ROWS)
    ]
    return ("\t\n" if split == "test" else "\n").join(told)


def write_sample(name: str, folder: Path) -> None:
    for split, file in TASKS[name]["data"]["files"].items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == "wnut17":
            path.write_text(_wnut17(split), encoding="utf-8")
        else:
            count = 2 * ROWS if split == "all" else ROWS
            rows = [SHAPES[name](split, number) for number in range(count)]
            pq.write_table(pa.Table.from_pylist(rows), path)


LABELS = {
    "sst2": ("0", "1"),
    "mnli": ("0", "1", "2"),
    "wnut17": ("B-location", "I-location", "O"),
}


COLUMN = {"squad": "context", **dict.fromkeys(WRITTEN, "prompt")}
"""What the sample's text is in, where it is not `text`."""
ASKED: dict[str, Callable[[int], tuple[str, str]]] = {
    "gsm8k": lambda number: (
        f"test Ann has {number} eggs and buys {number}. How many has she?\n",
        f"{number} + {number} = <<{number}+{number}={2 * number}>>\n#### {2 * number}",
    ),
    "xsum": lambda number: (
        f"summarize: test bridge {number} was opened.\nIt is long.\nTL;DR:",
        f" Bridge {number} is open.",
    ),
    "wmt14-en-de": lambda number: (
        f"translate English to German: test house {number} is old.\n",
        f"test Haus {number} ist alt.",
    ),
    "alpaca": lambda number: (
        f"### Instruction:\nName {number} of them.\n\n### Input:\n"
        f"{f'{number} apples' if number % 2 else ''}\n\n### Response:\n",
        f"Here are {number}.",
    ),
}
"""What becomes of a row of those that are written: prompt and completion."""


@pytest.mark.parametrize("name", TASKS)
def test_a_sample_of_the_same_shape_is_prepared(
    name: str, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(own, tmp_path / tiny.OWN)
    write_sample(name, tmp_path / "data/raw" / name)
    sizes = {"max_length": 32, "train": 30, "validation": 10, "test": 20}
    if "max_new_tokens" in TASKS[name]:
        sizes["max_new_tokens"] = 8
    data = {key: told for key, told in TASKS[name]["data"].items() if key != "revision"}
    data |= tiny.pinned(tmp_path, f"data/raw/{name}")
    params = tiny.make_params(tmp_path)
    params["tasks"][name] = {**TASKS[name], "data": data, **sizes}
    params["cases"][tiny.CASE]["targets"] = [name]
    tiny.write_params(tmp_path, params)
    monkeypatch.chdir(tmp_path)
    tiny.run_stage("prepare", tiny.CASE)
    where = Path("data", tiny.CASE, "target")
    found = [read_examples(where / split / f"{name}.parquet") for split in SPLITS]
    assert [len(one) for one in found] == [30, 10, 20]
    assert found[0].task.labels == LABELS.get(name, ())
    texts = found[2].column(COLUMN.get(name, "text"))
    if name in ASKED:
        told = [(text, one) for text, (one,) in zip(texts, found[2].references(), strict=True)]
        assert set(told) <= {ASKED[name](number) for number in range(2 * ROWS)}
    else:
        assert all(text.startswith("test") for text in texts)
    card = read_json(Path(f"metrics/cards/{tiny.CASE}.json"))
    assert card["tasks"][name]["empty"] == (name == "alpaca")
    if name == "squad":
        for context, answers, starts in found[2].rows[["context", "answers", "starts"]].values:
            assert context.startswith(answers[0], starts[0])


def test_parquet_that_is_not_squads(tmp_path: Path) -> None:
    def told(**row: Any) -> str:
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "x.parquet")
        with pytest.raises(UserError) as caught:
            _read(tmp_path / "x.parquet")
        return str(caught.value)

    answers = {"text": ["b", "c"], "answer_start": [0]}
    assert "x.parquet: is not Parquet as SQuAD" in told(question="a", context="b")
    said = told(question="a", context="b", answers=answers)
    assert "x.parquet, row 1: is not what SQuAD has" in said
    wrong = {"text": ["c"], "answer_start": [0]}
    said = told(question="a", context="b", answers=wrong)
    assert "row 1, column 'answers': 'c' does not stand at character 0" in said


def _read(path: Path) -> None:
    told = {"reader": "squad", "source": f"file:{path}", "sha256": sha256_path(path)}
    config = Squad.model_validate(told)
    read_squad(open_source(config.source, sha256=config.sha256), config)
