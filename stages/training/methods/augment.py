"""Augmentation: more train rows of a target, said in other words (Wei and Zou 2019, arXiv
1901.11196; back-translation: Sennrich et al. 2016, arXiv 1511.06709)."""

import random
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Self

import pandas as pd
from pydantic import Field, model_validator

from stages.config.kinds import ANSWERS
from stages.config.pin import Pin, PinnedModel
from stages.config.reading import Section
from stages.errors import UserError, one_line
from stages.models.device import device
from stages.models.manifest import fetch
from stages.models.seq2seq import Seq2Seq
from stages.sources.pinned import open_source
from stages.storage import fingerprint
from stages.tasks.cells import WrongCellError, text_of
from stages.tasks.examples import Examples, identify
from stages.tasks.table_files import READERS, read_rows
from stages.training.methods.method import Fit, Method
from stages.training.word_edits import Edit, Thesaurus, delete, replace, swap

AUGMENTED = {
    "classification": "text",
    "linear-probe": "text",
    "pair-classification": "text_pair",
    "multi-label": "text",
    "multiple-choice": "context",
}
"""The column that is said in other words, by kind of task."""
REFUSED = {
    "regression": "how far an edit moves its value is not known",
    "pair-regression": "how far an edit moves its value is not known",
    "extractive-qa": "its answer stands at a place of its context",
    "relation": "its entities stand at places of its text",
    "token-classification": "its tags belong to its words as they are",
    "retrieval": "two rows of one document would be each other's negatives",
    "language-modelling": "its text is what is learned, and so would the edits be",
    "masked-lm": "its text is what is learned, and so would the edits be",
    "completion": "its completion belongs to its prompt as it stands",
    "chat": "its answers belong to its messages as they stand",
    "news-writing": "its text is what is learned, and so would the edits be",
}

Share = Annotated[float, Field(gt=0, lt=1)]


class Synonyms(Pin):
    """A csv, jsonl or parquet file with the columns `word` and `synonym`, a pair a row.

    `file`: which of the source's files, where it has several.
    """

    file: str | None = None


class Translator(PinnedModel):
    """`prefix`: what the model wants to read before the text, as T5 does."""

    prefix: str = ""


class BackTranslation(Section):
    """`there` into another language, and `back`."""

    there: Translator
    back: Translator
    beams: Annotated[int, Field(ge=1, le=64)] = 4


class Augment(Method):
    """`copies` rows more of each train row, each by one of the edits given, in turn; and one by
    `back_translation`. What a row says derives from (seed, example_id)."""

    name: ClassVar[str] = "augment"
    swap: Share | None = None
    delete: Share | None = None
    synonym: Share | None = None
    copies: Annotated[int, Field(ge=1, le=100)] | None = None
    synonyms: Synonyms | None = None
    back_translation: BackTranslation | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.synonym is None) != (self.synonyms is None):
            raise ValueError(
                f"synonym = {self.synonym}: goes with synonyms, where the words are: "
                "give both or neither"
            )
        edits = [share for share in (self.swap, self.delete, self.synonym) if share]
        if bool(edits) != (self.copies is not None):
            add = "leave copies out" if self.copies else "add copies, such as copies: 1"
            raise ValueError(f"copies = {self.copies}: goes with swap, delete or synonym: {add}")
        if not edits and not self.back_translation:
            raise ValueError("swap: missing: give swap, delete, synonym or back_translation")
        return self

    def misfit(self, fit: Fit) -> str | None:
        for task, kind in fit.targets.items():
            if kind in REFUSED:
                if not set(AUGMENTED) & set(ANSWERS[fit.model]):
                    return f"{task}: {REFUSED[kind]}; leave it out; replay or dropout would fit"
                fitting = ", ".join(AUGMENTED)
                return f"{task}: {REFUSED[kind]}; what would fit: targets of the kinds {fitting}"
        return None

    def rewrite(self, examples: Examples, seed: int) -> Examples:
        """The rows, and after them those that came out new; how many did not is printed."""
        column = AUGMENTED[examples.task.kind]
        texts = [" ".join(text.split()) for text in examples.column(column)]
        versions = self._edited(texts, examples.column("example_id"), seed)
        if self.back_translation:
            longest = examples.task.max_length
            versions.append(back_translated(self.back_translation, tuple(texts), longest))
        seen = set(texts)
        frames, made = [examples.rows], 0
        for version in versions:
            fresh = [_is_new(text, seen) for text in version]
            frame = examples.rows.assign(**{column: list(version)})[fresh]
            frames.append(identify(frame, examples.task.kind))
            made += sum(fresh)
        print(
            f"{examples.task.name}: {len(texts)} train rows and {made} by augmentation; "
            f"{len(texts) * len(versions) - made} left out: empty, unchanged or there already"
        )
        return Examples(examples.task, pd.concat(frames, ignore_index=True))

    def _edited(self, texts: list[str], identities: list[str], seed: int) -> list[tuple[str, ...]]:
        """As many versions of all texts as `copies`."""
        edits = self._edits()
        versions = []
        for copy in range(self.copies or 0):
            version = []
            for text, identity in zip(texts, identities, strict=True):
                first = random.Random(fingerprint(seed, identity)).randrange(len(edits))
                edit, share = edits[(first + copy) % len(edits)]
                draw = random.Random(fingerprint(seed, identity, copy))
                version.append(" ".join(edit(text.split(), share, draw)))
            versions.append(tuple(version))
        return versions

    def _edits(self) -> list[tuple[Edit, float]]:
        edits: list[tuple[Edit, float]] = []
        if self.swap:
            edits.append((swap, self.swap))
        if self.delete:
            edits.append((delete, self.delete))
        if self.synonym and self.synonyms:
            edits.append((replace(read_synonyms(self.synonyms)), self.synonym))
        return edits


def _is_new(text: str, seen: set[str]) -> bool:
    """Whether there is a text, and none like it; from now on there is."""
    if not text or text in seen:
        return False
    seen.add(text)
    return True


def read_synonyms(config: Synonyms) -> Thesaurus:
    """Raises UserError naming file, row and column where it cannot be read."""
    source = open_source(config.source, sha256=config.sha256, revision=config.revision)
    names = [config.file] if config.file else source.names()
    if len(names) > 1:
        raise UserError(f"{config.source}: holds {len(names)} files; say in `file` which to read")
    suffix = PurePosixPath(names[0]).suffix
    if suffix not in READERS:
        raise UserError(f"{config.source}: {names[0]} ends in none of {', '.join(READERS)}")
    found: dict[str, list[str]] = {}
    try:
        rows = read_rows(suffix, source.read(names[0]), ["word", "synonym"])
        for number, row in enumerate(rows, 1):
            word, synonym = (text_of(row[column], number, column) for column in row)
            found.setdefault(word.lower(), []).append(synonym)
    except WrongCellError as error:
        raise UserError(one_line(f"{config.source}: {names[0]}{error}")) from None
    return found


@cache
def back_translated(
    settings: BackTranslation, texts: tuple[str, ...], longest: int
) -> tuple[str, ...]:
    """Each text in another language and back; once for all seeds of a run."""
    for translator in (settings.there, settings.back):
        model = Seq2Seq(fetch(translator)[0], device())
        given = [translator.prefix + text for text in texts]
        written = model.write(given, longest, settings.beams)
        # Of a text that the first of the two lost, the second would make something up.
        texts = tuple(
            " ".join(new.split()) if old else "" for old, new in zip(texts, written, strict=True)
        )
    return texts
