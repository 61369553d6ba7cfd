"""studies/<name>.yaml: a comparison of methods, laid over params.yaml."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, model_validator

from stages.config.reading import (
    NAME,
    PARAMS,
    Name,
    Names,
    Section,
    load,
    parse,
    parsed,
    suggestion,
)
from stages.config.runs import Rate, Seeds
from stages.errors import UserError

FOLDER = Path("studies")
Rates = Annotated[tuple[Rate, ...], Field(strict=False, min_length=1)]


class MethodConfig(Section):
    """`recipe`: laid over that of the case. `steps`: of a sequence, laid over both, one a step."""

    recipe: dict[str, Any] = Field(default_factory=dict)
    steps: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] | None = None
    learning_rates: Rates | None = None
    variants: Annotated[tuple[str, ...], Field(strict=False)] = ()


class CaseConfig(Section):
    """`sequence`: the targets that each step learns; None where there are no steps."""

    recipe: dict[str, Any]
    sequence: Annotated[tuple[Names, ...], Field(strict=False, min_length=2)] | None = None
    learning_rates: Rates
    methods: Annotated[dict[Name, MethodConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _steps_are_whole(self) -> Self:
        wanted = len(self.sequence or ())
        for name, method in self.methods.items():
            if method.steps is not None and len(method.steps) != wanted:
                raise ValueError(
                    f"methods.{name}.steps = {len(method.steps)} recipes: the sequence has "
                    f"{wanted} steps: give one for each"
                )
        return self


class StudyConfig(Section):
    seeds: Seeds
    params: dict[str, Any]
    cases: Annotated[dict[Name, CaseConfig], Field(min_length=1)]


class StudyRun(NamedTuple):
    """A run of the study. `recipe`: its name without the seed: the seeds of one are averaged.
    `steps`: the recipes of its sequence up to it, it last; it alone where it starts from the base.
    """

    case: str
    method: str
    recipe: str
    seed: int
    settings: dict[str, Any]
    variants: tuple[str, ...]
    steps: tuple[str, ...]


def read_study(name: str) -> StudyConfig:
    """Raises UserError with a line for every mistake of the study itself; what its runs are made of
    is params.yaml's to check, see `laid_over`."""
    path = FOLDER / f"{name}.yaml"
    if not NAME.fullmatch(name):
        raise UserError(f"STUDY={name}: give the name of a file of {FOLDER}, without .yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        known = sorted(one.stem for one in FOLDER.glob("*.yaml"))
        raise UserError(f"{path}: not there, or no text{suggestion(name, known)}") from None
    try:
        return parse(StudyConfig, parsed(text), "study")
    except UserError as error:
        lines = str(error).replace(f"{PARAMS}: study.", f"{path}: ")
        raise UserError(lines.replace(f"{PARAMS}: ", f"{path}: ")) from None


def runs_of(study: StudyConfig) -> dict[str, StudyRun]:
    """Every run by its name, case by case and, in each, all of a seed before the next; the steps of
    a sequence in order."""
    return {
        named(run.recipe, seed): run
        for case, of_case in study.cases.items()
        for seed in study.seeds
        for method, told in of_case.methods.items()
        for rate in told.learning_rates or of_case.learning_rates
        for run in _steps(case, of_case, method, rate, seed)
    }


def named(recipe: str, seed: int) -> str:
    return f"{recipe}-s{seed}"


def _steps(
    case: str, of_case: CaseConfig, method: str, rate: float, seed: int
) -> Iterator[StudyRun]:
    """One run; of a sequence one a step, each from the one before."""
    told, whole = of_case.methods[method], f"{case}-{method}-{_slug(rate)}"
    shared = {
        "case": case,
        "pool": "target",
        "teacher": f"models/base/{case}.json",
        "methods": {},
        **of_case.recipe,
        **told.recipe,
        "learning_rate": rate,
        "seeds": [seed],
    }
    if of_case.sequence is None:
        yield StudyRun(case, method, whole, seed, shared, told.variants, (whole,))
        return
    way: tuple[str, ...] = ()
    for number, learns in enumerate(of_case.sequence, start=1):
        own = told.steps[number - 1] if told.steps else {}
        begun: dict[str, Any] = {"learns": list(learns)}
        if way:
            begun |= {"teacher": f"models/tuned/{named(way[-1], seed)}", "starts": "teacher"}
        recipe = f"{whole}-{number}"
        way = (*way, recipe)
        yield StudyRun(case, method, recipe, seed, {**shared, **own, **begun}, told.variants, way)


def _slug(rate: float) -> str:
    """0.00015 -> 15e-5: a name has no dots."""
    _, digits, exponent = Decimal(repr(rate)).normalize().as_tuple()
    return f"{''.join(map(str, digits))}e{exponent}"


def laid_over(study: StudyConfig) -> dict[str, Any]:
    """The params.yaml of the study's workspace: its cases, its runs, and nothing to sweep."""
    runs = runs_of(study)
    params = _merged(load(), study.params)
    unknown = [case for case in study.cases if case not in params["cases"]]
    if unknown:
        known = suggestion(unknown[0], list(params["cases"]))
        raise UserError(f"study of {unknown[0]}: no such case in params.yaml or in params{known}")
    params.pop("sweep", None)
    params["cases"] = {case: params["cases"][case] for case in study.cases}
    params["runs"] = {name: run.settings for name, run in runs.items()}
    params["variants"] = {name: list(run.variants) for name, run in runs.items()}
    kept = {task for case in params["cases"].values() for task in case["retain"]}
    gate = dict(params["compare"]["gate"])
    gate["margins"] = {task: told for task, told in gate["margins"].items() if task in kept}
    params["compare"] = {**params["compare"], "ensembles": {}, "gate": gate}
    return params


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = _merged(found[key], value) if both else value
    return found


def chosen(asked: str, known: Sequence[str], what: str) -> list[str]:
    """Those of `known` that `asked` names, with commas or spaces between; all where it is empty."""
    names = asked.replace(",", " ").split()
    for name in names:
        if name not in known:
            raise UserError(f"{what}={name}: not in the study{suggestion(name, known)}")
    return [name for name in known if not names or name in names]
