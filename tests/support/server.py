"""A real server process with data, credentials and a port of its own."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

#: In a line of text, or in one of JSON.
LISTENING = re.compile(rb"(?:listening on |\"address\": \")(https?)://([0-9A-Za-z.\[\]:-]+):(\d+)")
START_SECONDS = 45.0
#: Of the environment of the tests. ``LD_PRELOAD`` is theirs (``no_sync``).
KEPT = ("PATH", "LANG", "TMPDIR", "LD_PRELOAD")
STOP_SECONDS = 40.0  # requests in flight have 30 s to finish
POLL_SECONDS = 0.02


class ServerFailed(AssertionError):
    """The server did not start or did not stop; the text ends with its log."""


def command_path(name: str) -> str:
    """Path of a command that is installed beside the running interpreter."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise FileNotFoundError(f"{name} is not installed beside {sys.executable}; run make setup")
    return os.fspath(path)


def clean_environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment without settings or credentials of whoever runs the tests."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | {"HOME": os.fspath(home)} | dict(extra or {})


class ServerProcess:
    """``deltaglider_proxy serve`` on the loopback interface.

    Args:
        directory: Holds the configuration, the data and the log; created if missing.
        settings: Sections merged over the written configuration, e.g.
            ``{"advanced": {"max_delta_ratio": 0.5}}``; a log level above ``info`` would hide
            the line that says that the server listens.
        arguments: More words for the command line.
        environment: More variables for the process.
        tls: Serve https with a certificate that the server signs itself; ``ca_file`` is what a
            client has to trust. ``settings`` may name a certificate and a key instead.

    Attributes:
        url: Endpoint without a final slash; the same after every restart.
        access_key, secret_key: Fresh credentials of this server.
        data: The directory of the file-system backend.
        temporary: What the process takes for the system's directory for temporary files.
        config: The written configuration.
        ca_file: PEM file of the certificate that the server makes for itself; None without
            ``tls``.
    """

    #: Words that start the program; the installed command if empty.
    command: Sequence[str] = ()

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        tls: bool = False,
    ) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.config = directory / "deltaglider_proxy.yaml"
        self.temporary = directory / "tmp"
        self.log = directory / "server.log"
        self.ca_file = directory / "deltaglider_tls.crt" if tls else None
        self.access_key = f"AK{secrets.token_hex(9).upper()}"
        self.secret_key = secrets.token_urlsafe(30)
        self.url = ""
        self._arguments = tuple(arguments)
        self._environment = dict(environment or {})
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.write_config(settings or {})

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration anew; it counts from the next start."""
        document: dict[str, Any] = {
            "access": {
                "access_key_id": self.access_key,
                "secret_access_key": self.secret_key,
            },
            "storage": {"filesystem": os.fspath(self.data)},
        }
        if self.ca_file is not None:
            document["advanced"] = {"tls": {"enabled": True}}
        self.config.write_text(yaml.safe_dump(merged(document, settings)), encoding="utf-8")
        self.config.chmod(0o600)

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    @property
    def port(self) -> int:
        """TCP port; chosen by the system at the first start and kept."""
        return self._port

    def log_text(self) -> str:
        """Everything that all runs of this server have printed."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def start(self) -> ServerProcess:
        """Start the process and wait until it says that it listens.

        Raises:
            ServerFailed: It ended or stayed silent; the text contains the log.
        """
        if self._process is not None:
            raise ServerFailed("the server is already running")
        seen = self.log.stat().st_size if self.log.exists() else 0
        words = ("serve", "--config", os.fspath(self.config), "--listen", f"127.0.0.1:{self._port}")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*(self.command or [command_path("deltaglider_proxy")]), *words, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=clean_environment(self.directory, {"TMPDIR": os.fspath(self.temporary)})
                | self._environment,
                start_new_session=True,  # kill() then reaches worker processes as well
            )
        try:
            self._wait_until_listening(seen)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> int:
        """Ask the server to end (SIGTERM) and return its exit code."""
        self._running().send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Wait until a server that was asked to end has ended; return its exit code."""
        process = self._running()
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerFailed(
                f"the server did not end within {STOP_SECONDS:.0f} s of SIGTERM\n{self.log_text()}"
            ) from None
        self._process = None
        return code

    def kill(self) -> None:
        """End the server and its workers at once (SIGKILL), as a power failure would."""
        process = self._running()
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._process = None

    def restart(self) -> ServerProcess:
        """Start again on the same port and data; a running server is stopped first."""
        if self._process is not None:
            self.stop()
        return self.start()

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            code = self.stop()
            # Ending by the signal itself is as orderly; anything else is a crash.
            if kind is None and code not in (0, -signal.SIGTERM):
                raise ServerFailed(f"the server ended with {code}\n{self.log_text()}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerFailed("the server is not running")
        return self._process

    def _wait_until_listening(self, seen: int) -> None:
        process = self._running()
        deadline = time.monotonic() + START_SECONDS
        while True:
            ended = process.poll() is not None
            with self.log.open("rb") as log:
                log.seek(seen)
                found = LISTENING.search(log.read())
            if found:
                scheme, host, port = (group.decode() for group in found.groups())
                self._port = int(port)
                self.url = f"{scheme}://{host}:{port}"
                return
            if ended or time.monotonic() > deadline:
                reason = f"ended with {process.returncode}" if ended else "is silent"
                raise ServerFailed(f"the server {reason} and never listened\n{self.log_text()}")
            time.sleep(POLL_SECONDS)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid upon ``base``, mapping by mapping; ``None`` removes a key."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(below, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result
