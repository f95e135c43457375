"""Values of one request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .combinators import deny_wins, first_hit_sync
from .errors import AccessDenied, NoSuchBucket
from .interfaces.admission import RequestFacts
from .interfaces.auth import Action, Principal, Resource

if TYPE_CHECKING:
    from .interfaces.admission import AdmissionRule
    from .interfaces.routing import Route
    from .interfaces.storage import StorageBackend
    from .pipeline import Pipeline
    from .s3.addressing import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Request:
    """A request, parsed once. Every stage sees this one spelling of it.

    Attributes:
        request_id: Also in the ``x-amz-request-id`` header and in errors.
        method: Upper case.
        raw_path: Path as sent, percent-encoded, without the query; a configured prefix included.
        raw_query: Query as sent, without ``?``.
        bucket: Decoded; empty for the service itself.
        key: Decoded; empty for the bucket.
        operation: S3 name in snake case, e.g. ``put_object``; see ``s3/operations.py``.
        query: Decoded pairs in the order sent; a key without ``=`` has the value ``""``.
        headers: Lower-case names; repeated headers are joined with ``,``. Those that the signer
            of a presigned URL moved into its query are here as well.
        header_list: Lower-case names and values as sent, in order; ``host`` is the one that the
            request is addressed to, where a target in absolute form or a proxy says another one.
        scheme: ``http`` or ``https``, as the client sees it.
        client_ip: The TCP peer, or the client of the trusted proxy that it is.
        received: Aware, UTC.
        body: The body as it came over the wire, chunk framing included; of a form its file.
        form: The fields of a browser's form before its file, by lower-case name, ``${filename}``
            replaced; None for any other request. ``key`` is the form's then. The credentials are
            among the fields (``policy``, ``x-amz-credential``, ``x-amz-signature``), and nothing
            in them has been verified.
        target: How the bucket and the key were found; None if only the path is known.
    """

    request_id: str
    method: str
    raw_path: str
    raw_query: str
    bucket: str
    key: str
    operation: str
    query: Sequence[tuple[str, str]]
    headers: Mapping[str, str]
    header_list: Sequence[tuple[str, str]]
    scheme: str
    client_ip: str
    received: datetime
    body: AsyncIterator[bytes] = field(repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    target: Target | None = None

    def param(self, name: str, default: str | None = None) -> str | None:
        """First query value of ``name``, or ``default``."""
        for key, value in self.query:
            if key == name:
                return value
        return default

    @property
    def has_credentials(self) -> bool:
        """Whether the request brings any, right or wrong."""
        return (
            "authorization" in self.headers
            or self.has_form_credentials
            or any(
                name in {"X-Amz-Signature", "X-Amz-Credential", "AWSAccessKeyId"}
                for name, _ in self.query
            )
        )

    @property
    def has_form_credentials(self) -> bool:
        """Whether the fields of a form bring credentials, right or wrong."""
        names = {"x-amz-signature", "x-amz-credential", "signature", "awsaccesskeyid"}
        return self.form is not None and not names.isdisjoint(self.form)

    @property
    def content_length(self) -> int | None:
        """``Content-Length`` as sent, or None if it is absent or no length."""
        value = self.headers.get("content-length", "")
        # The size first: int() refuses thousands of digits with an error of its own.
        return int(value) if len(value) < 20 and value.isascii() and value.isdigit() else None


def admit(rules: Sequence[AdmissionRule], facts: RequestFacts) -> None:
    """Ask the rules in order; the first verdict counts. Raises the error of a rejection."""
    verdict = first_hit_sync(rules, lambda rule: rule.evaluate(facts))
    if verdict is not None and verdict.action != "continue":
        raise verdict.error or AccessDenied(f"Blocked by access rule '{verdict.rule}'")


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestContext:
    """A request with what the stages found out about it; what an operation receives."""

    request: S3Request
    principal: Principal
    pipeline: Pipeline

    def admit_key(self, method: str, operation: str, action: Action, bucket: str, key: str) -> None:
        """Decide on a further key that the operation touches, as if it were asked for alone.

        Copy sources and the keys of a batch pass the same admission rules and authorizers as
        the key of the request. Raises what those raise.
        """
        facts = RequestFacts(
            method=method,
            operation=operation,
            bucket=bucket,
            key=key,
            client_ip=self.request.client_ip,
            has_credentials=self.request.has_credentials,
        )
        admit(self.pipeline.admission_rules, facts)
        self.authorize(action, bucket, key)

    def authorize(self, action: Action, bucket: str, key: str = "") -> None:
        """Raise ``AccessDenied`` unless the principal may do this."""
        if not self.allowed(action, bucket, key):
            raise AccessDenied

    def allowed(self, action: Action, bucket: str, key: str = "") -> bool:
        """Any DENY refuses, else any ALLOW admits, else no."""
        conditions = {"aws:SourceIp": self.request.client_ip}
        resource = Resource(bucket=bucket, key=key)
        return deny_wins(
            self.pipeline.authorizers,
            lambda authorizer: authorizer.authorize(self.principal, action, resource, conditions),
        )

    def route(self, bucket: str) -> Route:
        """Where a bucket lives. Raises ``NoSuchBucket``."""
        route = first_hit_sync(self.pipeline.routers, lambda router: router.resolve(bucket))
        if route is None:
            raise NoSuchBucket(fields={"BucketName": bucket})
        return route

    def storage(self) -> tuple[StorageBackend, str]:
        """The layered backend of the request's bucket, and the bucket's real name there."""
        route = self.route(self.request.bucket)
        return self.pipeline.backends[route.backend], route.bucket
