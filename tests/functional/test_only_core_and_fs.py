"""Without the codec: the service stores and serves, and refuses what it cannot decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.expect import refused
from support.samples import MIB, md5_hex, release
from support.server import ServerProcess

if TYPE_CHECKING:
    from conftest import MakeClient, StartServer

WITHOUT = {"advanced": {"plugins": {"disabled": ["codec-xdelta3"]}}}


@pytest.fixture
def lost(start_server: StartServer, boto3_factory: MakeClient) -> ServerProcess:
    """A server that has stored a delta and has since lost its codec."""
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    for number in range(2):
        s3.put_object(Bucket="bucket", Key=f"app-{number}.zip", Body=release(number))
    assert (server.data / "bucket" / "app-1.zip").stat().st_size < MIB // 10
    server.stop()
    server.write_config(WITHOUT)
    return server.start()


def test_serves_and_stores_as_it_is(start_server: StartServer, boto3_factory: MakeClient) -> None:
    server = start_server(settings=WITHOUT)
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket="bucket")
    for number in range(3):
        key = f"app-{number}.zip"
        s3.put_object(Bucket="bucket", Key=key, Body=release(number))
        found = s3.get_object(Bucket="bucket", Key=key)
        assert found["Body"].read() == release(number)
        assert (server.data / "bucket" / key).read_bytes() == release(number)


def test_a_stored_delta_is_refused_not_served_raw(
    lost: ServerProcess, boto3_factory: MakeClient
) -> None:
    s3 = boto3_factory(lost)
    with refused("InternalError", 500):
        s3.get_object(Bucket="bucket", Key="app-1.zip")
    with refused("InternalError", 500):
        s3.get_object(Bucket="bucket", Key="app-1.zip", Range="bytes=0-9")
    assert "xdelta3" in lost.log_text(), "the log names what is missing"
    # What needs no decoding still works, with the logical facts.
    head = s3.head_object(Bucket="bucket", Key="app-1.zip")
    assert (head["ContentLength"], head["ETag"]) == (
        len(release(1)),
        f'"{md5_hex(release(1))}"',
    )
    listed = s3.list_objects_v2(Bucket="bucket")["Contents"][1]
    assert (listed["Size"], listed["ETag"]) == (head["ContentLength"], head["ETag"])


def test_nothing_is_lost_when_the_codec_returns(
    lost: ServerProcess, boto3_factory: MakeClient
) -> None:
    s3 = boto3_factory(lost)
    s3.put_object(Bucket="bucket", Key="app-2.zip", Body=release(2))
    lost.stop()
    lost.write_config({})
    lost.start()
    for number in range(3):
        found = s3.get_object(Bucket="bucket", Key=f"app-{number}.zip")
        assert found["Body"].read() == release(number)
    s3.delete_object(Bucket="bucket", Key="app-1.zip")
    assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 2
