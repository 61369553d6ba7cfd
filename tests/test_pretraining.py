"""Continued pre-training on a domain's text, mixed with general text, and then the target."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_architectures
import tiny_causal
import torch
import transformers
from faults_page import Fault

from stages.errors import UserError
from stages.models.encoder import load_encoder
from stages.models.loading import EncoderModel, load
from stages.models.masked import Masking
from stages.records import read_table
from stages.storage import read_json, sha256_path
from stages.tasks.examples import Examples, Task
from stages.training.masked import MaskedRows, MaskedTrainee, tokenise
from stages.training.relearn import relearn
from stages.training.stream import Stream
from stages.variants.body import body_of

DOMAIN, GENERAL = "domain-text", "general-text"
FRACTION = 0.25
MIX = {"replay": {"fraction": FRACTION, "tasks": [GENERAL], "repeats": 20}}
SIZES = {"max_length": 24, "train": 60, "validation": 12, "test": 16}
STEPS = 40
TUNED = Path("models/tuned")
TARGETS = {"encoder": tiny.TARGET, "causal": "agreement"}


def texts(words: Sequence[str]) -> list[str]:
    """Runs of the words in their order: whoever knows the order knows what is masked, or next."""
    draw = random.Random(words[0])
    found: list[str] = []
    while len(found) < 100:
        start, step = draw.randrange(len(words)), draw.choice((1, 2, 3))
        text = " ".join(words[(start + step * at) % len(words)] for at in range(10))
        found += [text] * (text not in found)
    return found


def with_texts(project: Path, kind: str, target: str, retain: list[str]) -> None:
    """The project's case goes on with pre-training first, and then learns `target`."""
    params = tiny.read_params(project)
    (settings,) = params["cases"].values()
    for task, words in ((DOMAIN, tiny.FILLER), (GENERAL, tiny.NAMES[:40])):
        lines = [json.dumps({"said": text}) for text in texts(words)]
        (project / f"own/{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        table = {"reader": "table", **tiny.pinned(project, f"own/{task}.jsonl")}
        data = {**table, "columns": {"text": "said"}}
        params["tasks"][task] = {"kind": kind, "data": data, **SIZES}
    settings |= {"targets": [DOMAIN, target], "retain": [GENERAL, *retain]}
    recipe = {**params["runs"]["full"], "precision": "fp32", "steps": 20}
    plain = {key: value for key, value in recipe.items() if not key.startswith("head")}
    begun = {"teacher": "models/tuned/domain", "starts": "teacher", "learns": [target]}
    mixed = {"pool": "retain/train", "methods": MIX, "learns": [DOMAIN], "steps": STEPS}
    params["runs"] = {"domain": {**plain, **mixed}, "tuned": {**recipe, **begun}}
    params["variants"] = {"domain": ["wise-0.5"], "tuned": []}
    params["evaluation"] |= {"noise_repeats": 2, "noise": {"tasks": [], "conditions": []}}
    tiny.write_params(project, params)


def make_encoder(folder: Path) -> None:
    tiny_architectures.make("bert", folder)
    with_texts(folder, "masked-lm", TARGETS["encoder"], ["shape-topics", "mood-words"])


def make_causal(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    tiny_causal.write_sources(folder)
    tiny.write_params(folder, tiny_causal.make_params(folder))
    with_texts(folder, "language-modelling", TARGETS["causal"], ["addition", "country-names-fr"])
    params = tiny.read_params(folder)
    params["cases"][tiny_causal.CASE]["shots"] = 2
    for task in (DOMAIN, GENERAL):
        params["tasks"][task]["max_length"] = 64
    tiny.write_params(folder, params)


MAKE: dict[str, Callable[[Path], None]] = {"encoder": make_encoder, "causal": make_causal}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with tiny.one_thread():
        yield


@pytest.fixture(scope="module", params=list(MAKE))
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages of a project whose folder bears the name of the model's kind."""
    folder = tmp_path_factory.mktemp("learned") / str(request.param)
    MAKE[request.param](folder)
    ((case, _),) = tiny.read_params(folder)["cases"].items()
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        tiny.run_stage("check")
        tiny.run_stage("prepare", case)
        tiny.run_stage("pretrain_baseline_eval", case)
        for run in ("domain", "tuned"):
            tiny.run_stage("finetune", run)
            tiny.run_stage("retention_eval", run)
        tiny.run_stage("compare")
    return folder


@pytest.fixture
def begun(learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / learned.name
    shutil.copytree(learned, folder)
    monkeypatch.chdir(folder)
    return folder


def test_the_domain_is_measured_beside_what_was_lost(learned: Path) -> None:
    ((case, _),) = tiny.read_params(learned)["cases"].items()
    target = TARGETS[learned.name]
    scores, retention, gates, frontiers = (
        read_json(learned / f"metrics/{name}.json")
        for name in ("scores", "retention", "gate", "frontier")
    )
    scores, retention = scores[case], retention[case]
    bits = {
        who: {task: scores[who][task]["bits_per_byte"]["value"] for task in (DOMAIN, GENERAL)}
        for who in ("base", "domain", "tuned")
    }
    gain = bits["base"][DOMAIN] - bits["domain"][DOMAIN]
    assert gain > 0.1
    assert retention["domain"]["gain"] == {DOMAIN: pytest.approx(gain, abs=2e-4)}
    assert 0 < retention["domain@wise-0.5"]["gain"][DOMAIN] < gain
    lost = bits["domain"][GENERAL] - bits["base"][GENERAL]
    assert retention["domain"]["drop"][GENERAL] == pytest.approx(lost, abs=2e-4)
    assert scores["domain"][GENERAL]["drop"]["seen"]
    assert scores["domain"][target]["drop"]["target"] == "later"
    assert set(retention["tuned"]["gain"]) == {target}
    assert scores["tuned"][DOMAIN]["drop"]["target"] == "earlier"
    roles = gates["cases"][case]["domain"]["tasks"]
    assert {task for task, one in roles.items() if one["role"] == "target"} == {DOMAIN}

    # What is a mean over text alone, or over questions alone, has a unit; that of both has none.
    told = scores["sequence@tuned"]
    r = told["R"]
    assert r[DOMAIN] == pytest.approx([bits[who][DOMAIN] for who in bits], abs=1e-3)
    assert told["average_accuracy"] == {"undefined": "the targets are measured in different units"}
    assert told["forward_transfer"]["value"] == pytest.approx(r[target][1] - r[target][0])
    forgot = r[DOMAIN][2] - r[DOMAIN][1]
    assert told["forgetting"]["value"] == pytest.approx(forgot, abs=2e-4)
    assert told["backward_transfer"]["value"] == pytest.approx(-forgot, abs=2e-4)
    assert "average_accuracy" not in retention["tuned"]
    assert retention["tuned"]["forgetting"] == told["forgetting"]["value"]
    page = (learned / "metrics/report.md").read_text(encoding="utf-8")
    assert "undefined, the targets are measured in different units" in page

    found = frontiers[case]
    assert [one["name"] for one in found["attempts"]] == ["tuned"]
    assert found["attempts"][0]["gain"]["value"] == pytest.approx(
        retention["tuned"]["gain"][target], abs=2e-4
    )
    assert "bits per byte" in found["left_out"][DOMAIN]
    if learned.name == "causal":
        assert found["prompted"]["point"]["name"].startswith("base@")


def test_the_mix_is_what_was_asked_and_the_same_again(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sha256_path(TUNED / "domain/seed-0")
    drawn: Counter[str] = Counter()
    batch = Stream.batch

    def counted(stream: Stream, batch_size: int, seed: int, step: int) -> list[int]:
        rows = batch(stream, batch_size, seed, step)
        drawn[stream.task] += len(rows)
        return rows

    monkeypatch.setattr(Stream, "batch", counted)
    shutil.rmtree(TUNED / "domain")
    tiny.run_stage("finetune", "domain")
    assert sha256_path(begun / TUNED / "domain/seed-0") == before
    assert set(drawn) == {DOMAIN, GENERAL}
    assert drawn[GENERAL] / drawn.total() == pytest.approx(FRACTION, abs=0.005)


def test_the_target_starts_from_the_domain(begun: Path) -> None:
    still = {"learning_rate": 1e-30, "steps": 2}
    if begun.name == "encoder":
        still["head_learning_rate"] = 1e-30
    tiny.edit_params(begun, **{f"runs__tuned__{key}": value for key, value in still.items()})
    tiny.run_stage("finetune", "tuned")
    base, first, second = (
        body_of(load(read_json(TUNED / "tuned/seed-0/base.json"), Path("own/model"), tuned))
        for tuned in (None, *(TUNED / run / "seed-0" for run in ("domain", "tuned")))
    )
    weights = dict(second.named_parameters())
    assert all(torch.equal(one, weights[name]) for name, one in first.named_parameters())
    assert not all(torch.equal(one, weights[name]) for name, one in base.named_parameters())


@pytest.mark.parametrize("learned", ["encoder"], indirect=True)
def test_masked_text_goes_with_methods_and_parts_of_a_step(begun: Path) -> None:
    methods = {
        "ewc": {"strength": 1.0, "tasks": [GENERAL], "rows": 4},
        "fgm": {"epsilon": 0.1},
        "l2-sp": {"alpha": 0.1},
        "lora": {"r": 2},
        "replay": MIX["replay"],
    }
    params = tiny.read_params(begun)
    params["runs"]["domain"] |= {"methods": methods, "steps": 2, "accumulate": 2}
    tiny.write_params(begun, params)
    tiny.run_stage("check")
    tiny.run_stage("finetune", "domain")
    curves, about = read_table(begun / f"metrics/training/{tiny.CASE}/domain.parquet")
    assert about["seen"] == [GENERAL]
    losses = {name.partition(":")[2] for name in curves.columns if name.startswith("batch_loss:")}
    assert losses == {DOMAIN, GENERAL, "ewc", "fgm", "l2-sp"}
    assert np.isfinite(curves.loc[curves["step"] == 2, "batch_loss"]).all()


def examples(count: int = 8) -> Examples:
    return Examples(
        Task(DOMAIN, "masked-lm", 24, (), {}),
        pd.DataFrame({"example_id": map(str, range(count)), "text": texts(tiny.FILLER)[:count]}),
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with its head for masked words."""
    folder = tmp_path_factory.mktemp("base")
    tiny_architectures.write_model("bert", folder)
    return folder


def test_the_loss_is_that_of_transformers(base: Path) -> None:
    """And its gradient, of the embeddings too, which are the head's decoder."""
    encoder = load_encoder(base, "mean")
    masking = Masking(encoder, base)
    rows = tokenise(examples(), masking).at(0, 3)
    trainee = MaskedTrainee(encoder, masking, 0).eval()
    output = trainee(rows, range(8))
    loss = output.losses.sum() / rows.weight(range(8))
    torch.autograd.backward(loss)

    model = transformers.AutoModelForMaskedLM.from_pretrained(base, dtype=torch.float32).eval()
    read = [rows.masked(row) for row in range(8)]
    labels = torch.full((8, len(read[0][0])), -100)
    for row, (_, places) in enumerate(read):
        for place in places:
            labels[row, place] = rows.ids[row][place]
    assert (labels != -100).sum() == rows.weight(range(8)) == 8 * 2  # 15 % of ten words
    ids = torch.tensor([ids for ids, _ in read])
    expected = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.autograd.backward(expected)
    body = dict(model.base_model.named_parameters())
    for name, weight in encoder.body.named_parameters():
        torch.testing.assert_close(weight.grad, body[name].grad, rtol=1e-4, atol=1e-6, msg=name)
    own = [one for one in masking.head.parameters() if not one.requires_grad]
    assert own and all(one.grad is None for one in own)
    # A step in parts reads the same masks.
    parts = torch.cat([trainee(rows, range(4)).losses, trainee(rows, range(4, 8)).losses])
    torch.testing.assert_close(parts, output.losses, rtol=1e-4, atol=1e-5)


def test_texts_without_a_token_shift_no_other(base: Path) -> None:
    rows = examples().rows
    rows.loc[[0, 3], "text"] = ["", " "]
    given = Examples(examples().task, rows)
    found = tokenise(given, Masking(load_encoder(base, "mean"), base))
    assert list(found.owners) == list(found.at(0, 3).owners) == [1, 2, 4, 5, 6, 7]
    whole = tokenise(examples(), Masking(load_encoder(base, "mean"), base))
    assert found.ids == [whole.ids[number] for number in found.owners]


def test_masks_are_those_of_the_paper() -> None:
    """15 % of the places, of which 80 % masked, 10 % another token, 10 % as they are."""
    ids = [[1, *range(100, 140), 2] for _ in range(400)]
    rows = MaskedRows(ids, [list(range(1, 41))] * 400, 3, 50)  # the others are none of the text
    step = rows.at(7, 2)
    kinds: Counter[str] = Counter()
    for row in range(400):
        read, places = step.masked(row)
        assert len(set(places)) == len(places) == 6
        assert set(places) <= set(range(1, 41))
        changed = {at for at, one in enumerate(read) if one != ids[row][at]}
        assert changed <= set(places)
        kinds.update(
            "mask" if read[at] == 3 else "kept" if read[at] == ids[row][at] else "other"
            for at in places
        )
    shares = {kind: count / kinds.total() for kind, count in kinds.items()}
    assert shares == pytest.approx({"mask": 0.8, "other": 0.1, "kept": 0.1}, abs=0.03)
    again, other_step, other_seed = rows.at(7, 2), rows.at(7, 3), rows.at(8, 2)
    assert [again.masked(row) for row in range(9)] == [step.masked(row) for row in range(9)]
    for other in (other_step, other_seed, rows):
        assert [other.masked(row) for row in range(9)] != [step.masked(row) for row in range(9)]
    assert len({tuple(step.masked(row)[1]) for row in range(9)}) > 1
    assert MaskedRows([[1, 100, 2]], [[1]], 3, 50).masked(0)[1] == [1]


def test_a_lost_text_is_relearned(base: Path) -> None:
    loaded = load({"kind": "encoder", "pooling": "mean"}, base)
    assert isinstance(loaded, EncoderModel)

    def loss() -> float:
        masking = Masking(loaded.encoder, base)
        rows = tokenise(examples(), masking)
        with torch.no_grad():
            return float(MaskedTrainee(loaded.encoder, masking, 0)(rows, range(8)).losses.sum())

    before = loss()
    relearn(loaded, examples())
    assert loss() < before


def _on_causal(project: Path) -> None:
    tiny_causal.write_model(project / "own/gpt")
    params = tiny.read_params(project)
    params["models"]["gpt"] = {**tiny.pinned(project, "own/gpt"), "kind": "causal"}
    params["cases"][tiny.CASE]["model"] = "gpt"
    tiny.write_params(project, params)


def _without_head(project: Path) -> None:
    tiny.write_model(project / "own/model")


def _with(**settings: Any) -> Callable[[Path], None]:
    def change(project: Path) -> None:
        params = tiny.read_params(project)
        params["runs"]["domain"] |= settings
        tiny.write_params(project, params)

    return change


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "of a causal model": (
        _on_causal,
        f"cases.tiny.targets = '{DOMAIN}': is masked-lm; gpt is of kind causal, which fits "
        "multiple-choice, language-modelling",
    ),
    "of a base without its head": (
        _without_head,
        f"cases.tiny.targets = '{DOMAIN}': bert: its config.json names no architecture with a head "
        "for masked words: give a model that was published as …ForMaskedLM",
    ),
    "with a new head": (
        _with(head="random", head_learning_rate=0.01),
        "runs.domain.head = 'random': a masked-lm target has no head: leave it out",
    ),
    "with a teacher": (
        _with(methods={"lwf": {"weight": 1.0}}),
        f"what is masked of {DOMAIN} is drawn at each step anew; l2-sp or replay would fit",
    ),
    "augmented": (
        _with(methods={"augment": {"swap": 0.1, "delete": 0.1, "copies": 1}}),
        f"{DOMAIN}: its text is what is learned, and so would the edits be",
    ),
    "mixed without the rows": (
        _with(pool="target"),
        "uses train rows of retain tasks: set the run's pool to retain/train",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_told_when_params_are_read(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    make_encoder(tmp_path)
    change, said = WRONG[what]
    change(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        tiny.run_stage("check")
    lines = str(refused.value).splitlines()
    assert sum(said in line for line in lines) == 1
    fault(f"masked-lm as a target {what}", "exit 1, one line")
