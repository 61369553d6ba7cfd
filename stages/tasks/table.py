"""Rows of one's own: csv, jsonl or parquet, from a file or from a data set of the hub."""

import tempfile
from pathlib import Path, PurePosixPath

import datasets
import pandas as pd
from datasets.exceptions import DatasetGenerationError

from stages.config.tasks import Table
from stages.errors import UserError
from stages.sources.pinned import Source

READERS = {
    ".json": datasets.Dataset.from_json,
    ".jsonl": datasets.Dataset.from_json,
    ".parquet": datasets.Dataset.from_parquet,
}


def read_table_rows(source: Source, config: Table) -> pd.DataFrame:
    """The columns that `config.columns` names, under this project's names; `split` if given.

    Raises UserError where a file or a column is missing, empty or of an unknown format.
    """
    files = config.files
    if files is None:
        name, *others = source.names()
        if others:
            raise UserError(
                f"{config.source}: holds {len(others) + 1} files ({name}, {others[0]} …); "
                "say under data.files which to read"
            )
        files = {"all": name}
    frames = []
    for split, name in files.items():
        frame = _read(source, name, config)
        frames.append(frame if split == "all" else frame.assign(split=split))
    return pd.concat(frames, ignore_index=True)


def _read(source: Source, name: str, config: Table) -> pd.DataFrame:
    path = PurePosixPath(name)
    if path.suffix != ".csv" and path.suffix not in READERS:
        known = ", ".join([".csv", *READERS])
        raise UserError(f"{config.source}: {name} ends in none of {known}")
    folder = source.folder("" if path.parent == PurePosixPath() else str(path.parent), [path.name])
    file = folder / path.name
    try:
        frame = _load(file) if file.stat().st_size else pd.DataFrame()
    except (DatasetGenerationError, ValueError, OSError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"{config.source}: {name} cannot be read: {reason}") from None
    if frame.empty:
        raise UserError(f"{config.source}: {name} has no rows")
    wanted: dict[str, str] = config.columns.model_dump(exclude_none=True)
    for role, column in wanted.items():
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
    return pd.DataFrame({role: frame[column].astype(str) for role, column in wanted.items()})


def _load(file: Path) -> pd.DataFrame:
    if file.suffix == ".csv":
        # All is text: 007 keeps its zeros, and NA or None is a word like any other.
        frame = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""])
        if not isinstance(frame.index, pd.RangeIndex):
            raise ValueError("its rows have more fields than its header")
        return frame
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what is wrong is said once
    with tempfile.TemporaryDirectory() as cache:
        data = READERS[file.suffix](str(file), cache_dir=cache)
        return pd.DataFrame(data.to_pandas())
