"""20 Newsgroups, as split by its authors: which group was this posted to?"""

import pandas as pd

from stages.sources.pinned import Source
from stages.tasks.orange import FOLDER, labelled_texts

FILES = {split: f"{FOLDER}20newsgroups-{split}.tab" for split in ("train", "test")}


def read_newsgroups(source: Source) -> pd.DataFrame:
    """text; label: the newsgroup; slice: its first part (comp, rec, sci …); split."""
    rows = [
        (text, label, label.split(".")[0], split)
        for split, name in FILES.items()
        for label, text in labelled_texts(source, name)
    ]
    return pd.DataFrame(rows, columns=["text", "label", "slice", "split"])
