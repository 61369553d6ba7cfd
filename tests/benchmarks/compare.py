"""How long `compare` takes, and how much memory, for so many records that it had to be asked.

`python -m tests.benchmarks.compare --records 100000 --records 1000000`: a case of five tasks with
a base, asked again and under noise, and a run, their answers drawn at random.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml

from stages.records import write_records, write_table
from stages.scoring.frame import record_frame
from stages.storage import write_json
from stages.tasks.examples import Examples, Task, path_of, write_examples

ROOT = Path(__file__).resolve().parents[2]
CASE, RUN, NOISE = "drawn", "drawn-run", "typos-0.1"
LABELS = tuple(f"label{number}" for number in range(10))
TASKS = {
    "goal": "classification",
    "kept": "linear-probe",
    "pairs": "retrieval",
    "choices": "multiple-choice",
    "texts": "language-modelling",
}
ASKED = len(TASKS) * 3 + 2 * 2
"""Records for each example of a task: base and run clean, the base again; and two tasks under noise
by both."""
NOISED = ("goal", "choices")
MADE_WITH = {"device": "cpu", "dtype": "float32", "threads": 1, "processor": "any", "libraries": {}}


def examples(name: str, kind: str, n: int) -> Examples:
    ids = [f"{name[:4]}{number:012x}" for number in range(n)]
    rows = pd.DataFrame({"example_id": ids, "group": ids, "slice": "all"})
    numbers = pd.Series(range(n)).astype(str)
    text = name + " example " + numbers
    if kind in ("classification", "linear-probe"):
        rows = rows.assign(text=text, label=np.resize(LABELS, n), slice=np.resize(LABELS, n))
    elif kind == "retrieval":
        rows = rows.assign(query=text, document="document " + numbers)
    elif kind == "multiple-choice":
        choices = pd.Series([[f"right {number}", "wrong", "other", "none"] for number in range(n)])
        rows = rows.assign(context=text, choices=choices, answer=0)
    else:
        rows = rows.assign(prompt=text, text="body " + numbers)
    labels = LABELS if "label" in rows else ()
    return Examples(Task(name, kind, 64, labels, {}), rows)


def records(asked: Examples, generator: np.random.Generator, accuracy: float) -> pd.DataFrame:
    n, kind = len(asked), asked.task.kind
    if kind == "language-modelling":
        return record_frame(asked, "test", nll=generator.gamma(20, 2, n), bytes=60, tokens=20)
    right = generator.random(n) < accuracy
    told: dict[str, Any] = {"chance": 0.25}
    if asked.task.labels:
        target = asked.rows["label"].to_numpy()
        said = np.where(right, target, generator.choice(LABELS, n))
        right = said == target
        drawn = generator.dirichlet(np.ones(len(LABELS)), n).astype(np.float32)
        told = {"chance": 0.1, "nll": generator.exponential(size=n), "probabilities": list(drawn)}
    elif kind == "retrieval":
        target = asked.rows["example_id"].to_numpy()
        said = np.where(right, target, np.roll(target, 1))
    else:
        target = np.array([row[0] for row in asked.rows["choices"]])
        said = np.where(right, target, "wrong")
    return record_frame(
        asked,
        "test",
        score=right.astype(float),
        bytes=60,
        prediction=said,
        target=target,
        **told,
    )


def of_model(
    tasks: dict[str, Examples], generator: np.random.Generator, accuracy: float
) -> pd.DataFrame:
    parts = []
    for name, asked in tasks.items():
        parts.append(records(asked, generator, accuracy))
        if name in NOISED:
            noisy = records(asked, generator, accuracy - 0.1)
            parts.append(noisy.assign(condition=NOISE))
    return pd.concat(parts, ignore_index=True)


def write_project(total: int) -> int:
    """A case and a run in the current folder; the records that were written, about `total`."""
    n, generator = max(20, total // ASKED), np.random.default_rng(0)
    tasks = {name: examples(name, kind, n) for name, kind in TASKS.items()}
    roles = {name: "target" if name == "goal" else "retain" for name in tasks}
    for name, asked in tasks.items():
        write_examples(path_of(CASE, roles[name], "test", name), asked)
    base = of_model(tasks, generator, 0.7)
    again = base[base["condition"] == "clean"].assign(condition="rescored")
    told = {
        "case": CASE,
        "tasks": {
            name: {
                "kind": asked.task.kind,
                "role": roles[name],
                "labels": list(asked.task.labels),
                "truncated": 0,
                "metric": None,
            }
            for name, asked in tasks.items()
        },
        "provenance": MADE_WITH,
    }
    before, after = pd.concat([base, again], ignore_index=True), of_model(tasks, generator, 0.6)
    write_records(Path(f"metrics/records/{CASE}/base.parquet"), before, told)
    write_records(Path(f"metrics/records/{CASE}/{RUN}.parquet"), after, told)
    curve = pd.DataFrame(
        {
            "step": [0, 10, 20],
            "batch_loss": [None, 1.5, 1.2],
            "learning_rate": [None, 1e-4, 1e-5],
            "gradient_norm": [None, 1.0, 1.0],
            "train_loss": [2.0, 1.5, 1.0],
            "validation_loss": [2.0, 1.6, 1.4],
            "seed": 0,
        }
    )
    about = {"run": RUN, "best_step": {"0": 20}, "seen": [], "provenance": MADE_WITH}
    table = pa.Table.from_pandas(curve, preserve_index=False)
    write_table(Path(f"metrics/training/{CASE}/{RUN}.parquet"), table, about)
    write_movement(tasks)
    write_card(tasks)
    write_params(roles)
    return len(before) + len(after)


def write_movement(tasks: dict[str, Examples]) -> None:
    """Drift table and shift, whose size the records do not change."""
    weights = [
        {"layer": layer, "module": "any", "task": "", "example_id": "", "measure": m, "value": 0.01}
        for layer in range(6)
        for m in ("weight", "spectral", "cka")
    ]
    texts = [
        {
            "layer": -1,
            "module": "",
            "task": name,
            "example_id": one,
            "measure": "cosine",
            "value": v,
        }
        for name, asked in tasks.items()
        for one, v in zip(asked.column("example_id")[:32], np.linspace(0, 0.1, 32), strict=False)
    ]
    drift = pa.Table.from_pandas(pd.DataFrame(weights + texts).assign(seed=0), preserve_index=False)
    write_table(Path(f"metrics/drift/{CASE}/{RUN}.parquet"), drift, {"run": RUN})
    figures = {"n": 200, "n_grams": 0.5, "embeddings": 0.2, "auc": 0.9, "auc_error": 0.01}
    apart = {**figures, "unknown_words": 0.5, "words": 9.0, "words_there": 40.0}
    compared = dict.fromkeys(("same source", *tasks), apart)
    shift = {"texts": 200, "comparisons": compared, "labels": {}}
    write_json(Path(f"metrics/shift/{CASE}.json"), shift)


def write_card(tasks: dict[str, Examples]) -> None:
    cards = {
        name: {
            "kind": asked.task.kind,
            "data": {"reader": "table", "source": f"file:{name}.jsonl", "sha256": "ab" * 32},
            "duplicates": 0,
            "ambiguous": 0,
            "overlap_removed": {"exact": 0, "13-gram": 0},
            "rows": {"train": 0, "validation": 0, "test": len(asked)},
        }
        for name, asked in tasks.items()
    }
    model = {"source": "hf:any/model", "revision": "c" * 40, "kind": "encoder", "files": {}}
    write_json(Path(f"metrics/cards/{CASE}.json"), {"tasks": cards, "model": model})


def write_params(roles: dict[str, str]) -> None:
    """The real file's way of comparing, for this case and run."""
    real = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    recipe = {**next(iter(real["runs"].values())), "case": CASE, "seeds": [0]}
    case = {
        "model": "any",
        "targets": [name for name, role in roles.items() if role == "target"],
        "retain": [name for name, role in roles.items() if role == "retain"],
    }
    params = {**real, "cases": {CASE: case}, "runs": {RUN: recipe}, "variants": {RUN: []}}
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


@dataclass(frozen=True)
class Cost:
    """Of `compare` as a user calls it. `seconds` on the clock, `busy` of the processor's."""

    records: int
    seconds: float
    busy: float
    mib: float


def measure(total: int) -> Cost:
    home = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            written = write_project(total)
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            began = time.perf_counter()
            process = subprocess.Popen([sys.executable, "-m", "stages.compare"], env=environment)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - began
        finally:
            os.chdir(home)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"compare ended with {process.returncode}")
    return Cost(written, seconds, usage.ru_utime + usage.ru_stime, memory(usage))


def memory(usage: resource.struct_rusage) -> float:
    """MiB: Linux counts in KiB, macOS in bytes."""
    return usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, action="append", help="about so many (100000)")
    for total in parser.parse_args().records or [100_000]:
        cost = measure(total)
        print(
            f"{cost.records:,} records: {cost.seconds:.1f} s ({cost.busy:.1f} s of processor), "
            f"{cost.mib:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
