"""The README.md of a model that is exported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.models.pretrained import AUTO
from stages.models.tuned import HEADS, MANIFEST, has_adapter
from stages.report.gate import gate_lines
from stages.report.lines import COLUMNS, OF_RUN, lines
from stages.storage import read_json
from stages.tasks.examples import Task, read_role

SCORES, GATE = Path("metrics/scores.json"), Path("metrics/gate.json")
ROWS_OF = {
    "classes": "logits of {labels}, from the text's embedding",
    "entities": "logits of {labels}, from the states of both entities' first tokens side by side",
    "words": "logits of {labels}, from the state of a word's first token",
    "span": "logits of the answer's first and last token, from each token's state (the first token "
    "of the text: no answer)",
    "labels": "logits of {labels}, each by itself, from the text's embedding",
    "value": "from the text's embedding a number, times {spread:.6g} plus {mean:.6g} the value",
}
"""What the rows of a head's weight are, by what it gives: see HEADS of stages/config/kinds.py."""


def model_card(
    model: str, config: RunConfig, seeds: str, written: Path, target: Path
) -> Iterator[str]:
    """Lines of Markdown, after the fields that hubs read. `model`: the run, or <run>@<variant>;
    `seeds`: which it is of; `written`: the folder that will be `target`."""
    base = read_json(written / MANIFEST)
    adapter = has_adapter(written)
    run, _, variant = model.partition(OF_RUN)
    found = [one for one in lines(_told(SCORES, config.case)) if one.run == model]
    if not found:
        raise UserError(f"{SCORES}: nothing of {model}; run `dvc repro`")
    yield from ("---", f"library_name: {'peft' if adapter else 'transformers'}")
    yield from ("tags: [palimpsest]", "---", "", f"# {model}", "")
    tuned = f"tuned by the recipe `{run}` of case `{config.case}`, {seeds}"
    yield f"{base['source']}, {tuned}{f', and its variant `{variant}`' if variant else ''}."
    yield "Its licence is that of the base, and of the data that it was tuned on."
    yield from ("", "## What it gained and lost", "")
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for line in found:
        yield f"| {' | '.join(line.cells())} |"
    yield ""
    yield "Change with its interval, + is better; a mean over all seeds of the run."
    yield ""
    if variant:
        yield "The gate judges runs. Chosen by these figures, a variant is not as good as they say."
    else:
        for judged in gate_lines(run, _told(GATE, "cases", config.case, run)):
            yield f"- {judged.status}: {judged.said}"
    yield from ("", "## Loading", "", "```python")
    yield from _loading(base, adapter, target)
    yield "```"
    if base["kind"] == "encoder":
        yield f"\nA text's embedding: {base['pooling']} pooling of the last hidden states."
    if (written / HEADS).exists():
        yield from _heads(written, config.case)


def _loading(base: dict[str, Any], adapter: bool, target: Path) -> Iterator[str]:
    auto = AUTO[base["kind"]]
    if adapter:
        yield "from peft import PeftModel"
        yield f"from transformers import {auto}, AutoTokenizer"
        folder = f"<folder of {base['source']}>{'/' + base['path'] if base.get('path') else ''}"
        file = f', gguf_file="{base["gguf"]}"' if base.get("gguf") else ""
        yield f'base = {auto}.from_pretrained("{folder}"{file})'
        yield f'model = PeftModel.from_pretrained(base, "{target}")'
    else:
        yield f"from transformers import {auto}, AutoTokenizer"
        yield f'model = {auto}.from_pretrained("{target}")'
    yield f'tokenizer = AutoTokenizer.from_pretrained("{target}")'


def _heads(written: Path, case: str) -> Iterator[str]:
    known = {one.task.name: one.task for one in read_role(case, "target", "test")}
    with safe_open(written / HEADS, framework="np") as held:
        names = sorted({name.rpartition(".")[0] for name in held.keys()})  # noqa: SIM118
    yield from ("", f"{HEADS} has `<target>.weight` and `<target>.bias` of each target:", "")
    for name in names:
        if name not in known:
            raise UserError(f"data/{case}: nothing of {name}; run `dvc pull` or `dvc repro`")
        yield f"- `{name}`, {known[name].kind}: {_rows_of(known[name])}."


def _rows_of(task: Task) -> str:
    told = {"mean": 0.0, "spread": 1.0, **task.options, "labels": ", ".join(task.labels)}
    return ROWS_OF[str(task.head)].format(**told)


def _told(path: Path, *keys: str) -> Any:
    """What the file says, key by key. Raises UserError where it says nothing of one."""
    found = read_json(path)
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            raise UserError(f"{path}: nothing of {key}; run `dvc repro`")
        found = found[key]
    return found
