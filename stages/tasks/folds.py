"""k-fold cross-validation: the train rows of a target in folds, groups never torn apart."""

from collections import Counter

from stages.errors import UserError
from stages.storage import content_id
from stages.tasks.examples import Examples


def in_folds(train: Examples, folds: int, seed: int) -> list[int]:
    """The fold of each row, from 0.

    Group after group, label by label and in the order of a hash with `seed`, goes to the fold that
    has fewest rows of that label, and of all: folds are alike in size and labels as far as groups
    allow. Raises UserError where a label stands in one group only, or in one fold, which could not
    be asked by a model that was trained on it, and where there are fewer groups than folds.
    """
    rows = train.rows
    labels = rows["label"] if train.task.labelled else rows["group"].map(lambda _: "")
    label_of = labels.groupby(rows["group"]).first()
    groups_of = rows.groupby(labels)["group"].nunique()
    if train.task.labelled and groups_of.min() < 2:
        raise UserError(
            f"folds = {folds}: task {train.task.name} has label {groups_of.idxmin()!r} in one "
            "group only, so one fold would never have seen it; leave folds out"
        )
    if len(label_of) < folds:
        raise UserError(
            f"folds = {folds}: task {train.task.name} has {len(label_of)} groups of train rows"
        )
    order = sorted(
        label_of.index, key=lambda group: (label_of[group], content_id(str(seed), "folds", group))
    )
    sizes, total, of_label = rows["group"].value_counts(), Counter[int](), Counter[object]()
    fold_of = {}
    for group in order:
        label = label_of[group]
        fold = min(range(folds), key=lambda one: (of_label[label, one], total[one], one))
        fold_of[group] = fold
        of_label[label, fold] += int(sizes[group])
        total[fold] += int(sizes[group])
    found = rows["group"].map(fold_of)
    asked = found.groupby(labels).nunique()
    if train.task.labelled and asked.min() < 2:
        raise UserError(
            f"folds = {folds}: task {train.task.name} has label {asked.idxmin()!r} in one fold "
            "only, whose model would never have seen it; leave folds out, or give fewer"
        )
    return [int(fold) for fold in found]


def held_out(train: Examples, folds: int, seed: int, fold: int) -> tuple[Examples, Examples]:
    """Rows to train on, and those of `fold`."""
    inside = [one == fold for one in in_folds(train, folds, seed)]
    outside = [not one for one in inside]
    kept, held = (train.rows[one].reset_index(drop=True) for one in (outside, inside))
    return Examples(train.task, kept), Examples(train.task, held)
