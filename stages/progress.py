"""Bars over long work: shown in a terminal, by the first of several processes."""

from functools import partial

from tqdm import tqdm

from stages import processes

bar = partial(tqdm, disable=None if processes.is_first() else True)
patient = partial(bar, delay=5, leave=False)
"""A bar over what is long in some projects and short in most: it shows itself where the work takes
longer than 5 s, and goes with it."""
