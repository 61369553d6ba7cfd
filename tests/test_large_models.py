"""What lets a model be trained and scored that is large for the machine."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import tiny_seq2seq
import tiny_training as small
import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from stages.config.evaluation import EvaluationConfig, NoiseConfig
from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.models import device, sharing
from stages.models.bounded import bounded
from stages.models.loading import load
from stages.models.seq2seq import write
from stages.scoring.case import scorer_of
from stages.storage import read_json, write_json
from stages.tasks.examples import Examples
from stages.training import run
from stages.training.loop import _gradient, _look
from stages.training.methods.fgm import Fgm
from stages.training.methods.lora import Lora
from stages.training.methods.lwf import Lwf
from stages.training.methods.replay import Replay
from stages.training.methods.self_replay import SelfReplay
from stages.training.methods.supervised_contrastive import SupervisedContrastive
from stages.training.objective import Objective
from stages.training.recipe import Recipe
from stages.training.sharded import is_sharded, make_whole
from stages.training.state import restore, trainable
from stages.training.subject import Subject
from stages.training.teacher import _features

FSDP = tiny.ROOT / "stages/training/fsdp.yaml"
EVALUATION = EvaluationConfig(
    precision="fp32",
    batch_tokens=512,
    noise_repeats=2,
    noise=NoiseConfig(tasks="all", conditions=()),
)


# Accumulation


def _gradients(objective: Objective) -> dict[str, torch.Tensor]:
    found = {
        name: weight.grad.clone()
        for name, weight in objective.named_parameters()
        if weight.grad is not None
    }
    objective.zero_grad()
    return found


def _alike(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert sum(float(one.square().sum()) for one in expected.values()) > 0
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [3, 4, 11])
@pytest.mark.parametrize("kind", ["causal", "encoder", "contrastive"])
def test_accumulated_gradients_are_those_of_the_whole_batch(
    models: dict[str, Path], kind: str, accumulate: int
) -> None:
    """Parts of unequal size, texts of unequal numbers of tokens, and more parts than rows."""
    old: list[Any] = [Replay(fraction=0.5, tasks=("shape-topics", small.PAIRED), repeats=9)]
    targets, methods = {
        "causal": ((small.TALES,), []),
        "encoder": ((small.LABELLED,), [*old, SupervisedContrastive(weight=1.0, temperature=0.1)]),
        "contrastive": ((small.PAIRED,), []),
    }[kind]
    retain = ("shape-topics", small.PAIRED) if kind == "encoder" else ()
    folder = models["causal" if kind == "causal" else "encoder"]
    taken = []
    for parts in (1, accumulate):
        given = {"targets": targets, "retain": retain, "batch_size": 10, "accumulate": parts}
        subject, objective = small.composed(folder, methods, **given)
        objective.eval()
        losses = [_gradient(objective, subject, step) for step in range(3)]
        taken.append((losses, _gradients(objective)))
    (expected, whole), (found, accumulated) = taken
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    _alike(accumulated, whole)


# The gradient of a tied head


@pytest.fixture
def tied(causal: Path, tmp_path: Path) -> Path:
    """Weights of the head's own, if they are there, would be taken."""
    shutil.copytree(causal, tmp_path, dirs_exist_ok=True)
    weights = load_file(causal / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    config = read_json(causal / "config.json")
    write_json(tmp_path / "config.json", {**config, "tie_word_embeddings": True})
    return tmp_path


def test_a_look_reads_no_more_rows_at_once_than_a_turn_of_a_step(models: dict[str, Path]) -> None:
    """Else what a step has room for would not be enough to look at validation."""
    tokens: dict[int, int] = {}
    for turns in (1, 4):
        subject, objective = small.composed(
            models["causal"], [], targets=(small.TALES,), batch_size=12, accumulate=turns
        )
        (stream,) = subject.targets
        chosen = list(range(len(stream.rows)))
        losses, read = objective.losses, list[int]()

        def watched(trainee: Any, rows: Any, indices: Any) -> torch.Tensor:
            read.append(len(indices) * max(rows.lengths(indices)))  # noqa: B023
            return losses(trainee, rows, indices)  # noqa: B023

        objective.losses = watched  # type: ignore[method-assign]
        _look(subject, objective, [(stream, stream.rows, chosen)])
        tokens[turns] = max(read)
    longest = max(stream.rows.lengths(chosen))
    assert tokens[4] <= 3 * longest < tokens[1] <= 12 * longest


@pytest.mark.parametrize("methods", [[], [Fgm(epsilon=0.1)]], ids=["plain", "fgm"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_embeddings_add_to_the_gradient_of_the_head_that_is_tied_to_them(
    tied: Path, methods: list[Any], accumulate: int
) -> None:
    taken = []
    for sparse in (False, True):
        given = {"targets": (small.TALES,), "accumulate": accumulate}
        subject, objective = small.composed(tied, methods, **given)
        embeddings, head = subject.body.get_input_embeddings(), subject.body.lm_head
        assert embeddings.weight is head.weight
        assert embeddings.sparse
        embeddings.sparse = sparse
        _gradient(objective, subject, 0)
        assert head.weight.grad.layout == torch.strided
        taken.append(_gradients(objective))
    _alike(*taken)


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_embeddings_of_their_own_have_a_gradient_of_their_own(
    models: dict[str, Path], kind: str
) -> None:
    target = small.TALES if kind == "causal" else small.LABELLED
    subject, objective = small.composed(models[kind], [], targets=(target,))
    assert not subject.body.get_input_embeddings().sparse
    _gradient(objective, subject, 0)
    assert all(one.layout == torch.strided for one in _gradients(objective).values())


# Checkpointing


@pytest.mark.parametrize("kind", ["causal", "encoder"])
@pytest.mark.parametrize("adapted", [False, True])
def test_checkpointing_keeps_less_and_gives_the_same_gradients(
    models: dict[str, Path], kind: str, adapted: bool
) -> None:
    taken = []
    for checkpointing in (False, True):
        _, objective = small.composed(
            models[kind],
            [Lora(r=2)] if adapted else [],
            targets=(small.TALES if kind == "causal" else small.LABELLED,),
            gradient_checkpointing=checkpointing,
        )
        objective.train()  # with the encoder's dropout
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            parts = small.parts(objective)
        torch.autograd.backward(list(parts.values()))
        taken.append((kept, _gradients(objective)))
    (whole, expected), (less, found) = taken
    assert less < 0.7 * whole
    _alike(found, expected)


def test_a_model_that_cannot_checkpoint_is_told(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    monkeypatch.setattr(transformers.BertPreTrainedModel, "supports_gradient_checkpointing", False)
    with pytest.raises(UserError, match=r"gradient_checkpointing = True: not known of a model"):
        small.composed(encoder, [], gradient_checkpointing=True)


# FSDP


def test_the_fsdp_configuration_is_one_of_accelerate() -> None:
    config = load_config_from_file(str(FSDP))
    assert isinstance(config, ClusterConfig)
    assert config.distributed_type == DistributedType.FSDP
    assert config.fsdp_config["fsdp_version"] == 2
    known = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config) <= known


@pytest.fixture
def group() -> Iterator[None]:
    """A group of this process alone."""
    store = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def _sharded(folder: Path, target: str) -> tuple[Subject, Objective]:
    """Split as accelerate does, one layer at a time, padding read as on a GPU."""
    subject, objective = small.composed(folder, [], targets=(target,))
    for module in objective.modules():
        if hasattr(module, "unpadded"):
            setattr(module, "unpadded", False)  # noqa: B010 - torch has no such attribute
    mesh = init_device_mesh("cpu", (1,))
    for module in list(objective.modules()):
        if type(module).__name__ in objective._no_split_modules:
            fully_shard(module, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return subject, objective


@torch.no_grad()
def _read(objective: Objective) -> None:
    """As at validation: what lies outside of the layers is whole afterwards."""
    small.parts(objective)
    assert not all(isinstance(weight, DTensor) for weight in objective.parameters())


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("kind", ["encoder", "causal", "tied"])
def test_sharded_weights_are_kept_set_and_saved_whole(
    kind: str, models: dict[str, Path], tied: Path, tmp_path: Path
) -> None:
    folder = tied if kind == "tied" else models[kind]
    target = small.LABELLED if kind == "encoder" else small.TALES
    before: dict[str, torch.Tensor] = trainable(small.composed(folder, [], targets=(target,))[1])
    subject, objective = _sharded(folder, target)
    layer = "BertLayer" if kind == "encoder" else "LlamaDecoderLayer"
    assert layer in objective._no_split_modules
    assert is_sharded(objective)
    assert all(isinstance(weight, DTensor) for weight in objective.parameters())
    _read(objective)
    kept = trainable(objective)
    assert kept.keys() == before.keys()
    _read(objective)
    restore(objective, {name: weight + 1 for name, weight in kept.items()})
    _read(objective)
    make_whole(objective)
    for name, weight in objective.named_parameters():
        assert type(weight) is nn.Parameter
        torch.testing.assert_close(weight.detach(), before[name] + 1)
    if kind == "encoder":
        (head,) = subject.heads().values()
        assert head.weight.mean() > 0.5
    subject.body.save_pretrained(tmp_path / "whole")
    saved = load_file(tmp_path / "whole/model.safetensors")
    named = dict(subject.body.named_parameters())
    assert set(saved) == set(named)
    for name, found in saved.items():
        torch.testing.assert_close(found, named[name].detach())


def test_under_fsdp_a_model_is_parted_from_main_memory(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that holds no values stands for one that could not hold them all."""

    def where(made: Subject) -> set[str]:
        return {weight.device.type for weight in made.body.parameters()}

    def made(kind: str) -> Subject:
        target = small.LABELLED if kind == "encoder" else small.TALES
        return small.subject(models[kind], targets=(target,))

    monkeypatch.setattr(Accelerator, "device", torch.device("meta"))
    assert where(made("causal")) == {"meta"}
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    assert where(made("encoder")) == {"meta"}
    subject = made("causal")
    assert where(subject) == {"cpu"}
    subject.place(subject.body)
    assert where(subject) == {"meta"}


@pytest.mark.parametrize(
    "method", [Lwf(weight=1.0), SelfReplay(fraction=0.5, length=4)], ids=["lwf", "self-replay"]
)
def test_what_reads_the_base_brings_it_to_the_device_first(
    method: Any, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    brought: list[nn.Module] = []
    monkeypatch.setattr(Subject, "place", lambda _, model: brought.append(model))
    subject, _ = small.composed(models["causal"], [method], targets=(small.TALES,))
    assert any(subject.body in model.modules() for model in brought)
    brought.clear()
    small.composed(models["causal"], [], targets=(small.TALES,))
    assert not brought


def test_under_fsdp_losses_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = SimpleNamespace(mixed_precision_policy=None)
    state = SimpleNamespace(fsdp_plugin=plugin)
    made = SimpleNamespace(distributed_type=DistributedType.FSDP, state=state)
    monkeypatch.setattr(run, "Accelerator", lambda **_: made)
    run.accelerator_of(small.config(precision="bf16"))
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    assert policy.output_dtype is None


@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_a_step_is_taken_in_the_precision_of_a_look(
    kind: str, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model whose forward pass accelerate leaves as it is."""
    target = small.LABELLED if kind == "encoder" else small.TALES
    subject, objective = small.composed(models[kind], [], targets=(target,))
    AcceleratorState._reset_state(reset_partial_state=True)
    subject.accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    (stream,) = subject.targets
    seen: list[torch.dtype | None] = []
    forward = type(stream.trainee).forward

    def told(trainee: Any, rows: Any, indices: Any) -> Any:
        on = torch.is_autocast_enabled("cpu")
        seen.append(torch.get_autocast_dtype("cpu") if on else None)
        return forward(trainee, rows, indices)

    monkeypatch.setattr(type(stream.trainee), "forward", told)
    means = _gradient(objective, subject, 0)
    chosen = stream.batch(subject.config.batch_size, subject.seed, 0)
    objective.eval()
    look = _look(subject, objective, [(stream, stream.rows, chosen)])
    assert seen == [torch.bfloat16] * len(seen)
    assert len(seen) >= 2
    assert means[target] == pytest.approx(look, rel=0.2)  # with dropout
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_masked_target_is_refused_under_fsdp(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = small.subject(encoder)
    train = [
        Examples(replace(one.task, kind="masked-lm"), one.rows) for one in subject.recipe.train
    ]
    subject.recipe = replace(subject.recipe, train=train)
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(UserError, match=r"of kind masked-lm, cannot be learned under FSDP"):
        small.objective(subject)


def test_a_replayed_masked_task_is_refused_under_fsdp(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not replayed is not in the way."""
    replay = {"replay": {"fraction": 0.5, "tasks": ["mood-words"], "repeats": 9}}
    subject = small.subject(encoder, pool="retain/train", methods=replay)
    retain = subject.recipe.retain
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)

    def masked(task: str) -> Recipe:
        of_task = replace(retain[task], task=replace(retain[task].task, kind="masked-lm"))
        return replace(subject.recipe, retain={**retain, task: of_task})

    subject.recipe = masked("shape-topics")
    small.objective(subject)
    subject.recipe = masked("mood-words")
    with pytest.raises(UserError) as error:
        small.objective(subject)
    assert str(error.value) == (
        "runs.toy.methods.replay.tasks: mood-words, of kind masked-lm, cannot be learned under "
        "FSDP: launch without it"
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("l1", {"strength": 1e-4}),
        ("l2", {"strength": 1e-4}),
        ("fgm", {"epsilon": 0.1}),
        ("adalora", {"target_r": 1, "init_r": 2, "tinit": 1, "tfinal": 1}),
        ("l2-sp", {"alpha": 0.1}),
        ("ewc", {"strength": 1.0, "tasks": ["mood-words"], "rows": 4}),
    ],
)
def test_what_needs_weights_whole_is_refused(
    name: str, settings: dict[str, Any], encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = small.subject(encoder, methods={name: settings}, pool="retain/train")
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.FSDP)
    with pytest.raises(UserError) as error:
        small.objective(subject)
    assert str(error.value) == (
        f"runs.toy.methods = {name}: needs each weight whole, and FSDP keeps it in parts; replay "
        "would fit, or a launch without FSDP"
    )


# Several devices


@pytest.mark.parametrize(
    "given", ['{"": "cpu"}', '{"embed": "cpu", "layers.0": "disk", "rest": "cpu"}', "auto"]
)
@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_a_model_in_parts_answers_as_a_whole_one(
    models: dict[str, Path], kind: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        "encoder": ('"embeddings"', '"encoder.layer.0"', '"encoder.layer.1"'),
        "causal": ('"model.embed_tokens"', '"model.layers.0"', '"model.layers.1"'),
    }[kind]
    for place, name in zip(('"embed"', '"layers.0"', '"rest"'), names, strict=True):
        given = given.replace(place, name)
    if kind == "causal" and "disk" in given:
        given = given[:-1] + ', "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "disk"}'
    manifest = {"kind": kind, "pooling": "mean"}
    answers = []
    for asked in (None, given):
        if asked:
            monkeypatch.setenv("PALIMPSEST_DEVICE_MAP", asked)
        scorer: Any = scorer_of(load(manifest, models[kind]), EVALUATION)
        body = scorer.model if kind == "causal" else scorer.encoder.body
        away = [name for name, weight in body.named_parameters() if weight.is_meta]
        assert bool(away) == bool(asked and "disk" in asked)
        examples = small.examples(small.TALES if kind == "causal" else small.LABELLED, 0, 12)
        if kind == "causal":
            pairs = zip(examples.column("prompt"), examples.column("text"), strict=True)
            answers.append(scorer._scorer(1).likelihoods(list(pairs), 64).logprobs)
        else:
            answers.append(scorer._sample(examples).fit(4).weight)
    torch.testing.assert_close(torch.tensor(answers[1]), torch.tensor(answers[0]))


@pytest.mark.parametrize("given", ["autom", "[1]", '{"layers": 1.5}'])
def test_an_odd_device_map_is_told(
    encoder: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_DEVICE_MAP", given)
    loaded = load({"kind": "encoder", "pooling": "mean"}, encoder)
    with pytest.raises(UserError, match="no device map; give auto"):
        scorer_of(loaded, EVALUATION)


def test_a_device_map_that_lacks_a_layer_is_told(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_DEVICE_MAP", '{"embeddings": "cpu"}')
    loaded = load({"kind": "encoder", "pooling": "mean"}, encoder)
    with pytest.raises(UserError, match="DEVICE_MAP: does not fit the model"):
        scorer_of(loaded, EVALUATION)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"": "disk"}', "disk: a model reads its tokens there, so give it cpu"),
        (
            '{"embeddings": "cpu", "encoder": 0}',
            "cpu: a model reads its tokens there, so give it a GPU",
        ),
    ],
)
def test_a_device_map_with_the_embeddings_away_is_told(
    encoder: Path, given: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALIMPSEST_DEVICE_MAP", given)
    loaded = load({"kind": "encoder", "pooling": "mean"}, encoder)
    with pytest.raises(UserError) as error:
        scorer_of(loaded, EVALUATION)
    first = "embeddings.word_embeddings.weight"
    assert str(error.value) == f"PALIMPSEST_DEVICE_MAP: {first} is given {told}"


def test_a_device_map_holds_of_a_model_that_reads_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_seq2seq.write_model(tmp_path / "t5", list("abcdefgh"), 1)
    rows, answers = [[3, 4, 7, 1], [5, 6, 1], [9, 1]], []
    parts = dict.fromkeys(("shared", "encoder", "decoder.embed_tokens", "lm_head"), "cpu")
    away = {f"decoder.{name}": "disk" for name in ("block", "final_layer_norm")}
    for given in (None, json.dumps(parts | away)):
        if given:
            monkeypatch.setenv("PALIMPSEST_DEVICE_MAP", given)
        scorer: Any = scorer_of(load({"kind": "seq2seq"}, tmp_path / "t5"), EVALUATION)
        assert any(weight.is_meta for weight in scorer.model.parameters()) == bool(given)
        answers.append(write(scorer.model, rows, 0, 5))
    assert answers[0] == answers[1]
    assert any(answers[0])


# Four bits


def test_four_bits_without_a_gpu_are_refused_in_a_line(causal: Path) -> None:
    with pytest.raises(UserError, match="quantise = 4bit: needs bitsandbytes and a GPU") as told:
        small.subject(causal, (small.TALES,), methods={"lora": {"r": 2}}, quantise="4bit")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({}, "quantise = 4bit: goes with methods.lora"),
        ({"lora": {"r": 2}, "ewc": {}}, "ewc needs the base's weights as they are"),
    ],
)
def test_four_bits_go_with_an_adapter_alone(methods: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        small.config(methods, quantise="4bit")


def test_four_bits_do_not_start_from_another_run() -> None:
    given = {"quantise": "4bit", "starts": "teacher", "teacher": "models/tuned/first"}
    with pytest.raises(ValueError, match="quantise = 4bit: a base is held in 4 bits, and this run"):
        small.config({"lora": {"r": 2}}, **given)


def test_an_adapter_goes_into_layers_in_four_bits(causal: Path) -> None:
    """What bitsandbytes keeps of a layer: bytes, which have no gradient."""
    subject = small.subject(causal, (small.TALES,))
    packed = subject.body.model.layers[0].mlp.up_proj
    packed.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    frozen = subject.body.model.layers[1].mlp.up_proj
    frozen.weight.requires_grad_(False)
    Lora(r=2).adapt(subject)
    named = {name for name, _ in subject.body.named_modules() if name.endswith("lora_A.default")}
    assert any("layers.0.mlp.up_proj" in name for name in named)
    assert not any("layers.1.mlp.up_proj" in name for name in named)


def test_layers_in_four_bits_are_built_more_than_once() -> None:
    """As transformers and bitsandbytes do: a layer, then one in its place whose weight is set
    twice. The spare elements alone would not hold it."""

    def build() -> None:
        with torch.device("meta"):
            nn.Linear(2**15, 2**14, bias=False)
            again = nn.Linear(2**15, 2**14, bias=False)
            again.weight = nn.Parameter(torch.empty(2**14, 2**15))

    with pytest.raises(ValueError, match="far more than the weights hold"), bounded({}, 1, 2**29):
        build()
    with bounded({}, 1, 2**29, quantised=True):
        build()


# Several processes


def test_what_a_teacher_says_is_sent_by_itself(encoder: Path) -> None:
    """A view of a batch is pickled with all of it."""
    subject = small.subject(encoder)
    subject.learn_targets(lambda examples: examples)
    stream = subject.targets[0]
    for found in _features(subject, stream.trainee, stream.rows, range(12)).values():
        assert found.untyped_storage().nbytes() == found.numel() * found.element_size()


def test_one_gpu_is_taken_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[torch.device] = []
    monkeypatch.setenv("PALIMPSEST_DEVICE", "cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(sharing, "PartialState", lambda **_: SimpleNamespace(num_processes=1))
    sharing.join()
    assert taken == [torch.device("cuda:1")]
    monkeypatch.setattr(sharing, "PartialState", lambda **_: SimpleNamespace(num_processes=2))
    with pytest.raises(UserError, match="PALIMPSEST_DEVICE='cuda:1': each process takes its own"):
        sharing.join()


def test_an_encoder_is_not_loaded_in_four_bits() -> None:
    (reason,) = small.misfit({"lora": {"r": 2}}, quantise="4bit")
    assert "an encoder is not loaded in 4 bits" in reason


def test_defaults_leave_a_run_as_it_is() -> None:
    defaults = {
        "accumulate": 1,
        "compile": False,
        "gradient_checkpointing": False,
        "quantise": None,
    }
    for key, value in defaults.items():
        assert RunConfig.model_fields[key].default == value


def test_a_gpu_that_torch_does_not_see_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"PALIMPSEST_DEVICE='cuda': this torch \(.*\) sees no GPU"):
        device.device()
