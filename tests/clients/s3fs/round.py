"""Everything that s3fs does with a bucket; run by ``test_s3fs.py``, which says how."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import s3fs

MIB = 1024**2


def done(*capabilities: str) -> None:
    print(json.dumps(capabilities), flush=True)


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"not as expected: {what}")


def connect(task: dict[str, str]) -> s3fs.S3FileSystem:
    return s3fs.S3FileSystem(
        key=task["accessKey"],
        secret=task["secretKey"],
        endpoint_url=task["url"],
        client_kwargs={"region_name": "us-east-1", "verify": task["ca"] or None},
        config_kwargs={"signature_version": "s3v4", "s3": {"addressing_style": "path"}},
    )


def folders(fs: s3fs.S3FileSystem, bucket: str, tree: Path, back: str) -> None:
    """A tree there and back, and what listings make of it."""
    fs.put(f"{tree}/", f"{bucket}/x/", recursive=True)
    fs.get(f"{bucket}/x/", f"{back}/", recursive=True)
    done("tree", "checksums")
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    fs.invalidate_cache()
    expect(sorted(fs.find(f"{bucket}/x")) == [f"{bucket}/x/{name}" for name in files], "find")
    below = [f"{bucket}/x/sub/{name}" for name in ("100% + 1%41.txt", "b c+d&e.txt", "deeper")]
    expect(sorted(fs.ls(f"{bucket}/x/sub"))[:3] == below, "ls")
    expect(fs.isdir(f"{bucket}/x/sub/deeper"), "a prefix is a folder")
    expect(fs.info(f"{bucket}/x/empty")["size"] == 0, "info")
    done("list")
    fs.copy(f"{bucket}/x/", f"{bucket}/kept/", recursive=True)
    fs.mv(f"{bucket}/x/a.txt", f"{bucket}/x/moved ü")
    expect(not fs.exists(f"{bucket}/x/a.txt"), "what was moved is gone")
    expect(fs.cat(f"{bucket}/x/moved ü") == (tree / "a.txt").read_bytes(), "what was moved")
    done("copy")
    fs.rm_file(f"{bucket}/x/empty")
    done("delete")
    fs.rm(f"{bucket}/x", recursive=True)
    fs.invalidate_cache()
    expect(not fs.exists(f"{bucket}/x"), "rm")
    done("delete many")


def streams(fs: s3fs.S3FileSystem, bucket: str) -> None:
    """Files that are written and read like local ones."""
    data = random.Random(1).randbytes(11 * MIB)
    path = f"{bucket}/large.bin"
    with fs.open(path, "wb", block_size=5 * MIB) as target:
        for start in range(0, len(data), MIB):
            target.write(data[start : start + MIB])
    expect(fs.info(path)["ETag"].strip('"').endswith("-3"), "three parts")
    done("multipart")
    expect(fs.cat_file(path, start=6 * MIB, end=6 * MIB + 9) == data[6 * MIB :][:9], "a range")
    with fs.open(path, "rb", block_size=MIB) as source:
        source.seek(-5, 2)
        expect(source.read() == data[-5:], "the end")
        source.seek(0)
        expect(source.read() == data, "everything")
    done("range")


def descriptions(fs: s3fs.S3FileSystem, bucket: str) -> None:
    """Metadata, and writing only what is not there."""
    path = f"{bucket}/described"
    described: dict[str, Any] = {"ContentType": "text/x", "Metadata": {"colour": "blue"}}
    fs.pipe_file(path, b"one", **described)
    expect(fs.info(path)["ContentType"] == "text/x", "content type")
    expect(fs.getxattr(path, "colour") == "blue", "metadata")
    fs.setxattr(path, size="small")
    fs.invalidate_cache()
    expect(fs.metadata(path) == {"colour": "blue", "size": "small"}, "changed metadata")
    done("metadata")
    try:
        fs.pipe_file(path, b"two", mode="create")
    except FileExistsError:
        expect(fs.cat(path) == b"one", "nothing was overwritten")
    else:
        expect(False, "pipe_file(mode='create') overwrote an object")
    done("conditions")


def main() -> None:
    task = json.loads(sys.argv[1])
    fs = connect(task)
    bucket = task["bucket"]
    fs.mkdir(f"{bucket}-made")
    fs.touch(f"{bucket}-made/x")
    fs.rm(f"{bucket}-made", recursive=True)
    fs.invalidate_cache()
    expect(f"{bucket}-made" not in fs.ls(""), "the bucket is gone")
    done("buckets")
    folders(fs, bucket, Path(task["tree"]), task["back"])
    streams(fs, bucket)
    descriptions(fs, bucket)
    Path("presigned").write_text(fs.url(f"{bucket}/kept/a.txt", expires=60))
    done("presign")


if __name__ == "__main__":
    main()
