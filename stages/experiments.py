"""DVC's experiments, and what each left behind, by git and dvc themselves."""

import subprocess
from tempfile import TemporaryFile

from stages.errors import UserError


def call(*command: str) -> str:
    """What a command prints. Raises UserError with its last words where it fails."""
    # No pipes: a worker of DVC's that is left behind would hold them open, and this would wait.
    with TemporaryFile("w+") as out, TemporaryFile("w+") as complaints:
        try:
            code = subprocess.run(command, stdout=out, stderr=complaints).returncode
        except FileNotFoundError:
            raise UserError(f"{command[0]}: not found; install it, or call make") from None
        for file in (out, complaints):
            file.seek(0)
        printed, said = out.read(), complaints.read()
    if code:
        words = (said.strip() or printed.strip()).splitlines()[-1:]
        raise UserError(f"{' '.join(command[:3])} failed: {''.join(words)}")
    return printed


def experiments() -> dict[str, str]:
    """git's reference of each experiment, by its name."""
    refs = call("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return {ref.rsplit("/", 1)[-1]: ref for ref in reversed(refs)}


def left_by(experiment: str, path: str) -> str:
    """The file that git tracks, as an experiment left it."""
    known = experiments()
    if experiment not in known:
        raise UserError(f"experiment {experiment}: not there; see `dvc exp show`")
    return call("git", "show", f"{known[experiment]}:{path}")
