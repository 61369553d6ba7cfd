"""The benchmark of methods, on a tiny model."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_training as toy
from benchmarks import methods as benchmark
from benchmarks.methods import compare, main, table
from benchmarks.tried import TRIED

from stages.errors import UserError

EWC = {"strength": 1.0, "tasks": ["mood-words"], "rows": 40}


@pytest.mark.usefixtures("one_thread")
def test_a_method_beside_full(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    methods = {"full": {}, "ewc": {"ewc": EWC}, "fgm": {"fgm": {"epsilon": 0.1}}}
    run: dict[str, Any] = {
        "pool": "retain/train",
        "steps": 8,
        "batch_size": 32,
        "validate_every": 8,
        "checkpoint_every": 8,
    }
    recipes = {
        name: toy.subject(own / "model", methods=of_run, **run).recipe
        for name, of_run in methods.items()
    }
    found = compare(recipes, 4)
    assert list(found) == list(methods)
    for method in found.values():
        assert 0 < method["low"] <= method["ratio"] <= method["high"]
        assert 0 < method["step"] < 5
    assert found["fgm"]["ratio"] > 1.3, "two forward passes more, and two backward"
    assert found["ewc"]["once"] > 0.05 > found["full"]["once"], "forty rows, one by one"

    lines = table(found, "tiny", 8, 2).splitlines()
    assert lines[0] == "tiny, 8 steps, 2 rounds"
    assert [line.split("|")[1].strip() for line in lines[4:]] == list(methods)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_each_method_tried_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    for case, tried in TRIED.items():
        for name, (methods, settings) in tried.items():
            headless = {"head": None, "head_learning_rate": None} if case == "news-gpt" else {}
            found = toy.methods(toy.config(methods, **settings, **headless))
            assert len(found) == len(methods), name
    with pytest.raises(UserError, match="--only none: give some of full, "):
        main("--only=none")


SMALL: dict[str, dict[str, Any]] = {
    "medical-bert": {"full": {}, "lora": {"lora": {"r": 2}}},
    "news-gpt": {
        "full": {},
        "block-expansion": {"block-expansion": {"blocks": 1}},
        "self-replay": {"self-replay": {"fraction": 0.1, "length": 16}},
    },
}
TARGETS = {"medical-bert": tiny.TARGET, "news-gpt": toy.TALES}


@pytest.mark.usefixtures("one_thread")
def test_the_commands_of_the_readme(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m tests.benchmarks.methods` with its very options, on tiny models."""

    def recipe(case: str, name: str, tried: Any, steps: int) -> Any:
        folder = models["causal" if case == "news-gpt" else "encoder"]
        settings = {"methods": tried[0], "steps": steps, "validate_every": steps}
        return toy.subject(folder, targets=(TARGETS[case],), **settings).recipe

    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(benchmark, "_recipe", recipe)
    for case, methods in SMALL.items():
        monkeypatch.setitem(TRIED, case, {name: (of, {}) for name, of in methods.items()})
    only = "--only block-expansion,self-replay"
    for options in ("medical-bert --steps 8 --rounds 1", f"news-gpt {only} --steps 4 --rounds 1"):
        main("--case", *options.split())
    printed = capsys.readouterr().out
    assert "medical-bert, 8 steps, 1 rounds" in printed
    assert "news-gpt, 4 steps, 1 rounds" in printed
    names = [line.split("|")[1].strip() for line in printed.splitlines() if " x (" in line]
    assert names == [name for methods in SMALL.values() for name in methods]
