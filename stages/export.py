"""A tuned model to take away: `python -m stages.export <run> [folder] [seed]`.

The folder, export/<run> if none is given, holds what transformers (of an adapter, PEFT) loads as it
is, the base's tokenizer, and a model card that says what was gained and lost. A variant of a run is
given as <run>@<variant>.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from stages import errors
from stages.config.evaluation import read_evaluation
from stages.config.reading import suggestion
from stages.config.runs import RunConfig, read_runs
from stages.config.stale import require_fresh
from stages.config.variants import Variant, read_variants
from stages.errors import UserError
from stages.models.base import materialise
from stages.models.loading import EncoderModel
from stages.models.pretrained import AUTO, load_tokenizer
from stages.models.tuned import HEADS, MANIFEST, TRAINED, has_adapter, save_tuned
from stages.report.gate import gate_lines
from stages.report.lines import COLUMNS, OF_RUN, lines
from stages.scoring.derived import base_heads
from stages.storage import atomic_directory, read_json
from stages.training.methods.ewc import LEFT
from stages.variants.body import body_of
from stages.variants.variant import Origin, made

SCORES, GATE = Path("metrics/scores.json"), Path("metrics/gate.json")
BESIDE = ("fold-*", "step-*", LEFT, TRAINED)
"""What a seed's folder holds beside the model: folds, snapshots, and what later stages read."""


def _card(model: str, config: RunConfig, seed: int, written: Path, target: Path) -> Iterator[str]:
    """Lines of Markdown, after the fields that hubs read. `written`: the folder that will be
    `target`."""
    base = read_json(written / MANIFEST)
    adapter, kind = has_adapter(written), base["kind"]
    run, _, variant = model.partition(OF_RUN)
    auto = AUTO[kind]
    found = [one for one in lines(_told(SCORES, config.case)) if one.run == model]
    if not found:
        raise UserError(f"{SCORES}: nothing of {model}; run `dvc repro`")
    yield from ("---", f"library_name: {'peft' if adapter else 'transformers'}")
    yield from ("tags: [palimpsest]", "---", "", f"# {model}", "")
    tuned = f"tuned by the recipe `{run}` of case `{config.case}`, seed {seed}"
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
    if (written / HEADS).exists():
        yield (
            f"{HEADS}: for each target `<target>.weight` and `<target>.bias`, logits of its labels "
            "from that embedding."
        )


def _told(path: Path, *keys: str) -> Any:
    """What the file says, key by key. Raises UserError where it says nothing of one."""
    found = read_json(path)
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            raise UserError(f"{path}: nothing of {key}; run `dvc repro`")
        found = found[key]
    return found


def _seed(config: RunConfig, run: str, given: str | None) -> int:
    if given is None:
        return config.seeds[0]
    if given not in map(str, config.seeds):
        known = ", ".join(map(str, config.seeds))
        raise UserError(f"{given}: no seed of {run}; give one of {known}")
    return int(given)


def _variant(run: str, name: str) -> Variant:
    named = {one.name: one for one in read_variants(run)}
    if name not in named:
        raise UserError(f"{run}{OF_RUN}{name}: no such variant{suggestion(name, list(named))}")
    if named[name].kind == "int8":
        raise UserError(
            f"{run}{OF_RUN}{name}: is the run asked in 8 bits on a CPU, no weights of its own: "
            f"export {run}, and let what serves it quantise"
        )
    return named[name]


def _write_variant(
    variant: Variant, run: str, config: RunConfig, seed: int, manifest: dict[str, Any], out: Path
) -> None:
    origin = Origin(manifest, materialise(manifest), Path(f"models/tuned/{run}"), config.seeds)
    if variant.kind == "wise":
        origin = replace(origin, heads=base_heads(config.case, origin, read_evaluation()))
    loaded = made(variant, origin, seed)
    heads = loaded.heads if isinstance(loaded, EncoderModel) else {}
    save_tuned(out, body_of(loaded), heads, manifest)


def main(model: str, folder: str | None = None, seed: str | None = None) -> None:
    runs = read_runs()
    run, _, name = model.partition(OF_RUN)
    if run not in runs:
        raise UserError(f"{run}: no such run{suggestion(run, list(runs))}")
    variant = _variant(run, name) if name else None
    number = _seed(runs[run], run, seed)
    source, target = Path(f"models/tuned/{run}/seed-{number}"), Path(folder or f"export/{model}")
    if not source.exists():
        raise UserError(f"{source}: not there; run `dvc pull` or `dvc repro`")
    if target.exists():
        raise UserError(f"{target}: is there already; give another folder, or remove it")
    require_fresh(GATE, [run])
    manifest: dict[str, Any] = read_json(source / MANIFEST)
    tokenizer = load_tokenizer(materialise(manifest))
    with atomic_directory(target) as temporary:
        if variant:
            _write_variant(variant, run, runs[run], number, manifest, temporary)
        else:
            beside = shutil.ignore_patterns(*BESIDE)
            shutil.copytree(source, temporary, dirs_exist_ok=True, ignore=beside)
        tokenizer.save_pretrained(temporary)
        card = "\n".join(_card(model, runs[run], number, temporary, target))
        (temporary / "README.md").write_text(f"{card}\n", encoding="utf-8")
    print(f"{target}: {model}, seed {number}; its README.md says what it gained and lost")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
