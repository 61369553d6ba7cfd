"""Reuters-21578 R8, ModApte split: what is this newswire about? Of its texts lower-case letters are
left (Cardoso-Cachopo 2007, "Improving Methods for Single-label Text Categorization")."""

import pandas as pd

from stages.sources.pinned import Source
from stages.tasks.orange import FOLDER, labelled_texts

FILES = {split: f"{FOLDER}reuters-r8-{split}.tab" for split in ("train", "test")}


def read_reuters(source: Source) -> pd.DataFrame:
    """text; label: one of eight topics (earn, acq, crude …); split."""
    rows = [
        (text, label, split)
        for split, name in FILES.items()
        for label, text in labelled_texts(source, name)
    ]
    return pd.DataFrame(rows, columns=["text", "label", "split"])
