"""What DVC and the shell are given: damage found, secrets kept, commands of strangers not run.

The tests share one project, in which `dvc repro` ran once; each leaves it as it found it.
"""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
import yaml
from bad_inputs.params import HOSTILE, TOKEN
from dvc import cli
from faults_page import Fault
from hub_server import HubServer, Repo

from stages import errors, verify
from stages.sources.pinned import open_source
from stages.storage import hash_files, read_json

CASE = tiny.CASE


def _files(project: Path) -> dict[str, str]:
    """But for how long stages took."""
    found = hash_files(project)
    return {name: told for name, told in found.items() if not name.startswith("logs/")}


@pytest.fixture(scope="module")
def hashes(reproduced: tiny.Project) -> dict[str, str]:
    return _files(reproduced.path)


@pytest.fixture
def project(
    reproduced: tiny.Project, hashes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tiny.Project]:
    """To stand in; DVC, too, may be called in this process."""
    monkeypatch.chdir(reproduced.path)
    for name, value in reproduced.environment.items():
        monkeypatch.setenv(name, value)
    yield reproduced
    reproduced.git("checkout", "--quiet", "--force", "main")
    reproduced.git("clean", "--quiet", "--force", "-d")
    assert _files(reproduced.path) == hashes


def verified() -> list[str]:
    """The lines that `python -m stages.verify` ends with; none where all is sound."""
    try:
        errors.run(verify.main)
    except SystemExit as end:
        assert isinstance(end.code, str), end.code
        return end.code.splitlines()
    return []


def flip(path: Path) -> None:
    """One bit, and neither size nor time: what DVC goes by. Twice, and all is as it was."""
    told = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(told.st_mode | stat.S_IWUSR)
    path.write_bytes(content)
    path.chmod(told.st_mode)
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


def cached(name: str) -> Path:
    """The object in DVC's cache of a file that is an out, or lies in a folder that is one."""
    md5 = verify.md5_file(Path(name))
    return Path(".dvc/cache/files/md5").absolute() / md5[:2] / md5[2:]


# Integrity

RECORDS = f"metrics/records/{CASE}/base.parquet"
ADAPTER = "models/tuned/lora/seed-0/adapter_model.safetensors"
TEST = f"data/{CASE}/target/test/{tiny.TARGET}.parquet"
MANIFEST = f"models/base/{CASE}.json"
BASELINE = f"pretrain-baseline-eval@{CASE}"


def test_all_is_sound(project: tiny.Project) -> None:
    done = project.call(sys.executable, "-m", "stages.verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert "outs of dvc.lock, and the models and data of 1 cases: sound" in done.stdout


def test_a_stage_that_is_no_more_is_not_asked_for(project: tiny.Project) -> None:
    """dvc.lock goes on naming it, whatever DVC is told."""
    lock = project.path / "dvc.lock"
    before = lock.read_bytes()
    locked = yaml.safe_load(before)
    out = {"path": "metrics/records/gone/base.parquet", "md5": "0" * 32}
    locked["stages"]["pretrain-baseline-eval@gone"] = {"cmd": "gone", "outs": [out]}
    lock.write_text(yaml.safe_dump(locked), encoding="utf-8")
    try:
        assert verified() == []
    finally:
        lock.write_bytes(before)


@pytest.mark.parametrize(
    ("name", "out", "stage"),
    [
        (RECORDS, RECORDS, BASELINE),
        (ADAPTER, "models/tuned/lora", "finetune@lora"),
        (TEST, f"data/{CASE}/target", f"prepare@{CASE}"),
        (MANIFEST, MANIFEST, f"prepare@{CASE}"),
    ],
)
def test_a_flipped_bit_in_the_cache_of_dvc(
    project: tiny.Project, name: str, out: str, stage: str, fault: Fault
) -> None:
    damaged = cached(name)
    flip(damaged)
    try:
        lines = verified()
    finally:
        flip(damaged)
    remedy = f"delete {damaged}, then `dvc commit --force {stage}`"
    assert f"error: {out}: damaged in DVC's cache: {remedy}" in lines
    # Two outs may hold the same file, which the cache has once.
    assert all(f"damaged in DVC's cache: delete {damaged}, then " in line for line in lines)
    assert verified() == []
    fault(f"a flipped bit of {name} in DVC's cache", "verify: exit 1, names object and remedy")


def test_the_remedy_mends_the_cache(project: tiny.Project, fault: Fault) -> None:
    damaged, whole = cached(RECORDS), Path(RECORDS).read_bytes()
    flip(damaged)
    damaged.unlink()
    assert cli.main(["commit", "--force", "--quiet", BASELINE]) == 0
    assert damaged.read_bytes() == whole
    assert verified() == []
    fault("a damaged object of DVC's cache, deleted as verify says", "`dvc commit` puts it back")


def test_a_flipped_bit_that_was_checked_out(project: tiny.Project, fault: Fault) -> None:
    """DVC itself does not see it: what it checks out is the damaged copy."""
    damaged, whole = cached(RECORDS), Path(RECORDS).read_bytes()
    flip(damaged)
    Path(RECORDS).unlink()
    assert cli.main(["checkout", "--quiet", RECORDS]) == 0
    assert Path(RECORDS).read_bytes() == damaged.read_bytes() != whole
    in_cache, here = verified()
    flip(damaged)
    Path(RECORDS).unlink()
    assert cli.main(["checkout", "--quiet", RECORDS]) == 0

    remake = f"`dvc pull --force {RECORDS}` or `dvc repro --force --single-item {BASELINE}`"
    assert in_cache.endswith(f"damaged in DVC's cache: delete {damaged}, then {remake}")
    assert here == f"error: {RECORDS}: not what dvc.lock says: {remake}"
    assert verified() == []
    fault("a flipped bit that `dvc checkout` put in place", "verify: exit 1, says how to remake it")


@pytest.mark.parametrize("name", [RECORDS, ADAPTER, MANIFEST, "metrics/scores.json"])
def test_a_flipped_bit_in_the_workspace(project: tiny.Project, name: str, fault: Fault) -> None:
    path = Path(name)
    told = path.stat()
    flip(path)
    try:
        lines = verified()
    finally:
        flip(path)
        os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert lines[0].startswith(f"error: {name}: not what dvc.lock says: `dvc checkout --force ")
    assert verified() == []
    fault(f"a flipped bit in {name}", "verify: exit 1, names file and remedy")


def test_a_flipped_bit_in_a_base_model_and_in_data(project: tiny.Project, fault: Fault) -> None:
    model, table = f"{tiny.OWN}/model", f"{tiny.OWN}/{tiny.TARGET}.jsonl"
    flip(Path(model, "model.safetensors"))
    flip(Path(table))
    first, second = verified()
    assert first.startswith(f"error: file:{model}: expected sha256 ")
    assert second.startswith(f"error: file:{table}: expected sha256 ")
    fault("a flipped bit in a base model, and one in its data", "verify: exit 1, a line each")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(
    project: tiny.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HubServer]:
    """The target's table, and the model, as repositories of a hub that has been asked for them."""
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path / "cache"))
    content = Path(tiny.OWN, f"{tiny.TARGET}.jsonl").read_bytes()
    model = Path(tiny.OWN, "model")
    weights = {name: (model / name).read_bytes() for name in hash_files(model)}
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        repos = {"datasets/acme/colors": {"rows.jsonl": content}, "models/acme/tiny": weights}
        for name, files in repos.items():
            server.repos[name] = Repo(COMMIT, files)
            source = open_source(f"hf:{name.removeprefix('models/')}", revision=COMMIT)
            source.folder("", source.names())
        params = tiny.read_params(project.path)
        data = params["tasks"][tiny.TARGET]["data"]
        del data["sha256"]
        data.update(source="hf:datasets/acme/colors", revision=COMMIT)
        tiny.write_params(project.path, params)
        server.requests.clear()
        yield server


@pytest.mark.parametrize("name", ["rows.jsonl", "model.safetensors", "config.json"])
def test_a_flipped_bit_in_what_was_fetched_from_a_hub(
    hub: HubServer, tmp_path: Path, name: str, fault: Fault
) -> None:
    path = Path(MANIFEST)
    manifest = {**read_json(path), "source": "hf:acme/tiny", "revision": COMMIT, "path": ""}
    del manifest["sha256"]
    found = [fetched for fetched in (tmp_path / "cache/hub").rglob(name) if fetched.is_file()]
    assert len(found) == 1
    sources = {"rows.jsonl": "hf:datasets/acme/colors"}
    before = path.read_bytes()
    path.write_text(json.dumps(manifest), encoding="utf-8")
    try:
        assert not any("hf:" in line for line in verified())
        flip(found[0].resolve())
        content = found[0].read_bytes()
        (line,) = (line for line in verified() if "hf:" in line)
        told = f"error: {sources.get(name, 'hf:acme/tiny')}: damaged: {found[0]}: delete it"
        assert line.startswith(told)
        # It is told, and left as it is; what is gone is no damage.
        assert found[0].read_bytes() == content
        found[0].unlink()
        assert not any("hf:" in line for line in verified())
    finally:
        path.write_bytes(before)
    assert hub.requests == []
    fault(f"a flipped bit of {name}, fetched from the hub", "verify: exit 1, file and remedy")


def test_a_flipped_bit_in_what_was_fetched_from_an_index(
    project: tiny.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setenv("PALIMPSEST_CACHE", str(tmp_path))
    content = b"a release"
    pin = {"source": "pypi:x==1", "sha256": hashlib.sha256(content).hexdigest()}
    path = tmp_path / "downloads" / pin["sha256"] / "x-1.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert verify.wrong_source(pin) is None
    flip(path)
    assert verify.wrong_source(pin) == (
        f"pypi:x==1: damaged: {path}: delete it; it is fetched again when needed"
    )
    fault("a flipped bit of a release in the cache", "verify: exit 1, file and remedy")


def test_outs_that_are_not_here(project: tiny.Project, fault: Fault) -> None:
    aside = Path(RECORDS).rename("aside")
    lines = verified()
    aside.rename(RECORDS)
    assert lines == [f"error: not here: {RECORDS}: `dvc checkout`, `dvc pull` or `dvc repro`"]
    fault("an out that is gone", "verify: exit 1, says how it comes back")


def test_outs_that_are_empty_folders(project: tiny.Project, fault: Fault) -> None:
    """As an interrupted checkout leaves them: of a folder, and of a file."""
    folder, records = Path("models/tuned/full"), Path(RECORDS)
    for path in (folder, records):
        path.rename("aside")
        (path / "seed-0").mkdir(parents=True)
        lines = verified()
        (path / "seed-0").rmdir()
        path.rmdir()
        Path("aside").rename(path)
        assert lines == [f"error: not here: {path}: `dvc checkout`, `dvc pull` or `dvc repro`"]
    fault("an out that is an empty folder", "verify: exit 1, says how it comes back")


@pytest.mark.parametrize("text", ["", "schema: '2.0'\nstages: {", "stages: [1]"])
def test_a_damaged_lock(project: tiny.Project, text: str, fault: Fault) -> None:
    Path("dvc.lock").write_text(text, encoding="utf-8")
    (line,) = verified()
    assert line.startswith("error: dvc.lock: damaged (")
    fault("a damaged dvc.lock", "verify: exit 1, one line")


# Secrets


def test_no_secret_of_the_environment_is_written_or_shown(
    reproduced: tiny.Project, fault: Fault
) -> None:
    folder = reproduced.path.parent  # what `dvc repro` printed lies beside the project
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "dvc.lock" for path in files)
    assert any(path.name == "report.html" for path in files)
    assert any(".dvc/cache" in str(path) for path in files)
    for path in files:
        content = path.read_bytes()
        for name, value in tiny.SECRETS.items():
            assert value.encode() not in content, f"{name} is in {path}"
    fault("tokens in the environment", "in no file of the project or of DVC's, and not printed")


def test_a_secret_in_params_gets_nowhere(project: tiny.Project, fault: Fault) -> None:
    """In the section that one stage reads, so that one stage is run."""
    lock = Path("dvc.lock").read_text(encoding="utf-8")
    params = tiny.read_params(project.path)
    params["compare"]["token"] = TOKEN
    tiny.write_params(project.path, params)
    done = project.call("dvc", "repro")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "error: params.yaml: compare.token: looks like a secret (not shown)" in said
    assert "Traceback" not in said
    assert TOKEN not in said
    assert Path("dvc.lock").read_text(encoding="utf-8") == lock
    fault("a token in params.yaml", "the stage ends with 1; it is neither shown nor locked")


def test_a_secret_in_an_error_is_starred(project: tiny.Project, fault: Fault) -> None:
    """Even where the traceback is asked for."""
    secret = tiny.SECRETS["MY_API_KEY"]
    code = (
        "from stages import errors\n"
        "def main():\n"
        "    import os\n"
        '    raise RuntimeError(f\'the server said: {os.environ["MY_API_KEY"]} {"x" * 3}\')\n'
        "errors.run(main)\n"
    )
    for debug in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=project.path,
            env={**project.environment, "PALIMPSEST_DEBUG": debug},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert secret not in done.stderr
        assert "the server said: *** xxx" in done.stderr
        assert ("Traceback" in done.stderr) == (debug == "1")
    fault("a token in the text of an error", "shown as ***, with PALIMPSEST_DEBUG=1 too")


# Commands


def canaries(project: tiny.Project) -> list[Path]:
    """What the hostile names would leave behind."""
    folder = project.path.parent
    return [path for path in folder.rglob("*") if path.name in ("was-run", "evil")]


QUOTE = "a command behind a quote"
"""The one kind of name that only the check of `make run` stops: it ends the quotes of dvc.yaml."""
NAMES = [(section, what) for section in ("runs", "cases") for what in HOSTILE if what != QUOTE]


@pytest.mark.parametrize(("section", "what"), NAMES)
def test_a_hostile_name_runs_nothing(
    project: tiny.Project,
    section: str,
    what: str,
    fault: Fault,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """`dvc repro` alone, without the check of `make run` before it."""
    name, params = HOSTILE[what], tiny.read_params(project.path)
    params[section][name] = next(iter(params[section].values()))
    params["launch"] = "echo"  # what finetune would be started by: all that counts is the shell
    tiny.write_params(project.path, params)
    stage = "prepare" if section == "cases" else "finetune"
    if section == "cases":
        dvc_yaml = Path("dvc.yaml").read_text(encoding="utf-8")
        Path("dvc.yaml").write_text(
            dvc_yaml.replace("cmd: python -m stages.prepare", "cmd: echo stages.prepare"),
            encoding="utf-8",
        )
    assert cli.main(["repro", "--force", "--single-item", f"{stage}@{name}"]) != 0
    printed = capfd.readouterr()
    assert canaries(project) == []
    assert "Traceback" not in printed.out + printed.err
    fault(f"{section} named by {what}, `dvc repro` alone", "fails; nothing is run or written")


def test_make_run_refuses_every_hostile_name_first(project: tiny.Project, fault: Fault) -> None:
    params = tiny.read_params(project.path)
    for section in ("cases", "runs"):
        first = next(iter(params[section].values()))
        params[section] |= dict.fromkeys(HOSTILE.values(), first)
    tiny.write_params(project.path, params)
    makefile = (tiny.ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("\nrun:")[2].partition("\n\n")[0]
    assert recipe.index("stages.check") < recipe.index("dvc repro")
    done = project.call(sys.executable, "-m", "stages.check")
    assert done.returncode == 1
    refused = [line for line in done.stderr.splitlines() if "a name is lower-case" in line]
    assert len(refused) == 2 * len(HOSTILE)
    assert canaries(project) == []
    fault("cases and runs with hostile names, `make run`", "refused before DVC is started")


# Two at once


def test_two_repros_at_once(project: tiny.Project, fault: Fault) -> None:
    command = ["dvc", "repro", "--force", "--single-item", "compare"]
    both = [
        subprocess.Popen(
            command,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert any(process.returncode == 0 for process in both), said
    for process, text in zip(both, said, strict=True):
        assert "Traceback" not in text
        assert process.returncode == 0 or "lock" in text, text
    assert verified() == []
    fault("two `dvc repro` at once", "one runs, the other waits or says who holds the lock")


# A killed `dvc repro`


def stopped(project: tiny.Project, number: int, seconds: float) -> int:
    """`dvc repro` of everything, ended with all of its children after a while."""
    process = subprocess.Popen(
        ["dvc", "repro", "--force"],
        cwd=project.path,
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, number)
        return process.wait(60)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_many_stopped_repros(project: tiny.Project, number: signal.Signals, fault: Fault) -> None:
    paths = [Path("metrics", name) for name in ("retention.json", "scores.json")]
    before = [path.read_bytes() for path in paths]
    began = time.monotonic()
    project.dvc("repro", "--force")
    seconds = time.monotonic() - began
    for share in (0.1, 0.35, 0.6, 0.85):
        stopped(project, number, share * seconds)
        project.dvc("repro")
        assert [path.read_bytes() for path in paths] == before
        assert verified() == []
        assert tiny.ran(project.dvc("repro")) == []
    project.restore()
    fault(
        f"{number.name} to `dvc repro` and its stages at four moments",
        "`dvc repro` goes on; metrics are the same to the bit; verify finds nothing",
    )
