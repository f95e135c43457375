"""The built-in features, registered through the same hooks as any plugin.

Imports of the implementations wait until something is opened: ``config lint`` and ``plugins``
open nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..hookspecs import hookimpl
from ..interfaces.admission import AdmissionRuleType, GateType
from ..interfaces.auth import AuthenticatorType, AuthorizerType, CredentialStoreType
from ..interfaces.contribution import Order
from ..interfaces.routing import RouterType
from ..interfaces.storage import StorageLayerType

if TYPE_CHECKING:
    from ..services import Services


def _late(
    module: str, function: str
) -> Callable[[Any, Services], AbstractAsyncContextManager[Any]]:
    """An ``open`` that imports its module when it is called."""

    @asynccontextmanager
    async def open_it(settings: Any, services: Services) -> AsyncIterator[Any]:
        opener = getattr(import_module(f"deltaglider_core.{module}"), function)
        async with opener(settings, services) as opened:
            yield opened

    return open_it


@hookimpl
def dg_admission_rules() -> Iterator[AdmissionRuleType]:
    """The reserved prefix; no rule of an operator can open it."""
    yield AdmissionRuleType(
        name="reserved-prefix",
        summary="Refuses keys that belong to DeltaGlider.",
        open=_late("builtin.admission", "open_reserved_prefix"),
        mount="admission",
        order=Order(phase="first"),
    )


@hookimpl
def dg_gates() -> Iterator[GateType]:
    """The largest object."""
    yield GateType(
        name="max-object-size",
        summary="Refuses uploads above advanced.max_object_size.",
        open=_late("builtin.gates", "open_max_object_size"),
        mount="advanced",
        stage="after_auth",
    )


@hookimpl
def dg_credential_stores() -> Iterator[CredentialStoreType]:
    """The key pair of the configuration; first, so that no other store can take its name."""
    yield CredentialStoreType(
        name="static",
        summary="The key pair in the section access.",
        open=_late("builtin.static_credentials", "open_static_credentials"),
        mount="access",
        order=Order(phase="first"),
    )


@hookimpl
def dg_authenticators() -> Iterator[AuthenticatorType]:
    """Open access where it is configured, and SigV4."""
    yield AuthenticatorType(
        name="open-access",
        summary="Takes everybody for anonymous, if access.authentication is none.",
        open=_late("builtin.open_access", "open_open_access"),
        mount="access",
        order=Order(phase="first"),
    )
    yield AuthenticatorType(
        name="sigv4",
        summary="AWS Signature Version 4, in headers and presigned URLs.",
        open=_late("builtin.sigv4_auth", "open_sigv4"),
    )


@hookimpl
def dg_authorizers() -> Iterator[AuthorizerType]:
    """The owner of the configured key."""
    yield AuthorizerType(
        name="static",
        summary="The configured key may do everything.",
        open=_late("builtin.authorizer", "open_static_authorizer"),
        mount="access",
    )


@hookimpl
def dg_routers() -> Iterator[RouterType]:
    """The one backend, for every bucket that no other router claims."""
    yield RouterType(
        name="table",
        summary="Every bucket is on the configured backend, under its own name.",
        open=_late("builtin.table_router", "open_table_router"),
        mount="storage",
        order=Order(phase="last"),
    )


@hookimpl
def dg_storage_layers() -> Iterator[StorageLayerType]:
    """The state, and deltas, which are read even where no new ones are written."""
    yield StorageLayerType(
        name="intents",
        summary="Records mutations: intents, events, usage, quotas.",
        open=_late("state.layer", "open_state_layer"),
        order=Order(phase="first", before=("delta",)),
    )
    yield StorageLayerType(
        name="delta",
        summary="Stores versions of similar files as deltas.",
        open=_late("delta.layer", "open_delta_layer"),
        order=Order(after=("intents",), before=("encryption",)),
    )
