"""A text with two marked entities, as an encoder reads it.

Entity markers, and the states at the entities' starts: Soares et al. 2019 (arXiv 1906.03158,
section 3.2). The marks are signs that a pretrained model knows, rather than new tokens: Zhou and
Chen 2022 (arXiv 2102.01373, section 3.1), where they do as well or better.
"""

from collections.abc import Sequence

from stages.models.texts import Inputs, Tokenizer
from stages.tasks.examples import Examples

MARKS = ("@", "#")
"""Around the head, and around the tail."""


def read_entities(examples: Examples, tokenizer: Tokenizer) -> Inputs:
    """A row an example; its places are the marks before head and tail, whose states stand side by
    side. A longer text is read around its entities."""
    length = examples.task.max_length
    texts, places = [], []
    for text, (head, tail) in marked(examples):
        cut, begun = around(tokenizer.offsets(text), (head, tail), tokenizer.room(length))
        texts.append(text[begun:cut])
        places.append((head - begun, tail - begun))
    return tokenizer.at(texts, places, length)


def marked(examples: Examples) -> list[tuple[str, tuple[int, int]]]:
    """Each text with its marks, and the characters that those before head and tail are."""
    columns = (examples.rows[name] for name in ("text", "head", "tail", "starts"))
    return [
        mark(str(text), (str(head), str(tail)), [int(start) for start in starts])
        for text, head, tail, starts in zip(*columns, strict=True)
    ]


def mark(
    text: str, entities: tuple[str, str], starts: Sequence[int]
) -> tuple[str, tuple[int, int]]:
    parts: list[str] = []
    places, end = {}, 0
    for start, entity, sign in sorted(zip(starts, entities, MARKS, strict=True)):
        if before := text[end:start].strip():
            parts.append(before)
        places[sign] = sum(map(len, parts)) + len(parts)
        parts += [sign, entity.strip(), sign]
        end = start + len(entity)
    return " ".join([*parts, text[end:].strip()]).rstrip(), (places["@"], places["#"])


def around(
    offsets: Sequence[tuple[int, int]], places: Sequence[int], room: int
) -> tuple[int | None, int]:
    """Where to end and where to begin reading a text whose tokens have these `offsets`, so that
    `room` tokens hold both `places`, characters, in their middle; from the first place on where
    they are too far apart."""
    if len(offsets) <= room:
        return None, 0
    first, last = (
        next((at for at, (_, stop) in enumerate(offsets) if stop > place), len(offsets) - 1)
        for place in (min(places), max(places))
    )
    middle = (first + last + 1 - room) // 2
    begun = max(0, min(first, middle, len(offsets) - room))
    if last - first >= room:
        begun = first
    return offsets[min(len(offsets), begun + room) - 1][1], offsets[begun][0]
