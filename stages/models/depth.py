"""How deep in a model a parameter lies, by its name."""

import re

LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
EMBEDDING = re.compile(r"embed(?!_out)|wte|wpe|(?:^|\.)shared\.|(?:^|\.)encoder\.LayerNorm\.")
"""DeBERTa's encoder.LayerNorm is that of its relative positions, which every layer reads."""


def layer_of(name: str) -> int | None:
    """The layer that a parameter is in, counted from 0; None of what is in none."""
    found = LAYER.search(name)
    return int(found[1]) if found else None


def is_embedding(name: str) -> bool:
    """Whether a parameter that is in no layer lies below them all."""
    return bool(EMBEDDING.search(name))
