"""Which of the processes of one launch this is, as torch's launchers say it in the environment."""

import os


def number() -> int:
    """Of this process, from 0; 0 where there is one."""
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether it is this process that writes outs, prints and shows bars."""
    return number() == 0
