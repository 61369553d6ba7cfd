"""A pinned source: what makes the same bytes come back."""

import re
from typing import Self

from pydantic import model_validator

from stages.config.reading import Section

SCHEMES = ("pypi", "hf", "file")


class Pin(Section):
    """Where bytes come from, and the hash or commit that they are checked against."""

    source: str
    sha256: str | None = None
    revision: str | None = None

    @model_validator(mode="after")
    def _is_pinned(self) -> Self:
        scheme, _, rest = self.source.partition(":")
        if scheme not in SCHEMES or not rest:
            known = ", ".join(f"{name}:" for name in SCHEMES)
            raise ValueError(f"source = {self.source!r}: start it with one of {known}")
        if scheme == "pypi" and not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", rest):
            raise ValueError(f"source = {self.source!r}: write it as pypi:<name>==<version>")
        if scheme == "hf" and not re.fullmatch(r"[0-9a-f]{40}", self.revision or ""):
            raise ValueError(
                f"revision = {self.revision!r}: a hub source needs a commit of 40 hex digits"
            )
        if scheme != "hf" and not re.fullmatch(r"[0-9a-f]{64}", self.sha256 or ""):
            raise ValueError(
                f"sha256 = {self.sha256!r}: a {scheme}: source needs a sha256 of 64 hex digits"
            )
        unused = "sha256" if scheme == "hf" else "revision"
        if getattr(self, unused) is not None:
            raise ValueError(
                f"{unused} = {getattr(self, unused)!r}: does not apply to a {scheme}: source"
            )
        return self


class PinnedModel(Pin):
    """`path`: the model's folder inside the source."""

    path: str = ""
