"""A case of one's own, written into params.yaml by `make new`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_causal
import tiny_completions
import tiny_seq2seq
import yaml

from stages import new
from stages.check import check
from stages.config.inserting import insert
from stages.config.kinds import WITH_HEAD
from stages.errors import UserError

RUN = "tickets-full"
ROLES = "text:body,label:team,group:customer"


def write_table(path: Path, rows: int = 160) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = [
        {
            "body": f"ticket {number} {'pay' if number % 2 else 'log'} in",
            "team": "ab"[number % 2],
            "customer": str(number),
        }
        for number in range(rows)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in told))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real params.yaml, and a table of one's own."""
    shutil.copy(tiny.ROOT / "params.yaml", tmp_path)
    write_table(tmp_path / "data/raw/tickets.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_case_of_a_known_model(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    new.main("tickets", "data/raw/tickets.jsonl", "minilm", ROLES)
    assert "run tickets-full (classification, 160 rows)" in capsys.readouterr().out
    after = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    rest = iter(after)
    assert all(line in rest for line in before), "every line of it stands, in its order"
    params = yaml.safe_load("\n".join(after))
    task, case, run = (
        params[section][name]
        for section, name in (("tasks", "tickets"), ("cases", "tickets"), ("runs", "tickets-full"))
    )
    assert task["data"]["sha256"] == tiny.pinned(project, "data/raw/tickets.jsonl")["sha256"]
    assert task["data"]["columns"] == {"text": "body", "label": "team", "group": "customer"}
    assert (task["train"], task["validation"], task["test"]) == (100, 20, 40)
    assert case["targets"] == ["tickets"]
    assert case["retain"] == params["cases"]["medical-bert"]["retain"]
    like = params["runs"]["bert-full"]
    assert run == {**like, "case": "tickets", "teacher": "models/base/tickets.json"}


def test_a_case_of_a_model_in_a_folder(project: Path, encoder: Path) -> None:
    shutil.copytree(encoder, "data/raw/My_BERT.v2")
    new.main("tickets", "data/raw/tickets.jsonl", "data/raw/My_BERT.v2", ROLES)
    model = tiny.read_params(project)["models"]["my-bert-v2"]
    assert model == {
        **tiny.pinned(project, "data/raw/My_BERT.v2"),
        "kind": "encoder",
        "pooling": "mean",
    }
    assert tiny.read_params(project)["cases"]["tickets"]["model"] == "my-bert-v2"


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("GPT2LMHeadModel", "causal"),
        ("SmolLM3ForCausalLM", "causal"),
        ("XLMWithLMHeadModel", "encoder"),
        ("BertForMaskedLM", "encoder"),
    ],
)
def test_the_kind_is_told_by_the_architecture(architecture: str, kind: str) -> None:
    assert new._kind({"architectures": [architecture]}) == kind


def test_what_a_run_is_of_its_own_case_is_not_copied(project: Path) -> None:
    params = tiny.read_params(project)
    first = next(run for run, told in params["runs"].items() if told["case"] == "medical-bert")
    params["runs"][first] |= {"learns": ["medical-qa"], "snapshots": [10], "draw": {"rows": 200}}
    params["variants"][first] = []
    tiny.write_params(project, params)
    new.main("tickets", "data/raw/tickets.jsonl", "minilm", ROLES)
    made = tiny.read_params(project)["runs"]["tickets-full"]
    assert not {"learns", "snapshots", "draw"} & set(made)
    assert made["learning_rate"] == params["runs"][first]["learning_rate"]


def test_a_text_for_a_causal_model(project: Path) -> None:
    new.main("tickets", "data/raw/tickets.jsonl", "smollm2", "text:body")
    params = tiny.read_params(project)
    assert params["tasks"]["tickets"]["kind"] == "language-modelling"
    assert "head" not in params["runs"]["tickets-full"]


def _row(number: int) -> dict[str, Any]:
    """With all columns that some kind of task is made of, under the names of their roles."""
    said = [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": "yes"}]
    return {
        "text": f"one {number}",
        "text_pair": f"two {number}",
        "marked": f"<e1>one</e1> of <e2>{number}</e2>",
        "label": "ab"[number % 2],
        "labels": ["a", "b"],
        "value": number,
        "query": f"what {number}",
        "document": f"that {number}",
        "prompt": f"go on {number}",
        "completion": f" so {number}",
        "messages": said,
        "good": f"it is {number}",
        "bad": f"it are {number}",
    }


KINDS = {
    ("minilm", "text", "text_pair", "label"): "pair-classification",
    ("minilm", "text", "text_pair", "value"): "pair-regression",
    ("minilm", "text", "label"): "classification",
    ("minilm", "text", "labels"): "multi-label",
    ("minilm", "text", "value"): "regression",
    ("minilm", "marked", "label"): "relation",
    ("minilm", "query", "document"): "retrieval",
    ("smollm2", "prompt", "completion"): "completion",
    ("smollm2", "messages"): "chat",
    ("smollm2", "text"): "language-modelling",
}


@pytest.mark.parametrize("given", KINDS)
def test_the_columns_say_the_kind(given: tuple[str, ...], project: Path) -> None:
    """Whether they bear the names of their roles or are named."""
    model, *roles = given
    rows = [{role: _row(number)[role] for role in roles} for number in range(160)]
    other = [{f"my-{role}": value for role, value in row.items()} | _row(0) for row in rows]
    for case, table in (("plain", rows), ("named", other)):
        path = Path(f"data/raw/{case}.jsonl")
        path.write_text("".join(f"{json.dumps(row)}\n" for row in table))
        named = ",".join(f"{role}:my-{role}" for role in roles) if case == "named" else ""
        new.main(case, str(path), model, named)
    params = tiny.read_params(project)
    for case in ("plain", "named"):
        assert params["tasks"][case]["kind"] == KINDS[given]
        assert set(params["tasks"][case]["data"]["columns"]) == set(roles)
        assert ("head" in params["runs"][f"{case}-full"]) == (KINDS[given] in WITH_HEAD)


def test_a_seq2seq_model_in_a_folder(project: Path) -> None:
    """No run of params.yaml is of one: its case retains what such a model answers."""
    tiny_seq2seq.write_model(Path("data/raw/t5"), ["go", "on", "so"], 0)
    path = Path("data/raw/asked.jsonl")
    path.write_text("".join(f"{json.dumps(_row(number))}\n" for number in range(160)))
    before = tiny.read_params(project)
    with pytest.raises(UserError, match="and 0 tasks that it could retain: put 2 under tasks"):
        new.main("first", str(path), "data/raw/t5")
    for name in ("one", "two"):
        new.main(name, str(path), "smollm2", "prompt:prompt,completion:{text} {completion}")
    new.main("first", str(path), "data/raw/t5", "prompt:prompt,completion:completion")
    params = tiny.read_params(project)
    assert params["models"]["t5"]["kind"] == "seq2seq"
    assert params["tasks"]["one"]["data"]["columns"]["completion"] == "{text} {completion}"
    assert params["cases"]["first"]["retain"] == ["one", "two"]
    like = before["runs"]["bert-full"]
    told = {**like, "case": "first", "teacher": "models/base/first.json"}
    del told["head"], told["head_learning_rate"]
    assert params["runs"]["first-full"] == told


def test_it_runs(bench: Path) -> None:
    """Through the stages, from the project of a model that others use."""
    write_table(Path("data/raw/tickets.jsonl"))
    (model,) = tiny.read_params(bench)["models"]
    new.main("tickets", "data/raw/tickets.jsonl", model, ROLES)
    tiny.run_stage("prepare", "tickets")
    tiny.run_stage("pretrain_baseline_eval", "tickets")
    tiny.run_stage("finetune", "tickets-full")
    tiny.run_stage("retention_eval", "tickets-full")
    tiny.run_stage("compare")
    scores = json.loads(Path("metrics/scores.json").read_text())
    assert set(scores["tickets"]["tickets-full"]) == {"tickets", *tiny.RETAIN}

    # As the README says: what is not wanted is deleted.
    params = tiny.read_params(bench)
    for section, name in (("cases", "tickets"), ("runs", RUN), ("variants", RUN)):
        params[section] = {name: params[section][name]}
    tiny.write_params(bench, params)
    check()
    tiny.run_stage("compare")
    assert set(json.loads(Path("metrics/scores.json").read_text())) == {"tickets"}


def test_completions_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the stages, too: a table that a causal model is to go on from."""
    tiny_causal.write_sources(tmp_path)
    tiny_completions.make(tmp_path, {"kind": "causal"}, {"full": {"steps": 4}})
    monkeypatch.chdir(tmp_path)
    new.main("cries", "own/f1.jsonl", "writer", "prompt:ask,completion:say")
    params = tiny.read_params(tmp_path)
    assert params["tasks"]["cries"]["metric"] == "rouge-l"
    params["cases"]["cries"]["retain"] = ["f1", "bleu"]
    params["tasks"]["cries"] |= {"max_length": 48, "max_new_tokens": 4}
    tiny.write_params(tmp_path, params)
    tiny.run_stage("prepare", "cries")
    tiny.run_stage("pretrain_baseline_eval", "cries")
    tiny.run_stage("finetune", "cries-full")
    tiny.run_stage("retention_eval", "cries-full")
    params = {**params, "cases": {"cries": params["cases"]["cries"]}}
    params |= {part: {"cries-full": params[part]["cries-full"]} for part in ("runs", "variants")}
    tiny.write_params(tmp_path, params)
    tiny.run_stage("compare")
    scores = json.loads(Path("metrics/scores.json").read_text())
    assert set(scores["cries"]["cries-full"]) == {"cries", "f1", "bleu"}


MISTAKES = {
    "no data": (("tickets", "", "minilm", ""), "give CASE=<new name> DATA=<table>"),
    "a name": (("Tickets", "data/raw/tickets.jsonl", "minilm", ROLES), "CASE=Tickets: a name is"),
    "a case that is there": (
        ("medical-bert", "data/raw/tickets.jsonl", "minilm", ROLES),
        "has cases.medical-bert already",
    ),
    "a model": (("tickets", "data/raw/tickets.jsonl", "minilmm", ROLES), "did you mean minilm"),
    "a table": (("tickets", "data/raw/ticket.jsonl", "minilm", ROLES), "no such file"),
    "columns": (
        ("tickets", "data/raw/tickets.jsonl", "minilm", ""),
        "there are 'body', 'team', 'customer'; .*classification takes text, label; ",
    ),
    "no name": (("null", "data/raw/tickets.jsonl", "minilm", ROLES), "CASE=null: YAML reads that"),
    "a role": (
        ("tickets", "data/raw/tickets.jsonl", "minilm", "txt:body,label:team"),
        "'txt' is no role; did you mean text",
    ),
    "roles of no kind": (
        ("tickets", "data/raw/tickets.jsonl", "minilm", "text:body,query:team"),
        "no kind of task has these columns",
    ),
    "a column": (
        ("tickets", "data/raw/tickets.jsonl", "minilm", "text:bod,label:team"),
        "column 'bod': is missing; there are 'body', 'team', 'customer'",
    ),
    "roles of other models": (
        ("tickets", "data/raw/tickets.jsonl", "smollm2", "text:body,label:team"),
        "these columns are of classification, which a model of kind causal is not asked",
    ),
    "a role twice": (
        ("tickets", "data/raw/tickets.jsonl", "minilm", "text:body,text:team"),
        "text is given twice",
    ),
    "a role alone": (
        ("tickets", "data/raw/tickets.jsonl", "minilm", "text,label:team"),
        "text has no column: give <role>:<column>",
    ),
    "broken settings": (
        ("tickets", "data/raw/tickets.jsonl", "data/raw/broken", ROLES),
        r"file:data/raw/broken: config\.json is no JSON",
    ),
    "no weights": (
        ("tickets", "data/raw/tickets.jsonl", "data/raw/bare", ROLES),
        r"file:data/raw/bare, folder '\.': no \*\.safetensors there",
    ),
    "cut weights": (
        ("tickets", "data/raw/tickets.jsonl", "data/raw/cut", ROLES),
        r"file:data/raw/cut: model\.safetensors is no safetensors file",
    ),
    "a brace": (
        ("tickets", "data/raw/tickets.jsonl", "smollm2", "text:{body"),
        r"COLUMNS=text:\{body: expected '}'",
    ),
    "what nothing can be tuned for": (
        ("tickets", "data/raw/tickets.jsonl", "smollm2", "good:body,bad:team"),
        "is minimal-pairs: it asks which sentence is likelier",
    ),
    "few rows": (("few", "data/raw/few.jsonl", "minilm", ROLES), "12 rows; at least 80"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_leaves_params_as_they_were(what: str, project: Path) -> None:
    write_table(project / "data/raw/few.jsonl", 12)
    for folder, settings, weights in (
        ("broken", b"{", b""),
        ("bare", b"{}", None),
        ("cut", b"{}", b"\x08"),
    ):
        (project / "data/raw" / folder).mkdir()
        (project / "data/raw" / folder / "config.json").write_bytes(settings)
        if weights is not None:
            (project / "data/raw" / folder / "model.safetensors").write_bytes(weights)
    before = Path("params.yaml").read_bytes()
    given, said = MISTAKES[what]
    with pytest.raises(UserError, match=said) as caught:
        new.main(*given)
    assert "\n" not in str(caught.value)
    assert Path("params.yaml").read_bytes() == before


def test_where_a_block_goes() -> None:
    text = "a:\n  one: 1\n\n# of b\nb:\n  two: 2\n"
    assert insert(text, "a", "  new: 3") == "a:\n  one: 1\n  new: 3\n\n# of b\nb:\n  two: 2\n"
    assert insert(text, "b", "  new:\n    3") == f"{text}\n  new:\n    3\n"
    assert insert(text, "c", "  new: 3") == f"{text}\nc:\n  new: 3\n"


def test_what_is_left_to_do_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe that is copied was made for other rows."""
    write_table(project / "data/raw/many.jsonl", rows=800)
    new.main("many", "data/raw/many.jsonl", "smollm2", r"prompt:Please, {body}:\n,completion:team")
    params = tiny.read_params(project)
    columns = params["tasks"]["many"]["data"]["columns"]
    assert columns == {"prompt": "Please, {body}:\n", "completion": "team"}
    recipe = params["runs"]["gpt-full"]
    seen, train = recipe["steps"] * recipe["batch_size"], params["tasks"]["many"]["train"]
    assert seen < train
    said = capsys.readouterr().out
    assert f"note: its steps, those of gpt-full, read {seen:,} of {train:,} train rows" in said
    assert "runs.many-full.steps" in said


def test_files_of_a_preset_that_are_to_be_fetched(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny.ROOT / "params", "params")
    new.main("names", "params/wnut17.yaml", "minilm")
    said = capsys.readouterr().out
    assert "note: files are to be fetched first, as the head of params/wnut17.yaml says" in said


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("google-bert/bert-base-uncased", "its entry is MODEL=params/bert-base-uncased.yaml"),
        ("hf:openai-community/gpt2", "its entry is MODEL=params/gpt2.yaml"),
        ("hf:me/mine", "one of a hub is put under models as the files of params do it"),
    ],
)
def test_a_model_of_a_hub_is_told_where_to_go(project: Path, given: str, hint: str) -> None:
    shutil.copytree(tiny.ROOT / "params", "params")
    with pytest.raises(UserError, match="neither a model of") as caught:
        new.main("tickets", "data/raw/tickets.jsonl", given, ROLES)
    assert hint in str(caught.value)
