"""Conversations: what is learned of them, and how a model is asked to go on with one."""

import json
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import tiny_causal
import tiny_completions
import torch
import transformers
from tiny_completions import ANIMALS, CASE, CRIES, DEEDS, METRICS

from stages import check
from stages.config.readers import Table
from stages.errors import UserError
from stages.models.causal import CausalTokenizer, load_causal
from stages.records import read_records
from stages.scoring.causal import CausalScorer
from stages.sources.pinned import open_source
from stages.storage import read_json, sha256_path
from stages.tasks.examples import Examples, Task, read_examples
from stages.tasks.table import read_table_rows
from stages.training.causal import CausalTrainee, tokenise

pytestmark = pytest.mark.usefixtures("one_thread")

TARGET = "talk"
RUNS: dict[str, dict[str, Any]] = {"full": {"steps": 80}}
MARKED = tiny_causal.TEMPLATE.replace(
    "{{ m['content'] }}<eos>",
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<eos>{% endgeneration %}"
    "{% else %}{{ m['content'] }}<eos>{% endif %}",
)
TALK = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "the cat?"},
    {"role": "assistant", "content": "meow"},
    {"role": "user", "content": "the dog?"},
    {"role": "assistant", "content": "bark bark"},
]


def _rows() -> list[dict[str, Any]]:
    draw = random.Random(0)
    rows = []
    for number in range(tiny_completions.COUNT):
        messages: list[dict[str, str]] = []
        for _ in range(1 + number % 2):
            at = draw.randrange(len(ANIMALS))
            other, deed = draw.choice(ANIMALS), draw.choice(DEEDS)
            asked = tiny_completions.asked(ANIMALS[at], other, deed, 100 + number)
            messages += [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": f"{CRIES[at]} and {CRIES[at]}"},
            ]
        rows.append({"talk": messages})
    return rows


def _task(project: Path) -> dict[str, Any]:
    lines = [json.dumps(row) for row in _rows()]
    (project / f"own/{TARGET}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = tiny_completions.task(project, TARGET, "exact-match")
    data = {**task["data"], "columns": {"messages": "talk"}}
    return {**task, "kind": "chat", "data": data, "max_length": 96}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    tiny_causal.write_sources(folder)
    others = {TARGET: _task(folder)}
    tiny_completions.make(folder, {"kind": "causal"}, RUNS, target=TARGET, others=others)
    tiny_completions.run_stages(folder, RUNS)
    return folder


def test_it_learns_to_answer_and_is_asked_for_the_last_turn(project: Path) -> None:
    retention = read_json(project / "metrics/retention.json")[CASE]["full"]
    assert retention["gain"][TARGET] > 0.3
    assert set(retention["drop"]) == set(METRICS)
    found, _ = read_records(project / f"metrics/records/{CASE}/full.parquet")
    chosen = (found["task"] == TARGET) & (found["split"] == "test") & (found["variant"] == "final")
    rows = found[chosen].set_index("example_id").to_dict("index")
    test = read_examples(project / f"data/{CASE}/target/test/{TARGET}.parquet")
    folder = project / "models/tuned/full/seed-0"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(project / "own/model")
    for example_id, messages in zip(test.column("example_id"), test.conversations(), strict=True):
        given = tokenizer.apply_chat_template(
            messages[:-1], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            written = model.generate(
                **given,
                do_sample=False,
                max_new_tokens=16,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )[0, given["input_ids"].shape[1] :]
        text = tokenizer.decode(written, skip_special_tokens=True).strip()
        row = rows[example_id]
        assert row["prediction"] == text
        assert json.loads(row["target"]) == [messages[-1]["content"]]
        assert row["score"] == float(text == messages[-1]["content"])


def _tokenizer(folder: Path, template: str | None) -> CausalTokenizer:
    tiny_causal.write_model(folder)
    (folder / "chat_template.jinja").unlink()
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return CausalTokenizer(folder, 256)


def _examples(*conversations: list[dict[str, str]], **options: Any) -> Examples:
    rows = pd.DataFrame(
        {
            "prompt": "",
            "roles": [[one["role"] for one in talk] for talk in conversations],
            "contents": [[one["content"] for one in talk] for talk in conversations],
            "example_id": [f"id{n}" for n in range(len(conversations))],
            "group": "g",
            "slice": "s",
        }
    )
    told = {"max_new_tokens": 8, "metric": "f1"} | options
    return Examples(Task("talk", "chat", 200, (), told), rows)


@pytest.mark.parametrize("template", [tiny_causal.TEMPLATE, MARKED])
def test_all_turns_of_the_assistant_are_learned_and_nothing_else(
    template: str, tmp_path: Path
) -> None:
    tokenizer = _tokenizer(tmp_path, template)
    ids, marks = tokenizer.conversation(TALK)
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert ids == plain.apply_chat_template(TALK, return_dict=False)
    turns = "".join(
        plain.decode([one]) if mark else "|" for one, mark in zip(ids, marks, strict=True)
    )
    assert [part for part in turns.split("|") if part] == ["meow<eos>", "bark bark<eos>"]
    assert tokenizer.turn_end(TALK) == tokenizer.end_id
    asked = tokenizer.asked(TALK[:-1])
    assert ids[: len(asked)] == asked
    assert marks[len(asked)] == 1


def test_the_loss_is_that_of_the_marked_tokens(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path, tiny_causal.TEMPLATE)
    rows = tokenise(_examples(TALK, TALK[1:3], max_new_tokens=32), tokenizer)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    trainee = CausalTrainee(model, tokenizer.pad_id).eval()
    with torch.inference_mode():
        losses = trainee(rows, [0, 1]).losses.tolist()
        for loss, talk in zip(losses, (TALK, TALK[1:3]), strict=True):
            ids, marks = tokenizer.conversation(talk)
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            places = [at for at, mark in enumerate(marks) if mark]
            nats = -sum(float(logprobs[at - 1, ids[at]]) for at in places)
            assert loss == pytest.approx(nats, rel=1e-4)
    assert rows.weight([0]) == sum(tokenizer.conversation(TALK)[1])


def test_a_conversation_without_an_answer_shifts_no_other(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path, tiny_causal.TEMPLATE)
    users = [one for one in TALK if one["role"] == "user"][:1]
    rows = tokenise(_examples(TALK, users, TALK[1:3], max_new_tokens=32), tokenizer)
    assert list(rows.owners) == [0, 2]
    assert len(rows) == 2


def test_a_long_conversation_keeps_its_end(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path, tiny_causal.TEMPLATE)
    examples = _examples(TALK)
    examples = Examples(Task("talk", "chat", 20, (), examples.task.options), examples.rows)
    rows = tokenise(examples, tokenizer)
    ids, marks = tokenizer.conversation(TALK)
    last = len(tokenizer.asked(TALK[:-1]))
    assert rows.ids == [ids[last - 12 : last + 8]]
    assert rows.marks == [[0, *marks[last - 11 : last + 8]]]


@pytest.mark.parametrize("kind", ["chat", "instruction-following", "refusal"])
@pytest.mark.parametrize("turn", ["<|im_end|>", "<eos>"])
def test_an_answer_ends_with_the_turn_though_that_is_no_end_of_text(
    turn: str, kind: str, tmp_path: Path
) -> None:
    """As of ChatML, where the tokenizer's own end is that of a text."""
    tiny_causal.write_model(tmp_path)
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    plain.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    plain.chat_template = tiny_causal.TEMPLATE.replace("<eos>", turn)
    plain.save_pretrained(tmp_path)
    model = load_causal(tmp_path)
    model.resize_token_embeddings(len(plain))
    said = iter(plain.encode(f"meow{turn}\nthen on and on", add_special_tokens=False))

    def say(_: object, __: object, logits: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(logits).index_fill(-1, torch.tensor(next(said)), 1.0)

    model.get_output_embeddings().register_forward_hook(say)
    scorer = CausalScorer(model, CausalTokenizer(tmp_path, 256), 64, 2, False)
    if kind == "chat":
        records = scorer.completions(_examples(TALK, TALK[1:3]), "test").records
    else:
        told = {"prompt": ["a", "b"], "example_id": ["a", "b"], "group": "g", "slice": "s"}
        rows = pd.DataFrame({**told, "check": "lower-case", "argument": "", "expected": "answer"})
        asked = Examples(Task("asked", kind, 200, (), {}), rows)
        ask = scorer.refusals if kind == "refusal" else scorer.instructions
        records = ask(asked, "test", max_new_tokens=8).records
    assert records["prediction"].tolist() == ["meow", "meow"]
    ended = len(plain.encode("meow", add_special_tokens=False)) + (turn != "<eos>")
    assert records["tokens"].tolist() == [ended, ended]


DATED = (
    "\n  {% macro told(name) %}{{ name }}: {{ strftime_now('%d %b %Y') }}{% endmacro %}"
    '{% if strftime_now is defined %}{% set day = strftime_now("%Y-%m-%d") %}{% endif %}'
    "{{ told('today') + ', ' + day }} {{ strftime_now('%A, %-d %B %Y, %H:%M') }}" + MARKED
)
FIXED = "\ntoday: 26 Jul 2024, 2024-07-26 Friday, 26 July 2024, 00:00" + MARKED


@pytest.mark.parametrize("year", [2025, 2026])
def test_a_template_that_tells_the_date_is_told_the_same_one_every_day(
    year: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            return cls(year, 3, 4, 5, 6)

    monkeypatch.setattr(transformers.utils.chat_template_utils, "datetime", Clock)
    dated, fixed = _tokenizer(tmp_path / "dated", DATED), _tokenizer(tmp_path / "fixed", FIXED)
    assert dated.asked(TALK[:-1]) == fixed.asked(TALK[:-1])
    assert dated.conversation(TALK) == fixed.conversation(TALK)
    assert dated.turn_end(TALK) == fixed.turn_end(TALK)
    assert "today: 26 Jul 2024" in dated.decode(dated.asked(TALK[:-1]))


REWRITING = "{% for m in messages %}<bos>{{ m['content'] if loop.last else '…' }}<eos>{% endfor %}"
REFUSING = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (REWRITING, "writes message 3 of a conversation otherwise once more follows"),
        (REFUSING, "the chat template refuses a conversation (system, user, assistant, user, ass"),
        (None, "the tokenizer has no chat template; leave tasks of the kinds chat, instruction"),
    ],
)
def test_a_template_that_will_not_do(template: str | None, said: str, tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path, template)
    with pytest.raises(UserError) as caught:
        tokenise(_examples(TALK), tokenizer)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_template_is_told_when_params_are_read_or_in_prepare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_causal.write_sources(tmp_path)
    (tmp_path / "own/model/chat_template.jinja").unlink()
    others = {TARGET: _task(tmp_path)}
    tiny_completions.make(tmp_path, {"kind": "causal"}, RUNS, target=TARGET, others=others)
    lacking = "its tokenizer has no chat template (chat_template.jinja, or chat_template in"
    with pytest.raises(UserError) as caught:
        check.check()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"params.yaml: cases.{CASE}.targets = {TARGET!r}: writer: {lacking}")
    assert line.endswith("give a model with one, or tasks of kind completion")
    with pytest.raises(UserError) as caught:
        tiny.run_stage("prepare", CASE)
    assert f"task {TARGET}: file:own/model: {lacking}" in str(caught.value)


def _read(path: Path, cell: Any) -> list[Any]:
    if path.suffix == ".parquet":
        pd.DataFrame({"talk": [cell]}).to_parquet(path)
    else:
        path.write_text(json.dumps({"talk": cell}), encoding="utf-8")
    pin = {"source": f"file:{path}", "sha256": sha256_path(path)}
    config = Table.model_validate({"reader": "table", **pin, "columns": {"messages": "talk"}})
    return read_table_rows(open_source(**pin), config).to_dict("records")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_messages_become_roles_and_contents(suffix: str, tmp_path: Path) -> None:
    thanks = {"role": "user", "content": "thanks"}
    (row,) = _read(tmp_path / f"rows{suffix}", [*TALK, thanks])
    assert row["roles"] == [one["role"] for one in TALK]
    assert row["contents"] == [one["content"] for one in TALK]
    assert row["prompt"] == "Be short.\nthe cat?\nmeow\nthe dog?"


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("hello", "is no list of messages, as jsonl and parquet have"),
        ([], "is no list of messages"),
        ([{"role": "user"}], "message 1 has no role and content"),
        ([*TALK[:2], {"role": "tool", "content": "x"}], "message 3: role 'tool': give one of sys"),
        ([{"role": "user", "content": [1]}], "message 1: its content is no text"),
        (TALK[:2], "holds no message of the assistant's: there is nothing to learn"),
        ([TALK[2]], "holds nothing before the assistant's last message to answer"),
        ([TALK[1], {**TALK[2], "content": " "}], "ends with an empty message of the assistant's"),
    ],
)
def test_a_wrong_conversation(cell: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="row 1, column 'talk'") as caught:
        _read(tmp_path / "rows.jsonl", cell)
    assert said in str(caught.value)
