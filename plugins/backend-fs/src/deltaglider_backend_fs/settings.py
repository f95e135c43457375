"""Settings of the file-system backend."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from deltaglider_core.settings import BackendSettings, setting


class FsSettings(BackendSettings):
    """Objects as files below one directory."""

    # No default: an export without defaults would drop the discriminator.
    type: Literal["filesystem"] = Field(description="Selects this backend.")
    path: Path = setting(
        description="Root directory; created if missing. A bucket is a folder in it."
    )
