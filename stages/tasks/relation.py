"""Two entities marked in a text, as SemEval-2010 task 8 marks them (Hendrickx et al. 2010)."""

import re
from typing import Any

MARK = re.compile(r"</?e[12]>")
ORDERS = ("<e1></e1><e2></e2>", "<e2></e2><e1></e1>")


def unmarked(text: str) -> dict[str, Any] | None:
    """`text` without its marks; `head` and `tail`, what stands between `<e1>` and `</e1>`, and
    `<e2>` and `</e2>`; `starts`, where both begin. None where it is not marked so, each once and
    apart, or nothing is marked.
    """
    marks = list(MARK.finditer(text))
    if "".join(mark[0] for mark in marks) not in ORDERS:
        return None
    # What stands before each mark, and after the last one.
    ends = [0, *(mark.end() for mark in marks)]
    parts = [text[end : mark.start()] for end, mark in zip(ends, marks, strict=False)]
    parts.append(text[ends[-1] :])
    found = {
        marks[place][0]: (parts[place + 1], sum(map(len, parts[: place + 1]))) for place in (0, 2)
    }
    (head, first), (tail, second) = found["<e1>"], found["<e2>"]
    if not head.strip() or not tail.strip():
        return None
    return {"text": "".join(parts), "head": head, "tail": tail, "starts": [first, second]}
