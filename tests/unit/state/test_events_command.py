"""``deltaglider_proxy events``: what it prints, and what it takes note of."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from support.events import journal

from deltaglider_core.cli import main
from deltaglider_core.commands import events as command
from deltaglider_core.state.database import Database, open_database
from deltaglider_core.state.event_journal import EventJournal
from deltaglider_core.state.place import DatabasePlace

Capture = pytest.CaptureFixture[str]


class Site:
    """A configured service that is not served, and its journal."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config.yaml"
        self.config.write_text("access: {authentication: none}\n")
        self.path = directory / "deltaglider_config.db"

    def on_database(self, function: Callable[[Database], Any]) -> Any:
        """Run a coroutine function on the database."""

        async def run() -> Any:
            log = structlog.get_logger()
            database = await open_database(DatabasePlace(path=self.path), log=log)
            try:
                return await function(database)
            finally:
                await database.aclose()

        return asyncio.run(run())

    def journal(self, count: int, **fields: Any) -> None:
        self.on_database(lambda database: journal(database, count, **fields))

    def on_journal(self, function: Callable[[EventJournal], Any]) -> Any:
        return self.on_database(lambda d: function(EventJournal(d, log=structlog.get_logger())))

    def words(self, *words: str) -> list[str]:
        return ["events", *words, "--config", str(self.config)]

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deltaglider_core", *self.words(*words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def following(site: Site) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that have ended after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        started.append(site.start(*words))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


async def cursor_at(reader: EventJournal, place: int) -> None:
    """Wait until the cursor ``mine`` is there."""
    async with asyncio.timeout(20):
        while await reader.cursor("mine") != place:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def ids(output: str) -> list[int]:
    return [json.loads(line)["event"]["id"] for line in output.splitlines()]


def test_a_line_of_text(site: Site, capsys: Capture) -> None:
    site.journal(1, key="caf\u00e9/\x1b[31m\n\u202e.zip".encode(), kind="ReplicationObjectCopied")
    site.journal(1, kind="ObjectDeleted")
    assert main(site.words()) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "       1  2026-01-01T00:00:00.250Z  ReplicationObjectCopied  s3_api       "
        "releases/caf\u00e9/\\x1b[31m\\n\\u202e.zip",
        "       2  2026-01-01T00:00:00.250Z  ObjectDeleted            s3_api       "
        "releases/app.zip",
    ]
    assert printed.err == ""


def test_lines_of_json_from_a_place_to_a_limit(
    site: Site, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_PAGE", 3)
    site.journal(8)
    for words, expected in (
        ([], list(range(1, 9))),
        (["--after", "0"], list(range(1, 9))),
        (["--after", "5"], [6, 7, 8]),
        (["--after", "8"], []),
        (["--after", "99"], []),
        (["--limit", "5"], [1, 2, 3, 4, 5]),
        (["--after", "2", "--limit", "2"], [3, 4]),
        (["--follow", "--limit", "7"], [1, 2, 3, 4, 5, 6, 7]),
    ):
        assert main(site.words("--json", *words)) == 0
        assert ids(capsys.readouterr().out) == expected


def test_a_cursor_resumes_and_moves_past_what_was_printed(site: Site, capsys: Capture) -> None:
    site.journal(3)
    for words, expected in ((["--limit", "2"], [1, 2]), ([], [3]), ([], [])):
        assert main(site.words("--json", "--cursor", "mine", *words)) == 0
        assert ids(capsys.readouterr().out) == expected
    site.journal(1)
    assert main(site.words("--json", "--cursor", "mine")) == 0
    assert ids(capsys.readouterr().out) == [4]
    assert main(site.words("--json", "--cursor", "other")) == 0
    assert ids(capsys.readouterr().out) == [1, 2, 3, 4]


def test_what_is_not_kept_any_more_is_said(site: Site, capsys: Capture) -> None:
    site.journal(5)

    async def prune(reader: EventJournal) -> None:
        await reader.number()
        await reader.prune(max_age=1e12, max_rows=2)

    site.on_journal(prune)
    assert main(site.words("--json", "--after", "1")) == 0
    printed = capsys.readouterr()
    assert ids(printed.out) == [4, 5]
    assert printed.err == "events 2 to 3 are not kept any more\n"
    assert main(site.words("--json")) == 0
    assert capsys.readouterr().err == ""


def test_cursors_are_shown_and_removed(site: Site, capsys: Capture) -> None:
    site.journal(3)
    assert main(site.words("--cursor", "mine", "--limit", "1")) == 0
    site.on_journal(lambda reader: reader.create_cursor("sink:x", at="end"))
    capsys.readouterr()
    assert main(site.words("cursors", "--json")) == 0
    found = json.loads(capsys.readouterr().out)["cursors"]
    assert [(c["name"], c["last_id"], c["lag"]) for c in found] == [
        ("mine", 1, 2),
        ("sink:x", 3, 0),
    ]
    assert found[0]["oldest_seconds"] > 0
    assert main(site.words("cursors")) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["CURSOR", "LAST", "BEHIND", "OLDEST", "MOVED"]
    assert rows[1][:3] == ["mine", "1", "2"]
    assert rows[2][:4] == ["sink:x", "3", "0", "-"]
    assert main(site.words("cursors", "--forget", "mine")) == 0
    assert capsys.readouterr().out == "removed the cursor mine, which was at 1\n"
    assert main(site.words("cursors", "--forget", "mine")) == 8
    assert "there is no cursor 'mine'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--after", "-1"],
        ["--after", "x"],
        ["--after", "9" * 30],
        ["--limit", "0"],
        ["--cursor", "sink:jsonl"],
        ["--cursor", "x" * 65],
        ["--cursor", ""],
        ["--cursor", "a", "--after", "1"],
        ["--forget", "a"],
        ["cursors", "--follow"],
        ["cursors", "--limit", "1"],
        ["cursors", "--after", "0"],
        ["others"],
    ],
    ids=" ".join,
)
def test_wrong_words_are_usage_errors(site: Site, capsys: Capture, words: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(site.words(*words))
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err
    assert not site.path.exists()


def test_no_database_is_made_where_there_is_none(site: Site, capsys: Capture) -> None:
    assert main(site.words()) == 1
    assert f"there is no state database at {site.path}" in capsys.readouterr().err
    assert [path.name for path in site.path.parent.iterdir()] == ["config.yaml"]


def test_following_ends_cleanly_by_ctrl_c(
    site: Site, following: Callable[..., subprocess.Popen[str]]
) -> None:
    site.journal(1)
    process = following("--follow", "--json", "--cursor", "mine")
    assert process.stdout is not None
    assert ids(process.stdout.readline()) == [1]
    site.journal(2)
    assert ids(process.stdout.readline()) == [2]
    assert ids(process.stdout.readline()) == [3]

    site.on_journal(lambda reader: cursor_at(reader, 3))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("", "", 130)


def test_a_reader_that_leaves_is_no_error_and_moves_no_cursor(
    site: Site, following: Callable[..., subprocess.Popen[str]]
) -> None:
    site.journal(1)
    process = following("--follow", "--json", "--cursor", "mine")
    assert process.stdout is not None
    assert ids(process.stdout.readline()) == [1]
    process.stdout.close()
    site.journal(1)
    assert process.wait(timeout=20) == 3
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert site.on_journal(lambda reader: reader.cursor("mine")) == 1


def test_following_ends_with_a_sentence_when_its_cursor_is_removed(
    site: Site, following: Callable[..., subprocess.Popen[str]]
) -> None:
    site.journal(1)
    process = following("--follow", "--json", "--cursor", "mine")
    assert process.stdout is not None
    assert ids(process.stdout.readline()) == [1]

    async def forget(reader: EventJournal) -> None:
        await cursor_at(reader, 1)
        assert await reader.forget_cursor("mine")

    site.on_journal(forget)
    site.journal(1)
    out, err = process.communicate(timeout=20)
    assert ids(out) == [2]
    assert "somebody has removed the cursor mine" in err
    assert process.returncode == 8
