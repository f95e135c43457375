"""The application: Falcon, the S3 endpoint, the probes, and the life of the pipeline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import falcon.asgi
import structlog
from prometheus_client import CollectorRegistry

from .errors import InvalidURI, S3Error
from .gateway import Gateway
from .limits import STATE_KEY, Limits
from .observe import RequestMetrics, log_request
from .probes import HealthResource, MetricsResource, ReadyResource
from .s3.addressing import TARGET, Addressing, Target, is_reserved
from .s3.endpoint import S3Endpoint, not_found
from .s3.wire import ClientDisconnected, Exchange
from .services import Clock, Services, Spool, SystemClock
from .state.state import open_state
from .state.upkeep import upkeep
from .stats import StatsResource
from .workdir import work_directory

if TYPE_CHECKING:
    from .plugins import PluginSet
    from .s3.wire import Receive, Scope, Send
    from .settings import Settings
    from .state.place import DatabasePlace
    from .state.state import State


#: Headers of every response, probes and errors included.
SECURITY_HEADERS = {"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}


class Application:
    """An ASGI application; one per process.

    Args:
        settings: Validated settings.
        plugins: What the installed plugins registered.
        clock: The time; replaceable in tests.
        metrics: What ``/_/metrics`` shows: those of all worker processes. Those of this one if
            omitted.
        database: Where the state is; None for none, and then nothing is recorded.
        patient: Start although the server of the database cannot be reached.

    Attributes:
        gateway: The pipeline in force; None outside of the lifespan.
        limits: Of this process; None before the lifespan.
        state: The state in use; None outside of the lifespan.
    """

    def __init__(
        self,
        settings: Settings,
        plugins: PluginSet,
        *,
        clock: Clock | None = None,
        metrics: CollectorRegistry | None = None,
        database: DatabasePlace | None = None,
        patient: bool = False,
    ) -> None:
        self._shown_metrics = metrics
        self._settings = settings
        self._plugins = plugins
        self._clock = clock or SystemClock()
        self._stack = contextlib.AsyncExitStack()
        self._log = structlog.get_logger("deltaglider_proxy")
        self._metrics: RequestMetrics | None = None
        self._addressing = Addressing(settings.advanced)
        self.limits: Limits | None = None
        self._falcon: falcon.asgi.App[Any, Any] = falcon.asgi.App(middleware=[_Middleware(self)])
        # Most answers of S3 have no body; a type is set where there is one.
        self._falcon.resp_options.default_media_type = None  # type: ignore[assignment]
        self._database = database
        self._patient = patient
        self.gateway: Gateway | None = None
        self.state: State | None = None

    async def open(self, *, serving: bool = True, duties: bool = True) -> None:
        """Open everything, in the lifespan of the server. Errors stop the start.

        Args:
            serving: False for a command that runs beside the service: it delivers no events.
            duties: False for a rehearsal, which ends at once.
        """
        try:
            await self._open(self._stack, serving=serving, duties=duties)
        except BaseException:
            await self._stack.aclose()
            raise

    async def _open(self, stack: contextlib.AsyncExitStack, *, serving: bool, duties: bool) -> None:
        advanced = self._settings.advanced
        directory = stack.enter_context(work_directory(advanced.spool_dir))
        cache = directory / "cache"
        if advanced.cache_dir is None:
            cache.mkdir()
        else:
            cache = stack.enter_context(work_directory(advanced.cache_dir))
        registry = CollectorRegistry()
        if self._database is not None:
            self.state = await stack.enter_async_context(
                open_state(self._database, log=self._log, metrics=registry, patient=self._patient)
            )
        services = Services(
            clock=self._clock,
            log=self._log,
            metrics=registry,
            spool=Spool(directory / "spool", advanced.spool_max_bytes),
            cache_dir=cache,
            state=self.state,
        )
        gateway = Gateway(self._plugins, services)
        stack.push_async_callback(gateway.aclose)
        if self.state is not None:
            # What was shielded from its client still needs the backends.
            stack.push_async_callback(self.state.journal.drain)
        await gateway.open(self._settings)
        if self.state is not None:
            if duties:
                await stack.enter_async_context(upkeep(self.state, advanced))
            stack.push_async_callback(self.state.deliver, {})
            if serving:
                await self.state.deliver(gateway.pipeline.event_sinks)
        self.gateway = gateway
        self.limits = Limits(advanced, registry)
        self._metrics = RequestMetrics(registry, version("deltaglider-core"))
        app = self._falcon
        app.add_route("/_/health", HealthResource())
        app.add_route("/_/ready", ReadyResource(gateway, self._log))
        app.add_route("/_/metrics", MetricsResource(self._shown_metrics or registry))
        if self.state is not None:
            app.add_route("/_/stats", StatsResource(gateway, self.state, self._clock))
        app.add_sink(S3Endpoint(gateway, self._clock, self._log, self.limits), prefix="/")
        app.add_sink(not_found, prefix="/_(/|$)")

    async def aclose(self) -> None:
        """Close everything; requests in flight have ended or had their grace."""
        self.gateway = None
        await self._stack.aclose()
        self.state = None

    async def reload(self, settings: Settings) -> None:
        """Put new settings in force: a new pipeline beside the old one, then one swap.

        Raises:
            ConfigurationError: It cannot be opened; the old pipeline goes on.
        """
        if self.gateway is None:
            return
        if self.state is not None:
            await self.state.deliver({})  # the old sinks are about to close
        try:
            await self.gateway.reload(settings)
        finally:
            if self.state is not None:
                await self.state.deliver(self.gateway.pipeline.event_sinks)
        self._addressing = Addressing(settings.advanced)
        if self.limits is not None:
            self.limits.apply(settings.advanced)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._falcon(scope, receive, send)
            return
        pace = self.limits.pace if self.limits is not None else None
        exchange = Exchange(scope, receive, send, pace=pace)
        target: Target | S3Error
        try:
            target = self._addressing.resolve(scope)
            exchange.log_fields["client"] = target.client_ip
        except S3Error as error:
            target = error
        query: bytes = scope["query_string"]
        if not query.isascii():
            # An HTTP parser may let such bytes through; Falcon fails on them before it routes.
            target, query = InvalidURI(), b""
        scope = {
            **scope,
            "path": _route_of(scope, target),
            "query_string": query,
            TARGET: target,
            "deltaglider.exchange": exchange,
        }
        try:
            await self._falcon(scope, exchange.receive, exchange.send)
        except ClientDisconnected:
            exchange.log_fields["error"] = "client disconnected"
        except Exception:
            # The answer has begun and cannot be finished: returning without its end makes the
            # server cut the connection, which is all that HTTP has left to say.
            self._log.exception("answer cut off", **exchange.log_fields)
        finally:
            await exchange.close()
            seconds = time.perf_counter() - exchange.started
            if self._metrics is not None:
                self._metrics.observe(scope["method"], exchange, seconds)
            log_request(self._log, scope["method"], exchange, seconds)


def _route_of(scope: Scope, target: Target | S3Error) -> str:
    """The path that Falcon routes by: that of a probe as it was sent, or the root.

    Falcon itself would decode it, and take ``//_/metrics`` for ``/_/metrics``: spellings that a
    proxy in front does not recognise when it is to keep them from strangers. A probe that says
    no host, or a wrong one, is still a probe.
    """
    if isinstance(target, Target):
        return target.path if target.reserved else "/"
    raw: str = scope["raw_path"].decode("latin-1")
    return raw if is_reserved(raw) else "/"


class _Middleware:
    """Opens and closes the application with the server; marks every response."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def process_startup(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        await self._application.open()
        # The server hands this to every connection.
        scope.get("state", {})[STATE_KEY] = self._application.limits

    async def process_shutdown(self, scope: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        await self._application.aclose()

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: object, ok: bool
    ) -> None:
        resp.set_headers(SECURITY_HEADERS)


def create_app(
    settings: Settings,
    plugins: PluginSet,
    *,
    clock: Clock | None = None,
    metrics: CollectorRegistry | None = None,
    database: DatabasePlace | None = None,
    patient: bool = False,
) -> Application:
    """Wire the application; nothing is opened before the server starts its lifespan."""
    return Application(
        settings, plugins, clock=clock, metrics=metrics, database=database, patient=patient
    )
