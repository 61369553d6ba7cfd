"""params.yaml, `seed`: what splits, samples and resampling derive from."""

from typing import Any

from stages.config.reading import load, lookup, mistake
from stages.errors import UserError


def read_seed() -> int:
    return seed_of(load())


def seed_of(params: dict[str, Any]) -> int:
    """The seed of what `load` gave."""
    seed = lookup(params, "seed")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
        raise UserError(mistake("seed", seed, "give a whole number from 0 to 2147483647"))
    return seed
