"""What a user did that cannot work, said in one line."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the user can mend. Its text is one line: what, where, what to do."""


def run(main: Callable[..., None], *arguments: str) -> None:
    """Call `main` as a program: a UserError becomes one line on stderr and exit code 1.

    With PALIMPSEST_DEBUG=1 the traceback is shown instead.
    """
    try:
        main(*arguments)
    except UserError as error:
        if os.environ.get("PALIMPSEST_DEBUG") == "1":
            raise
        line = " ".join(str(error).split())
        sys.exit(f"error: {line}")
