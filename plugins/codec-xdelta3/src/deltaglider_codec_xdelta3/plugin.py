"""Registers the codec ``xdelta3`` and its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from deltaglider_core.hookspecs import hookimpl
from deltaglider_core.interfaces.codec import Codec, CodecType
from deltaglider_core.interfaces.contribution import SettingsSection

from .settings import Xdelta3Settings

if TYPE_CHECKING:
    from deltaglider_core.services import Services

MOUNT = "advanced.xdelta3"


@asynccontextmanager
async def open_codec(settings: Xdelta3Settings, services: Services) -> AsyncIterator[Codec]:
    """Open the codec; it holds nothing that must be closed."""
    from .codec import Xdelta3Codec

    yield Xdelta3Codec(
        level=settings.level,
        window_size=settings.window_size,
        zstd_level=settings.zstd_level,
    )


@hookimpl
def dg_settings() -> Iterator[SettingsSection]:
    yield SettingsSection(mount=MOUNT, model=Xdelta3Settings, apply="rebuild")


@hookimpl
def dg_codecs() -> Iterator[CodecType]:
    yield CodecType(
        name="xdelta3",
        summary="Deltas in VCDIFF (RFC 3284), packed with zstd.",
        mount=MOUNT,
        open=open_codec,
    )
