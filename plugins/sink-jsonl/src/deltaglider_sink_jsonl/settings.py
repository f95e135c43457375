"""Settings of the sink, mounted at ``advanced.event_file``."""

from __future__ import annotations

from pathlib import Path

from deltaglider_core.settings import Section, setting


class EventFileSettings(Section):
    """Events of objects as lines of JSON in a file."""

    path: Path | None = setting(
        None,
        description="The file; created if missing, in a directory that exists. Without it the "
        "sink is off.",
    )
    fsync: bool = setting(
        True, description="Whether a batch is on disk before it counts as delivered."
    )
