"""A model that has copies of blocks among its own: which layer stands for which of the base's."""

import re
from typing import Any

COPIES = "copied_layers"
"""The key of config.json under which the places of the copies are kept."""
LAYER = re.compile(r"(?:^|\.)(\d+)\.")


def copies_of(body: Any) -> tuple[int, ...]:
    """The places of the layers that the base lacks, each right over the layer that it copies."""
    return tuple(getattr(getattr(body, "config", None), COPIES, ()))


def name_in_base(name: str, copies: tuple[int, ...]) -> str | None:
    """What a parameter of the model is called in the base; None of one that the base lacks."""
    found = LAYER.search(name)
    if not found or not copies:
        return name
    layer = int(found[1])
    if layer in copies:
        return None
    own = layer - sum(copy < layer for copy in copies)
    return f"{name[: found.start(1)]}{own}{name[found.end(1) :]}"
