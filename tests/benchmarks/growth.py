"""How cost grows with examples, their length, the model's size and the number of runs, and whether
the plan knows: python -m tests.benchmarks.growth

A causal model with random weights, and texts of random words, go through the stages one after the
other, alone. From BASE one thing is changed at a time. README.md says what the columns mean.
"""

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
import yaml
from tokenizers import models, pre_tokenizers, processors

from stages import errors, phases, plan
from stages.models.pretrained import silence
from stages.storage import sha256_path, write_json

from .table import MIB, aligned, say

ROOT = Path(__file__).resolve().parents[2]
CASE, TASKS, WORDS = "grown", ("goal", "kept", "other"), 8000
HEAD_WIDTH, TRAIN, VALIDATION = 64, 64, 16


@dataclass(frozen=True)
class Point:
    """`examples`: of the test split of each of three tasks. `length`: tokens of a text. `steps` of
    4 texts each."""

    examples: int = 96
    length: int = 128
    steps: int = 16
    layers: int = 8
    width: int = 384
    runs: int = 1


BASE = Point()
GROWN: dict[str, tuple[dict[str, int], ...]] = {
    "examples": ({}, {"examples": 192}, {"examples": 384}),
    "steps": ({}, {"steps": 32}, {"steps": 64}),
    "length": ({"length": 64}, {}, {"length": 256}, {"length": 512}),
    "size": ({"layers": 4, "width": 192}, {}, {"layers": 12, "width": 768}),
    "runs": ({}, {"runs": 2}, {"runs": 4}),
}


@dataclass(frozen=True)
class Cost:
    """Of a stage: seconds, `worked` without a process's start, and bytes; and what was planned."""

    seconds: float
    worked: float
    planned: float
    peak: float
    planned_peak: float


def _texts(name: str, rows: int, length: int) -> Iterator[str]:
    draw = random.Random(name)
    for _ in range(rows):  # <bos> is a token, too
        yield " ".join(f"w{draw.randrange(WORDS)}" for _ in range(length - 1))


def _write_model(folder: Path, point: Point) -> None:
    words = ["<pad>", "<bos>", "<eos>", *(f"w{number}" for number in range(WORDS))]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<eos>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    ).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=len(words),
        hidden_size=point.width,
        num_hidden_layers=point.layers,
        num_attention_heads=point.width // HEAD_WIDTH,
        num_key_value_heads=point.width // HEAD_WIDTH,
        intermediate_size=point.width * 8 // 3,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def _pinned(path: Path) -> dict[str, str]:
    return {"source": f"file:{path.as_posix()}", "sha256": sha256_path(path)}


def _task(name: str, point: Point) -> dict[str, Any]:
    path = Path(f"own/{name}.jsonl")
    texts = _texts(name, TRAIN + VALIDATION + point.examples, point.length)
    path.write_text("".join(f"{json.dumps({'text': text})}\n" for text in texts), encoding="utf-8")
    return {
        "kind": "language-modelling",
        "data": {"reader": "table", **_pinned(path), "columns": {"text": "text"}},
        "max_length": point.length,
        "train": TRAIN,
        "validation": VALIDATION,
        "test": point.examples,
    }


def write_project(point: Point) -> list[str]:
    """A case in the working directory; the names of its runs. Recipe and evaluation are those of
    the project's own params.yaml, but for what `point` says."""
    silence()
    Path("own/model").mkdir(parents=True)
    _write_model(Path("own/model"), point)
    real = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipe = {
        **real["runs"]["gpt-full"],
        "case": CASE,
        "teacher": f"models/base/{CASE}.json",
        "steps": point.steps,
        "batch_size": 4,
        "validation_rows": VALIDATION,
        "validate_every": point.steps,
        "checkpoint_every": point.steps,
    }
    runs = [f"run-{number}" for number in range(point.runs)]
    params = {
        "launch": "python",
        "seed": real["seed"],
        "models": {"drawn": {**_pinned(Path("own/model")), "kind": "causal"}},
        "tasks": {name: _task(name, point) for name in TASKS},
        "cases": {CASE: {"model": "drawn", "targets": [TASKS[0]], "retain": list(TASKS[1:])}},
        "runs": {run: {**recipe, "seeds": [number]} for number, run in enumerate(runs)},
        "variants": {run: [] for run in runs},
        "evaluation": {**real["evaluation"], "noise": {"tasks": [], "conditions": []}},
        "compare": real["compare"],
    }
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return runs


def _peak(stage: str, *key: str) -> int:
    """Bytes that were resident at most while a stage ran, in a process of its own."""
    command = [sys.executable, "-m", f"stages.{stage}", *key]
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryFile() as said:
        started = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": search}, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            said.seek(0)
            raise errors.UserError(said.read().decode(errors="replace")[-500:].strip())
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(point: Point) -> dict[str, Cost]:
    """What each stage costs, one after the other; those that several runs have by their sums and
    the largest peak."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        runs = write_project(point)
        called = [("prepare", CASE), ("pretrain_baseline_eval", CASE)]
        called += [(stage, run) for stage in ("finetune", "retention_eval") for run in runs]
        peaks = [_peak(*told) for told in called] + [_peak("compare")]
        planned = list(plan.reckoned(plan.arguments([])).stages())
        took = {timing.stage: timing for timing in phases.kept()}
    found: dict[str, Cost] = {}
    for one, peak in zip(planned, peaks, strict=True):
        timing, name = took[one.stage], one.stage.partition("@")[0]
        before = found.get(name, Cost(0, 0, 0, 0, 0))
        found[name] = Cost(
            before.seconds + timing.total,
            before.worked + timing.total - timing.seconds.get(phases.START, 0.0),
            before.planned + one.total - one.seconds["fixed"],
            max(before.peak, peak),
            max(before.planned_peak, one.memory),
        )
    return found


def _lines(grown: str, point: Point, costs: dict[str, Cost]) -> Iterator[tuple[str, ...]]:
    value = f"{point.layers} x {point.width}" if grown == "size" else str(getattr(point, grown))
    for stage, cost in costs.items():
        yield (
            grown,
            value,
            stage,
            f"{cost.seconds:.1f}",
            f"{cost.worked:.1f}",
            f"{cost.planned:.1f}",
            f"{cost.planned / cost.worked:.2f}",
            f"{cost.peak / MIB:,.0f}",
            f"{cost.planned_peak / MIB:,.0f}",
        )


HEADING = ("grown", "to", "stage", "seconds", "worked", "planned", "ratio", "peak MiB", "planned")


def main(*given: str) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    parser.add_argument("--only", help=f"of {', '.join(GROWN)}, comma-separated")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    asked = parser.parse_args(given)
    chosen = asked.only.split(",") if asked.only else list(GROWN)
    if unknown := sorted(set(chosen) - set(GROWN)):
        raise errors.UserError(f"--only {unknown[0]}: give some of {', '.join(GROWN)}")
    known: dict[Point, dict[str, Cost]] = {}
    rows: list[tuple[str, ...]] = [HEADING]
    began = time.perf_counter()
    for grown in chosen:
        for changes in GROWN[grown]:
            point = replace(BASE, **changes)
            if point not in known:
                say(f"{grown}: {changes or 'as it is'}, {time.perf_counter() - began:.0f} s so far")
                known[point] = measure(point)
            rows += _lines(grown, point, known[point])
    print("\n".join(aligned(rows)))
    if asked.json:
        told = [
            {**asdict(point), "stages": {name: asdict(cost) for name, cost in costs.items()}}
            for point, costs in known.items()
        ]
        write_json(asked.json, told)


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
