"""What a stage says: in a terminal bars with rate and time left, elsewhere nothing that moves; and
no warning of a library's."""

import fcntl
import os
import re
import struct
import subprocess
import termios

import pytest
import tiny
import tiny_causal

BAR = re.compile(
    r"(?P<name>[\w@., -]+): +\d+%\|.*\| \d+/\d+ \[[\d:]+<(?P<left>[\d:?]+), +(?P<rate>.+/s|s/.+)\]"
)
HEAVY = {
    "self-replay": {"fraction": 0.1, "length": 16},
    "lwf": {"weight": 1.0, "temperature": 2.0},
    "ewc": {"strength": 1.0, "tasks": ["agreement"], "rows": 10},
}
"""Methods that work long before the first step."""


def in_terminal(project: tiny.Project, *command: str) -> list[str]:
    """The lines that a command shows in a terminal of 200 columns, each state of a bar one."""
    here, there = os.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    running = subprocess.Popen(
        command,
        cwd=project.path,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
    )
    os.close(there)
    shown = b""
    while part := _read(here):
        shown += part
    os.close(here)
    assert running.wait() == 0, shown.decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""  # on Linux, that the other end is closed


def bars(lines: list[str]) -> dict[str, str]:
    """The last rate of each bar; there is nothing else."""
    found = [(line, BAR.fullmatch(line.strip())) for line in lines]
    assert not [line for line, bar in found if bar is None]
    assert any(bar["left"] != "?" for _, bar in found if bar)
    return {bar["name"]: bar["rate"].strip("0123456789. ?") for _, bar in found if bar}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> tiny.Project:
    """Of a causal model, up to the base's records."""
    folder = tmp_path_factory.mktemp("progress")
    tiny_causal.write_sources(folder)
    tiny.write_params(folder, tiny_causal.make_params(folder))
    tiny.edit_params(folder, runs__full__methods=HEAVY, runs__full__pool="retain/train")
    (folder / "stages").symlink_to(tiny.ROOT / "stages")
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        tiny.run_stage("prepare", tiny_causal.CASE)
        tiny.run_stage("pretrain_baseline_eval", tiny_causal.CASE)
    return tiny.Project(folder, environment)


def test_bars_in_a_terminal(project: tiny.Project) -> None:
    assert bars(in_terminal(project, "python", "-m", "stages.finetune", "full")) == {
        "full, self-replay": "text/s",
        "full, teacher": "batch/s",
        "full, Fisher information of agreement": "batch/s",
        "full, seed 0": "step/s",
    }
    assert bars(in_terminal(project, "python", "-m", "stages.retention_eval", "full")) == {
        "full, seed 0": "task/s",
        **{f"full, seed 0, {variant}": "task/s" for variant in tiny_causal.VARIANTS},
    }


def test_long_work_gets_a_bar_of_its_own(project: tiny.Project) -> None:
    script = (
        "import sys, time; from stages.progress import patient\n"
        "for _ in patient(range(9), desc='reading', unit='text'): time.sleep(float(sys.argv[1]))"
    )
    assert in_terminal(project, "python", "-c", script, "0.01") == []
    shown = in_terminal(project, "python", "-c", script, "0.8")
    assert bars(shown) == {"reading": "text/s"}


def test_silence_elsewhere(project: tiny.Project) -> None:
    for stage in ("finetune", "retention_eval"):
        done = project.call("python", "-m", f"stages.{stage}", "lora")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_line_a_stage(reproduced: tiny.Project) -> None:
    """Of all stages under DVC: its own lines, those of `prepare`, and what a user can act on."""
    assert reproduced.path.with_name("errors.txt").read_text(encoding="utf-8") == ""
    output = reproduced.path.with_name("output.txt").read_text(encoding="utf-8")
    rows = {f"{task}: {line}" for task in tiny.ROWS for line in _prepared(output, task)}
    own = r"|".join(
        (
            r"Running stage '.+':",
            r"> python -m stages\.\w+( '[\w-]+')?",
            r"(Generating|Updating) lock file 'dvc\.lock'",
            r"To track the changes with git, run:|\tgit add .*",
            r"To enable auto staging, run:|\tdvc config core\.autostage true",
            r"Use `dvc push` to send your updates to remote storage\.",
            r"\w+, seed 0: no step was better on validation than the start",
            r"warning: [\w-]+ of tiny can hardly show a loss: accuracy before, .+",
        )
    )
    lines = [line for line in output.splitlines() if line.strip()]
    assert [line for line in lines if line not in rows and not re.fullmatch(own, line)] == []
    assert len(rows) == len(tiny.ROWS)


def _prepared(output: str, task: str) -> list[str]:
    return re.findall(rf"^{task}: (\d+ train, .*)$", output, flags=re.MULTILINE)
