"""A whole project in miniature: a random BERT, tables that can be learned, and params.yaml."""

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.config import reading
from stages.storage import sha256_path

ROOT = Path(__file__).resolve().parents[1]
CASE = "tiny"
OWN = "own"
"""Where a project's sources lie: a relative path, so that a project can stand anywhere."""

LABELS = {
    "color-qa": ("red", "green", "blue", "grey"),
    "shape-topics": ("round", "square", "flat"),
    "mood-words": ("glad", "sad"),
}
RETRIEVAL = "twin-retrieval"
ROWS = {"color-qa": 150, "shape-topics": 120, "mood-words": 120, RETRIEVAL: 90}
TARGET = "color-qa"
RETAIN = ("shape-topics", "mood-words", RETRIEVAL)
FILLER = [f"filler{number}" for number in range(40)]
NAMES = [f"name{number}" for number in range(60)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def _telling(label: str) -> list[str]:
    return [f"{label}{number}" for number in range(6)]


def _vocabulary() -> list[str]:
    telling = [word for labels in LABELS.values() for label in labels for word in _telling(label)]
    return [*SPECIAL, *telling, *FILLER, *NAMES]


def _rows(task: str) -> list[dict[str, str]]:
    """Short texts, no two alike; two words of eight give the label away."""
    draw = random.Random(task)
    rows = []
    for number in range(ROWS[task]):
        if task == RETRIEVAL:
            document = draw.sample(NAMES, 8)
            query = [*document[:3], *draw.sample(FILLER, 3)]
            rows.append({"query": " ".join(query), "document": " ".join(document)})
            continue
        label = LABELS[task][number % len(LABELS[task])]
        words = [*draw.sample(_telling(label), 2), *draw.sample(FILLER, 6)]
        draw.shuffle(words)
        rows.append({"text": " ".join(words), "label": label, "family": f"f{number // 2}"})
    return rows


def write_tables(folder: Path) -> None:
    """A JSONL file a task."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in ROWS:
        lines = [json.dumps(row) for row in _rows(task)]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_model(folder: Path) -> None:
    """A BERT of 2 layers and hidden size 32, with the weights it was born with."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = _vocabulary()
    ids = {word: number for number, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(word, ids[word]) for word in ("[CLS]", "[SEP]")]
    )
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,  # with the usual 0.02 so narrow a layer hardly says a thing
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)


def pinned(project: Path, path: str) -> dict[str, str]:
    """`source` and `sha256` of a file or folder of the project."""
    return {"source": f"file:{path}", "sha256": sha256_path(project / path)}


def make_params(project: Path) -> dict[str, Any]:
    """params.yaml for the sources under `project`, a full and a LoRA run of a few steps.

    Sections that say how, not what, are the real file's with smaller numbers: a key that is
    new there is here at once.
    """
    real = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    sizes = {"max_length": 24, "train": 80, "validation": 30, "test": 40}
    columns = {"text": "text", "label": "label", "group": "family"}
    kinds = {
        TARGET: ("classification", columns),
        "shape-topics": ("linear-probe", columns),
        "mood-words": ("classification", columns),
        RETRIEVAL: ("retrieval", {"query": "query", "document": "document"}),
    }
    recipe = {
        **next(iter(real["runs"].values())),
        "case": CASE,
        "pool": "target",
        "teacher": f"models/base/{CASE}.json",
        "methods": {},
        "head": "random",
        "learning_rate": 0.005,
        "head_learning_rate": 0.01,
        "steps": 40,
        "batch_size": 8,
        "precision": "auto",
        "validate_every": 10,
        "validation_rows": 20,
        "checkpoint_every": 15,
        "seeds": [0],
    }
    noise = {"tasks": "all", "conditions": ["typos-0.1"]}
    scoring = {"batch_tokens": 512, "noise_repeats": 2, "noise": noise}
    lora = {"methods": {"lora": {"r": 2}}, "learning_rate": 0.05, "precision": "fp32"}
    return {
        "launch": "python",
        "seed": 20,
        "models": {
            "bert": {**pinned(project, f"{OWN}/model"), "kind": "encoder", "pooling": "mean"}
        },
        "tasks": {
            task: {
                "kind": kind,
                "data": {
                    "reader": "table",
                    **pinned(project, f"{OWN}/{task}.jsonl"),
                    "columns": dict(named),
                },
                **sizes,
            }
            for task, (kind, named) in kinds.items()
        },
        "cases": {CASE: {"model": "bert", "targets": [TARGET], "retain": list(RETAIN)}},
        "runs": {"full": recipe, "lora": {**recipe, **lora}},
        "variants": {"full": [], "lora": []},
        "evaluation": {**real["evaluation"], **scoring},
        "compare": {**real["compare"], "resamples": 200},
    }


def read_params(project: Path) -> dict[str, Any]:
    params: dict[str, Any] = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    return params


def write_params(project: Path, params: Mapping[str, Any]) -> None:
    text = yaml.safe_dump(dict(params), sort_keys=False)
    (project / "params.yaml").write_text(text, encoding="utf-8")


def edit_params(project: Path, **values: Any) -> None:
    """Set values of params.yaml; `runs__full__seeds` stands for runs.full.seeds."""
    params = read_params(project)
    for name, value in values.items():
        *parents, key = name.replace("__", ".").split(".")
        section = params
        for parent in parents:
            section = section[parent]
        assert key in section, f"{name}: an edit of what is not there"
        section[key] = value
    write_params(project, params)


SECRETS = {
    "HF_TOKEN": "hf_" + "Zq7" * 12,
    "MY_API_KEY": "opaque-but-secret-value",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "GITHUB_TOKEN": "ghp_" + "aB3d" * 9,
}
"""In the environment of every project, where no file and no output may show them."""


def environment(home: Path) -> dict[str, str]:
    """For subprocesses: this interpreter's programs, and nothing of the user's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "DVC_", "HF_", "XDG_", "PALIMPSEST_"))
        and name not in ("PYTHONPATH", "PYTHONHOME", "COLUMNS", "LINES")
    }
    folders = {
        "HOME": "home",
        "XDG_CACHE_HOME": "home/.cache",
        "XDG_CONFIG_HOME": "home/.config",
        "DVC_SITE_CACHE_DIR": "dvc/site",
        "DVC_GLOBAL_CONFIG_DIR": "dvc/global",
        "DVC_SYSTEM_CONFIG_DIR": "dvc/system",
        "PALIMPSEST_CACHE": "palimpsest",
        "HF_HOME": "huggingface",
    }
    for folder in folders.values():
        (home / folder).mkdir(parents=True, exist_ok=True)
    who = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "Test"), ("EMAIL", "test@example.invalid"))
    }
    return {
        **kept,
        **SECRETS,
        **{name: str(home / folder) for name, folder in folders.items()},
        **who,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "DVC_NO_ANALYTICS": "true",
        "HF_HUB_OFFLINE": "1",
        # On layers this small a second thread waits more than it works, and results are the
        # same to the bit only for the same number.
        "OMP_NUM_THREADS": "1",
    }


@dataclass(frozen=True)
class Project:
    """A folder with a git repository, and the environment that its commands run in."""

    path: Path
    environment: Mapping[str, str]

    def call(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=self.path, env=self.environment, capture_output=True, text=True
        )

    def _checked(self, *command: str) -> str:
        done = self.call(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def git(self, *arguments: str) -> str:
        return self._checked("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self._checked("dvc", *arguments)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def restore(self) -> None:
        """Back to what was committed to its one branch, and to the outs that belong to it."""
        self.git("checkout", "--quiet", "--force", "main")
        self.git("clean", "--quiet", "--force", "-d")
        others = set(self.git("branch", "--format=%(refname:short)").split()) - {"main"}
        if others:
            self.git("branch", "--quiet", "-D", *sorted(others))
        self.dvc("checkout", "--quiet", "--force")


def ran(output: str) -> list[str]:
    """The stages that `dvc repro` ran, in order."""
    return re.findall(r"^Running stage '([^']+)':$", output, flags=re.MULTILINE)


def tracked_files() -> list[str]:
    """The files of the working tree that git tracks or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = sorted(name for name in listed.stdout.split("\0") if name)
    return [name for name in names if (ROOT / name).is_file()]


NOT_COPIED = ("data/", "models/", "metrics/", "tests/", "dvc.lock", "params.yaml")


def make_project(folder: Path, own: Path, environment: Mapping[str, str]) -> Project:
    """This working tree's code in a repository of its own, with the tiny sources committed."""
    for name in tracked_files():
        if not name.startswith(NOT_COPIED):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(own, folder / OWN)
    write_params(folder, make_params(folder))
    project = Project(folder, environment)
    project.git("init", "--quiet", "--initial-branch=main")
    for key, value in (("user.name", "Test"), ("user.email", "test@example.invalid")):
        project.git("config", key, value)
    project.commit("A tiny project")
    return project


def with_make(project: Project) -> Project:
    """With a Makefile that finds this very environment installed in .venv."""
    environment = project.path / ".venv"
    environment.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, project.path / name)
    (environment / "installed").touch()
    # Under `make test`, a make would say which folder it enters, as one called by another does.
    outside = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    kept = {name: value for name, value in project.environment.items() if name not in outside}
    # A project without stages/ finds this tree's.
    return Project(project.path, {**kept, "PYTHONPATH": str(ROOT)})


def _filled(value: Any, names: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {_filled(key, names): _filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, names) for inner in value]
    if isinstance(value, str):
        return re.sub(
            r"\$\{([^}]+)\}", lambda match: str(reading.lookup(dict(names), match[1])), value
        )
    return value


def expand(dvc_yaml: str, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The stages of a dvc.yaml as DVC names and fills them; foreach over a section only."""
    stages = {}
    for name, stage in yaml.safe_load(dvc_yaml)["stages"].items():
        if "foreach" not in stage:
            stages[name] = _filled(stage, params)
            continue
        section = reading.lookup(dict(params), stage["foreach"].strip("${}"))
        for key, item in section.items():
            names = {**params, "key": key, "item": item}
            stages[f"{name}@{key}"] = _filled(stage["do"], names)
    return stages


def paths(entries: list[Any] | None) -> list[str]:
    """The paths of a stage's outs, metrics or plots, whether or not they carry settings."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries or []]


def outs(stage: Mapping[str, Any]) -> list[str]:
    return [path for kind in ("outs", "metrics", "plots") for path in paths(stage.get(kind))]


def script(stage: Mapping[str, Any]) -> str:
    """The module of stages/ that a stage's command runs."""
    found = re.search(r"-m stages\.(\w+)", stage["cmd"])
    assert found, stage["cmd"]
    return found[1]


def run_stage(name: str, *arguments: str) -> None:
    """A stage's `main` in this process, in the current folder."""
    module = import_module(f"stages.{name}")
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        # It holds on to the precision that the process first asked for.
        AcceleratorState._reset_state(reset_partial_state=True)
    module.main(*arguments)


def telling(capsys: pytest.CaptureFixture[str], name: str) -> Callable[..., str]:
    """A stage to be called with its arguments, which gives what it prints."""

    def said(*arguments: str) -> str:
        capsys.readouterr()
        run_stage(name, *arguments)
        return capsys.readouterr().out

    return said


@contextmanager
def one_thread() -> Iterator[None]:
    """As in `environment`, for what runs in this process."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Walk:
    """A pipeline walked in this process: what each stage read of params.yaml and left behind."""

    path: Path
    read: dict[str, set[str]]
    made: dict[str, set[str]]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def walk(folder: Path, own: Path, dvc_yaml: str) -> Walk:
    """Run every stage where nothing lies but its deps, params.yaml and the sources.

    So a stage that reads what dvc.yaml does not list fails. Its outs are gathered in `path`.
    """
    found = Walk(folder / "project", {}, {})
    shutil.copytree(own, found.path / OWN)
    params = make_params(found.path)
    write_params(found.path, params)
    for name, stage in expand(dvc_yaml, params).items():
        room = folder / name
        for part in (OWN, "params.yaml", *stage["deps"]):
            if not part.startswith("stages/"):
                _copy(found.path / part, room / part)
        before = _files(room)
        module, key = script(stage), shlex.split(stage["cmd"])[3:]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(room)
            found.read[name] = spied(module, patch)
            run_stage(module, *key)
        found.made[name] = _files(room) - before
        for part in outs(stage):
            _copy(room / part, found.path / part)
    return found


@dataclass(frozen=True)
class _Sealed:
    """What `load` gives under the spy: nothing but `lookup` can look inside."""

    params: dict[str, Any]


def spied(module: str, patch: pytest.MonkeyPatch) -> set[str]:
    """From now on, the keys of params.yaml that the stage looks up."""
    import_module(f"stages.{module}")
    read: set[str] = set()
    load, original = reading.load, reading.lookup

    def lookup(params: Any, key: str) -> Any:
        read.add(key)
        return original(params.params, key)

    instead = {"load": (load, lambda: _Sealed(load())), "lookup": (original, lookup)}
    for name, loaded in list(sys.modules.items()):
        if name.startswith("stages."):
            # A module that imported the function has a name of its own for it.
            for attribute, (real, spy) in instead.items():
                if getattr(loaded, attribute, None) is real:
                    patch.setattr(loaded, attribute, spy)
    return read
