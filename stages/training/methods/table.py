"""The methods there are: an import here makes one known to params.yaml."""

# ruff: noqa: F401
from collections.abc import Iterator, Sequence

from stages.config.reading import mistake, parse, suggestion
from stages.config.runs import RunConfig
from stages.errors import UserError
from stages.training.methods.adalora import AdaLora
from stages.training.methods.adapter import Adapter
from stages.training.methods.augment import Augment
from stages.training.methods.balance import Balance
from stages.training.methods.block_expansion import BlockExpansion
from stages.training.methods.distil import Distil
from stages.training.methods.dropout import Dropout
from stages.training.methods.ewc import Ewc
from stages.training.methods.fgm import Fgm
from stages.training.methods.freeze import Freeze
from stages.training.methods.l2_sp import L2SP
from stages.training.methods.label_smoothing import LabelSmoothing
from stages.training.methods.lora import Lora
from stages.training.methods.lwf import Lwf
from stages.training.methods.method import Fit, Method
from stages.training.methods.norms import L1, L2
from stages.training.methods.replay import Replay
from stages.training.methods.self_replay import SelfReplay
from stages.training.methods.self_training import SelfTraining
from stages.training.methods.supervised_contrastive import SupervisedContrastive


def chosen(run: str, config: RunConfig) -> list[Method]:
    """The methods of a run, in order of their names. Raises UserError with a line a mistake."""
    known = {method.name: method for method in Method.__subclasses__()}
    methods, mistakes = [], []
    for name, settings in sorted(config.methods.items()):
        key = f"runs.{run}.methods.{name}"
        if name not in known:
            near = suggestion(name, sorted(known))
            mistakes.append(mistake(key, settings, f"unknown key{near}"))
            continue
        if settings is None:
            mistakes.append(mistake(key, settings, "give its settings, or leave it out"))
            continue
        try:
            methods.append(parse(known[name], settings, key))
        except UserError as error:
            mistakes.extend(str(error).splitlines())
    if mistakes:
        raise UserError("\n".join(mistakes))
    return methods


def misfits(run: str, methods: Sequence[Method], fit: Fit) -> Iterator[str]:
    """A line for every one of the run's `methods` that its case does not fit."""
    for method in methods:
        reason = method.misfit(fit)
        if reason:
            settings = fit.run.methods[method.name]
            yield mistake(f"runs.{run}.methods.{method.name}", settings, reason)
