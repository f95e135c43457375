"""The application inside of the test's own process: no socket, no HTTP parser, no other client.

A request is what an ASGI server would make of it, with any bytes where HTTP allows any. So tests
reach every parser behind the HTTP layer, a thousand times per second, and see what a client never
sees: what was logged, and what the backend holds.

Source: ASGI specification 3.0, "HTTP Connection Scope".
"""

from __future__ import annotations

import asyncio
import threading
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import unquote_to_bytes

from deltaglider_core.app import Application, create_app
from deltaglider_core.interfaces.storage import StorageBackendType
from deltaglider_core.loading import validate
from deltaglider_core.plugins import PluginInfo, PluginSet, Registered, load_plugins
from deltaglider_core.settings import BackendSettings, setting
from deltaglider_core.settings_assembly import assemble_settings
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.testing import MemoryBackend

from .captured_log import Logged, captured_log
from .signing import Signer, sha256_hex

T = TypeVar("T")

HOST = b"s3.test"
ACCESS_KEY = "AKIAINPROCESS0000000"
SECRET_KEY = "secret-of-the-application-in-process"
#: In which any answer must be complete.
SECONDS = 20.0

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, kw_only=True)
class RawRequest:
    """A request as bytes.

    Attributes:
        headers: Names in lower case, as ASGI servers deliver them; ``host`` is added if absent.
        pieces: The body, as it comes.
        cut: The client goes away after the last piece.
        stalled: The client stays, and sends nothing after the last piece; set when more is asked
            for.
        seconds_between: That each piece takes to come.
    """

    method: str = "GET"
    path: bytes = b"/"
    query: bytes = b""
    headers: Headers = ()
    pieces: Sequence[bytes] = ()
    cut: bool = False
    stalled: asyncio.Event | None = None
    seconds_between: float = 0.0

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header."""
        return next((value for found, value in self.headers if found == name), None)

    def with_length(self) -> RawRequest:
        """The same with a true ``Content-Length``, as clients send it (RFC 9110 section 8.6)."""
        others = [pair for pair in self.headers if pair[0] != b"content-length"]
        length = [(b"content-length", b"%d" % len(self.body))]
        expected = self.body or self.method in ("PUT", "POST")
        return replace(self, headers=[*others, *(length if expected else ())])


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """An answer as bytes.

    Attributes:
        complete: False if it was cut off.
    """

    status: int
    headers: Headers
    body: bytes
    complete: bool

    def header(self, name: str) -> str | None:
        wanted = name.lower().encode()
        return next((v.decode("latin-1") for n, v in self.headers if n.lower() == wanted), None)

    @property
    def document(self) -> ET.Element:
        """The XML of the body."""
        return ET.fromstring(self.body)

    @property
    def code(self) -> str:
        """Of an error document; empty if the answer is none."""
        if not self.body.startswith(b"<?xml") or b"<Error>" not in self.body:
            return ""
        return self.document.findtext("Code") or ""


class Service:
    """An opened application on an event loop in a thread of its own.

    Attributes:
        app: The application.
        memory: Its backend, below all layers; None if it is another one.
        logged: Warnings and errors.
        signer: Signs what ``request`` sends; None where unsigned requests are taken.
    """

    def __init__(
        self,
        app: Application,
        memory: MemoryBackend | None,
        logged: Logged,
        loop: asyncio.AbstractEventLoop,
        signer: Signer | None = None,
    ) -> None:
        self.app = app
        self.memory = memory
        self.logged = logged
        self.signer = signer
        self._loop = loop

    def run(self, work: Awaitable[T]) -> T:
        """Run something on the loop of the application and wait for it."""

        async def timed() -> T:
            async with asyncio.timeout(SECONDS):
                return await work

        future: Future[T] = asyncio.run_coroutine_threadsafe(timed(), self._loop)
        return future.result(SECONDS + 5)

    def send(self, request: RawRequest) -> RawAnswer:
        """Send a request and wait for the whole answer.

        Raises:
            AssertionError: The application broke the rules of ASGI, or took too long.
        """
        return self.run(exchange(self.app, request))

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> RawAnswer:
        """Send an honest request; ``target`` is percent-encoded."""
        path, _, query = target.partition("?")
        request = RawRequest(
            method=method,
            path=path.encode(),
            query=query.encode(),
            headers=[(n.lower().encode(), v.encode()) for n, v in (headers or {}).items()],
            pieces=[body] if body else [],
        )
        return self.send(self.signed(request.with_length()))

    def signed(self, request: RawRequest) -> RawRequest:
        """The request with a signature in its header; as it is where nothing signs."""
        if self.signer is None:
            return request
        target = request.path + (b"?" + request.query if request.query else b"")
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        length = headers.pop("content-length", None)
        payload = headers.pop("x-amz-content-sha256", sha256_hex(request.body))
        signed = self.signer.sign(
            request.method, target.decode(), headers=headers, payload=payload
        ).headers
        sent = [(name.encode(), value.encode("latin-1")) for name, value in signed.items()]
        if length is not None:
            sent.append((b"content-length", length.encode()))
        return replace(request, headers=sent)

    def stored(self) -> dict[str, dict[str, object]]:
        """Everything that the memory backend holds: by bucket, by key."""
        return self.run(self._stored())

    async def _stored(self) -> dict[str, dict[str, object]]:
        assert self.memory is not None
        found: dict[str, dict[str, object]] = {}
        for bucket in await self.memory.list_buckets():
            page = await self.memory.list_objects(bucket.name, max_keys=100_000)
            found[bucket.name] = {info.key: info for info in page.objects}
        self.memory.calls.clear()
        return found


async def exchange(app: Application, request: RawRequest) -> RawAnswer:
    """One request and its answer, as an ASGI server would see them."""
    over = asyncio.Event()
    pieces = iter(request.pieces)
    left = len(request.pieces)
    started: list[dict[str, Any]] = []
    body: list[bytes] = []

    async def receive() -> dict[str, Any]:
        nonlocal left
        for piece in pieces:
            left -= 1
            if request.seconds_between:
                await asyncio.sleep(request.seconds_between)
            more = left > 0 or request.cut or request.stalled is not None
            return {"type": "http.request", "body": piece, "more_body": more}
        if request.stalled is not None:
            request.stalled.set()
            await asyncio.Event().wait()
        if left == 0 and not request.cut:
            left -= 1
            if not request.pieces:
                return {"type": "http.request", "body": b"", "more_body": False}
        if not request.cut:
            await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert not started, "an answer starts once"
            started.append(message)
            return
        assert message["type"] == "http.response.body", message
        assert started, "a body comes after its head"
        assert not over.is_set(), "nothing comes after the end"
        body.append(message.get("body", b""))
        if not message.get("more_body", False):
            over.set()

    await app(_scope(request), receive, send)
    assert started, "there is an answer to every request"
    return RawAnswer(
        status=started[0]["status"],
        headers=[(bytes(n), bytes(v)) for n, v in started[0]["headers"]],
        body=b"".join(body),
        complete=over.is_set(),
    )


def _scope(request: RawRequest) -> dict[str, Any]:
    headers = list(request.headers)
    if all(name != b"host" for name, _ in headers):
        headers.insert(0, (b"host", HOST))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 9000),
        "client": ("127.0.0.1", 40000),
        "scheme": "http",
        "root_path": "",
        "method": request.method,
        "path": unquote_to_bytes(request.path).decode("utf-8", "replace"),
        "raw_path": request.path,
        "query_string": request.query,
        "headers": headers,
        "state": {},
    }


# --- opening --------------------------------------------------------------------------------


class _MemorySettings(BackendSettings):
    """A backend in memory."""

    type: Literal["memory"] = setting(description="This kind.")


def with_memory(backend: MemoryBackend) -> PluginSet:
    """All installed plugins, and one whose storage backend ``memory`` is this one."""

    @asynccontextmanager
    async def open_memory(_settings: object, _services: object) -> AsyncIterator[MemoryBackend]:
        yield backend

    plugins = load_plugins()
    record = StorageBackendType(
        name="memory", summary="In memory.", settings=_MemorySettings, open=open_memory
    )
    info = PluginInfo(name="memory", distribution="deltaglider-tests", version="0")
    known = plugins.stage("storage_backends")
    added = {**known, "memory": Registered(record=record, plugin=info)}
    return replace(plugins, stages={**plugins.stages, "storage_backends": added})


@contextmanager
def open_service(
    directory: Path,
    *,
    files: bool = False,
    state: bool = True,
    open_to_everybody: bool = True,
    advanced: Mapping[str, Any] | None = None,
) -> Iterator[Service]:
    """Run the application until the block ends.

    Args:
        directory: For its spool, its state and its files; must exist.
        files: Store in a directory, not in memory.
        state: Keep a state database, as every server does.
        open_to_everybody: Take unsigned requests; else only those signed with ``ACCESS_KEY``.
        advanced: More settings of the section ``advanced``.
    """
    memory = None if files else MemoryBackend()
    plugins = load_plugins() if memory is None else with_memory(memory)
    (directory / "spool").mkdir()
    backend = {"type": "filesystem", "path": str(directory / "data")}
    document = {
        "access": {"authentication": "none"}
        if open_to_everybody
        else {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY},
        "storage": {"backend": backend if memory is None else {"type": "memory"}},
        "advanced": {"spool_dir": str(directory / "spool"), **(advanced or {})},
    }
    settings = validate(document, assemble_settings(plugins), plugins)
    place = DatabasePlace(path=directory / "state.db") if state else None
    with captured_log() as logged, _running_loop(logged) as loop:
        app = create_app(settings, plugins, database=place)
        signer = Signer(host=HOST.decode(), access_key=ACCESS_KEY, secret_key=SECRET_KEY)
        service = Service(app, memory, logged, loop, None if open_to_everybody else signer)
        service.run(app.open())
        try:
            yield service
        finally:
            service.run(app.aclose())


@contextmanager
def _running_loop(logged: Logged) -> Iterator[asyncio.AbstractEventLoop]:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: logged.lines.append(repr(context)))
        thread = threading.Thread(target=loop.run_forever, name="application")
        thread.start()
        try:
            yield loop
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


__all__ = [
    "ACCESS_KEY",
    "HOST",
    "SECRET_KEY",
    "RawAnswer",
    "RawRequest",
    "Service",
    "exchange",
    "open_service",
    "with_memory",
]
