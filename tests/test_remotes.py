"""What one person computed, another takes from an S3 bucket: a real server's, on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import tiny
from moto.server import ThreadedMotoServer

from stages.storage import sha256_file

BUCKET = "shelf"
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def with_bucket(project: tiny.Project, endpoint: str) -> tiny.Project:
    """A project whose default remote is the bucket, by its local settings."""
    keys = {**KEYS, "AWS_DEFAULT_REGION": "us-east-1"}
    project = tiny.Project(project.path, {**project.environment, **keys})
    project.dvc("remote", "add", "--local", "--default", "bucket", f"s3://{BUCKET}/palimpsest")
    project.dvc("remote", "modify", "--local", "bucket", "endpointurl", endpoint)
    return project


def clone_of(project: tiny.Project, folder: Path, endpoint: str) -> tiny.Project:
    project.git("clone", "--quiet", str(project.path), str(folder))
    return with_bucket(tiny.Project(folder, project.environment), endpoint)


def test_a_bucket(reproduced: tiny.Project, endpoint: str, tmp_path: Path) -> None:
    store = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    store.create_bucket(Bucket=BUCKET)
    giver = with_bucket(reproduced, endpoint)
    giver.dvc("push", "--run-cache")
    (giver.path / ".dvc/config.local").unlink()
    kept = store.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert any("/runs/" in one["Key"] for one in kept)

    taker = clone_of(reproduced, tmp_path / "taker", endpoint)
    taker.dvc("pull")
    assert json.loads(taker.dvc("status", "--json")) == {}
    assert tiny.ran(taker.dvc("repro")) == []
    path = "models/tuned/lora/seed-0/adapter_model.safetensors"
    assert (taker.path / path).read_bytes() == (reproduced.path / path).read_bytes()

    # Nothing is pulled ahead; what is missing comes as it is asked for, and nothing runs.
    late = clone_of(reproduced, tmp_path / "late", endpoint)
    assert tiny.ran(late.dvc("repro", "--pull")) == []
    assert (late.path / path).is_file()
    assert json.loads(late.dvc("status", "--json")) == {}

    # The base never travels.
    (base,) = (reproduced.path / tiny.OWN / "model").glob("*.safetensors")
    assert base.stat().st_size not in {one["Size"] for one in kept}
    manifest = json.loads((taker.path / f"models/base/{tiny.CASE}.json").read_text())
    assert manifest["files"][base.name] == sha256_file(base)
