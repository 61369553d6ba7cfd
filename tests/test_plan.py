"""What a pipeline will take, told before it runs, held against reckoning by hand."""

import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import tiny
import tiny_causal
import tiny_seq2seq
import torch
import yaml
from hub_server import HubServer, Repo
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedConfig

from stages import phases
from stages import plan as program
from stages.config.cases import CaseConfig
from stages.config.evaluation import EvaluationConfig
from stages.config.models import ModelConfig
from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.models.causal import finished
from stages.models.device import dtype
from stages.models.loading import load
from stages.planning import asked, machine, memory, work
from stages.planning.case import Case, Recipe
from stages.planning.planned import PROCESS, Plan, Planned
from stages.planning.shape import Shape, of_config, on_paper, settings_of
from stages.planning.texts import Texts, _lengths, _written, bound, mean_longest
from stages.tasks.examples import Task
from stages.training import losses
from stages.training.teacher import divergence

SHAPE = Shape(
    parameters=1600, body=1000, layers=2, width=10, vocabulary=50, keys=5, ends=30, causal=True
)
TEXTS = Texts(
    "language-modelling", {"train": 100, "validation": 20, "test": 40}, (7,), (7,), 6.0, {}, 0, True
)
ROWS = 4


def config(**settings: object) -> RunConfig:
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipe = {**real["runs"]["gpt-full"], "case": "one", "batch_size": ROWS, "steps": 10}
    looks = {"validate_every": 10, "validation_rows": 20, "checkpoint_every": 10}
    return RunConfig.model_validate({**recipe, **looks, "seeds": [0], **settings})


def evaluation(**settings: object) -> EvaluationConfig:
    noise: dict[str, list[str]] = {"tasks": [], "conditions": []}
    told = {"precision": "fp32", "batch_tokens": 64, "noise_repeats": 2, "noise": noise}
    return EvaluationConfig.model_validate({**told, **settings})


def case(shape: Shape = SHAPE) -> Case:
    told = CaseConfig.model_validate({"model": "m", "targets": ["t"], "retain": ["a", "b"]})
    return Case("one", told, shape, {"t": TEXTS, "a": TEXTS, "b": TEXTS})


FLAT = machine.Machine(
    name="flat",
    devices=1,
    memory=80e9,
    disk=1e15,
    copies=1e3,
    products=lambda *_: 1e6,
    reached=0.5,
    beside=lambda *_: 0.0,
    precision=lambda asked: "fp32",
    measured=False,
)
"""A machine of round figures."""


def plan(shape: Shape = SHAPE, on: machine.Machine = FLAT, **settings: object) -> Plan:
    run = Recipe("full", config(**settings), ())
    return Plan({"one": case(shape)}, [run], evaluation(), 100, on)


def test_a_token_forward() -> None:
    # 3 x (2 x 1000 + 4 x 2 layers x 10 wide x 7 long), and 2 judged x 2 x 10 wide x 50 words
    assert work.forward(SHAPE, 3, 7, 2) == 3 * 2560 + 2000
    assert work.forward(replace(SHAPE, causal=False), 3, 7, 2) == 3 * 2560


def test_full_fine_tuning_by_hand() -> None:
    found = work.finetune(case(), Recipe("full", config(), ()))
    step = ROWS * 7 * 2560 + ROWS * 6 * 2 * 10 * 50
    assert found["train"] == 3 * 10 * step  # forward, and twice that back
    assert found["update"] == 10 * 44 * 1600
    row = 7 * 2560 + 6 * 2 * 10 * 50
    assert found["read"] == 2 * (20 + 20) * row  # before the first and after the last step
    assert found["write"] == found["probe"] == 0


def test_lora_by_hand() -> None:
    run = Recipe("lora", config(methods={"lora": {"r": 2}}), ())
    found = work.finetune(case(), run)
    assert work.trained(SHAPE, run.config.methods) == 2 * 30
    assert found["train"] == 0
    assert found["adapt"] == 2 * 10 * (ROWS * 7 * 2560 + ROWS * 6 * 2 * 10 * 50)
    assert found["update"] == 10 * 44 * 60


@pytest.mark.parametrize(
    ("methods", "trains"),
    [
        ({}, 1600),
        ({"freeze": {"layers": 1}}, 500),
        ({"freeze": {"layers": 1, "embeddings": False}}, 500 + 600),
        ({"block-expansion": {"blocks": 1}}, 500),
        ({"adalora": {"init_r": 3}}, 90),
    ],
)
def test_what_trains(methods: dict[str, object], trains: int) -> None:
    assert work.trained(SHAPE, methods) == trains


def test_seeds_and_folds_repeat_it() -> None:
    once = work.finetune(case(), Recipe("full", config(), ()))
    many = work.finetune(case(), Recipe("full", config(seeds=[0, 1], folds=4), ()))
    assert many["train"] == 10 * once["train"]


def test_what_costs_more() -> None:
    """Each of these is dearer than what it is held against."""
    costs = {
        "plain": plan(),
        "longer": plan(steps=20),
        "wider": plan(batch_size=8),
        "watched": plan(validate_every=1),
        "teaching": plan(methods={"lwf": {"weight": 1.0}}),
        "attacked": plan(methods={"fgm": {"epsilon": 1.0}}),
    }
    seconds = {
        name: next(one.total for one in made.stages() if one.stage == "finetune@full")
        for name, made in costs.items()
    }
    assert all(seconds[name] > seconds["plain"] for name in seconds if name != "plain")


def test_time_by_hand() -> None:
    stage = next(one for one in plan().stages() if one.stage == "finetune@full")
    amounts = work.finetune(case(), Recipe("full", config(), ()))
    assert stage.seconds["train"] == amounts["train"] / 1e6 / 0.5
    assert stage.seconds["update"] == amounts["update"] / 1e3
    assert stage.seconds["fixed"] == PROCESS
    many = plan(on=replace(FLAT, devices=4))
    fourth = next(one for one in many.stages() if one.stage == "finetune@full")
    assert fourth.seconds["train"] == stage.seconds["train"] / 4


@pytest.mark.parametrize("parameters", [7e9, 70e9])
def test_states_of_large_models(parameters: float) -> None:
    """As anybody reckons them: 16 bytes a weight of full fine-tuning with AdamW in fp32, 18 with
    bf16's copies; with LoRA 4, or 6, and 16 of each of the adapter's."""
    shape = on_paper(parameters, causal=True)
    everything = shape.parameters
    assert everything == parameters
    assert memory.states(shape, everything, "fp32") == 16 * parameters
    assert memory.states(shape, everything, "bf16") == 18 * parameters
    adapter = work.trained(shape, {"lora": {"r": 16}})
    assert memory.states(shape, adapter, "bf16") == 6 * parameters + 16 * adapter
    assert adapter < parameters / 100
    assert 0.9 * parameters < 12 * shape.layers * shape.width**2 < 1.1 * parameters


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("taught", [False, True])
def test_logits_take_what_they_take(precision: str, taught: bool) -> None:
    """The most that is allocated while a loss of this many tokens is taken, and its gradient."""
    vocabulary, tokens = 2000, 200
    finish = partial(finished, PreTrainedConfig())

    def head() -> torch.Tensor:
        """Its product alone: what oneDNN holds beside it, of its own, depends on the processor."""
        return torch.randn(tokens, vocabulary, dtype=dtype(precision, torch.device("cpu")))

    def step() -> None:
        product = head().requires_grad_()
        loss = losses.vocabulary(product, torch.zeros(tokens, dtype=torch.long), finish).sum()
        if taught:
            with torch.no_grad():
                told = finish(head())
            loss = loss + divergence(told, finish(product), 2.0).sum()
        torch.autograd.grad(loss, product)

    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = profiled.profiler.kineto_results.events()
    found = max(accumulate(one.nbytes() for one in events if one.name() == "[memory]"))
    shape = replace(SHAPE, vocabulary=vocabulary)
    expected = memory.logits(shape, tokens, precision, taught=taught, host=True)
    assert found == pytest.approx(expected, rel=0.02)


def test_llama_2_from_its_settings(tmp_path: Path) -> None:
    """7B's own config.json: 6,738,415,616 parameters (Touvron et al. 2023, arXiv 2307.09288)."""
    settings = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    shape = of_config(tmp_path, "causal")
    assert shape.parameters == 6_738_415_616
    assert shape.body == shape.parameters - 2 * 32000 * 4096
    assert (shape.layers, shape.width, shape.keys) == (32, 4096, 4096)
    # Of each layer q, k, v, o: 4 x (4096 + 4096); gate, up, down: 3 x (4096 + 11008).
    assert shape.ends == 32 * (4 * 8192 + 3 * 15104)


@pytest.mark.parametrize(("kind", "of"), [("encoder", tiny), ("causal", tiny_causal)])
def test_a_shape_is_that_of_the_model(kind: str, of: SimpleNamespace, tmp_path: Path) -> None:
    of.write_model(tmp_path)
    manifest = {"kind": kind, "pooling": "mean"}
    loaded = load(manifest, tmp_path)
    body = loaded.encoder.body if kind == "encoder" else loaded.model  # type: ignore[union-attr]
    shape = of_config(tmp_path, kind)
    assert shape.parameters == sum(one.numel() for one in body.parameters())
    assert (shape.layers, shape.width) == (2, 32)
    assert 0 < shape.body < shape.parameters


def test_a_shape_of_seq2seq(tmp_path: Path) -> None:
    tiny_seq2seq.write_model(tmp_path, ["one", "two"], 0)
    loaded = load({"kind": "seq2seq"}, tmp_path)
    shape = of_config(tmp_path, "seq2seq")
    assert shape.parameters == sum(one.numel() for one in loaded.model.parameters())  # type: ignore[union-attr]
    assert 0 < shape.body < shape.parameters


def test_what_is_read_and_written_of_completions() -> None:
    rows = pd.DataFrame({"prompt": ["a b c"], "completion": [["d e", "f"]], "text": ["a b c d"]})

    def words(texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    completion = Task("t", "completion", 100, (), {"max_new_tokens": 5, "metric": "f1"})
    assert _lengths(completion, rows, words) == ([3], [5], [2])
    # A text is read once for each of its tokens.
    assert _lengths(Task("t", "masked-lm", 3, (), {}), rows, words) == ([9], [3], [3])
    counts = {"validation": 10, "test": 20}
    for kind in ("completion", "chat", "refusal"):
        assert _written(kind, counts, 7, None, 1) == {"validation": 70, "test": 140}


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing"}', encoding="utf-8")
    with pytest.raises(UserError, match="no settings of a model"):
        of_config(tmp_path, "causal")


def test_padding() -> None:
    assert mean_longest([5], 32) == 5
    assert mean_longest([1, 9], 1) < mean_longest([1, 9], 4) <= 9


def test_a_run_that_cannot_fit_names_what_to_change() -> None:
    large = on_paper(70e9, causal=True)
    h100 = replace(FLAT, name="h100", memory=80e9)
    made = plan(large, h100)
    said = "\n".join(made.refusals(list(made.stages())))
    assert "finetune@full needs 1121." in said  # with what a batch takes
    assert "h100 has 80.0: weights, gradients and AdamW's moments alone take 1120.0" in said
    assert "set runs.full.methods: {lora: {r: 16}}" in said
    lora = plan(large, h100, methods={"lora": {"r": 16}})
    assert "its weights alone take" in "\n".join(lora.refusals(list(lora.stages())))


def test_a_batch_that_cannot_fit() -> None:
    wide = plan(on_paper(1e9, causal=True), batch_size=100_000)
    said = [line for line in wide.refusals(list(wide.stages())) if line.startswith("finetune")]
    assert len(said) == 1
    assert "set runs.full.batch_size below 100000, runs.full.accumulate above 1, " in said[0]
    assert "runs.full.gradient_checkpointing: true, or a lower tasks.t.max_length" in said[0]


def test_what_is_asked_at_once_that_cannot_fit() -> None:
    made = replace(plan(), evaluation=evaluation(batch_tokens=10**9))
    said = list(made.refusals(list(made.stages())))
    assert [line.partition("@")[0] for line in said] == ["pretrain-baseline-eval", "retention-eval"]
    assert all(": set evaluation.batch_tokens lower" in line for line in said)


def test_states_that_are_split() -> None:
    """A layer and the embeddings are whole at a time; all weights in fp32 where they are read."""
    shape = on_paper(7e9, causal=True)
    layer = 4 * (shape.body / shape.layers + shape.parameters - shape.body)
    for devices in (2, 4, 16):
        copied = plan(shape, replace(FLAT, devices=devices))
        split = replace(copied, sharded=True)
        held, parts = (_of("finetune@full", made).memory for made in (copied, split))
        assert held - parts == pytest.approx(16 * 7e9 * (1 - 1 / devices) - layer)
    machine, lwf = replace(FLAT, devices=16, memory=48e9), {"lwf": {"weight": 1.0}}
    parted, read = (
        replace(plan(on_paper(13e9, causal=True), machine, methods=methods), sharded=True)
        for methods in ({}, lwf)
    )
    assert "split" not in "".join(parted.refusals(list(parted.stages())))
    assert _of("finetune@full", parted).memory < 30e9
    told = list(read.refusals(list(read.stages())))
    assert any(
        "before they are split its weights, which are read, take 52.0: take a smaller model, or "
        "leave lwf out" in line
        for line in told
    )


def _of(stage: str, made: Plan) -> Planned:
    return next(one for one in made.stages() if one.stage == stage)


def _held(shape: Shape, precision: str, *, host: bool = False, **settings: object) -> memory.Memory:
    return memory.finetune(case(shape), Recipe("full", config(**settings), ()), precision, 1, host)


def test_what_takes_less_memory() -> None:
    """A turn of a step, inputs of layers alone, and blocks in 4 bits."""
    shape = on_paper(1e9, causal=True)
    turn = _held(shape, "bf16", batch_size=8, accumulate=4).batch
    assert turn == _held(shape, "bf16", batch_size=2).batch
    entries = 100 * shape.width
    assert memory.activations(shape, 100, "bf16") == entries * 34 * shape.layers
    kept = memory.activations(shape, 100, "bf16", checkpointed=True)
    assert kept == entries * (34 + 2 * shape.layers)
    plain = memory.states(shape, 100, "bf16")
    quantised = memory.states(shape, 100, "bf16", quantised=True)
    assert plain - quantised == pytest.approx((4 + 2 - 0.52) * shape.body)


def test_checkpointing_reads_forward_again() -> None:
    once, again = (
        work.finetune(case(), Recipe("full", config(gradient_checkpointing=told), ()))["train"]
        for told in (False, True)
    )
    assert again == pytest.approx(once * 4 / 3)


def test_a_teacher_takes_memory() -> None:
    """What it says of a row's judged tokens in the host's, its head on the device."""
    shape, lwf = on_paper(1e9, causal=True), {"lwf": {"weight": 1.0, "temperature": 2.0}}
    short, long, longest = (
        _held(shape, "fp32", host=True, methods=lwf, steps=steps) for steps in (5, 10, 1000)
    )
    row = 6 * shape.width * 4
    assert long.kept - short.kept == 5 * ROWS * row
    assert longest.kept - short.kept == (100 - 5 * ROWS) * row  # each row once
    assert short.states == 16 * shape.parameters + 4 * shape.vocabulary * shape.width


def test_scoring_on_a_device_of_its_own() -> None:
    """In its precision, base and tuned model side by side; relearning only where there is room."""
    of, asks = case(on_paper(13e9, causal=True)), evaluation()
    assert memory.baseline(of, asks, "bf16", host=False).states == 2 * 13e9
    for host, room, each in ((False, 80e9, 2 * 2), (False, 400e9, 18), (True, 80e9, 18)):
        assert memory.retention(of, asks, "bf16", host, room).states == each * 13e9
    wide = plan(on_paper(70e9, causal=True), replace(FLAT, memory=80e9))
    refused = "\n".join(wide.refusals(list(wide.stages())))
    assert "retention-eval@full needs" in refused
    assert "PALIMPSEST_DEVICE_MAP=auto in the environment, or" in refused
    spread = replace(wide, spread=True)
    assert "retention-eval" not in "\n".join(spread.refusals(list(spread.stages())))
    on_host = replace(spread, machine=replace(spread.machine, measured=True))
    assert _of("pretrain-baseline-eval@one", on_host).memory == pytest.approx(80e9)


def test_long_answers_are_planned_fewer_at_once() -> None:
    """48, or as many as have 16 times `batch_tokens`, of 1000 tokens each; one at least."""
    written = {"validation": 200, "test": 800}
    told = replace(TEXTS, kind="completion", read=(980,), written=written, answer=20)
    of = replace(case(), texts={"t": told, "a": TEXTS, "b": TEXTS})
    kept, streamed = {}, {}
    for rows, batch_tokens in ((1, 16), (2, 125), (48, 3000), (48, 3750)):
        asks = evaluation(batch_tokens=batch_tokens)
        batch = batch_tokens * (10 * 16 * 4 + 50 * (4 + 4))
        kept[rows] = memory.baseline(of, asks, "fp32", host=False).batch - batch
        streamed[rows] = asked.retention(of, plan().runs[0], asks)["stream"]
    assert kept == {rows: 2 * 2 * 5 * 4 * 1000 * rows for rows in kept}
    weights = 2 * (1000 + 10 * 50)
    tokens = 800 + 2 * 200  # of a target as many rows of train as of validation
    assert streamed[1] - streamed[48] == pytest.approx(tokens * weights * (1 - 1 / 48))
    assert streamed[2] - streamed[48] == pytest.approx(tokens * weights * (1 / 2 - 1 / 48))


def test_folds_have_resume_points() -> None:
    plain, folded = (
        memory.finetune_disk(case(), Recipe("full", config(folds=folds), ())) for folds in (None, 4)
    )
    assert plain == (2 * 4 + 16) * 1600
    assert folded == 5 * plain


def test_devices_share_what_is_scored_but_not_what_is_relearned() -> None:
    one, two = (plan(on=replace(FLAT, devices=devices)) for devices in (1, 2))
    found = {
        name: _of("retention-eval@full", made).seconds["read"]
        for name, made in (("one", one), ("two", two))
    }
    alone = asked.retention(case(), one.runs[0], one.evaluation)["alone"] / 1e6 / 0.5
    assert alone > 0
    assert found["two"] == pytest.approx((found["one"] - alone) / 2 + alone)


def test_processes_of_one_processor_share_its_cores_and_each_hold_a_model() -> None:
    shared = replace(FLAT, measured=True)  # as if it were this one
    one, two = (plan(on=replace(shared, devices=devices)) for devices in (1, 2))
    for stage in ("pretrain-baseline-eval@one", "finetune@full", "retention-eval@full"):
        first, second = _of(stage, one), _of(stage, two)
        assert second.memory == pytest.approx(2 * first.memory, rel=1e-3)  # batches are split
        assert second.seconds == first.seconds


def test_an_encoder_and_a_decoder_read_a_token_once() -> None:
    assert work.forward(replace(SHAPE, stacks=2), 3, 7, 0) == 3 * (2 * 500 + 4 * 2 * 10 * 7)


def test_each_reading_of_a_masked_text_sees_the_text() -> None:
    texts = replace(TEXTS, kind="masked-lm", read=(49,), learned=(7,), judged=7.0)
    encoder = replace(SHAPE, causal=False)
    assert work.of_rows(case(encoder), texts, 2) == 2 * 49 * (2 * 1000 + 4 * 2 * 10 * 7)


def test_a_full_disk_names_the_largest() -> None:
    made = plan(on_paper(1e9, causal=True), replace(FLAT, disk=1e9))
    (said,) = made.refusals(list(made.stages()))
    assert "the disk: " in said and "runs.full.methods: {lora: {r: 16}}" in said


def test_what_fits_is_not_refused() -> None:
    made = plan()
    assert list(made.refusals(list(made.stages()))) == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, own: Path) -> Path:
    """A tiny project as `dvc repro prepare` leaves it."""
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(own, folder / tiny.OWN)
    tiny.write_params(folder, tiny.make_params(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.run_stage("prepare", tiny.CASE)
    return folder


Told = Callable[..., str]


@pytest.fixture
def told(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Told]:
    """What the command prints, with the arguments given."""
    monkeypatch.chdir(prepared)
    monkeypatch.setattr(machine, "SECONDS", 0.01)

    with tiny.one_thread():
        yield tiny.telling(capsys, "plan")


def test_help_tells_every_option() -> None:
    page = inspect.getdoc(program) or ""
    told = re.findall(r"^(--\w+)", page, flags=re.MULTILINE)
    taken = {*vars(program.arguments([]))} - {"cases"}
    assert {one.removeprefix("--") for one in told} == taken
    assert all(name in page for name in machine.PUBLISHED)


def _stages(project: Path) -> set[str]:
    text = (tiny.ROOT / "dvc.yaml").read_text(encoding="utf-8")
    return set(tiny.expand(text, tiny.read_params(project)))


def test_every_stage_is_told(told: Told, prepared: Path) -> None:
    lines = [line.split() for line in told().splitlines() if line]
    table = {line[0]: line[1:] for line in lines}
    assert _stages(prepared) <= set(table)
    assert all(float(table[stage][0]) > 0 for stage in _stages(prepared))
    assert "not prepared" not in told()


def test_a_pass_takes_its_products_and_what_is_moved_beside_them() -> None:
    beside = replace(FLAT, beside=lambda kind, model: 3.0 if kind == "train" else 0.0)
    done = work.finetune(case(), Recipe("full", config(), ()))
    (tuned,) = [one for one in plan(on=beside).stages() if one.stage == "finetune@full"]
    assert tuned.products == {kind: pytest.approx(done[kind] / 1e6) for kind in ("train", "read")}
    # Half of 1e6 FLOP/s; 3 bytes an operation of a model one wide, here 10, at 1e3 bytes/s.
    moved = done["train"] * 3 / 10 / 1e3
    assert tuned.seconds["train"] == pytest.approx(2 * done["train"] / 1e6 + moved)
    assert tuned.seconds["read"] == pytest.approx(2 * done["read"] / 1e6)


def test_the_counted_texts_are_the_prepared_ones(told: Told, prepared: Path) -> None:
    from stages.plan import _case

    found = _case(tiny.CASE, _config(prepared), None).texts[tiny.TARGET]
    assert found.rows == {"train": 80, "validation": 30, "test": 40}
    assert set(found.read) == {10}  # eight words between [CLS] and [SEP]
    assert found.counted


def _config(project: Path) -> CaseConfig:
    return CaseConfig.model_validate(tiny.read_params(project)["cases"][tiny.CASE])


def test_on_paper(told: Told) -> None:
    """A device that is not here, and models that are not there."""
    with pytest.raises(UserError, match=r"finetune@full needs .* set runs\.full\.methods"):
        told("--parameters", "70e9", "--device", "h100", "--devices", "8")
    said = told("--parameters", "1e9", "--device", "h100", "--devices", "8", "--sharded")
    assert "h100, 80.0 GB; 8 of them, a run's weights split over them" in said
    assert "40 % are assumed" in said
    assert "tiny: 1,000,000,000 parameters" in said


def test_before_anything_is_prepared(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    shutil.copy2(prepared / "params.yaml", tmp_path)
    shutil.copytree(prepared / tiny.OWN, tmp_path / tiny.OWN)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"logs/phases: no stage has run here yet; run `dvc repro`"):
        told("--check")
    size = told().splitlines()[0]
    assert re.fullmatch(r"tiny: [0-9,]+ parameters, 2 layers of width 32, .*", size)
    said = told("--parameters", "1e8", "--device", "h100")
    assert "not prepared, so each text counts as max_length: color-qa" in said


def test_of_a_model_on_a_hub_no_weights_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_model(tmp_path / "model")
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    revision = "0123456789abcdef0123456789abcdef01234567"
    config = ModelConfig(source="hf:acme/tiny", revision=revision, kind="encoder", pooling="mean")
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.repos["models/acme/tiny"] = Repo(revision, files)
        folder = settings_of(config)
        asked = "".join(server.requests)
    assert of_config(folder, "encoder") == of_config(tmp_path / "model", "encoder")
    assert "model.safetensors" in files and "tokenizer.json" in asked
    assert "safetensors" not in asked


def test_what_is_not_counted_is_said() -> None:
    texts = {name: replace(TEXTS, kind="lm-eval", counted=False) for name in "ab"}
    made = plan()
    of = replace(made.cases["one"], texts={"t": TEXTS, **texts})
    asking = replace(made, cases={"one": of})
    said = "\n".join(program._said(asking, list(asking.stages())))
    assert "and each row as one choice or request, nothing written: a, b\n" in said
    assert "answers that an lm-eval task asks for more than once" in said
    assert "lm-eval" not in "\n".join(program._said(made, list(made.stages())))


def test_mistakes(told: Told) -> None:
    with pytest.raises(UserError, match=r"nobody: no case of params\.yaml; there are tiny"):
        told("nobody")
    with pytest.raises(UserError, match="--device h1000: give one of a100, "):
        told("--device", "h1000")
    with pytest.raises(UserError, match="too few"):
        told("--parameters", "10")
    for number in ("-5", "0", "nan", "inf"):
        with pytest.raises(UserError, match=f"--parameters {number}: give 1 to 1e15, such as 7e9"):
            told("--parameters", number)
    with pytest.raises(UserError, match="--devices 0: give 1 or more; see"):
        told("--devices", "0")
    with pytest.raises(UserError, match="--sharded: shares the states of several devices: give"):
        told("--sharded")
    with pytest.raises(UserError, match="unrecognized arguments: --card; see"):
        told("--card", "h100")


def test_beside_what_stages_took(told: Told, prepared: Path) -> None:
    """python -m stages.plan --check, of times that are made up."""
    took = {"start": 4.0, "train": 100.0, "validate": 10.0, "other": 1.0}
    folder = prepared / phases.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for address in ("finetune@full", "finetune@lora", "compare"):
        said = {"stage": address, "began": 1.0, "group": 1, "seconds": took}
        (folder / f"{address}.json").write_text(json.dumps(said), encoding="utf-8")
    # Of a device on paper: what is measured here depends on what else runs.
    lines = [line.split() for line in told("--check", "--device", "h100").splitlines() if line]
    table = {line[0]: line[1:] for line in lines}
    planned, seconds, ratio = map(float, table["finetune@full"])
    assert seconds == 115.0
    assert ratio == pytest.approx(planned / seconds, abs=0.01)
    assert float(table["all"][1]) == 3 * 115.0
    shown = "\n".join(" ".join(line) for line in lines)
    # Of this tiny model nearly nothing was planned, and so more would have to be moved.
    for key in (("train", "encoder"), ("adapt", "encoder")):
        told_of = re.search(
            re.escape(f"{key}: {machine.BESIDE[key]:.1f} would be ") + "(.*),", shown
        )
        assert told_of and float(told_of[1]) > 1000 * machine.BESIDE[key]
    assert "('train', 'causal')" not in shown
    assert "a start took 4.0 s" in shown


def test_bounds_are_what_params_allow() -> None:
    from stages.config.tasks import TaskConfig

    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))["tasks"]
    found = bound(TaskConfig.model_validate(real["instructions"]))
    assert found.read == (256,)
    assert found.written == {"validation": 24 * 24, "test": 150 * 24}
    assert bound(TaskConfig.model_validate(real["news-retrieval"])).read == (2 * 96,)


def test_the_commands_of_the_readme(tmp_path: Path, own: Path, environment: dict[str, str]) -> None:
    project = tiny.with_make(tiny.make_project(tmp_path / "project", own, environment))
    project.dvc("repro", "prepare")
    done = project.call("make", "plan")
    assert done.returncode == 0, done.stderr
    assert _stages(project.path) <= set(done.stdout.split())
    assert "not prepared" not in done.stdout
    paper = "python -m stages.plan --parameters 7e9 --device h200 --devices 8 --sharded news-gpt"
    done = project.call(*paper.replace("news-gpt", tiny.CASE).split())
    assert done.returncode == 0, done.stderr
    done = project.call(*paper.replace("news-gpt", tiny.CASE).replace("7e9", "70e9").split())
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "does not fit" in done.stdout
