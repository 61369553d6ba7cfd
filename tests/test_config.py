"""Every mistake in params.yaml is one line that names the key and the value."""

import copy
import inspect
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from dvc.utils.serialize import modify_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import check
from stages.checking.methods import TAUGHT
from stages.config.cases import read_case, read_cases
from stages.config.compare import read_compare
from stages.config.evaluation import read_evaluation
from stages.config.kinds import AVERAGED
from stages.config.models import read_model
from stages.config.readers import Icd10
from stages.config.reading import load
from stages.config.runs import read_run, read_runs
from stages.config.seed import read_seed
from stages.config.tasks import Kind, read_tasks
from stages.errors import UserError
from stages.storage import sha256_path, write_json
from stages.tasks.noise import NOISED
from stages.training.methods.augment import AUGMENTED
from stages.training.methods.method import Method

ROOT = Path(__file__).resolve().parents[1]
REAL = (ROOT / "params.yaml").read_text(encoding="utf-8")
RUN = "runs.bert-full"
CASE = "cases.medical-bert"
DATA = "tasks.medical-qa.data"
PARAMS: dict[str, Any] = yaml.safe_load(REAL)
"""Of the real file what these tests change: to read YAML takes time."""
KEPT = {
    "cases": ["medical-bert"],
    "runs": ["bert-full", "bert-lora"],
    "variants": ["bert-full", "bert-lora"],
    "tasks": [*PARAMS["cases"]["medical-bert"]["retain"], "medical-qa", "news-writing", "addition"],
}
PARAMS["evaluation"]["noise"]["tasks"] = "all"
del PARAMS["sweep"]  # tests/test_sweep.py has it
for _section, _names in KEPT.items():
    PARAMS[_section] = {_name: PARAMS[_section][_name] for _name in _names}
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
GONE = object()
SHA = "a" * 64
COMMIT = "b" * 40


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the real params.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(REAL, encoding="utf-8")
    return tmp_path


def params() -> dict[str, Any]:
    """Most of what the real file holds, to be changed."""
    return copy.deepcopy(PARAMS)


def put(found: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    place = found
    for part in above:
        place = place[part]
    if value is GONE:
        del place[last]
    else:
        place[last] = value


def write(found: Any) -> None:
    text = yaml.dump(found, Dumper=DUMPER, allow_unicode=True, sort_keys=False)
    Path("params.yaml").write_text(text, encoding="utf-8")


def change(**changes: Any) -> None:
    found = params()
    for key, value in changes.items():
        put(found, key, value)
    write(found)


def mistakes() -> list[str]:
    """What the check says, line by line; none where params.yaml is sound."""
    try:
        check.check()
    except UserError as error:
        return str(error).splitlines()
    return []


def the_mistake() -> str:
    found = mistakes()
    assert len(found) == 1, found
    return found[0]


def test_the_real_file_is_sound() -> None:
    assert mistakes() == []


@pytest.mark.parametrize("left", [None, {}])
def test_all_grids_may_be_deleted(left: Any) -> None:
    change(sweep=left)
    assert mistakes() == []


def test_the_real_file_as_objects() -> None:
    run = read_run("bert-lora")
    assert run.methods == {"lora": {"r": 16}}
    assert run.seeds == (0,)
    assert read_runs()["bert-lora"] == run
    assert list(read_runs()) == list(load()["runs"])
    assert list(read_cases()) == list(load()["cases"])
    case = read_case("medical-bert")
    assert len(case.retain) >= 2
    task = read_tasks(case.targets)[case.targets[0]]
    assert isinstance(task.data, Icd10)
    assert read_model(case.model).kind == "encoder"
    assert read_seed() == load()["seed"]
    assert read_evaluation().noise_repeats >= 2
    assert 0.5 < read_compare().confidence < 1


WRONG: list[tuple[str, Any, str, str]] = [
    # key to change, value, the key and value that the line shows, what it says
    # unknown keys
    (f"{RUN}.learning_rat", 1.0, f"{RUN}.learning_rat = 1.0", "did you mean learning_rate?"),
    (f"{RUN}.xyzzy", [1], f"{RUN}.xyzzy = [1]", "unknown key"),
    (f"{DATA}.per_categori", 1, f"{DATA}.per_categori = 1", "did you mean per_category?"),
    (f"{DATA}.icd10", 1, f"{DATA}.icd10 = 1", "unknown key"),
    (f"{DATA}.threshold", 1, f"{DATA}.threshold = 1", "unknown key"),
    ("models.minilm.poling", "mean", "models.minilm.poling = 'mean'", "did you mean pooling?"),
    (f"{CASE}.target", "x", f"{CASE}.target = 'x'", "did you mean targets?"),
    ("evaluation.batch_token", 64, "evaluation.batch_token = 64", "did you mean batch_tokens?"),
    # methods
    (f"{RUN}.methods.loraa", {"r": 4}, f"{RUN}.methods.loraa = {{'r': 4}}", "did you mean lora?"),
    (f"{RUN}.methods.lora", None, f"{RUN}.methods.lora = None", "leave it out"),
    (f"{RUN}.methods.lora", {}, f"{RUN}.methods.lora.r", "missing"),
    (f"{RUN}.methods.lora", {"r": 0}, f"{RUN}.methods.lora.r = 0", "greater than"),
    (f"{RUN}.methods.lora", {"r": 1025}, f"{RUN}.methods.lora.r = 1025", "less than"),
    ("runs.bert-lora.methods.lora.rank", 3, "runs.bert-lora.methods.lora.rank = 3", "unknown key"),
    ("runs.bert-lora.methods.lora.lora_dropout", 1, "lora_dropout = 1", "less than 1"),
    ("runs.bert-lora.methods.lora.lora_alpha", 0, "lora_alpha = 0", "greater than 0"),
    (f"{RUN}.methods", None, f"{RUN}.methods = None", "keys with values"),
    (f"{RUN}.methods", ["lora"], f"{RUN}.methods = ['lora']", "keys with values"),
    # types
    (f"{RUN}.learning_rate", "1e-4x", f"{RUN}.learning_rate = '1e-4x'", "number"),
    (f"{RUN}.learning_rate", True, f"{RUN}.learning_rate = True", "number"),
    (f"{RUN}.learning_rate", None, f"{RUN}.learning_rate = None", "number"),
    (f"{RUN}.learning_rate", [1e-4], f"{RUN}.learning_rate = [0.0001]", "number"),
    (f"{RUN}.steps", True, f"{RUN}.steps = True", "integer"),
    (f"{RUN}.steps", 1.0, f"{RUN}.steps = 1.0", "integer"),
    (f"{RUN}.steps", "240", f"{RUN}.steps = '240'", "integer"),
    (f"{RUN}.head", False, f"{RUN}.head = False", "'probe' or 'random'"),
    (f"{RUN}.precision", "fp16", f"{RUN}.precision = 'fp16'", "'auto', 'fp32' or 'bf16'"),
    (f"{RUN}.case", 3, f"{RUN}.case = 3", "string"),
    (f"{RUN}.case", "Medical Bert", f"{RUN}.case = 'Medical Bert'", "lower-case"),
    (f"{RUN}.case", "medical-bert\n", f"{RUN}.case = 'medical-bert\\n'", "lower-case"),
    (f"{RUN}.seeds", 0, f"{RUN}.seeds = 0", "give a list"),
    (f"{RUN}.seeds", ["0"], f"{RUN}.seeds.0 = '0'", "integer"),
    (f"{RUN}.seeds", [0, True], f"{RUN}.seeds.1 = True", "integer"),
    (f"{RUN}.seeds", [0, 1.0], f"{RUN}.seeds.1 = 1.0", "integer"),
    (f"{CASE}.targets", "medical-qa", f"{CASE}.targets = 'medical-qa'", "give a list"),
    (f"{CASE}.retain", {"a": 1}, f"{CASE}.retain = {{'a': 1}}", "give a list"),
    ("seed", "20", "seed = '20'", "whole number"),
    ("seed", True, "seed = True", "whole number"),
    ("seed", 20.0, "seed = 20.0", "whole number"),
    ("launch", 3, "launch = 3", "command"),
    ("launch", None, "launch = None", "command"),
    ("launch", " ", "launch = ' '", "command"),
    ("sweep", 3, "sweep = 3", "at least one, by name"),
    ("launch", "pyton", "launch = 'pyton'", "pyton: no such program here"),
    ("launch", "OMP_NUM_THREADS=2 pyton -O", "launch = 'OMP_", "pyton: no such program here"),
    ("launch", "python '", "launch = ", "no closing quotation"),
    (
        "launch",
        "accelerat launch",
        "launch = 'accelerat launch'",
        "accelerat: no such program here",
    ),
    (
        "launch",
        "accelerate",
        "launch = 'accelerate'",
        "runs no module of Python: give accelerate l",
    ),
    ("launch", "A=1 bash", "launch = 'A=1 bash'", "runs no module of Python: give python"),
    # ranges
    (f"{RUN}.learning_rate", 0, f"{RUN}.learning_rate = 0", "greater than 0"),
    (f"{RUN}.learning_rate", 1.5, f"{RUN}.learning_rate = 1.5", "less than or equal to 1"),
    (f"{RUN}.learning_rate", math.nan, f"{RUN}.learning_rate = nan", "finite"),
    (f"{RUN}.max_grad_norm", math.inf, f"{RUN}.max_grad_norm = inf", "finite"),
    (f"{RUN}.max_grad_norm", -math.inf, f"{RUN}.max_grad_norm = -inf", "finite"),
    (f"{RUN}.weight_decay", -0.1, f"{RUN}.weight_decay = -0.1", "greater than or equal to 0"),
    (f"{RUN}.warmup", 1, f"{RUN}.warmup = 1", "less than 1"),
    (f"{RUN}.steps", 0, f"{RUN}.steps = 0", "greater than or equal to 1"),
    (f"{RUN}.batch_size", 1, f"{RUN}.batch_size = 1", "greater than or equal to 2"),
    (f"{RUN}.seeds", [-1], f"{RUN}.seeds.0 = -1", "greater than or equal to 0"),
    (f"{RUN}.seeds", [2**31], f"{RUN}.seeds.0 = 2147483648", "less than"),
    ("seed", -1, "seed = -1", "whole number"),
    ("seed", 2**31, "seed = 2147483648", "whole number"),
    ("seed", math.nan, "seed = nan", "whole number"),
    ("tasks.movie-sentiment.data.threshold", 5, "data.threshold = 5", "less than or equal to 4"),
    ("tasks.movie-sentiment.test", 9, "tasks.movie-sentiment.test = 9", "equal to 10"),
    ("tasks.movie-sentiment.max_length", 7, "tasks.movie-sentiment.max_length = 7", "equal to 8"),
    ("evaluation.noise_repeats", 1, "evaluation.noise_repeats = 1", "greater than or equal to 2"),
    (
        "evaluation.noise.conditions",
        ["typos-2"],
        "evaluation.noise.conditions.0 = 'typos-2'",
        "give typos, case or words, and a share below 1, such as typos-0.1",
    ),
    ("compare.confidence", 0.5, "compare.confidence = 0.5", "greater than 0.5"),
    ("compare.confidence", 1, "compare.confidence = 1", "less than 1"),
    ("compare.resamples", 99, "compare.resamples = 99", "greater than or equal to 100"),
    ("compare.gate.margin", 0, "compare.gate.margin = 0", "greater than 0"),
    ("compare.gate.margin", 1, "compare.gate.margin = 1", "less than 1"),
    ("compare.gate.confidence", 0.5, "compare.gate.confidence = 0.5", "greater than 0.5"),
    ("compare.gate.margins", {"movie-sentiment": -1}, "movie-sentiment = -1", "greater than 0"),
    (
        "compare.gate.margins",
        {"movie-sentimnt": 0.1},
        "margins = 'movie-sentimnt'",
        "movie-sentiment?",
    ),
    ("compare.gate.margins", {"movie-sentiment": 5}, "margins.movie-sentiment = 5", "0.05 for 5"),
    ("compare.gate.margins", {"movie-sentiment": 1.0}, "sentiment = 1.0", "give less than 1"),
    ("compare.gate.margins", {"medical-qa": 0.1}, "margins = 'medical-qa'", "no case has it under"),
    ("compare.gate.minimum_gain", 3, "minimum_gain = 3", "every target is measured as a share"),
    ("compare.gate.minimum_gain", -1, "minimum_gain = -1", "give less than 1"),
    # names that nothing has
    (f"{RUN}.case", "medical-bart", f"{RUN}.case = 'medical-bart'", "did you mean medical-bert?"),
    (f"{CASE}.model", "minilms", f"{CASE}.model = 'minilms'", "did you mean minilm?"),
    (f"{CASE}.targets", ["medical-q"], f"{CASE}.targets = 'medical-q'", "did you mean medical-qa?"),
    (
        f"{CASE}.retain",
        ["news-retrieval", "xyzzy"],
        f"{CASE}.retain = 'xyzzy'",
        "no such name under tasks",
    ),
    (f"{DATA}.reader", "icd", f"{DATA}.reader = 'icd'", "'icd10', 'bbc'"),
    (f"{DATA}.reader", ["icd10"], f"{DATA}.reader = ['icd10']", "'icd10', 'bbc'"),
    (f"{DATA}.reader", GONE, f"{DATA}.reader", "missing"),
    ("tasks.movie-sentiment.data.corpus", "film", "data.corpus = 'film'", "'movie'"),
    (
        f"{CASE}.retain",
        ["news-retrieval", "addition"],
        f"{CASE}.retain = 'addition'",
        "fits classification",
    ),
    ("tasks.news-writing.judge", "minilms", "judge = 'minilms'", "did you mean minilm?"),
    ("tasks.news-writing.judge", "smollm2", "judge = 'smollm2'", "encoder"),
    ("tasks.news-writing.judge", GONE, "tasks.news-writing.judge", "missing"),
    (f"{RUN}.head", GONE, f"{RUN}.head_learning_rate = 0.001", "goes with head"),
    ("models.minilm.pooling", GONE, "models.minilm.pooling", "missing"),
    ("models.smollm2.pooling", "cls", "models.smollm2.pooling = 'cls'", "encoder only"),
    # duplicate names
    (f"{RUN}.seeds", [0, 1, 0], f"{RUN}.seeds = [0, 1, 0]", "duplicate"),
    (
        f"{CASE}.retain",
        ["news-retrieval", "medical-qa"],
        f"{CASE}.retain = ['news-retrieval', 'medical-qa']",
        "also a target: 'medical-qa'",
    ),
    (
        f"{CASE}.targets",
        ["medical-qa", "medical-qa"],
        f"{CASE}.targets = ['medical-qa', 'medical-qa']",
        "duplicate name 'medical-qa'",
    ),
    (
        f"{CASE}.retain",
        ["news-retrieval", "news-retrieval"],
        f"{CASE}.retain = ['news-retrieval', 'news-retrieval']",
        "duplicate name 'news-retrieval'",
    ),
    # too few, too many
    (f"{RUN}.seeds", [], f"{RUN}.seeds = []", "one seed"),
    (f"{CASE}.targets", [], f"{CASE}.targets = []", "one target or more"),
    (
        f"{CASE}.retain",
        ["news-retrieval"],
        f"{CASE}.retain = ['news-retrieval']",
        "2 tasks or more",
    ),
    ("runs", {}, "runs = {}", "at least one"),
    ("runs", None, "runs = None", "at least one"),
    ("tasks", [1], "tasks = [1]", "at least one"),
    # missing
    (f"{RUN}.steps", GONE, f"{RUN}.steps", "missing"),
    (f"{RUN}.methods", GONE, f"{RUN}.methods", "missing"),
    (f"{DATA}", GONE, DATA, "missing"),
    (f"{DATA}.per_category", GONE, f"{DATA}.per_category", "missing"),
    *((section, GONE, section, "not there") for section in ("seed", "launch", "compare", "runs")),
    ("evaluation", None, "evaluation = None", "keys with values"),
    (RUN, None, f"{RUN} = None", "keys with values"),
    (DATA, "icd10", f"{DATA} = 'icd10'", "keys with values"),
    # sections that nobody reads
    ("sede", 3, "sede = 3", "unknown section; did you mean seed?"),
    ("xyzzy", {"a": 1}, "xyzzy = {'a': 1}", "unknown section"),
    # kinds and data that do not fit
    ("tasks.medical-qa.kind", "retrieval", "tasks.medical-qa.kind = 'retrieval'", "icd10"),
    ("tasks.news-retrieval.kind", "linear-probe", "kind = 'linear-probe'", "fits retrieval"),
    ("tasks.medical-qa.kind", "generation", "kind = 'generation'", "'classification'"),
    ("models.minilm.kind", "bert", "models.minilm.kind = 'bert'", "'encoder'"),
    ("models.minilm.pooling", "max", "models.minilm.pooling = 'max'", "'mean' or 'cls'"),
]


@pytest.mark.parametrize(("key", "value", "shown", "said"), WRONG)
def test_a_mistake_is_one_line(key: str, value: Any, shown: str, said: str) -> None:
    change(**{key: value})
    line = the_mistake()
    assert line.startswith("params.yaml: ")
    assert shown in line
    assert said in line


PIN = "models.minilm"
PINS: list[tuple[dict[str, Any], str, str]] = [
    ({"source": "minilm"}, "source = 'minilm'", "pypi:, hf:, file:"),
    ({"source": "ftp:x", "sha256": SHA}, "source = 'ftp:x'", "pypi:, hf:, file:"),
    ({"source": "file:", "sha256": SHA}, "source = 'file:'", "pypi:, hf:, file:"),
    ({"source": 3, "sha256": SHA}, "source = 3", "string"),
    ({"sha256": SHA}, "source", "missing"),
    ({"source": "pypi:x", "sha256": SHA}, "source = 'pypi:x'", "pypi:<name>==<version>"),
    ({"source": "pypi:x>=1", "sha256": SHA}, "source = 'pypi:x>=1'", "pypi:<name>==<version>"),
    ({"source": "pypi:x==1\n", "sha256": SHA}, "source = 'pypi:x==1\\n'", "==<version>"),
    ({"source": "pypi:x==1"}, "sha256 = None", "64 hex digits"),
    ({"source": "pypi:x==1", "sha256": SHA[1:]}, f"sha256 = '{SHA[1:]}'", "64 hex digits"),
    ({"source": "pypi:x==1", "sha256": SHA.upper()}, f"sha256 = '{SHA.upper()}'", "hex"),
    ({"source": "pypi:x==1", "sha256": 12}, "sha256 = 12", "string"),
    ({"source": "pypi:x==1", "sha256": SHA, "revision": "v1"}, "revision = 'v1'", "not apply"),
    ({"source": "file:x"}, "sha256 = None", "64 hex digits"),
    ({"source": "file:x", "sha256": "g" * 64}, f"sha256 = '{'g' * 64}'", "64 hex digits"),
    ({"source": "file:x", "sha256": SHA, "revision": COMMIT}, f"revision = '{COMMIT}'", "not ap"),
    ({"source": "hf:a/b"}, "revision = None", "40 hex digits"),
    ({"source": "hf:a/b", "revision": "main"}, "revision = 'main'", "40 hex digits"),
    ({"source": "hf:a/b", "revision": COMMIT[1:]}, f"revision = '{COMMIT[1:]}'", "40 hex"),
    ({"source": "hf:a/b", "revision": COMMIT, "sha256": SHA}, f"sha256 = '{SHA}'", "not apply"),
]


@pytest.mark.parametrize(("pin", "shown", "said"), PINS)
@pytest.mark.parametrize("place", ["models.minilm", DATA])
def test_a_bad_pin(place: str, pin: dict[str, Any], shown: str, said: str) -> None:
    found = params()
    for key in ("source", "sha256"):
        put(found, f"{place}.{key}", GONE)
    for key, value in pin.items():
        put(found, f"{place}.{key}", value)
    write(found)
    line = the_mistake()
    assert f"{place}.{shown}" in line
    assert said in line


@pytest.mark.parametrize(
    "pin",
    [
        {"source": "pypi:a-b_c.d==1.0.post1+x", "sha256": SHA},
        {"source": "file:my data/table.csv", "sha256": SHA},
        {"source": "hf:datasets/a/b", "revision": COMMIT},
    ],
)
def test_a_good_pin(pin: dict[str, str]) -> None:
    found = params()
    for key in ("source", "sha256"):
        put(found, f"models.minilm.{key}", GONE)
    found["models"]["minilm"] |= pin
    write(found)
    assert mistakes() == []


@pytest.mark.parametrize(
    ("section", "name"),
    [
        *(("runs", name) for name in ("Bert", "a.b", "a b", "a_b", "-a", "é", "a\n", "x" * 61)),
        *((section, "a/b") for section in ("models", "tasks", "cases")),
    ],
)
def test_a_bad_slug(section: str, name: str) -> None:
    found = params()
    found[section][name] = next(iter(found[section].values()))
    write(found)
    line = the_mistake()
    assert f"{section} = {name!r}" in line
    assert "lower-case letters, digits and hyphens" in line


@pytest.mark.parametrize("name", [2024, 1.5, True, None])
def test_a_name_that_is_no_text(name: Any) -> None:
    found = params()
    found["runs"][name] = found["runs"]["bert-full"]
    write(found)
    assert f"runs = {name!r}: a name is text" in the_mistake()


def test_names_of_many_types_are_told_beside_an_unknown_one() -> None:
    found = params()
    found["models"][3] = found["models"]["minilm"]
    put(found, f"{CASE}.model", "minilms")
    write(found)
    lines = mistakes()
    assert len(lines) == 2
    assert "models = 3: a name is text" in lines[0]
    assert f"{CASE}.model = 'minilms': no such name under models; did you mean minilm?" in lines[1]


@pytest.mark.parametrize("name", ["2024", "a", "x" * 60, "a-b-1"])
def test_a_good_slug(name: str) -> None:
    found = params()
    found["runs"][name] = found["runs"]["bert-full"]
    found["variants"][name] = []
    write(found)
    assert mistakes() == []
    assert name in read_runs()


@pytest.mark.parametrize("name", ["base", "frontier", "sequence"])
def test_reserved_run_names(name: str) -> None:
    found = params()
    found["runs"][name] = found["runs"]["bert-full"]
    found["variants"][name] = []
    write(found)
    assert the_mistake() == f"params.yaml: runs = {name!r}: this name is reserved"


TABLE = {"reader": "table", "source": "file:x.csv", "sha256": SHA}


def table(kind: str, columns: Any, files: Any = None) -> None:
    change(
        **{
            "tasks.own": {
                "kind": kind,
                "data": {**TABLE, "columns": columns, "files": files},
                **{"max_length": 64, "train": 10, "validation": 10, "test": 10},
            }
        }
    )


@pytest.mark.parametrize(
    ("kind", "columns", "files", "said"),
    [
        ("classification", {"text": "t"}, None, "tasks.own.data.columns.label: missing"),
        ("linear-probe", {"label": "l"}, None, "tasks.own.data.columns.text: missing"),
        ("retrieval", {"query": "q"}, None, "tasks.own.data.columns.document: missing"),
        (
            "retrieval",
            {"query": "q", "document": "d", "label": "l"},
            None,
            "tasks.own.data.columns.label = 'l': does not apply",
        ),
        ("classification", {"text": "t", "lable": "l"}, None, "tasks.own.data.columns.lable = 'l'"),
        ("linear-probe", {"text": "t", "label": 3}, None, "tasks.own.data.columns.label = 3"),
        ("linear-probe", None, None, "tasks.own.data.columns = None"),
        (
            "linear-probe",
            {"text": "t", "label": "l"},
            {"train": "a.csv"},
            "tasks.own.data.files = ['train']",
        ),
        (
            "linear-probe",
            {"text": "t", "label": "l"},
            {"all": "a.csv", "train": "a.csv", "test": "b.csv"},
            "tasks.own.data.files = ['all', 'test', 'train']",
        ),
        ("linear-probe", {"text": "t", "label": "l"}, {"dev": "a"}, "tasks.own.data.files.dev"),
        ("linear-probe", {"text": "t", "label": "l"}, {"all": 1}, "tasks.own.data.files.all = 1"),
    ],
)
def test_a_bad_table(kind: str, columns: Any, files: Any, said: str) -> None:
    table(kind, columns, files)
    found = mistakes()
    assert any(said in line for line in found), found
    assert all("tasks.own." in line for line in found)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metric": None}, "metric: missing: a completion task needs it"),
        ({"max_new_tokens": None}, "max_new_tokens: missing: a completion task needs it"),
        ({"metric": "bleurt"}, "'exact-match', 'f1', 'rouge-l', 'chrf' or 'bleu'"),
        ({"max_new_tokens": 64}, "max_new_tokens = 64: of max_length = 64 tokens some are to be"),
        ({"kind": "language-modelling"}, "data.columns.text: missing"),
        ({"judge": "minilm"}, "judge = 'minilm': does not apply to a completion task"),
        ({}, ""),
        ({"stop_at_newline": True}, ""),
    ],
)
def test_a_completion_task(changes: dict[str, Any], said: str) -> None:
    task: dict[str, Any] = {
        "kind": "completion",
        "data": {**TABLE, "columns": {"prompt": "p", "completion": "c"}},
        **{"max_length": 64, "train": 10, "validation": 10, "test": 10},
        **{"max_new_tokens": 8, "metric": "f1"},
    }
    change(**{"tasks.own": task | changes})
    found = mistakes()
    assert len(found) == bool(said)
    assert all(line.startswith("params.yaml: tasks.own.") and said in line for line in found), found


WRITER: dict[str, Any] = {
    "data": {**TABLE, "columns": {"prompt": "p", "completion": "c"}},
    **{"max_length": 64, "train": 10, "validation": 10, "test": 10},
    **{"max_new_tokens": 8, "metric": "f1"},
}
COMPLETION: dict[str, Any] = {**WRITER, "kind": "completion"}
TAGGED: dict[str, Any] = {
    "kind": "token-classification",
    "data": {"reader": "conll", "source": "file:x.conll", "sha256": SHA},
    **{"max_length": 64, "train": 10, "validation": 10, "test": 10},
}
CHAT: dict[str, Any] = {**WRITER, "kind": "chat", "data": {**TABLE, "columns": {"messages": "m"}}}


@pytest.mark.parametrize(
    ("model", "task", "said"),
    [
        ("encoder", COMPLETION, "is completion; own is of kind encoder, which fits classification"),
        ("encoder", CHAT, "is chat; own is of kind encoder, which fits classification"),
        ("seq2seq", CHAT, "is chat; own is of kind seq2seq, which fits completion"),
        ("causal", "medical-qa", "is classification; own is of kind causal, which fits multiple-"),
        ("causal", TAGGED, "is token-classification; own is of kind causal, which fits multiple-"),
        (
            "seq2seq",
            "addition",
            "is multiple-choice; own is of kind seq2seq, which fits completion",
        ),
        ("seq2seq", COMPLETION, ""),
        ("causal", COMPLETION, ""),
        ("causal", CHAT, ""),
    ],
)
def test_what_a_kind_of_model_can_be_asked(model: str, task: Any, said: str) -> None:
    pooling = {"pooling": "mean"} if model == "encoder" else {}
    name = task if isinstance(task, str) else "asked"
    own = {} if name == task else {"tasks.asked": task}
    fits = {
        "encoder": ["movie-sentiment", "newsgroup-topics"],
        "causal": ["addition", "news-writing"],
    }
    others = fits.get(model, ["other", "third"])
    made = {f"tasks.{other}": COMPLETION for other in others if model == "seq2seq"}
    case = {"model": "own", "targets": [name], "retain": others}
    change(
        **{"models.own": {"source": "file:own", "sha256": SHA, "kind": model, **pooling}},
        **own,
        **made,
        **{"cases.asking": case},
    )
    found = mistakes()
    assert len(found) == bool(said), found
    assert all(f"cases.asking.targets = {name!r}: {said}" in line for line in found), found


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"margins": {"python-code": 5}, "minimum_gain": 3}, ""),  # bits per byte, both
        ({"margins": {"capitals": 0.99}}, ""),
        ({"margins": {"capitals": 5}}, "compare.gate.margins.capitals = 5.0: capitals is measured"),
        ({"margins": {"trivia": 0.1, "news-writing": 0.1}}, "compare.gate.margins = 'news-writing"),
    ],
)
def test_limits_are_in_the_unit_of_their_task(limits: dict[str, Any], said: str) -> None:
    found = yaml.safe_load(REAL)
    found["compare"]["gate"] |= limits
    write(found)
    assert the_mistake().startswith(f"params.yaml: {said}") if said else mistakes() == []


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("all", ""),
        (["medical-qa", "news-retrieval", "capitals", "instructions"], ""),
        (["capitals", "python-code"], "'python-code': a language-modelling task is asked without"),
        (["news-writing"], "'news-writing': a news-writing task is asked without noise: leave it"),
    ],
)
def test_noise_is_of_what_a_user_types(named: Any, said: str) -> None:
    found = yaml.safe_load(REAL)
    found["evaluation"]["noise"]["tasks"] = named
    write(found)
    where = "params.yaml: evaluation.noise.tasks = "
    assert the_mistake().startswith(where + said) if said else mistakes() == []


def test_the_comments_that_list_kinds() -> None:
    text = comments()
    for before, kinds in (
        ("The kinds that cannot: ", set(get_args(Kind)) - set(NOISED)),
        ("On tasks of the kinds ", set(AVERAGED)),
        ("Targets of the kinds ", set(AUGMENTED)),
    ):
        listed = re.split(r"[.;]| only", text.partition(before)[2], maxsplit=1)[0]
        assert set(re.split(r", | and ", listed)) == kinds, before


@pytest.mark.parametrize(
    ("metric", "sound"), [(None, True), ("bits_per_byte", True), ("acc", False), ("f1", False)]
)
def test_limits_of_an_lm_eval_task(metric: str | None, sound: bool) -> None:
    """What it is measured in may be said in its own YAML alone."""
    found = yaml.safe_load(REAL)
    data = {"reader": "lm-eval", "task": "arc_easy", "metric": metric}
    sizes = {"max_length": 64, "validation": 10, "test": 10}
    found["tasks"]["arc"] = {"kind": "lm-eval", "data": data, **sizes}
    found["cases"]["news-gpt"]["retain"].append("arc")
    found["compare"]["gate"]["margins"] = {"arc": 2}
    write(found)
    assert mistakes() == [] if sound else "margins.arc = 2.0: arc is" in the_mistake()


DISTIL: dict[str, Any] = {"distil": {"weight": 1.0, "temperature": 2.0}}


def test_a_teacher_that_has_learned_other_things() -> None:
    found = yaml.safe_load(REAL)
    student, retain = found["runs"]["bert-full"], ["movie-sentiment", "news-retrieval"]
    student |= {"teacher": "models/tuned/gpt-full", "methods": DISTIL}
    write(found)
    said = "params.yaml: runs.bert-full.teacher = "
    assert the_mistake() == (
        f"{said}'models/tuned/gpt-full': is of kind causal, and the run of kind encoder"
    )
    case = {**found["cases"]["medical-bert"], "targets": ["newsgroup-topics"], "retain": retain}
    teacher = {**student, "case": "other", "teacher": "models/base/other.json", "methods": {}}
    found["cases"]["other"], found["runs"]["other"] = case, teacher
    found["variants"]["other"] = []
    student["teacher"] = "models/tuned/other"
    write(found)
    assert the_mistake() == (
        f"{said}'models/tuned/other': has not learned medical-qa: give a run that has"
    )
    case["targets"].append("medical-qa")
    write(found)
    assert mistakes() == []


def test_teachers_in_a_circle() -> None:
    """DVC would refuse the whole pipeline. A run that leads into the circle is not in it."""
    found = yaml.safe_load(REAL)
    runs = found["runs"]
    taught = {"bert-full": "bert-lora", "bert-lora": "bert-full", "bert-replay": "bert-full"}
    for run, teacher in taught.items():
        runs[run] |= {"teacher": f"models/tuned/{teacher}", "methods": DISTIL, "pool": "target"}
    write(found)
    assert mistakes() == [
        "params.yaml: runs.bert-full.teacher = 'models/tuned/bert-lora': goes in a circle: "
        "bert-full, bert-lora, bert-full",
        "params.yaml: runs.bert-lora.teacher = 'models/tuned/bert-full': goes in a circle: "
        "bert-lora, bert-full, bert-lora",
    ]


def test_what_a_machine_cannot_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALIMPSEST_DEVICE", "cpu")
    found = yaml.safe_load(REAL)
    found["runs"]["gpt-lora"]["quantise"] = "4bit"
    write(found)
    assert mistakes() == []
    with pytest.raises(
        UserError, match=r"^runs\.gpt-lora\.quantise = 4bit: needs bitsandbytes and a"
    ):
        check.main()


def test_a_teacher_that_nothing_reads() -> None:
    change(**{f"{RUN}.teacher": "models/tuned/bert-lora"})
    assert the_mistake() == (
        f"params.yaml: {RUN}.teacher = 'models/tuned/bert-lora': nothing reads it: add starts: "
        "teacher, distil or self-training"
    )
    found = params()
    found["runs"]["bert-full"]["teacher"] = "models/tuned/bert-lora"
    found["cases"]["medical-bert"]["targets"].append("second")
    found["tasks"]["second"] = found["tasks"]["medical-qa"]
    found["runs"]["bert-lora"]["learns"] = ["second"]
    found["runs"]["bert-full"] |= {"learns": ["medical-qa"], "starts": "teacher"}
    write(found)
    assert mistakes() == []
    distil = {"distil": {"weight": 1.0, "temperature": 2.0}}
    change(**{f"{RUN}.teacher": "models/tuned/bert-lora", f"{RUN}.methods": distil})
    assert mistakes() == []


def test_methods_that_read_a_teacher_are_known() -> None:
    reading = {
        method
        for method in Method.__subclasses__()
        if method.__module__.startswith("stages.")
        and "config.teacher" in inspect.getsource(sys.modules[method.__module__])
    }
    assert reading == set(TAUGHT)


def test_what_only_some_kinds_have() -> None:
    for key, value in {"metric": "f1", "stop_at_newline": True}.items():
        change(**{f"tasks.addition.{key}": value})
        assert f"tasks.addition.{key} = {value!r}: does not apply to a multiple-choice task" in (
            the_mistake()
        )
    change(**{"tasks.medical-qa.per_byte": False})
    assert "per_byte = False: does not apply to a classification task" in the_mistake()
    change(**{"tasks.addition.per_byte": False})
    assert mistakes() == []


@pytest.mark.parametrize(
    ("kind", "columns", "files"),
    [
        ("linear-probe", {"text": "t", "label": "l", "slice": "l", "group": "g"}, None),
        ("classification", {"text": "t", "label": "l"}, {"train": "a.csv", "test": "b.csv"}),
        ("retrieval", {"query": "q", "document": "d"}, {"all": "a.csv"}),
    ],
)
def test_a_good_table(kind: str, columns: Any, files: Any) -> None:
    table(kind, columns, files)
    assert mistakes() == []


@pytest.mark.parametrize(
    ("line", "again", "name"),
    [
        ("seed: 20\n", "seed: 21\n", "seed"),
        ("runs:\n", "runs:\n  bert-lora: {}\n", "bert-lora"),
        ("    targets: [medical-qa]\n", "    targets: [medical-qa]\n    model: minilm\n", "model"),
        ("seed: 20\n", "seed: 20\n'seed': 20\n", "seed"),
    ],
)
def test_a_name_that_stands_twice(line: str, again: str, name: str) -> None:
    text = REAL.replace(line, again if line not in ("seed: 20\n",) else line + again, 1)
    Path("params.yaml").write_text(text, encoding="utf-8")
    said = the_mistake()
    assert f"duplicate name {name!r}" in said
    number = re.search(r"line (\d+)", said)
    assert number
    assert text.splitlines()[int(number[1]) - 1].strip().strip("'").startswith(name)


UNREADABLE: list[tuple[bytes, str]] = [
    (b"seed: [1, 2\nruns: {", "not YAML"),
    (b"a: 'open", "not YAML"),
    (b"a: \x07", "not YAML"),
    (b"a: b: c", "not YAML"),
    (b"a: *nobody", "not YAML"),
    (b"a: !!python/object:os.system {}", "not YAML"),
    (b"a: !!int x", "not YAML"),
    (b"a: !!float x", "not YAML"),
    (b"a: !!bool maybe", "not YAML"),
    (b"a: !!timestamp x", "not YAML"),
    (b"a: !!map [1]", "not YAML"),
    (b"--- {a: 1}\n--- {a: 2}\n", "not YAML"),
    (b"a: &a [*a]", "not YAML"),
    (b"a: " + b"[" * 1000, "not YAML"),
    (b"? [1]\n: 2", "is no name"),
    (b"a: {? {b: 1} : 2}", "is no name"),
    (b"a: \xff", "not UTF-8 at byte 3"),
    ("a: 1\nb: 'x\u2028y'".encode(), "line 2: holds U+2028, which not all readers of YAML take"),
    (b"", "no mapping"),
    (b"# nothing\n", "no mapping"),
    (b"- 1\n", "no mapping"),
    (b"word", "no mapping"),
]


@pytest.mark.parametrize(("content", "said"), UNREADABLE)
def test_a_file_that_cannot_be_read(content: bytes, said: str) -> None:
    Path("params.yaml").write_bytes(content)
    assert said in the_mistake()


def test_no_file() -> None:
    Path("params.yaml").unlink()
    assert "not found" in the_mistake()


def test_a_folder_in_its_place() -> None:
    Path("params.yaml").unlink()
    Path("params.yaml").mkdir()
    assert "cannot be read" in the_mistake()


def test_every_mistake_is_told_at_once() -> None:
    change(**{f"{RUN}.steps": 0, f"{RUN}.extra": 1, "runs.bert-lora.case": "none", "compare": GONE})
    found = mistakes()
    assert len(found) == 4
    for key in (f"{RUN}.steps", f"{RUN}.extra", "runs.bert-lora.case", "compare"):
        assert any(line.startswith(f"params.yaml: {key}") for line in found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-05),
        ("1E5", 1e5),
        ("1e5", 1e5),
        (".5", 0.5),
        ("+.5e1", 5.0),
        ("1.", 1.0),
        ("-0.0", 0.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("0", 0),
        ("+12", 12),
        ("010", 10),  # YAML 1.1 reads 8
        ("0o10", 8),
        ("0xfF", 255),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        # Words, in YAML 1.2: numbers, booleans and dates only in 1.1.
        *((word, word) for word in ("no", "yes", "on", "Off", "y", "1_000", "1:30", "0b1", "-0o7")),
        *((word, word) for word in ("2026-01-31", "1e", "e5", ".", "+.e1", "inf", "nan")),
        ('"1"', "1"),
    ],
)
def test_yaml_1_2(text: str, value: Any) -> None:
    Path("params.yaml").write_text(f"a: {text}\n", encoding="utf-8")
    found = load()["a"]
    assert found == value
    assert type(found) is type(value)


def test_yaml_1_2_nan() -> None:
    Path("params.yaml").write_text("a: [.nan, .NaN, .NAN]\n", encoding="utf-8")
    assert all(math.isnan(value) for value in load()["a"])


@pytest.mark.parametrize("digits", ["9" * 200, "9" * 5000, "0x" + "f" * 5000])
@pytest.mark.parametrize("key", [f"{RUN}.steps", f"{RUN}.max_grad_norm", "seed"])
def test_a_number_beyond_all_bounds(key: str, digits: str) -> None:
    change(**{key: "HERE"})
    text = Path("params.yaml").read_text(encoding="utf-8").replace("HERE", digits)
    Path("params.yaml").write_text(text, encoding="utf-8")
    assert f"params.yaml: {key} = " in the_mistake()


@pytest.mark.parametrize("rate", [1e-05, 1e-4, 0.001, 3e-07])
def test_what_dvc_writes_is_read(rate: float) -> None:
    """`dvc exp run -S runs.bert-full.learning_rate=1e-5` goes through this function."""
    with modify_yaml("params.yaml") as found:
        found["runs"]["bert-full"]["learning_rate"] = rate
    if rate == 1e-05:
        assert "learning_rate: 1e-05" in Path("params.yaml").read_text(encoding="utf-8")
    assert mistakes() == []
    assert read_run("bert-full").learning_rate == rate
    assert read_run("bert-lora").learning_rate == 1e-3


ODD = ["a\nb", "a\rb\x0b", "a\x85b\x1c", "\u2028\u2029", "\x1b[31m\x7f"]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda found, odd: put(found, f"{RUN}.case", odd),
        lambda found, odd: found["runs"]["bert-full"].update({odd: 1}),
        lambda found, odd: found.update({odd: odd}),
        lambda found, odd: found["runs"].update({odd: found["runs"]["bert-full"]}),
        lambda found, odd: put(found, f"{DATA}.reader", odd),
        lambda found, odd: put(found, f"{DATA}.source", odd),
        lambda found, odd: put(found, f"{CASE}.targets", [odd]),
        lambda found, odd: found["tasks"]["medical-qa"].update({odd: {odd: odd}}),
    ],
)
def test_odd_signs_keep_to_one_line(odd: str, spoil: Callable[[dict[str, Any], str], None]) -> None:
    found = params()
    spoil(found, odd)
    text = yaml.safe_dump(found)  # ASCII: such signs are escaped in double quotes
    Path("params.yaml").write_text(text, encoding="utf-8")
    assert the_mistake().isprintable()


def test_odd_signs_of_a_duplicate() -> None:
    Path("params.yaml").write_text('"a\\nb": 1\n"a\\nb": 2\n', encoding="utf-8")
    assert the_mistake().isprintable()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else ()
    return [path, *(place for key, below in inner for place in places(below, (*path, key)))]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=3)
    | st.dates()
    | st.sampled_from(["base", "table", "icd10", "hf:a/b", "file:x", "medical-qa", "columns"])
)
KEYS = (
    st.text(max_size=5)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.sampled_from(["reader", "source", "files", "columns", "lora", "r", "data", "table"])
)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), value=VALUES, key=KEYS)
def test_any_value_anywhere_passes_or_is_told(data: st.DataObject, value: Any, key: Any) -> None:
    Path("params.yaml").write_text(REAL, encoding="utf-8")
    found = params()
    path = data.draw(st.sampled_from(places(found)))
    place = found
    for part in path[:-1]:
        place = place[part]
    if not path:
        found = value
    elif isinstance(place[path[-1]], dict) and data.draw(st.booleans()):
        place[path[-1]][key] = value
    else:
        place[path[-1]] = value
    write(found)
    for line in mistakes():
        assert line.startswith("params.yaml: ")
        assert line.isprintable()


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(st.sampled_from("ab01.eExo-+:?!&*[]{},'\"|>#%@~<= \n\t\\"), max_size=25))
def test_any_text_passes_or_is_told(text: str) -> None:
    Path("params.yaml").write_text(text, encoding="utf-8")
    assert mistakes()


def run_check(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stages.check"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PALIMPSEST_DEBUG": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_as_a_program_a_line_a_mistake(project: Path) -> None:
    change(**{f"{RUN}.steps": "a\nb", f"{RUN}.seeds": [1, 1], "extra": 1})
    done = run_check(project)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: params.yaml: ") for line in lines)
    assert f"error: params.yaml: {RUN}.seeds = [1, 1]: duplicate seed" in lines


OWN = Path("own")


PLATEAU = {"factor": 0.5, "patience": 2}


@pytest.mark.parametrize(
    ("schedule", "more", "key", "needs", "todo"),
    [
        ("restarts", {}, "cycles", "restarts", "add cycles, such as cycles: 2"),
        ("cosine", {"cycles": 3}, "cycles", "restarts", "leave cycles out"),
        (
            "plateau",
            {},
            "plateau",
            "plateau",
            "add plateau, such as plateau: {factor: 0.5, patience: 2}",
        ),
        ("linear", {"plateau": PLATEAU}, "plateau", "plateau", "leave plateau out"),
    ],
)
def test_a_schedule_that_is_not_whole(
    schedule: str, more: dict[str, Any], key: str, needs: str, todo: str
) -> None:
    change(**{f"{RUN}.{one}": value for one, value in {"schedule": schedule, **more}.items()})
    assert the_mistake() == (
        f"params.yaml: {RUN}.{key} = {more.get(key)}: goes with schedule: {needs}, and only with "
        f"it; schedule is {schedule}: {todo}"
    )


OPEN: list[tuple[str, str, list[str], tuple[Any, ...]]] = [
    # method, what params.yaml says of it, settings, and values of them that are refused
    ("replay", "tasks: […]} of all rows, above 0 and below 1.", ["fraction"], (0, 1)),
    ("self-replay", "128} of all rows, above 0 and below 1, that", ["fraction"], (0, 1)),
    ("augment", "words, above 0 and below 1, that each edit", ["swap", "delete"], (0, 1)),
    ("self-training", "both above 0 and below 1.", ["threshold", "fraction"], (0, 1)),
    ("label-smoothing", "to all classes alike. Above 0, below 1.", ["share"], (0, 1)),
    ("fgm", "Also weight, above 0 (1).", ["weight"], (0,)),
]


def comments() -> str:
    """Those of params.yaml, on one line."""
    lines = [line.strip(" ") for line in REAL.splitlines()]
    return " ".join(" ".join(line.strip("#") for line in lines if line.startswith("#")).split())


@pytest.mark.parametrize(("method", "comment", "names", "refused"), OPEN)
def test_an_end_that_is_refused_is_none_in_the_comment(
    method: str, comment: str, names: list[str], refused: tuple[Any, ...]
) -> None:
    key = f"{RUN}.methods.{method}"
    for value in refused:
        change(**{key: dict.fromkeys(names, value)})
        assert all(any(f"{key}.{name} = {value}" in line for line in mistakes()) for name in names)
    assert comment in comments()


def test_the_comments_of_other_ranges() -> None:
    text = comments()
    for comment in (
        "what the rate is multiplied by, above 0 and below 1, after",
        "Distinct whole numbers from 0 to 2147483647.",
        "copies of each row, 1 to 100, needed with swap, delete or synonym",
        "special ones included. 8 to 131072;",
        "Rows of each split, at most. 10 to 10000000.",
        "Texts that it writes on each topic. 3 to 10000.",
    ):
        assert comment in text, comment
    for key, value in (
        (f"{RUN}.seeds", [2147483647]),
        ("tasks.medical-qa.max_length", 131072),
        ("tasks.medical-qa.train", 10000000),
        ("tasks.news-writing.texts_per_topic", 10000),
        ("evaluation.noise.conditions", ["typos-0.0"]),
    ):
        change(**{key: value})
        assert mistakes() == []
    for factor in (0, 1):
        change(
            **{f"{RUN}.schedule": "plateau", f"{RUN}.plateau": {"factor": factor, "patience": 1}}
        )
        assert f"{RUN}.plateau.factor = {factor}" in the_mistake()


@pytest.mark.parametrize(
    ("stated", "layers"),
    [({"num_hidden_layers": 6}, 6), ({"n_layers": 6}, 6), ({"num_hidden_layers": 99}, None),
     ({}, None), ([], None), ({"num_hidden_layers": "6"}, None)],
)  # fmt: skip
def test_more_frozen_layers_than_there_are(stated: Any, layers: int | None) -> None:
    """Told before anything is fetched, where config.json is at hand."""
    found = own_files()
    found["runs"]["bert-full"]["methods"] = {"freeze": {"layers": 99}}
    write(found)
    assert mistakes() == []
    write_json(OWN / "model/config.json", stated)
    said = f"params.yaml: {RUN}.methods.freeze = {{'layers': 99}}: the model has {layers} layers: "
    assert mistakes() == ([f"{said}give {layers} or less"] if layers else [])


def own_files() -> dict[str, Any]:
    """params.yaml with a model and a task of one's own; neither file is written yet."""
    found = params()
    data: dict[str, Any] = {**TABLE, "source": "file:own/table.csv", "sha256": SHA}
    data["columns"] = {"text": "text", "label": "label"}
    found["tasks"]["movie-sentiment"]["data"] = data
    model: dict[str, Any] = {
        "source": "file:own/model",
        "sha256": SHA,
        "kind": "encoder",
        "pooling": "mean",
    }
    found["models"]["own"] = model
    found["cases"]["medical-bert"]["model"] = "own"
    found["tasks"]["unused"] = copy.deepcopy(found["tasks"]["movie-sentiment"])
    found["tasks"]["unused"]["data"]["source"] = "file:own/unused.csv"
    found["models"]["unused"] = {**model, "source": "file:own/unused"}
    return found


def told() -> list[str]:
    """What the program says of params.yaml and one's own files; none where they are sound."""
    try:
        check.main()
    except UserError as error:
        return str(error).splitlines()
    return []


def test_files_of_ones_own(project: Path) -> None:
    found = own_files()
    write(found)
    assert mistakes() == []
    assert told() == [
        f"params.yaml: {key}.source: file:own/{name}: no such file or folder; correct the path "
        f"({project / 'own' / name})"
        for key, name in (("models.own", "model"), ("tasks.movie-sentiment.data", "table.csv"))
    ]
    (OWN / "model").mkdir(parents=True)
    table = OWN / "table.csv"
    table.write_text("text,label\na,b\n")
    key = "params.yaml: tasks.movie-sentiment.data.source"
    change_of_bytes = f"file:own/table.csv: expected sha256 {SHA}, got {sha256_path(table)}; if"
    (said,) = told()
    assert said.startswith(f"{key}: {change_of_bytes}")
    found["tasks"]["movie-sentiment"]["data"]["sha256"] = sha256_path(table)
    write(found)
    assert told() == []
    table.write_text("text,label\na,c\n")
    assert f"got {sha256_path(table)}; if these are the bytes you want, put that" in told()[0]
    found["runs"]["bert-full"]["steps"] = 0
    write(found)
    assert len(told()) == 2


def test_files_that_the_case_has_been_prepared_from() -> None:
    """A colleague's clone has what DVC keeps of them, and not the files."""
    found = own_files()
    write(found)
    kept = ("seed", "models", "tasks")
    prepared: dict[str, Any] = {key: found[key] for key in kept} | {
        CASE: found["cases"]["medical-bert"]
    }
    stage = {"params": {"params.yaml": prepared}}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": {"prepare@medical-bert": stage}}))
    assert told() == []
    found["tasks"]["medical-qa"]["test"] -= 1
    write(found)
    assert len(told()) == 2


def test_a_folder_of_lm_eval_tasks() -> None:
    found = yaml.safe_load(REAL)
    data = {"reader": "lm-eval", "task": "mine", "include_path": "own", "sha256": SHA}
    sizes = {"max_length": 64, "validation": 10, "test": 10}
    found["tasks"]["arc"] = {"kind": "lm-eval", "data": data, **sizes}
    found["cases"]["news-gpt"]["retain"].append("arc")
    write(found)
    key = "params.yaml: tasks.arc.data.include_path"
    assert told()[0].startswith(f"{key}: file:own: no such file or folder")
    OWN.mkdir()
    (OWN / "mine.yaml").write_text("task: mine\n")
    assert told()[0].startswith(f"{key}: file:own: expected sha256 {SHA}, got {sha256_path(OWN)}")


def test_as_a_program_a_sound_file(project: Path) -> None:
    done = run_check(project)
    assert (done.returncode, done.stdout, done.stderr) == (0, "params.yaml: sound\n", "")
