"""The benchmark beside lm-evaluation-harness, on a tiny random model and few of its own rows."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tokenizers
import torch
import transformers
from benchmarks.differences import ties
from benchmarks.exchange import Answer, Outcome
from benchmarks.make_tasks import make_rows, write_tasks
from tiny import ROOT
from tokenizers import decoders, models, pre_tokenizers

from stages.tasks.agreement import read_agreement
from stages.tasks.choices import COLUMNS

SEED = 3
LONGEST = 512
TASKS = ("five_shot", "generation", "headlines", "pairs", "rolling")
SPECIAL = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}


def write_model(folder: Path) -> None:
    """A random Llama that reads bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL.values(), *alphabet])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(
        folder
    )
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=LONGEST,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)


def rows() -> dict[str, list[dict[str, Any]]]:
    """The benchmark's own, of articles that are longer than the model and cities of no country."""
    words = [f"word{number}" for number in range(7)]
    texts = [
        " ".join(words[(one * other) % 7] for other in range(120 - 3 * one)) for one in range(8)
    ]
    articles = pd.DataFrame(
        {
            "query": [f"News of {chr(65 + one) * 3}" for one in range(8)],
            "document": [f"{one} {text}" for one, text in enumerate(texts)],
            "slice": "news",
        }
    )
    cities = [" Aville", " Btown", " Cburg", " Dford"]
    capitals = pd.DataFrame(
        [(f"The capital of Land{one} is", cities, one % 4, str(one), "X") for one in range(12)],
        columns=COLUMNS,
    )
    return make_rows(articles, capitals, read_agreement(SEED), SEED)


def call(environment: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.benchmarks.scoring", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options that name a model and tasks."""
    folder = tmp_path_factory.mktemp("benchmark")
    write_model(folder / "model")
    write_tasks(folder / "tasks", rows())
    return [f"--model={folder / 'model'}", f"--tasks={folder / 'tasks'}", "--threads=1"]


def test_both_sides_answer_alike(
    given: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    numbers = tmp_path / "numbers.json"
    options = ["--against=lm-eval", "--limit=3", "--batch-sizes=2,4", f"--json={numbers}"]
    done = call(environment, *given, *options)
    assert done.returncode == 0, done.stderr

    found = json.loads(numbers.read_text(encoding="utf-8"))
    assert tuple(found["tasks"]) == TASKS
    assert found["dtype"] == "float32" and found["threads"] == 1 and found["matrix_rate"] > 0
    lines = done.stdout.splitlines()
    for name, task in found["tasks"].items():
        apart = task["difference"]
        assert task["examples"] == 3
        assert set(task["search"]) == {"2", "4"} and task["batch_size"] in (2, 4)
        assert not apart["predictions"], (name, apart)
        assert max(apart["metrics"].values()) < 5e-5, (name, apart)
        if name in ("headlines", "pairs", "five_shot"):
            assert apart["log_likelihood"] < 1e-4, (name, apart)
        for side in (task["ours"], task["lm-eval"]):
            assert side["tokens"] > 0 and side["peak"] > 0 and side["utilisation"] > 0
        line = next(line for line in lines if line.startswith(name))
        for value in task["ours"]["metrics"].values():
            assert f"{value:.6f}" in line and f"{value:.6f}" in lines[lines.index(line) + 1]
    assert found["tasks"]["rolling"]["ours"]["metrics"]["bits_per_byte"] > 0

    # What is shared is counted once: four choices, and a preamble of five answers.
    for name in ("headlines", "five_shot"):
        task = found["tasks"][name]
        assert task["ours"]["tokens"] * 2 < task["lm-eval"]["tokens"], name


def test_ties_by_hand() -> None:
    def outcome(*answers: list[Answer]) -> Outcome:
        return Outcome(1.0, 1, 1, 1, 1, {}, list(answers))

    chosen: list[list[Answer]] = [
        [(-1.0, False), (-1.0, False), (-2.0, False)],
        [(-1.0, False), (-2.0, False), (-2.0, False)],
        [(-2.0, False), (-1.5, False), (-1.5, True)],
    ]
    assert ties(outcome(*chosen)) == 2
    assert ties(outcome(["a text"], ["another"])) is None
    assert ties(outcome([-3.5], [-3.5])) is None, "whole texts are not chosen among"
    assert ties(outcome([(-1.0, True)])) is None, "one continuation has no rival"


@pytest.mark.slow
def test_the_commands_of_the_readme(given: list[str], environment: dict[str, str]) -> None:
    """`--model … --tasks …`, then its very options; of the first, fewer examples."""
    options = "--against lm-eval --dtype bf16 --threads 2 --batch-sizes 8,16 --rounds 1"
    for changed in ("--limit 2", "--dtype fp32 --limit 40 --batch-sizes 16 --exact"):
        done = call(environment, *given, *options.split(), *changed.split())
        assert done.returncode == 0, done.stderr
        assert all(
            any(line.startswith(name) for line in done.stdout.splitlines()) for name in TASKS
        )
    exact = "--exact --limit 400 --only pairs"
    few = call(environment, *given, *options.split(), *exact.split())
    assert " unlike" in few.stdout, few.stderr
    profiled = call(environment, *given, "--dtype", "bf16", "--profile")
    assert "products with matrices" in profiled.stdout, profiled.stderr


def test_four_times_the_examples(
    given: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    numbers = tmp_path / "numbers.json"
    done = call(
        environment, *given, "--scaling", "--only=pairs", "--limit=402", f"--json={numbers}"
    )
    assert done.returncode == 0, done.stderr
    (task,) = json.loads(numbers.read_text(encoding="utf-8"))["tasks"].values()
    assert (task["few"]["examples"], task["many"]["examples"]) == (100, 400)
    assert task["many"]["tokens"] == pytest.approx(4 * task["few"]["tokens"], rel=0.1)
    assert "100 -> 400" in done.stdout


def test_a_mistake_is_one_line(given: list[str], environment: dict[str, str]) -> None:
    done = call(environment, *given, "--scaling", "--model=none")
    assert done.returncode == 1
    assert done.stderr == "error: --model none: no such folder\n"
