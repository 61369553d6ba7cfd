"""A tuned model to take away: `python -m stages.export <run> [folder] [seed]`.

The folder, export/<run> if none is given, holds what transformers (of an adapter, PEFT) loads as it
is, the base's tokenizer, and a model card that says what was gained and lost. A variant of a run is
given as <run>@<variant>.
"""

import shutil
import sys
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
from stages.model_card import GATE, model_card
from stages.models.base import materialise
from stages.models.loading import EncoderModel
from stages.models.pretrained import load_tokenizer
from stages.models.tuned import MANIFEST, TRAINED, save_tuned
from stages.report.lines import OF_RUN
from stages.scoring.derived import ONCE, base_heads
from stages.storage import atomic_directory, read_json
from stages.training.methods.ewc import LEFT
from stages.variants.body import body_of
from stages.variants.variant import Origin, made

BESIDE = ("fold-*", "step-*", LEFT, TRAINED)
"""What a seed's folder holds beside the model: folds, snapshots, and what later stages read."""


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
    number, seeds = _seed(runs[run], run, seed), runs[run].seeds
    if not (variant and variant.kind in ONCE):
        seeds = (number,)
    elif seed is not None:
        raise UserError(f"{seed}: {model} is one model of all seeds; leave the seed out")
    made_of = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
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
        card = "\n".join(model_card(model, runs[run], made_of, temporary, target))
        (temporary / "README.md").write_text(f"{card}\n", encoding="utf-8")
    print(f"{target}: {model}, {made_of}; its README.md says what it gained and lost")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
