"""Which files of a source hold a task's rows."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from stages.config.readers import Files
from stages.errors import UserError, one_line
from stages.sources.pinned import Source
from stages.tasks.cells import WrongCellError


def chosen_files(source: Source, config: Files) -> Mapping[str, str]:
    """By split, or `all`. Raises UserError where it is not said which of several to read."""
    if config.files is not None:
        return {str(split): name for split, name in config.files.items()}
    name, *others = source.names()
    if others:
        raise UserError(
            f"{config.source}: holds {len(others) + 1} files ({name}, {others[0]} …); "
            "say under data.files which to read"
        )
    return {"all": name}


def read_files(
    source: Source, config: Files, read: Callable[[str], list[dict[str, Any]]]
) -> pd.DataFrame:
    """The rows that `read` finds in each file; `split` where files are of splits.

    Raises UserError that names the file where it raises WrongCellError.
    """
    frames = []
    for split, name in chosen_files(source, config).items():
        try:
            frame = pd.DataFrame(read(name))
        except WrongCellError as error:
            raise UserError(one_line(f"{config.source}: {name}{error}")) from None
        frames.append(frame if split == "all" else frame.assign(split=split))
    return pd.concat(frames, ignore_index=True)
