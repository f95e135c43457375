"""minio-py, the SDK of MinIO for Python."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, ComposeSource, CopySource
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from support.clients import REGION
from support.compatibility import Recorder
from support.samples import MIB, contents, noise
from support.server import ServerProcess

CLIENT = "minio-py"

Stored = Callable[..., dict[str, bytes]]


def version() -> str:
    return metadata.version("minio")


@pytest.fixture
def client(endpoint: ServerProcess) -> Iterator[Minio]:
    """The client under test; it looks up the region of a bucket by itself."""
    trusted = {} if endpoint.ca_file is None else {"ca_certs": os.fspath(endpoint.ca_file)}
    pool = urllib3.PoolManager(retries=False, **trusted)
    yield Minio(
        endpoint.url.partition("://")[2],
        access_key=endpoint.access_key,
        secret_key=endpoint.secret_key,
        secure=endpoint.ca_file is not None,
        http_client=pool,
    )
    pool.clear()


def read(client: Minio, bucket: str, key: str, **words: int) -> bytes:
    answer = client.get_object(bucket, key, **words)
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


def test_round(client: Minio, bucket: str, stored: Stored, step: Recorder, tree: Path) -> None:
    files = contents(tree)
    names = sorted(files, key=str.encode)
    with step("tree", "checksums"):
        for name in names:
            client.fput_object(bucket, f"x/{name}", os.fspath(tree / name))
        assert stored("x/") == files
        for name in names:
            back = tree.parent / "back" / name
            client.fget_object(bucket, f"x/{name}", os.fspath(back))
            assert back.read_bytes() == files[name]
    with step("list"):
        found = [entry.object_name for entry in client.list_objects(bucket, "x/", recursive=True)]
        assert found == [f"x/{name}" for name in names]
        below = [(e.object_name, e.is_dir) for e in client.list_objects(bucket, "x/sub/")]
        assert ("x/sub/deeper/", True) in below
        assert ("x/sub/ü☃.bin", False) in below
        assert len(below) == 4
        old = client.list_objects(bucket, "x/", start_after="x/sub/b c+d&e.txt", recursive=True)
        assert next(iter(old)).object_name == "x/sub/deeper/and deeper/x.zip"
    with step("range"):
        part = read(client, bucket, "x/app-2.tar", offset=1000, length=50)
        assert part == files["app-2.tar"][1000:1050]
    with step("delete", "delete many"):
        client.remove_object(bucket, "x/a.txt")
        wanted = (DeleteObject(f"x/{name}") for name in names)
        assert list(client.remove_objects(bucket, wanted)) == []
        assert stored() == {}
    with step("buckets"):
        client.make_bucket(f"{bucket}-made", location=REGION)
        assert client.bucket_exists(f"{bucket}-made")
        client.remove_bucket(f"{bucket}-made")
        assert f"{bucket}-made" not in [found.name for found in client.list_buckets()]


def test_metadata_and_copies(
    client: Minio, bucket: str, step: Recorder, opened: Callable[..., bytes]
) -> None:
    key = "k ü+%"
    with step("metadata"):
        client.put_object(
            bucket, key, io.BytesIO(b"text"), 4, content_type="text/x", metadata={"colour": "blue"}
        )
        head = client.stat_object(bucket, key)
        assert (head.content_type, head.size) == ("text/x", 4)
        assert head.metadata["x-amz-meta-colour"] == "blue"
    with step("copy"):
        client.copy_object(bucket, "copied", CopySource(bucket, key))
        assert client.stat_object(bucket, "copied").metadata["x-amz-meta-colour"] == "blue"
        client.copy_object(
            bucket,
            "copied",
            CopySource(bucket, key),
            metadata={"colour": "red"},
            metadata_directive=REPLACE,
        )
        assert client.stat_object(bucket, "copied").metadata["x-amz-meta-colour"] == "red"
        assert read(client, bucket, "copied") == b"text"
    with step("conditions"), pytest.raises(S3Error) as refused:
        client.copy_object(bucket, "copied", CopySource(bucket, key, match_etag="0" * 32))
    assert refused.value.code == "PreconditionFailed"
    with step("presign"):
        assert opened(client.presigned_get_object(bucket, key)) == b"text"


def test_multipart(client: Minio, bucket: str, step: Recorder) -> None:
    data = noise(11 * MIB + 5)
    with step("multipart", "checksums"):
        # The length is not told: it sends parts until the stream ends.
        made = client.put_object(bucket, "k", io.BytesIO(data), -1, part_size=5 * MIB)
        assert str(made.etag).endswith("-3")
        assert read(client, bucket, "k") == data
    with step("copy"):
        sources = [ComposeSource(bucket, "k", length=6 * MIB), ComposeSource(bucket, "k")]
        client.compose_object(bucket, "composed", sources)
        assert read(client, bucket, "composed") == data[: 6 * MIB] + data
