"""Methods and variants of a seq2seq model, through the stages: what each does, or why not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny
import tiny_completions
import tiny_seq2seq
import tiny_training
import torch
import transformers
from safetensors.torch import load_file
from tiny_completions import ANIMALS, CASE, COUNT, DEEDS, METRICS
from torch import Tensor
from torch.nn import functional

from stages.config.variants import variant_of
from stages.models.depth import layer_of
from stages.records import read_records, read_table
from stages.storage import read_json
from stages.tasks.examples import read_examples
from stages.training.methods.method import Method
from stages.variants.body import linear_layers
from stages.variants.quantise import Int8Linear
from stages.variants.variant import Origin, made

pytestmark = pytest.mark.usefixtures("one_thread")

TARGET, OLD = METRICS[0], "deeds"
RETAIN = [OLD, *METRICS[1:3]]
FROM_RETAIN = {"pool": "retain/train"}
RUNS: dict[str, dict[str, Any]] = {
    "full": {},
    "freeze": {"methods": {"freeze": {"layers": 1}}},
    "penalised": {
        "methods": {
            "dropout": {"p": 0.2},
            "label-smoothing": {"share": 0.1},
            "l1": {"strength": 1e-6},
            "l2": {"strength": 1e-4},
        },
        "accumulate": 2,
        "gradient_checkpointing": True,
        "layer_decay": 0.9,
    },
    "replay": {
        "methods": {"replay": {"fraction": 0.5, "tasks": [OLD], "repeats": 99}},
        **FROM_RETAIN,
    },
    "ewc": {"methods": {"ewc": {"strength": 30.0, "tasks": [OLD], "rows": 8}}, **FROM_RETAIN},
    "l2-sp": {"methods": {"l2-sp": {"alpha": 3.0}}},
    "lwf": {"methods": {"lwf": {"weight": 20.0, "temperature": 2.0}}},
    "distil": {
        "methods": {"distil": {"weight": 20.0, "temperature": 1.0}},
        "teacher": "models/tuned/full",
    },
    "adalora": {
        "methods": {"adalora": {"init_r": 4, "target_r": 2, "tinit": 2, "tfinal": 4}},
        "learning_rate": 0.03,
    },
    "adapter": {
        "methods": {"adapter": {"peft_type": "IA3"}},
        "learning_rate": 0.03,
    },
}
STEPS = 40
VARIANTS = ["wise-0.5", "lines-0.5", "prune-0.5", "int8", "soup", "step-10"]
UNLABELLED = "has none; those of a seq2seq model never have: leave it out"
MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "augment": ({"swap": 0.1, "copies": 1}, "replay or dropout would fit"),
    "balance": ({"by": "sampling"}, UNLABELLED),
    "block-expansion": ({"blocks": 1}, "freeze or lora would fit"),
    "fgm": ({"epsilon": 0.1}, "dropout would fit"),
    "self-replay": ({"fraction": 0.1, "length": 8}, "replay would fit"),
    "self-training": (
        {"threshold": 0.9, "fraction": 0.5},
        "those of a seq2seq model never have: leave it out",
    ),
    "supervised-contrastive": (
        {"weight": 0.5, "temperature": 0.1},
        "those of a seq2seq model never have: leave it out",
    ),
}


def _deeds() -> list[dict[str, Any]]:
    """What an animal does, where the other tasks ask for its cry."""
    asked = ((100 + number, number % len(ANIMALS)) for number in range(COUNT))
    return [
        {"ask": f"{number} {ANIMALS[at]} and", "say": f" {DEEDS[at % len(DEEDS)]}"}
        for number, at in asked
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bart")
    tiny_seq2seq.write_sources(folder, "bart")
    full = {"full": {"seeds": [0, 1], "snapshots": [10]}}
    runs = {name: {"steps": STEPS, **run, **full.get(name, {})} for name, run in RUNS.items()}
    lines = [json.dumps(row) for row in _deeds()]
    (folder / f"own/{OLD}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    old = {OLD: tiny_completions.task(folder, OLD, "f1")}
    tiny_completions.make(folder, {"kind": "seq2seq"}, runs, others=old)
    params = tiny.read_params(folder)
    params["cases"][CASE]["retain"] = RETAIN
    params["variants"]["full"] = VARIANTS
    tiny.write_params(folder, params)
    tiny_completions.run_stages(folder, runs)
    return folder


def test_every_method_is_here() -> None:
    """lora has its place in test_seq2seq.py."""
    tried = {method for run in RUNS.values() for method in run.get("methods", {})}
    known = {method.name for method in Method.__subclasses__() if method.__module__[:6] == "stages"}
    assert tried | set(MISFITS) | {"lora"} == known
    assert not tried & set(MISFITS)


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_says_what_would(name: str) -> None:
    settings, said = MISFITS[name]
    (reason,) = tiny_training.misfit({name: settings}, model="seq2seq", target="completion")
    assert said in reason
    assert "\n" not in reason


def _tuned(project: Path, run: str) -> Path:
    return project / "models/tuned" / run / "seed-0"


def _weights(folder: Path) -> Mapping[str, Tensor]:
    return load_file(folder / "model.safetensors")


def _moved(project: Path, run: str) -> float:
    base, tuned = (_weights(one) for one in (project / "own/model", _tuned(project, run)))
    return float(sum((tuned[name] - base[name]).square().sum() for name in tuned))


class Said(NamedTuple):
    """Log-probabilities [tokens, vocabulary], and the tokens [tokens]."""

    logs: Tensor
    wanted: Tensor


def _said(project: Path, folder: Path, task: str = f"target/train/{TARGET}") -> Said:
    """Of the train rows of a task, by plain transformers."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(project / "own/model")
    train = read_examples(project / f"data/{CASE}/{task}.parquet")
    given = tokenizer(
        train.column("prompt"),
        text_target=[one.strip() for one, *_ in train.references()],
        padding=True,
        return_tensors="pt",
    )
    labels = given["labels"]
    with torch.inference_mode():
        logits = model(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"], labels=labels
        ).logits
    there = labels != tokenizer.pad_token_id
    return Said(logits[there].log_softmax(-1), labels[there])


def _apart(one: Said, other: Said) -> float:
    """KL of `other` from `one`."""
    pair = other.logs, one.logs
    return float(functional.kl_div(*pair, reduction="batchmean", log_target=True))


@pytest.mark.parametrize("run", RUNS)
def test_it_learns_and_is_scored(project: Path, run: str) -> None:
    curve, about = read_table(project / f"metrics/training/{CASE}/{run}.parquet")
    looks = curve["validation_loss"].dropna()
    assert looks.min() < looks.iloc[0]
    assert about["seen"] == ([OLD] if run in ("ewc", "replay") else [])
    told = read_json(project / "metrics/retention.json")[CASE][run]
    assert set(told["gain"]) == {TARGET}
    assert set(told["drop"]) == set(RETAIN)


def test_frozen_layers_of_both_sides_stay(project: Path) -> None:
    base, tuned = (_weights(one) for one in (project / "own/model", _tuned(project, "freeze")))
    changed = {name for name in tuned if not torch.equal(tuned[name], base[name])}
    assert {layer_of(name) for name in changed} == {1}
    for side in ("encoder", "decoder"):
        assert any(f"{side}.layers.1." in name for name in changed)


@pytest.mark.parametrize("run", ["ewc", "l2-sp"])
def test_weights_are_held(project: Path, run: str) -> None:
    assert _moved(project, run) < 0.5 * _moved(project, "full")


def test_what_the_base_says_is_held(project: Path) -> None:
    base = _said(project, project / "own/model")
    apart = {run: _apart(base, _said(project, _tuned(project, run))) for run in ("lwf", "full")}
    assert apart["lwf"] < 0.5 * apart["full"]


def test_what_the_teacher_says_is_learned(project: Path) -> None:
    teacher = _said(project, _tuned(project, "full"))
    student = _apart(teacher, _said(project, _tuned(project, "distil")))
    assert student < 0.5 * _apart(teacher, _said(project, project / "own/model"))


def test_replayed_rows_are_learned_too(project: Path) -> None:
    found = {}
    for run in ("replay", "full"):
        logs, wanted = _said(project, _tuned(project, run), f"retain/train/{OLD}")
        found[run] = float(functional.nll_loss(logs, wanted))
    assert found["replay"] < 0.5 * found["full"]


def test_variants_are_scored(project: Path) -> None:
    records, _ = read_records(project / f"metrics/records/{CASE}/full.parquet")
    final = records[records["variant"] == "final"]
    asked = set(map(tuple, final[final["condition"] == "clean"][["task", "example_id"]].to_numpy()))
    told = read_json(project / "metrics/retention.json")[CASE]
    for name in VARIANTS:
        of_variant = records[records["variant"] == name]
        assert set(of_variant["split"]) == {"validation", "test"}
        assert set(map(tuple, of_variant[["task", "example_id"]].to_numpy())) <= asked
        assert of_variant["score"].between(0, 1).all()
        assert set(told[f"full@{name}"]["gain"]) == {TARGET}


def _origin(project: Path) -> Origin:
    manifest = read_json(project / f"models/base/{CASE}.json")
    return Origin(manifest, project / "own/model", project / "models/tuned/full", [0, 1])


def _made(project: Path, name: str) -> Any:
    variant = variant_of(name)
    assert variant
    return made(variant, _origin(project), 0)


def test_variants_are_what_their_names_say(project: Path) -> None:
    base, first = (_weights(one) for one in (project / "own/model", _tuned(project, "full")))
    second = _weights(project / "models/tuned/full/seed-1")
    snapshot = _weights(_tuned(project, "full") / "step-10")
    mixed, soup, step, lines = (
        dict(_made(project, name).model.named_parameters())
        for name in ("wise-0.5", "soup", "step-10", "lines-0.5")
    )
    for name in mixed:
        weight = first[name]
        torch.testing.assert_close(mixed[name].data, (base[name] + weight) / 2)
        torch.testing.assert_close(soup[name].data, (weight + second[name]) / 2)
        torch.testing.assert_close(step[name].data, snapshot[name])
        factor = 1.0 if layer_of(name) == 1 else 0.5
        expected = base[name] + factor * (weight - base[name])
        torch.testing.assert_close(lines[name].data, expected)

    pruned = _made(project, "prune-0.5")
    layers = [layer for _, _, layer in linear_layers(pruned)]
    for layer in layers:
        assert int((layer.weight == 0).sum()) == layer.weight.numel() // 2
    small = _made(project, "int8")
    found = [one for one in small.model.modules() if isinstance(one, Int8Linear)]
    assert len(found) == len(layers)
    assert isinstance(small.model.get_output_embeddings(), torch.nn.Linear)
