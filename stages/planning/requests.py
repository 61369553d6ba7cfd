"""What a row is asked in: its choices, the windows of its context, and the requests of an lm-eval
task."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stages.tasks.extra import require_harness

Count = Callable[[Any], list[int]]
"""Tokens of each of some texts, special ones included."""
Lengths = tuple[list[int], list[int], list[int]]
"""Of each row: tokens that are read, those that are trained on, and those that are judged."""


def of_choices(
    contexts: Iterable[Any], choices: Iterable[Iterable[Any]], most: int, tokens: Count
) -> Lengths:
    """Of multiple choice. A context is read once for all of its choices, and loses its beginning
    where it and a choice are more than `most`."""
    found: Lengths = ([], [], [])
    for context, row in zip(tokens([str(one) for one in contexts]), choices, strict=True):
        each = _behind([str(one) for one in row], tokens)
        found[0].append(_together(context, each, most))
        found[1].append(min(most, context + max(each)))
        found[2].append(sum(each))
    return found


def _behind(texts: Sequence[str], tokens: Count) -> list[int]:
    """Tokens of what follows a context, which has the special ones."""
    *found, special = tokens([*texts, ""])
    return [count - special for count in found]


def _together(context: int, each: Sequence[int], most: int) -> int:
    if context + max(each) <= most:
        return context + sum(each)
    # Cut contexts begin at other tokens, and are read apart.
    return sum(min(most, context + n) for n in each)


def of_windows(
    questions: Iterable[Any], contexts: Iterable[Any], most: int, tokens: Count
) -> Lengths:
    """Of questions on contexts, which an encoder reads in windows: see `Tokenizer.windows`. Each
    window is a row of its own in training. A pair has a special token more than one text, as BERT's
    has; where it has others, a window is a token off."""
    found: Lengths = ([], [], [])
    (special,) = tokens([""])
    third = most // 3
    counts = zip(
        *(tokens([str(one) for one in texts]) for texts in (questions, contexts)), strict=True
    )
    for question, context in counts:
        around = min(third, question - special) + special + 1
        room, left = max(1, most - around), context - special
        further = max(0, math.ceil((left - room) / max(1, room - third)))
        windows = [most] * further + [around + left - further * (room - third)]
        found[0].append(sum(windows))
        found[1].extend(windows)
        found[2].extend(windows)
    return found


def of_requests(rows: Iterable[str], most: int, tokens: Count) -> tuple[list[int], list[int]]:
    """Of lm-eval's requests as `prepare` wrote them, examples and all: tokens of each row that are
    read, and of them those that are judged."""
    found: tuple[list[int], list[int]] = ([], [])
    for row in rows:
        read = judged = 0
        for context, rest in _by_context(json.loads(row)).items():
            (begun,) = tokens([context])
            if not rest:  # a whole text, in as many windows as it takes
                read, judged = read + begun, judged + begun
            elif said := [one for one in rest if isinstance(one, str)]:
                each = _behind(said, tokens)
                read, judged = read + _together(begun, each, most), judged + sum(each)
            else:
                read += min(max(1, most - max(map(_written, rest))), begun)
        found[0].append(read)
        found[1].append(judged)
    return found


def written_of_requests(rows: Iterable[str]) -> int:
    """Tokens that are written after each row, at most; 0 where nothing is."""
    asked = (given for row in rows for _, *rest in json.loads(row) for given in rest)
    return max((_written(given) for given in asked if isinstance(given, dict)), default=0)


def _by_context(requests: Iterable[Sequence[Any]]) -> dict[str, list[Any]]:
    """What follows each context, continuations or settings, in order."""
    found = defaultdict(list)
    for context, *rest in requests:
        found[str(context)].extend(rest)
    return found


def _written(settings: dict[str, Any]) -> int:
    """By the settings that lm-eval calls generation_kwargs."""
    require_harness()
    from stages.tasks.lm_eval_rows import LENGTHS, UNSAID  # slow to load

    return next((int(settings[key]) for key in LENGTHS if key in settings), UNSAID)
