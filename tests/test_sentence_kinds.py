"""Kinds that ask how likely sentences are, and what is refused: tasks to keep, of own tables."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_architectures
import torch
import transformers
from safetensors.torch import load_file
from tiny_architectures import ENCODERS

from stages import check
from stages.errors import UserError
from stages.inputs.encoder import truncated
from stages.models.encoder import load_encoder
from stages.models.masked import Masking
from stages.models.texts import Inputs, Tokenizer
from stages.records import read_records
from stages.scoring.pseudo import pseudo_log_likelihoods, shared_places
from stages.statistics.balance import balance, stereotyped
from stages.storage import read_json, write_json
from stages.tasks.examples import Examples, Task
from stages.tasks.refusals import refuses

WORDS = tiny.FILLER
SIZES = {"max_length": 128, "train": 10, "validation": 10, "test": 16}
COUNT = 40
TABLES = {
    "masked-lm": {"text": "said"},
    "minimal-pairs": {"good": "sentence_good", "bad": "sentence_bad"},
    "bias-pairs": {"stereotype": "sent_more", "antistereotype": "sent_less"},
    "refusal": {"prompt": "asked", "expected": "label"},
}
MEASURES = {
    "masked-lm": "bits_per_byte",
    "minimal-pairs": "accuracy",
    "bias-pairs": "balance",
    "refusal": "accuracy",
}


def _sentence(draw: random.Random, *words: str) -> str:
    found = [*words, *draw.sample(WORDS, 5)]
    draw.shuffle(found)
    return " ".join(found)


def _rows(kind: str) -> list[dict[str, Any]]:
    draw, rows = random.Random(kind), []
    for number in range(COUNT):
        sentence = _sentence(draw)
        if kind == "masked-lm":
            rows.append({"said": sentence})
        elif kind == "refusal":
            label = ("safe", "unsafe", "refuse", "answer")[number % 4]
            rows.append({"asked": f"How do I {sentence}?", "label": label})
        else:
            pair = (f"{sentence} {tiny.NAMES[number]}", f"{tiny.NAMES[-1 - number]} {sentence}")
            rows.append(dict(zip(TABLES[kind].values(), pair, strict=True)))
    return rows


def make(folder: Path, name: str, kinds: tuple[str, ...]) -> str:
    """The project of tests/tiny_architectures.py, whose case keeps one task of each of `kinds`, and
    one of its own; the case's name."""
    tiny_architectures.make(name, folder)
    params = tiny.read_params(folder)
    for kind in kinds:
        lines = [json.dumps(row) for row in _rows(kind)]
        (folder / f"own/{kind}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        table = {"reader": "table", **tiny.pinned(folder, f"own/{kind}.jsonl")}
        data = {**table, "columns": dict(TABLES[kind])}
        more = {"max_new_tokens": 8} if kind == "refusal" else {}
        params["tasks"][kind] = {"kind": kind, "data": data, **SIZES, **more}
    ((case, settings),) = params["cases"].items()
    settings["retain"] = [*kinds, settings["retain"][0]]
    params["runs"] = {"full": params["runs"]["full"]}
    params["variants"] = {"full": ["wise-0.5"]}
    tiny.write_params(folder, params)
    return str(case)


def _run(case: str) -> None:
    tiny.run_stage("check")
    tiny.run_stage("prepare", case)
    tiny.run_stage("pretrain_baseline_eval", case)
    tiny.run_stage("finetune", "full")
    tiny.run_stage("retention_eval", "full")
    tiny.run_stage("compare")


Row = dict[str, Any]


def _by_example(rows: pd.DataFrame) -> dict[str, Row]:
    return {str(row["example_id"]): dict(row) for _, row in rows.iterrows()}


def _test_rows(case: str, task: str) -> dict[str, Row]:
    return _by_example(pd.read_parquet(f"data/{case}/retain/test/{task}.parquet"))


def _records(case: str, who: str, task: str) -> dict[str, Row]:
    records = read_records(Path(f"metrics/records/{case}/{who}.parquet"))[0]
    clean = records[(records["condition"] == "clean") & (records["variant"] == "final")]
    return _by_example(clean[(clean["task"] == task) & (clean["split"] == "test")])


def _plain(base: Path, tuned: Path | None) -> Any:
    """By transformers alone: the base, its body's weights replaced by the tuned ones, and tied."""
    model = transformers.AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32).eval()
    if tuned:
        weights = load_file(tuned / "model.safetensors")
        strange = model.base_model.load_state_dict(weights, strict=False)
        assert not strange.missing_keys and not strange.unexpected_keys
        model.tie_weights()
    return model


@torch.no_grad()
def _masked(model: Any, tokenizer: Any, text: str, places: list[int] | None = None) -> float:
    """A token at a time."""
    ids = tokenizer(text)["input_ids"]
    total = 0.0
    for place in range(1, len(ids) - 1) if places is None else places:
        asked = torch.tensor([ids])
        asked[0, place] = tokenizer.mask_token_id
        said = model(input_ids=asked, attention_mask=torch.ones_like(asked)).logits
        total += float(said[0, place].double().log_softmax(-1)[ids[place]])
    return total


def _finite(case: str, kinds: tuple[str, ...]) -> None:
    retention = read_json(Path("metrics/retention.json"))[case]
    scores = read_json(Path("metrics/scores.json"))[case]
    for kind in kinds:
        before, after = (scores[who][kind][MEASURES[kind]]["value"] for who in ("base", "full"))
        worse = after - before if kind == "masked-lm" else before - after
        for who in ("full", "full@wise-0.5"):
            assert math.isfinite(retention[who]["drop"][kind])
        assert retention["full"]["drop"][kind] == pytest.approx(worse, abs=2e-4)
    # Neither sentence of a bias pair is the right one to be sure of.
    calibrated = read_json(Path("metrics/diagnosis.json"))[case]["full"]["calibration"]
    assert calibrated.keys() & {*kinds} == {"minimal-pairs"}


@pytest.mark.parametrize("name", ["deberta-v3"])
def test_an_encoder_goes_through_the_stages(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    kinds = ("masked-lm", "minimal-pairs", "bias-pairs")
    case = make(tmp_path, name, kinds)
    monkeypatch.chdir(tmp_path)
    _run(case)
    _finite(case, kinds)
    tokenizer = transformers.AutoTokenizer.from_pretrained("own/model")
    for who, tuned in (("base", None), ("full", Path("models/tuned/full/seed-0"))):
        model = _plain(Path("own/model"), tuned)
        texts, found = _test_rows(case, "masked-lm"), _records(case, who, "masked-lm")
        assert len(texts) == SIZES["test"]
        for example, text in ((example, asked["text"]) for example, asked in texts.items()):
            row = found[example]
            assert math.isnan(row["score"])
            assert row["nll"] == pytest.approx(-_masked(model, tokenizer, text), abs=1e-3)
            assert (row["bytes"], row["tokens"]) == (len(text), len(text.split()))
        pairs, found = _test_rows(case, "minimal-pairs"), _records(case, who, "minimal-pairs")
        for example, pair in pairs.items():
            both = [_masked(model, tokenizer, pair[side]) for side in ("good", "bad")]
            np.testing.assert_allclose(found[example]["choice_logprobs"], both, atol=1e-3)
            assert found[example]["score"] == float(both[0] > both[1])
            assert found[example]["target"] == pair["good"]
        # What both sentences have: all but the name, which ends one and begins the other.
        pairs, found = _test_rows(case, "bias-pairs"), _records(case, who, "bias-pairs")
        for example, pair in pairs.items():
            both = [
                _masked(model, tokenizer, pair["antistereotype"], list(range(2, 7))),
                _masked(model, tokenizer, pair["stereotype"], list(range(1, 6))),
            ]
            np.testing.assert_allclose(found[example]["choice_logprobs"], both, atol=1e-3)


def test_a_causal_model_goes_through_the_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    kinds = ("minimal-pairs", "bias-pairs", "refusal")
    case = make(tmp_path, "smollm2", kinds)
    monkeypatch.chdir(tmp_path)
    _run(case)
    _finite(case, kinds)
    tokenizer = transformers.AutoTokenizer.from_pretrained("own/model")
    model = transformers.AutoModelForCausalLM.from_pretrained("models/tuned/full/seed-0").eval()
    for kind, columns in (
        ("minimal-pairs", ("good", "bad")),
        ("bias-pairs", ("antistereotype", "stereotype")),
    ):
        found = _records(case, "full", kind)
        for example, pair in _test_rows(case, kind).items():
            both = []
            for column in columns:
                ids = torch.tensor([tokenizer(pair[column])["input_ids"]])
                with torch.no_grad():
                    said = model(ids).logits[0, :-1].double().log_softmax(-1)
                both.append(float(said.gather(1, ids[0, 1:, None]).sum()))
            np.testing.assert_allclose(found[example]["choice_logprobs"], both, atol=1e-3)
            assert found[example]["score"] == float(both[0] > both[1])
    found, asked = _records(case, "full", "refusal"), _test_rows(case, "refusal")
    assert {row["expected"] for row in asked.values()} == {"refuse", "answer"}
    for example, row in found.items():
        expected = asked[example]["expected"]
        assert row["slice"] == expected
        assert row["score"] == float(refuses(row["prediction"]) == (expected == "refuse"))


# --- the head of masked words


@pytest.mark.parametrize("name", ENCODERS)
def test_the_base_head_is_put_on_the_tuned_body(name: str, tmp_path: Path) -> None:
    """Its decoder is the tuned embeddings where the base's is the base's."""
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    tiny_architectures.write_model(name, base)
    encoder = load_encoder(base, "mean")
    with torch.no_grad():
        for weight in encoder.body.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.manual_seed(0)))
    encoder.body.save_pretrained(tuned)
    texts = [" ".join(WORDS[:9]), WORDS[3]]
    masking = Masking(encoder, base)
    inputs, pad_id = masking.read(texts, 24), ENCODERS[name].pad_id
    plain, own = _plain(base, tuned), transformers.AutoTokenizer.from_pretrained(base)
    expected = [_masked(plain, own, text) for text in texts]
    for batch_tokens in (1, 1000):
        found = pseudo_log_likelihoods(encoder, masking, inputs, pad_id, batch_tokens)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    untuned = _plain(base, None)
    assert abs(_masked(untuned, own, texts[0]) - expected[0]) > 0.01


def test_a_base_without_such_a_head(tmp_path: Path, encoder: Path) -> None:
    body = load_encoder(encoder, "mean")
    with pytest.raises(UserError, match=r"the base has no head for masked words \(\d+ weights"):
        Masking(body, encoder)


def test_a_text_is_counted_as_far_as_it_is_read(tmp_path: Path) -> None:
    tiny_architectures.write_model("bert", tmp_path)
    masking = Masking(load_encoder(tmp_path, "mean"), tmp_path)
    inputs = masking.read([" ".join(WORDS[:9])], 6)
    assert inputs.places == [[1, 2, 3, 4]]
    assert inputs.items and inputs.items[0][-1] == (24, 31)


# --- pairs


def test_what_both_sentences_have_in_their_order() -> None:
    one = Inputs([[2, 7, 8, 9, 4, 3]], None, [[1, 2, 3, 4]])
    other = Inputs([[2, 5, 7, 9, 4, 6, 3]], None, [[1, 2, 3, 4, 5]])
    first, second = shared_places(one, other)
    assert (first.places, second.places) == ([[1, 3, 4]], [[2, 3, 4]])
    assert first.ids == one.ids


@pytest.mark.parametrize(
    ("stereotypes", "expected"), [(0, 0.0), (2, 0.5), (4, 1.0), (6, 0.5), (8, 0.0)]
)
def test_balance_by_hand(stereotypes: int, expected: float) -> None:
    records = pd.DataFrame({"score": [0.0] * stereotypes + [1.0] * (8 - stereotypes)})
    assert stereotyped(records).mean() == stereotypes / 8
    assert balance(records).mean() == pytest.approx(expected)


@pytest.mark.parametrize("stereotypes", [60, 100])
def test_balance_varies_as_what_is_resampled(stereotypes: int) -> None:
    """Its values have the spread of the figure itself, drawn anew."""
    scores = np.repeat([0.0, 1.0], [stereotypes, 160 - stereotypes])
    spread = balance(pd.DataFrame({"score": scores})).std() / len(scores) ** 0.5
    generator = np.random.default_rng(0)
    drawn = [
        balance(pd.DataFrame({"score": generator.choice(scores, len(scores))})).mean()
        for _ in range(2000)
    ]
    assert np.std(drawn) == pytest.approx(spread, rel=0.1)


# --- refusals


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, I cannot do that",
        "Sorry, but no.",
        "I cannot provide instructions for this.",
        "I am unable to answer.",
        "As an AI language model, I do not …",
        "That is something I won't do.",
        "Unfortunately, we are not able to assist you",
    ],
)
def test_what_refuses(answer: str) -> None:
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Sure. To kill a Python process, use kill.",
        "Sorrow is a feeling. You can help a friend with it.",
        "It is illegal in most countries.",
        "Press the button. " * 20 + "I cannot see it from here.",
    ],
)
def test_what_does_not_refuse(answer: str) -> None:
    assert not refuses(answer)


# --- mistakes


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project with a model of some kind and tasks of all kinds."""
    monkeypatch.chdir(tmp_path)
    return make(tmp_path, request.param, tuple(TABLES))


@pytest.mark.parametrize(
    ("project", "kind"), [("bert", "refusal"), ("smollm2", "masked-lm")], indirect=["project"]
)
def test_a_wrong_pairing_fails_when_params_are_read(project: str, kind: str) -> None:
    with pytest.raises(UserError) as failed:
        check.check()
    (line,) = str(failed.value).splitlines()
    assert kind in line and "fits" in line


@pytest.mark.parametrize("project", ["bert"], indirect=True)
@pytest.mark.parametrize("kind", ["minimal-pairs", "bias-pairs"])
def test_none_is_a_target(project: str, kind: str) -> None:
    kept = ["shape-topics", "mood-words"]
    cases = {project: {"model": "bert", "targets": [kind], "retain": kept}}
    tiny.edit_params(Path(), cases=cases)
    with pytest.raises(UserError, match=rf"cases\.{project}\.targets.*{kind}.*no target: "):
        check.check()


MISTAKES = [
    ("minimal-pairs", {"sentence_good": "same ", "sentence_bad": "same"}, "is the same sentence"),
    ("bias-pairs", {"sent_more": "same", "sent_less": "same"}, "is the same sentence"),
    ("refusal", {"asked": "x", "label": "maybe"}, "'maybe': give refuse or unsafe or answer"),
]


@pytest.mark.parametrize(("kind", "row", "said"), MISTAKES)
def test_a_row_that_cannot_be_asked(
    kind: str, row: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make(tmp_path, "smollm2", (kind,))
    monkeypatch.chdir(tmp_path)
    file = Path(f"own/{kind}.jsonl")
    file.write_text(file.read_text() + json.dumps(row) + "\n", encoding="utf-8")
    pin = tiny.pinned(Path(), f"own/{kind}.jsonl")["sha256"]
    tiny.edit_params(Path(), **{f"tasks__{kind}__data__sha256": pin})
    with pytest.raises(UserError, match=rf"row {COUNT + 1}, column '.*': .*{said}"):
        tiny.run_stage("prepare", case)


def test_a_base_without_a_head_is_told_with_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    case = make(tmp_path, "bert", ("masked-lm",))
    tiny.write_model(tmp_path / "own/model")  # the body alone
    monkeypatch.chdir(tmp_path)
    tiny.edit_params(Path(), models__bert__sha256=tiny.pinned(Path(), "own/model")["sha256"])
    said = r"^task masked-lm: .* names no architecture with a head for masked words"
    with pytest.raises(UserError, match=said):
        tiny.run_stage("prepare", case)
    # Where its settings do not say what it was saved as, its weights do.
    settings = read_json(Path("own/model/config.json"))
    write_json(Path("own/model/config.json"), {**settings, "architectures": None})
    tiny.edit_params(Path(), models__bert__sha256=tiny.pinned(Path(), "own/model")["sha256"])
    tiny.run_stage("prepare", case)
    with pytest.raises(UserError, match=r"^task masked-lm: .*no head for masked words"):
        tiny.run_stage("pretrain_baseline_eval", case)


def test_sentences_of_a_pair_are_cut_each_by_itself(own: Path) -> None:
    tokenizer = Tokenizer(own / "model", 512)
    sentence = "red red red red red"
    room = len(tokenizer([sentence], 512)[0])
    rows = pd.DataFrame({"good": [sentence], "bad": [f"{sentence} red red"]})
    whole = Task("pairs", "minimal-pairs", room + 2, (), {})
    assert truncated(Examples(whole, rows), tokenizer) == 0
    assert truncated(Examples(replace(whole, max_length=room), rows), tokenizer) == 1
