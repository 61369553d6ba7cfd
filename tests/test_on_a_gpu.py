"""The stages on a GPU that is a pretence (tests/pretend_cuda.py), against those on the CPU."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pretend_cuda
import pytest
import tiny
import tiny_causal

from stages.records import read_table

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]

STAGES = ("pretrain_baseline_eval", "finetune", "retention_eval")
RUN = "all"
REPLAYED = {"encoder": tiny.RETRIEVAL, "causal": "agreement"}
METHODS: Mapping[str, dict[str, Any]] = {
    "encoder": {
        "dropout": {"p": 0.0},  # what a GPU drops at random is another draw than what a CPU does
        "ewc": {"strength": 1.0, "rows": 4, "tasks": [tiny.RETAIN[0]]},
        "lwf": {"weight": 0.1},
        "supervised-contrastive": {"weight": 0.1, "temperature": 0.1},
    },
    "causal": {"lwf": {"weight": 0.1, "temperature": 2}, "lora": {"r": 2}},
}


def _project(folder: Path, own: Path, kind: str) -> str:
    """With one run by several methods; returns its case."""
    if kind == "encoder":
        shutil.copytree(own, folder / tiny.OWN)
        params = tiny.make_params(folder)
    else:
        folder.mkdir()
        tiny_causal.write_sources(folder)
        params = tiny_causal.make_params(folder)
    (case,) = params["cases"]
    replay = {"fraction": 0.2, "tasks": [REPLAYED[kind]], "repeats": 20}
    methods = {**METHODS[kind], "replay": replay, "l2-sp": {"alpha": 0.01}}
    run = params["runs"]["full"] | {"methods": methods, "pool": "retain/train", "steps": 6}
    params["runs"] = {RUN: run | {"precision": "fp32", "validate_every": 3}}
    params["variants"] = {RUN: ["wise-0.5"]}
    params["evaluation"]["precision"] = "fp32"
    tiny.write_params(folder, params)
    return str(case)


@pytest.mark.parametrize("kind", ["encoder", "causal"])
def test_stages_on_a_gpu_do_what_they_do_on_a_cpu(
    tmp_path: Path, own: Path, kind: str, environment: dict[str, str]
) -> None:
    on_cpu, on_gpu = tmp_path / "cpu", tmp_path / "gpu"
    case = _project(on_cpu, own, kind)
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(on_cpu)
        tiny.run_stage("prepare", case)
        shutil.copytree(on_cpu, on_gpu)
        for stage in STAGES:
            tiny.run_stage(stage, case if stage == STAGES[0] else RUN)
    keys = [f"{stage}:{case if stage == STAGES[0] else RUN}" for stage in STAGES]
    path = {"PYTHONPATH": f"{tiny.ROOT}:{tiny.ROOT / 'tests'}"}
    command = [sys.executable, pretend_cuda.__file__, str(on_gpu), *keys]
    done = subprocess.run(command, env=environment | path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for table in ("records", "training", "drift"):
        for file in sorted((on_cpu / "metrics" / table / case).glob("*.parquet")):
            expected, _ = read_table(file)
            found, about = read_table(on_gpu / file.relative_to(on_cpu))
            assert about["provenance"]["device"] == pretend_cuda.NAME
            assert list(found.columns) == list(expected.columns)
            assert len(found) == len(expected) > 0
            for column in expected:
                _same(found[column], expected[column])


def _same(found: pd.Series, expected: pd.Series) -> None:
    """Numbers and lists of them nearly; all else exactly."""
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, float | np.ndarray):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4, err_msg=str(found.name))
        else:
            assert one == other or (pd.isna(one) and pd.isna(other)), found.name
