"""Bars over work that is long in some projects and short in most."""

from functools import partial

from tqdm import tqdm

patient = partial(tqdm, disable=None, delay=5, leave=False)
"""A bar that shows itself in a terminal where the work takes longer than 5 s, and goes with it."""
