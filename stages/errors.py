"""What a user did that cannot work, said in one line."""

import errno
import inspect
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

from stages import processes
from stages.secrets import redact


class UserError(Exception):
    """Mistakes that the user can mend: a line each, saying what, where and what to do."""


REMEDIES = {
    errno.ENOSPC: "make room, then run `dvc repro` again",
    errno.EDQUOT: "make room within your quota, then run `dvc repro` again",
    errno.EFBIG: "raise the limit on the size of a file, then run `dvc repro` again",
    errno.EROFS: "make the place writable, then run `dvc repro` again",
    errno.EACCES: "correct its permissions, then run `dvc repro` again",
    errno.EPERM: "correct its permissions, then run `dvc repro` again",
    errno.EIO: "check the disk, then run `dvc repro` again",
}
"""What to do where the system refuses to read or write."""
NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")
"""What CUDA, its libraries, torch on a CPU and the system say of it."""
HELP = {"-h", "--help"}
PATIENCE = 10.0
"""Seconds in which a launcher ends the other processes once one has failed."""


def refusal(error: BaseException | None) -> int | None:
    """The system's error number if it refused to read or write, one of REMEDIES, else None.

    Libraries wrap what the system said: it is then in their text, or in an error before.
    """
    for one in _chain(error):
        if isinstance(one, OSError) and one.errno in REMEDIES:
            return one.errno
        for number in REMEDIES:
            if f"(os error {number})" in str(one):
                return number
    return None


def short_of_memory(error: BaseException) -> str | None:
    """What is said of it where the machine or a GPU has no memory left, else None."""
    for one in _chain(error):
        text = " ".join(str(one).split())
        if isinstance(one, MemoryError) or any(sign in text.lower() for sign in NO_MEMORY):
            return (
                f"out of memory ({text[:200] or type(one).__name__}); where a run is trained set "
                "its accumulate higher or gradient_checkpointing: true, where models are scored "
                "evaluation.batch_tokens lower; `python -m stages.plan` says what a stage takes"
            )
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def one_line(text: str) -> str:
    """`text` with what cannot be printed, such as a line break, escaped."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def run(main: Callable[..., None], *arguments: str) -> None:
    """Call `main` as a program. Exit code 0; or 1, and why on stderr: `error: `, a line a mistake.
    Asked for help, it prints what stands at the head of the program's file.

    SIGTERM and Ctrl-C end it in order, so that nothing half-written stays, with 128 and the
    signal's number; so does a reader of its output who has seen enough, such as `head`. With
    PALIMPSEST_DEBUG=1 the traceback is shown too. No secret is. Of several processes the first
    prints, and what all of them meet is said once.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if not processes.is_first():
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        if HELP.intersection(arguments):
            print(inspect.getdoc(sys.modules[main.__module__]))
        else:
            _check_arguments(main, arguments)
            main(*arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except SystemExit:
        raise
    except BrokenPipeError:
        # Python flushes again at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except BaseException as error:  # a panic in a library's Rust is no Exception
        if os.environ.get("PALIMPSEST_DEBUG") == "1":
            print(redact(traceback.format_exc()), end="", file=sys.stderr)
        _leave_it_to_others(error)
        lines = redact(said(error)).splitlines()
        sys.exit("\n".join(f"error: {one_line(line)}" for line in lines))


def _leave_it_to_others(error: BaseException) -> None:
    """Of several processes, wait to be ended by the launcher: the first is saying the same, or
    what this one met is only that another is gone. What is still here has something to say."""
    told_by_first = processes.is_first() and isinstance(error, UserError)
    if processes.count() > 1 and not told_by_first:
        time.sleep(PATIENCE)


def said(error: BaseException) -> str:
    """An error as it is told to a user: the lines of a UserError, one line of any other."""
    if isinstance(error, UserError):
        return str(error)
    path = getattr(error, "filename", None) or "a file"
    number = refusal(error)
    if number is not None:
        return f"{path}: {os.strerror(number).lower()}; {REMEDIES[number]}"
    short = short_of_memory(error)
    if short is not None:
        return short
    if isinstance(error, FileNotFoundError):
        return f"{path}: not there; run `dvc repro`"
    first = next(iter(str(error).strip().splitlines()), "")
    return (
        f"unforeseen: {type(error).__name__}: {first[:300]}; PALIMPSEST_DEBUG=1 shows where it "
        "comes from"
    )


def _check_arguments(main: Callable[..., None], arguments: tuple[str, ...]) -> None:
    try:
        inspect.signature(main).bind(*arguments)
    except TypeError as error:
        expected = " ".join(map(_shown, inspect.signature(main).parameters.values()))
        given = " ".join(arguments) or "nothing"
        raise UserError(f"{error}: give {expected or 'nothing'}, not {given}") from None


def _shown(parameter: inspect.Parameter) -> str:
    """One that may be left out, or given several times, in brackets."""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return f"[{parameter.name} …]"
    needed = parameter.default is inspect.Parameter.empty
    return f"<{parameter.name}>" if needed else f"[{parameter.name}]"


def _terminate(number: int, _: FrameType | None) -> None:
    # As an exception, so that every `finally` on the way out is run.
    sys.exit(128 + number)
