"""What dvc.lock tells of the stages: the params of each, and the md5 of what it read and wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.config.reading import PARAMS, parsed
from stages.errors import UserError

LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Locked:
    """A stage when it last ran. `params`: key, dots within, as dvc.yaml has it -> what stood there;
    `deps`, `outs`: path -> md5, that of a folder with `.dir` at its end."""

    params: Mapping[str, Any]
    deps: Mapping[str, str]
    outs: Mapping[str, str]


def read_locked() -> dict[str, Locked]:
    """By stage; nothing where there is no dvc.lock. Raises UserError where it is damaged."""
    try:
        stages = parsed(LOCK.read_text(encoding="utf-8"))["stages"]
        return {
            stage: Locked(
                dict(told.get("params", {}).get(str(PARAMS), {})),
                *(
                    {one["path"]: one["md5"] for one in told.get(side, ()) if "md5" in one}
                    for side in ("deps", "outs")
                ),
            )
            for stage, told in stages.items()
        }
    except FileNotFoundError:
        return {}
    except (UserError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{LOCK}: damaged: `git checkout {LOCK}`") from None
