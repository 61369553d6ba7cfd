"""Several processes of one launch: what they compute, write and say is what one process would."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import tiny_causal
import tiny_completions
import tiny_seq2seq
import torch
import yaml
from tiny_seq2seq import WORDS

from stages.models.seq2seq import Seq2Seq
from stages.records import read_records, read_table
from stages.storage import sha256_file

TWO = ("accelerate", "launch", "--multi_gpu", "--num_processes", "2")
"""On a machine without GPUs accelerate starts processes on its CPU by this option alone."""
QUIET = ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")
ENCODER: dict[str, Any] = {
    "pool": "retain/train",
    "precision": "fp32",
    "steps": 9,  # 9 batches of 8: an epoch of the replayed rows ends in between
    "validate_every": 3,
    "early_stopping": 2,
    "snapshots": [],
    "methods": {
        "dropout": {"p": 0.0},  # what is dropped derives from the process too
        "replay": {"fraction": 0.2, "tasks": ["shape-topics", tiny.RETRIEVAL], "repeats": 9},
        "supervised-contrastive": {"weight": 0.5, "temperature": 0.1},
        "l2-sp": {"alpha": 0.01},
        "lwf": {"weight": 0.1},
    },
}
CAUSAL: dict[str, Any] = {"steps": 6, "validate_every": 3, "methods": {"lora": {"r": 2}}}
SCORED = ("metrics/records", "metrics/drift", "metrics/shift")


def _launched(
    folder: Path, environment: dict[str, str], *stage: str
) -> "subprocess.CompletedProcess[str]":
    command = [*TWO, *QUIET, *stage]
    found = {**environment, "PYTHONPATH": str(tiny.ROOT), "PALIMPSEST_DEVICE": "cpu"}
    return subprocess.run(command, cwd=folder, env=found, capture_output=True, text=True)


def _compare(one: Path, two: Path, case: str, run: str) -> None:
    """Curves within 1e-5; every scored file the same, byte for byte."""
    expected, found = (
        read_table(folder / f"metrics/training/{case}/{run}.parquet")[0] for folder in (one, two)
    )
    assert list(found) == list(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert len(found) > 3


def _scored(folder: Path) -> dict[str, str]:
    files = (path for part in SCORED for path in (folder / part).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in sorted(files)}


def _stages(
    one: Path,
    two: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    run: str,
) -> None:
    """Each stage in both folders. The model that is scored is the same in both: what is off by
    1e-7 in training would be off in what it answers."""
    for stage, key in (
        ("pretrain_baseline_eval", case),
        ("finetune", run),
        ("retention_eval", run),
    ):
        with monkeypatch.context() as patch:
            patch.chdir(one)
            tiny.run_stage(stage, key)
        done = _launched(two, environment, "-m", f"stages.{stage}", key)
        assert done.returncode == 0, done.stderr
        if stage == "finetune":
            _compare(one, two, case, run)
            shutil.rmtree(two / "models/tuned")
            shutil.copytree(one / "models/tuned", two / "models/tuned")
    scored = _scored(one)
    assert len(scored) == 4
    assert _scored(two) == scored


def _twins(folder: Path, params: dict[str, Any], run: str, settings: dict[str, Any]) -> list[Path]:
    params["runs"] = {run: {**params["runs"][run], **settings}}
    params["variants"] = {run: []}
    params["evaluation"]["precision"] = "fp32"
    tiny.write_params(folder, params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.run_stage("prepare", params["runs"][run]["case"])
    shutil.copytree(folder, folder.parent / "two")
    return [folder, folder.parent / "two"]


def _causal_twins(folder: Path, settings: dict[str, Any]) -> list[Path]:
    folder.mkdir()
    tiny_causal.write_sources(folder)
    return _twins(folder, tiny_causal.make_params(folder), "lora", settings)


@pytest.mark.slow
def test_two_processes_tune_and_score_an_encoder_as_one(
    own: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With replay, a contrastive task that comes every so many steps, a term that needs its whole
    batch, a penalty and a teacher."""
    shutil.copytree(own, tmp_path / "one" / tiny.OWN)
    one, two = _twins(tmp_path / "one", tiny.make_params(tmp_path / "one"), "full", ENCODER)
    with tiny.one_thread():
        _stages(one, two, environment, monkeypatch, tiny.CASE, "full")


def test_two_processes_tune_and_score_a_causal_model_as_one(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of unequal numbers of tokens, LoRA, and texts that the base and the model write."""
    written = {"self-replay": {"fraction": 0.5, "length": 8}}
    methods = {"methods": {**CAUSAL["methods"], **written}}
    # Four batches of texts: the last one is the second process's.
    one, two = _causal_twins(tmp_path / "one", {**CAUSAL, **methods, "steps": 8})
    with tiny.one_thread():
        _stages(one, two, environment, monkeypatch, tiny_causal.CASE, "lora")


SHARED = """
from pathlib import Path

from stages import errors, pretrain_baseline_eval, processes
from stages.scoring import seq2seq

write, answered = seq2seq.write, []


def counted(model, rows, *settings):
    answered.append(len(rows))
    return write(model, rows, *settings)


seq2seq.write = counted
errors.run(pretrain_baseline_eval.main, "CASE")
Path(f"answered-{processes.number()}").write_text(str(sum(answered)))
"""
"""pretrain-baseline-eval, each of whose processes notes how many texts it has written."""


def test_two_processes_score_a_seq2seq_model_as_one(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    tiny_seq2seq.write_sources(one)
    tiny_completions.make(one, {"kind": "seq2seq"}, {"full": {}})
    params = yaml.safe_load((one / "params.yaml").read_text(encoding="utf-8"))
    params["evaluation"] |= {"batch_tokens": 128, "precision": "fp32"}
    tiny.write_params(one, params)
    monkeypatch.chdir(one)
    with tiny.one_thread():
        tiny.run_stage("prepare", tiny_completions.CASE)
        shutil.copytree(one, two)
        tiny.run_stage("pretrain_baseline_eval", tiny_completions.CASE)
    written = SHARED.replace("CASE", tiny_completions.CASE)
    (two / "shared.py").write_text(written, encoding="utf-8")
    done = _launched(two, environment, "shared.py")
    assert done.returncode == 0, done.stderr
    assert _scored(two) == _scored(one)
    parts = [int((two / f"answered-{number}").read_text()) for number in (0, 1)]
    records, _ = read_records(one / f"metrics/records/{tiny_completions.CASE}/base.parquet")
    assert sum(parts) == len(records)
    assert min(parts) > 0.4 * len(records)


TRANSLATED = """
import json
from pathlib import Path

import torch

from stages.models import seq2seq, sharing

sharing.join()
seq2seq.BATCH_TOKENS = 16
model = seq2seq.Seq2Seq(Path("model"), torch.device("cpu"))
own, read = model._model.generate, []
model._model.generate = lambda **given: (read.append(len(given["input_ids"])), own(**given))[1]
texts = model.write(json.loads(Path("texts.json").read_text()), 64, 2)
number = torch.distributed.get_rank()
Path(f"written-{number}.json").write_text(json.dumps([sum(read), texts]))
"""
"""Back-translation, each of whose processes notes how many texts it has read, and all."""


def test_two_processes_translate_as_one(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_seq2seq.write_model(tmp_path / "model", WORDS, 0)
    texts = [" ".join(WORDS[at : at + 1 + at % 7]) for at in range(30)]
    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    (tmp_path / "translated.py").write_text(TRANSLATED, encoding="utf-8")
    done = _launched(tmp_path, environment, "translated.py")
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"written-{n}.json").read_text()) for n in (0, 1))
    assert first[0] + second[0] == len(texts)
    assert min(first[0], second[0]) > 0.3 * len(texts)
    monkeypatch.setattr("stages.models.seq2seq.BATCH_TOKENS", 16)
    with tiny.one_thread():
        expected = Seq2Seq(tmp_path / "model", torch.device("cpu")).write(texts, 64, 2)
    assert first[1] == second[1] == expected
    assert len(set(expected)) > 3


@pytest.mark.slow
def test_two_processes_tune_a_compiled_model_as_one(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = _causal_twins(tmp_path / "one", {**CAUSAL, "compile": True})
    with tiny.one_thread():
        monkeypatch.chdir(one)
        tiny.run_stage("finetune", "lora")
        done = _launched(two, environment, "-m", "stages.finetune", "lora")
    assert done.returncode == 0, done.stderr
    _compare(one, two, tiny_causal.CASE, "lora")


LATE = """
import time

from stages import errors, finetune, processes
from stages.training.checkpoint import Checkpoint

kept = Checkpoint.kept


def late(self):
    time.sleep(0 if processes.is_first() else 4)
    return kept(self)


Checkpoint.kept = late
errors.run(finetune.main, "lora")
"""
"""finetune, whose second process is slow to read its best weights."""


def test_the_first_process_leaves_the_others_their_best_weights(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    _, two = _causal_twins(tmp_path / "one", CAUSAL)
    (two / "late.py").write_text(LATE, encoding="utf-8")
    done = _launched(two, environment, "late.py")
    assert done.returncode == 0, done.stderr
    assert (two / "models/tuned/lora/seed-0").is_dir()
    assert not list((two / ".scratch").glob("*/best-*"))


UNLIKE = """
import torch

from stages import errors, finetune, pretrain_baseline_eval, processes
from stages.models import sharing
from stages.models.device import describe, dtype


def unlike(where, used):
    number = processes.number()
    return {**describe(where, used), "device": f"GPU of {number}", "threads": 1 + number}


def halved(precision, where):
    return dtype(precision, where) if processes.is_first() else torch.bfloat16


finetune.describe = unlike
sharing.dtype = HOW
errors.run(STAGE.main, "KEY")
"""
"""A stage by processes with unlike GPUs and cores."""


def _write_unlike(folder: Path, how: str, stage: str, key: str) -> None:
    written = UNLIKE.replace("HOW", how).replace("STAGE", stage).replace("KEY", key)
    (folder / "unlike.py").write_text(written, encoding="utf-8")


@pytest.mark.parametrize(
    ("stage", "key", "refused"),
    [
        ("finetune", "lora", "runs.lora.precision"),
        ("pretrain_baseline_eval", tiny_causal.CASE, "evaluation.precision"),
    ],
)
def test_processes_of_unlike_dtypes_are_refused(
    tmp_path: Path, environment: dict[str, str], stage: str, key: str, refused: str
) -> None:
    _, two = _causal_twins(tmp_path / "one", CAUSAL)
    _write_unlike(two, "halved", stage, key)
    done = _launched(two, environment, "unlike.py")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said == [
        f"error: {refused} = fp32: the processes would compute in bfloat16 and float32, "
        "each in what its device has; give bf16 or fp32"
    ]


def test_processes_of_unlike_devices_resume_as_one(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """By what the first one is: the other finds its weights."""
    _, two = _causal_twins(tmp_path / "one", CAUSAL)
    _write_unlike(two, "dtype", "finetune", "lora")
    done = _launched(two, environment, "unlike.py")
    assert done.returncode == 0, done.stderr
    about = read_table(two / f"metrics/training/{tiny_causal.CASE}/lora.parquet")[1]
    assert about["provenance"]["device"] == "GPU of 0"
    assert about["provenance"]["threads"] == 1


ROUNDS = """
import atexit

import torch
from torch import distributed

from stages.models import sharing

atexit.register(lambda: print("left" if not distributed.is_initialized() else "still there"))
sharing.join()
own, sent = distributed.get_rank(), []
gather = distributed.all_gather_object


def told(made, given):
    sent.append(len(given))
    gather(made, given)


distributed.all_gather_object = told
for count in (0, 1, 15, 16, 17, 37):
    sent.clear()
    read = []

    def work(batch):
        read.append(batch)
        return torch.tensor([batch, own])

    found = list(sharing.dealt(iter(range(count)), work))
    assert [batch for batch, _ in found] == list(range(count)), found
    assert [made.tolist() for _, made in found] == [[n, n % 2] for n in range(count)], found
    assert read == list(range(count))[own::2], read
    assert max(sent, default=0) <= sharing.ROUND, sent
    assert len(sent) == -(-count // (2 * sharing.ROUND)), sent
# What comes first is there before the rest is read.
first = next(sharing.dealt(range(100), work))
assert len(read) - 18 - (own == 0) == sharing.ROUND
print("all in order")
"""


def test_what_processes_make_is_told_in_rounds_and_stays_in_order(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "rounds.py").write_text(ROUNDS, encoding="utf-8")
    done = _launched(tmp_path, environment, "rounds.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("all in order") == 2
    assert done.stdout.count("left") == 2


RELEARNED = """
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, TESTS)
import tiny_training as small

from stages import processes
from stages.models.loading import load
from stages.models.sharing import join, of_all
from stages.training import relearn


def of(model):
    weights = [weight.detach().numpy().tobytes() for weight in model.parameters()]
    return hashlib.sha256(b"".join(weights)).hexdigest()


join()
loaded = load({"kind": "causal"}, Path("own/model"))
before = of(loaded.model)
relearn.RATE *= 1 + processes.number()
relearn.relearn(loaded, small.examples(small.TALES))
after = of_all(of(loaded.model))
assert after[0] == after[1] != before, after
loaded = load({"kind": "causal"}, Path("own/model"))
relearn.as_first = lambda weights: None
relearn.relearn(loaded, small.examples(small.TALES))
apart = of_all(of(loaded.model))
assert apart[0] == after[0] != apart[1], apart
print("alike")
"""
"""The second process relearns at another rate; by itself it would have other weights."""


def test_processes_answer_by_what_the_first_one_relearned(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    tiny_causal.write_sources(tmp_path)
    script = RELEARNED.replace("TESTS", repr(str(Path(__file__).parent)))
    (tmp_path / "relearned.py").write_text(script, encoding="utf-8")
    done = _launched(tmp_path, environment, "relearned.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("alike") == 2


PATIENT = """
import torch
from torch import distributed

from stages.models.sharing import join

join()
group = distributed.group.WORLD._get_backend(torch.device("cpu"))
print(f"waits {group.options._timeout}")
"""


def test_processes_wait_for_one_that_works_alone(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """NCCL takes the same argument, and would give up after ten minutes without it."""
    (tmp_path / "patient.py").write_text(PATIENT, encoding="utf-8")
    done = _launched(tmp_path, environment, "patient.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("waits 1 day, 0:00:00") == 2


def test_a_mistake_ends_all_processes_and_is_said_once(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """All of them meet it: there is no base yet."""
    tiny_causal.write_sources(tmp_path)
    tiny.write_params(tmp_path, tiny_causal.make_params(tmp_path))
    done = _launched(tmp_path, environment, "-m", "stages.finetune", "lora")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said == [f"error: models/base/{tiny_causal.CASE}.json: not there; run `dvc repro`"]
    assert not (tmp_path / "models/tuned").exists()


def test_the_recipes_of_the_readme_are_what_they_say() -> None:
    page = (tiny.ROOT / "README.md").read_text(encoding="utf-8")
    section = page[page.index("\n## Larger models, more machines\n") :]
    script, cloud = (
        re.search(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)[1]  # type: ignore[index]
        for language in ("bash", "yaml")
    )
    assert script.startswith("#!")
    run = yaml.safe_load(cloud)
    assert set(run) == {"resources", "workdir", "setup", "run"}
    for text in (script, run["setup"], run["run"]):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
