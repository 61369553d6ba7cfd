"""A tuned model to take away: `python -m stages.export <run> [folder] [seed]`.

The folder, export/<run> if none is given, holds what transformers (of an adapter, PEFT) loads as it
is, the base's tokenizer, and a model card that says what was gained and lost.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages import errors
from stages.config.reading import suggestion
from stages.config.runs import RunConfig, read_runs
from stages.config.stale import require_fresh
from stages.errors import UserError
from stages.models.base import materialise
from stages.models.pretrained import AUTO, load_tokenizer
from stages.models.tuned import HEADS, MANIFEST, TRAINED, has_adapter
from stages.report.gate import gate_lines
from stages.report.lines import COLUMNS, lines
from stages.storage import atomic_directory, read_json
from stages.training.methods.ewc import LEFT

SCORES, GATE = Path("metrics/scores.json"), Path("metrics/gate.json")
BESIDE = ("fold-*", "step-*", LEFT, TRAINED)
"""What a seed's folder holds beside the model: folds, snapshots, and what later stages read."""


def _card(run: str, config: RunConfig, seed: int, source: Path, target: Path) -> Iterator[str]:
    """Lines of Markdown, after the fields that hubs read."""
    scores, gate = read_json(SCORES), read_json(GATE)
    base = read_json(source / MANIFEST)
    adapter, kind = has_adapter(source), base["kind"]
    auto = AUTO[kind]
    yield from ("---", f"library_name: {'peft' if adapter else 'transformers'}")
    yield from ("tags: [palimpsest]", "---", "", f"# {run}", "")
    yield f"{base['source']}, tuned by the recipe `{run}` of case `{config.case}`, seed {seed}."
    yield "Its licence is that of the base, and of the data that it was tuned on."
    yield from ("", "## What it gained and lost", "")
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{'---|' * len(COLUMNS)}"
    for line in lines(scores[config.case]):
        if line.run == run:
            yield f"| {' | '.join(line.cells())} |"
    yield ""
    yield "Change with its interval, + is better; a mean over all seeds of the run."
    yield ""
    for judged in gate_lines(run, gate["cases"][config.case][run]):
        yield f"- {judged.status}: {judged.said}"
    yield from ("", "## Loading", "", "```python")
    if adapter:
        yield "from peft import PeftModel"
        yield f"from transformers import {auto}, AutoTokenizer"
        yield f'base = {auto}.from_pretrained("<folder of {base["source"]}>")'
        yield f'model = PeftModel.from_pretrained(base, "{target}")'
    else:
        yield f"from transformers import {auto}, AutoTokenizer"
        yield f'model = {auto}.from_pretrained("{target}")'
    yield f'tokenizer = AutoTokenizer.from_pretrained("{target}")'
    yield "```"
    if kind == "encoder":
        yield f"\nA text's embedding: {base['pooling']} pooling of the last hidden states."
    if (source / HEADS).exists():
        yield (
            f"{HEADS}: for each target `<target>.weight` and `<target>.bias`, logits of its labels "
            "from that embedding."
        )


def _seed(config: RunConfig, run: str, given: str | None) -> int:
    if given is None:
        return config.seeds[0]
    if given not in map(str, config.seeds):
        known = ", ".join(map(str, config.seeds))
        raise UserError(f"{given}: no seed of {run}; give one of {known}")
    return int(given)


def main(run: str, folder: str | None = None, seed: str | None = None) -> None:
    runs = read_runs()
    if run not in runs:
        raise UserError(f"{run}: no such run{suggestion(run, list(runs))}")
    number = _seed(runs[run], run, seed)
    source, target = Path(f"models/tuned/{run}/seed-{number}"), Path(folder or f"export/{run}")
    if not source.exists():
        raise UserError(f"{source}: not there; run `dvc pull` or `dvc repro`")
    if target.exists():
        raise UserError(f"{target}: is there already; give another folder, or remove it")
    require_fresh(GATE, [run])
    manifest: dict[str, Any] = read_json(source / MANIFEST)
    card = "\n".join(_card(run, runs[run], number, source, target))
    tokenizer = load_tokenizer(materialise(manifest))
    with atomic_directory(target) as temporary:
        beside = shutil.ignore_patterns(*BESIDE)
        shutil.copytree(source, temporary, dirs_exist_ok=True, ignore=beside)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(f"{card}\n", encoding="utf-8")
    print(f"{target}: {run}, seed {number}; its README.md says what it gained and lost")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
