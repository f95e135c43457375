"""obstore: the object_store crate of Rust, as Polars, Lance and Zarr use it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import S3Store
from support.clients import REGION
from support.compatibility import Recorder
from support.samples import MIB, contents, noise
from support.server import ServerProcess

CLIENT = "obstore"

Stored = Callable[..., dict[str, bytes]]


def version() -> str:
    return metadata.version("obstore")


@pytest.fixture
def store(endpoint: ServerProcess, bucket: str) -> S3Store:
    """The client under test: a bucket."""
    options: dict[str, Any] = {"allow_http": endpoint.ca_file is None}
    if endpoint.ca_file is not None:
        options["root_certificate"] = endpoint.ca_file.read_bytes()
    return S3Store(
        bucket,
        endpoint=endpoint.url,
        region=REGION,
        access_key_id=endpoint.access_key,
        secret_access_key=endpoint.secret_key,
        virtual_hosted_style_request=False,
        client_options=options,
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=30)},
    )


def test_round(store: S3Store, bucket: str, stored: Stored, step: Recorder, tree: Path) -> None:
    files = contents(tree)
    names = sorted(files, key=str.encode)
    with step("tree", "checksums"):
        for name in names:
            obstore.put(store, f"x/{name}", tree / name)
        assert stored("x/") == files
        for name in names:
            assert bytes(obstore.get(store, f"x/{name}").bytes()) == files[name]
    with step("list"):
        pages = obstore.list(store, "x", chunk_size=3)
        assert [entry["path"] for page in pages for entry in page] == [f"x/{n}" for n in names]
        below = obstore.list_with_delimiter(store, "x/sub")
        assert below["common_prefixes"] == ["x/sub/deeper"]
        assert len(below["objects"]) == 3
    with step("range"):
        part = obstore.get_range(store, "x/app-2.tar", start=1000, end=1050)
        assert bytes(part) == files["app-2.tar"][1000:1050]
        suffix = obstore.get(store, "x/app-2.tar", options={"range": {"suffix": 10}})
        assert bytes(suffix.bytes()) == files["app-2.tar"][-10:]
    with step("copy"):
        obstore.copy(store, "x/sub/100% + 1%41.txt", "copied ü")
        assert bytes(obstore.get(store, "copied ü").bytes()) == files["sub/100% + 1%41.txt"]
        obstore.rename(store, "copied ü", "moved +")
        assert "copied ü" not in stored()
    with step("delete", "delete many"):
        obstore.delete(store, "moved +")
        obstore.delete(store, [f"x/{name}" for name in names])
        assert stored() == {}


def test_large(
    store: S3Store, stored: Stored, step: Recorder, opened: Callable[..., bytes]
) -> None:
    data = noise(11 * MIB + 5)
    with step("multipart", "checksums"):
        obstore.put(store, "k", data, use_multipart=True, chunk_size=5 * MIB)
        assert str(obstore.head(store, "k")["e_tag"]).endswith('-3"')
        assert bytes(obstore.get(store, "k").bytes()) == data
    with step("range"):
        reader = obstore.open_reader(store, "k")
        reader.seek(6 * MIB)
        assert bytes(reader.read(10)) == data[6 * MIB : 6 * MIB + 10]
    with step("presign"):
        url = obstore.sign(store, "GET", "k", timedelta(minutes=1))
        assert opened(url) == data


def test_attributes_and_conditions(store: S3Store, step: Recorder) -> None:
    with step("metadata"):
        attributes = {"Content-Type": "text/x", "Cache-Control": "max-age=60", "colour": "blue"}
        made = obstore.put(store, "k", b"one", attributes=attributes)
        assert dict(obstore.get(store, "k").attributes) == attributes
    with step("conditions"):
        with pytest.raises(AlreadyExistsError):
            obstore.put(store, "k", b"two", mode="create")
        replaced = obstore.put(store, "k", b"two", mode={"e_tag": made["e_tag"]})
        with pytest.raises(PreconditionError):
            obstore.put(store, "k", b"three", mode={"e_tag": made["e_tag"]})
        assert obstore.head(store, "k")["e_tag"] == replaced["e_tag"]
