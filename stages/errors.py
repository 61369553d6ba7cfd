"""What a user did that cannot work, said in one line."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Mistakes that the user can mend: a line each, saying what, where and what to do."""


def run(main: Callable[..., None], *arguments: str) -> None:
    """Call `main` as a program: a UserError becomes its lines on stderr and exit code 1.

    With PALIMPSEST_DEBUG=1 the traceback is shown instead.
    """
    try:
        main(*arguments)
    except UserError as error:
        if os.environ.get("PALIMPSEST_DEBUG") == "1":
            raise
        sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))
