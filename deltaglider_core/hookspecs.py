"""Every hook of DeltaGlider. Start here when you write a plugin.

A hook registers, it never works: it is a generator without arguments that yields small
frozen records. All hooks are called once, when the process starts, before the
configuration is read, and must do no I/O; ``open`` of a record does. Nothing is called
through pluggy while a request is served. What is called an error below stops the start.

A plugin is a module named by an entry point of the group ``deltaglider``::

    [project.entry-points.deltaglider]
    mine = "deltaglider_mine.plugin"

Each example below is complete: it is a whole ``plugin.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from .hookspecs_beside import BesideRequests

if TYPE_CHECKING:
    from .interfaces.admission import AdmissionRuleType, GateType
    from .interfaces.auth import AuthenticatorType, AuthorizerType, CredentialStoreType
    from .interfaces.codec import CodecType
    from .interfaces.contribution import SettingsSection
    from .interfaces.routing import RouterType
    from .interfaces.storage import StorageBackendType, StorageLayerType

hookspec = pluggy.HookspecMarker("deltaglider")
hookimpl = pluggy.HookimplMarker("deltaglider")


class HookSpecs(BesideRequests):
    """The hooks, in the order in which a request meets what they register; then all others."""

    @hookspec
    def dg_settings(self) -> Iterable[SettingsSection]:  # type: ignore[empty-body]
        """Mount a settings model in the configuration.

        Called once, at start, before the YAML file is validated.

        Yields:
            ``SettingsSection``: a dotted path below ``admission``, ``access``, ``storage`` or
            ``advanced``, and a subclass of ``Section`` whose fields all have descriptions.

        Order and conflicts: order is irrelevant. A path mounted twice, or one that the core has
        already, stops the start.

        Example::

            from deltaglider_core import Section, SettingsSection, hookimpl, setting

            class GreetingSettings(Section):
                word: str = setting("hello", description="What is said.")

            @hookimpl
            def dg_settings():
                yield SettingsSection(mount="advanced.greeting", model=GreetingSettings)
        """

    @hookspec
    def dg_admission_rules(self) -> Iterable[AdmissionRuleType]:  # type: ignore[empty-body]
        """Register rules that decide about a request before it is authenticated.

        Called once, at start. The opened rules are asked for every request, first of all.

        Yields:
            ``AdmissionRuleType``, whose ``open`` yields an ``AdmissionRule``: pure, no I/O.

        Order and conflicts: asked in order, the first verdict counts. A name taken twice is an
        error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import AccessDenied, AdmissionRuleType, Verdict, hookimpl

            class NoDeletes:
                def evaluate(self, facts):
                    if facts.operation != "delete_object":
                        return None
                    return Verdict(action="reject", rule="no-deletes", error=AccessDenied())

            @asynccontextmanager
            async def open_rule(settings, services):
                yield NoDeletes()

            @hookimpl
            def dg_admission_rules():
                yield AdmissionRuleType(name="no-deletes", summary="No deletes.", open=open_rule)
        """

    @hookspec
    def dg_gates(self) -> Iterable[GateType]:  # type: ignore[empty-body]
        """Register conditions that every request must meet: limits, freezes.

        Called once, at start. The opened gates are asked before the body is read.

        Yields:
            ``GateType`` with ``stage`` ``before_auth`` or ``after_auth``, whose ``open`` yields
            a ``Gate``; its ``check`` raises an ``S3Error`` to refuse.

        Order and conflicts: all gates of a stage must pass, in order. A name taken twice is an
        error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import GateType, ServiceUnavailable, hookimpl

            class Night:
                def __init__(self, clock):
                    self.clock = clock

                async def check(self, request, principal):
                    if self.clock.now().hour < 5:
                        raise ServiceUnavailable("Closed until 05:00 UTC.")

            @asynccontextmanager
            async def open_gate(settings, services):
                yield Night(services.clock)

            @hookimpl
            def dg_gates():
                yield GateType(name="night", summary="Night.", open=open_gate, stage="before_auth")
        """

    @hookspec
    def dg_credential_stores(self) -> Iterable[CredentialStoreType]:  # type: ignore[empty-body]
        """Register places where the secret of an access key is found.

        Called once, at start. The opened stores are asked whenever a signature is verified;
        the verification itself is the core's.

        Yields:
            ``CredentialStoreType``, whose ``open`` yields a ``CredentialStore``.

        Order and conflicts: asked in order, the first that knows the key answers. A store that
        cannot be asked raises, and the request fails. A name taken twice is an error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import Credentials, CredentialStoreType, hookimpl

            class OneGuest:
                async def get_credentials(self, access_key_id):
                    if access_key_id != "guest":
                        return None
                    return Credentials(access_key_id="guest", secret_access_key="guest-secret")

            @asynccontextmanager
            async def open_store(settings, services):
                yield OneGuest()

            @hookimpl
            def dg_credential_stores():
                yield CredentialStoreType(name="guest", summary="One fixed guest.", open=open_store)
        """

    @hookspec
    def dg_authenticators(self) -> Iterable[AuthenticatorType]:  # type: ignore[empty-body]
        """Register ways to verify who sends a request.

        Called once, at start. The opened authenticators are asked for every request.

        Yields:
            ``AuthenticatorType``, whose ``open`` yields an ``Authenticator``: None means "not
            my kind of evidence", an ``S3Error`` means "mine, but wrong". ``services.credentials``
            are all credential stores as one.

        Order and conflicts: asked in order, the first that recognises the evidence decides. A name
        taken twice is an error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import AuthenticatorType, Principal, hookimpl

            class Loopback:
                async def authenticate(self, request):
                    if request.client_ip != "127.0.0.1" or "authorization" in request.headers:
                        return None
                    return Principal(name="local", authenticator="local")

            @asynccontextmanager
            async def open_it(settings, services):
                yield Loopback()

            @hookimpl
            def dg_authenticators():
                yield AuthenticatorType(name="local", summary="Trusts it.", open=open_it)
        """

    @hookspec
    def dg_authorizers(self) -> Iterable[AuthorizerType]:  # type: ignore[empty-body]
        """Register those who decide what a verified identity may do.

        Called once, at start. The opened authorizers are asked for every request, on the
        decoded key that the operation uses.

        Yields:
            ``AuthorizerType``, whose ``open`` yields an ``Authorizer``: pure, no I/O.

        Order and conflicts: all are asked; any DENY refuses, else any ALLOW admits, else the
        request is refused. A name taken twice is an error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import Action, AuthorizerType, Decision, hookimpl

            class ReadOnlyGuest:
                def authorize(self, principal, action, resource, conditions):
                    if principal.name != "guest":
                        return Decision.ABSTAIN
                    reads = action in (Action.READ, Action.LIST)
                    return Decision.ALLOW if reads else Decision.DENY

            @asynccontextmanager
            async def open_authorizer(settings, services):
                yield ReadOnlyGuest()

            @hookimpl
            def dg_authorizers():
                yield AuthorizerType(name="guest", summary="May read.", open=open_authorizer)
        """

    @hookspec
    def dg_routers(self) -> Iterable[RouterType]:  # type: ignore[empty-body]
        """Register how a bucket's name leads to a backend and to its real name there.

        Called once, at start. The opened routers are asked for every request to a bucket.

        Yields:
            ``RouterType``, whose ``open`` yields a ``Router``: pure, no I/O.

        Order and conflicts: asked in order, the first route counts; the built-in ``table`` comes
        last and routes every bucket to the backend ``default``. A name taken twice is an error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import Route, RouterType, hookimpl

            class Alias:
                def resolve(self, bucket):
                    if bucket != "archive":
                        return None
                    return Route(backend="default", bucket="prod-archive-2024")

            @asynccontextmanager
            async def open_router(settings, services):
                yield Alias()

            @hookimpl
            def dg_routers():
                yield RouterType(name="alias", summary="One alias.", open=open_router)
        """

    @hookspec
    def dg_storage_layers(self) -> Iterable[StorageLayerType]:  # type: ignore[empty-body]
        """Register wrappers around every backend: quota, delta, encryption.

        Called once, at start. Each opened layer wraps each backend once per pipeline.

        Yields:
            ``StorageLayerType``, whose ``open`` yields a function from the inner
            ``StorageBackend`` to a ``StorageLayer``. ``services.codecs`` are the opened codecs.

        Order and conflicts: nested in order, the first is the outermost. State ``before`` and
        ``after``; ``advanced.pipeline.storage_layers`` overrides. A name taken twice is an error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import StorageLayer, StorageLayerType, hookimpl

            class LogDeletes(StorageLayer):
                def __init__(self, inner, log):
                    super().__init__(inner)
                    self.log = log

                async def delete_object(self, bucket, key, *, condition=None):
                    removed = await super().delete_object(bucket, key, condition=condition)
                    self.log.info("deleted", bucket=bucket, key=key, removed=removed)
                    return removed

            @asynccontextmanager
            async def open_layer(settings, services):
                yield lambda inner: LogDeletes(inner, services.log)

            @hookimpl
            def dg_storage_layers():
                yield StorageLayerType(name="log-deletes", summary="Logs.", open=open_layer)
        """

    @hookspec
    def dg_codecs(self) -> Iterable[CodecType]:  # type: ignore[empty-body]
        """Register delta codecs.

        Called once, at start. All codecs are opened: a stored delta names the one it needs.

        Yields:
            ``CodecType``, whose ``open`` yields a ``Codec`` with ``codec_id`` equal to ``name``.

        Order and conflicts: new deltas use ``advanced.codec``, or else the first in order. A name
        taken twice is an error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import CodecType, hookimpl

            @asynccontextmanager
            async def open_codec(settings, services):
                from .codec import MyCodec  # heavy imports wait until the codec is used
                yield MyCodec()

            @hookimpl
            def dg_codecs():
                yield CodecType(name="mine", summary="My delta format.", open=open_codec)
        """

    @hookspec
    def dg_storage_backends(self) -> Iterable[StorageBackendType]:  # type: ignore[empty-body]
        """Register kinds of storage, chosen by ``storage.backend.type``.

        Called once, at start. Only the kinds that the configuration names are opened.

        Yields:
            ``StorageBackendType``: ``settings`` is a subclass of ``BackendSettings`` whose
            ``type`` is a ``Literal`` of the record's name, without a default; ``open`` receives
            an instance of it and yields a ``StorageBackend``.

        Order and conflicts: order is irrelevant. A name taken twice is an error.

        Example::

            from contextlib import asynccontextmanager
            from typing import Literal

            from deltaglider_core import BackendSettings, StorageBackendType, hookimpl, setting

            class TapeSettings(BackendSettings):
                type: Literal["tape"] = setting(description="This kind.")
                device: str = setting(description="The tape drive.")

            @asynccontextmanager
            async def open_backend(settings, services):
                from .backend import TapeBackend  # heavy imports wait until the type is used
                yield TapeBackend(settings.device)

            @hookimpl
            def dg_storage_backends():
                yield StorageBackendType(
                    name="tape",
                    summary="Objects on tape.",
                    open=open_backend,
                    settings=TapeSettings,
                )
        """


__all__ = ["HookSpecs", "hookimpl", "hookspec"]
