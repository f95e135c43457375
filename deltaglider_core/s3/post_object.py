"""POST /bucket with an HTML form: an object, its metadata and its credentials in one body.

The fields come first. They become part of the request (``S3Request.form``) before anything is
decided about it, so admission, authentication and authorization see the key that is written, and
an authenticator finds the credentials of the form. The file follows as the body.

Source: AWS, "POST Object" and "Browser-based uploads using POST (AWS Signature Version 4)".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from ..context import RequestContext, S3Request
from ..errors import (
    EntityTooLarge,
    EntityTooSmall,
    InvalidArgument,
    InvalidRequest,
    MissingContentLength,
    NotImplementedS3,
    RequestTimeout,
)
from . import objects
from .addressing import location_of
from .checksums import PREFIX as CHECKSUM_PREFIX
from .checksums import find_claim
from .form_data import MAX_FORM_BYTES, FormReader, boundary_of
from .form_spool import whole_file
from .names import check_key
from .object_headers import (
    USER_PREFIX,
    metadata_of_request,
    refuse_unsupported,
    tags_of_request,
)
from .post_policy import SizeRange, parse_policy
from .response import S3Response, is_sendable, xml_response
from .sigv4_form import SIGNING_FIELDS, missing_field
from .tags import TAGGING_HEADER, parse_object_tagging, require_kept
from .xml import XmlWriter

#: Seconds in which all fields before the file must have come, as a head must be complete: who
#: sends them shows only in them, so the pace of a body would be too generous.
FIELDS_SECONDS = 30.0

#: Fields that are headers of PUT under the same name.
_HEADER_FIELDS = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-md5",
        "content-type",
        "expires",
        "x-amz-storage-class",
    }
)
#: For authenticators. A token of a session is refused by the one that would have to know it.
_SIGNING_FIELDS = frozenset(name.lower() for name in SIGNING_FIELDS) | {"x-amz-security-token"}
_ALGORITHM_FIELD = "x-amz-checksum-algorithm"
_FILENAME = "${filename}"
_STATUSES = {"200": 200, "201": 201}


async def with_form(request: S3Request, *, max_size: int) -> S3Request:
    """Read the fields of a form; the request with them, its key, and the file as its body.

    Args:
        max_size: Most bytes of the file.

    Raises:
        S3Error: The body is no form, too large, has no key or no file, or the client went away.
        RequestTimeout: The fields did not come within ``FIELDS_SECONDS``.
    """
    for name in ("if-match", "if-none-match"):
        if name in request.headers:
            # Passed over, it would overwrite what the client wanted to protect.
            raise NotImplementedS3(
                f"The header {name} is not supported for form uploads.", fields={"Header": name}
            )
    boundary = boundary_of(request.headers.get("content-type", ""))
    length = request.content_length
    if length is None:
        raise MissingContentLength
    _check_length(length, SizeRange(maximum=max_size))
    form = FormReader(request.body, boundary)
    try:
        async with asyncio.timeout(FIELDS_SECONDS):
            await form.read_fields()
    except TimeoutError:
        raise RequestTimeout from None
    fields = form.fields
    if form.filename is not None:
        # A browser may send a path, of its own system: only the name counts.
        name = re.split(r"[/\\]", form.filename)[-1]
        fields = {field: value.replace(_FILENAME, name) for field, value in fields.items()}
    if "key" not in fields:
        raise missing_field("key")
    check_key(fields["key"])
    return replace(request, key=fields["key"], form=fields, body=form.file())


async def post_object(context: RequestContext) -> S3Response:
    """POST /bucket with ``multipart/form-data``."""
    request, settings = context.request, context.pipeline.settings.advanced
    form = request.form or {}
    sizes = SizeRange(maximum=min(objects.MAX_SINGLE_PUT, settings.max_object_size))
    if "policy" in form:
        policy = parse_policy(form["policy"])
        policy.check(form, bucket=request.bucket, now=request.received)
        sizes = sizes.within(policy.sizes)
    length = request.content_length or 0
    _check_length(length, sizes)
    upload = replace(request, method="PUT", operation="put_object", headers=_headers(form))
    _check_before_file(upload, form)
    storage, bucket = context.storage()
    await storage.head_bucket(bucket)
    require_kept(storage, tags_of_request(upload))
    limited = _limited(request.body, sizes)
    async with whole_file(limited, context.pipeline.spool, most=length) as file:
        headers = {**upload.headers, "content-length": str(file.size)}
        put = replace(upload, headers=headers, body=file.body)
        stored = await objects.put_object(replace(context, request=put))
    return _answer(request, form, stored.headers)


def _check_length(length: int, sizes: SizeRange) -> None:
    """Refuse by the length of the request what the size of its file will be refused for."""
    if sizes.maximum is not None and length - MAX_FORM_BYTES > sizes.maximum:
        raise _too_large(length - MAX_FORM_BYTES, sizes.maximum)
    if length < sizes.minimum:
        raise _too_small(length, sizes.minimum)


async def _limited(file: AsyncIterator[bytes], sizes: SizeRange) -> AsyncIterator[bytes]:
    size = 0
    async for piece in file:
        size += len(piece)
        if sizes.maximum is not None and size > sizes.maximum:
            raise _too_large(size, sizes.maximum)
        yield piece
    if size < sizes.minimum:
        raise _too_small(size, sizes.minimum)


def _too_large(size: int, maximum: int) -> EntityTooLarge:
    return EntityTooLarge(fields={"ProposedSize": str(size), "MaxSizeAllowed": str(maximum)})


def _too_small(size: int, minimum: int) -> EntityTooSmall:
    return EntityTooSmall(fields={"ProposedSize": str(size), "MinSizeAllowed": str(minimum)})


def _headers(form: Mapping[str, str]) -> dict[str, str]:
    """The headers of a PUT that means the same.

    Raises:
        InvalidArgument: The name of a field cannot be that of a header.
        NotImplementedS3: A field asks for something that this service would silently not do.
        MalformedXML, InvalidTag, BadRequest: See ``parse_object_tagging``.
    """
    headers: dict[str, str] = {}
    for name, value in form.items():
        if name == "acl":
            headers["x-amz-acl"] = value
        elif name == "tagging":
            tags = parse_object_tagging(value.encode())
            headers[TAGGING_HEADER] = urlencode(tags, quote_via=quote)
        elif name in _HEADER_FIELDS or name.startswith((USER_PREFIX, CHECKSUM_PREFIX)):
            _check_name(name)
            headers[name] = value
        elif name.startswith("x-amz-") and name not in _SIGNING_FIELDS:
            raise NotImplementedS3(
                f"The field {name} is not supported by this service.", fields={"Header": name}
            )
    headers.pop(_ALGORITHM_FIELD, None)
    return headers


def _check_name(name: str) -> None:
    """Refuse what a header of a PUT could not be named: every answer would have to repeat it."""
    if not is_sendable(name, ""):
        raise InvalidArgument(
            f"The field {name!r} cannot be a header. Its name may have letters, digits and "
            "!#$%&'*+.^_`|~-.",
            fields={"ArgumentName": name},
        )


def _check_before_file(upload: S3Request, form: Mapping[str, str]) -> None:
    """Refuse what PUT would refuse, before the file is read."""
    refuse_unsupported(upload.headers)
    metadata_of_request(upload)
    claim = find_claim(upload.headers)
    algorithm = form.get(_ALGORITHM_FIELD)
    if algorithm is not None and (claim is None or claim.algorithm != algorithm.lower()):
        raise InvalidRequest(
            f"The form names the checksum algorithm {algorithm} ({_ALGORITHM_FIELD}), but has no "
            f"field {CHECKSUM_PREFIX}{algorithm.lower()}."
        )


def _answer(request: S3Request, form: Mapping[str, str], stored: Mapping[str, str]) -> S3Response:
    """What the form asked to be answered: a redirect, or a status."""
    etag = stored["ETag"]
    for name in ("success_action_redirect", "redirect"):
        target = _redirect(
            form.get(name, ""), {"bucket": request.bucket, "key": request.key, "etag": etag}
        )
        if target is not None:
            return S3Response(status=303, headers={**stored, "Location": target})
    location = location_of(request, safe="")
    headers = {**stored, "Location": location}
    status = _STATUSES.get(form.get("success_action_status", ""), 204)
    if status != 201:
        return S3Response(status=status, headers=headers)
    xml = XmlWriter("PostResponse", namespace="")
    xml.leaf("Location", location)
    xml.leaf("Bucket", request.bucket)
    xml.leaf("Key", request.key)
    xml.leaf("ETag", etag)
    return xml_response(xml.finish(), status=201, headers=headers)


def _redirect(url: str, facts: Mapping[str, str]) -> str | None:
    """The URL with the facts added to its query; None if it is none that a browser could follow."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        return None
    if not usable or not is_sendable("Location", url):
        return None
    query = f"{parts.query}&{urlencode(facts)}" if parts.query else urlencode(facts)
    # Headers are ASCII; what is escaped already stays as it is.
    return quote(urlunsplit(parts._replace(query=query)), safe="!#$%&'()*+,/:;=?@[]~")


__all__ = ["post_object", "with_form"]
