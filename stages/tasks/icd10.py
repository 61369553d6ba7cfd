"""ICD-10-CM: which chapter of the classification covers a diagnosis?"""

import re
import xml.etree.ElementTree as ElementTree

import pandas as pd

from stages.errors import UserError
from stages.sources.pinned import Source
from stages.storage import content_id
from stages.tasks.bundled import opened

SPECIAL_PURPOSES = "22"  # provisional codes, of no subject of their own


def read_icd10(source: Source, per_category: int, seed: int) -> pd.DataFrame:
    """text: a question; label and slice: the chapter's title; group: the 3-character category.

    At most `per_category` diagnoses of a category are taken, chosen by a hash with `seed`:
    fractures alone would otherwise be half of all rows.
    """
    name = next((name for name in source.names() if name.endswith(".xml")), None)
    if name is None:
        raise UserError(f"{source.pin()['source']}: holds no .xml file; reader icd10 needs one")
    rows = []
    with opened(source, name) as content:
        tree = ElementTree.fromstring(content)
    for chapter in tree.iter("chapter"):
        if chapter.findtext("name") == SPECIAL_PURPOSES:
            continue
        title = re.sub(r"\s*\([A-Z0-9-]+\)$", "", chapter.findtext("desc", "").strip())
        for category in chapter.iterfind("section/diag"):
            leaves = [d for d in category.iter("diag") if d.find("diag") is None]
            found = {leaf.findtext("desc", "").strip() for leaf in leaves}
            code = category.findtext("name", "")
            ranked = sorted((content_id(str(seed), code, text), text) for text in found)
            rows += [(code, text, title) for _, text in ranked[:per_category]]
    frame = pd.DataFrame(rows, columns=["group", "description", "label"])
    return pd.DataFrame(
        {
            "text": 'Which chapter covers "' + frame["description"] + '"?',
            "label": frame["label"],
            "group": frame["group"],
            "slice": frame["label"],
        }
    )
