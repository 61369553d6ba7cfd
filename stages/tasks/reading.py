"""A task of params.yaml -> its rows, by the reader that its data name."""

import pandas as pd

from stages.config.readers import (
    Bbc,
    Chatter,
    Cldr,
    Conll,
    Files,
    Geonames,
    HumanEval,
    Icd10,
    LmEval,
    Made,
    Newsgroups,
    Reuters,
    Squad,
    Table,
    Vader,
)
from stages.config.tasks import TaskConfig
from stages.sources.pinned import Source, open_source
from stages.tasks.addition import read_addition
from stages.tasks.agreement import read_agreement
from stages.tasks.bbc import read_bbc, to_writing
from stages.tasks.capitals import read_capitals
from stages.tasks.conll import read_conll
from stages.tasks.country_names import read_country_names
from stages.tasks.examples import SPLITS
from stages.tasks.extra import require_harness
from stages.tasks.humaneval import read_humaneval
from stages.tasks.icd10 import read_icd10
from stages.tasks.instructions import read_instructions
from stages.tasks.newsgroups import read_newsgroups
from stages.tasks.reuters import read_reuters
from stages.tasks.splitting import Split, split_rows
from stages.tasks.squad import read_squad
from stages.tasks.table import read_table_rows
from stages.tasks.trivia import read_trivia
from stages.tasks.vader import read_vader

MADE = {
    "agreement": read_agreement,
    "addition": read_addition,
    "instructions": read_instructions,
}


def read_split(name: str, config: TaskConfig, seed: int) -> Split:
    """Fetch, parse and split. Raises UserError where the source is not what its pin says, and
    where a split that is needed would be empty."""
    if isinstance(config.data, LmEval):
        require_harness()
        # Seconds to import, and an optional extra: only a case with such a task has it.
        from stages.tasks.lm_eval_rows import read_lm_eval

        return read_lm_eval(name, config, config.data, seed)
    sizes = {split: getattr(config, split) for split in SPLITS}
    return split_rows(name, read_rows(config, seed), config.kind, sizes, seed)


def read_rows(config: TaskConfig, seed: int) -> pd.DataFrame:
    """Fetch and parse, not of lm-eval. Raises UserError where the source is not what its pin
    says."""
    data = config.data
    if isinstance(data, LmEval):
        raise ValueError("lm-eval has no rows before they are split: see read_split")
    if isinstance(data, Made):
        return MADE[data.reader](seed)
    if isinstance(data, Cldr):
        return read_country_names(data.language, seed)
    source = open_source(data.source, sha256=data.sha256, revision=data.revision)
    rows = _from_source(data, source, seed)
    if config.kind == "language-modelling" and "prompt" not in rows:
        rows = rows.assign(prompt="")  # a table's texts follow nothing
    if config.kind == "refusal" and "slice" not in rows:
        rows = rows.assign(slice=rows["expected"])
    return to_writing(rows) if config.kind == "news-writing" else rows


def _from_source(
    data: Files | Icd10 | Newsgroups | Reuters | Vader | Geonames | Chatter | HumanEval | Bbc,
    source: Source,
    seed: int,
) -> pd.DataFrame:
    match data:
        case Files():
            return _own(data, source)
        case Icd10():
            return read_icd10(source, data.per_category, seed)
        case Newsgroups():
            return read_newsgroups(source)
        case Reuters():
            return read_reuters(source)
        case Vader():
            return read_vader(source, data.corpus, data.threshold)
        case Geonames():
            return read_capitals(source, seed)
        case Chatter():
            return read_trivia(source, seed)
        case HumanEval():
            return read_humaneval(source)
        case Bbc():
            return read_bbc(source)


def _own(data: Files, source: Source) -> pd.DataFrame:
    match data:
        case Conll():
            return read_conll(source, data)
        case Squad():
            return read_squad(source, data)
        case Table():
            return read_table_rows(source, data)
    raise ValueError(f"no reader of {type(data).__name__}")
