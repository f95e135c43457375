"""The kit on what the core registers itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import pytest
from support.signing import Signer

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_core.builtin.admission import ReservedPrefix
from deltaglider_core.builtin.authorizer import StaticAuthorizer
from deltaglider_core.builtin.sigv4_auth import SigV4Authenticator
from deltaglider_core.builtin.static_credentials import StaticCredentials
from deltaglider_core.builtin.table_router import TableRouter
from deltaglider_core.context import S3Request
from deltaglider_core.delta.layer import DeltaLayer, open_engine
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.interfaces.admission import RequestFacts
from deltaglider_core.interfaces.auth import (
    ANONYMOUS,
    Action,
    Authorizer,
    Credentials,
    CredentialStore,
    Decision,
    Principal,
    Resource,
)
from deltaglider_core.interfaces.routing import Route, Router
from deltaglider_core.pipeline import DEFAULT_BACKEND_NAME
from deltaglider_core.services import Services
from deltaglider_core.testing import FakeClock, request
from deltaglider_testkit import (
    AdmissionConformance,
    AuthenticatorConformance,
    AuthorizerConformance,
    CredentialStoreConformance,
    LayerConformance,
    RouterConformance,
)
from deltaglider_testkit.layer import Wrap

OWNER = Credentials(
    access_key_id="AKIDEXAMPLE",
    secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    user="owner",
)
OTHER = Credentials(access_key_id="AKIDOTHER", secret_access_key="another secret")
CLOCK = FakeClock()


def signed(
    credentials: Credentials = OWNER, *, age: float = 0.0, forged: bool = False, bucket: str = "b"
) -> S3Request:
    """A signed GET of an object with a body."""
    signer = Signer(
        host="localhost:9000",
        access_key=credentials.access_key_id,
        secret_key=credentials.secret_access_key,
    )
    answer = signer.sign("GET", "/b/k", at=CLOCK.now() - timedelta(seconds=age))
    headers = dict(answer.headers)
    if forged:
        headers["authorization"] = headers["authorization"][:-1] + "z"
    return request(
        bucket=bucket,
        key="k",
        raw_path=f"/{bucket}/k",
        operation="get_object",
        headers=headers,
        received=CLOCK.now(),
        data=b"body",
    )


class TestStaticCredentials(CredentialStoreConformance):
    @pytest.fixture
    def store(self) -> CredentialStore:
        return StaticCredentials(OWNER)

    @pytest.fixture
    def known(self) -> Credentials:
        return OWNER


class TestSigV4(AuthenticatorConformance):
    @pytest.fixture
    def authenticator(self) -> SigV4Authenticator:
        return SigV4Authenticator(StaticCredentials(OWNER), CLOCK)

    @pytest.fixture
    def valid(self) -> S3Request:
        return signed()

    @pytest.fixture
    def invalid(self) -> Sequence[S3Request]:
        wrong = Credentials(access_key_id=OWNER.access_key_id, secret_access_key="guess")
        return [
            signed(forged=True),
            signed(wrong),
            signed(OTHER),
            signed(age=3600),
            signed(age=-3600),
            signed(bucket="elsewhere"),
        ]

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return [OWNER.secret_access_key]


class TestTableRouter(RouterConformance):
    @pytest.fixture
    def router(self) -> Router:
        return TableRouter()

    @pytest.fixture
    def routes(self) -> Mapping[str, Route | None]:
        return {"b": Route(backend=DEFAULT_BACKEND_NAME, bucket="b")}


class TestStaticAuthorizer(AuthorizerConformance):
    @pytest.fixture
    def authorizer(self) -> Authorizer:
        return StaticAuthorizer(OWNER.access_key_id, open_to_everybody=False)

    @pytest.fixture
    def examples(self) -> Sequence[tuple[Principal, Action, Resource, Decision]]:
        owner = Principal(name="owner", authenticator="sigv4", access_key_id=OWNER.access_key_id)
        other = Principal(name="owner", authenticator="sigv4", access_key_id=OTHER.access_key_id)
        place = Resource(bucket="b", key="k")
        return [
            (owner, Action.READ, place, Decision.ALLOW),
            (owner, Action.ADMIN, Resource(), Decision.ALLOW),
            (other, Action.READ, place, Decision.ABSTAIN),
            (ANONYMOUS, Action.READ, place, Decision.ABSTAIN),
        ]


class TestReservedPrefix(AdmissionConformance):
    @pytest.fixture
    def rule(self) -> ReservedPrefix:
        return ReservedPrefix()

    @pytest.fixture
    def examples(self) -> list[tuple[RequestFacts, str | None]]:
        return [
            (facts(".deltaglider/refs/x"), "reject"),
            (facts(".deltaglider/"), "reject"),
            (facts(".deltagliderx"), None),
            (facts("a/.deltaglider/x"), None),
            (facts(""), None),
        ]


def facts(key: str) -> RequestFacts:
    """Of a GET."""
    return RequestFacts(
        method="GET",
        operation="get_object",
        bucket="b",
        key=key,
        client_ip="127.0.0.1",
        has_credentials=True,
    )


class DeltaLayerTests(LayerConformance):
    keeps_internal_metadata = False
    logical_etags = True
    policy = DeltaPolicy()

    @pytest.fixture
    async def wrap(self, dg_services: Services) -> AsyncIterator[Wrap]:
        codec = Xdelta3Codec(level=1, window_size=1024 * 1024, zstd_level=1)
        services = Services(
            clock=dg_services.clock,
            log=dg_services.log,
            metrics=dg_services.metrics,
            spool=dg_services.spool,
            cache_dir=dg_services.cache_dir,
            codecs={codec.codec_id: codec},
        )
        async with open_engine(self.policy, services) as engine:
            yield lambda inner: DeltaLayer(inner, engine)


class TestDeltaLayer(DeltaLayerTests):
    """With the suffixes that it has by default."""


class TestDeltaLayerOnEveryKey(DeltaLayerTests):
    """Every key may become a delta."""

    policy = DeltaPolicy(suffixes=("",))
