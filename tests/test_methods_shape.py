"""Methods that change the model itself: freezing, dropout, block expansion."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_training
import torch
import transformers
from tiny_training import LABELLED, PAIRED, TALES, composed, parts
from torch import Tensor, nn

from stages.errors import UserError
from stages.models.expanded import copies_of, name_in_base
from stages.models.loading import CausalModel, load
from stages.models.tuned import save_tuned
from stages.scoring.likelihood import log_likelihoods
from stages.training.methods.block_expansion import BlockExpansion, expand
from stages.training.methods.dropout import Dropout, set_dropout
from stages.training.methods.freeze import Freeze
from stages.training.methods.lora import Lora
from stages.training.methods.method import Fit, Method
from stages.training.methods.table import chosen, misfits
from stages.training.objective import Objective
from stages.training.optimizer import make_optimizer
from stages.training.subject import Subject

TARGETS = {"encoder": (LABELLED,), "causal": (TALES,)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


def step(objective: Objective, steps: int = 3) -> None:
    """With the loop's own optimizer, whose weight decay must not reach what is frozen."""
    optimizer = make_optimizer(objective, 0.01, 0.01, 0.1)
    objective.train()
    for number in range(steps):
        sum(parts(objective, number).values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
    objective.eval()


def weights(body: Any) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in body.named_parameters()}


def moved(subject: Subject, before: dict[str, Tensor]) -> set[str]:
    return {n for n, w in subject.body.named_parameters() if not torch.equal(w, before[n])}


def misfit(model: str, **methods: Any) -> str:
    run = tiny_training.config(methods=methods)
    return "\n".join(misfits("x", chosen("x", run), Fit(run, model, {}, {})))


# Freezing


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(("layers", "embeddings"), [(1, True), (1, False), (0, True), (2, True)])
def test_what_is_frozen_stays_as_it_is_to_the_bit(
    kind: str, layers: int, embeddings: bool, models: dict[str, Path]
) -> None:
    method = Freeze(layers=layers, embeddings=embeddings)
    subject, objective = composed(models[kind], [method], targets=TARGETS[kind])
    before = weights(subject.body)
    step(objective)
    still = {
        name
        for name in before
        if any(f"layer.{n}." in name or f"layers.{n}." in name for n in range(layers))
        or (embeddings and name.startswith(("embeddings.", "model.embed_tokens")))
    }
    assert still
    found = moved(subject, before)
    assert not found & still
    # A bias of keys has no gradient: it moves all scores of a query alike.
    assert before.keys() - still - found <= {n for n in before if n.endswith("key.bias")}


def test_freezing_beside_lora(models: dict[str, Path]) -> None:
    methods: list[Method] = [Freeze(layers=1), Lora(r=2)]
    subject, objective = composed(models["encoder"], methods)
    trained = [name for name, weight in subject.body.named_parameters() if weight.requires_grad]
    assert trained
    assert all("layer.1." in name and "lora_" in name for name in trained)
    step(objective)


def test_more_layers_than_the_model_has(models: dict[str, Path]) -> None:
    message = r"^runs\.toy\.methods\.freeze\.layers = 3: the model has 2 layers: give 2 or less$"
    with pytest.raises(UserError, match=message):
        composed(models["encoder"], [Freeze(layers=3)])


def test_something_must_be_left_to_train(models: dict[str, Path]) -> None:
    _, objective = composed(models["encoder"], [Freeze(layers=2)])
    names = {name for name, weight in objective.named_parameters() if weight.requires_grad}
    assert names == {"trainees.0.head.weight", "trainees.0.head.bias"}
    with pytest.raises(UserError, match=r"freeze\.layers = 2: nothing is left to train"):
        composed(models["encoder"], [Freeze(layers=2)], targets=(PAIRED,))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"layers": -1}, "freeze.layers = -1: "),
        ({"layers": 0, "embeddings": False}, "freeze.layers = 0: freezes nothing"),
        ({"layer": 2}, "freeze.layer = 2: unknown key; did you mean layers?"),
    ],
)
def test_mistakes_in_freeze(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        chosen("x", tiny_training.config(methods={"freeze": settings}))
    assert line in str(caught.value)


# Dropout


def attention_only(body: Any) -> None:
    """Leave nothing but what drops attention."""
    for name, module in body.named_modules():
        if isinstance(module, nn.Dropout) and not name.endswith("attention.self.dropout"):
            module.p = 0.0


@pytest.mark.parametrize("kind", TARGETS)
def test_dropout_is_set_everywhere_attention_included(kind: str, models: dict[str, Path]) -> None:
    still, _ = composed(models[kind], [Dropout(p=0.0)], targets=TARGETS[kind])
    ids = torch.tensor([[2, 5, 6, 7, 3]])

    def read_twice(body: Any) -> tuple[Tensor, Tensor]:
        body.train()
        run = (
            (lambda: body(ids).last_hidden_state) if kind == "encoder" else lambda: body(ids).logits
        )
        first, second = run(), run()  # type: ignore[no-untyped-call]
        return first, second

    assert torch.equal(*read_twice(still.body))
    dropping, _ = composed(models[kind], [Dropout(p=0.4)], targets=TARGETS[kind])
    modules = [module for module in dropping.body.modules() if isinstance(module, nn.Dropout)]
    assert all(module.p == 0.4 for module in modules)
    attention_only(dropping.body)
    assert not torch.equal(*read_twice(dropping.body))
    dropping.body.eval()
    still.body.eval()
    torch.testing.assert_close(
        *(model.body(ids).to_tuple()[0] for model in (dropping, still)), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("config", "count"),
    [
        # of each layer: attention, its output, the MLP; DistilBERT: attention and MLP; embeddings
        (transformers.BertConfig(num_hidden_layers=2), 2 * 3 + 1),
        (transformers.GPT2Config(n_layer=2), 2 * 3 + 1),
        (transformers.LlamaConfig(num_hidden_layers=2), 2),
        (transformers.DistilBertConfig(n_layers=2), 2 * 2 + 1),
    ],
)
def test_dropouts_are_found_in_other_models(config: Any, count: int) -> None:
    with torch.device("meta"):
        body = transformers.AutoModel.from_config(config)
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    found = set_dropout(body, 0.25)
    assert found == count


def test_a_model_without_dropout(models: dict[str, Path]) -> None:
    made = tiny_training.subject(models["encoder"])
    made.body = nn.Linear(2, 2)
    made.body.config = transformers.BertConfig()
    with pytest.raises(
        UserError, match=r"dropout\.p = 0\.1: a model of type 'bert' has no dropout"
    ):
        Dropout(p=0.1).shape(made)


def test_mistakes_in_dropout() -> None:
    with pytest.raises(UserError, match=r"methods\.dropout\.p = 1\.0: "):
        chosen("x", tiny_training.config(methods={"dropout": {"p": 1.0}}))


# Block expansion

FAMILIES = [
    transformers.LlamaConfig,
    transformers.Qwen2Config,
    transformers.Qwen3Config,
    transformers.MistralConfig,
    transformers.Gemma2Config,
    transformers.Olmo2Config,
    transformers.GPT2Config,
    transformers.GPTNeoXConfig,
    transformers.PhiConfig,
    transformers.OPTConfig,
]
SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "ffn_dim": 64,
    "word_embed_proj_dim": 32,
}


def small(config: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    made = config(
        **{k: v for k, v in SIZES.items() if k in config().to_dict() or k in config.attribute_map},
        **settings,
    )
    return transformers.AutoModelForCausalLM.from_config(made).eval()


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config.model_type)
@torch.no_grad()
def test_an_expanded_model_says_the_same_with_and_without_cache(config: Any) -> None:
    """And when its copies say something, cached generation still equals uncached."""
    model = small(config)
    ids = torch.tensor([[1, 5, 9, 13, 4, 7]])
    before, length = model(ids).logits, len(ids[0])
    expand(model, 2)
    assert torch.equal(model(ids).logits, before)
    for name, weight in model.named_parameters():
        if weight.requires_grad and "norm" not in name and "ln" not in name:
            weight.copy_(torch.randn_like(weight) * 0.1)
    whole = model(ids).logits
    assert (whole - before).abs().max() > 1e-3
    cache = transformers.DynamicCache(config=model.config)
    steps = [
        model(ids[:, at : at + 1], past_key_values=cache, use_cache=True).logits
        for at in range(length)
    ]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-4, atol=1e-4)
    assert len(cache.layers) == 6


@pytest.fixture
def expanded(causal: Path, tmp_path: Path) -> tuple[Subject, CausalModel]:
    """A model whose only copy was trained, and what is loaded of what was saved."""
    subject, objective = composed(causal, [BlockExpansion(blocks=1)], targets=(TALES,))
    before = weights(subject.body)
    step(objective)
    found = moved(subject, before)
    assert found and all("layers.2." in name for name in found)
    save_tuned(tmp_path / "tuned", subject.body, {}, subject.recipe.manifest)
    loaded = load(subject.recipe.manifest, causal, tmp_path / "tuned")
    assert isinstance(loaded, CausalModel)
    return subject, loaded


def test_an_expanded_model_is_saved_whole_over_the_base_as_it_was(
    expanded: tuple[Subject, CausalModel], causal: Path
) -> None:
    subject, loaded = expanded
    ids = torch.tensor([[1, 5, 9, 13, 4, 7]])
    with torch.no_grad():
        assert torch.equal(loaded.model(ids).logits, subject.body(ids).logits)
    assert copies_of(loaded.model) == (2,)
    base = load({"kind": "causal"}, causal)
    assert isinstance(base, CausalModel)
    own = {name_in_base(name, (2,)): weight for name, weight in loaded.model.named_parameters()}
    for name, weight in base.model.named_parameters():
        assert torch.equal(own[name], weight), name


@pytest.mark.parametrize("shared", [True, False])
def test_an_expanded_model_is_scored_as_it_says(
    shared: bool, expanded: tuple[Subject, CausalModel]
) -> None:
    _, loaded = expanded
    pairs = [([1, 5, 9, 13], ending) for ending in ([4, 7], [4, 8, 11], [20])]
    found = log_likelihoods(loaded.model, pairs, 0, 64, 64, shared=shared).logprobs
    for (context, ending), value in zip(pairs, found, strict=True):
        with torch.no_grad():
            said = loaded.model(torch.tensor([context + ending])).logits[0].log_softmax(-1)
        places = range(len(context) - 1, len(context) + len(ending) - 1)
        expected = sum(said[at, token].item() for at, token in zip(places, ending, strict=True))
        assert value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("other", ["lora", "adalora", "adapter", "ewc", "freeze", "l2-sp"])
def test_copies_alone_are_trained(other: str) -> None:
    settings: dict[str, Any] = {
        "lora": {"r": 2},
        "adalora": {"target_r": 1, "init_r": 2, "tinit": 0, "tfinal": 1},
        "adapter": {"peft_type": "IA3"},
        "ewc": {"strength": 1.0, "tasks": ["old"], "rows": 4},
        "freeze": {"layers": 1},
        "l2-sp": {"alpha": 0.1},
    }
    said = misfit("causal", **{"block-expansion": {"blocks": 1}, other: settings[other]})
    assert f"trains its copies alone: leave out {other} or this" in said


def test_encoders_are_not_expanded() -> None:
    said = misfit("encoder", **{"block-expansion": {"blocks": 1}})
    assert "no copy of one does nothing; freeze or lora would fit" in said
    assert misfit("causal", **{"block-expansion": {"blocks": 1}}) == ""


def test_more_copies_than_blocks(causal: Path) -> None:
    message = r"block-expansion\.blocks = 3: the model has 2 blocks: give 2 or less$"
    with pytest.raises(UserError, match=message):
        composed(causal, [BlockExpansion(blocks=3)], targets=(TALES,))


def test_copies_that_say_something_are_refused(
    causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a model whose last layers have names that are not known here."""
    monkeypatch.setattr("stages.training.methods.block_expansion.LAST", re.compile("never"))
    with pytest.raises(UserError, match=r"copies of blocks change what a model of type 'llama'"):
        composed(causal, [BlockExpansion(blocks=1)], targets=(TALES,))
