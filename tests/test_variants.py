"""Models derived from a run without more training: their weights, their records, what is said."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import transformers
import yaml
from safetensors.torch import load_file, save_file
from tiny_training import LABELLED, TALES, composed, train
from torch import Tensor, nn

from stages import check
from stages.config.evaluation import read_evaluation
from stages.config.variants import Variant, variant_of
from stages.errors import UserError
from stages.models.base import materialise
from stages.models.loading import CausalModel, EncoderModel, Loaded, load
from stages.models.probe import Probe
from stages.models.tuned import save_tuned
from stages.records import pair, read_records, read_table
from stages.report import headline
from stages.scoring.case import score_variant
from stages.scoring.derived import base_heads
from stages.statistics.variants import brief, of_variant
from stages.storage import read_json, sha256_file
from stages.training import order
from stages.training.methods.adapter import Adapter
from stages.training.methods.block_expansion import BlockExpansion
from stages.training.methods.lora import Lora
from stages.training.methods.method import Method
from stages.variants.body import body_of
from stages.variants.interpolate import depth_factors, lines, wise
from stages.variants.prune import prune
from stages.variants.quantise import Int8Linear, quantise
from stages.variants.variant import Origin, made, size_of

CASE = tiny.CASE
TARGET = {"encoder": LABELLED, "causal": TALES}


def named(name: str) -> Variant:
    found = variant_of(name)
    assert found is not None
    return found


def trained(
    base: Path, folder: Path, kind: str, methods: Sequence[Method] = (), seeds: Sequence[int] = (0,)
) -> Origin:
    """A tiny model trained a little, once a seed, and saved as a run saves it."""
    for seed in seeds:
        subject, objective = composed(base, [*methods], targets=(TARGET[kind],), seed=seed)
        train(subject, objective, [*methods], 3)
        out = folder / f"seed-{seed}"
        save_tuned(out, subject.body, subject.heads(), subject.recipe.manifest)
    return Origin(subject.recipe.manifest, base, folder, seeds)


def weights(loaded: Loaded) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in body_of(loaded).named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert set(one) == set(other)
    return all(torch.equal(one[name], other[name]) for name in one)


def filled(loaded: Loaded, value: float) -> Any:
    for one in body_of(loaded).parameters():
        one.detach().fill_(value)
    return loaded


# Between base and run


@pytest.mark.parametrize("methods", [[], [Lora(r=2)]], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_wise_at_its_ends(
    models: dict[str, Path], tmp_path: Path, one_thread: None, kind: str, methods: list[Method]
) -> None:
    origin = trained(models[kind], tmp_path, kind, methods)
    base, tuned = origin.untuned(), origin.model(0)
    assert not same(weights(base), weights(tuned))
    assert same(weights(made(named("wise-1"), origin, 0)), weights(tuned))
    heads = {LABELLED: Probe(np.ones((4, 32)), np.array([0.0, 1.0, 2.0, -np.inf]))}
    begun = made(named("wise-0"), replace(origin, heads=heads), 0)
    assert same(weights(begun), weights(base))
    if isinstance(begun, EncoderModel) and isinstance(tuned, EncoderModel):
        assert (begun.heads[LABELLED].bias == heads[LABELLED].bias).all()
        ended = made(named("wise-1"), replace(origin, heads=heads), 0)
        assert isinstance(ended, EncoderModel)
        assert (ended.heads[LABELLED].bias == tuned.heads[LABELLED].bias).all()


def test_wise_by_hand(encoder: Path, tmp_path: Path) -> None:
    """From 1 to 3 by a quarter: 1.5; a head from 0 to 4: 1."""
    manifest = {"kind": "encoder", "pooling": "mean"}
    base, tuned = (filled(load(manifest, encoder), value) for value in (1.0, 3.0))
    tuned = EncoderModel(tuned.encoder, tuned.tokenizer, {"t": _probe(4.0)})
    found = wise(base, tuned, 0.25, {"t": _probe(0.0)})
    assert all((one == 1.5).all() for one in weights(found).values())
    assert isinstance(found, EncoderModel)
    assert (found.heads["t"].weight == 1.0).all()
    assert (found.heads["t"].bias == 1.0).all()


def _probe(value: float) -> Probe:
    return Probe(np.full((2, 32), value), np.full(2, value))


@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_wise_of_lora_scales_what_it_adds(
    models: dict[str, Path], tmp_path: Path, one_thread: None, kind: str
) -> None:
    origin = trained(models[kind], tmp_path / "whole", kind, [Lora(r=2)])
    shutil.copytree(tmp_path / "whole", tmp_path / "scaled")
    file = tmp_path / "scaled/seed-0/adapter_model.safetensors"
    scaled = {
        name: tensor * (0.25 if "lora_B" in name else 1) for name, tensor in load_file(file).items()
    }
    assert any("lora_B" in name for name in scaled)
    save_file(scaled, file, {"format": "pt"})
    expected = weights(load(origin.manifest, models[kind], tmp_path / "scaled/seed-0"))
    heads = {LABELLED: Probe(np.zeros((4, 32)), np.zeros(4))}
    found = weights(made(named("wise-0.25"), replace(origin, heads=heads), 0))
    assert not same(found, weights(origin.untuned()))
    for name, one in found.items():
        torch.testing.assert_close(one, expected[name], rtol=1e-5, atol=1e-6)


def test_lines_by_hand() -> None:
    names = [
        "embeddings.word_embeddings.weight",
        "embeddings.LayerNorm.bias",
        *(f"encoder.layer.{depth}.output.dense.weight" for depth in range(5)),
        "norm.weight",
    ]
    expected = [0.2, 0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert list(depth_factors(names, 0.2).values()) == pytest.approx(expected)
    gpt = ["transformer.wte.weight", "transformer.h.0.a", "transformer.h.1.a", "transformer.ln_f.b"]
    assert list(depth_factors(gpt, 0.5).values()) == [0.5, 0.5, 1.0, 1.0]
    with pytest.raises(UserError, match=r"^lines-0\.5: the model has no two blocks"):
        depth_factors(names[:3], 0.5)


@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_lines_in_a_model(models: dict[str, Path], kind: str) -> None:
    """From 0 to 1, a weight is its factor."""
    manifest = {"kind": kind, "pooling": "mean"}
    base, tuned = (filled(load(manifest, models[kind]), value) for value in (0.0, 1.0))
    found = {
        name: set(one.flatten().tolist()) for name, one in weights(lines(base, tuned, 0.25)).items()
    }
    for name, values in found.items():
        low = "embed" in name or ".0." in name
        assert values == {0.25 if low else 1.0}, name
    assert len({tuple(values) for values in found.values()}) == 2


def test_soup_is_the_mean(models: dict[str, Path], tmp_path: Path, one_thread: None) -> None:
    origin = trained(models["encoder"], tmp_path, "encoder", seeds=(0, 1, 4))
    each = [origin.model(seed) for seed in origin.seeds]
    found = made(named("soup"), origin, 0)
    assert isinstance(found, EncoderModel)
    for name, one in weights(found).items():
        mean = np.mean([weights(model)[name].double().numpy() for model in each], axis=0)
        np.testing.assert_allclose(one.numpy(), mean, rtol=1e-6, atol=1e-9)
        assert (
            name.endswith("word_embeddings.weight")
            or len({str(weights(m)[name]) for m in each}) > 1
        )
    heads = [model.heads[LABELLED].weight for model in each if isinstance(model, EncoderModel)]
    np.testing.assert_allclose(found.heads[LABELLED].weight, np.mean(heads, axis=0), rtol=1e-6)


@pytest.mark.parametrize("name", ["wise-0.5", "lines-0.5", "soup"])
@pytest.mark.parametrize(
    ("kind", "method", "said"),
    [
        ("causal", BlockExpansion(blocks=1), "copies of blocks"),
        (
            "encoder",
            Adapter.model_validate({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}),
            "virtual tokens",
        ),
    ],
    ids=["blocks", "prompt"],
)
def test_what_has_no_weights_in_the_base_is_not_mixed(
    models: dict[str, Path],
    tmp_path: Path,
    one_thread: None,
    kind: str,
    method: Method,
    said: str,
    name: str,
) -> None:
    origin = trained(models[kind], tmp_path, kind, [method], seeds=(0, 1))
    with pytest.raises(UserError, match=rf"^{name}: {said} .*: leave it out$"):
        made(named(name), origin, 0)
    assert size_of(made(named("prune-0.5"), origin, 0)) < size_of(origin.model(0))


# Smaller


def gpt2() -> CausalModel:
    config = transformers.GPT2Config(
        vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=16, initializer_range=0.3
    )
    return CausalModel(transformers.GPT2LMHeadModel(config).eval(), SimpleNamespace())  # type: ignore[arg-type]


def bert(hidden: int = 32) -> EncoderModel:
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=16,
    )
    body = transformers.BertModel(config, add_pooling_layer=False).eval()
    return EncoderModel(SimpleNamespace(body=body), SimpleNamespace())  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.3, 0.75])
@pytest.mark.parametrize("make", [bert, gpt2])
def test_pruning_takes_the_smallest(make: Any, share: float) -> None:
    model = make()
    before = weights(model)
    after = weights(prune(model, share))
    pruned = 0
    for name, old in before.items():
        new = after[name]
        zero = new == 0
        if old.ndim < 2 or any(word in name for word in ("embed", "wte", "wpe")):
            assert torch.equal(new, old), name
            continue
        pruned += 1
        assert int(zero.sum()) == round(share * old.numel())
        assert torch.equal(new[~zero], old[~zero])
        assert old[zero].abs().max() <= old[~zero].abs().min()
    assert pruned == {"bert": 12, "gpt2": 8}[make.__name__]


@pytest.mark.parametrize("make", [lambda: bert(128), gpt2], ids=["bert", "gpt2"])
def test_int8_is_small_and_near(make: Any) -> None:
    torch.manual_seed(0)
    model = make()
    ids = torch.arange(12).view(2, 6)
    body = body_of(model)
    linear = sum(
        one.numel()
        for name, one in body.named_parameters()
        if one.ndim == 2 and not any(word in name for word in ("embed", "wte", "wpe"))
    )
    whole = size_of(model)
    with torch.inference_mode():
        before = body(input_ids=ids)[0]
        after = body_of(quantise(model))(input_ids=ids)[0]
    layers = [one for one in body.modules() if isinstance(one, Int8Linear)]
    assert sum(one.in_features * one.out_features for one in layers) == linear
    assert sum(one.bytes for one in layers) < 4 * linear / 2
    # Biases are born 0, and so not counted before.
    assert size_of(model) == whole - 4 * linear + sum(one.bytes for one in layers)
    if isinstance(model, EncoderModel):
        assert size_of(model) < whole / 2
    error = float((after - before).norm() / before.norm())
    assert 0 < error < 0.1


def test_int8_takes_no_longer_by_far() -> None:
    """How fast it is depends on the processor: the ratio is printed."""
    plain = nn.Linear(512, 512)
    layer, given = Int8Linear(plain.weight, plain.bias), torch.randn(256, 512)
    took = []
    with torch.inference_mode():
        for one in (plain, layer):
            one(given)
            each = []
            for _ in range(20):
                began = time.perf_counter()
                one(given)
                each.append(time.perf_counter() - began)
            took.append(min(each))
    print(f"int8 takes {took[1] / took[0]:.2f} of the time of fp32")
    assert took[1] < 10 * took[0]


def test_int8_is_for_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_DEVICE", "meta")
    with pytest.raises(UserError, match=r"^int8: for a CPU, and the device is meta: leave it out$"):
        quantise(bert())


def test_int8_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = _real()
    params["variants"]["bert-full"] = ["int8"]
    assert _told(tmp_path, monkeypatch, params) == []
    check.main()
    assert capsys.readouterr().out == "params.yaml: sound\n"
    monkeypatch.setenv("PALIMPSEST_DEVICE", "meta")
    told = r"^variants.bert-full: int8: for a CPU, and the device is meta: leave it out$"
    with pytest.raises(UserError, match=told):
        check.main()


# Snapshots

STEADY: dict[str, Any] = {"schedule": "constant", "warmup": 0.0, "validate_every": 1000}


def change(project: Path, run: str, variants: Sequence[str] = (), /, **settings: Any) -> None:
    params = tiny.read_params(project)
    params["runs"][run] |= settings
    params["variants"][run] = [*variants]
    tiny.write_params(project, params)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("run", "rate"), [("full", 0.005), ("lora", 0.002)])
def test_a_snapshot_is_what_a_shorter_run_ends_with(bench: Path, run: str, rate: float) -> None:
    """At a steady rate; of the shorter run the last look is the better of the two."""
    change(bench, run, **STEADY, learning_rate=rate, steps=40, snapshots=[30, 35])
    tiny.run_stage("finetune", run)
    folder = bench / f"models/tuned/{run}/seed-0"
    first, second = (hashes(folder / f"step-{step}") for step in (30, 35))
    change(bench, run, steps=30, snapshots=[])
    tiny.run_stage("finetune", run)
    _, about = read_table(bench / f"metrics/training/{CASE}/{run}.parquet")
    assert about["best_step"] == {"0": 30}
    assert {name: sha for name, sha in hashes(folder).items() if name != "trained.json"} == first
    assert set(second) == set(first)
    assert second != first


class _StopError(Exception):
    pass


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "lost"])
def test_a_snapshot_survives_an_interruption(
    bench: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Taken before it, and not again; where it is lost, training begins anew."""
    change(bench, "full", steps=40, checkpoint_every=15, snapshots=[10, 15, 30])
    folder = bench / "models/tuned/full"
    tiny.run_stage("finetune", "full")
    whole = hashes(folder)
    assert {name.split("/")[1] for name in whole if "step-" in name} == {
        f"step-{step}" for step in (10, 15, 30)
    }
    original, seen, stopped = order.seed_step, list[int](), list[int]()

    def seed_step(seed: int, step: int, process: int) -> None:
        if step == 25 and not stopped:
            stopped.append(step)
            raise _StopError
        seen.append(step)
        original(seed, step, process)

    monkeypatch.setattr(order, "seed_step", seed_step)
    with pytest.raises(_StopError):
        tiny.run_stage("finetune", "full")
    kept = sorted(path.name for path in (bench / ".scratch").glob("*/snapshot-*.pt"))
    assert kept == ["snapshot-0-10.pt", "snapshot-0-15.pt"]
    if lost:
        next((bench / ".scratch").glob("*/snapshot-0-10.pt")).unlink()
    seen.clear()
    tiny.run_stage("finetune", "full")
    assert seen == [0, *range(0 if lost else 15, 40)]  # the first is of the new head
    assert hashes(folder) == whole
    assert not list((bench / ".scratch").rglob("*.pt"))


# Records and reports

NAMES = [
    "wise-0",
    "wise-0.5",
    "wise-1",
    "lines-0.5",
    "lines-1",
    "prune-0.5",
    "int8",
    "soup",
    "step-10",
]
SEEDS = [0, 1]


@pytest.fixture(scope="module")
def derived(walked: tiny.Walk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a run with every kind of variant, scored and compared."""
    folder = tmp_path_factory.mktemp("derived") / "project"
    shutil.copytree(walked.path, folder)
    change(folder, "full", NAMES, seeds=SEEDS, snapshots=[10])
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        check.check()
        tiny.run_stage("finetune", "full")
        tiny.run_stage("retention_eval", "full")
        tiny.run_stage("compare")
    return folder


def records(project: Path, who: str) -> pd.DataFrame:
    return read_records(project / f"metrics/records/{CASE}/{who}.parquet")[0]


def answers(rows: pd.DataFrame) -> pd.DataFrame:
    """What was found, whoever it is of."""
    kept = rows.drop(columns=["variant", "seed"]).sort_values(["task", "split", "example_id"])
    return kept.reset_index(drop=True)


def test_variants_are_asked_validation_and_test_and_pair(derived: Path) -> None:
    base, run = records(derived, "base"), records(derived, "full")
    assert list(dict.fromkeys(run["variant"])) == ["final", *NAMES]
    asked = brief(base[base["condition"] != "rescored"])
    assert set(asked["split"]) == {"validation", "test"}
    for name in NAMES:
        rows = of_variant(run, name)
        seeds = SEEDS[:1] if name == "soup" else SEEDS
        assert sorted(set(rows["seed"])) == seeds
        assert set(rows["condition"]) == {"clean"}
        assert len(pair(asked, rows)) == len(asked) * len(seeds)


def test_records_at_the_ends_are_those_of_base_and_run(derived: Path) -> None:
    base, run = records(derived, "base"), records(derived, "full")
    before = answers(brief(base[base["condition"] != "rescored"]))
    for seed in SEEDS:
        of_seed = run[run["seed"] == seed]
        final = answers(brief(of_variant(of_seed)))
        assert not final["score"].equals(before["score"])
        pd.testing.assert_frame_equal(answers(of_variant(of_seed, "wise-0")), before)
        for name in ("wise-1", "lines-1"):
            pd.testing.assert_frame_equal(answers(of_variant(of_seed, name)), final)
        halfway = answers(of_variant(of_seed, "wise-0.5"))
        assert not halfway["nll"].equals(before["nll"])
        assert not halfway["nll"].equals(final["nll"])


def test_scoring_the_ends_gives_the_records_that_were_reused(
    derived: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(derived)
    manifest, evaluation = read_json(Path(f"models/base/{CASE}.json")), read_evaluation()
    origin = Origin(manifest, materialise(manifest), Path("models/tuned/full"), SEEDS)
    heads = base_heads(CASE, origin, evaluation)
    assert set(heads) == {tiny.TARGET}
    run = records(derived, "full")
    for alpha in (0.0, 1.0):
        model = wise(origin.untuned(), origin.model(1), alpha, heads)
        found = score_variant(CASE, model, evaluation, "again")
        reused = of_variant(run[run["seed"] == 1], f"wise-{alpha:g}")
        left, right = answers(found), answers(reused)
        columns = ["task", "split", "example_id", "score", "nll", "prediction", "target"]
        pd.testing.assert_frame_equal(left[columns], right[columns], rtol=1e-6)


def test_what_compare_says_of_variants(derived: Path) -> None:
    told = read_json(derived / "metrics/retention.json")[CASE]
    runs = {"full", "lora", *(f"full@{name}" for name in NAMES)}
    assert set(told) - {"frontier"} == runs
    nothing = told["full@wise-0"]
    assert set(nothing["gain"].values()) | set(nothing["drop"].values()) == {0}
    for name in ("wise-1", "lines-1"):
        ended = told[f"full@{name}"]
        expected = {key: value for key, value in told["full"].items() if key != "noise_drop"}
        assert ended == expected
    assert "noise_drop" in told["full"]
    scores = read_json(derived / "metrics/scores.json")[CASE]
    assert set(scores) == {"base", *runs}
    drop = scores["full@wise-0.5"][tiny.RETRIEVAL]["drop"]
    assert drop["low"] <= drop["value"] <= drop["high"]
    _, about = read_records(derived / f"metrics/records/{CASE}/full.parquet")
    sizes = about["bytes"]
    assert set(sizes) == {"final", *NAMES}
    assert sizes["int8"] < sizes["final"]
    assert sizes["prune-0.5"] < sizes["final"] == sizes["wise-0.5"] == sizes["soup"]


def test_the_report_shows_variants(derived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(derived)
    for kind in ("md", "html"):
        page = (derived / f"metrics/report.{kind}").read_text(encoding="utf-8")
        assert "Variants of full" in page
        assert "Variants of lora" not in page
        assert "selection on the test" in " ".join(page.split())
        for name in NAMES:
            assert name in page
    table = (derived / "metrics/report.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith(("| variant", "| final", *(f"| {name} " for name in NAMES)))
    ]
    assert len(rows) == 2 + len(NAMES)
    assert all(len(row) == len(rows[0]) for row in rows)
    assert rows[0][-2:] == ["mean of unseen, points", "size, MB"]
    base = dict(zip(rows[0], next(row for row in rows if row[0] == "wise-0"), strict=True))
    assert base["mean of unseen, points"] == "+0.0"
    # No answer of 40 changed: as far as these examples tell, at most 3.84 / (40 + 3.84) did.
    assert base[f"{tiny.RETRIEVAL}, points"] == "+0.0 [-8.8, +8.8]"


def test_the_frontier_is_of_runs_and_variants(derived: Path) -> None:
    found = read_json(derived / "metrics/frontier.json")[CASE]
    scores = read_json(derived / "metrics/scores.json")[CASE]
    curves = {curve["method"]: curve for curve in found["curves"]}
    methods = {"full", "lora", *(f"full+{kind}" for kind in ("wise", "lines", "int8", "soup"))}
    assert {"full", "full+wise"} <= set(curves)
    assert methods <= set(curves) | set(found["left_out"])
    # A snapshot is the same method stopped earlier; wise-0 gains nothing and is no point.
    assert curves["full"]["attempts"] == 2
    assert curves["full+wise"]["attempts"] == sum(name.startswith("wise") for name in NAMES)
    points = [point for curve in curves.values() for point in curve["points"]]
    assert not [point for point in points if point["name"].endswith("wise-0")]
    gained = {
        name: of["color-qa"]["gain"]["value"] for name, of in scores.items() if name != "base"
    }
    for point in points:
        assert point["gain"]["value"] == pytest.approx(gained[point["name"]], abs=2e-4)
        of_model = scores[point["name"]]
        lost = [of_model[task]["drop"]["value"] for task in tiny.RETAIN]
        assert point["drop"]["value"] == pytest.approx(sum(lost) / len(lost), abs=2e-4)
    best = {
        method: max(p["gain"]["value"] for p in curve["points"]) for method, curve in curves.items()
    }
    assert found["gain"] == min(best.values()) > 0
    retention = read_json(derived / "metrics/retention.json")[CASE]["frontier"]
    assert retention == {method: curve["drop"]["value"] for method, curve in curves.items()}


def test_the_report_draws_the_frontier(derived: Path) -> None:
    found = read_json(derived / "metrics/frontier.json")[CASE]
    rows = read_json(derived / "metrics/plots/frontier.json")
    points = sum(len(curve["points"]) for curve in found["curves"])
    assert len(rows) == points + len(found["curves"])
    page = (derived / "metrics/report.html").read_text(encoding="utf-8")
    assert page.count("<circle") >= len(rows)
    table = (derived / "metrics/report.md").read_text(encoding="utf-8")
    section = table.split("### What a gain costs")[1].split("###")[0]
    shown = [line for line in section.splitlines() if line.startswith("| ")]
    assert [line.split("|")[1].strip() for line in shown[1:]] == [
        curve["method"] for curve in found["curves"]
    ]


def test_the_headline_is_of_runs_alone(
    derived: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(derived)
    headline.main()
    shown = capsys.readouterr().out
    assert "full" in shown
    assert "full@" not in shown


def test_compare_refuses_records_of_other_variants(
    derived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(derived, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    change(tmp_path / "copy", "full", ["wise-0.5"])
    with pytest.raises(UserError, match=r"records of full hold the variants .*run `dvc repro`"):
        tiny.run_stage("compare")


def test_an_edit_of_variants_scores_and_trains_nothing(reproduced: tiny.Project) -> None:
    try:
        change(reproduced.path, "full", ["prune-0.5"])
        assert tiny.ran(reproduced.dvc("repro")) == ["retention-eval@full", "compare"]
        told = json.loads((reproduced.path / "metrics/retention.json").read_text(encoding="utf-8"))
        assert "full@prune-0.5" in told[CASE]
    finally:
        reproduced.restore()


# params.yaml


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("wise-0.5", "variants.bert-full = 'wise-0.5': give a list"),
        (None, "variants.bert-full = None: give a list"),
        ([0.5], "variants.bert-full = 0.5: give one of wise-<alpha>"),
        (["wse-0.5"], "variants.bert-full = 'wse-0.5': give one of wise-<alpha>"),
        (["wise-1.5"], "variants.bert-full = 'wise-1.5': give wise-<alpha>, from 0 to 1"),
        (
            ["wise-0.12345"],
            "variants.bert-full = 'wise-0.12345': give wise-<alpha>, from 0 to 1, f",
        ),
        (["wise-0.50"], "variants.bert-full = 'wise-0.50': give wise-<alpha>, from 0 to 1"),
        (["lines-a"], "variants.bert-full = 'lines-a': give lines-<alpha>, from 0 to 1"),
        (["prune-1"], "variants.bert-full = 'prune-1': give prune-<share>, between 0 and 1"),
        (["int8-0"], "variants.bert-full = 'int8-0': give int8"),
        (["int8", "int8"], "variants.bert-full = 'int8': stands there twice"),
        (["soup"], "variants.bert-full = 'soup': runs.bert-full.seeds has one seed"),
        (["step-60"], "variants.bert-full = 'step-60': runs.bert-full.snapshots is []"),
        (["step-0"], "variants.bert-full = 'step-0': give step-<n>, a step of the run's snapshots"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, said: str
) -> None:
    assert the_mistake(tmp_path, monkeypatch, variants={"bert-full": given}).startswith(
        f"params.yaml: {said}"
    )


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"snapshots": [80, 80]}, "snapshots = [80, 80]: duplicate step"),
        ({"snapshots": [80, 999]}, "snapshots = [80, 999]: the run ends after 240 steps"),
        ({"snapshots": [0]}, "snapshots.0 = 0: "),
        ({"snapshots": [80], "early_stopping": 2}, "snapshots = [80]: early_stopping may end"),
    ],
)
def test_a_mistake_in_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: dict[str, Any], said: str
) -> None:
    found = the_mistake(tmp_path, monkeypatch, runs={"bert-full": run})
    assert found.startswith(f"params.yaml: runs.bert-full.{said}")


def test_every_run_has_an_entry_and_every_entry_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = _real()
    del params["variants"]["bert-full"]
    assert _told(tmp_path, monkeypatch, params) == [
        "params.yaml: variants.bert-full = None: every run has an entry: give [] for none"
    ]
    params = _real()
    params["variants"]["bert-ful"] = []
    assert _told(tmp_path, monkeypatch, params) == [
        "params.yaml: variants = 'bert-ful': no such name under runs; did you mean bert-full?"
    ]


def test_what_grows_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = _real()
    params["runs"]["gpt-full"]["methods"] = {"block-expansion": {"blocks": 1}}
    params["variants"]["gpt-full"] = ["wise-0.5", "prune-0.5"]
    assert _told(tmp_path, monkeypatch, params) == [
        "params.yaml: variants.gpt-full = 'wise-0.5': the run has block-expansion, and its copies "
        "of blocks have no weights in the base: leave it out"
    ]


def test_what_goes_with_several_seeds_and_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = _real()
    params["runs"]["bert-full"] |= {"seeds": [0, 1], "snapshots": [60, 120]}
    params["variants"]["bert-full"] = ["soup", "step-60", "step-120", "wise-0.05", "wise-1"]
    assert _told(tmp_path, monkeypatch, params) == []


def _real() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    return found


def _told(folder: Path, patch: pytest.MonkeyPatch, params: dict[str, Any]) -> list[str]:
    patch.chdir(folder)
    tiny.write_params(folder, params)
    try:
        check.check()
    except UserError as error:
        return str(error).splitlines()
    return []


def the_mistake(
    folder: Path,
    patch: pytest.MonkeyPatch,
    variants: dict[str, Any] | None = None,
    runs: dict[str, Any] | None = None,
) -> str:
    params = _real()
    params["variants"] |= variants or {}
    for run, settings in (runs or {}).items():
        params["runs"][run] |= settings
    found = _told(folder, patch, params)
    assert len(found) == 1, found
    return found[0]
