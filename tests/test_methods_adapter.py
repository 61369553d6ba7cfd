"""PEFT's adapters: settings, what is trained, what is left, and virtual tokens by hand."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_training
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tiny_training import LABELLED, TALES, composed, parts, train
from torch import Tensor, nn

from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.models.depth import layer_of
from stages.models.encoder import embed, longest_input
from stages.models.loading import EncoderModel, load
from stages.models.packed import pack
from stages.models.tuned import save_tuned
from stages.training.methods.adalora import AdaLora, orthogonality
from stages.training.methods.adapter import TYPES, Adapter
from stages.training.methods.freeze import Freeze
from stages.training.methods.lora import Lora
from stages.training.methods.method import Fit, Method
from stages.training.methods.peft_wrapper import PROMPTS
from stages.training.methods.table import chosen, misfits
from stages.training.objective import Objective
from stages.training.subject import Subject

SMALL: dict[str, dict[str, Any]] = {
    "C3A": {"block_size": 16},
    "FOURIERFT": {"n_frequency": 50},
    "MISS": {"r": 8},
    "PSOFT": {"r": 8},
    "ROAD": {"group_size": 16},
    "SHIRA": {"r": 4},
    "VBLORA": {"vector_length": 16, "num_vectors": 8},
    "WAVEFT": {"n_frequency": 50},
    **{prompt: {"num_virtual_tokens": 3} for prompt in PROMPTS},
}
"""What a model of 32 units a layer needs."""


def adapter(**settings: Any) -> Adapter:
    return Adapter.model_validate(settings)


TARGETS = {"encoder": (LABELLED,), "causal": (TALES,)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


@pytest.fixture(scope="module", params=["encoder", "causal"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def features(subject: Subject, rows: int = 12) -> Tensor:
    stream = subject.targets[0]
    stream.trainee.eval()
    with torch.no_grad():
        return stream.trainee(stream.rows, range(rows)).features


def reloaded(subject: Subject, folder: Path) -> Tensor:
    """What the model says that was saved and loaded through stages."""
    recipe = subject.recipe
    save_tuned(folder, subject.body, subject.heads(), recipe.manifest)
    other = Subject(recipe, subject.seed, subject.accelerator)
    other.loaded = load(recipe.manifest, recipe.base, folder)
    if not isinstance(other.loaded, EncoderModel):
        other.body = other.loaded.model
    other.learn_targets(lambda examples: examples)
    return features(other)


def base_weights(body: Any) -> dict[str, Tensor]:
    """By the names that they have without an adapter."""
    return {
        re.sub(r"^base_model\.(model\.)?", "", name.replace("base_layer.", "")): weight
        for name, weight in body.state_dict().items()
    }


EACH: list[tuple[str, Method]] = [
    *((name, adapter(peft_type=name, **SMALL.get(name, {}))) for name in TYPES),
    ("lora", Lora(r=4)),
    ("dora", Lora(r=4, use_dora=True)),
    ("rslora", Lora(r=4, use_rslora=True)),
    ("adalora", AdaLora(target_r=2, init_r=4, tinit=1, tfinal=2)),
]


@pytest.mark.parametrize(("name", "method"), EACH, ids=[name for name, _ in EACH])
def test_what_is_saved_is_what_was_trained_and_the_base_is_untouched(
    kind: str, name: str, method: Method, models: dict[str, Path], tmp_path: Path
) -> None:
    if kind == "causal" and name in PROMPTS:
        pytest.skip("refused when params are read")
    subject, objective = composed(models[kind], [method], targets=TARGETS[kind])
    whole = load(subject.recipe.manifest, models[kind])
    body = whole.encoder.body if isinstance(whole, EncoderModel) else whole.model
    before = {key: weight.clone() for key, weight in base_weights(body).items()}
    started = features(subject)
    train(subject, objective, [method], 6)
    trained = features(subject)
    assert (trained - started).abs().max() > 0.01, "nothing was learned"

    after = base_weights(subject.body)
    assert set(before) <= set(after)
    for key in before:
        assert torch.equal(after[key], before[key]), key

    torch.testing.assert_close(reloaded(subject, tmp_path), trained, rtol=1e-4, atol=1e-4)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= names
    assert "model.safetensors" not in names


# Where an adapter goes


def adapted(body: Any) -> set[str]:
    """The modules that LoRA is in."""
    return {
        name.removeprefix("base_model.model.")
        for name, module in body.named_modules()
        if isinstance(module, BaseTunerLayer)
    }


def test_all_linear_layers_by_default(kind: str, models: dict[str, Path]) -> None:
    whole = load(tiny_training.subject(models[kind], TARGETS[kind]).recipe.manifest, models[kind])
    body = whole.encoder.body if isinstance(whole, EncoderModel) else whole.model
    linear = {name for name, module in body.named_modules() if type(module) is nn.Linear}
    for method in (Lora(r=2), adapter(peft_type="LOKR")):
        subject, _ = composed(models[kind], [method], targets=TARGETS[kind])
        assert adapted(subject.body) == linear - {"lm_head"}
    chosen_ones = adapter(peft_type="LORA", target_modules=["query", "q_proj"])
    subject, _ = composed(models[kind], [chosen_ones], targets=TARGETS[kind])
    assert adapted(subject.body) == {n for n in linear if n.endswith(("query", "q_proj"))}


def test_norms_are_what_ln_tuning_trains(kind: str, models: dict[str, Path]) -> None:
    method = adapter(peft_type="LN_TUNING")
    subject, _ = composed(models[kind], [method], targets=TARGETS[kind])
    trained = [name for name, p in subject.body.named_parameters() if p.requires_grad]
    assert len(adapted(subject.body)) == 5
    assert all("norm" in name.lower() for name in trained)
    assert len(trained) == (10 if kind == "encoder" else 5)


def test_no_adapter_in_what_is_frozen(kind: str, models: dict[str, Path]) -> None:
    methods: list[Method] = [Freeze(layers=1), Lora(r=2)]
    subject, objective = composed(models[kind], methods, targets=TARGETS[kind])
    found = adapted(subject.body)
    assert found
    assert all(layer_of(name + ".") == 1 for name in found)
    train(subject, objective, methods, 2)
    with pytest.raises(UserError, match=r"runs\.toy\.methods\.adapter: VERA .*freeze.*lora"):
        composed(models[kind], [Freeze(layers=1), adapter(peft_type="VERA")], targets=TARGETS[kind])


# Virtual tokens


def by_hand(body: Any, ids: Tensor, mask: Tensor, prefix: bool) -> Tensor:
    """Mean of BERT's last hidden states with `virtual` tokens before the text, as the papers have
    it: of keys and values in each layer (Li and Liang 2021, arXiv 2101.00190), or of embeddings
    (Lester et al. 2021, arXiv 2104.08691)."""
    bert, virtual = body.get_base_model(), body.active_peft_config.num_virtual_tokens
    rows, length = ids.shape
    seen = torch.cat([torch.ones(rows, virtual), mask.float()], dim=1)
    away = (1 - seen)[:, None, None, :] * -1e9
    tables = bert.embeddings
    words = tables.word_embeddings(ids)
    if not prefix:
        words = torch.cat([body.get_prompt(rows), words], dim=1)
    places = torch.arange(virtual + length)[-words.shape[1] :]
    words = words + tables.token_type_embeddings.weight[0] + tables.position_embeddings(places)
    state = tables.LayerNorm(words)
    layers = bert.config.num_hidden_layers
    for number, layer in enumerate(bert.encoder.layer):
        attention = layer.attention.self
        heads = attention.num_attention_heads
        query, key, value = (
            part(state).view(rows, -1, heads, state.shape[-1] // heads).transpose(1, 2)
            for part in (attention.query, attention.key, attention.value)
        )
        if prefix:
            learned = body.prompt_encoder["default"].embedding.weight
            both = learned.view(virtual, layers, 2, heads, -1)[:, number].permute(1, 2, 0, 3)
            key = torch.cat([both[0].expand(rows, -1, -1, -1), key], dim=2)
            value = torch.cat([both[1].expand(rows, -1, -1, -1), value], dim=2)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + away
        read = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        out = layer.attention.output
        state = out.LayerNorm(out.dense(read) + state)
        inner = nn.functional.gelu(layer.intermediate.dense(state))
        state = layer.output.LayerNorm(layer.output.dense(inner) + state)
    text = state[:, -length:] * mask[..., None]
    mean: Tensor = text.sum(1) / mask.sum(1, keepdim=True)
    return mean


@pytest.mark.parametrize("prompt", PROMPTS)
@torch.no_grad()
def test_virtual_tokens_by_hand(prompt: str, models: dict[str, Path]) -> None:
    method = adapter(peft_type=prompt, num_virtual_tokens=3)
    subject, _ = composed(models["encoder"], [method])
    assert isinstance(subject.loaded, EncoderModel)
    encoder = subject.loaded.encoder.eval()
    ids = torch.tensor([[2, 10, 11, 12, 3], [2, 20, 3, 0, 0]])
    mask = (ids != 0).long()
    found = encoder(ids, mask)
    expected = by_hand(subject.body, ids, mask, prompt == "PREFIX_TUNING")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    base = subject.body.get_base_model()(input_ids=ids, attention_mask=mask).last_hidden_state
    assert (found[1] - base[1, :3].mean(0)).abs().max() > 0.1, "the virtual tokens say nothing"
    # The first token is the text's own.
    encoder.pooling = "cls"
    assert encoder(ids, mask).shape == found.shape
    padded = encoder(ids, mask)[1]
    torch.testing.assert_close(padded, encoder(ids[1:, :3], mask[1:, :3])[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_virtual_tokens_in_bf16(prompt: str, models: dict[str, Path], tmp_path: Path) -> None:
    """As a tuned model is scored where the processor has it."""
    method = adapter(peft_type=prompt, num_virtual_tokens=3)
    subject, objective = composed(models["encoder"], [method])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        train(subject, objective, [method], 2)
    exact = reloaded(subject, tmp_path)
    recipe = subject.recipe
    loaded = load(recipe.manifest, recipe.base, tmp_path)
    assert isinstance(loaded, EncoderModel)
    encoder = loaded.encoder.to(torch.bfloat16)
    pack(encoder)
    rows = loaded.tokenizer(recipe.train[0].column("text")[:12], 24)
    found = embed(encoder, rows, 0, 1024)
    assert np.abs(found - exact.numpy()).max() < 0.05 * exact.abs().max()


def test_virtual_tokens_take_positions(models: dict[str, Path], tmp_path: Path) -> None:
    """The tiny BERT has 64, and the task's texts up to 24 tokens."""
    fits = adapter(peft_type="PREFIX_TUNING", num_virtual_tokens=40)
    subject, objective = composed(models["encoder"], [fits])
    assert isinstance(subject.loaded, EncoderModel)
    assert longest_input(subject.loaded.encoder) == 24
    train(subject, objective, [fits], 1)
    save_tuned(tmp_path, subject.body, {}, subject.recipe.manifest)
    loaded = load(subject.recipe.manifest, models["encoder"], tmp_path)
    assert isinstance(loaded, EncoderModel)
    (row,) = loaded.tokenizer([" ".join(["red1"] * 60)], 60)
    assert len(row) == 24
    assert np.isfinite(embed(loaded.encoder, [row], 0, 1024)).all()
    with pytest.raises(UserError, match="num_virtual_tokens = 41: the model reads 64 tokens"):
        composed(models["encoder"], [adapter(peft_type="PREFIX_TUNING", num_virtual_tokens=41)])


# AdaLoRA


def test_orthogonality_is_that_of_peft(models: dict[str, Path]) -> None:
    """PEFT adds it to the loss that a model returns; this stands in for such a model's output."""
    method = AdaLora(target_r=2, init_r=4, tinit=1, tfinal=2, orth_reg_weight=0.3)
    subject, objective = composed(models["encoder"], [method])
    train(subject, objective, [method], 1)
    tuner = subject.body.base_model
    output = SimpleNamespace(loss=torch.zeros(()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuner.model, "forward", lambda: output)
        tuner.forward()
    found = parts(objective)
    torch.testing.assert_close(found["adalora"], output.loss)
    assert set(found) == {LABELLED, "adalora"}
    assert found["adalora"] > 0

    unregularised = AdaLora(target_r=2, init_r=4, tinit=1, tfinal=2, orth_reg_weight=0)
    assert set(parts(composed(models["encoder"], [unregularised])[1])) == {LABELLED}


def test_orthogonality_by_hand() -> None:
    """P P' - I of rows (2, 0), (0, 1) is (3, 0; 0, 0); of (1, 0), (1, 0) it is (0, 1; 1, 0)."""
    body = nn.Module()
    left, right = torch.tensor([[2.0, 0], [0, 1]]), torch.tensor([[1.0, 1], [0, 0]])
    body.lora_A = nn.ParameterDict({"default": nn.Parameter(left)})
    body.lora_B = nn.ParameterDict({"default": nn.Parameter(right)})
    assert float(orthogonality(body)) == pytest.approx((3 + math.sqrt(2)) / 2)


def ranks(body: Any) -> list[int]:
    """Singular values of each layer that are not zero."""
    return [
        int((weight != 0).sum()) for name, weight in body.named_parameters() if "lora_E" in name
    ]


def test_ranks_are_cut_to_the_budget(models: dict[str, Path], tmp_path: Path) -> None:
    method = AdaLora(target_r=2, init_r=4, tinit=2, tfinal=0)
    subject, objective = composed(models["encoder"], [method], steps=8)
    assert sum(ranks(subject.body)) == 0  # it starts as the base
    train(subject, objective, [method], 2)
    layers = len(ranks(subject.body))
    assert ranks(subject.body) == [4] * layers
    kept: dict[str, Tensor] = {}
    for number in range(2, 8):
        step_from(subject, objective, method, number)
        if number == 3:
            kept = {name: p.detach().clone() for name, p in subject.body.named_parameters()}
    assert sum(ranks(subject.body)) == 2 * layers
    assert len(set(ranks(subject.body))) > 1, "every layer lost alike"

    # The best look may lie before the last cut: then its ranks are what is saved.
    for name, parameter in subject.body.named_parameters():
        parameter.data.copy_(kept[name])
    assert sum(ranks(subject.body)) > 2 * layers
    torch.testing.assert_close(reloaded(subject, tmp_path), features(subject), rtol=1e-4, atol=1e-4)


def step_from(subject: Subject, objective: Objective, method: AdaLora, number: int) -> None:
    weights = [weight for weight in objective.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.02)
    sum(parts(objective, number).values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    method.after_step(subject, number)
    optimizer.zero_grad()


def test_adalora_is_not_resumed() -> None:
    assert not AdaLora.resumable
    assert Lora.resumable
    assert Adapter.resumable


# Settings


def run_with(**methods: Any) -> RunConfig:
    return tiny_training.config(methods=methods)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({}, "params.yaml: runs.x.methods.adapter.peft_type: missing"),
    ({"peft_type": "LOKRR"}, "adapter.peft_type = 'LOKRR': give one of .*; did you mean LOKR?"),
    ({"peft_type": "XLORA"}, "adapter.peft_type = 'XLORA': give one of BOFT, "),
    ({"peft_type": "ADALORA", "target_r": 2}, "peft_type = 'ADALORA': .*: adalora"),
    ({"peft_type": "LOKR", "rr": 2}, "adapter.rr = 2: unknown key of LOKR; did you mean r?"),
    ({"peft_type": "LOKR", "r": "two"}, "adapter.r = 'two': input should be a valid integer"),
    ({"peft_type": "LOKR", "r": 0}, "adapter.r = 0: give 1 or more"),
    ({"peft_type": "LOHA", "module_dropout": 1.0}, "module_dropout = 1.0: give 0 to below 1"),
    ({"peft_type": "OFT", "bias": "some"}, "adapter.bias = 'some': input should be 'none'"),
    ({"peft_type": "OFT", "r": 8, "oft_block_size": 8}, "peft_type = 'OFT': .*oft_block_size"),
    ({"peft_type": "LORA", "init_lora_weights": "pissa"}, "= 'pissa': rewrites the base's weights"),
    ({"peft_type": "IA3", "task_type": "CAUSAL_LM"}, "= 'CAUSAL_LM': is set here: leave it out"),
    ({"peft_type": "PREFIX_TUNING"}, "num_virtual_tokens = None: give the tokens"),
    ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 0}, "num_virtual_tokens = 0: give 1"),
]


@pytest.mark.parametrize(("settings", "line"), MISTAKES)
def test_a_mistake_in_the_settings_is_one_line(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        chosen("x", run_with(adapter=settings))
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith("params.yaml: runs.x.methods.adapter")
    assert re.search(line.replace("?", r"\?"), said), said


def test_what_peft_can_only_tell_of_the_model_is_one_line(models: dict[str, Path]) -> None:
    method = adapter(peft_type="MISS", r=64)
    with pytest.raises(UserError, match=r"runs\.toy\.methods\.adapter: PEFT cannot put MISS"):
        composed(models["encoder"], [method])


MISFITS: list[tuple[str, dict[str, Any], str]] = [
    ("causal", {"adapter": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}}, "lora"),
    ("encoder", {"adapter": {"peft_type": "IA3"}, "lora": {"r": 2}}, "leave out lora"),
    (
        "encoder",
        {"adalora": {"target_r": 4, "init_r": 2, "tinit": 1, "tfinal": 1}},
        "give 2 at most",
    ),
    (
        "encoder",
        {"adalora": {"target_r": 1, "init_r": 2, "tinit": 3, "tfinal": 3}},
        "give 5 together at most",
    ),
]


def refusals(run: RunConfig, model: str) -> list[str]:
    return list(misfits("x", chosen("x", run), Fit(run, model, {}, {})))


@pytest.mark.parametrize(("model", "methods", "reason"), MISFITS)
def test_what_does_not_fit(model: str, methods: dict[str, Any], reason: str) -> None:
    found = refusals(run_with(**methods), model)
    assert found
    assert reason in found[0]
    assert found[0].startswith("params.yaml: runs.x.methods.")


def test_prefixes_are_no_part_of_a_layer_that_is_computed_twice() -> None:
    prefix = {"adapter": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}}
    twice = run_with(**prefix).model_copy(update={"gradient_checkpointing": True})
    (told,) = refusals(twice, "encoder")
    assert "has no virtual tokens before the text: leave gradient_checkpointing out" in told


def test_what_fits() -> None:
    prefix = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}
    adalora = {"target_r": 1, "init_r": 2, "tinit": 2, "tfinal": 3}
    for methods in ({"adapter": prefix}, {"lora": {"r": 2}}, {"adalora": adalora}):
        assert not refusals(run_with(**methods), "encoder")
