"""A side in a process of its own. torch and lm-eval are loaded there alone."""

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from .exchange import About, Outcome, Profile, Settings

if TYPE_CHECKING:
    from .side import Side


class Remote:
    """It loads from the beginning; whatever else it is asked is waited for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._start()

    def _start(self) -> None:
        self._process = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._about = self._process.submit(_ask, self._settings, "about")

    def restart(self) -> None:
        """Go on in a new process: what a task leaves in memory would count for the next one."""
        self.close()
        self._start()
        self.about()

    def about(self) -> About:
        about: About = self._about.result()
        return about

    def matrix_rate(self) -> float:
        """Floating-point operations a second, with nothing else running."""
        rate: float = self._call("matrix_rate")
        return rate

    def examples(self, task: str) -> int:
        examples: int = self._call("examples", task)
        return examples

    def score(self, task: str, limit: int | None, batch_size: int | None = None) -> Outcome:
        outcome: Outcome = self._call("score", task, limit, batch_size)
        return outcome

    def profile(self, task: str, limit: int | None) -> Profile:
        profile: Profile = self._call("profile", task, limit)
        return profile

    def close(self) -> None:
        self._process.shutdown(cancel_futures=True)

    def _call(self, method: str, *arguments: Any) -> Any:
        return self._process.submit(_ask, self._settings, method, *arguments).result()


def _ask(settings: Settings, method: str, *arguments: Any) -> Any:
    return getattr(_side(settings), method)(*arguments)


@cache
def _side(settings: Settings) -> "Side":
    from .side import Side

    return Side(settings)
