"""The built-in stages: static keys, their rights, the reserved prefix, sizes, routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deltaglider_core.builtin import admission, authorizer, gates, static_credentials, table_router
from deltaglider_core.errors import AccessDenied, EntityTooLarge
from deltaglider_core.interfaces.admission import RequestFacts
from deltaglider_core.interfaces.auth import ANONYMOUS, Action, Decision, Principal, Resource
from deltaglider_core.interfaces.routing import Route
from deltaglider_core.services import Services
from deltaglider_core.settings import (
    AccessSettings,
    AdmissionSettings,
    AdvancedSettings,
    StorageSettings,
)
from deltaglider_core.testing import request, services_for_tests

KEYS = AccessSettings.model_validate(
    {"access_key_id": "admin", "secret_access_key": "changeme-changeme"}
)
OPEN = AccessSettings(authentication="none")
OWNER = Principal(name="admin", authenticator="sigv4", access_key_id="admin")
STRANGER = Principal(name="other", authenticator="sigv4", access_key_id="other")


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_for_tests(tmp_path)


async def test_the_configured_pair_is_known_and_nothing_else(services: Services) -> None:
    async with static_credentials.open_static_credentials(KEYS, services) as store:
        found = await store.get_credentials("admin")
        assert found is not None
        assert found.secret_access_key == "changeme-changeme"
        assert "changeme" not in repr(found)
        for name in ("", "Admin", "admin ", "other"):
            assert await store.get_credentials(name) is None


@pytest.mark.parametrize("settings", [OPEN, AccessSettings()])
async def test_without_a_pair_no_key_is_known(settings: AccessSettings, services: Services) -> None:
    async with static_credentials.open_static_credentials(settings, services) as store:
        for name in ("", "admin", "anonymous"):
            assert await store.get_credentials(name) is None


@pytest.mark.parametrize(
    ("settings", "principal", "decision"),
    [
        (KEYS, OWNER, Decision.ALLOW),
        (KEYS, STRANGER, Decision.ABSTAIN),
        (KEYS, ANONYMOUS, Decision.ABSTAIN),
        (
            KEYS,
            Principal(name="x", authenticator="x", access_key_id="admin", anonymous=True),
            Decision.ABSTAIN,
        ),
        (AccessSettings(), ANONYMOUS, Decision.ABSTAIN),
        (AccessSettings(), OWNER, Decision.ABSTAIN),
        (OPEN, ANONYMOUS, Decision.ALLOW),
        (OPEN, STRANGER, Decision.ALLOW),
        (KEYS.model_copy(update={"authentication": "none"}), ANONYMOUS, Decision.ABSTAIN),
        (KEYS.model_copy(update={"authentication": "none"}), OWNER, Decision.ALLOW),
    ],
)
async def test_only_the_owner_is_allowed_unless_open_access_is_written_down(
    settings: AccessSettings, principal: Principal, decision: Decision, services: Services
) -> None:
    async with authorizer.open_static_authorizer(settings, services) as opened:
        for action in Action:
            assert opened.authorize(principal, action, Resource(bucket="b"), {}) is decision


@pytest.mark.parametrize(
    ("key", "rejected"),
    [
        (".deltaglider/refs/x", True),
        (".deltaglider/", True),
        (".deltaglider//", True),
        (".deltaglider", False),
        (".deltagliders/x", False),
        ("a/.deltaglider/x", False),
        (".Deltaglider/x", False),
        ("", False),
    ],
)
async def test_the_reserved_prefix_is_refused(key: str, rejected: bool, services: Services) -> None:
    facts = RequestFacts(
        method="GET",
        operation="get_object",
        bucket="b",
        key=key,
        client_ip="127.0.0.1",
        has_credentials=True,
    )
    async with admission.open_reserved_prefix(AdmissionSettings(), services) as rule:
        verdict = rule.evaluate(facts)
    if not rejected:
        assert verdict is None
        return
    assert verdict is not None
    assert verdict.action == "reject"
    assert isinstance(verdict.error, AccessDenied)
    assert "reserved" in str(verdict.error)


@pytest.mark.parametrize(
    ("operation", "headers", "refused"),
    [
        ("put_object", {"content-length": "1000"}, False),
        ("put_object", {"content-length": "1001"}, True),
        ("upload_part", {"content-length": "1001"}, True),
        ("put_object", {"content-length": "2000", "x-amz-decoded-content-length": "1000"}, False),
        ("put_object", {"content-length": "10", "x-amz-decoded-content-length": "1001"}, True),
        ("put_object", {"content-length": "9" * 5000}, True),
        ("put_object", {"content-length": "0" * 5000 + "7"}, False),
        ("put_object", {"content-length": "-5"}, False),
        ("put_object", {"content-length": "²"}, False),
        ("put_object", {}, False),
        ("delete_objects", {"content-length": "5000"}, False),
    ],
)
async def test_a_declared_size_above_the_limit_is_refused(
    operation: str, headers: dict[str, str], refused: bool, services: Services
) -> None:
    settings = AdvancedSettings(max_object_size=1000)
    asked: Any = request(method="PUT", bucket="b", key="k", operation=operation, headers=headers)
    async with gates.open_max_object_size(settings, services) as gate:
        if not refused:
            await gate.check(asked, ANONYMOUS)
            return
        with pytest.raises(EntityTooLarge) as caught:
            await gate.check(asked, ANONYMOUS)
    assert caught.value.fields["MaxSizeAllowed"] == "1000"
    assert len(caught.value.fields["ProposedSize"]) <= 24


async def test_every_bucket_is_on_the_default_backend(services: Services) -> None:
    async with table_router.open_table_router(StorageSettings(), services) as router:
        assert router.resolve("builds") == Route(backend="default", bucket="builds")
