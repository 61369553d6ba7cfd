"""Models that read a text and write another: the five stages, against plain transformers calls."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import tiny_completions
import tiny_seq2seq
import tiny_training
import torch
import transformers
from safetensors.torch import load_file
from tiny_completions import CASE, MEASURES, METRICS
from tiny_seq2seq import WORDS

from stages import errors
from stages.errors import UserError
from stages.models.seq2seq import Head, Seq2SeqTokenizer, load_seq2seq, longest_input, states, write
from stages.records import read_records, read_table
from stages.storage import read_json
from stages.tasks.examples import Examples, Task, read_examples
from stages.training.seq2seq import Seq2SeqRows, Seq2SeqTrainee, tokenise

pytestmark = pytest.mark.usefixtures("one_thread")

TARGET = METRICS[0]
RUNS: dict[str, dict[str, Any]] = {
    "full": {"steps": 120},
    "lora": {"methods": {"lora": {"r": 4}}, "learning_rate": 0.03},
}
RANK = 4


@pytest.fixture(scope="module", params=["t5", "bart"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    tiny_seq2seq.write_sources(folder, request.param)
    tiny_completions.make(folder, {"kind": "seq2seq"}, RUNS)
    tiny_completions.run_stages(folder, RUNS)
    return folder


def _records(project: Path, who: str, task: str) -> pd.DataFrame:
    records, _ = read_records(project / f"metrics/records/{CASE}/{who}.parquet")
    chosen = (records["task"] == task) & (records["split"] == "test")
    chosen &= (records["variant"] == "final") & (records["condition"] == "clean")
    return records[chosen].set_index("example_id")


def _plain(project: Path, who: str) -> Any:
    """By plain transformers; an adapter is added to the weights by hand."""
    tuned = project / "models/tuned" / who / "seed-0"
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tuned if who == "full" else project / "own/model", dtype=torch.float32
    )
    if who == "lora":
        scale = read_json(tuned / "adapter_config.json")["lora_alpha"] / RANK
        adapter = load_file(tuned / "adapter_model.safetensors")
        weights = dict(model.named_parameters())
        for name, down in adapter.items():
            if ".lora_A." in name:
                up = adapter[name.replace(".lora_A.", ".lora_B.")]
                place = name.removeprefix("base_model.model.").replace(".lora_A.", ".")
                weights[place].data += scale * up @ down
    return model.eval()


def test_gain_drop_gate_and_frontier(project: Path) -> None:
    scores = read_json(project / "metrics/scores.json")[CASE]
    retention = read_json(project / "metrics/retention.json")[CASE]
    gate = read_json(project / "metrics/gate.json")["cases"][CASE]
    for run in RUNS:
        assert set(gate[run]["tasks"]) == set(METRICS)
        for task, measure in MEASURES.items():
            before, after = (_records(project, who, task)["score"].mean() for who in ("base", run))
            assert scores[run][task][measure]["value"] == pytest.approx(after, abs=6e-5)
            change = after - before
            told = retention[run]["gain" if task == TARGET else "drop"][task]
            assert told == pytest.approx(change if task == TARGET else -change, abs=6e-5)
    curve, _ = read_table(project / f"metrics/training/{CASE}/full.parquet")
    looks = curve["validation_loss"].dropna()
    assert looks.iloc[-1] < 0.7 * looks.iloc[0]
    assert retention["full@wise-0.5"]["gain"].keys() == {TARGET}
    attempts = read_json(project / "metrics/frontier.json")[CASE]["attempts"]
    assert {one["method"] for one in attempts} >= {"full", "lora"}


@torch.inference_mode()
@pytest.mark.parametrize("who", ["base", *RUNS])
def test_answers_are_those_of_plain_calls(project: Path, who: str) -> None:
    """One by one, of the model as it was saved."""
    model = _plain(project, who)
    tokenizer = transformers.AutoTokenizer.from_pretrained(project / "own/model")
    test = read_examples(project / f"data/{CASE}/target/test/{TARGET}.parquet")
    found = _records(project, who, TARGET).to_dict("index")
    for example_id, prompt, accepted in zip(
        test.column("example_id"), test.column("prompt"), test.references(), strict=True
    ):
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        mask = torch.ones_like(ids)
        written = model.generate(
            input_ids=ids, attention_mask=mask, num_beams=1, do_sample=False, max_new_tokens=16
        )
        text = tokenizer.decode(written[0], skip_special_tokens=True).strip()
        row = found[example_id]
        assert row["prediction"] == text
        assert json.loads(row["target"]) == accepted
        assert row["score"] == float(text in [one.strip() for one in accepted])


def test_an_adapter_is_in_every_linear_layer_of_both_sides(project: Path) -> None:
    adapter = load_file(project / "models/tuned/lora/seed-0/adapter_model.safetensors")
    adapted = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in adapter}
    model = _plain(project, "base")
    head = model.get_output_embeddings()
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    assert adapted == linear
    assert any(".encoder." in f".{name}" for name in linear)
    assert any(".decoder." in f".{name}" for name in linear)


def _examples(prompts: list[str], said: list[str], **options: Any) -> Examples:
    rows = pd.DataFrame({"prompt": prompts, "completion": [[one] for one in said]})
    task = Task("said", "completion", 12, (), {"max_new_tokens": 4, "metric": "f1", **options})
    return Examples(task, rows)


PROMPTS = ["100 cat saw the dog :", "101 fox met the owl : and the cat and the rat", "cat"]
SAID = ["bark and bark", "hoot and meow and squeak", "meow"]


def _in_training(family: str, folder: Path) -> tuple[Seq2SeqTrainee, Seq2SeqRows]:
    tiny_seq2seq.write_model(folder, WORDS, 1, family)
    model = load_seq2seq(folder)
    tokenizer = Seq2SeqTokenizer(folder, longest_input(model))
    rows = tokenise(_examples(PROMPTS, SAID, max_new_tokens=16), tokenizer)
    return Seq2SeqTrainee(model, tokenizer.pad_id).eval(), rows


@pytest.mark.parametrize("family", tiny_seq2seq.FAMILIES)
def test_the_loss_is_that_of_transformers(family: str, tmp_path: Path) -> None:
    """On labels padded with -100, of a batch of rows of other lengths; and so are its logits."""
    trainee, rows = _in_training(family, tmp_path)
    assert [ids[-1] for ids in rows.labels] == [1, 1, 1]
    output = trainee(rows, [0, 1, 2])
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    given = plain(
        PROMPTS, text_target=SAID, padding=True, return_tensors="pt", max_length=12, truncation=True
    )
    labels = given["labels"].masked_fill(given["labels"] == plain.pad_token_id, -100)
    expected = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()(
        input_ids=given["input_ids"], attention_mask=given["attention_mask"], labels=labels
    )
    mean = float(output.losses.sum().detach()) / rows.weight([0, 1, 2])
    assert mean == pytest.approx(float(expected.loss.detach()), rel=1e-5)
    assert output.logits is not None
    torch.testing.assert_close(
        output.logits(), expected.logits[labels != -100], rtol=1e-4, atol=1e-4
    )
    alone = [float(trainee(rows, [at]).losses.detach()) for at in range(3)]
    assert output.losses.tolist() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("family", tiny_seq2seq.FAMILIES)
def test_logits_of_all_labels_are_never_held_in_fp32(family: str, tmp_path: Path) -> None:
    """For the pass back, of training in bf16."""
    trainee, rows = _in_training(family, tmp_path)
    kept: list[torch.Tensor] = []

    def keep(one: torch.Tensor) -> torch.Tensor:
        kept.append(one)
        return one

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one)
    with torch.autocast("cpu", torch.bfloat16), hooks:
        trainee(rows, [0, 1, 2])
    shape = rows.weight([0, 1, 2]), trainee.model.config.vocab_size
    assert [one.dtype for one in kept if one.shape == shape] == [torch.bfloat16]


@pytest.mark.parametrize("family", tiny_seq2seq.FAMILIES)
def test_a_batch_writes_what_each_text_alone_does(family: str, tmp_path: Path) -> None:
    """Whatever beams and lengths generation_config.json has."""
    tiny_seq2seq.write_model(tmp_path, WORDS, 2, family)
    settings = read_json(tmp_path / "generation_config.json")
    spoiled = {**settings, "num_beams": 4, "min_length": 9, "no_repeat_ngram_size": 1}
    plain = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    (tmp_path / "generation_config.json").write_text(json.dumps(spoiled), encoding="utf-8")
    model = load_seq2seq(tmp_path)
    tokenizer = Seq2SeqTokenizer(tmp_path, longest_input(model))
    rows = tokenizer(PROMPTS, 12)
    together = write(model, rows, tokenizer.pad_id, 8)
    for ids, found in zip(rows, together, strict=True):
        given = torch.tensor([ids])
        alone = plain.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            num_beams=1,
            do_sample=False,
            max_new_tokens=8,
        )[0, 1:].tolist()
        assert found == [token for token in alone if token > 1]


def test_the_head_has_scale_and_bias(tmp_path: Path) -> None:
    tiny_seq2seq.write_model(tmp_path / "t5", WORDS, 1, "t5")
    scaled = Head(load_seq2seq(tmp_path / "t5"))
    assert scaled.scale == pytest.approx(16**-0.5) and scaled.bias is None
    tiny_seq2seq.write_model(tmp_path / "marian", WORDS, 1, "marian")
    model = load_seq2seq(tmp_path / "marian")
    model.final_logits_bias += torch.arange(len(WORDS) + 3.0)
    ids = torch.tensor([[5, 6, 1]])
    expected = model(input_ids=ids, labels=ids).logits
    found = Head(model)(states(model, ids, torch.ones_like(ids), ids))
    torch.testing.assert_close(found, expected)


def test_long_texts_are_cut_where_they_are_read_and_where_they_are_written(tmp_path: Path) -> None:
    tiny_seq2seq.write_model(tmp_path, WORDS, 1, "bart")
    tokenizer = Seq2SeqTokenizer(tmp_path, 64)
    rows = tokenise(_examples(PROMPTS, SAID), tokenizer)
    assert [len(ids) for ids in rows.ids] == [7, 12, 2]
    assert [len(ids) for ids in rows.labels] == [4, 4, 2]
    assert rows.labels[0][-1] == 1
    assert rows.labels[1][-1] != 1  # cut, it does not end here
    assert tokenizer.truncated(PROMPTS, 12) == [False, True, False]


def test_the_spaces_that_a_model_writes_stay(tmp_path: Path) -> None:
    words = ["do", "n't", "stop", "."]
    tiny_seq2seq.write_model(tmp_path, words, 0)
    settings = tmp_path / "tokenizer_config.json"
    told = read_json(settings) | {"clean_up_tokenization_spaces": True}
    settings.write_text(json.dumps(told), encoding="utf-8")
    plain = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ids = [*plain.convert_tokens_to_ids(words), plain.eos_token_id]
    assert plain.decode(ids, skip_special_tokens=True) == "don't stop."
    assert Seq2SeqTokenizer(tmp_path, 64).decode(ids) == "do n't stop ."


def test_what_is_no_such_model_is_told(tmp_path: Path) -> None:
    tiny.write_model(tmp_path)
    with pytest.raises(UserError, match="transformers cannot load this model"):
        load_seq2seq(tmp_path)


def test_a_model_that_finds_no_memory_is_not_to_blame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_seq2seq.write_model(tmp_path, WORDS, 1, "bart")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(transformers.AutoModelForSeq2SeqLM, "from_pretrained", full)
    with pytest.raises(torch.OutOfMemoryError) as error:
        load_seq2seq(tmp_path)
    said = errors.said(error.value)
    assert said.startswith(
        "out of memory (CUDA out of memory. Tried to allocate 20.00 GiB.); where"
    )


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({"self-replay": {"fraction": 0.1, "length": 8}}, "writes no texts from nothing"),
        ({"block-expansion": {"blocks": 1}}, "freeze or lora would fit"),
        ({"fgm": {"epsilon": 0.1}}, "share embeddings"),
        ({"lwf": {"weight": 1.0}}, "give a temperature, such as 2"),
        (
            {"adapter": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}},
            "no place for virtual tokens here; lora would fit",
        ),
    ],
)
def test_a_method_that_does_not_fit_says_so(methods: dict[str, Any], said: str) -> None:
    (reason,) = tiny_training.misfit(methods, model="seq2seq", target="completion")
    assert said in reason
