"""The parts of a configured service, for a command that runs beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry

from ..errors import ConfigurationError, S3Error
from ..loading import Loaded, load
from ..log import configure_logging, get_logger

if TYPE_CHECKING:
    from ..gateway import Gateway
    from ..state.state import State

T = TypeVar("T")

#: The service failed: the database or a backend.
EXIT_FAILED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """An opened service that does not listen."""

    loaded: Loaded
    gateway: Gateway
    state: State


@asynccontextmanager
async def open_service(loaded: Loaded) -> AsyncIterator[Service]:
    """Open backends and state as a serving process does.

    Raises:
        ConfigurationError: It cannot be opened.
    """
    from ..app import create_app

    app = create_app(loaded.settings, loaded.plugins, database=loaded.database)
    await app.open(serving=False)
    try:
        if app.gateway is None or app.state is None:
            raise AssertionError("an opened application has a gateway and a state")
        yield Service(loaded=loaded, gateway=app.gateway, state=app.state)
    finally:
        await app.aclose()


@asynccontextmanager
async def open_only_state(loaded: Loaded) -> AsyncIterator[State]:
    """Open the state alone. Raises ``ConfigurationError``, also if there is none yet."""
    from ..state.state import open_state

    path = loaded.database.path
    if path is not None and not path.exists():
        # Opening it would make an empty one here, and nobody would see why it is empty.
        raise ConfigurationError(
            f"there is no state database at {path}; name the configuration of the service with "
            "--config"
        )
    async with open_state(loaded.database, log=get_logger(), metrics=CollectorRegistry()) as state:
        yield state


def run_command(config: Path | None, verbose: bool, work: Callable[[Loaded], Awaitable[T]]) -> T:
    """Load the configuration and run a command on it.

    Raises:
        ConfigurationError: Also for what the storage or the state refuses, in one sentence.
    """
    loaded = load(config=config)
    # What a command has to say goes to standard output; the log is for what goes wrong.
    configure_logging("debug" if verbose else "warn", "text", verbose=verbose)

    async def main() -> T:
        return await work(loaded)

    try:
        return asyncio.run(main())
    except S3Error as error:
        raise ConfigurationError(f"{error.code}: {error.text}", exit_code=EXIT_FAILED) from error


__all__ = ["EXIT_FAILED", "Service", "open_only_state", "open_service", "run_command"]
