"""Authenticates requests by AWS Signature Version 4: in the header, a presigned URL or a form."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from ..context import S3Request
from ..errors import ConfigurationError, InvalidAccessKeyId, SignatureDoesNotMatch
from ..interfaces.auth import CredentialStore, PayloadSignature, Principal
from ..s3 import sigv4
from ..s3.sigv4_form import find_form_evidence, verify_form

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
        if request.form is not None:
            form = find_form_evidence(request)
            if form is None:
                return None
            self._check_time(form.evidence)
            return await self._principal(form.evidence, partial(verify_form, form))
        evidence = sigv4.find_evidence(request)
        if evidence is None:
            return None
        self._check_time(evidence)
        sigv4.check_signed_headers(request, evidence)
        return await self._principal(evidence, partial(sigv4.verify, request, evidence))

    def _check_time(self, evidence: sigv4.Evidence) -> None:
        sigv4.check_time(evidence, self._clock.now(), max_skew=self._max_skew)

    async def _principal(
        self, evidence: sigv4.Evidence, verify: Callable[[str], PayloadSignature]
    ) -> Principal:
        """Whose signature it is; ``verify`` takes the secret."""
        credentials = await self._credentials.get_credentials(evidence.access_key_id)
        if credentials is None or not credentials.secret_access_key:
            # An empty secret would let anyone sign, so such a key is no key. An unknown key
            # costs the same work as a known one.
            with suppress(SignatureDoesNotMatch):
                verify(self._no_secret)
            raise InvalidAccessKeyId(fields={"AWSAccessKeyId": evidence.access_key_id})
        payload = verify(credentials.secret_access_key)
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
