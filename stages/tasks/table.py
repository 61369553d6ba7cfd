"""Rows of one's own: csv, jsonl or parquet, from a file or from a data set of the hub."""

import tempfile
from pathlib import PurePosixPath

import datasets
import pandas as pd
from datasets.exceptions import DatasetGenerationError

from stages.config.tasks import Table
from stages.errors import UserError
from stages.sources.pinned import Source

READERS = {
    ".csv": datasets.Dataset.from_csv,
    ".json": datasets.Dataset.from_json,
    ".jsonl": datasets.Dataset.from_json,
    ".parquet": datasets.Dataset.from_parquet,
}


def read_table_rows(source: Source, config: Table) -> pd.DataFrame:
    """The columns that `config.columns` names, under this project's names; `split` if given.

    Raises UserError where a file or a column is missing, empty or of an unknown format.
    """
    files = config.files or {"all": source.names()[0]}
    frames = []
    for split, name in files.items():
        frame = _read(source, name, config)
        frames.append(frame if split == "all" else frame.assign(split=split))
    return pd.concat(frames, ignore_index=True)


def _read(source: Source, name: str, config: Table) -> pd.DataFrame:
    path = PurePosixPath(name)
    if path.suffix not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"{config.source}: {name} ends in none of {known}")
    folder = source.folder("" if path.parent == PurePosixPath() else str(path.parent), [path.name])
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        try:
            data = READERS[path.suffix](str(folder / path.name), cache_dir=cache)
        except (DatasetGenerationError, ValueError, OSError) as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(f"{config.source}: {name} cannot be read: {reason}") from None
        frame: pd.DataFrame = data.to_pandas()
    if frame.empty:
        raise UserError(f"{config.source}: {name} has no rows")
    wanted = {column: name for name, column in config.columns.model_dump(exclude_none=True).items()}
    for column, role in wanted.items():
        if column not in frame:
            raise UserError(
                f"{config.source}: {name} has no column {column!r} (for {role}); "
                f"it has {', '.join(map(str, frame.columns))}"
            )
        missing = frame.index[frame[column].isna()]
        if len(missing):
            raise UserError(
                f"{config.source}: {name}, row {missing[0] + 1}: column {column!r} is empty"
            )
    return frame[list(wanted)].rename(columns=wanted).astype(str)
