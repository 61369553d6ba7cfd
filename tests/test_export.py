"""A tuned model to take away: others load it as it is, and its card tells what was lost."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file

from stages import export, gate, model_card
from stages.errors import UserError
from stages.models.base import materialise
from stages.models.encoder import embed
from stages.models.loading import EncoderModel, load
from stages.records import read_records, read_table
from stages.report.lines import lines
from stages.storage import read_json
from stages.tasks.examples import Task

TEXT = "red1 filler2 blue3"


def expected(run: str) -> torch.Tensor:
    """The embedding by our own loader."""
    manifest = read_json(Path(f"models/base/{tiny.CASE}.json"))
    loaded = load(manifest, materialise(manifest), Path(f"models/tuned/{run}/seed-0"))
    assert isinstance(loaded, EncoderModel)
    return torch.tensor(
        embed(loaded.encoder, loaded.tokenizer([TEXT], 16), loaded.tokenizer.pad_id, 64)
    )


def pooled(model: torch.nn.Module, folder: str) -> torch.Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        states: torch.Tensor = model(**tokenizer([TEXT], return_tensors="pt")).last_hidden_state
    return states.mean(1)


def test_all_weights(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.main("full")
    assert capsys.readouterr().out.startswith("export/full: full, seed 0; ")
    model = transformers.AutoModel.from_pretrained("export/full").eval()
    torch.testing.assert_close(pooled(model, "export/full"), expected("full"))
    card = Path("export/full/README.md").read_text(encoding="utf-8")
    of_run = lines(read_json(Path("metrics/scores.json"))[tiny.CASE])
    told = [f"| {' | '.join(one.cells())} |" for one in of_run if one.run == "full"]
    assert len(told) > 2
    assert "\n".join(told) in card
    with pytest.raises(SystemExit):
        gate.main("full")
    told = capsys.readouterr().out.splitlines()
    judged = [line.split(maxsplit=1) for line in told if ", at least " in line]
    assert len(judged) == len(tiny.RETAIN) + 1
    assert all(f"- {status}: {said}" in card for status, said in judged)
    assert "GateLine" not in card
    assert "| lora |" not in card
    assert "library_name: transformers" in card
    assert "heads.safetensors has `<target>.weight` and `<target>.bias` of each target:" in card


def test_the_card_says_how_a_head_answers(bench: Path) -> None:
    """Done as it says, the answers are those that were scored."""
    export.main("full")
    card = Path("export/full/README.md").read_text(encoding="utf-8")
    said = re.search(
        rf"^- `{tiny.TARGET}`, classification: logits of (.+), from the text's embedding\.$",
        card,
        flags=re.MULTILINE,
    )
    assert said
    labels = said[1].split(", ")
    model = transformers.AutoModel.from_pretrained("export/full").eval()
    head = load_file("export/full/heads.safetensors")
    rows, _ = read_table(Path(f"data/{tiny.CASE}/target/test/{tiny.TARGET}.parquet"))
    records = read_records(Path(f"metrics/records/{tiny.CASE}/full.parquet"))[0]
    scored = records[
        (records["task"] == tiny.TARGET)
        & (records["split"] == "test")
        & (records["condition"] == "clean")
        & (records["variant"] == "final")
    ].set_index("example_id")["prediction"]
    assert set(scored) == set(labels)
    for row in rows.head(20).to_dict("records"):
        tokenizer = transformers.AutoTokenizer.from_pretrained("export/full")
        given = tokenizer([row["text"]], return_tensors="pt")
        with torch.inference_mode():
            embedding = model(**given).last_hidden_state.mean(1)
        logits = embedding @ head[f"{tiny.TARGET}.weight"].T + head[f"{tiny.TARGET}.bias"]
        assert labels[int(logits.argmax())] == scored[row["example_id"]]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("relation", {}, "logits of a, b, from the states of both entities' first tokens side by"),
        ("token-classification", {}, "logits of a, b, from the state of a word's first token"),
        ("extractive-qa", {}, "logits of the answer's first and last token, from each token's"),
        ("multi-label", {}, "logits of a, b, each by itself, from the text's embedding"),
        ("regression", {"mean": 2.5, "spread": 0.5}, "a number, times 0.5 plus 2.5 the value"),
    ],
)
def test_what_other_heads_give(kind: str, options: dict[str, Any], said: str) -> None:
    assert said in model_card._rows_of(Task("t", kind, 16, ("a", "b"), options))


def test_an_adapter_of_a_gguf_says_which_file(bench: Path) -> None:
    base = {"kind": "causal", "source": "pypi:x==1", "path": "p", "gguf": "m.gguf"}
    lines_of = list(model_card._loading(base, True, Path("export/a")))
    told = 'from_pretrained("<folder of pypi:x==1>/p", gguf_file="m.gguf")'
    assert f"base = AutoModelForCausalLM.{told}" in lines_of


def test_what_stands_beside_the_model_is_left_out(bench: Path) -> None:
    source = Path("models/tuned/full/seed-0")
    beside = {"fold-1", "step-100", "ewc.safetensors", "trained.json"}
    model = {path.name for path in source.iterdir()} - beside
    for name in ("fold-1", "step-100"):
        (source / name).mkdir()
        (source / name / "model.safetensors").write_bytes(b"")
    for name in ("ewc.safetensors", "trained.json"):
        (source / name).write_bytes(b"")
    export.main("full")
    found = {path.name for path in Path("export/full").iterdir()}
    assert model <= found
    assert not found & beside


def test_an_adapter(bench: Path) -> None:
    export.main("lora", "away/lora", "0")
    assert not list(Path("away/lora").glob("model*.safetensors"))
    manifest = json.loads(Path("away/lora/base.json").read_text())
    base = transformers.AutoModel.from_pretrained(materialise(manifest))
    model = PeftModel.from_pretrained(base, "away/lora").eval()
    torch.testing.assert_close(pooled(model, "away/lora"), expected("lora"))
    assert "library_name: peft" in Path("away/lora/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ful",), "ful: no such run; did you mean full?"),
        (("full", "models"), "models: is there already; give another folder, or remove it"),
        (("full", "away", "5"), "5: no seed of full; give one of 0, 1"),
        (("full@soup", "away", "0"), "0: full@soup is one model of all seeds; leave the seed out"),
    ],
)
def test_what_it_refuses(arguments: tuple[str, ...], said: str, bench: Path) -> None:
    tiny.edit_params(bench, runs__full__seeds=[0, 1], variants__full=["soup"])
    with pytest.raises(UserError) as error:
        export.main(*arguments)
    assert str(error.value).startswith(said)
    assert not Path("away").exists()


def test_what_is_not_there(bench: Path) -> None:
    Path("models/tuned/full/seed-0").rename("elsewhere")
    with pytest.raises(UserError, match="models/tuned/full/seed-0: not there; run `dvc pull`"):
        export.main("full")


@pytest.mark.parametrize(
    ("file", "told", "said"),
    [
        ("gate", {"cases": {tiny.CASE: {}}}, "nothing of full"),
        ("gate", [], "nothing of cases"),
        ("scores", {}, f"nothing of {tiny.CASE}"),
        ("scores", {tiny.CASE: {"base": {}}}, "nothing of full"),
    ],
)
def test_metrics_of_other_runs(file: str, told: object, said: str, bench: Path) -> None:
    """As `compare` left them before the run was there."""
    Path(f"metrics/{file}.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(UserError, match=f"metrics/{file}.json: {said}; run `dvc repro`"):
        export.main("full")
    assert not Path("export/full").exists()


def test_a_soup_is_of_all_seeds(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.edit_params(bench, runs__full__seeds=[0, 1], variants__full=["soup"])
    tiny.run_stage("finetune", "full")
    tiny.run_stage("retention_eval", "full")
    tiny.run_stage("compare")
    capsys.readouterr()
    export.main("full@soup")
    assert capsys.readouterr().out.startswith("export/full@soup: full@soup, seeds 0, 1; ")
    card = Path("export/full@soup/README.md").read_text(encoding="utf-8")
    assert f"`full` of case `{tiny.CASE}`, seeds 0, 1, and its variant `soup`." in card


def _mixed(alpha: float) -> torch.Tensor:
    """The embedding by the mean of both models' weights, mixed by hand."""
    manifest = read_json(Path(f"models/base/{tiny.CASE}.json"))
    folder = materialise(manifest)
    base, tuned = load(manifest, folder), load(manifest, folder, Path("models/tuned/full/seed-0"))
    assert isinstance(base, EncoderModel)
    assert isinstance(tuned, EncoderModel)
    after = tuned.encoder.body.state_dict()
    for name, weight in base.encoder.body.state_dict().items():
        if weight.is_floating_point():
            weight.mul_(1 - alpha).add_(after[name], alpha=alpha)
    tokenizer = base.tokenizer
    return torch.tensor(embed(base.encoder, tokenizer([TEXT], 16), tokenizer.pad_id, 64))


def test_a_variant(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"full@wise-0.5: no such variant"):
        export.main("full@wise-0.5")
    tiny.edit_params(bench, variants__full=["wise-0.5", "int8"])
    tiny.run_stage("retention_eval", "full")
    tiny.run_stage("compare")
    capsys.readouterr()
    export.main("full@wise-0.5", "export/mixed")
    assert capsys.readouterr().out.startswith("export/mixed: full@wise-0.5, seed 0; ")
    model = transformers.AutoModel.from_pretrained("export/mixed").eval()
    torch.testing.assert_close(pooled(model, "export/mixed"), _mixed(0.5))
    assert {path.name for path in Path("export/mixed").iterdir()} >= {"heads.safetensors"}
    card = Path("export/mixed/README.md").read_text(encoding="utf-8")
    of_case = lines(read_json(Path("metrics/scores.json"))[tiny.CASE])
    told = [f"| {' | '.join(one.cells())} |" for one in of_case if one.run == "full@wise-0.5"]
    assert len(told) > 2
    assert "\n".join(told) in card
    assert "seed 0, and its variant `wise-0.5`." in card
    assert "The gate judges runs." in card
    with pytest.raises(UserError, match=r"full@int8: is the run asked in 8 bits"):
        export.main("full@int8")
