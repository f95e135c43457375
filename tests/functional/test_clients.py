"""Stock clients, unmodified: aws CLI, rclone and the transfer manager of boto3."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.clients import AwsCli, Rclone
from support.samples import MIB, noise, release

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAMES = ["a.txt", "sub/b c+d.txt", "sub/ü☃.bin", "sub/deeper/app.zip", "empty"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with awkward names."""
    root = tmp_path / "tree"
    for number, name in enumerate(NAMES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else noise(1000 + number, number))
        # S3 has whole seconds: aws would take a file of this very second for a newer one.
        os.utime(path, (1_600_000_000, 1_600_000_000))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {
        os.fspath(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


# --- aws -----------------------------------------------------------------------------------


def test_aws_buckets(aws_cli: AwsCli, s3: S3Client) -> None:
    aws_cli("s3", "mb", "s3://aws-made")
    assert b"aws-made" in aws_cli("s3", "ls").stdout
    aws_cli("s3", "cp", "-", "s3://aws-made/k", stdin=b"from a pipe")
    assert s3.get_object(Bucket="aws-made", Key="k")["Body"].read() == b"from a pipe"
    failed = aws_cli("s3", "rb", "s3://aws-made", check=False)
    assert failed.returncode != 0
    assert b"BucketNotEmpty" in failed.stderr
    aws_cli("s3", "rb", "--force", "s3://aws-made")
    assert "aws-made" not in [found["Name"] for found in s3.list_buckets()["Buckets"]]


def test_aws_sync(aws_cli: AwsCli, s3: S3Client, bucket: str, tree: Path, tmp_path: Path) -> None:
    aws_cli("s3", "sync", tree, f"s3://{bucket}/x")
    listed = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    assert listed == sorted((f"x/{name}" for name in NAMES), key=str.encode)
    assert aws_cli("s3", "sync", tree, f"s3://{bucket}/x").stdout == b"", "nothing is left to do"
    aws_cli("s3", "sync", f"s3://{bucket}/x", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tree)
    (tree / "a.txt").unlink()
    aws_cli("s3", "sync", "--delete", tree, f"s3://{bucket}/x")
    listing = aws_cli("s3", "ls", "--recursive", f"s3://{bucket}/x/").stdout.decode()
    assert "a.txt" not in listing
    assert "1001 x/sub/b c+d.txt" in listing
    aws_cli("s3", "mv", f"s3://{bucket}/x/empty", f"s3://{bucket}/moved")
    aws_cli("s3", "rm", "--recursive", f"s3://{bucket}/x")
    assert [e["Key"] for e in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["moved"]


def test_aws_large_files_and_copies(aws_cli: AwsCli, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "big file.iso"
    path.write_bytes(noise(17 * MIB))
    aws_cli("s3", "cp", path, f"s3://{bucket}/big file.iso")
    # The CLI copies what is large by UploadPartCopy.
    aws_cli("s3", "cp", f"s3://{bucket}/big file.iso", f"s3://{bucket}/copy.iso")
    aws_cli("s3", "cp", f"s3://{bucket}/copy.iso", tmp_path / "back.iso")
    assert (tmp_path / "back.iso").read_bytes() == path.read_bytes()


def test_aws_presign(aws_cli: AwsCli, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k ü", Body=b"presigned")
    # For us-east-1 the CLI still presigns with version 2, see test_presigned.py.
    words = ("--expires-in", "60", "--region", "eu-central-1")
    out = aws_cli("s3", "presign", f"s3://{bucket}/k ü", *words).stdout
    with urllib.request.urlopen(out.decode().strip(), timeout=20) as answer:
        assert answer.read() == b"presigned"


def test_aws_s3api(aws_cli: AwsCli, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"0123456789")
    place = ("--bucket", bucket, "--key", "k")
    put = aws_cli(
        "s3api", "put-object", *place, "--body", "body", "--metadata", "colour=blue",
        "--content-type", "text/x",
    )  # fmt: skip
    tag = json.loads(put.stdout)["ETag"]
    got = aws_cli("s3api", "get-object", *place, "--range", "bytes=2-4", "part").stdout
    assert (tmp_path / "part").read_bytes() == b"234"
    head = json.loads(got)
    assert (head["ETag"], head["ContentRange"]) == (tag, "bytes 2-4/10")
    assert (head["Metadata"], head["ContentType"]) == ({"colour": "blue"}, "text/x")
    failed = aws_cli("s3api", "put-object", *place, "--if-none-match", "*", check=False)
    assert b"PreconditionFailed" in failed.stderr
    document = json.dumps({"Objects": [{"Key": "k"}]})
    out = aws_cli("s3api", "delete-objects", "--bucket", bucket, "--delete", document).stdout
    assert [entry["Key"] for entry in json.loads(out)["Deleted"]] == ["k"]


# --- rclone --------------------------------------------------------------------------------


def test_rclone_tree(rclone: Rclone, bucket: str, tree: Path, tmp_path: Path) -> None:
    remote = f"dg:{bucket}/x"
    rclone("copy", tree, remote)
    rclone("check", tree, remote)
    rclone("check", "--download", tree, remote)
    listed = rclone("lsf", "-R", "--files-only", remote).stdout.decode().splitlines()
    assert sorted(listed) == sorted(NAMES)
    assert rclone("lsf", f"{remote}/sub").stdout.decode().splitlines() == [
        "b c+d.txt",
        "deeper/",
        "ü☃.bin",
    ]
    rclone("sync", remote, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tree)
    (tree / "a.txt").unlink()
    (tree / "empty").write_bytes(b"no longer")
    rclone("sync", tree, remote)
    rclone("check", tree, remote)
    rclone("moveto", f"{remote}/sub/b c+d.txt", f"dg:{bucket}/moved to")
    assert rclone("cat", f"dg:{bucket}/moved to").stdout == noise(1001, 1)
    rclone("delete", remote)
    assert rclone("lsf", "-R", "--files-only", f"dg:{bucket}").stdout == b"moved to\n"
    rclone("purge", f"dg:{bucket}")
    assert f"{bucket}/\n".encode() not in rclone("lsf", "dg:").stdout


def test_rclone_chunked_upload(rclone: Rclone, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(noise(12 * MIB + 5))
    flags = ("--s3-upload-cutoff", "0", "--s3-chunk-size", "5Mi")
    rclone("copyto", *flags, path, f"dg:{bucket}/large.bin")
    assert s3.head_object(Bucket=bucket, Key="large.bin")["ETag"].endswith('-3"')
    rclone("check", "--download", path.parent, f"dg:{bucket}", "--include", "/large.bin")
    rclone("rcat", *flags, f"dg:{bucket}/streamed", stdin=noise(11 * MIB))
    assert s3.get_object(Bucket=bucket, Key="streamed")["Body"].read() == noise(11 * MIB)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_rclone_keeps_times(rclone: Rclone, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "dated"
    path.write_bytes(b"x")
    os.utime(path, (1_500_000_000, 1_500_000_000))
    rclone("copyto", path, f"dg:{bucket}/dated")
    out = rclone("lsjson", f"dg:{bucket}").stdout
    assert json.loads(out)[0]["ModTime"].startswith("2017-07-14T")
    rclone("touch", "--timestamp", "2001-02-03T04:05:06", f"dg:{bucket}/dated")
    out = rclone("lsjson", f"dg:{bucket}").stdout
    assert json.loads(out)[0]["ModTime"].startswith("2001-02-03T")


def test_rclone_fetches_deltas_in_ranges(
    rclone: Rclone, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    for number in range(2):
        s3.put_object(Bucket=bucket, Key=f"app-{number}.zip", Body=release(number, 6 * MIB))
    streams = ("--multi-thread-streams", "4", "--multi-thread-cutoff", "1Mi")
    rclone("copy", *streams, "--multi-thread-chunk-size", "1Mi", f"dg:{bucket}", tmp_path / "back")
    for number in range(2):
        assert (tmp_path / "back" / f"app-{number}.zip").read_bytes() == release(number, 6 * MIB)


# --- boto3 ---------------------------------------------------------------------------------


def test_boto3_transfers(s3: S3Client, bucket: str, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(noise(20 * MIB))
    s3.upload_file(os.fspath(source), bucket, "k", ExtraArgs={"ContentType": "text/x"})
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/x"
    s3.download_file(bucket, "k", os.fspath(back))
    assert back.read_bytes() == source.read_bytes()
    s3.copy({"Bucket": bucket, "Key": "k"}, bucket, "copied")
    s3.download_file(bucket, "copied", os.fspath(back))
    assert back.read_bytes() == source.read_bytes()


def test_boto3_streams(s3: S3Client, bucket: str, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(noise(9 * MIB))
    with path.open("rb") as stream:
        s3.upload_fileobj(stream, bucket, "k")
    with (tmp_path / "back").open("wb") as target:
        s3.download_fileobj(bucket, "k", target)
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    lines = s3.get_object(Bucket=bucket, Key="k")["Body"].iter_chunks(1 << 16)
    assert sum(len(chunk) for chunk in lines) == 9 * MIB


def test_boto3_waiters(s3: S3Client, bucket: str) -> None:
    s3.get_waiter("bucket_exists").wait(Bucket=bucket, WaiterConfig={"MaxAttempts": 1})
    s3.get_waiter("object_not_exists").wait(Bucket=bucket, Key="k", WaiterConfig={"MaxAttempts": 1})
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key="k", WaiterConfig={"MaxAttempts": 1})
