"""`python -m stages.check`: is params.yaml sound?

Every key and name, whether each method fits its case, and whether files of one's own that it names
are there; those of data are held against their sha256; and whether this machine can train
each run and score each variant. Nothing is fetched.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from stages import errors
from stages.checking.grids import of_grids
from stages.checking.methods import of_all, of_run, unread
from stages.checking.tasks import of_tasks
from stages.config.reading import PARAMS
from stages.config.whole import read_whole
from stages.errors import UserError
from stages.models.four_bits import four_bits
from stages.sources.own import own_mistakes
from stages.training.methods.method import Method
from stages.training.methods.table import chosen
from stages.variants.quantise import check_processor


def _uncomputed(sound: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Runs that this machine cannot train, and variants that it cannot score."""
    for name, run in sound["runs"].items():
        if run.quantise:
            try:
                four_bits()
            except UserError as error:
                yield f"runs.{name}.{error}"
    for name, variants in sound["variants"].items():
        if any(variant.kind == "int8" for variant in variants):
            try:
                check_processor()
            except UserError as error:
                yield f"variants.{name}: {error}"


def _found(mistakes: list[str]) -> dict[str, dict[str, Any]]:
    """section -> name -> what could be read of it. Adds a line for every mistake."""
    sound = read_whole(mistakes)
    methods: dict[str, list[Method]] = {}
    for name, run in sound["runs"].items():
        try:
            methods[name] = chosen(name, run)
        except UserError as error:
            mistakes.extend(str(error).splitlines())
        else:
            mistakes.extend(of_run(name, run, methods[name], sound))
            mistakes.extend(unread(name, run, methods[name]))
    mistakes.extend(of_all(methods, sound))
    mistakes.extend(of_tasks(sound))
    if not mistakes:
        mistakes.extend(of_grids(methods, sound))
    return sound


def _tell(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise UserError("\n".join(dict.fromkeys(mistakes)))


def check() -> None:
    """Of params.yaml alone. Raises UserError with one line a mistake."""
    mistakes: list[str] = []
    _found(mistakes)
    _tell(mistakes)


def main() -> None:
    """Of the user's own files that it names, and of the machine, too."""
    mistakes: list[str] = []
    sound = _found(mistakes)
    mistakes.extend(own_mistakes(sound["cases"], sound["tasks"], sound["models"]))
    mistakes.extend(_uncomputed(sound))
    _tell(mistakes)
    print(f"{PARAMS}: sound")


if __name__ == "__main__":
    errors.run(main, *sys.argv[1:])
