"""Requests of web pages from other sites: the rules of a bucket, and what browsers are told.

Source: AWS, "PutBucketCors", "OPTIONS object", "Troubleshooting CORS"; WHATWG, "Fetch", "CORS
protocol".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..context import RequestContext, S3Request
from ..errors import (
    AccessForbidden,
    BadRequest,
    NoSuchBucket,
    S3Error,
)
from ..interfaces.auth import ANONYMOUS
from .cors_xml import MAX_CORS_BODY, METHODS, CorsRule, parse_cors, render_cors
from .response import S3Response, is_sendable
from .stored_configurations import delete_configuration, get_configuration, put_configuration

if TYPE_CHECKING:
    from ..pipeline import Pipeline

CORS = "cors"

#: What an answer to a browser depends on; a cache must not give it to another site.
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"

#: For buckets without rules of their own, where the settings say so. Never with credentials.
_PERMISSIVE = CorsRule(methods=METHODS, origins=("*",), headers=("*",), exposed=("*",))

#: Most names of headers that a page may ask for. No client comes near it, and anybody may ask.
MAX_REQUESTED_HEADERS = 100

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

_REFUSED = (
    "CORSResponse: This CORS request is not allowed. This is usually because the evalution of "
    "Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers "
    "are not whitelisted by the resource's CORS spec."
)


async def put_bucket_cors(context: RequestContext) -> S3Response:
    """PUT /bucket?cors: replace all rules."""

    def normalised(document: bytes) -> str:
        return render_cors(parse_cors(document)).decode()

    await put_configuration(context, CORS, normalised, max_size=MAX_CORS_BODY)
    return S3Response()


async def get_bucket_cors(context: RequestContext) -> S3Response:
    """GET /bucket?cors."""
    return await get_configuration(
        context, CORS, "NoSuchCORSConfiguration", "The CORS configuration does not exist"
    )


async def delete_bucket_cors(context: RequestContext) -> S3Response:
    """DELETE /bucket?cors."""
    await delete_configuration(context, CORS)
    return S3Response(status=204)


async def cors_preflight(context: RequestContext) -> S3Response:
    """OPTIONS: may a page of this origin send such a request?

    The answer for a bucket that does not exist is that for one without rules: anybody may ask.
    """
    request = context.request
    origin = request.headers.get("origin", "")
    method = request.headers.get("access-control-request-method")
    if not origin:
        raise BadRequest("Insufficient information. Origin request header needed.")
    if method not in METHODS:
        raise BadRequest(f"Invalid Access-Control-Request-Method: {method or 'null'}")
    fields = {"Method": method, "ResourceType": "OBJECT" if request.key else "BUCKET"}
    names = _requested_headers(request)
    if names is None:
        raise AccessForbidden(_REFUSED, fields=fields)
    rules = rules_of(request, context.pipeline)
    if not rules:
        raise AccessForbidden(fields=fields)
    rule = _first(rules, origin, method, names)
    if rule is None:
        raise AccessForbidden(_REFUSED, fields=fields)
    headers = _headers(rule, origin)
    if names:
        headers["Access-Control-Allow-Headers"] = ", ".join(names)
    return S3Response(headers=headers)


def with_cors_headers(request: S3Request, pipeline: Pipeline, response: S3Response) -> S3Response:
    """An answer, also one that refuses, with what lets a page of another site read it.

    What is not known at the moment is not allowed, and no reason to fail a request.
    """
    if request.method == "OPTIONS":
        return response
    try:
        rules = rules_of(request, pipeline)
    except S3Error:
        return response
    if not rules:
        return response
    added: Mapping[str, str] = {"Vary": VARY}
    origin = request.headers.get("origin", "")
    rule = _first(rules, origin, request.method, ()) if origin else None
    if rule is not None:
        added = _headers(rule, origin)
    return replace(response, headers={**response.headers, **added})


def rules_of(request: S3Request, pipeline: Pipeline) -> Sequence[CorsRule]:
    """The rules for the bucket of a request; none if there is no such bucket.

    Raises:
        ServiceUnavailable: They are not known at the moment.
    """
    document: str | None = None
    if request.bucket and pipeline.configurations is not None:
        context = RequestContext(request=request, principal=ANONYMOUS, pipeline=pipeline)
        try:
            bucket = context.route(request.bucket).bucket
        except NoSuchBucket:
            return ()
        document = pipeline.configurations.current(bucket, CORS)
    if document is not None:
        return parse_cors(document.encode())
    return (_PERMISSIVE,) if pipeline.settings.advanced.cors_permissive else ()


def _first(
    rules: Sequence[CorsRule], origin: str, method: str, headers: Sequence[str]
) -> CorsRule | None:
    """The first rule that admits a request, which is the one that counts."""
    if not is_sendable("Origin", origin):
        return None
    return next((rule for rule in rules if rule.admits(origin, method, headers)), None)


def _headers(rule: CorsRule, origin: str) -> dict[str, str]:
    headers = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": ", ".join(rule.methods),
    }
    if "*" in rule.origins:
        headers["Access-Control-Allow-Origin"] = "*"
    else:
        headers["Access-Control-Allow-Credentials"] = "true"
    if rule.exposed:
        headers["Access-Control-Expose-Headers"] = ", ".join(rule.exposed)
    if rule.max_age_seconds is not None:
        headers["Access-Control-Max-Age"] = str(rule.max_age_seconds)
    return {**headers, "Vary": VARY}


def _requested_headers(request: S3Request) -> Sequence[str] | None:
    """The names in lower case, each once; None if there are too many to look at."""
    value = request.headers.get("access-control-request-headers", "")
    parts = value.split(",", MAX_REQUESTED_HEADERS)
    if len(parts) > MAX_REQUESTED_HEADERS:
        return None
    names = list(dict.fromkeys(name for part in parts if (name := part.strip().lower())))
    if not all(_HEADER.fullmatch(name) for name in names):
        raise BadRequest(f'Access-Control-Request-Headers "{value}" contains invalid character.')
    return names
