"""Serving: one process, or several on one port, each with a pipeline of its own."""

from __future__ import annotations

import asyncio
import functools
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from .environment import ANY_NAME, walk
from .errors import ConfigurationError
from .http_protocol import BoundedHttpProtocol
from .limits import raise_descriptor_limit
from .listen import bind, format_address
from .loading import Loaded
from .log import get_logger
from .serve_options import ServeOptions, require_credentials
from .supervisor import Supervisor
from .tls import HEADERS, LOOP, ServerTls, open_tls
from .worker_metrics import join_metrics, metrics_directory

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from .app import Application
    from .settings import Settings

#: Carries the options to the worker processes; it never holds a secret.
OPTIONS_VARIABLE = "DELTAGLIDER_SERVE_OPTIONS"

#: Seconds that requests in flight have to finish after SIGTERM.
DRAIN_SECONDS = 30

#: Clients that wait while no worker accepts.
BACKLOG = 2048


def serve(options: ServeOptions, announce: Callable[[str, Loaded], None] | None = None) -> int:
    """Serve until SIGTERM or SIGINT.

    Everything that can prevent the start is tried before a worker process exists.

    Args:
        options: The command line.
        announce: Called once with the URL when requests are served.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: The service cannot start.
    """
    loaded = options.load()
    options.configure_logging(loaded.settings)
    require_credentials(loaded.settings)
    log = get_logger()
    for warning in loaded.warnings:
        log.warning(warning)
    if loaded.settings.access.open_to_everybody:
        log.warning("access.authentication is none: everybody may read, write and delete")
    tls = open_tls(loaded)
    raise_descriptor_limit()  # worker processes inherit it
    listener = bind(loaded.settings.advanced.listen_addr)
    with listener:
        asyncio.run(_rehearse(loaded))

        def ready() -> None:
            _say_where(listener, loaded.settings, tls)
            if announce is not None:
                announce(_url(listener, tls), loaded)

        run = _run_one if options.workers == 1 else _run_many
        return run(options, loaded, listener, tls, ready)


async def _rehearse(loaded: Loaded) -> None:
    """Open everything once and close it, to find what fails, in one place and one sentence."""
    app = _application(loaded, patient=False)
    await app.open(serving=False, duties=False)
    await app.aclose()


def _application(
    loaded: Loaded, metrics: CollectorRegistry | None = None, *, patient: bool
) -> Application:
    from .app import create_app  # takes 200 ms, which ``config lint`` need not wait for

    return create_app(
        loaded.settings,
        loaded.plugins,
        metrics=metrics,
        database=loaded.database,
        patient=patient,
    )


# --- one process ------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """Says when it serves."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


def _run_one(
    options: ServeOptions,
    loaded: Loaded,
    listener: socket.socket,
    tls: ServerTls | None,
    ready: Callable[[], None],
) -> int:
    def leave(_signal: int, _frame: FrameType | None) -> None:
        # uvicorn repeats a signal once it has drained; that is not an abnormal end.
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    config = _uvicorn_config(lambda: _reloadable(options, loaded, tls), tls, workers=1)
    server = _Server(config, ready)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _uvicorn_config(
    app: Callable[[], Any], tls: ServerTls | None, *, workers: int
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="auto" if tls is None else LOOP,
        ssl_context_factory=None if tls is None else tls.context,
        headers=[] if tls is None else list(HEADERS),
        factory=True,
        workers=workers,
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


# --- several processes ------------------------------------------------------------------


def create(tls: ServerTls | None) -> Application:
    """The application of a worker process, built from the options of its parent.

    Args:
        tls: That of the parent, passed on.
    """
    options = ServeOptions(**json.loads(os.environ[OPTIONS_VARIABLE]))
    try:
        loaded = options.load()
        options.configure_logging(loaded.settings)
        require_credentials(loaded.settings)
        metrics = join_metrics()
    except ConfigurationError as error:
        get_logger().error("worker cannot start", error=str(error))
        sys.exit(STARTUP_FAILURE)
    except Exception:
        get_logger().exception("worker cannot start")
        # The parent stops everything on this code; any other would make it try for ever.
        sys.exit(STARTUP_FAILURE)
    _end_with_parent()
    return _reloadable(options, loaded, tls, metrics)


def _end_with_parent() -> None:
    """End as by SIGTERM when the supervisor is gone, however it ended.

    Nobody would replace, reload or stop this process any more, and it would keep the port.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    loop, sentinel = asyncio.get_running_loop(), parent.sentinel

    def end() -> None:
        loop.remove_reader(sentinel)
        get_logger().error("the supervisor is gone, this worker ends", pid=os.getpid())
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(sentinel, end)


def _run_many(
    options: ServeOptions,
    loaded: Loaded,
    listener: socket.socket,
    tls: ServerTls | None,
    ready: Callable[[], None],
) -> int:
    def check() -> None:
        nonlocal loaded
        changed = options.load(loaded)
        require_credentials(changed.settings)
        renewed = open_tls(changed)
        loaded = changed
        if tls is not None and renewed is not None:
            tls.use(renewed)
        options.configure_logging(loaded.settings)

    os.environ[OPTIONS_VARIABLE] = json.dumps(asdict(options))
    config = _uvicorn_config(functools.partial(create, tls), tls, workers=options.workers)
    with metrics_directory(loaded.settings.advanced.spool_dir) as metrics:
        supervisor = Supervisor(config, [listener], check=check, ready=ready, metrics=metrics)
        supervisor.run()
    return 1 if supervisor.failed else 0


# --- reload -----------------------------------------------------------------------------


def _reloadable(
    options: ServeOptions,
    loaded: Loaded,
    tls: ServerTls | None,
    metrics: CollectorRegistry | None = None,
) -> Application:
    """The application, with SIGHUP reading the configuration again. Needs a running loop.

    On a terminal SIGHUP means that it was closed, and ends the process.
    """
    # A worker that starts while the database is away serves what needs no state until it is back.
    app = _application(loaded, metrics, patient=True)
    if sys.stdin is None or not sys.stdin.isatty():
        reloader = Reloader(app, options, loaded, tls)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.request)
    return app


class Reloader:
    """Reads the configuration again and puts it in force, once at a time."""

    def __init__(
        self,
        app: Application,
        options: ServeOptions,
        loaded: Loaded,
        tls: ServerTls | None = None,
    ) -> None:
        self._app = app
        self._options = options
        self._loaded = loaded
        self._tls = tls
        self._started = loaded.settings
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self) -> None:
        """Start a reload; called by the signal handler of the event loop."""
        task = asyncio.create_task(self.reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def reload(self) -> None:
        """Reload; a failure is logged, and the old configuration goes on."""
        log = get_logger()
        async with self._lock:
            try:
                loaded = await asyncio.to_thread(self._options.load, self._loaded)
                require_credentials(loaded.settings)
                renewed = await asyncio.to_thread(open_tls, loaded)
                await self._app.reload(loaded.settings)
            except ConfigurationError as error:
                log.error("reload refused, the old configuration goes on", error=str(error))
                return
            except Exception:
                log.exception("reload failed, the old configuration goes on")
                return
            self._loaded = loaded
            self._options.configure_logging(loaded.settings)
            for warning in loaded.warnings:
                log.warning(warning)
            if renewed is not None and self._tls is not None:
                self._tls.use(renewed)
            if pending := restart_needed(self._started, loaded.settings):
                log.warning("some changes take effect at the next start", settings=pending)
            log.info("configuration reloaded", path=str(loaded.path) if loaded.path else None)


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """Dotted paths of changed settings that only a restart puts in force."""
    changed = []
    for path, info in walk(type(new)):
        extra = info.json_schema_extra
        if ANY_NAME in path or not isinstance(extra, dict) or extra.get("x-apply") != "restart":
            continue
        before, after = _value(old, path), _value(new, path)
        if before != after:
            changed.append(".".join(path))
    return changed


def _value(settings: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        settings = getattr(settings, part, None)
    return settings


# --- where ------------------------------------------------------------------------------


def _url(listener: socket.socket, tls: ServerTls | None) -> str:
    host, port = listener.getsockname()[:2]
    return f"{'http' if tls is None else 'https'}://{format_address(host, port)}"


def _say_where(listener: socket.socket, settings: Settings, tls: ServerTls | None) -> None:
    url = _url(listener, tls)
    if settings.advanced.log_format == "json":
        get_logger().info("listening", address=url)
    else:
        get_logger().info(f"listening on {url}")
    backend = settings.storage.backend
    path = getattr(backend, "path", None)
    # Absolute: a relative path that counts from another directory shows as an empty store.
    where = {} if path is None else {"path": os.path.abspath(path)}
    get_logger().info("storage", type=backend.type, **where)
    if tls is not None:
        tls.describe()


__all__ = ["Reloader", "ServeOptions", "create", "require_credentials", "restart_needed", "serve"]
