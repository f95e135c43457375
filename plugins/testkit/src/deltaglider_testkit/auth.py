"""Conformance of credential stores, authenticators and authorizers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from deltaglider_core.context import S3Request
from deltaglider_core.errors import S3Error
from deltaglider_core.interfaces.auth import (
    ANONYMOUS,
    Action,
    Authenticator,
    Authorizer,
    Credentials,
    CredentialStore,
    Decision,
    Principal,
    Resource,
)
from deltaglider_core.testing import request

from .purity import STRANGE_NAMES, no_io


class CredentialStoreConformance:
    """What every ``CredentialStore`` must do.

    Inherit, and override the fixtures ``store`` and ``known``.
    """

    @pytest.fixture
    def store(self) -> CredentialStore:
        """The store under test, open."""
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    def known(self) -> Credentials:
        """A key that the store knows, with a secret of at least eight characters."""
        raise NotImplementedError("override the fixture `known`")

    def test_is_a_store(self, store: CredentialStore) -> None:
        assert isinstance(store, CredentialStore)

    async def test_known_key(self, store: CredentialStore, known: Credentials) -> None:
        found = await store.get_credentials(known.access_key_id)
        assert found is not None
        assert found.access_key_id == known.access_key_id
        assert found.secret_access_key == known.secret_access_key

    async def test_unknown_key(self, store: CredentialStore, known: Credentials) -> None:
        """None, not an error; and only the exact key is known."""
        near = (
            known.access_key_id + "x",
            known.access_key_id[:-1],
            known.access_key_id.swapcase(),
            f" {known.access_key_id}",
            f"{known.access_key_id}\0",
            f"{known.access_key_id}/",
        )
        for name in (*near, *STRANGE_NAMES):
            if name != known.access_key_id:
                assert await store.get_credentials(name) is None

    async def test_no_secret_in_repr(self, store: CredentialStore, known: Credentials) -> None:
        found = await store.get_credentials(known.access_key_id)
        assert len(known.secret_access_key) >= 8
        for text in (repr(store), str(store), repr(found), str(found), repr(vars_of(store))):
            assert known.secret_access_key not in text


def vars_of(thing: object) -> object:
    """Attributes, as a debugger or an error report would print them."""
    return getattr(thing, "__dict__", None)


class AuthenticatorConformance:
    """What every ``Authenticator`` must do: None versus raise.

    Inherit, and override the fixtures. They give requests by function, since a request has
    a body that can be read only once.
    """

    @pytest.fixture
    def authenticator(self) -> Authenticator:
        """The authenticator under test, open."""
        raise NotImplementedError("override the fixture `authenticator`")

    @pytest.fixture
    def valid(self) -> S3Request:
        """A request with evidence that holds."""
        raise NotImplementedError("override the fixture `valid`")

    @pytest.fixture
    def invalid(self) -> Sequence[S3Request]:
        """Requests with evidence of this kind that does not hold: expired, forged, cut."""
        raise NotImplementedError("override the fixture `invalid`")

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        """Texts that must never be shown, at least one."""
        raise NotImplementedError("override the fixture `secrets`")

    def test_is_an_authenticator(self, authenticator: Authenticator) -> None:
        assert isinstance(authenticator, Authenticator)

    async def test_valid(self, authenticator: Authenticator, valid: S3Request) -> None:
        principal = await authenticator.authenticate(valid)
        assert isinstance(principal, Principal)
        assert principal.name
        assert principal.authenticator
        assert not principal.anonymous

    async def test_not_mine(self, authenticator: Authenticator) -> None:
        """None without evidence of this kind; never a principal."""
        assert await authenticator.authenticate(request()) is None
        for value in ("", "Negotiate abc", "Unknown-Scheme x=y"):
            stranger = request(headers={"authorization": value})
            assert await authenticator.authenticate(stranger) is None

    async def test_invalid(
        self, authenticator: Authenticator, invalid: Sequence[S3Request], secrets: Sequence[str]
    ) -> None:
        """An S3 error that shows no secret; neither None nor a principal."""
        assert invalid
        for wrong in invalid:
            with pytest.raises(S3Error) as caught:
                await authenticator.authenticate(wrong)
            shown = f"{caught.value!r} {caught.value} {caught.value.fields} {caught.value.headers}"
            assert caught.value.status < 500
            for secret in secrets:
                assert secret not in shown

    async def test_no_secret_in_repr(
        self, authenticator: Authenticator, valid: S3Request, secrets: Sequence[str]
    ) -> None:
        principal = await authenticator.authenticate(valid)
        assert secrets
        for secret in secrets:
            assert secret not in f"{authenticator!r} {principal!r} {principal}"

    async def test_body_is_not_read(self, authenticator: Authenticator, valid: S3Request) -> None:
        """The body belongs to the operation; reading it here would lose it."""
        await authenticator.authenticate(valid)
        assert await anext(aiter(valid.body), None) is not None, "give `valid` a body"


class AuthorizerConformance:
    """What every ``Authorizer`` must do: pure, total, deterministic, no I/O.

    Inherit, and override the fixtures ``authorizer`` and ``examples``.
    """

    @pytest.fixture
    def authorizer(self) -> Authorizer:
        """The authorizer under test, open."""
        raise NotImplementedError("override the fixture `authorizer`")

    @pytest.fixture
    def examples(self) -> Sequence[tuple[Principal, Action, Resource, Decision]]:
        """Questions and the expected decisions."""
        raise NotImplementedError("override the fixture `examples`")

    @staticmethod
    def questions() -> list[tuple[Principal, Action, Resource]]:
        """Every action on every kind of resource, asked by anybody."""
        principals = (ANONYMOUS, *(Principal(name=n, authenticator="x") for n in STRANGE_NAMES))
        resources = (
            Resource(),
            Resource(bucket="bucket"),
            *(Resource(bucket="bucket", key=name) for name in STRANGE_NAMES),
            *(Resource(bucket=name, key="k") for name in STRANGE_NAMES),
        )
        return list(itertools.product(principals, Action, resources))

    def test_is_an_authorizer(self, authorizer: Authorizer) -> None:
        assert isinstance(authorizer, Authorizer)

    def test_examples(
        self,
        authorizer: Authorizer,
        examples: Sequence[tuple[Principal, Action, Resource, Decision]],
    ) -> None:
        assert examples
        for principal, action, resource, expected in examples:
            with no_io():
                decision = authorizer.authorize(principal, action, resource, {})
            assert decision is expected, (principal, action, resource)

    def test_total(self, authorizer: Authorizer) -> None:
        for principal, action, resource in self.questions():
            with no_io():
                decision = authorizer.authorize(principal, action, resource, {})
            assert isinstance(decision, Decision)

    def test_deterministic(self, authorizer: Authorizer) -> None:
        conditions = {"aws:SourceIp": "10.1.2.3", "aws:SecureTransport": "true", "": ""}
        for principal, action, resource in self.questions()[::7]:
            with no_io():
                answers = {
                    authorizer.authorize(principal, action, resource, conditions) for _ in range(3)
                }
            assert len(answers) == 1
