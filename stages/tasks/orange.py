"""Tables of Orange's text add-on: three rows of header, then label and text with a tab between."""

from stages.sources.pinned import Source
from stages.tasks.bundled import opened

FOLDER = "orangecontrib/text/datasets/"
HEADER_ROWS = 3


def labelled_texts(source: Source, name: str) -> list[tuple[str, str]]:
    """Label and text of each row of a file."""
    with opened(source, name) as content:
        rows = (line.partition("\t") for line in content.decode().splitlines()[HEADER_ROWS:])
        return [(label, text.strip()) for label, _, text in rows]
