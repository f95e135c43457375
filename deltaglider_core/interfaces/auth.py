"""Who is asking, and what they may do."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .contribution import Contribution

if TYPE_CHECKING:
    from ..context import S3Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """An access key; ``repr`` never shows the secret."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    user: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PayloadSignature:
    """What a signed request promised about its body, for the decoder of the body.

    Attributes:
        signing_key: SigV4 signing key of the day, 32 bytes; empty where nothing was verified.
        seed: Signature of the request in hex, the seed of chunk signatures.
        timestamp: ``X-Amz-Date`` as sent, e.g. ``20130524T000000Z``.
        scope: ``yyyymmdd/region/s3/aws4_request``.
    """

    signing_key: bytes = field(repr=False)
    seed: str
    timestamp: str
    scope: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """A verified identity.

    Attributes:
        name: For logs and audit, e.g. the user or the access key.
        authenticator: Contribution name of the authenticator that verified it.
        access_key_id: Empty for anonymous and non-key identities.
        payload: How to verify signed chunks; None where the request carries no signature.
    """

    name: str
    authenticator: str
    access_key_id: str = ""
    anonymous: bool = False
    payload: PayloadSignature | None = None


ANONYMOUS = Principal(name="anonymous", authenticator="", anonymous=True)


class Action(enum.StrEnum):
    """What a request wants to do, as far as permissions distinguish it."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    LIST = "list"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """What it wants to do that to; an empty key is the bucket, an empty bucket the service."""

    bucket: str = ""
    key: str = ""


class Decision(enum.Enum):
    """One authorizer's opinion; any DENY wins, then any ALLOW, else the answer is no."""

    ALLOW = "allow"
    DENY = "deny"
    ABSTAIN = "abstain"


@runtime_checkable
class CredentialStore(Protocol):
    """Finds the secret of an access key. The signature maths never leaves the core."""

    async def get_credentials(self, access_key_id: str) -> Credentials | None:
        """None if the key is unknown here; raise only if the store cannot be asked."""


@runtime_checkable
class Authenticator(Protocol):
    """Verifies one kind of evidence."""

    async def authenticate(self, request: S3Request) -> Principal | None:
        """None: no evidence of my kind. Raise an ``S3Error``: mine, but wrong.

        The evidence is in the headers or the query, or in ``request.form`` of a browser's form,
        which is None for any other request.
        """


@runtime_checkable
class Authorizer(Protocol):
    """Decides over data it already holds: pure, total, no I/O."""

    def authorize(
        self,
        principal: Principal,
        action: Action,
        resource: Resource,
        conditions: Mapping[str, str],
    ) -> Decision:
        """Conditions are facts of the request, e.g. ``aws:SourceIp``."""


class CredentialStoreType(Contribution[CredentialStore]):
    """Stores are asked in order; the first that knows the key answers."""

    __slots__ = ()


class AuthenticatorType(Contribution[Authenticator]):
    """Asked in order; the first that recognises the evidence decides.

    ``open`` of an authenticator may use ``services.credentials``: the combined stores.
    """

    __slots__ = ()


class AuthorizerType(Contribution[Authorizer]):
    """All are asked: any DENY refuses, else any ALLOW admits, else the answer is no."""

    __slots__ = ()
