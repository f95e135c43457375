"""curl --aws-sigv4: the protocol by hand."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from defusedxml import ElementTree
from support.clients import Curl, system_command
from support.compatibility import Recorder
from support.samples import MIB, contents, noise
from support.server import ServerProcess

CLIENT = "curl"
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"

Stored = Callable[..., dict[str, bytes]]


def version() -> str:
    command = [system_command("curl"), "--version"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return shown.split()[1]


@pytest.fixture
def curl(endpoint: ServerProcess, tmp_path: Path) -> Curl:
    """The command: ``curl.signed(url)``."""
    return Curl(endpoint, tmp_path)


def texts(document: bytes, name: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(document).iter(name)]


def test_round(
    curl: Curl, endpoint: ServerProcess, bucket: str, stored: Stored, step: Recorder, tree: Path
) -> None:
    files = contents(tree)
    base = f"{endpoint.url}/{bucket}"
    with step("tree"):
        for name, data in files.items():
            curl.signed("--upload-file", tree / name, f"{base}/x/{quote(name)}")
            assert curl.signed(f"{base}/x/{quote(name)}") == data
        assert stored("x/") == files
    with step("list"):
        found = curl.signed(f"{base}?delimiter=%2F&list-type=2&prefix=x%2Fsub%2F")
        assert texts(found, f"{NAMESPACE}Key") == [
            "x/sub/100% + 1%41.txt",
            "x/sub/b c+d&e.txt",
            "x/sub/ü☃.bin",
        ]
        assert "x/sub/deeper/" in texts(found, f"{NAMESPACE}Prefix")
    with step("range"):
        part = curl.signed("--range", "100-199", f"{base}/x/app-2.tar")
        assert part == files["app-2.tar"][100:200]
    with step("metadata"):
        words = ("--header", "x-amz-meta-colour: blue", "--header", "Content-Type: text/x")
        curl.signed(*words, "--data-binary", "text", "--request", "PUT", f"{base}/described")
        head = curl.signed("--head", f"{base}/described").decode().lower()
        assert "x-amz-meta-colour: blue" in head
        assert "content-type: text/x" in head
    with step("copy"):
        source = f"x-amz-copy-source: /{bucket}/{quote('x/sub/100% + 1%41.txt')}"
        curl.signed("--request", "PUT", "--header", source, f"{base}/copied")
        assert curl.signed(f"{base}/copied") == files["sub/100% + 1%41.txt"]
    with step("conditions"):
        words = ("--header", "If-None-Match: *", "--data-binary", "2", "--request", "PUT")
        refused = ("--write-out", "%{http_code}", "--output", "/dev/null")
        assert curl(*curl.signing(), *words, *refused, f"{base}/described").stdout == b"412"
    with step("delete"):
        for key in ("described", "copied", *(f"x/{quote(name)}" for name in files)):
            curl.signed("--request", "DELETE", f"{base}/{key}")
        assert stored() == {}


def test_multipart(curl: Curl, endpoint: ServerProcess, bucket: str, step: Recorder) -> None:
    url = f"{endpoint.url}/{bucket}/k"
    parts = [noise(5 * MIB, 1), noise(1000, 2)]
    with step("multipart"):
        made = curl.signed("--request", "POST", f"{url}?uploads=")
        (upload,) = texts(made, f"{NAMESPACE}UploadId")
        listed = ""
        for number, part in enumerate(parts, 1):
            (curl.home / "part").write_bytes(part)
            words = ("--upload-file", "part", "--dump-header", "headers", "--output", "/dev/null")
            curl.signed(*words, f"{url}?partNumber={number}&uploadId={upload}")
            headers = (curl.home / "headers").read_text()
            tag = re.search(r"^etag: (\S+)", headers, flags=re.IGNORECASE | re.MULTILINE)
            assert tag is not None
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{tag[1]}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        words = ("--request", "POST", "--header", "Content-Type: application/xml")
        curl.signed(*words, "--data-binary", document, f"{url}?uploadId={upload}")
        assert curl.signed(url) == b"".join(parts)


def test_buckets(curl: Curl, endpoint: ServerProcess, bucket: str, step: Recorder) -> None:
    with step("buckets"):
        curl.signed("--request", "PUT", f"{endpoint.url}/{bucket}-made")
        assert f"{bucket}-made" in texts(curl.signed(f"{endpoint.url}/"), f"{NAMESPACE}Name")
        curl.signed("--request", "DELETE", f"{endpoint.url}/{bucket}-made")
        assert f"{bucket}-made" not in texts(curl.signed(f"{endpoint.url}/"), f"{NAMESPACE}Name")
