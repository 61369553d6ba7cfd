"""Whether an answer keeps to an instruction, in the spirit of IFEval (arXiv 2311.07911).

What an answer says is not judged, only its form; an empty answer passes nothing.
"""

import json
import re
from collections.abc import Callable


def passes(check: str, argument: str, answer: str) -> bool:
    """Whether `answer` keeps to the `check`; `argument` is its number or word, or empty."""
    answer = answer.strip()
    return bool(answer) and CHECKS[check](argument, answer)


def _words(text: str) -> list[str]:
    """What stands between spaces and holds a letter or a digit, punctuation around it off."""
    stripped = (re.sub(r"^\W+|\W+$", "", word).casefold() for word in text.split())
    return [word for word in stripped if word]


def _upper_case(_: str, answer: str) -> bool:
    return answer.isupper()


def _lower_case(_: str, answer: str) -> bool:
    return answer.islower()


def _exact_words(argument: str, answer: str) -> bool:
    return len(_words(answer)) == int(argument)


def _bullet_list(argument: str, answer: str) -> bool:
    """As many lines that begin with a dash, a star or a dot; other lines may stand around."""
    return len(re.findall(r"^\s*[-*•]\s+\S", answer, re.MULTILINE)) == int(argument)


def _numbered_list(argument: str, answer: str) -> bool:
    """Lines that begin with `1.` or `1)`, and so on to the number asked for."""
    numbers = re.findall(r"^\s*(\d+)[.)]\s+\S", answer, re.MULTILINE)
    return numbers == [str(number + 1) for number in range(int(argument))]


def _json(argument: str, answer: str) -> bool:
    """An object that has the key, alone or in a code fence."""
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*)\n\s*```", answer, re.DOTALL | re.IGNORECASE)
    try:
        value = json.loads(fenced[1] if fenced else answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and argument in value


def _starts_with(argument: str, answer: str) -> bool:
    return _words(answer)[:1] == [argument.casefold()]


def _ends_with(argument: str, answer: str) -> bool:
    return _words(answer)[-1:] == [argument.casefold()]


def _contains(argument: str, answer: str) -> bool:
    return argument.casefold() in _words(answer)


def _no_comma(_: str, answer: str) -> bool:
    return "," not in answer


def _one_sentence(_: str, answer: str) -> bool:
    """One line, and no point, question or exclamation mark but at its end."""
    return bool(re.fullmatch(r"(?:[^.!?\n]|[.!?](?=\w))+[.!?]+\W*", answer))


def _question(_: str, answer: str) -> bool:
    return answer.endswith("?")


CHECKS: dict[str, Callable[[str, str], bool]] = {
    "upper-case": _upper_case,
    "lower-case": _lower_case,
    "exact-words": _exact_words,
    "bullet-list": _bullet_list,
    "numbered-list": _numbered_list,
    "json": _json,
    "starts-with": _starts_with,
    "ends-with": _ends_with,
    "contains": _contains,
    "no-comma": _no_comma,
    "one-sentence": _one_sentence,
    "question": _question,
}
