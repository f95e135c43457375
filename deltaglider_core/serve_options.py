"""What the command line of ``serve`` and ``quickstart`` says, and the settings that follow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .environment import Override
from .errors import ConfigurationError
from .loading import Loaded, load
from .log import configure_logging

if TYPE_CHECKING:
    from .settings import Settings

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
        tls: ``--tls`` of ``quickstart``.
        default_listen: Counts if neither environment nor file names an address.
        verbose: ``--verbose``.
        workers: Number of processes.
    """

    config: str | None = None
    listen: str | None = None
    data: str | None = None
    tls: bool = False
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
        if self.tls:
            path = ("advanced", "tls", "enabled")
            flags.append(Override(path=path, value=True, origin="--tls"))
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


def require_credentials(settings: Settings) -> None:
    """Raise ``ConfigurationError`` unless there are keys or open access is written down."""
    if not settings.access.has_keys and not settings.access.open_to_everybody:
        raise ConfigurationError(NO_CREDENTIALS)


__all__ = ["ServeOptions", "require_credentials"]
