"""Each architecture that the README names, in miniature: five stages, and what code assumes."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_architectures
import torch
import transformers
from safetensors import safe_open
from tiny_architectures import ALL, CAUSAL, ENCODERS, LONGEST, SMALL
from torch import Tensor, nn

from stages.config.evaluation import read_evaluation
from stages.drift.states import body_of, read
from stages.models import attention
from stages.models.base import materialise
from stages.models.causal import CausalTokenizer, longest_input
from stages.models.depth import is_embedding, layer_of
from stages.models.device import has_bf16
from stages.models.encoder import Encoder, embed
from stages.models.encoder import longest_input as longest_encoder
from stages.models.loading import CausalModel, EncoderModel, Loaded, load
from stages.models.packed import PackedLinear, pack
from stages.models.texts import Inputs, Tokenizer
from stages.models.tuned import save_tuned
from stages.records import read_records
from stages.scoring.case import score_case
from stages.scoring.likelihood import log_likelihoods
from stages.scoring.trees import reads_trees
from stages.storage import read_json
from stages.training.methods.block_expansion import expand
from stages.training.methods.dropout import set_dropout
from stages.variants.quantise import quantise

RUNS = ("full", "lora")
FAST = ("roberta", "distilbert", "deberta-v3", "modernbert", "gpt2", "gpt-neox", "gemma3", "phi3")
"""One a trait: positions that begin behind padding, no segments, relative positions, windows and
fused projections, `Conv1D`, projections fused by head, norms on both sides, a fused MLP."""


@dataclass(frozen=True)
class Project:
    name: str
    case: str
    path: Path
    in_memory: dict[str, pd.DataFrame]
    """Records of each run by the very model that was trained, before it was saved."""

    def records(self, who: str) -> pd.DataFrame:
        return read_records(self.path / f"metrics/records/{self.case}/{who}.parquet")[0]


def _loaded(body: Any, heads: Any, manifest: dict[str, Any]) -> Loaded:
    base, body = materialise(manifest), copy.deepcopy(body).eval()
    if manifest["kind"] == "causal":
        return CausalModel(body, CausalTokenizer(base, longest_input(body)))
    encoder = Encoder(body, manifest["pooling"]).eval()
    return EncoderModel(encoder, Tokenizer(base, longest_encoder(encoder)), heads)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in sorted(ALL)
    ],
)
def project(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """The five stages, run in this process."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    tiny_architectures.make(name, folder)
    (case,) = tiny.read_params(folder)["cases"]
    found = Project(name, case, folder, {})

    def spy(out: Path, body: Any, heads: Any, manifest: dict[str, Any]) -> None:
        save_tuned(out, body, heads, manifest)
        scored, _ = score_case(
            case,
            _loaded(body, heads, manifest),
            read_evaluation(),
            20,
            repeats=0,
            label="",
        )
        found.in_memory[RUNS[len(found.in_memory)]] = scored

    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        patch.setattr("stages.training.run.save_tuned", spy)
        tiny.run_stage("check")
        tiny.run_stage("prepare", case)
        tiny.run_stage("pretrain_baseline_eval", case)
        for run in RUNS:
            tiny.run_stage("finetune", run)
            tiny.run_stage("retention_eval", run)
        tiny.run_stage("compare")
    yield found


def test_every_figure_is_there(project: Project) -> None:
    told = read_json(project.path / "metrics/retention.json")[project.case]
    config = tiny.read_params(project.path)["cases"][project.case]
    for run in (*RUNS, "full@wise-0.5", "full@lines-0.5", "lora@wise-0.5"):
        assert set(told[run]["gain"]) == set(config["targets"])
        assert set(told[run]["drop"]) == set(config["retain"])
        assert all(map(math.isfinite, (*told[run]["gain"].values(), *told[run]["drop"].values())))


@pytest.mark.parametrize("run", RUNS)
def test_what_was_saved_scores_as_what_was_trained(run: str, project: Project) -> None:
    by = ["task", "split", "condition", "example_id"]
    after = project.records(run)
    asked = (after["variant"] == "final") & (after["split"] != "train")
    after = after[asked].set_index(by).sort_index()
    before = project.in_memory[run].set_index(by).sort_index()
    assert after.index.equals(before.index)
    base = project.records("base").set_index(by)
    base = base[~base.index.duplicated()].reindex(after.index)
    for column in ("score", "nll"):
        found, expected, untuned = (frame[column].astype(float) for frame in (after, before, base))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
        assert column == "score" or not np.allclose(found, untuned, rtol=1e-3, equal_nan=True)


def test_lora_is_in_the_attention_of_every_block(project: Project) -> None:
    kind, tuned = ALL[project.name], project.path / "models/tuned/lora/seed-0"
    with safe_open(tuned / "adapter_model.safetensors", framework="np") as saved:
        adapted = {key.split(".lora_")[0] for key in saved.keys()}  # noqa: SIM118
    layers = kind.made().num_hidden_layers
    for part in kind.attention:
        of_part = sorted(name for name in adapted if name.endswith(f".{part}"))
        assert len(of_part) == layers, (part, sorted(adapted))
    told = read_json(tuned / "adapter_config.json")["target_modules"]
    assert {part.rsplit(".", 1)[-1] for part in kind.attention} <= {
        one.rsplit(".", 1)[-1] for one in told
    }
    # A vocabulary head is none of them: it may be the embeddings as well.
    assert not any("lm_head" in name or "embed_out" in name for name in adapted)


# --- what the code assumes of a model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each architecture, to be read only."""
    root = tmp_path_factory.mktemp("architectures")
    for name in ALL:
        tiny_architectures.write_model(name, root / name)
    return {name: root / name for name in ALL}


def _load(name: str, folder: Path) -> Loaded:
    kind = "encoder" if name in ENCODERS else "causal"
    return load({"kind": kind, "pooling": "mean"}, folder)


IDS = torch.tensor([[5, 9, 7, 30, 22, 41, 13, 8, 17, 40, 6]])


@torch.no_grad()
def _said(body: Any) -> Tensor:
    """Of IDS: an encoder's states, a causal model's logits."""
    found: Tensor = body(input_ids=IDS, attention_mask=torch.ones_like(IDS))[0]
    return found


@pytest.mark.parametrize("name", ALL)
def test_a_weight_lies_at_a_depth(name: str, folders: dict[str, Path]) -> None:
    body = body_of(_load(name, folders[name]))
    outside = [key for key, _ in body.named_parameters() if layer_of(key) is None]
    layers = {layer_of(key) for key, _ in body.named_parameters()} - {None}
    assert layers == set(range(body.config.num_hidden_layers))
    above = {key for key in outside if not is_embedding(key)}
    last = ("ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm", "lm_head")
    assert {key.split(".")[-2] for key in above} <= set(last)
    inputs = body.get_input_embeddings().weight
    assert [
        key for key, weight in body.named_parameters() if weight is inputs and key in above
    ] == []


@pytest.mark.parametrize("name", ALL)
def test_its_layers_are_laid_out_and_rounded_as_any(name: str, folders: dict[str, Path]) -> None:
    loaded = _load(name, folders[name])
    body = copy.deepcopy(body_of(loaded)).bfloat16()
    expected = _said(body)
    pack(body)
    assert torch.equal(_said(body), expected)
    if has_bf16(torch.device("cpu")):
        packed = sum(isinstance(module, PackedLinear) for module in body.modules())
        linear = sum(type(module) is nn.Linear for module in body.modules())
        assert (packed > 0) == (name != "gpt2") and linear <= 1
    exact = _said(body_of(loaded))
    quantise(loaded)
    rounded = _said(body_of(loaded))
    assert 0 < (rounded - exact).abs().mean() < 0.1 * exact.abs().mean()


@pytest.mark.parametrize("name", ALL)
def test_its_states_are_those_of_each_layer(name: str, folders: dict[str, Path]) -> None:
    loaded = _load(name, folders[name])
    (batch,) = read(loaded, IDS.tolist(), 64)
    assert len(batch.layers) == body_of(loaded).config.num_hidden_layers + 1
    for before, after in pairwise(batch.layers):
        assert before.shape == after.shape and not torch.equal(before, after)


@pytest.mark.parametrize("name", ALL)
def test_dropout_reaches_its_attention(name: str, folders: dict[str, Path]) -> None:
    body = body_of(_load(name, folders[name])).train()
    set_dropout(body, 0.0)
    assert torch.equal(_said(body), _said(body))
    set_dropout(body, 0.5)
    for parent in body.modules():
        for child, module in parent.named_children():
            shares = child in ("dropout", "attn_dropout") and "Attention" in type(parent).__name__
            if isinstance(module, nn.Dropout) and not shares:
                module.p = 0.0
    assert not torch.equal(_said(body), _said(body))


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("shared", [True, False])
def test_a_causal_model_is_scored_as_it_says(
    shared: bool, name: str, folders: dict[str, Path]
) -> None:
    """Each token far behind what a window reaches, in blocks and by trees."""
    model = body_of(_load(name, folders[name]))
    assert reads_trees(model)
    pairs = [(IDS[0, :at].tolist(), IDS[0, at : at + 3].tolist()) for at in (1, 4, 8)]
    pairs += [(IDS[0].tolist(), ending) for ending in ([4, 7], [4, 8, 11], [20])]
    in_blocks = model.config._attn_implementation == "sdpa"
    for attends in ("sdpa", attention.NAME) if in_blocks else ("eager",):
        model.set_attn_implementation(attends)
        found = log_likelihoods(model, pairs, 0, 64, 256, shared=shared).logprobs
        for (context, ending), value in zip(pairs, found, strict=True):
            with torch.no_grad():
                said = model(torch.tensor([context + ending])).logits[0].double().log_softmax(-1)
            places = range(len(context) - 1, len(context) + len(ending) - 1)
            expected = sum(said[at, token].item() for at, token in zip(places, ending, strict=True))
            assert value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_an_expanded_model_is_loaded_as_it_was_saved(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    model = body_of(_load(name, folders[name]))
    before = _said(model)
    expand(model, 1)
    assert torch.equal(_said(model), before)
    for weight in model.parameters():
        if weight.requires_grad and weight.ndim > 1:
            nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path)
    loaded = body_of(load({"kind": "causal"}, folders[name], tmp_path))
    assert torch.equal(_said(loaded), _said(model)) and not torch.equal(_said(model), before)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_reads_as_much_as_it_has_positions_for(
    name: str, folders: dict[str, Path]
) -> None:
    loaded = _load(name, folders[name])
    assert isinstance(loaded, EncoderModel)
    (ids,) = loaded.tokenizer(["filler1 " * 2 * LONGEST], 10 * LONGEST)
    assert len(ids) == LONGEST
    body = loaded.encoder.body
    with torch.no_grad():
        whole = body(torch.tensor([ids]), attention_mask=torch.ones(1, LONGEST)).last_hidden_state
    short = ids[:9]
    vectors = embed(loaded.encoder, [ids, short], loaded.tokenizer.pad_id, 1000)
    np.testing.assert_allclose(vectors[0], whole.mean(1)[0], atol=1e-5)
    alone = embed(loaded.encoder, [short], loaded.tokenizer.pad_id, 1000)
    np.testing.assert_allclose(vectors[1], alone[0], atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_segments_are_for_models_that_tell_them_apart(name: str, folders: dict[str, Path]) -> None:
    """A tokenizer may tell of segments where the body knows none."""
    loaded = _load(name, folders[name])
    assert isinstance(loaded, EncoderModel)
    pair, pad_id = [5, 6, 7, 8, 9], loaded.tokenizer.pad_id
    first, second = (
        embed(loaded.encoder, Inputs([pair], [segments]), pad_id, 64)
        for segments in ([0, 0, 0, 1, 1], [0] * 5)
    )
    assert np.array_equal(first, second) == (name not in ("bert", "electra"))


@pytest.mark.parametrize(
    "config",
    ["Data2VecTextConfig", "IBertConfig", "RobertaPreLayerNormConfig", "XLMRobertaXLConfig"],
)
def test_positions_of_roberta_kin_begin_behind_padding(config: str) -> None:
    settings = {**SMALL, "vocab_size": 60, "pad_token_id": 1, "max_position_embeddings": LONGEST}
    body = transformers.AutoModel.from_config(getattr(transformers, config)(**settings)).eval()
    encoder = Encoder(body, "mean")
    assert longest_encoder(encoder) == LONGEST - 2
    assert embed(encoder, [[5] * (LONGEST - 2)], 1, 100).shape == (1, 32)


def test_each_trait_is_in_the_default_suite() -> None:
    assert set(FAST) <= set(ALL)
