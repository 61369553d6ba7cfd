"""Sentences with human sentiment ratings (Hutto and Gilbert 2014): positive or negative?"""

import pandas as pd

from stages.sources.pinned import Source
from stages.tasks.bundled import opened

ARCHIVE = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
MOST = 4
"""The best rating; the worst is -4."""
FILES = {
    "movie": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
    "tweets": "tweets",
}


def read_vader(source: Source, corpus: str, threshold: float) -> pd.DataFrame:
    """text; label and slice: positive or negative; group: the document, where one is named.

    Sentences whose mean rating (-4 to 4) is nearer to zero than `threshold` are left out.
    """
    name = f"{ARCHIVE}!hutto_ICWSM_2014/{FILES[corpus]}_GroundTruth.txt"
    rows = []
    with opened(source, name) as content:
        for line in content.decode().splitlines():
            identity, rating, text = line.split("\t", 2)
            value = float(rating)
            if not abs(value) <= MOST:
                raise ValueError(f"a rating of {value}")
            if abs(value) >= threshold and value != 0:
                label = "positive" if value > 0 else "negative"
                rows.append((text.strip(), label, identity.split("_")[0], label))
    return pd.DataFrame(rows, columns=["text", "label", "group", "slice"])
