"""Prompts that a causal model completes, in the five stages, against plain transformers calls."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_causal
import tiny_completions
import torch
import transformers
from tiny_completions import CASE, MEASURES, METRICS

from stages.config.readers import Table
from stages.errors import UserError
from stages.models.causal import CausalTokenizer, load_causal
from stages.records import read_records
from stages.scoring.causal import CausalScorer
from stages.sources.pinned import open_source
from stages.statistics.references import SCORES
from stages.storage import read_json, sha256_path
from stages.tasks.examples import Examples, Task, read_examples
from stages.tasks.table import read_table_rows
from stages.training.causal import tokenise

pytestmark = pytest.mark.usefixtures("one_thread")

RUNS: dict[str, dict[str, Any]] = {"full": {}, "lora": {"methods": {"lora": {"r": 4}}}}
TARGET = METRICS[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completions")
    tiny_causal.write_sources(folder)
    tiny_completions.make(folder, {"kind": "causal"}, RUNS, shots=2)
    tiny_completions.run_stages(folder, RUNS)
    return folder


def _records(project: Path, who: str, task: str, condition: str = "clean") -> pd.DataFrame:
    records, _ = read_records(project / f"metrics/records/{CASE}/{who}.parquet")
    chosen = (records["task"] == task) & (records["split"] == "test")
    chosen &= (records["variant"] == "final") & (records["condition"] == condition)
    return records[chosen].set_index("example_id")


def test_gain_drop_gate_and_frontier(project: Path) -> None:
    scores = read_json(project / "metrics/scores.json")[CASE]
    retention = read_json(project / "metrics/retention.json")[CASE]
    gate = read_json(project / "metrics/gate.json")["cases"][CASE]
    for who in ("base", *RUNS):
        for task, measure in MEASURES.items():
            mean = _records(project, who, task)["score"].mean()
            assert scores[who][task][measure]["value"] == pytest.approx(mean, abs=6e-5)
    for run in RUNS:
        for task, measure in MEASURES.items():
            moved = scores[run][task][measure]["value"] - scores["base"][task][measure]["value"]
            told = retention[run]["gain" if task == TARGET else "drop"][task]
            assert told == pytest.approx(moved if task == TARGET else -moved, abs=2e-4)
        assert set(gate[run]["tasks"]) == set(METRICS)
    # Every task asks the same: what was learned of one is known of all.
    assert retention["full"]["gain"][TARGET] > 0.3
    assert all(drop < 0 for drop in retention["full"]["drop"].values())
    found = read_json(project / "metrics/frontier.json")[CASE]
    assert {one["method"] for one in found["attempts"]} >= {"full", "lora"}
    assert found["prompted"]["point"]["name"] == "base@shots-2"
    report = (project / "metrics/report.md").read_text(encoding="utf-8")
    for unit in ("% exact match", "% token F1", "ROUGE-L", "mean sentence chrF"):
        assert unit in report


@torch.inference_mode()
@pytest.mark.parametrize("who", ["base", "full"])
def test_answers_are_those_of_plain_calls(project: Path, who: str) -> None:
    folder = project / "own/model" if who == "base" else project / "models/tuned/full/seed-0"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(project / "own/model")
    test = read_examples(project / f"data/{CASE}/target/test/{TARGET}.parquet")
    found = _records(project, who, TARGET).to_dict("index")
    for example_id, prompt, accepted in zip(
        test.column("example_id"), test.column("prompt"), test.references(), strict=True
    ):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=16,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )[0, ids.shape[1] :]
        text = tokenizer.decode(written, skip_special_tokens=True).strip()
        row = found[example_id]
        assert row["prediction"] == text
        assert json.loads(row["target"]) == accepted
        assert row["score"] == float(text in [one.strip() for one in accepted])
        assert row["bytes"] == len(prompt.encode())


def test_scores_are_of_the_texts_recorded(project: Path) -> None:
    for task in METRICS:
        for row in _records(project, "full", task).to_dict("records"):
            accepted = json.loads(row["target"])
            assert row["score"] == SCORES[task](accepted, row["prediction"])


def test_it_learned_to_stop(project: Path) -> None:
    assert _records(project, "base", TARGET)["tokens"].mean() > 12
    answers = _records(project, "full", TARGET)
    ended = answers["tokens"] < 16
    assert ended.mean() > 0.8


def test_the_completion_alone_is_learned_and_its_end(project: Path) -> None:
    tokenizer = CausalTokenizer(project / "own/model", 256)
    train = read_examples(project / f"data/{CASE}/target/train/{TARGET}.parquet")
    rows = tokenise(train, tokenizer)
    told = zip(rows.ids, rows.starts, train.column("prompt"), train.references(), strict=True)
    for ids, start, prompt, accepted in told:
        assert tokenizer.decode(ids[:start]) == prompt
        assert tokenizer.decode(ids[start:]) == accepted[0]
        assert ids[-1] == tokenizer.end_id == tokenizer.eos_ids[0]


def test_noise_and_shots_are_asked_too(project: Path) -> None:
    clean, noisy = (
        _records(project, "base", "f1", condition) for condition in ("clean", "typos-0.1")
    )
    assert set(clean.index) == set(noisy.index)
    prompted = _records(project, "base", TARGET, "shots-2")
    clean = _records(project, "base", TARGET)
    assert prompted["bytes"].to_dict() == clean["bytes"].to_dict()
    assert not any("\n\n" in text for text in prompted["prediction"])


def _table(path: Path, *rows: Any) -> list[Any]:
    """`path` holds the cells of the column of completions."""
    if path.suffix == ".parquet":
        pd.DataFrame({"ask": "What?", "say": list(rows)}).to_parquet(path)
    else:
        lines = [json.dumps({"ask": "What?", "say": one}) for one in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    pin = {"source": f"file:{path}", "sha256": sha256_path(path)}
    columns = {"prompt": "ask", "completion": "say"}
    config = Table.model_validate({"reader": "table", **pin, "columns": columns})
    return read_table_rows(open_source(**pin), config).to_dict("records")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_one_text_or_several_are_accepted(suffix: str, tmp_path: Path) -> None:
    found = _table(tmp_path / f"several{suffix}", [" so", "thus "], [" so"])
    assert [row["completion"] for row in found] == [[" so", "thus "], [" so"]]
    assert _table(tmp_path / f"one{suffix}", " so") == [{"prompt": "What?", "completion": [" so"]}]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ([], "holds no text: give one that is accepted, or several"),
        (["so", " "], "holds an empty text: there is nothing to write"),
        ("", "holds an empty text"),
        (None, "is empty"),
        ([{"a": 1}], "holds a dict: give text"),
    ],
)
def test_a_wrong_completion(cell: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 1, column 'say'") as caught:
        _table(tmp_path / "rows.jsonl", cell)
    assert said in str(caught.value)


def _examples(prompts: list[str], said: list[list[str]], **options: Any) -> Examples:
    rows = pd.DataFrame({"prompt": prompts, "completion": said, "group": "g", "slice": "s"})
    told = {"max_new_tokens": 8, "metric": "exact-match"} | options
    task = Task("said", "completion", 20, (), told)
    return Examples(task, rows.assign(example_id=[f"id{n}" for n in range(len(rows))]))


def test_a_long_prompt_keeps_its_end_when_learned_and_when_asked(project: Path) -> None:
    """Of max_length = 20 tokens 8 are for the answer, and so 12 for the prompt."""
    model, tokenizer = _scorer(project)
    prompt = "The end of it all is what is asked, not where it began:"
    examples = _examples([prompt, "So:"], [[" yes, of course it is"], [" no"]])
    learned = tokenise(examples, tokenizer)
    whole = tokenizer.encode(prompt)
    assert len(whole) > 12
    assert learned.ids[0][: learned.starts[0]] == whole[-12:]
    assert len(learned.ids[0]) == 20
    assert tokenizer.end_id not in learned.ids[0][1:]  # cut, it does not end here
    assert learned.ids[1][-1] == tokenizer.end_id
    scorer = CausalScorer(model, tokenizer, 64, 2, True)
    found = scorer.completions(examples, "test")
    assert found.truncated == ("id0",)
    ids = torch.tensor([whole[-12:]])
    with torch.inference_mode():
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=tokenizer.end_id,
            pad_token_id=tokenizer.pad_id,
        )[0, 12:]
    assert found.records["prediction"][0] == tokenizer.decode(written.tolist()).strip()


def _scorer(project: Path) -> tuple[Any, CausalTokenizer]:
    model = load_causal(project / "models/tuned/full/seed-0")
    return model, CausalTokenizer(project / "own/model", 256)


def test_an_answer_ends_at_a_line_break_where_that_is_asked(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line break that an answer begins with is not its end."""
    model, tokenizer = _scorer(project)
    scorer = CausalScorer(model, tokenizer, 64, 2, True)
    ids = [tokenizer.encode(text)[1:] for text in ("\nmoo\nand on", "oink")]

    def written(stop: Callable[[list[int]], bool]) -> list[list[int]]:
        ends = ([at for at in range(1, len(one) + 1) if stop(one[:at])] for one in ids)
        return [one[: next(iter(end), None)] for one, end in zip(ids, ends, strict=True)]

    monkeypatch.setattr(CausalScorer, "write", lambda *_, stop: written(stop))
    asked, said = ["a:", "b:"], [["moo"], ["oink"]]
    records = scorer.completions(_examples(asked, said, stop_at_newline=True), "test").records
    assert records["prediction"].tolist() == ["moo", "oink"]
    assert records["score"].tolist() == [1, 1]
    assert records["tokens"][0] == len(tokenizer.encode("\nmoo\n")) - 1
    records = scorer.completions(_examples(asked, said), "test").records
    assert records["prediction"].tolist() == ["moo\nand on", "oink"]
    assert records["score"].tolist() == [0, 1]


def test_a_model_with_no_room_for_a_prompt_says_so(project: Path) -> None:
    tokenizer = CausalTokenizer(project / "own/model", 8)
    with pytest.raises(UserError, match="max_new_tokens = 8: the model reads no more than 8"):
        tokenise(_examples(["a"], [["b"]]), tokenizer)
