"""Large objects and many keys, against a real server: what it takes, and that it is right.

The large objects are zeros, which the file system keeps as holes, so that 50 GiB fit on any disk;
the server reads and writes every byte of them all the same. A result that is wrong ends the run
with an error.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, os.fspath(ROOT / "tests"))

from support.clients import boto3_client  # noqa: E402  # needs the path above
from support.server import ServerProcess  # noqa: E402

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024 * 1024
GIB = 1024 * MIB
BUCKET = "big"
CLIENTS = 4
PART = 5 * MIB + 120 * 1024  # 10,000 of them are 50 GiB
PARTS = 10_000
KEYS = 200_000
FOLDERS = 200
PAGE = 1000
#: Most memory that the server may have had, whatever it did.
MAX_RESIDENT = 512 * MIB
#: A page of many keys may cost so many times one of a bucket of a thousand keys.
MAX_PAGE_RATIO = 3.0


def check(holds: bool, text: str) -> None:
    """End the run with an error unless something holds."""
    if not holds:
        sys.exit(f"wrong: {text}")


@contextmanager
def timed(name: str, size: int = 0) -> Iterator[None]:
    """Print what took how long, and how many MiB each second."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    begin = time.perf_counter()
    yield
    taken = time.perf_counter() - begin
    rate = f"{size / MIB / taken:10.0f} MiB/s" if size else ""
    print(f"{name:<52} {taken:9.2f} s {rate}", flush=True)


def resident(server: ServerProcess) -> int:
    """Most bytes of memory that the server had so far."""
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def zeros(size: int) -> Iterator[bytes]:
    """So many bytes, a piece at a time."""
    piece = bytes(MIB)
    for begin in range(0, size, MIB):
        yield piece[: min(MIB, size - begin)]


def put(http: urllib3.PoolManager, url: str, size: int) -> str:
    """PUT zeros to a presigned URL; returns the ETag."""
    headers = {"Content-Length": str(size)}
    answer = http.request("PUT", url, body=zeros(size), headers=headers)
    check(answer.status == 200, f"{answer.status} {answer.data!r}")
    return answer.headers["ETag"]


def single(s3: S3Client, http: urllib3.PoolManager, size: int) -> None:
    """One PUT as large as S3 allows."""
    url = s3.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "single"})
    with timed("PUT of one object", size):
        put(http, url, size)
    check_object(s3, "single", size)
    with timed("GET of the same", size):
        body = s3.get_object(Bucket=BUCKET, Key="single")["Body"]
        received = sum(len(piece) for piece in body.iter_chunks(MIB))
    check(received == size, f"{received} bytes of {size}")
    with timed("copy of the same", size):
        s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/single")
    check_object(s3, "copy", size)


def multipart(s3: S3Client, http: urllib3.PoolManager, parts: int, size: int) -> None:
    """As many parts as S3 allows, of what size ever."""
    key = "multipart"
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    same = {"Bucket": BUCKET, "Key": key, "UploadId": upload}

    def send(number: int) -> str:
        url = s3.generate_presigned_url("upload_part", {**same, "PartNumber": number})
        return put(http, url, size)

    with timed(f"{parts} parts", parts * size), ThreadPoolExecutor(CLIENTS) as pool:
        tags = list(pool.map(send, range(1, parts + 1)))
    with timed("ListParts, all pages"):
        pages = s3.get_paginator("list_parts").paginate(**same)  # type: ignore[arg-type]
        listed = sum(len(page["Parts"]) for page in pages)
    check(listed == parts, f"{listed} parts listed of {parts}")
    with timed("CompleteMultipartUpload", parts * size):
        document = [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]
        done = s3.complete_multipart_upload(**same, MultipartUpload={"Parts": document})  # type: ignore[arg-type,typeddict-item]
    digest = hashlib.md5(
        b"".join(bytes.fromhex(tag.strip('"')) for tag in tags), usedforsecurity=False
    )
    expected = f'"{digest.hexdigest()}-{parts}"'
    check(done["ETag"] == expected, f"ETag {done['ETag']} is not {expected}")
    check_object(s3, key, parts * size)
    with timed("HEAD of its last part"):
        head = s3.head_object(Bucket=BUCKET, Key=key, PartNumber=parts)
    check(head["PartsCount"] == parts, f"{head['PartsCount']} parts")
    check(head["ContentLength"] == size, f"last part of {head['ContentLength']} bytes")


def check_object(s3: S3Client, key: str, size: int) -> None:
    """Size, and the last bytes."""
    found = s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"]
    check(found == size, f"{key} has {found} bytes, not {size}")
    tail = s3.get_object(Bucket=BUCKET, Key=key, Range="bytes=-1000")["Body"].read()
    check(tail == bytes(1000), f"the end of {key} is {tail[:20]!r}...")


def fill(root: Path, bucket: str, keys: int, folders: int) -> None:
    """Files as another program leaves them, which are objects too."""
    for number in range(keys):
        folder = root / bucket / f"{number % folders:03d}" if folders else root / bucket
        if number < max(folders, 1):
            folder.mkdir(exist_ok=True)
        (folder / f"{number:08d}").touch()


def page_times(s3: S3Client, bucket: str, expected: int) -> list[float]:
    """Seconds of each page of a whole listing."""
    times, count, token, last = [], 0, "", ""
    while True:
        begin = time.perf_counter()
        more = {"ContinuationToken": token} if token else {}
        page = s3.list_objects_v2(Bucket=bucket, MaxKeys=PAGE, **more)  # type: ignore[arg-type]
        times.append(time.perf_counter() - begin)
        keys = [entry["Key"] for entry in page["Contents"]]
        check(keys == sorted(keys) and keys[0] > last, f"order after {last!r}")
        count, last = count + len(keys), keys[-1]
        if not page["IsTruncated"]:
            check(count == expected, f"{count} keys listed of {expected}")
            return times
        token = page["NextContinuationToken"]


def listing(s3: S3Client, root: Path, keys: int) -> None:
    """What a page costs in a bucket of a thousand keys and in one of many."""
    medians = {}
    shapes = {"few": (PAGE, 0), "flat": (keys, 0), "folders": (keys, FOLDERS)}
    for bucket, (count, folders) in shapes.items():
        s3.create_bucket(Bucket=bucket)
        fill(root, bucket, count, folders)
        first = page_times(s3, bucket, count)
        times = page_times(s3, bucket, count)
        medians[bucket] = statistics.median(times)
        print(
            f"page of {PAGE} of {count} keys ({bucket}): first {first[0] * 1000:.0f} ms, then "
            f"median {medians[bucket] * 1000:.0f} ms, slowest {max(times) * 1000:.0f} ms",
            flush=True,
        )
    for bucket in ("flat", "folders"):
        ratio = medians[bucket] / medians["few"]
        check(ratio < MAX_PAGE_RATIO, f"a page of {bucket} costs {ratio:.1f} times one of few")


def batch_delete(s3: S3Client) -> None:
    """A thousand keys in one request."""
    names = [f"batch/{number:04d}" for number in range(PAGE)]
    with ThreadPoolExecutor(8) as pool, timed(f"{PAGE} small PUTs"):
        list(pool.map(lambda name: s3.put_object(Bucket=BUCKET, Key=name, Body=b"x"), names))
    with timed(f"DeleteObjects of {PAGE} keys"):
        document = {"Objects": [{"Key": name} for name in names]}
        answer = s3.delete_objects(Bucket=BUCKET, Delete=document)  # type: ignore[arg-type]
    check(len(answer["Deleted"]) == PAGE and "Errors" not in answer, "not all were deleted")
    left = s3.list_objects_v2(Bucket=BUCKET, Prefix="batch/")["KeyCount"]
    check(left == 0, f"{left} keys are left")


def main() -> None:
    """Run all of it, or a share of the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--single", type=float, default=5.0, help="GiB of the single PUT")
    parser.add_argument("--parts", type=int, default=PARTS, help="parts of the multipart upload")
    parser.add_argument("--keys", type=int, default=KEYS, help="keys of the large buckets")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="deltaglider-big-") as name,
        ServerProcess(Path(name)) as server,
    ):
        s3 = boto3_client(server, read_timeout=900)
        http = urllib3.PoolManager(maxsize=CLIENTS)
        s3.create_bucket(Bucket=BUCKET)
        batch_delete(s3)
        listing(s3, server.data, arguments.keys)
        single(s3, http, int(arguments.single * GIB))
        multipart(s3, http, arguments.parts, PART)
        most = resident(server)
        print(f"most memory of the server: {most / MIB:.0f} MiB", flush=True)
        check(most < MAX_RESIDENT, f"{most} bytes of memory")


if __name__ == "__main__":
    main()
