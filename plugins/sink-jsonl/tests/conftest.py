"""An open sink on a fresh file, and a reader that understands nothing but JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltaglider_core.services import Services
from deltaglider_sink_jsonl.sink import JsonLinesSink


class EventFile:
    """The file that the sink writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def content(self) -> bytes:
        return self.path.read_bytes()

    def ids(self) -> list[int]:
        """Of the events; a line that is none is passed over, as the README says."""
        found: list[int] = []
        for line in self.content().split(b"\n"):
            try:
                document = json.loads(line)
            except ValueError:
                continue
            if isinstance(document, dict) and document.get("schema") == "deltaglider.event.v1":
                found.append(document["event"]["id"])
        return found


@pytest.fixture
def file(tmp_path: Path) -> EventFile:
    folder = tmp_path / "logs"
    folder.mkdir()
    return EventFile(folder / "events.jsonl")


@pytest.fixture
def sink(file: EventFile, dg_services: Services) -> JsonLinesSink:
    return JsonLinesSink(file.path, fsync=True, services=dg_services)
