"""Authenticates requests by AWS Signature Version 4, in the header or in a presigned URL."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ..context import S3Request
from ..errors import ConfigurationError, InvalidAccessKeyId, SignatureDoesNotMatch
from ..interfaces.auth import CredentialStore, Principal
from ..s3 import sigv4

if TYPE_CHECKING:
    from ..services import Clock, Services
    from ..settings import Settings


class SigV4Authenticator:
    """Verifies SigV4 signatures with secrets from a credential store.

    Args:
        credentials: Knows the secrets.
        clock: The time that signatures are held against.
        max_skew: Seconds that the client's clock may differ, both ways.
    """

    def __init__(
        self,
        credentials: CredentialStore,
        clock: Clock,
        *,
        max_skew: int = sigv4.MAX_SKEW_SECONDS,
    ) -> None:
        self._credentials = credentials
        self._clock = clock
        self._max_skew = max_skew
        self._no_secret = secrets.token_urlsafe(30)

    async def authenticate(self, request: S3Request) -> Principal | None:
        """The verified principal, or None without SigV4 evidence.

        Raises:
            S3Error: The evidence is malformed, expired, incomplete or wrong.
        """
        evidence = sigv4.find_evidence(request)
        if evidence is None:
            return None
        sigv4.check_time(evidence, self._clock.now(), max_skew=self._max_skew)
        sigv4.check_signed_headers(request, evidence)
        credentials = await self._credentials.get_credentials(evidence.access_key_id)
        if credentials is None or not credentials.secret_access_key:
            # An empty secret would let anyone sign, so such a key is no key. An unknown key
            # costs the same work as a known one.
            with suppress(SignatureDoesNotMatch):
                sigv4.verify(request, evidence, self._no_secret)
            raise InvalidAccessKeyId(fields={"AWSAccessKeyId": evidence.access_key_id})
        payload = sigv4.verify(request, evidence, credentials.secret_access_key)
        return Principal(
            name=credentials.user or credentials.access_key_id,
            authenticator="sigv4",
            access_key_id=credentials.access_key_id,
            payload=payload,
        )


@asynccontextmanager
async def open_sigv4(settings: Settings, services: Services) -> AsyncIterator[SigV4Authenticator]:
    """Open the authenticator over all credential stores.

    Args:
        settings: The whole configuration.

    Raises:
        ConfigurationError: There is no credential store.
    """
    if services.credentials is None:
        raise ConfigurationError("The authenticator sigv4 needs a credential store.")
    yield SigV4Authenticator(
        services.credentials,
        services.clock,
        max_skew=settings.advanced.clock_skew_seconds,
    )
