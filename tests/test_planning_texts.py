"""How long the plan takes a task's rows for, beside what training and scoring make of them."""

import json
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import tiny_causal
import tiny_kinds
import tiny_seq2seq
from test_plan import SHAPE, TEXTS, case, config, evaluation

from stages.config.cases import CaseConfig
from stages.config.tasks import TaskConfig
from stages.models.causal import CausalTokenizer
from stages.models.seq2seq import Seq2SeqTokenizer
from stages.models.texts import Tokenizer
from stages.planning import memory, work
from stages.planning.case import Case, Recipe
from stages.planning.shape import of_config
from stages.planning.texts import (
    CHAT_TOKENS,
    TURN_TOKENS,
    Texts,
    _lengths,
    _written,
    bound,
    counted,
)
from stages.scoring.likelihood import windows
from stages.tasks.examples import SPLITS, Examples, Task, path_of, write_examples
from stages.training import causal, seq2seq

LONG = "the cat saw the dog " * 10


def words(texts: Any) -> list[int]:
    return [len(text.split()) for text in texts]


def _task(kind: str, most: int, **options: Any) -> Task:
    return Task("t", kind, most, (), options)


def test_choices_are_cut_with_their_context() -> None:
    rows = pd.DataFrame(
        {"context": ["a b c", LONG], "choices": [["d", "e f"], ["d", "e f", "g h"]]}
    )
    read, learned, judged = _lengths(_task("multiple-choice", 20), rows, words)
    assert judged == [3, 5]
    assert learned == [5, 20]
    assert read == [3 + 3, 3 * 20]  # together, but where the context loses its beginning


def test_choices_are_as_long_as_those_that_are_asked_and_learned(tmp_path: Path) -> None:
    tiny_causal.write_model(tmp_path)
    tokenizer = CausalTokenizer(tmp_path, 256)
    choices = [[" ran home, and then", " ran"]] * 2
    told = {"context": ["the cat", LONG], "choices": choices, "answer": [0, 0]}
    task, rows = _task("multiple-choice", 30), pd.DataFrame(told)

    def tokens(texts: Any) -> list[int]:
        return [len(ids) for ids in map(tokenizer.encode, texts)]

    read, learned, _ = _lengths(task, rows, tokens)
    trained = causal.tokenise(Examples(task, rows), tokenizer)
    assert learned == pytest.approx(trained.lengths([0, 1]), abs=1)
    whole = [tokenizer.pair(LONG, one) for one in choices[1]]
    asked = [len(one.read) for pair in whole for one in windows(0, *pair, 30, None)]
    assert read[1] == sum(asked) == 2 * 30


@pytest.mark.parametrize("model", ["causal", "seq2seq"])
def test_completions_are_as_long_as_those_that_are_learned(model: str, tmp_path: Path) -> None:
    """Of an encoder and a decoder the prompt has all of max_length."""
    told = {"prompt": ["the cat", LONG], "completion": [["ran home"], [LONG]]}
    task, rows = _task("completion", 40, max_new_tokens=12), pd.DataFrame(told)
    if model == "causal":
        tiny_causal.write_model(tmp_path)
        read_by: Any = CausalTokenizer(tmp_path, 256)
        trained: Any = causal.tokenise(Examples(task, rows), read_by)
        expected, encode = trained.lengths([0, 1]), read_by.encode
        prompts = trained.starts
    else:
        tiny_seq2seq.write_model(tmp_path, sorted({*LONG.split(), "ran", "home"}), 0)
        read_by = Seq2SeqTokenizer(tmp_path, 64)
        trained = seq2seq.tokenise(Examples(task, rows), read_by)
        prompts = [len(ids) for ids in trained.ids]
        expected = [p + len(ids) for p, ids in zip(prompts, trained.labels, strict=True)]

        def encode(text: str) -> list[int]:
            return list(read_by([text], 10_000)[0])

    read, learned, judged = _lengths(
        task, rows, lambda texts: [len(encode(t)) for t in texts], model
    )
    assert read == prompts
    assert learned == pytest.approx(expected, abs=1)
    assert judged == pytest.approx([n - p for n, p in zip(expected, prompts, strict=True)], abs=1)
    assert read[1] == (28 if model == "causal" else 40) and judged[1] == 12


def test_windows_are_as_long_as_those_that_are_read(tmp_path: Path) -> None:
    """Of contexts that fit, that just do not, and that take many; of a question that is cut."""
    tiny_kinds.write_model(tmp_path)
    tokenizer, most, word = Tokenizer(tmp_path, 10_000), 24, f"{tiny.FILLER[0]} "

    def tokens(texts: Any) -> list[int]:
        return [len(ids) for ids in tokenizer(list(texts), 10_000)]

    questions = [word * count for count in (3, 3, 3, 20)]
    contexts = [word * count for count in (18, 19, 100, 57)]
    rows = pd.DataFrame({"question": questions, "context": contexts})
    read, learned, judged = _lengths(_task("extractive-qa", most), rows, tokens)
    expected = tokenizer.windows(questions, contexts, most)
    assert learned == judged == [len(ids) for ids in expected.ids]
    assert expected.owners is not None
    assert len(learned) > 10
    each = zip(expected.owners, learned, strict=True)
    assert read == [sum(n for _, n in of_row) for _, of_row in groupby(each, lambda one: one[0])]


def test_windows_are_rows_in_training() -> None:
    """Ten examples that are relearned are fifty; of rows that a teacher reads each is one."""
    whole = replace(TEXTS, kind="extractive-qa", read=(24,), learned=(24,), judged=24.0)
    parted = replace(whole, read=(5 * 24,), learned=(24,) * 5)
    shape, taught = replace(SHAPE, causal=False), config(methods={"lwf": {"weight": 0.1}})
    costs = []
    for texts in (whole, parted):
        of = replace(case(shape), texts=dict.fromkeys("tab", texts))
        held = memory.retention(of, evaluation(batch_tokens=16), "fp32", host=True, room=0.0)
        costs.append((held.batch, work.finetune(of, Recipe("full", taught, ()))["read"]))
    assert costs[1][0] == pytest.approx(5 * costs[0][0])
    assert costs[1][1] == pytest.approx(costs[0][1])


TALK = [("user", "a b c"), ("assistant", "d e"), ("user", LONG), ("assistant", "f g h")]


def test_all_that_the_assistant_says_is_learned() -> None:
    told = {"roles": [[role for role, _ in TALK]], "contents": [[text for _, text in TALK]]}
    rows = pd.DataFrame(told)
    read, learned, judged = _lengths(_task("chat", 200, max_new_tokens=8), rows, words)
    assert read == [3 + 2 + 50 + CHAT_TOKENS + 2 * TURN_TOKENS]
    assert (learned, judged) == ([read[0] + 3], [2 + 3])
    # Cut as a completion is: of the last answer 2 tokens, before it 20 - 2.
    assert _lengths(_task("chat", 20, max_new_tokens=2), rows, words) == ([18], [20], [4])


def test_a_refusal_is_asked_as_a_chat() -> None:
    rows = pd.DataFrame({"prompt": ["a b c"], "expected": ["refuse"]})
    asked = [3 + CHAT_TOKENS]
    assert _lengths(_task("refusal", 20, max_new_tokens=8), rows, words) == (asked, asked, [0])


@pytest.mark.parametrize(
    ("requests", "read", "judged"),
    [
        ([["a b c", "d"], ["a b c", "e f"]], 3 + 3, 3),  # a context once
        ([["a b", "d"], ["a c c", "d"]], 2 + 3 + 2, 2),  # several contexts
        ([[LONG, "d"], [LONG, "e f"]], 2 * 20, 3),
        ([[LONG]], 50, 50),  # a whole text, in windows
        ([["a b", {"until": ["\n"], "max_gen_toks": 8}]], 2, 0),
        ([[LONG, {"until": ["\n"], "max_gen_toks": 8}]], 20 - 8, 0),
    ],
)
def test_requests_of_lm_eval(requests: list[list[Any]], read: int, judged: int) -> None:
    pytest.importorskip("lm_eval")
    rows = pd.DataFrame({"requests": [json.dumps(requests)]})
    assert _lengths(_task("lm-eval", 20), rows, words) == ([read], [read], [judged])


def _prepared(task: Task, rows: dict[str, Any], count: int = 2) -> None:
    """As `prepare` leaves a task of the case c, `count` rows a split."""
    told = {name: [value] * count for name, value in rows.items()}
    frame = pd.DataFrame({**told, "slice": "all", "group": "g", "example_id": "i"})
    for split in SPLITS:
        write_examples(path_of("c", "target", split, task.name), Examples(task, frame))


def test_what_lm_eval_asks_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own settings, and 256 tokens where they are silent."""
    pytest.importorskip("lm_eval")
    monkeypatch.chdir(tmp_path)
    tiny_causal.write_model(tmp_path / "model")
    for settings, most in (({"max_gen_toks": 8}, 8), ({"until": ["\n"]}, 256)):
        requests = json.dumps([["the cat", settings]])
        _prepared(_task("lm-eval", 512), {"requests": requests}, count=3)
        found = counted("c", "target", "t", tmp_path / "model", "causal")
        assert found and found.written == {"validation": 3 * most, "test": 3 * most}
        assert (found.judged, found.answer) == (0, most)


def test_a_model_reads_no_further_than_its_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_causal.write_model(tmp_path / "model")
    longest = of_config(tmp_path / "model", "causal").longest
    assert longest == 256
    _prepared(_task("language-modelling", 10_000), {"prompt": "", "text": LONG * 20})
    found = counted("c", "target", "t", tmp_path / "model", "causal", longest)
    assert found and set(found.read) == {256}


def _config(kind: str, **settings: Any) -> TaskConfig:
    columns = {"completion": {"prompt": "p", "completion": "c"}, "chat": {"messages": "m"}}[kind]
    source = {"source": "file:own/t.jsonl", "sha256": "0" * 64}
    told = {
        "kind": kind,
        "data": {"reader": "table", **source, "columns": columns},
        "max_length": 48,
        "train": 60,
        "validation": 10,
        "test": 20,
        "max_new_tokens": 16,
        "metric": "f1",
    }
    return TaskConfig.model_validate({**told, **settings})


@pytest.mark.parametrize(
    ("kind", "model"), [("completion", "causal"), ("completion", "seq2seq"), ("chat", "causal")]
)
def test_a_bound_is_no_less_than_what_is_counted(kind: str, model: str) -> None:
    """Of rows that are as long as can be, in tokens, in operations and in what is written."""
    most = bound(_config(kind), model)
    task = _task(kind, 48, max_new_tokens=16, metric="f1")
    rows: dict[str, dict[str, Any]] = {
        "completion": {"prompt": [LONG], "completion": [[LONG]]},
        "chat": {"roles": [["user", "assistant"] * 2], "contents": [[LONG] * 4]},
    }
    read, learned, judged = _lengths(task, pd.DataFrame(rows[kind]), words, model)
    counts = {"train": 60, "validation": 10, "test": 20}
    written = _written(kind, counts, 16, None, 1)
    found = Texts(kind, counts, read, learned, judged[0], written, 0, True)
    assert max(read) <= most.read[0]
    assert max(learned) <= most.learned[0]
    assert judged[0] <= most.judged
    assert found.written == most.written
    assert most.answer == 16
    told = CaseConfig.model_validate({"model": "m", "targets": ["t"], "retain": ["a", "b"]})
    costs = [
        work.trained_on(Case("one", told, SHAPE, {"t": texts}), texts, 10)
        for texts in (found, most)
    ]
    assert costs[0] <= costs[1]


def test_a_bound_ends_where_the_positions_do() -> None:
    found = bound(_config("completion", max_length=4096), "causal", 256)
    assert (found.read, found.judged) == ((256,), 16)
