"""The one Falcon sink: parse once, run the stages, run the operation, render.

The stages come from a frozen pipeline, taken once per request: a reload in the middle of a
request cannot mix two configurations.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import falcon

from ..combinators import all_pass, first_hit
from ..context import RequestContext, S3Request, admit
from ..errors import (
    AccessDenied,
    ClientError,
    GatewayTimeout,
    IntegrityError,
    InternalError,
    InvalidArgument,
    InvalidURI,
    NoSuchBucket,
    NoSuchKey,
    NotImplementedS3,
    RequestTimeout,
    S3Error,
)
from ..interfaces.admission import RequestFacts
from ..interfaces.auth import ANONYMOUS, Principal
from ..origin import origin
from . import handlers
from .addressing import TARGET, Target
from .cors import with_cors_headers
from .deadline import answer_in_time
from .names import MAX_KEY_BYTES, check_bucket_name, check_key, parse_query
from .objects import MAX_SINGLE_PUT
from .operations import ACTIONS, OPEN_OPERATIONS, find_operation
from .post_object import with_form
from .replay import signature_of
from .request_checks import check_request
from .response import HOST_ID, S3Response, is_sendable
from .sigv4_evidence import with_hoisted_headers
from .wire import Exchange
from .xml import render_error

if TYPE_CHECKING:
    from ..gateway import Gateway
    from ..limits import Limits
    from ..pipeline import Pipeline
    from ..services import Clock


#: Characters of a bucket or key in the log: those of the longest key.
MAX_LOGGED = MAX_KEY_BYTES


class S3Endpoint:
    """Serves S3.

    Args:
        gateway: Holds the pipeline in force.
        clock: The time, for signatures.
        log: A structlog logger.
        limits: Of the process.
    """

    def __init__(self, gateway: Gateway, clock: Clock, log: Any, limits: Limits) -> None:
        self._gateway = gateway
        self._clock = clock
        self._log = log
        self._limits = limits

    async def __call__(self, req: Any, resp: Any, **_: object) -> None:
        """Falcon sink."""
        exchange: Exchange = req.scope["deltaglider.exchange"]
        request_id = uuid.uuid4().hex.upper()
        exchange.log_fields["request_id"] = request_id
        # Held until the exchange ends.
        pipeline = exchange.resources.enter_context(self._gateway.acquire())
        request: S3Request | None = None
        response: S3Response
        try:
            request = parse_request(req.scope, exchange, request_id, self._clock)
            exchange.operation = request.operation
            if request.operation == "post_object":
                # Nobody is known before the fields of a form have come: until then it is no
                # work, and must not keep work out.
                request = await self._with_form(request, pipeline, exchange)
            await exchange.place.enter_async_context(self._limits.request())
            seconds = pipeline.settings.advanced.request_timeout_seconds
            work = self._serve(request, pipeline, exchange)
            response = await answer_in_time(work, exchange, seconds)
        except S3Error as error:
            response = self._render_error(error, req.scope, exchange, request_id)
        except Exception:
            self._log.exception("request failed", **exchange.log_fields)
            response = self._render_error(InternalError(), req.scope, exchange, request_id)
        if response.stream is not None:
            exchange.resources.push_async_callback(_close, response.stream)
        if request is not None:
            response = with_cors_headers(request, pipeline, response)
        try:
            _check_headers(response)
        except IntegrityError as error:
            response = self._render_error(error, req.scope, exchange, request_id)
        _fill(resp, response, request_id, req.method)

    async def _with_form(
        self, request: S3Request, pipeline: Pipeline, exchange: Exchange
    ) -> S3Request:
        maximum = min(MAX_SINGLE_PUT, pipeline.settings.advanced.max_object_size)
        request = await with_form(request, max_size=maximum)
        exchange.log_fields["key"] = request.key[:MAX_LOGGED]
        return request

    async def _serve(
        self, request: S3Request, pipeline: Pipeline, exchange: Exchange
    ) -> S3Response:
        principal = await identify(request, pipeline, exchange)
        context = RequestContext(request=request, principal=principal, pipeline=pipeline)
        if request.operation not in OPEN_OPERATIONS:
            if request.bucket:
                check_bucket_name(request.bucket, creating=request.operation == "create_bucket")
            if request.key:
                check_key(request.key)
            context.authorize(ACTIONS[request.operation], request.bucket, request.key)
            check_request(request)
        advanced = pipeline.settings.advanced
        signature = signature_of(
            request, principal, advanced.replay_window_seconds, advanced.clock_skew_seconds
        )
        with origin(bucket=request.bucket, signature=signature):
            return await handlers.HANDLERS[request.operation](context)

    def _render_error(
        self, error: S3Error, scope: Mapping[str, Any], exchange: Exchange, request_id: str
    ) -> S3Response:
        bucket, key = exchange.log_fields.get("bucket", ""), exchange.log_fields.get("key", "")
        if isinstance(error, NoSuchKey) and "Key" not in error.fields:
            error.fields["Key"] = key
        if isinstance(error, NoSuchBucket) and "BucketName" not in error.fields:
            error.fields["BucketName"] = bucket
        if not isinstance(error, ClientError | NotImplementedS3):
            fields = {**exchange.log_fields, "error": str(error), "code": error.code}
            self._log.error("request failed", **fields)
        if isinstance(error, IntegrityError):
            # The text names references and digests: for the log, not for the client.
            error = InternalError()
        if isinstance(error, RequestTimeout | GatewayTimeout):
            self._limits.refused("slow_body" if isinstance(error, RequestTimeout) else "timeout")
        exchange.log_fields["error"] = error.code
        resource = scope.get("raw_path", b"/").decode("latin-1")
        return S3Response(
            status=error.status,
            headers={"Content-Type": "application/xml", **error.headers},
            body=render_error(error, resource=resource, request_id=request_id),
        )


async def identify(request: S3Request, pipeline: Pipeline, exchange: Exchange) -> Principal:
    """Admission, gates and authentication; who sends the request, verified.

    Raises:
        S3Error: The request is refused.
    """
    facts = RequestFacts(
        method=request.method,
        operation=request.operation,
        bucket=request.bucket,
        key=request.key,
        client_ip=request.client_ip,
        has_credentials=request.has_credentials,
    )
    admit(pipeline.admission_rules, facts)
    await all_pass(pipeline.gates_before_auth, lambda gate: gate.check(request, None))
    if request.operation == "cors_preflight":
        # Browsers send it without credentials; those in a presigned URL sign another method.
        return ANONYMOUS
    principal = await _authenticate(request, pipeline)
    exchange.log_fields["user"] = principal.name
    await all_pass(pipeline.gates_after_auth, lambda gate: gate.check(request, principal))
    return principal


async def _authenticate(request: S3Request, pipeline: Pipeline) -> Principal:
    principal = await first_hit(
        pipeline.authenticators, lambda authenticator: authenticator.authenticate(request)
    )
    if principal is not None:
        return principal
    if request.has_form_credentials:
        raise AccessDenied("Nothing here verifies the credentials of this form.")
    if "authorization" in request.headers:
        # Credentials that nobody verifies must not pass for none.
        raise InvalidArgument(
            "Unsupported Authorization Type",
            fields={
                "ArgumentName": "Authorization",
                "ArgumentValue": request.headers["authorization"].split(" ")[0],
            },
        )
    return ANONYMOUS


def parse_request(
    scope: Mapping[str, Any], exchange: Exchange, request_id: str, clock: Clock
) -> S3Request:
    """Read the ASGI scope once.

    Raises:
        BadRequest: It is not clear to which host the request is addressed.
        InvalidURI: The path or the query cannot be decoded.
    """
    target: Target | S3Error = scope[TARGET]
    if isinstance(target, S3Error):
        raise target
    header_list = [
        (_text(name).lower(), _text(value)) for name, value in scope["headers"] if name != b"host"
    ]
    if target.host:
        header_list.insert(0, ("host", target.host))
    headers: dict[str, str] = {}
    for name, value in header_list:
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    try:
        raw_path = scope["raw_path"].decode("ascii")
        raw_query = scope["query_string"].decode("ascii")
    except UnicodeDecodeError:
        raise InvalidURI from None
    bucket, key = target.split()
    # What is too long to be a name is refused, and need not fill the log.
    exchange.log_fields.update(bucket=bucket[:MAX_LOGGED], key=key[:MAX_LOGGED])
    query = parse_query(raw_query)
    effective = with_hoisted_headers(headers, query)
    return S3Request(
        request_id=request_id,
        method=scope["method"],
        raw_path=raw_path,
        raw_query=raw_query,
        bucket=bucket,
        key=key,
        operation=find_operation(scope["method"], bucket, key, query, effective),
        query=query,
        headers=effective,
        header_list=header_list,
        scheme=target.scheme,
        client_ip=target.client_ip,
        received=clock.now(),
        body=exchange.body,
        target=target,
    )


def _text(raw: bytes) -> str:
    """Header bytes as text: clients that send non-ASCII metadata send UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _check_headers(response: S3Response) -> None:
    """Raise ``IntegrityError`` for a header that would cut the answer off, or split it."""
    for name, value in response.headers.items():
        if not is_sendable(name, value):
            raise IntegrityError(f"The header {name!r} cannot be sent: {value!r}")


def _fill(resp: Any, response: S3Response, request_id: str, method: str) -> None:
    resp.status = response.status
    resp.set_header("x-amz-request-id", request_id)
    resp.set_header("x-amz-id-2", HOST_ID)
    for name, value in response.headers.items():
        # Falcon encodes header values as latin-1; this way UTF-8 bytes go out.
        resp.set_header(name, value.encode("utf-8").decode("latin-1"))
    if response.stream is not None:
        resp.stream = response.stream
    elif method != "HEAD":
        resp.data = response.body


async def _close(stream: Any) -> None:
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()


async def not_found(req: Any, resp: Any, **_: object) -> None:
    """Answer for paths below ``/_/`` that nothing serves."""
    raise falcon.HTTPNotFound(title="Not found", description="Nothing is served here.")
