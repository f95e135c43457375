"""Every parser of what clients send, alone: a value, or an error of S3, and in a moment."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.forms import BOUNDARY
from support.fuzz_bases import (
    CHUNKED,
    DATA,
    FORM,
    XML_ACL,
    XML_COMPLETE,
    XML_CORS,
    XML_CREATE,
    XML_DELETE,
    XML_DELETE_IF,
    XML_TAGS,
)
from support.fuzz_requests import VALUES, mutated_body
from support.fuzz_words import HEADER_NAMES, QUERY_NAMES
from support.fuzz_world import fuzz_settings

from deltaglider_core.context import S3Request
from deltaglider_core.errors import ClientError, NotImplementedS3
from deltaglider_core.forwarded import TrustedProxies
from deltaglider_core.interfaces.auth import ANONYMOUS
from deltaglider_core.interfaces.storage import Checksum
from deltaglider_core.s3 import (
    acl,
    addressing,
    checksums,
    conditions,
    copying,
    cors_xml,
    form_data,
    listing,
    names,
    object_headers,
    operations,
    parts,
    post_policy,
    ranges,
    request_checks,
    sigv4,
    tags,
    xml,
)
from deltaglider_core.s3.chunked import decode_aws_chunked
from deltaglider_core.s3.payload import open_payload
from deltaglider_core.s3.sigv4_evidence import with_hoisted_headers

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Make = Callable[..., S3Request]


def refusal(work: Callable[[], object]) -> None:
    """Run a parser; an error that blames the client is what it may raise."""
    refused: ClientError | NotImplementedS3 | None = None
    try:
        work()
    except (ClientError, NotImplementedS3) as error:
        refused = error
    assert refused is None or refused.text
    assert refused is None or all(isinstance(text, str) for text in refused.fields.values())


def spliced(*known: bytes) -> st.SearchStrategy[bytes]:
    """Values of the dictionary and arbitrary bytes, one behind the other."""
    piece = VALUES | st.sampled_from(known or (b"",)) | st.binary(max_size=6)
    return st.lists(piece, min_size=1, max_size=4).map(b"".join)


def as_text(data: bytes) -> str:
    """Header bytes as the endpoint reads them."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


# --- single values --------------------------------------------------------------------------

TEXTS: Mapping[str, Callable[[str], object]] = {
    "base64 digest": lambda text: checksums.decode_digest("x-amz-checksum-crc32", text),
    "boundary": form_data.boundary_of,
    "bucket": lambda text: names.check_bucket_name(text, creating=True),
    "copy range": ranges.parse_copy_range,
    "copy source": copying.parse_copy_source,
    "date": conditions.parse_http_date,
    "host": addressing.host_name,
    "key": names.check_key,
    "owner": request_checks.check_owner,
    "path": names.split_path,
    "policy": post_policy.parse_policy,
    "policy in base64": lambda text: post_policy.parse_policy(
        base64.b64encode(text.encode("utf-8", "replace")).decode()
    ),
    "query": names.parse_query,
    "range": ranges.parse_range,
    "tags": tags.parse_tagging_header,
    "time": conditions.parse_time,
    "token": listing.decode_token,
    "token of ours": lambda text: listing.decode_token(
        base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode()
    ),
}


@given(
    st.sampled_from(sorted(TEXTS)), spliced(b"bytes=", b"{", b'{"conditions": [', b"]}", b"Mon, ")
)
@example("date", b"Fri, 31 Dec 9999 23:59:59 -2359")
@example("time", b"0001-01-01T00:00:00+23:59")
@example("policy in base64", b"[" * 5000)
@example("policy in base64", b'{"expiration": "9999-12-31T23:59:59-23:59", "conditions": []}')
@example(
    "policy in base64", b'{"expiration": 1, "conditions": [["content-length-range", 1e999, 1]]}'
)
@fuzz_settings(120)
def test_values(name: str, value: bytes) -> None:
    refusal(lambda: TEXTS[name](as_text(value)))


# --- headers and queries --------------------------------------------------------------------

HEADERS: Mapping[str, Callable[[Mapping[str, str]], object]] = {
    "acl": acl.check_acl_headers,
    "checksum of an upload": checksums.checksum_of_upload,
    "checksum of an object": lambda headers: checksums.claim_for_object(
        headers, Checksum(algorithm="crc32")
    ),
    "claim": checksums.find_claim,
    "copy conditions": lambda headers: conditions.check_copy_source(headers, "e" * 32, NOW),
    "delete conditions": conditions.delete_condition,
    "digest": request_checks.require_digest,
    "if-range": lambda headers: conditions.if_range_applies(headers, "e" * 32, NOW),
    "read conditions": lambda headers: conditions.check_read(headers, "e" * 32, NOW),
    "unsupported": object_headers.refuse_unsupported,
    "write conditions": conditions.write_condition,
}

headers = st.dictionaries(
    st.sampled_from(HEADER_NAMES).map(as_text), spliced().map(as_text), max_size=8
)


@given(headers)
@fuzz_settings(60)
def test_headers(headers: Mapping[str, str]) -> None:
    for parse in HEADERS.values():
        refusal(lambda parse=parse: parse(headers))  # type: ignore[misc]


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    query=st.lists(
        st.tuples(st.sampled_from(QUERY_NAMES).map(as_text), spliced().map(as_text)), max_size=6
    ),
    headers=headers,
)
@fuzz_settings(60)
def test_requests(
    make_request: Make, method: str, query: list[tuple[str, str]], headers: Mapping[str, str]
) -> None:
    request = replace(make_request(method, "/bucket/key", list(headers.items())), query=query)
    found = operations.find_operation(method, "bucket", "key", query, headers)
    assert found in operations.ACTIONS
    for check in (
        request_checks.check_request,
        parts.parse_part_number,
        parts.part_to_read,
        listing.encoding_type_of,
        object_headers.metadata_of_request,
        sigv4.find_evidence,
        lambda request: with_hoisted_headers(headers, query),
        *(
            lambda request, name=name: listing.integer_param(request, name, 1)
            for name in ("max-keys", "max-parts", "max-uploads", "part-number-marker")
        ),
    ):
        refusal(lambda check=check: check(request))  # type: ignore[misc]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-real-ip"]
            ),
            spliced(b"10.0.0.1", b"::ffff:1.2.3.4", b"[::1]:80", b"fe80::1%eth0", b", ", b"for="),
        ),
        max_size=4,
    ),
    st.sampled_from(["", "127.0.0.1", "::1", "fe80::1%lo", "not an address"]),
)
@fuzz_settings(60)
def test_headers_of_proxies(headers: Sequence[tuple[bytes, bytes]], peer: str) -> None:
    """They come from a trusted network, and may still be nonsense."""
    found = TrustedProxies(["127.0.0.0/8", "::1/128"]).read(peer, "http", headers)
    assert found.scheme in ("http", "https")
    if found.host is not None:
        refusal(lambda: addressing.host_name(found.host or ""))


# --- documents ------------------------------------------------------------------------------

DOCUMENTS: Mapping[str, tuple[bytes, Callable[[bytes], object]]] = {
    "acl": (XML_ACL, acl.check_acl_document),
    "complete": (XML_COMPLETE, xml.parse_complete_multipart),
    "cors": (XML_CORS, cors_xml.parse_cors),
    "create": (XML_CREATE, xml.parse_create_bucket),
    "delete": (XML_DELETE, xml.parse_delete_objects),
    "delete if": (XML_DELETE_IF, xml.parse_delete_objects),
    "object tags": (XML_TAGS, tags.parse_object_tagging),
    "bucket tags": (XML_TAGS, tags.parse_bucket_tagging),
}


def spoilt(body: bytes) -> st.SearchStrategy[bytes]:
    """A body with up to three faults."""
    once = mutated_body(body)
    return once | once.flatmap(mutated_body) | once.flatmap(mutated_body).flatmap(mutated_body)


@given(
    st.sampled_from(sorted(DOCUMENTS)).flatmap(
        lambda name: st.tuples(st.just(name), spoilt(DOCUMENTS[name][0]))
    )
)
@example(("delete", b"<Delete><Object><Key>" + b"k" * 5000 + b"</Key></Object></Delete>"))
@example(("complete", XML_COMPLETE.replace(b">1<", b">" + b"1" * 5000 + b"<")))
@example(("cors", XML_CORS.replace(b">60<", b">" + b"9" * 5000 + b"<")))
@example(("delete if", XML_DELETE_IF.replace(b"2026-01", b"0001-01").replace(b"Z<", b"+23:59<")))
@example(("object tags", b"<?xml version='1.0' encoding='utf-32'?><Tagging/>"))
@fuzz_settings(120)
def test_documents(case: tuple[str, bytes]) -> None:
    name, document = case
    refusal(lambda: DOCUMENTS[name][1](document))


# --- streams --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


def read_all(runner: asyncio.Runner, stream: AsyncIterator[bytes]) -> bytes | None:
    """All that comes, or None if it is refused."""

    async def collect() -> bytes:
        return b"".join([piece async for piece in stream])

    try:
        return runner.run(collect())
    except ClientError:
        return None


@given(spoilt(CHUNKED), st.integers(1, 40))
@fuzz_settings(80)
def test_chunks(runner: asyncio.Runner, body: bytes, size: int) -> None:
    """What comes out has the length that was announced, and does not depend on the pieces."""
    outcomes = [
        read_all(
            runner,
            decode_aws_chunked(
                in_pieces(body, step),
                decoded_length=len(DATA),
                signature=None,
                trailer_signed=False,
            ),
        )
        for step in (size, len(body) or 1)
    ]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] is None or len(outcomes[0]) == len(DATA)


@given(spoilt(CHUNKED), headers)
@fuzz_settings(60)
def test_payloads(
    runner: asyncio.Runner, make_request: Make, body: bytes, headers: Mapping[str, str]
) -> None:
    """Whatever a body is announced to be."""
    for extra in ({}, {"content-length": str(len(body))}):
        pairs = list({**headers, **extra}.items())
        request = make_request("PUT", "/bucket/key", pairs, in_pieces(body, 7))
        refusal(
            lambda request=request: read_all(  # type: ignore[misc]
                runner, open_payload(request, ANONYMOUS, max_size=1000)
            )
        )


@given(spoilt(FORM), st.integers(1, 40))
@example(FORM.replace(b"form-data;", b"form-data;\n", 1), 1)
@example(FORM.replace(b"\r\nContent-Disposition", b"\r\n\nContent-Disposition", 1), 1)
@fuzz_settings(60)
def test_forms(runner: asyncio.Runner, body: bytes, size: int) -> None:
    """The same fields and the same file, in whatever pieces the form comes."""
    # What stands before the first delimiter is skipped or refused, as the pieces fall.
    comparable = body.startswith(f"--{BOUNDARY}\r\n".encode())

    async def read(step: int) -> tuple[object, ...] | None:
        reader = form_data.FormReader(in_pieces(body, step), BOUNDARY)
        try:
            await reader.read_fields()
            file = b"".join([piece async for piece in reader.file()])
        except ClientError:
            return None
        return dict(reader.fields), reader.filename, file

    whole = runner.run(read(len(body) or 1))
    assert runner.run(read(size)) == whole or not comparable
