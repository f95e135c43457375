"""Codecs, routers, rules and the like with one defect each; run by ``test_broken_fakes``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_core.context import S3Request
from deltaglider_core.errors import AccessDenied, CorruptDelta
from deltaglider_core.interfaces.admission import RequestFacts, Verdict
from deltaglider_core.interfaces.auth import (
    Action,
    Credentials,
    Decision,
    Principal,
    Resource,
)
from deltaglider_core.interfaces.codec import EncodedWindow
from deltaglider_core.interfaces.routing import Route
from deltaglider_core.testing import request
from deltaglider_testkit import (
    AdmissionConformance,
    AuthenticatorConformance,
    AuthorizerConformance,
    CodecConformance,
    CredentialStoreConformance,
    RouterConformance,
)

# --- codecs ---------------------------------------------------------------------------------


class RealCodec(Xdelta3Codec):
    def __init__(self) -> None:
        super().__init__(level=1, window_size=1024 * 1024, zstd_level=1)


class BrokenCodecTests(CodecConformance):
    broken: type[RealCodec]

    @pytest.fixture
    def codec(self) -> Any:
        return self.broken()


class TestCodecRaisesValueError(BrokenCodecTests):
    class broken(RealCodec):
        """Damage is an error, but none that the engine knows."""

        def decode_window(self, reference: Any, window: Any, *, size: int) -> bytes:
            try:
                return super().decode_window(reference, window, size=size)
            except CorruptDelta as error:
                raise ValueError from error


class TestCodecIgnoresSize(BrokenCodecTests):
    class broken(RealCodec):
        """A size that is too small cuts the answer."""

        def decode_window(self, reference: Any, window: Any, *, size: int) -> bytes:
            for larger in (size, 50_000):
                try:
                    return super().decode_window(reference, window, size=larger)[:size]
                except CorruptDelta:
                    if size >= 50_000:
                        raise
            raise CorruptDelta


class TestCodecWithState(BrokenCodecTests):
    class broken(RealCodec):
        """A window needs the one decoded before it."""

        position = 0
        count = 0

        def encode_window(self, prepared: Any, target: Any) -> EncodedWindow:
            encoded = super().encode_window(prepared, target)
            self.count += 1
            return EncodedWindow(
                data=self.count.to_bytes(2, "big") + encoded.data, span=encoded.span
            )

        def decode_window(self, reference: Any, window: Any, *, size: int) -> bytes:
            number = int.from_bytes(bytes(window[:2]), "big")
            if number not in (self.position, self.position + 1):
                raise CorruptDelta
            self.position = number
            return super().decode_window(reference, bytes(window[2:]), size=size)


class TestCodecSpanTooSmall(BrokenCodecTests):
    class broken(RealCodec):
        def encode_window(self, prepared: Any, target: Any) -> EncodedWindow:
            encoded = super().encode_window(prepared, target)
            offset, length = encoded.span
            return EncodedWindow(data=encoded.data, span=(offset, length // 2))


class TestCodecWrongByte(BrokenCodecTests):
    class broken(RealCodec):
        """The last byte of a full window is lost."""

        def decode_window(self, reference: Any, window: Any, *, size: int) -> bytes:
            data = super().decode_window(reference, window, size=size)
            return data[:-1] + b"\0" if size == self.window_size else data


# --- routers, rules, authorizers ------------------------------------------------------------


class BrokenRouterTests(RouterConformance):
    @pytest.fixture
    def routes(self) -> Mapping[str, Route | None]:
        return {"b": Route(backend="default", bucket="b")}


class TestRouterReadsFile(BrokenRouterTests):
    @pytest.fixture
    def router(self, tmp_path: Path) -> Any:
        (tmp_path / "routes").write_text("default")

        class Reading:
            def resolve(self, bucket: str) -> Route | None:
                return Route(backend=(tmp_path / "routes").read_text(), bucket=bucket)

        return Reading()


class TestRouterRaises(BrokenRouterTests):
    @pytest.fixture
    def router(self) -> Any:
        class Raising:
            def resolve(self, bucket: str) -> Route | None:
                return Route(backend="default", bucket=bucket.encode("ascii").decode())

        return Raising()

    @pytest.fixture
    def routes(self) -> Mapping[str, Route | None]:
        return {"b": Route(backend="default", bucket="b")}


class TestRouterChangesItsMind(BrokenRouterTests):
    @pytest.fixture
    def router(self) -> Any:
        class Counting:
            def __init__(self) -> None:
                self.count = itertools.count()

            def resolve(self, bucket: str) -> Route | None:
                first = next(self.count) == 0
                return Route(backend="default" if first else "other", bucket=bucket)

        return Counting()


class TestRuleWithoutError(AdmissionConformance):
    @pytest.fixture
    def rule(self) -> Any:
        class Silent:
            def evaluate(self, facts: RequestFacts) -> Verdict | None:
                return Verdict(action="reject", rule="silent")

        return Silent()

    @pytest.fixture
    def examples(self) -> list[tuple[RequestFacts, str | None]]:
        return [(example_facts(), "reject")]


class TestRuleRaises(AdmissionConformance):
    @pytest.fixture
    def rule(self) -> Any:
        class Raising:
            def evaluate(self, facts: RequestFacts) -> Verdict | None:
                raise AccessDenied

        return Raising()

    @pytest.fixture
    def examples(self) -> list[tuple[RequestFacts, str | None]]:
        return [(example_facts(), "reject")]


def example_facts() -> RequestFacts:
    return RequestFacts(
        method="GET",
        operation="get_object",
        bucket="b",
        key="k",
        client_ip="127.0.0.1",
        has_credentials=False,
    )


class TestAuthorizerAnswersTrue(AuthorizerConformance):
    @pytest.fixture
    def authorizer(self) -> Any:
        class Truthy:
            def authorize(self, *arguments: Any) -> Any:
                return arguments[2].key == "k" or Decision.ABSTAIN

        return Truthy()

    @pytest.fixture
    def examples(self) -> Sequence[tuple[Principal, Action, Resource, Decision]]:
        somebody = Principal(name="somebody", authenticator="x")
        return [(somebody, Action.READ, Resource(), Decision.ABSTAIN)]


# --- credentials ----------------------------------------------------------------------------

KNOWN = Credentials(access_key_id="AKIDEXAMPLE", secret_access_key="very secret")


class BrokenStoreTests(CredentialStoreConformance):
    @pytest.fixture
    def known(self) -> Credentials:
        return KNOWN


class TestStoreRaisesOnUnknown(BrokenStoreTests):
    @pytest.fixture
    def store(self) -> Any:
        class Raising:
            async def get_credentials(self, access_key_id: str) -> Credentials | None:
                return {KNOWN.access_key_id: KNOWN}[access_key_id]

        return Raising()


class TestStoreMatchesPrefix(BrokenStoreTests):
    @pytest.fixture
    def store(self) -> Any:
        class Sloppy:
            async def get_credentials(self, access_key_id: str) -> Credentials | None:
                return KNOWN if access_key_id.startswith(KNOWN.access_key_id) else None

        return Sloppy()


class TestStoreShowsSecret(BrokenStoreTests):
    @pytest.fixture
    def store(self) -> Any:
        class Open:
            secrets = {KNOWN.access_key_id: KNOWN.secret_access_key}

            def __repr__(self) -> str:
                return f"Open({self.secrets})"

            async def get_credentials(self, access_key_id: str) -> Credentials | None:
                return KNOWN if access_key_id == KNOWN.access_key_id else None

        return Open()


class BrokenAuthenticatorTests(AuthenticatorConformance):
    """Evidence is the header ``authorization: Word <secret>``."""

    @pytest.fixture
    def valid(self) -> S3Request:
        return request(headers={"authorization": "Word very-secret"}, data=b"body")

    @pytest.fixture
    def invalid(self) -> Sequence[S3Request]:
        return [request(headers={"authorization": "Word guess"})]

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return ["very-secret"]


class WordAuthenticator:
    """Sound."""

    async def authenticate(self, request: S3Request) -> Principal | None:
        scheme, _, word = request.headers.get("authorization", "").partition(" ")
        if scheme != "Word":
            return None
        return self.check(word)

    def check(self, word: str) -> Principal | None:
        if word != "very-secret":
            raise AccessDenied
        return Principal(name="somebody", authenticator="word")


class TestSoundAuthenticator(BrokenAuthenticatorTests):
    """The control: nothing is broken, and nothing fails."""

    @pytest.fixture
    def authenticator(self) -> Any:
        return WordAuthenticator()


class TestAuthenticatorPassesOn(BrokenAuthenticatorTests):
    """Wrong evidence is taken for none: somebody else may let the request in."""

    @pytest.fixture
    def authenticator(self) -> Any:
        class Lenient(WordAuthenticator):
            def check(self, word: str) -> Principal | None:
                return super().check(word) if word == "very-secret" else None

        return Lenient()


class TestAuthenticatorShowsSecret(BrokenAuthenticatorTests):
    @pytest.fixture
    def authenticator(self) -> Any:
        class Chatty(WordAuthenticator):
            def check(self, word: str) -> Principal | None:
                if word != "very-secret":
                    raise AccessDenied("expected very-secret")
                return super().check(word)

        return Chatty()


class TestAuthenticatorClaimsEverything(BrokenAuthenticatorTests):
    @pytest.fixture
    def authenticator(self) -> Any:
        class Greedy(WordAuthenticator):
            async def authenticate(self, request: S3Request) -> Principal | None:
                return self.check(request.headers.get("authorization", "")[5:])

        return Greedy()


class TestAuthenticatorReadsBody(BrokenAuthenticatorTests):
    @pytest.fixture
    def authenticator(self) -> Any:
        class Reading(WordAuthenticator):
            async def authenticate(self, request: S3Request) -> Principal | None:
                async for _ in request.body:
                    pass
                return await super().authenticate(request)

        return Reading()
