"""Stages that are stopped on purpose, each in a process of its own.

The processes are forked from one that has imported everything, so that a stage takes a second.
"""

import ctypes
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import tiny

STAGES = (
    ("prepare", tiny.CASE),
    ("pretrain_baseline_eval", tiny.CASE),
    ("finetune", "full"),
    ("finetune", "lora"),
    ("retention_eval", "full"),
    ("retention_eval", "lora"),
    ("compare",),
)
PRELOADED = [
    *(f"stages.{name}" for name in dict.fromkeys(stage[0] for stage in STAGES)),
    "stages.models.gguf",
    "stages.training.methods.lora",
]
CLONE_NEWNS, CLONE_NEWUSER, MS_RDONLY, MS_REMOUNT = 0x20000, 0x10000000, 1, 32
EVENTS = "\0events: "
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Plan:
    """How a stage is stopped. `how`:

    kill, term: by that signal at the `at`-th call (from 0) that opens for writing, syncs, renames
    or removes a file whose call names `match`. power: like kill, but of every file that was
    written and not synced only a random part is left. write: killed in the middle of a write, as
    a file reaches `at` bytes. time: killed after `at` seconds. full, read-only: the folder `match`
    lies on a disk with room for `at` bytes more, or is read-only. limit: writing beyond `at` bytes
    fails.
    """

    how: str
    at: float = 0
    match: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Ended:
    """`code`: negative where a signal ended it. `events`: the calls that a plan can be `at`."""

    code: int
    said: str
    seconds: float
    events: int


def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """For the process that all are forked from: it takes its environment when it starts."""
    before = dict(os.environ)
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run(project: Path, stage: tuple[str, ...], plan: Plan | None = None) -> Ended:
    """Run a stage in `project` and wait until it has ended, or was ended."""
    log = project.with_name(f"{project.name}.log")
    with one_thread():
        process: ForkServerProcess = context().Process(
            target=_child, args=(project, stage, plan, log)
        )
        process.start()
    if plan and plan.how == "time":
        process.join(plan.at)
        process.kill()
    began = time.monotonic()
    process.join(300)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode is not None, f"{stage} hangs under {plan}"
    told = log.read_text(encoding="utf-8") if log.exists() else ""  # killed before it was opened
    log.unlink(missing_ok=True)
    said, counted, events = told.partition(EVENTS)
    return Ended(process.exitcode, said, time.monotonic() - began, int(events) if counted else 0)


def _child(project: Path, stage: tuple[str, ...], plan: Plan | None, log: Path) -> None:
    with log.open("wb", buffering=0) as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    if plan and plan.how in ("full", "read-only"):
        _mount(project / plan.match, plan)
    os.chdir(project)
    import torch

    from stages import errors

    torch.set_num_threads(1)
    watch = _Watch(project, plan)
    if plan and plan.how in ("write", "limit"):
        ending = signal.SIG_DFL if plan.how == "write" else signal.SIG_IGN
        signal.signal(signal.SIGXFSZ, ending)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(plan.at), int(plan.at)))
    errors.run(lambda *names: tiny.run_stage(stage[0], *names), *stage[1:])
    print(f"{EVENTS}{watch.count}", end="", flush=True)


class _Watch:
    """Counts what a process does to files, and ends it at the call that its plan says."""

    def __init__(self, project: Path, plan: Plan | None) -> None:
        self.count = 0
        self._project, self._began = project, time.time_ns()
        self._plan = plan if plan and plan.how in ("kill", "term", "power") else None
        self._synced: set[int] = set()
        real = os.fsync

        def fsync(descriptor: int) -> None:
            self._note("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
            real(descriptor)
            self._synced.add(os.fstat(descriptor).st_ino)

        os.fsync = fsync  # type: ignore[assignment]
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str | os.PathLike) and flags & WRITING:
                self._note(event, path)
        elif event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            self._note(event, *arguments[:2])

    def _note(self, event: str, *paths: Any) -> None:
        named = f"{event} {' '.join(map(str, paths))}"
        if "/proc/" in named or (self._plan and self._plan.match not in named):
            return
        self.count += 1
        if self._plan and self.count == self._plan.at + 1:
            self._end(self._plan)

    def _end(self, plan: Plan) -> None:
        if plan.how == "power":
            self._lose(random.Random(plan.seed))
        os.kill(os.getpid(), signal.SIGTERM if plan.how == "term" else signal.SIGKILL)

    def _lose(self, draw: random.Random) -> None:
        """What was not synced may be on the disk in part, whatever name it has by now."""
        for path in sorted(self._project.rglob("*")):
            told = path.lstat()
            new = path.is_file() and told.st_mtime_ns >= self._began
            if new and told.st_ino not in self._synced:
                os.truncate(path, draw.randint(0, told.st_size))


def _mount(folder: Path, plan: Plan) -> None:
    """A disk of its own for what lies in `folder`; only this process sees it."""
    folder.mkdir(parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _checked(libc.unshare(CLONE_NEWNS | (CLONE_NEWUSER if user else 0)))
    if user:
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="utf-8")
    aside = folder.with_name(f"{folder.name}.aside")
    shutil.copytree(folder, aside)
    files = [path for path in aside.rglob("*") if path.is_file()]
    used = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
    size = f"size={int(used + plan.at)}".encode()
    where = os.fsencode(folder)
    _checked(libc.mount(None, b"/", None, 1 << 18 | 1 << 14, None))  # private, and all below
    _checked(libc.mount(b"tmpfs", where, b"tmpfs", 0, size))
    shutil.copytree(aside, folder, dirs_exist_ok=True)
    shutil.rmtree(aside)
    if plan.how == "read-only":
        _checked(libc.mount(None, where, None, MS_REMOUNT | MS_RDONLY, None))


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def can_mount(folder: Path) -> bool:
    """Whether this system lets a process have a disk of its own."""
    with one_thread():
        process = context().Process(target=_mount, args=(folder, Plan("full", 4096)))
        process.start()
    process.join()
    return process.exitcode == 0


def outs_of(stage: tuple[str, ...], params: dict[str, Any]) -> list[str]:
    dvc_yaml = (tiny.ROOT / "dvc.yaml").read_text(encoding="utf-8")
    name = "@".join([stage[0].replace("_", "-"), *stage[1:]])
    return tiny.outs(tiny.expand(dvc_yaml, params)[name])


Draw = Callable[[random.Random], Plan]


def random_plan(draw: random.Random, seconds: float, events: int, largest: int) -> Plan:
    """Any moment of a stage that takes so many seconds and events, and writes files so large."""
    how = draw.choice(["time", "kill", "term", "power", "write"])
    plan = Plan(how, seed=draw.randrange(2**31))
    if how == "time":
        return replace(plan, at=draw.uniform(0, seconds))
    if how == "write":
        return replace(plan, at=int(largest ** draw.uniform(0.3, 1.0)))
    return replace(plan, at=draw.randrange(events))
