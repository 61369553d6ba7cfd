"""Stage prepare: fetch a case's model and data, verify, split, and keep train and test apart."""

import sys
from pathlib import Path
from typing import Any

from stages import errors
from stages.config.cases import read_case
from stages.config.models import read_model
from stages.config.seed import read_seed
from stages.config.tasks import ALLOWED, OPTIONS, TaskConfig, read_tasks
from stages.models.manifest import make_manifest
from stages.models.template import require_template
from stages.models.word_head import NEEDED, require_head
from stages.phases import phase, recorded
from stages.storage import atomic_directory, write_json
from stages.tasks.examples import (
    SPLITS,
    Examples,
    Task,
    path_of,
    write_examples,
)
from stages.tasks.learned import labels_of_train, options_of_train
from stages.tasks.overlap import remove_overlap
from stages.tasks.reading import read_split
from stages.tasks.splitting import Split, check_test, drop_unknown_labels

FOUND = ("source", "metric")
"""What the card says of an lm-eval task, though params.yaml may leave it to the task's YAML."""


def _task(name: str, config: TaskConfig, split: Split) -> Task:
    labels = labels_of_train(name, split.rows["train"])
    options: dict[str, Any] = {
        option: getattr(config, option) for option in OPTIONS.get(config.kind, ())
    }
    options |= {
        option: value
        for option in ALLOWED.get(config.kind, ())
        if (value := getattr(config, option)) is not None
    }
    options |= options_of_train(name, split.rows["train"])
    if config.negative is not None:
        if config.negative not in labels:
            raise errors.UserError(
                f"tasks.{name}.negative = {config.negative!r}: is none of the {len(labels)} labels "
                f"of its train rows: {', '.join(labels[:10])}"
            )
        options["negative"] = config.negative
    if config.judge:
        options["judge"] = make_manifest(read_model(config.judge))
    return Task(name, config.kind, config.max_length, tuple(labels), options | split.options)


def _write_role(
    case: str, role: str, configs: dict[str, TaskConfig], splits: dict[str, Split]
) -> None:
    target = Path("data") / case / role
    with atomic_directory(target) as folder:
        for name, config in configs.items():
            task = _task(name, config, splits[name])
            for split in SPLITS:
                where = folder / path_of(case, role, split, name).relative_to(target)
                write_examples(where, Examples(task, splits[name].rows[split]))


def _card(
    config: TaskConfig, split: Split, removed: dict[str, int], unknown_label: int
) -> dict[str, Any]:
    return {
        "kind": config.kind,
        "data": config.data.model_dump(mode="json", exclude_none=True)
        | {key: split.options[key] for key in FOUND if key in split.options},
        "read": split.read,
        "empty": split.empty,
        "duplicates": split.duplicates,
        "ambiguous": split.ambiguous,
        "cut_off": split.cut_off,
        "unknown_label": unknown_label,
        "overlap_removed": removed,
        "rows": {name: len(rows) for name, rows in split.rows.items()},
        "groups": {name: int(rows["group"].nunique()) for name, rows in split.rows.items()},
    }


@recorded("prepare")
def main(case: str) -> None:
    config, seed = read_case(case), read_seed()
    model = read_model(config.model)
    roles = {"target": read_tasks(config.targets), "retain": read_tasks(config.retain)}
    configs = {name: task for tasks in roles.values() for name, task in tasks.items()}

    with phase("model"):
        manifest = make_manifest(model)
    if chats := [name for name, task in configs.items() if task.kind == "chat"]:
        require_template(model, chats)
    said = [name for name, task in configs.items() if task.kind in NEEDED]
    if said and model.kind == "encoder":
        require_head(model, said)
    with phase("rows"):
        splits = {name: read_split(name, task, seed) for name, task in configs.items()}
    with phase("overlap"):
        removed = remove_overlap(configs, splits)
    unknown = {
        name: drop_unknown_labels(name, split.rows) if "label" in split.rows["train"] else 0
        for name, split in splits.items()
    }

    for name, task in configs.items():
        check_test(name, task.kind, splits[name].rows["test"])
    for role, tasks in roles.items():
        _write_role(case, role, tasks, splits)
    write_json(Path(f"models/base/{case}.json"), manifest)
    cards = {
        name: _card(task, splits[name], removed[name], unknown[name])
        for name, task in configs.items()
    }
    write_json(Path(f"metrics/cards/{case}.json"), {"tasks": cards, "model": manifest})
    for name, card in cards.items():
        rows = ", ".join(f"{count} {split}" for split, count in card["rows"].items())
        out = card["duplicates"] + card["ambiguous"] + card["empty"]
        cut, overlap = card["cut_off"], sum(removed[name].values())
        print(
            f"{name}: {rows}; left out: {out} duplicate or empty, {cut} of groups that do not fit, "
            f"{overlap} overlapping a test"
        )


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
