"""Secrets are neither shown nor written down."""

import os
import re

SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}"
    r"|glpat-[A-Za-z0-9_-]{16,}"
    r"|pypi-[A-Za-z0-9_-]{40,}"
    r"|sk-[A-Za-z0-9_-]{20,}"  # OpenAI, Anthropic
    r"|xox[abprs]-[A-Za-z0-9-]{10,}"  # Slack
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}"  # AWS, Google
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)"  # JSON web token
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password of a URL
)
"""What tokens look like."""
NAMES = re.compile(
    r"TOKEN(?![A-Z])|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE
)
"""Of environment variables that hold one, whatever it looks like."""
SHORTEST = 8
"""A value of fewer characters is no secret, and may be a part of any text."""


def is_secret(text: str) -> bool:
    """Whether a part of `text` is shaped like a token, or is what the environment keeps secret."""
    return redact(text) != text


def redact(text: str) -> str:
    """`text` with `***` for every secret in it."""
    for value in sorted(_kept(), key=len, reverse=True):
        text = text.replace(value, "***")
    return SHAPES.sub("***", text)


def _kept() -> set[str]:
    return {
        value for name, value in os.environ.items() if NAMES.search(name) and len(value) >= SHORTEST
    }
