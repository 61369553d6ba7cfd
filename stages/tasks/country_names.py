"""CLDR, through babel: what is a country called in another language?"""

import re
import unicodedata

import pandas as pd
from babel import Locale, UnknownLocaleError
from babel.core import get_global

from stages.errors import UserError
from stages.tasks.capitals import in_a_sentence
from stages.tasks.choices import COLUMNS, choose, overlap
from stages.tasks.splitting import normalise

AREAS = ("Europe", "Asia", "America", "Africa")
ISLANDS = ("Atlantic", "Australia", "Indian", "Pacific")

UNNATURAL = re.compile(r"[(]| - |\bSAR\b|U\.S\.")
"""Names that nobody writes in a sentence: `Hong Kong SAR China`, `Myanmar (Burma)`."""

GENERIC = {"Island", "Islands", "Republic", "Territories", "Territory"}
"""Last words that do not make two names alike."""


def read_country_names(language: str, seed: int) -> pd.DataFrame:
    """Two rows a country, from English and back, the wrong answers from its part of the world;
    slice: into which language; group: the last word of the English name (North and South Korea).

    Left out are names that are the same but for accents, or give their translation away.
    Raises UserError where CLDR does not know the language.
    """
    try:
        locale = Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        raise UserError(
            f"language {language!r} is unknown to CLDR; write a code like fr or pt-BR"
        ) from None
    english = Locale("en")
    tongue = english.languages[locale.language]
    countries = []
    for code, area in _areas().items():
        name = english.territories[code].replace("&", "and")
        other = locale.territories.get(code, "")
        if other and not UNNATURAL.search(name) and not UNNATURAL.search(other):
            countries.append((name, other, area))
    rows = []
    for name, other, area in countries:
        if overlap(_plain(name), _plain(other)):
            continue
        group = [word for word in re.split(r"\W+", name) if word not in GENERIC][-1]
        near = [names for names in countries if names[2] == area]
        for into, asked, right, wrong in (
            (tongue, in_a_sentence(name), other, [names[1] for names in near]),
            ("English", other, name, [names[0] for names in near]),
        ):
            context = f"The {into} name of {asked} is"
            choices, answer = choose(seed, context, right, wrong)
            rows.append((context, choices, answer, group, f"into {into}"))
    return pd.DataFrame(rows, columns=COLUMNS)


def _areas() -> dict[str, str]:
    """Territory -> the part of the world its time zones are named after."""
    zones: dict[str, set[str]] = {}
    for zone, territory in get_global("zone_territories").items():
        zones.setdefault(territory, set()).add(zone.split("/")[0])
    areas = {}
    for territory, parts in zones.items():
        if area := next((area for area in AREAS if area in parts), None):
            areas[territory] = area
        elif parts & set(ISLANDS):
            areas[territory] = "Oceania and islands"
    return areas


def _plain(name: str) -> str:
    """`name` without its accents, case and punctuation."""
    letters = unicodedata.normalize("NFKD", name)
    return normalise("".join(char for char in letters if not unicodedata.combining(char)))
