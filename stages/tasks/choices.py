"""Multiple choice: which wrong answers stand beside the right one, and where it stands itself."""

from collections.abc import Callable, Iterable
from typing import Any

from stages.errors import UserError
from stages.storage import content_id
from stages.tasks.splitting import normalise

COLUMNS = ["context", "choices", "answer", "group", "slice"]
"""A row of a multiple-choice task. Each choice begins with the space that follows `context`."""

WRONG = 3


def choose(
    seed: int,
    context: str,
    right: str,
    candidates: Iterable[str],
    *,
    distance: Callable[[str], Any] = lambda _: 0,
    wrong: int = WRONG,
) -> tuple[list[str], int]:
    """The choices, each after a space, and the index of the right one.

    The `wrong` candidates of the least `distance` are taken; a hash of the seed, the context
    and the candidate breaks ties, and another one places the right answer: neither the order
    of the candidates nor other rows matter. No choice is part of another, and no wrong one
    stands in the context. Raises UserError where too few candidates are left.
    """
    ranked = sorted(
        set(candidates),
        key=lambda candidate: (distance(candidate), content_id(str(seed), context, candidate)),
    )
    choices = [right]
    for candidate in ranked:
        if len(choices) > wrong:
            break
        apart = not any(overlap(candidate, choice) for choice in choices)
        if apart and not gives_away(context, candidate):
            choices.append(candidate)
    if len(choices) <= wrong:
        raise UserError(
            f"{context!r}: {len(choices) - 1} wrong answers to be had, {wrong} needed; "
            "give the source more rows"
        )
    answer = int(content_id(str(seed), context), 16) % len(choices)
    choices = [*choices[1 : answer + 1], right, *choices[answer + 1 :]]
    return [f" {choice}" for choice in choices], answer


def overlap(one: str, other: str) -> bool:
    """Whether one of two texts is part of the other, case and punctuation aside."""
    one, other = normalise(one), normalise(other)
    return one in other or other in one


def gives_away(context: str, answer: str) -> bool:
    """Whether an answer stands in the context, word for word."""
    return f" {normalise(answer)} " in f" {normalise(context)} "
