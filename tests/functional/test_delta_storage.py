"""Versions of one file: what they cost on disk, and that they come back byte for byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.clients import AwsCli
from support.raw import RawClient
from support.samples import MIB, bytes_below, md5_hex, noise, release
from support.server import ServerProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from conftest import MakeClient, StartServer

SIZE = 3 * MIB
RELEASES = range(6)
#: Eight runs of about 1 KiB differ; xdelta3 needs little more than them.
FEW_PER_CENT = 0.03


def stored_bytes(server: ServerProcess, bucket: str, key: str) -> int:
    return (server.data / bucket / key).stat().st_size


def references(server: ServerProcess, bucket: str) -> list[Path]:
    root = server.data / bucket / ".deltaglider" / "refs"
    return [path for path in root.rglob("*") if path.is_file()] if root.exists() else []


def body_of(s3: S3Client, bucket: str, key: str) -> bytes:
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def check_releases(s3: S3Client, server: ServerProcess, bucket: str) -> None:
    for number in RELEASES:
        key, data = f"app-{number}.zip", release(number, SIZE)
        assert body_of(s3, bucket, key) == data
        if number:
            assert stored_bytes(server, bucket, key) < FEW_PER_CENT * SIZE
    assert bytes_below(server.data / bucket) < 1.3 * SIZE


def test_six_releases(s3: S3Client, server: ServerProcess, bucket: str) -> None:
    for number in RELEASES:
        data = release(number, SIZE)
        tag = s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=data)["ETag"]
        assert tag == f'"{md5_hex(data)}"'
    check_releases(s3, server, bucket)
    for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        head = s3.head_object(Bucket=bucket, Key=entry["Key"])
        data = release(int(entry["Key"][4]), SIZE)
        assert (entry["Size"], entry["ETag"]) == (len(data), f'"{md5_hex(data)}"')
        assert (head["ContentLength"], head["ETag"]) == (entry["Size"], entry["ETag"])


def test_six_releases_in_parts_by_boto3(
    s3: S3Client, server: ServerProcess, bucket: str, tmp_path: Path
) -> None:
    from boto3.s3.transfer import TransferConfig

    parts = TransferConfig(multipart_threshold=MIB, multipart_chunksize=5 * MIB)
    size = 11 * MIB
    for number in range(3):
        path = tmp_path / f"app-{number}.zip"
        path.write_bytes(release(number, size))
        s3.upload_file(os.fspath(path), bucket, path.name, Config=parts)
    for number in range(3):
        key = f"app-{number}.zip"
        assert s3.head_object(Bucket=bucket, Key=key)["ETag"].endswith('-3"')
        assert body_of(s3, bucket, key) == release(number, size)
        if number:
            assert stored_bytes(server, bucket, key) < FEW_PER_CENT * size


def test_releases_in_parts_by_the_aws_cli(
    s3: S3Client, aws_cli: AwsCli, server: ServerProcess, bucket: str, tmp_path: Path
) -> None:
    size = 9 * MIB  # the aws CLI takes parts from 8 MiB on
    for number in range(2):
        path = tmp_path / "app.zip"
        path.write_bytes(release(number, size))
        aws_cli("s3", "cp", path, f"s3://{bucket}/app-{number}.zip")
    assert s3.head_object(Bucket=bucket, Key="app-1.zip")["ETag"].endswith('-2"')
    aws_cli("s3", "cp", f"s3://{bucket}/app-1.zip", "back.zip")
    assert (tmp_path / "back.zip").read_bytes() == release(1, size)
    assert stored_bytes(server, bucket, "app-1.zip") < FEW_PER_CENT * size


def test_unlike_and_unlisted_files_are_stored_as_they_are(
    s3: S3Client, server: ServerProcess, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="app-0.zip", Body=noise(MIB, 1))
    s3.put_object(Bucket=bucket, Key="app-1.zip", Body=noise(MIB, 2))
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"photo-{number}.jpg", Body=release(number, MIB))
    for key in ("app-1.zip", "photo-0.jpg", "photo-1.jpg"):
        path = server.data / bucket / key
        assert path.read_bytes() == body_of(s3, bucket, key)


def test_bytes_that_look_like_ours_come_back(
    s3: S3Client, server: ServerProcess, bucket: str
) -> None:
    """An object that begins as a stored delta does must not be decoded as one."""
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number))
    blob = (server.data / bucket / "app-1.zip").read_bytes()
    for key in ("copy.bin", "copy.txt", "cut.txt"):
        body = blob[:200] if key.startswith("cut") else blob
        s3.put_object(Bucket=bucket, Key=key, Body=body)
        found = s3.get_object(Bucket=bucket, Key=key)
        assert found["Body"].read() == body
        assert found["ContentLength"] == len(body)
        assert s3.get_object(Bucket=bucket, Key=key, Range="bytes=5-9")["Body"].read() == body[5:10]
        assert found["ETag"] == f'"{md5_hex(body)}"'


def test_overwriting_a_release(s3: S3Client, bucket: str) -> None:
    for number in (0, 1, 2, 1, 0):
        s3.put_object(Bucket=bucket, Key="app.zip", Body=release(number))
        assert body_of(s3, bucket, "app.zip") == release(number)


def test_small_and_empty_candidates(s3: S3Client, bucket: str) -> None:
    for size in (0, 1, 100, 4095, 4096, 4097):
        for number in range(2):
            data = release(number, 8192)[:size]
            s3.put_object(Bucket=bucket, Key=f"tiny-{size}-{number}.zip", Body=data)
    for size in (0, 1, 100, 4095, 4096, 4097):
        for number in range(2):
            data = body_of(s3, bucket, f"tiny-{size}-{number}.zip")
            assert data == release(number, 8192)[:size]


def test_settings_of_a_bucket(start_server: StartServer, boto3_factory: MakeClient) -> None:
    server = start_server(
        settings={
            "storage": {
                "buckets": {
                    "plain": {"compression": False},
                    "strict": {"max_delta_ratio": 0.0001},
                }
            }
        }
    )
    s3 = boto3_factory(server)
    for bucket in ("plain", "strict", "usual"):
        s3.create_bucket(Bucket=bucket)
        for number in range(2):
            s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number))
            assert body_of(s3, bucket, f"app-{number}.zip") == release(number)
    assert stored_bytes(server, "plain", "app-1.zip") == len(release(1))
    assert references(server, "plain") == []
    assert stored_bytes(server, "strict", "app-1.zip") == len(release(1))
    assert stored_bytes(server, "usual", "app-1.zip") < FEW_PER_CENT * MIB


def test_max_delta_ratio_of_all_buckets(
    start_server: StartServer, boto3_factory: MakeClient
) -> None:
    server = start_server(settings={"advanced": {"max_delta_ratio": 0}})
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    for number in range(2):
        s3.put_object(Bucket="bucket", Key=f"app-{number}.zip", Body=release(number))
        assert body_of(s3, "bucket", f"app-{number}.zip") == release(number)
        assert stored_bytes(server, "bucket", f"app-{number}.zip") >= len(release(number))


@pytest.mark.parametrize("limit", ["spool_max_bytes", "cache_size_mb"])
def test_no_room_beside_the_data(
    start_server: StartServer, boto3_factory: MakeClient, limit: str
) -> None:
    """What was stored with room for temporary files must be readable without it."""
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    for number in range(2):
        s3.put_object(Bucket="bucket", Key=f"app-{number}.zip", Body=release(number))
    server.stop()
    server.write_config({"advanced": {limit: 0}})
    server.start()
    assert body_of(s3, "bucket", "app-1.zip") == release(1)
    found = s3.get_object(Bucket="bucket", Key="app-1.zip", Range="bytes=1000-1999")
    assert found["Body"].read() == release(1)[1000:2000]
    s3.put_object(Bucket="bucket", Key="app-2.zip", Body=release(2))
    s3.copy_object(Bucket="bucket", Key="copy.zip", CopySource="bucket/app-1.zip")
    upload: Any = {"Bucket": "bucket", "Key": "parts.zip"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    tag = s3.upload_part(**upload, PartNumber=1, Body=release(3))["ETag"]
    parts: Any = {"Parts": [{"PartNumber": 1, "ETag": tag}]}
    s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    for key, number in (("app-2.zip", 2), ("copy.zip", 1), ("parts.zip", 3)):
        assert body_of(s3, "bucket", key) == release(number), key


def test_restart_and_changed_settings(start_server: StartServer, boto3_factory: MakeClient) -> None:
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    for number in range(3):
        s3.put_object(Bucket="bucket", Key=f"app-{number}.zip", Body=release(number))
    server.stop()
    # What is stored must stay readable whatever the settings say of new objects.
    server.write_config(
        {
            "storage": {"buckets": {"bucket": {"compression": False}}},
            "advanced": {"delta_suffixes": [".never"]},
        }
    )
    server.start()
    for number in range(3):
        assert body_of(s3, "bucket", f"app-{number}.zip") == release(number)
    head = s3.head_object(Bucket="bucket", Key="app-2.zip")
    listed = s3.list_objects_v2(Bucket="bucket")["Contents"][2]
    assert (listed["Size"], listed["ETag"]) == (head["ContentLength"], head["ETag"])
    assert head["ETag"] == f'"{md5_hex(release(2))}"'


# --- damage: an error or a cut answer, never a wrong byte ----------------------------------


@pytest.fixture
def damaged(
    s3: S3Client, raw: RawClient, server: ServerProcess, bucket: str
) -> tuple[str, Path, bytes]:
    """A delta of five windows or so: its target, its file, and its right content."""
    size = 9 * MIB
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number, size))
    path = server.data / bucket / "app-1.zip"
    assert path.stat().st_size < size // 4
    return f"/{bucket}/app-1.zip", path, release(1, size)


def spoil(path: Path, data: bytes) -> None:
    """Change the bytes of a file as a failing disk does: behind the back of its times.

    A file with another time was overwritten by some program; it is an object of its own.
    """
    facts = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def assert_never_wrong(raw: RawClient, target: str, right: bytes, *, refused: bool) -> None:
    answer = raw.request("GET", target)
    if answer.status == 200:
        assert not refused
        assert right.startswith(answer.body)
        assert not answer.complete
    else:
        assert (answer.status, answer.code) == (500, "InternalError")
        assert answer.element("Message") == ("We encountered an internal error. Please try again.")
    for first in (0, len(right) // 2, len(right) - 10):
        ranged = raw.request("GET", target, headers={"range": f"bytes={first}-{first + 9}"})
        if ranged.status == 206:
            assert right[first : first + 10].startswith(ranged.body)
        else:
            assert ranged.status == 500


def test_the_reference_is_gone(
    raw: RawClient, server: ServerProcess, damaged: tuple[str, Path, bytes]
) -> None:
    target, _, right = damaged
    bucket = target.split("/")[1]
    found = references(server, bucket)
    assert found
    for reference in found:
        reference.unlink()
    # A verified copy in the cache may still serve it, rightly.
    answer = raw.request("GET", target)
    if answer.status == 200 and answer.complete:
        assert answer.body == right
    else:
        assert_never_wrong(raw, target, right, refused=False)


def test_the_reference_is_gone_after_a_restart(
    start_server: StartServer, boto3_factory: MakeClient
) -> None:
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    for number in range(2):
        s3.put_object(Bucket="bucket", Key=f"app-{number}.zip", Body=release(number))
    server.stop()
    for reference in references(server, "bucket"):
        reference.unlink()
    server.start()
    target = "/bucket/app-1.zip"
    assert_never_wrong(RawClient(server), target, release(1), refused=True)
    assert "app-1.zip" in server.log_text()
    s3.put_object(Bucket="bucket", Key="app-1.zip", Body=release(1))
    assert body_of(s3, "bucket", "app-1.zip") == release(1)


def test_a_reference_with_other_bytes(start_server: StartServer, boto3_factory: MakeClient) -> None:
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    for number in range(2):
        s3.put_object(Bucket="bucket", Key=f"app-{number}.zip", Body=release(number))
    server.stop()
    for reference in references(server, "bucket"):
        data = bytearray(reference.read_bytes())
        for at in range(0, len(data), 997):
            data[at] ^= 0x55
        spoil(reference, data)
    server.start()
    assert_never_wrong(RawClient(server), "/bucket/app-1.zip", release(1), refused=True)


def test_one_changed_byte(raw: RawClient, damaged: tuple[str, Path, bytes]) -> None:
    target, path, right = damaged
    intact = path.read_bytes()
    for place in (0.0, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        blob = bytearray(intact)
        blob[int(place * (len(blob) - 1))] ^= 0x20
        spoil(path, blob)
        answer = raw.request("GET", target)
        if answer.status == 200 and answer.complete:
            # The byte meant nothing, e.g. a reserved one: then nothing may differ.
            assert answer.body == right, place
        else:
            assert_never_wrong(raw, target, right, refused=False)
    spoil(path, intact)
    assert raw.request("GET", target).body == right, "no damage outlasts its cause"


def test_a_cut_delta(s3: S3Client, raw: RawClient, damaged: tuple[str, Path, bytes]) -> None:
    target, path, right = damaged
    bucket = target.split("/")[1]
    for kept in (0, 1, 20, 100, 1000, -1):
        spoil(path, path.read_bytes()[:kept])
        assert_never_wrong(raw, target, right, refused=False)
        # It spoils neither the listing nor what comes after it.
        listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
        assert listed == ["app-0.zip", "app-1.zip"]
        s3.put_object(Bucket=bucket, Key="app-1.zip", Body=right)
        assert body_of(s3, bucket, "app-1.zip") == right, kept
    spoil(path, b"")
    s3.delete_object(Bucket=bucket, Key="app-1.zip")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_a_verbatim_object_that_lost_its_end(
    s3: S3Client, raw: RawClient, server: ServerProcess, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=noise(MIB))
    spoil(server.data / bucket / "k", noise(MIB)[:-1])
    for headers in ({}, {"range": "bytes=0-9"}):
        answer = raw.request("GET", f"/{bucket}/k", headers=headers)
        assert (answer.status, answer.code) == (500, "InternalError")
    assert raw.request("HEAD", f"/{bucket}/k").status == 500


def test_bytes_without_their_attributes(
    raw: RawClient, server: ServerProcess, damaged: tuple[str, Path, bytes]
) -> None:
    """A tool that copies files but not attributes: decoded or refused, never served raw."""
    target, path, right = damaged
    blob = path.read_bytes()
    path.unlink()
    path.write_bytes(blob)
    answer = raw.request("GET", target)
    if answer.status == 200:
        assert (answer.body, answer.complete) == (right, True)
    else:
        assert (answer.status, answer.code) == (500, "InternalError")


def test_a_file_that_another_program_overwrote(
    raw: RawClient, damaged: tuple[str, Path, bytes]
) -> None:
    target, path, _ = damaged
    path.write_bytes(b"written by an editor")
    answer = raw.request("GET", target)
    assert (answer.status, answer.body) == (200, b"written by an editor")
    assert answer.headers["content-length"] == "20"
