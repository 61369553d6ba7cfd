"""A task of params.yaml -> its rows, by the reader that its data name."""

import pandas as pd

from stages.config.tasks import Icd10, Newsgroups, Table, TaskConfig, Vader
from stages.sources.pinned import open_source
from stages.tasks.bbc import read_bbc
from stages.tasks.icd10 import read_icd10
from stages.tasks.newsgroups import read_newsgroups
from stages.tasks.table import read_table_rows
from stages.tasks.vader import read_vader


def read_rows(config: TaskConfig, seed: int) -> pd.DataFrame:
    """Fetch and parse. Raises UserError where the source is not what its pin says."""
    data = config.data
    source = open_source(data.source, sha256=data.sha256, revision=data.revision)
    if isinstance(data, Table):
        return read_table_rows(source, data)
    if isinstance(data, Icd10):
        return read_icd10(source, data.per_category, seed)
    if isinstance(data, Newsgroups):
        return read_newsgroups(source)
    if isinstance(data, Vader):
        return read_vader(source, data.corpus, data.threshold)
    return read_bbc(source)
