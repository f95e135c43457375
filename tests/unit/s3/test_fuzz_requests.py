"""Requests that are almost right, in every operation: an S3 error, and nothing stored."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.asgi import RawRequest
from support.fuzz_bases import BASES, honest
from support.fuzz_requests import spoilt, spoilt_body
from support.fuzz_world import World, fuzz_settings, open_world

from deltaglider_core.s3.operations import ACTIONS, OPEN_OPERATIONS, find_operation

# The application draws from Python's generator meanwhile, on a thread of its own.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

WITH_BODY = [name for name in BASES if any(base[4] for base in BASES[name])]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("fuzz")) as opened:
        yield opened


def test_there_is_an_honest_request_of_every_operation(world: World) -> None:
    found = set()
    for bases in BASES.values():
        for method, path, query, headers, _ in bases:
            bucket, _, key = path.decode()[1:].partition("/")
            pairs = [(name.decode(), value.decode()) for name, value in query]
            named = {name.decode(): value.decode() for name, value in headers.items()}
            found.add(find_operation(method, bucket, key, pairs, named))
    assert found == {*ACTIONS, *OPEN_OPERATIONS}


#: What honest requests are refused with, because of what the bucket holds or nobody ever set.
REFUSED = {
    "delete_bucket": ["BucketNotEmpty"],
    "get_bucket_configuration": [
        "NoSuchBucketPolicy",
        "ServerSideEncryptionConfigurationNotFoundError",
    ],
    "put_bucket_configuration": ["NotImplemented"],
    "cors_preflight": ["AccessForbidden"],
    "get_object": ["InvalidRequest"],
    "delete_object": ["PreconditionFailed"],
    "not_implemented": ["NotImplemented", "NotImplemented"],
    "method_not_allowed": ["MethodNotAllowed"],
}


def test_honest_requests(world: World) -> None:
    """The requests that are spoilt below would have got somewhere."""
    for operation, bases in BASES.items():
        codes = [world.try_out(honest(base)).code for base in bases]
        assert [code for code in codes if code] == REFUSED.get(operation, []), operation


@given(st.sampled_from(sorted(BASES)).flatmap(spoilt))
@example(RawRequest(path=b"/fuzzed", query=b"prefix=\x80"))
@example(RawRequest(path=b"/_/stats", query=b"bucket=\xff"))
@fuzz_settings(120)
def test_spoilt_requests(world: World, request: RawRequest) -> None:
    world.try_out(request)


@given(st.sampled_from(WITH_BODY).flatmap(spoilt_body))
@fuzz_settings(80)
def test_spoilt_bodies(world: World, request: RawRequest) -> None:
    world.try_out(request)
