"""Serving: one process, or several on one port, each with a pipeline of its own."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from .environment import ANY_NAME, Override, walk
from .errors import ConfigurationError
from .http_protocol import BoundedHttpProtocol
from .listen import bind, format_address
from .loading import Loaded, load
from .log import configure_logging, get_logger
from .supervisor import Supervisor
from .worker_metrics import join_metrics, metrics_directory

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from .app import Application
    from .settings import Settings

#: Carries the options to the worker processes; it never holds a secret.
OPTIONS_VARIABLE = "DELTAGLIDER_SERVE_OPTIONS"

#: Seconds that requests in flight have to finish after SIGTERM.
DRAIN_SECONDS = 30

#: Idle connections stay open longer than those of common load balancers (60 s), so that it is
#: not this side that closes one under a request.
KEEP_ALIVE_SECONDS = 75

#: Clients that wait while no worker accepts.
BACKLOG = 2048

NO_CREDENTIALS = """\
no credentials are configured, so the service does not start. Choose one:
  - a key pair for a first try:   deltaglider_proxy quickstart
  - in the environment:           DGP_ACCESS_KEY_ID=... DGP_SECRET_ACCESS_KEY=...
  - in the configuration file:    access: {access_key_id: ..., secret_access_key: ...}
  - open to everybody, on purpose: access: {authentication: none}, or DGP_AUTHENTICATION=none"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeOptions:
    """What the command line says.

    Attributes:
        config: ``--config``.
        listen: ``--listen``.
        data: ``--data`` of ``quickstart``.
        default_listen: Counts if neither environment nor file names an address.
        verbose: ``--verbose``.
        workers: Number of processes.
    """

    config: str | None = None
    listen: str | None = None
    data: str | None = None
    default_listen: str | None = None
    verbose: bool = False
    workers: int = 1

    def load(self, previous: Loaded | None = None) -> Loaded:
        """Load the configuration, again if ``previous`` is given. Raises ``ConfigurationError``."""
        flags, defaults = [], []
        address = ("advanced", "listen_addr")
        if self.listen is not None:
            flags.append(Override(path=address, value=self.listen, origin="--listen"))
        if self.data is not None:
            backend = {"type": "filesystem", "path": self.data}
            flags.append(Override(path=("storage", "backend"), value=backend, origin="--data"))
        if self.default_listen is not None:
            value = self.default_listen
            defaults.append(Override(path=address, value=value, origin="quickstart"))
        return load(
            config=Path(self.config) if self.config is not None else None,
            flags=flags,
            defaults=defaults,
            plugins=previous.plugins if previous is not None else None,
        )

    def configure_logging(self, settings: Settings) -> None:
        """Log as the settings and ``--verbose`` say."""
        advanced = settings.advanced
        configure_logging(advanced.log_level, advanced.log_format, verbose=self.verbose)


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
    listener = bind(loaded.settings.advanced.listen_addr)
    with listener:
        asyncio.run(_rehearse(loaded))

        def ready() -> None:
            _say_where(listener, loaded.settings)
            if announce is not None:
                announce(_url(listener), loaded)

        run = _run_one if options.workers == 1 else _run_many
        return run(options, loaded, listener, ready)


def require_credentials(settings: Settings) -> None:
    """Raise ``ConfigurationError`` unless there are keys or open access is written down."""
    if not settings.access.has_keys and not settings.access.open_to_everybody:
        raise ConfigurationError(NO_CREDENTIALS)


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
    options: ServeOptions, loaded: Loaded, listener: socket.socket, ready: Callable[[], None]
) -> int:
    def leave(_signal: int, _frame: FrameType | None) -> None:
        # uvicorn repeats a signal once it has drained; that is not an abnormal end.
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    config = _uvicorn_config(lambda: _reloadable(options, loaded), workers=1)
    server = _Server(config, ready)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _uvicorn_config(app: Callable[[], Any] | str, *, workers: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
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
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


# --- several processes ------------------------------------------------------------------


def create() -> Application:
    """The application of a worker process, built from the options of its parent."""
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
    return _reloadable(options, loaded, metrics)


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
    options: ServeOptions, loaded: Loaded, listener: socket.socket, ready: Callable[[], None]
) -> int:
    def check() -> None:
        nonlocal loaded
        changed = options.load(loaded)
        require_credentials(changed.settings)
        loaded = changed
        options.configure_logging(loaded.settings)

    os.environ[OPTIONS_VARIABLE] = json.dumps(asdict(options))
    config = _uvicorn_config(f"{__name__}:create", workers=options.workers)
    with metrics_directory(loaded.settings.advanced.spool_dir) as metrics:
        supervisor = Supervisor(config, [listener], check=check, ready=ready, metrics=metrics)
        supervisor.run()
    return 1 if supervisor.failed else 0


# --- reload -----------------------------------------------------------------------------


def _reloadable(
    options: ServeOptions, loaded: Loaded, metrics: CollectorRegistry | None = None
) -> Application:
    """The application, with SIGHUP reading the configuration again. Needs a running loop.

    On a terminal SIGHUP means that it was closed, and ends the process.
    """
    # A worker that starts while the database is away serves what needs no state until it is back.
    app = _application(loaded, metrics, patient=True)
    if sys.stdin is None or not sys.stdin.isatty():
        reloader = Reloader(app, options, loaded)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.request)
    return app


class Reloader:
    """Reads the configuration again and puts it in force, once at a time."""

    def __init__(self, app: Application, options: ServeOptions, loaded: Loaded) -> None:
        self._app = app
        self._options = options
        self._loaded = loaded
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


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{format_address(host, port)}"


def _say_where(listener: socket.socket, settings: Settings) -> None:
    url = _url(listener)
    if settings.advanced.log_format == "json":
        get_logger().info("listening", address=url)
    else:
        get_logger().info(f"listening on {url}")
    backend = settings.storage.backend
    path = getattr(backend, "path", None)
    # Absolute: a relative path that counts from another directory shows as an empty store.
    where = {} if path is None else {"path": os.path.abspath(path)}
    get_logger().info("storage", type=backend.type, **where)


__all__ = ["Reloader", "ServeOptions", "create", "require_credentials", "restart_needed", "serve"]
