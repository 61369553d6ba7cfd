"""dvc.yaml lists what each stage reads, no more and no less, and imports run one way.

A check is a function that returns what is wrong with a tree, a line each. It is run on this
tree, where it must find nothing, and on trees broken on purpose, where it must.
"""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import tiny
import yaml

from stages import check
from stages.config import reading, seed
from stages.errors import UserError

SCRIPTS = ("prepare", "pretrain_baseline_eval", "finetune", "retention_eval", "compare")
FLOORS = (
    ("processes", "secrets"),
    ("errors", "progress"),
    ("experiments", "leftovers", "storage"),
    ("config", "phases"),
    ("sources", "records", "provenance"),
    ("models", "tasks", "statistics"),
    ("inputs", "variants"),
    ("drift", "scoring", "training", "diagnosis", "report"),
    ("planning", "checking", "model_card"),
    ("check",),
    (*SCRIPTS, "branches", "export", "gate", "improve", "new", "plan", "study", "sweep", "verify"),
)
"""From the ground up. A room imports its own modules and those of lower floors, nothing else."""

LEAN = ("statistics", "diagnosis", "report")
"""Rooms that work from tables alone, as `compare` does."""

HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets", "safetensors"}
DYNAMIC = {"__import__", "import_module", "exec", "eval"}


@dataclass(frozen=True)
class Imports:
    """What a module imports, at its top or inside a function: files of stages/, and packages."""

    own: frozenset[str]
    foreign: frozenset[str]
    dynamic: bool


def _names(tree: ast.AST) -> Iterator[str]:
    """Dotted names, with every name of `from a import b` as a.b: it may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import would be looked up among the packages, and not be found.
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _called(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node.func.id
            elif isinstance(node.func, ast.Attribute) and node.func.attr == "import_module":
                yield node.func.attr


def _file(root: Path, dotted: str) -> str | None:
    """`stages.a.b` or `stages.a.b.name` -> stages/a/b.py."""
    parts = dotted.split(".")
    for end in (len(parts), len(parts) - 1):
        path = Path(*parts[:end]).with_suffix(".py")
        if (root / path).is_file():
            return path.as_posix()
        if (root / path.with_suffix("") / "__init__.py").is_file() and end == len(parts):
            return (path.with_suffix("") / "__init__.py").as_posix()
    return None


def imports(root: Path, file: str) -> Imports:
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    own, foreign = set(), set()
    for dotted in _names(tree):
        if dotted.split(".")[0] == "stages":
            found = _file(root, dotted)
            own.add(found or f"{dotted}: no such module")
        else:
            foreign.add(dotted.split(".")[0] or dotted)
    return Imports(frozenset(own), frozenset(foreign), bool(DYNAMIC & set(_called(tree))))


def modules(root: Path) -> dict[str, Imports]:
    files = sorted(path.relative_to(root).as_posix() for path in (root / "stages").rglob("*.py"))
    return {file: imports(root, file) for file in files}


def closure(root: Path, known: dict[str, Imports], start: str) -> set[str]:
    """A module, what it imports, what that imports …; and the other files that they read.

    A file that is no module counts where a module beside it names it.
    """
    found: set[str] = set()
    waiting = [start]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(known[file].own & set(known))
    return found | {
        other
        for file in found
        for other in _others(root, str(Path(file).parent))
        if Path(other).name in (root / file).read_text(encoding="utf-8")
    }


def _others(root: Path, room: str) -> list[str]:
    paths = (path for path in (root / room).iterdir() if path.is_file() and path.suffix != ".py")
    return [path.relative_to(root).as_posix() for path in paths]


def room(file: str) -> str:
    """stages/config/runs.py -> config; stages/errors.py -> errors."""
    return Path(file).parts[1].removesuffix(".py")


def _text(root: Path) -> str:
    return (root / "dvc.yaml").read_text(encoding="utf-8")


def stages(root: Path) -> dict[str, dict[str, Any]]:
    """The stages as written, `do` and its `foreach` in one."""
    written = yaml.safe_load(_text(root))["stages"]
    return {name: {**stage, **stage.get("do", {})} for name, stage in written.items()}


def wrong_deps(root: Path) -> list[str]:
    """The modules among a stage's deps are the import closure of its script."""
    wrong, known = [], modules(root)
    for name, stage in stages(root).items():
        deps = stage["deps"]
        listed = [dep for dep in deps if dep.startswith("stages/")]
        needed = closure(root, known, f"stages/{tiny.script(stage)}.py")
        # Empty: an edit of theirs is an edit of nothing. See wrong_sizes.
        needed = {file for file in needed if not file.endswith("/__init__.py")}
        wrong += [f"{name}: {dep} is missing" for dep in sorted(needed - set(listed))]
        wrong += [f"{name}: {dep} is needless" for dep in sorted(set(listed) - needed)]
        wrong += [f"{name}: {dep} stands twice" for dep in {d for d in deps if deps.count(d) > 1}]
    return wrong


def wrong_order(root: Path) -> list[str]:
    """Imports go down, or stay in a room, and never in a circle."""
    floor = {name: height for height, names in enumerate(FLOORS) for name in names}
    known = modules(root)
    wrong = []
    for file, found in known.items():
        if found.dynamic:
            wrong.append(f"{file} imports by a name that only running it tells")
        wrong += [f"{file} imports {name}" for name in found.foreign if name.startswith(".")]
        for other in sorted(found.own):
            if other not in known:
                wrong.append(f"{file} imports {other}")
            elif Path(file).name == "__init__.py":
                continue
            elif room(file) not in floor or room(other) not in floor:
                wrong.append(f"{room(file)} or {room(other)} is a room of no floor: add it")
            elif room(file) != room(other) and floor[room(file)] <= floor[room(other)]:
                wrong.append(f"{file} imports {other}, which is no lower")
    try:
        TopologicalSorter({file: found.own for file, found in known.items()}).prepare()
    except CycleError as error:
        wrong.append(f"a circle: {' '.join(error.args[1])}")
    return wrong


def wrong_weight(root: Path) -> list[str]:
    """What works from tables never imports what works with models."""
    known = modules(root)
    lean = {file for file in known if room(file) in LEAN} | {"stages/compare.py"}
    reached = {other for file in lean for other in closure(root, known, file) & set(known)}
    return [
        f"{file} imports {name}"
        for file in sorted(reached)
        for name in sorted(known[file].foreign & HEAVY)
    ]


def wrong_sizes(root: Path) -> list[str]:
    """Scripts are thin, modules short, __init__.py empty."""
    wrong = []
    for file in modules(root):
        lines = len((root / file).read_text(encoding="utf-8").splitlines())
        most = 150 if room(file) in SCRIPTS else 300
        most = 0 if file.endswith("/__init__.py") else most
        if lines > most:
            wrong.append(f"{file} has {lines} lines, more than {most}")
    return wrong


def wrong_stages(root: Path) -> list[str]:
    """Every stage is described; only compare's outs, which git holds, are out of DVC's cache."""
    wrong = []
    if sorted(stages(root)) != sorted(name.replace("_", "-") for name in SCRIPTS):
        wrong.append(f"the stages are {', '.join(stages(root))}")
    for name, stage in stages(root).items():
        if not stage.get("desc"):
            wrong.append(f"{name} has no desc")
        if tiny.script(stage) != name.replace("-", "_"):
            wrong.append(f"{name} runs {tiny.script(stage)}")
        for kind in ("outs", "metrics", "plots"):
            entries = stage.get(kind) or []
            for entry in entries:
                for path, told in entry.items() if isinstance(entry, dict) else ():
                    if told.get("cache", True) is False and name != "compare":
                        wrong.append(f"{name}: {path} is not cached")
                    if told.get("persist"):
                        wrong.append(f"{name}: {path} persists")
    return wrong


def wrong_readers(root: Path) -> list[str]:
    """params.yaml is read by config/reading.py alone, or the spy of `walked` would miss it; only
    config/inserting.py, which no stage imports, writes it.

    That it is read through `lookup` alone, the spy sees to: see _Sealed.
    """
    pattern = re.compile(r"['\"]params\.ya?ml['\"]|\bPARAMS\.")
    return [
        f"{file} opens params.yaml itself"
        for file in modules(root)
        if file not in ("stages/config/reading.py", "stages/config/inserting.py")
        and pattern.search((root / file).read_text(encoding="utf-8"))
    ]


Check = Callable[[Path], list[str]]
CHECKS: tuple[Check, ...] = (
    wrong_deps,
    wrong_order,
    wrong_weight,
    wrong_sizes,
    wrong_stages,
    wrong_readers,
)


@pytest.mark.parametrize("check", CHECKS)
def test_this_tree(check: Check) -> None:
    assert check(tiny.ROOT) == []


LAZY = "\n\ndef late() -> None:\n    {}\n"

BROKEN = [
    # file, what stands there ("" for the end), what is put there instead, check, what it says
    (
        "dvc.yaml",
        "        - stages/training/order.py\n",
        "",
        wrong_deps,
        "finetune: stages/training/order.py is missing",
    ),
    (
        "dvc.yaml",
        "      - stages/compare.py\n",
        "      - stages/compare.py\n      - stages/models/probe.py\n",
        wrong_deps,
        "compare: stages/models/probe.py is needless",
    ),
    (
        "dvc.yaml",
        "      - stages/compare.py\n",
        "      - stages/compare.py\n      - stages/compare.py\n",
        wrong_deps,
        "compare: stages/compare.py stands twice",
    ),
    (
        "dvc.yaml",
        "      - stages/report/report.md.jinja\n",
        "",
        wrong_deps,
        "compare: stages/report/report.md.jinja is missing",
    ),
    (
        "stages/records.py",
        "",
        LAZY.format("from stages.statistics import seeds"),
        wrong_deps,
        "prepare: stages/statistics/seeds.py is missing",
    ),
    (
        "stages/training/losses.py",
        "",
        LAZY.format("from stages.scoring.case import score_case"),
        wrong_order,
        "stages/training/losses.py imports stages/scoring/case.py, which is no lower",
    ),
    (
        "stages/records.py",
        "",
        LAZY.format("import stages.models.base"),
        wrong_order,
        "stages/records.py imports stages/models/base.py, which is no lower",
    ),
    (
        "stages/config/reading.py",
        "",
        LAZY.format("from stages.config import cases"),
        wrong_order,
        "stages/config/cases.py stages/config/reading.py",
    ),
    (
        "stages/config/seed.py",
        "",
        LAZY.format("from .reading import Name"),
        wrong_order,
        "stages/config/seed.py imports .reading",
    ),
    (
        "stages/config/seed.py",
        "",
        LAZY.format('importlib.import_module("stages.scoring.case")'),
        wrong_order,
        "stages/config/seed.py imports by a name that only running it tells",
    ),
    (
        "stages/statistics/seeds.py",
        "",
        LAZY.format("import torch.nn"),
        wrong_weight,
        "stages/statistics/seeds.py imports torch",
    ),
    (
        "stages/storage.py",
        "",
        LAZY.format("from transformers import AutoModel"),
        wrong_weight,
        "stages/storage.py imports transformers",
    ),
    (
        "stages/tasks/__init__.py",
        "",
        "import sys\n",
        wrong_sizes,
        "stages/tasks/__init__.py has 1 lines, more than 0",
    ),
    ("stages/compare.py", "", "#\n" * 150, wrong_sizes, "more than 150"),
    ("stages/records.py", "", "#\n" * 300, wrong_sizes, "more than 300"),
    (
        "dvc.yaml",
        "      desc: Apply the recipe",
        "      meta: Apply the recipe",
        wrong_stages,
        "finetune has no desc",
    ),
    (
        "dvc.yaml",
        "        - models/tuned/${key}\n        - metrics/training",
        "        - models/tuned/${key}: {cache: false}\n        - metrics/training",
        wrong_stages,
        "finetune: models/tuned/${key} is not cached",
    ),
    (
        "stages/compare.py",
        "",
        LAZY.format('Path("params.yaml").read_text()'),
        wrong_readers,
        "stages/compare.py opens params.yaml itself",
    ),
]


@pytest.mark.parametrize(
    ("file", "old", "new", "check", "said"), BROKEN, ids=[said for *_, said in BROKEN]
)
def test_a_broken_tree(
    tmp_path: Path, file: str, old: str, new: str, check: Check, said: str
) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(tiny.ROOT / "stages", tmp_path / "stages", ignore=ignored)
    shutil.copy2(tiny.ROOT / "dvc.yaml", tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    broken = text.replace(old, new, 1) if old else text + new
    (tmp_path / file).write_text(broken, encoding="utf-8")
    assert any(said in line for line in check(tmp_path)), check(tmp_path)


def _loaded(statement: str) -> set[str]:
    """The heavy packages that a fresh process has loaded after `statement`."""
    program = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tiny.ROOT, capture_output=True, text=True, check=True
    )
    return HEAVY & set(done.stdout.split())


def test_compare_and_its_rooms_load_no_torch() -> None:
    files = [
        file for file in modules(tiny.ROOT) if room(file) in LEAN or file == "stages/compare.py"
    ]
    assert len(files) > len(LEAN)
    names = [file.removesuffix(".py").replace("/", ".") for file in files]
    assert _loaded(f"import {', '.join(names)}") == set()
    assert "torch" in _loaded("import stages.models.device")


def _expanded(walked: tiny.Walk) -> dict[str, dict[str, Any]]:
    return tiny.expand(_text(tiny.ROOT), tiny.read_params(walked.path))


def _covering(key: str) -> str:
    """What dvc.yaml has to list for a key that was read.

    A case's tasks are a list, which DVC cannot fill in, and a task may name a model that
    judges: `tasks` and `models` as a whole stand for `tasks.x` and `models.x`.
    """
    section = key.split(".")[0]
    return section if section in ("tasks", "models") else key


def wrong_params(expanded: dict[str, dict[str, Any]], walked: tiny.Walk) -> list[str]:
    """A stage lists the keys that it reads."""
    wrong = []
    assert set(expanded) == set(walked.read)
    for name, stage in expanded.items():
        read = {_covering(key) for key in walked.read[name]}
        listed = set(stage["params"])
        wrong += [f"{name}: {key} is missing" for key in sorted(read - listed)]
        wrong += [f"{name}: {key} is needless" for key in sorted(listed - read)]
    return wrong


def test_the_spy_misses_no_key(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = tiny.spied("compare", monkeypatch)
    with pytest.raises(TypeError, match="not subscriptable"):
        reading.load()["seed"]
    assert seed.read_seed() == 20
    assert read == {"seed"}


def test_params_are_what_each_stage_reads(walked: tiny.Walk) -> None:
    assert all(walked.read.values())
    assert wrong_params(_expanded(walked), walked) == []


def test_the_tiny_params_are_sound(bench: Path) -> None:
    check.check()


def test_wrong_params(walked: tiny.Walk) -> None:
    """Each param of each stage left out is missed; one put in is needless; a wider one is both."""
    for name, stage in _expanded(walked).items():
        for key in stage["params"]:
            broken = _expanded(walked)
            broken[name]["params"].remove(key)
            assert wrong_params(broken, walked) == [f"{name}: {key} is missing"]
        broken = _expanded(walked)
        broken[name]["params"].append("launch")
        assert wrong_params(broken, walked) == [f"{name}: launch is needless"]
    broken = _expanded(walked)
    broken["finetune@full"]["params"] = ["runs"]
    assert "finetune@full: runs.full is missing" in wrong_params(broken, walked)
    assert "finetune@full: runs is needless" in wrong_params(broken, walked)


def test_each_stage_makes_its_outs_and_nothing_else(walked: tiny.Walk) -> None:
    """That it reads no file but its deps, `walked` has shown: there was no other."""
    for name, stage in _expanded(walked).items():
        outs = tiny.outs(stage)
        made = walked.made[name]
        homes = {
            file: [out for out in outs if file == out or file.startswith(f"{out}/")]
            for file in made
        }
        assert all(len(home) == 1 for home in homes.values()), (name, homes)
        assert {home[0] for home in homes.values()} == set(outs), name


def test_a_stage_without_one_of_its_deps_fails(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: a walk by a dvc.yaml that leaves out a dep ends early."""
    text = _text(tiny.ROOT)
    dep = "        - models/base/${key}.json\n"
    assert text.count(dep) == 2  # an out of prepare, a dep of pretrain-baseline-eval
    head, tail = text.split("  pretrain-baseline-eval:", 1)
    broken = f"{head}  pretrain-baseline-eval:{tail.replace(dep, '', 1)}"
    with tiny.one_thread(), pytest.raises(UserError, match=r"models/base/tiny\.json: not"):
        tiny.walk(tmp_path, own, broken)
