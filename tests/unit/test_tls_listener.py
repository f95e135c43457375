"""The listening side: what it speaks, whom it drops, and how its certificate is exchanged."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import pickle
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from prometheus_client import CollectorRegistry
from support.certificates import Authority, Pair
from support.eventually import eventually
from uvicorn.server import ServerState

from deltaglider_core import tls as module
from deltaglider_core import tls_listener
from deltaglider_core.certificate import Certificate, read_certificate
from deltaglider_core.errors import ConfigurationError
from deltaglider_core.http_protocol import BoundedHttpProtocol
from deltaglider_core.limits import STATE_KEY, Limits
from deltaglider_core.settings import AdvancedSettings
from deltaglider_core.tls import HEADERS, ServerTls, TlsLoop

SECONDS = 10.0
HSTS = b"strict-transport-security: max-age=31536000; includeSubDomains\r\n"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> tuple[Pair, Pair]:
    return authority.pair(), authority.pair(ends=timedelta(days=80))


@pytest.fixture
def tls(pairs: tuple[Pair, Pair], directory: Path) -> ServerTls:
    return ServerTls(certificate(pairs[0], directory))


def certificate(pair: Pair, directory: Path) -> Certificate:
    return read_certificate(*pair.write(directory))


def on_our_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test on the loop that the service uses."""

    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(*arguments, **options), 4 * SECONDS)

        with asyncio.Runner(loop_factory=TlsLoop) as runner:
            runner.run(limited())

    return run


class Protocol(BoundedHttpProtocol):
    max_head_bytes = 8 * 1024
    head_seconds = 0.3


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the scheme."""
    body = scope["scheme"].encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(
    tls: ServerTls | None,
    limits: Limits | None = None,
    *,
    protocol: type[BoundedHttpProtocol] = Protocol,
) -> AsyncIterator[int]:
    """A port where the protocol of the service is spoken."""
    factory = None if tls is None else tls.context
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        ssl_context_factory=factory,
        headers=[] if tls is None else list(HEADERS),
        server_header=False,
    )
    config.load()
    state = ServerState()
    state.default_headers = config.encoded_headers
    shared = {} if limits is None else {STATE_KEY: limits}
    listener = socket.create_server(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state=shared),
        sock=listener,
        ssl=config.ssl,
    )
    try:
        yield listener.getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


def client(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode())


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(port: int, context: ssl.SSLContext, name: str = "localhost") -> Streams:
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)


async def ask(streams: Streams, request: bytes = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") -> bytes:
    """The answer to a request, up to the scheme at its end or to the end of the connection."""
    reader, writer = streams
    writer.write(request)
    found = b""
    while b"\r\n\r\n" not in found or not found.endswith((b"http", b"https")):
        data = await asyncio.wait_for(reader.read(65536), SECONDS)
        if not data:
            break
        found += data
    return found


def shown(streams: Streams) -> bytes:
    """SHA-256 of the certificate that the server shows."""
    found: bytes = streams[1].get_extra_info("ssl_object").getpeercert(binary_form=True)
    return sha256(found).digest()


# --- what is spoken -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
@on_our_loop
async def test_the_versions(
    version: ssl.TLSVersion,
    name: str,
    tls: ServerTls,
    authority: Authority,
    pairs: tuple[Pair, Pair],
) -> None:
    context = client(authority)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(tls) as port:
        # An address is not sent as a name: the certificate has to come without one, too.
        streams = await connect(port, context, name)
        answer = await ask(streams)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"https")
        assert answer.count(HSTS) == 1
        assert shown(streams) == pairs[0].fingerprint
        connection = streams[1].get_extra_info("ssl_object")
        assert connection.version() == version.name.replace("_", ".")
        assert connection.selected_alpn_protocol() == "http/1.1"
        streams[1].close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256"),
        (ssl.TLSVersion.TLSv1_2, "NULL:@SECLEVEL=0"),
    ],
)
def test_nothing_weak(
    version: ssl.TLSVersion, ciphers: str, tls: ServerTls, authority: Authority
) -> None:
    context = client(authority)
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError) as caught:
        handshake(tls.context(), context)
    # It is the server that refuses, not the client's own library.
    assert caught.value.reason in ("NO_SHARED_CIPHER", "UNSUPPORTED_PROTOCOL")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Let two ends speak in memory; raises what the server says."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(theirs, ours, server_hostname="localhost"),
        server.wrap_bio(ours, theirs, server_side=True),
    )
    for end in (*ends, *ends):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()


@on_our_loop
async def test_plain_http_is_closed_and_disturbs_nobody(
    tls: ServerTls, authority: Authority
) -> None:
    async with serving(tls) as port:
        other = await connect(port, client(authority))
        for text in (
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            b"\x00" * 99,
            b"\x16\x03\x01\x00\x02\x01",
        ):
            plain = await asyncio.open_connection("127.0.0.1", port)
            plain[1].write(text)
            plain[1].write_eof()
            found = b""
            with contextlib.suppress(ConnectionError):
                found = await asyncio.wait_for(plain[0].read(), SECONDS)
            assert b"HTTP" not in found
            plain[1].close()
        assert (await ask(other)).endswith(b"https")
        other[1].close()


@on_our_loop
async def test_every_answer_over_tls_says_so_and_no_other(
    tls: ServerTls, authority: Authority
) -> None:
    requests = {
        b"200": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"400": b"nonsense\r\n\r\n",
        b"431": b"GET / HTTP/1.1\r\nx: " + b"y" * 9000,
    }
    async with serving(tls) as secure, serving(None) as plain:
        for status, request in requests.items():
            streams = await connect(secure, client(authority))
            answer = await ask(streams, request)
            streams[1].close()
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert answer.count(HSTS) == 1
            streams = await asyncio.open_connection("127.0.0.1", plain)
            answer = await ask(streams, request)
            streams[1].close()
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert b"strict-transport" not in answer


# --- who is dropped -------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00\x01"])
@on_our_loop
async def test_a_handshake_that_does_not_come(
    start: bytes, tls: ServerTls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.3)
    async with serving(tls) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(start)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        writer.close()


@on_our_loop
async def test_handshakes_are_bounded_as_connections_are(
    tls: ServerTls, authority: Authority
) -> None:
    registry = CollectorRegistry()
    limits = Limits(AdvancedSettings(max_connections=2), registry)
    async with serving(tls, limits) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for refused in (1, 2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), SECONDS / 2) == b""
            writer.close()
            sample = "deltaglider_http_refusals_total"
            assert registry.get_sample_value(sample, {"limit": "connections"}) == refused
        assert not any(reader.at_eof() for reader, _ in silent)
        silent[0][1].close()
        found: list[bytes] = []

        async def served() -> bool:
            try:
                streams = await connect(port, client(authority))
                found.append(await ask(streams))
                streams[1].close()
            except (ssl.SSLError, OSError):
                return False
            return True

        await eventually(served, "who has left makes room")
        # A handshake that has ended well is none any more.
        found.clear()
        for _ in range(3):
            await eventually(served, "a new one is served")
        assert [answer[-5:] for answer in found] == [b"https"] * 3
        silent[1][1].close()


@on_our_loop
async def test_connections_are_as_the_loop_makes_them(tls: ServerTls, authority: Authority) -> None:
    made: list[asyncio.Transport] = []

    class Noted(Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            made.append(transport)
            super().connection_made(transport)

    async with serving(tls, protocol=Noted) as port:
        streams = await connect(port, client(authority))
        assert (await ask(streams)).endswith(b"https")
        (transport,) = made
        own = transport.get_extra_info("socket")
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert own.getsockname()[1] == port
        assert transport.get_extra_info("peername") == streams[1].get_extra_info("sockname")
        streams[1].close()
        await eventually(lambda: own.fileno() == -1, "its descriptor is closed")


@on_our_loop
async def test_no_descriptor_is_left_for_a_connection(
    tls: ServerTls, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_listener, "RETRY_SECONDS", 0.05)
    failures = [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()]
    real = socket.socket.accept

    def accept(self: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return real(self)

    monkeypatch.setattr(socket.socket, "accept", accept)
    async with serving(tls) as port:
        streams = await connect(port, client(authority))
        assert (await ask(streams)).endswith(b"https")
        assert failures == []
        streams[1].close()


@on_our_loop
async def test_handshakes_end_with_the_server(tls: ServerTls) -> None:
    async with serving(tls) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01")
        await writer.drain()
        another = await asyncio.open_connection("127.0.0.1", port)
    for stream in (reader, another[0]):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(stream.read(), SECONDS / 2) == b""
    writer.close()
    another[1].close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@on_our_loop
async def test_a_listener_is_a_server_of_its_loop(tls: ServerTls) -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0))
    server = await loop.create_server(Protocol, sock=listener, ssl=tls.context())
    assert server.get_loop() is loop
    assert server.is_serving()
    forever = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0)
    forever.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever
    assert not server.is_serving()
    assert listener.fileno() == -1
    server.close()  # once more does nothing


@on_our_loop
async def test_a_request_that_does_not_come(tls: ServerTls, authority: Authority) -> None:
    async with serving(tls) as port:
        for start in (b"", b"GET / HTTP/1.1\r\nhost: "):
            streams = await connect(port, client(authority))
            assert await ask(streams, start) == b""
            streams[1].close()


# --- exchange -------------------------------------------------------------------------------


@on_our_loop
async def test_a_renewed_one_is_shown_to_new_connections_and_drops_none(
    tls: ServerTls, authority: Authority, pairs: tuple[Pair, Pair], directory: Path
) -> None:
    async with serving(tls) as port:
        context = client(authority)
        old = await connect(port, context)
        assert shown(old) == pairs[0].fingerprint
        tls.use(ServerTls(certificate(pairs[1], directory)))
        new = await connect(port, context)
        assert shown(new) == pairs[1].fingerprint
        for streams in (old, new):
            assert (await ask(streams)).endswith(b"https")
            streams[1].close()
        assert tls.certificate.fingerprint == pairs[1].fingerprint.hex(":").upper()


def test_what_openssl_refuses(tls: ServerTls, pairs: tuple[Pair, Pair], directory: Path) -> None:
    good = certificate(pairs[0], directory)
    for wrong in (
        replace(good, key_pem=pairs[1].key_pem()),
        replace(good, key_pem=pairs[0].key_pem("password")),
        replace(good, pem=b""),
    ):
        with pytest.raises(ConfigurationError, match="OpenSSL refuses the certificate") as caught:
            ServerTls(wrong)
        assert caught.value.exit_code == 4


@on_our_loop
async def test_a_worker_gets_that_of_its_parent_without_the_files(
    authority: Authority, pairs: tuple[Pair, Pair], tmp_path: Path
) -> None:
    tls = ServerTls(certificate(pairs[1], tmp_path))
    for path in (tls.certificate.path, tls.certificate.key_path):
        path.unlink()
    one, method = pickle.loads(pickle.dumps((tls, tls.context)))
    assert method.__self__ is one  # what the listener uses is what a reload changes
    async with serving(one) as port:
        streams = await connect(port, client(authority))
        assert shown(streams) == pairs[1].fingerprint
        streams[1].close()
