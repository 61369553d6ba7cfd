"""Subject-verb agreement across an attractor, after Linzen et al. 2016 (arXiv 1611.01368).

`The key to the cabinets` goes on with `is`: the subject decides, not the noun before the verb.
Linzen et al. compare the forms' probabilities as they are: so does a task with `per_byte: false`.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import pandas as pd

from stages.storage import content_id
from stages.tasks.choices import COLUMNS, choose

Option = TypeVar("Option")

VERBS = (
    ("is", "are"),
    ("was", "were"),
    ("has", "have"),
    ("isn't", "aren't"),
    ("wasn't", "weren't"),
)
"""No form is the beginning of the other, as `seem` is of `seems`: that one could only win."""

PEOPLE = "client colleague critic customer expert historian parent resident stranger volunteer"
"""Who stands before the verb in `The key that the clients lost`; none of them is a subject."""


class Kind(NamedTuple):
    """Subjects of a kind, and what may follow them: `near the tables`, `that the clients lost`."""

    subjects: str
    links: str
    attractors: str
    deeds: str


KINDS = (
    Kind(
        """actor admiral architect artist astronaut athlete aunt author baker banker barber
        biker boxer boy brother builder butcher buyer captain carpenter cashier chef clerk
        climber coach composer cook cousin cyclist dancer daughter dentist designer detective
        diver doctor driver editor emperor engineer farmer firefighter fisherman gardener girl
        guard guest guitarist hiker hunter inspector janitor jeweler journalist judge juggler
        king lawyer librarian magician manager mayor mechanic minister musician neighbor nephew
        nurse officer painter passenger photographer pianist pilot plumber poet policeman
        potter priest prince queen ranger reporter runner sailor salesman scientist sculptor
        secretary senator singer sister skater soldier son student surgeon tailor teacher
        tourist uncle visitor waiter witness woman worker writer""",
        "near behind beside opposite",
        """bench bicycle car chair counter desk door fountain gate lamp pillar statue table
        tent tree truck wagon window""",
        "avoided called hired met praised recognized",
    ),
    Kind(
        """anchor axe bag ball basket bell belt blanket boat bottle bowl box broom brush bucket
        button camera candle canoe cap carpet coat coin cradle crate cup cushion diamond doll
        dress drum feather flag flute fork glass glove hammer handbag hat helmet jacket jar
        jewel key kite ladder letter magazine mask medal mirror mug necklace needle newspaper
        notebook oar orange package painting pan pencil pillow pipe plate postcard pot puppet
        puzzle ring robot rope ruler saddle scarf shirt shoe shovel skirt spoon stamp stool
        suitcase sweater sword telephone ticket towel toy trumpet umbrella vase violin wallet
        watch whistle wrench""",
        "near behind under beside above",
        """armchair barrel bookcase cabinet closet counter desk drawer dresser fridge sofa
        shelf sink stove table wardrobe window""",
        "borrowed bought found lost mentioned needed",
    ),
    Kind(
        """alligator ant badger bat bear beaver bee beetle bird bull butterfly camel cat
        chicken cow crab crow dog dolphin donkey dragonfly duck eagle elephant ferret fox frog
        giraffe goat hamster hawk hedgehog hen horse kangaroo kitten lamb leopard lion lizard
        monkey moth otter owl panda parrot peacock penguin pig pigeon pony puppy rabbit raccoon
        rat raven rooster seal snail snake sparrow spider squirrel swan tiger turkey turtle
        wasp whale wolf zebra""",
        "near behind beside",
        "bridge bush cage cliff fence gate hill log pond rock shed tent tree tunnel wall",
        "admired chased fed noticed rescued saw",
    ),
    Kind(
        """airport apartment bakery bank cafe castle cathedral cave chapel church
        cinema clinic college cottage dam embassy factory farm garage garden gym harbor hospital
        hotel house island kitchen laboratory lake library lighthouse mansion market meadow
        mill monument mosque museum office orchard palace park pharmacy playground prison
        restaurant school shop stadium station store studio supermarket temple theater tower
        university valley village warehouse windmill zoo""",
        "near behind beyond beside",
        "avenue canal field forest highway hill mountain river road square street vineyard",
        "admired described mentioned photographed remembered visited",
    ),
    Kind(
        """agreement announcement answer argument article book comment complaint debate
        decision discussion document essay explanation fact film idea interview joke law
        lecture lesson lie message movie note novel opinion plan play poem policy prediction
        principle promise proposal question remark report review rule rumor song speech story
        suggestion theory thought tradition warning""",
        "about concerning",
        """accident battle contract crime discovery election experiment festival game journey
        meeting merger planet project storm strike trial wedding""",
        "criticized discussed liked mentioned preferred repeated",
    ),
)

SLICES = ("mismatch", "match")

IRREGULAR = {
    "policeman": "policemen",
    "fisherman": "fishermen",
    "salesman": "salesmen",
    "woman": "women",
    "shelf": "shelves",
    "wolf": "wolves",
}


def read_agreement(seed: int) -> pd.DataFrame:
    """Four rows a subject: it and the nouns before the verb, each singular and plural; group:
    the subject; slice: whether the two match in number.

    Which verb a subject gets, and what stands between them, is chosen by a hash with `seed`.
    """
    rows = []
    for kind in KINDS:
        for subject in kind.subjects.split():
            verb = _pick(VERBS, seed, subject)
            for plural in (False, True):
                for match in (False, True):
                    between = _between(kind, plural == match, seed, subject, str(plural))
                    context = f"The {_number(subject, plural)} {between}"
                    right, wrong = verb[plural], verb[not plural]
                    choices, answer = choose(seed, context, right, [wrong], wrong=1)
                    rows.append((context, choices, answer, subject, SLICES[match]))
    return pd.DataFrame(rows, columns=COLUMNS)


def _between(kind: Kind, plural: bool, seed: int, *key: str) -> str:
    """What stands between subject and verb: a noun, a clause, or one within the other."""
    key = (*key, str(plural))
    link, attractor, deed = (
        _pick(words.split(), seed, *key, words)
        for words in (kind.links, kind.attractors, kind.deeds)
    )
    person = _number(_pick(PEOPLE.split(), seed, *key, PEOPLE), plural)
    noun = f"{link} the {_number(attractor, plural)}"
    options = (noun, f"that the {person} {deed}", f"{noun} that the {person} described")
    return _pick(options, seed, *key)


def _pick(options: Sequence[Option], seed: int, *key: str) -> Option:
    return options[int(content_id(str(seed), *key), 16) % len(options)]


def _number(noun: str, plural: bool) -> str:
    if not plural:
        return noun
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")
