"""A case of one's own in params.yaml: `python -m stages.new <case> <table> <model> [columns]`.

`make new CASE=tickets DATA=data/raw/tickets.jsonl MODEL=minilm COLUMNS=text:body,label:team`

The model is a name of params.yaml or a folder. A file of params/ may be given in place of the table
or of the model: its entry is taken. What is written is checked as `make run` does it; where that
fails, params.yaml stays as it was.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stages import errors
from stages.check import check
from stages.config.cases import UNSEEN
from stages.config.inserting import edit, insert
from stages.config.kinds import ANSWERS, WITH_HEAD, WRITTEN
from stages.config.pin import PinnedModel
from stages.config.reading import NAME, PARAMS, load, parsed, suggestion
from stages.errors import UserError
from stages.models.manifest import fetch
from stages.storage import read_json, sha256_path
from stages.tasks.guess import Table, fitting

TEST, VALIDATION = 1000, 300
"""Rows at most; a quarter and an eighth of a smaller table."""
FEWEST = 80
UNKNOWN_SHA = "0" * 64
PRESETS, YAML = Path("params"), ".yaml"
LENGTH, OF_WRITTEN = 128, 512
"""Tokens: of a row, and where answers are written, which take a part of them."""
HEAD = ("head", "head_learning_rate")
OWN = ("learns", "starts", "draw", "folds", "snapshots")
"""Keys of a run that are about its case's targets and rows, not of its recipe."""
ON_HUB = f"; one of a hub is put under models as the files of {PRESETS} do it"
WRITTEN_KEYS = (
    "# Of these the answer's. It follows the prompt as it stands: give the space between both.",
    "max_new_tokens: 64",
    "# Or exact-match, f1, chrf, bleu.",
    "metric: rouge-l",
)


CAUSAL = re.compile("CausalLM|(?<!With)LMHeadModel$")
"""What transformers calls models that predict the next token; GPT-2 and its kin by the older name,
which XLM, that fills in masks, has too, after With."""


@dataclass(frozen=True)
class Model:
    name: str
    kind: str
    block: str = ""
    """To be put into params.yaml; empty where it stands there."""


@dataclass(frozen=True)
class Target:
    name: str
    kind: str
    told: str
    block: str


def _preset(given: str, what: str, section: str) -> tuple[str, Mapping[str, Any], str]:
    """Name, entry and text of the one entry that a file of params/ has under `section`."""
    path = Path(given)
    if not path.is_file():
        known = sorted(one.as_posix() for one in PRESETS.glob(f"*{YAML}"))
        raise UserError(f"{what}={given}: no such file{suggestion(given, known)}")
    text = path.read_text(encoding="utf-8")
    try:
        entries = parsed(text).get(section)
    except UserError as error:
        raise UserError(str(error).replace(f"{PARAMS}: ", f"{what}={given}: ")) from None
    named = list(entries.items()) if isinstance(entries, dict) else []
    if len(named) != 1 or not isinstance(named[0][1], dict) or "kind" not in named[0][1]:
        raise UserError(f"{what}={given}: has no single entry under {section}, with a kind")
    return *named[0], f"\n{text}".partition(f"\n{section}:\n")[2]


def _model(given: str, known: Mapping[str, Any]) -> Model:
    if given in known:
        return Model(given, known[given]["kind"])
    if given.endswith(YAML):
        name, entry, block = _preset(given, "MODEL", "models")
        return Model(name, entry["kind"], "" if known.get(name) == entry else block)
    folder = Path(given)
    if not (folder / "config.json").is_file():
        called = given.rpartition("/")[2].rpartition(":")[2].lower()
        preset = PRESETS / f"{called}{YAML}"
        there = f"; its entry is MODEL={preset}" if preset.is_file() else ON_HUB
        raise UserError(
            f"MODEL={given}: neither a model of {PARAMS}{suggestion(given, list(known))} nor a "
            f"folder with a config.json{there}"
        )
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:60]
    source, sha256 = f"file:{folder.as_posix()}", sha256_path(folder)
    fetch(PinnedModel(source=source, sha256=sha256))  # as prepare will: what it refuses is no model
    kind = _kind(read_json(folder / "config.json"))
    lines = [f'source: "{source}"', f"sha256: {sha256}", f"kind: {kind}"]
    lines += [f"pooling: {_pooling(folder)}"] if kind == "encoder" else []
    return Model(name, kind, _block(name, lines))


def _kind(settings: Mapping[str, Any]) -> str:
    """`settings`: of a model's config.json."""
    if settings.get("is_encoder_decoder"):
        return "seq2seq"
    causal = any(CAUSAL.search(str(one)) for one in settings.get("architectures") or [])
    return "causal" if causal else "encoder"


def _pooling(folder: Path) -> str:
    """As sentence-transformers writes it down; the mean where it does not."""
    told = folder / "1_Pooling/config.json"
    return "cls" if told.is_file() and read_json(told).get("pooling_mode_cls_token") else "mean"


def _target(case: str, given: str, kind: str, columns: str) -> Target:
    """`kind`: of the model."""
    if given.endswith(YAML):
        if columns:
            raise UserError(f"COLUMNS={columns}: {given} names its columns: leave COLUMNS out")
        name, entry, block = _preset(given, "DATA", "tasks")
        if entry["kind"] not in ANSWERS[kind]:
            fits = ", ".join(ANSWERS[kind])
            reason = f"a model of kind {kind} fits {fits}"
            raise UserError(f"DATA={given}: is {entry['kind']}; {reason}")
        return Target(name, entry["kind"], f"{entry['kind']}, {given}", block)
    data = fitting(given, kind, columns)
    if data.rows < FEWEST:
        raise UserError(f"DATA={given}: {data.rows} rows; at least {FEWEST} make three splits")
    told = f"{data.kind}, {data.rows} rows"
    return Target(case, data.kind, told, _task(case, given, data))


def _task(case: str, path: str, data: Table) -> str:
    test, validation = min(TEST, data.rows // 4), min(VALIDATION, data.rows // 8)
    columns = ", ".join(f"{role}: {json.dumps(name)}" for role, name in data.columns.items())
    return _block(
        case,
        [
            f"# {data.rows} rows; test is filled first, then validation, then train.",
            f"kind: {data.kind}",
            "data:",
            "  reader: table",
            f'  source: "file:{PurePosixPath(path)}"',
            "  # Of the file as it is; the error says the new one when it changes.",
            f"  sha256: {sha256_path(Path(path))}",
            f"  columns: {{{columns}}}",
            "# Tokens read of a row; longer ones are cut, and counted.",
            f"max_length: {OF_WRITTEN if data.kind in WRITTEN else LENGTH}",
            *(WRITTEN_KEYS if data.kind in WRITTEN else ()),
            f"train: {data.rows - test - validation}",
            f"validation: {validation}",
            f"test: {test}",
        ],
    )


def _case(case: str, target: str, model: str, retain: list[str]) -> str:
    lines = [f"model: {model}", f"targets: [{target}]", "# What must not be lost: two or more."]
    return _block(case, [*lines, f"retain: [{', '.join(retain)}]"])


def _run(case: str, target: str, like: str, recipe: Mapping[str, Any]) -> str:
    """`target`: its kind, by which there is a head or none."""
    alone = {key: told for key, told in recipe.items() if key not in OWN}
    changed = {**alone, "case": case, "teacher": f"models/base/{case}.json"}
    if target in WITH_HEAD:
        changed = {"head": "random", "head_learning_rate": recipe["learning_rate"], **changed}
    else:
        changed = {key: told for key, told in changed.items() if key not in HEAD}
    told = [f"# The recipe of {like}, where each key is explained."]
    return _block(f"{case}-full", [*told, *(f"{k}: {_yaml(v)}" for k, v in changed.items())])


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _block(name: str, lines: list[str]) -> str:
    return "\n".join([f"  {name}:", *(f"    {line}" for line in lines)])


def _alike(params: Mapping[str, Any], kind: str) -> tuple[str, Mapping[str, Any], list[str]]:
    """The first run of full fine-tuning of a model of this kind, and what its case retains; where
    there is none, that of another kind, and all tasks that such a model answers."""
    full = [(run, recipe) for run, recipe in params["runs"].items() if not recipe["methods"]]
    for run, recipe in full:
        case = params["cases"][recipe["case"]]
        if params["models"][case["model"]]["kind"] == kind:
            return run, recipe, case["retain"]
    retain = [task for task, told in params["tasks"].items() if told["kind"] in ANSWERS[kind]]
    if len(retain) < UNSEEN:
        raise UserError(
            f"{PARAMS}: no run of full fine-tuning of a model of kind {kind} to copy, and "
            f"{len(retain)} tasks that it could retain: put {UNSEEN} under tasks, of the kinds "
            f"{', '.join(ANSWERS[kind])}"
        )
    if not full:
        raise UserError(f"{PARAMS}: no run of full fine-tuning to copy")
    return *full[0], retain


def main(case: str = "", table: str = "", model: str = "", columns: str = "") -> None:
    if not (case and table and model):
        raise UserError("give CASE=<new name> DATA=<table> MODEL=<name or folder>")
    if not NAME.fullmatch(case):
        raise UserError(f"CASE={case}: a name is lower-case letters, digits and hyphens")
    if parsed(f"case: {case}")["case"] != case:
        raise UserError(f"CASE={case}: YAML reads that as no name; take another")
    check()
    params = load()
    chosen = _model(model, params["models"])
    if chosen.block and chosen.name in params["models"]:
        raise UserError(f"MODEL={model}: {PARAMS} has another model of the name {chosen.name}")
    target = _target(case, table, chosen.kind, columns)
    taken = {"cases": case, "tasks": target.name, "runs": f"{case}-full"}
    if section := next((part for part, name in taken.items() if name in params[part]), None):
        raise UserError(f"CASE={case}: {PARAMS} has {section}.{taken[section]} already")
    like, recipe, retain = _alike(params, chosen.kind)
    blocks = [
        ("models", chosen.block),
        ("tasks", target.block),
        ("cases", _case(case, target.name, chosen.name, retain)),
        ("runs", _run(case, target.kind, like, recipe)),
        ("variants", f"  {case}-full: []"),
    ]

    def with_blocks(text: str) -> str:
        for section, block in blocks:
            text = insert(text, section, block) if block else text
        return text

    edit(with_blocks, check)
    _tell(case, table, target, like, recipe)


def _tell(case: str, table: str, target: Target, like: str, recipe: Mapping[str, Any]) -> None:
    """What was written, and what is left to do."""
    print(f"{PARAMS}: case {case}, run {case}-full ({target.told}); now `make run`")
    train, seen = load()["tasks"][target.name]["train"], recipe["steps"] * recipe["batch_size"]
    if seen < train:
        print(
            f"note: its steps, those of {like}, read {seen:,} of {train:,} train rows: set "
            f"runs.{case}-full.steps, and learning_rate, which is that of {like} too"
        )
    if UNKNOWN_SHA in target.block:
        print(f"note: files are to be fetched first, as the head of {table} says")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
