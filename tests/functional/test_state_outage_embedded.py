"""The embedded database cannot be written, or is not there, under a running service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.expect import Footprint
from support.full_disk import FullDisk
from support.outage import BUCKET, Readers, Scene, assert_refused, created, locked, opened_scene
from support.samples import wait_until
from support.server import ServerProcess

WORKERS = 2
DATABASE = "deltaglider_config.db"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> FullDisk:
    return FullDisk(tmp_path_factory.mktemp("disk"))


@pytest.fixture
def scene(tmp_path: Path, disk: FullDisk) -> Iterator[Scene]:
    server = ServerProcess(
        tmp_path, arguments=["--workers", f"{WORKERS}"], environment=disk.environment
    )
    with server, opened_scene(server) as scene:
        yield scene


def assert_all_but_a_part_refused(scene: Scene) -> None:
    """A part is known to the backend alone; that its upload is open need only be read."""
    footprint = Footprint(scene.server.data, scene.server.temporary)
    mutations = scene.mutations()
    send_part = mutations.pop("part")
    assert_refused(mutations)
    footprint.assert_unchanged()
    assert send_part().status == 200


def test_another_program_holds_it_locked(scene: Scene) -> None:
    with Readers(scene.server) as readers:
        with locked(scene.server.directory / DATABASE):
            readers.wait_for_more()
            # Each of them outlasts the time for which SQLite waits.
            assert_all_but_a_part_refused(scene)
            readers.wait_for_more()
        scene.recover()
    finish(scene)


def test_there_is_no_room_for_its_log(scene: Scene, disk: FullDisk) -> None:
    with Readers(scene.server) as readers:
        with scene.half_sent("half-sent", b"half" * 1000) as begun:
            wait_until(lambda: scene.pending() == 1, "it has begun")
            with disk.full():
                assert_all_but_a_part_refused(scene)
                begun.send(b"half" * 500)
                assert begun.answer().status == 503
                readers.wait_for_more()
        scene.recover()
    # It was stored and could not be journaled; that was made up for.
    assert scene.request("GET", f"/{BUCKET}/half-sent").body == b"half" * 1000
    scene.journaled[created("half-sent", b"half" * 1000)] += 1
    finish(scene)


def test_it_is_taken_away(scene: Scene) -> None:
    database = scene.server.directory / DATABASE
    aside = database.with_name("aside")
    with Readers(scene.server) as readers:
        for other in (None, b"of another program" * 1000):
            database.rename(aside)
            if other is not None:
                database.write_bytes(other)
            assert_refused(scene.mutations())
            readers.wait_for_more()
            # Nothing is made in its place, and what is there is left alone.
            assert (database.read_bytes() if database.exists() else None) == other
            aside.rename(database)
            scene.recover()
    scene.carry_on()
    scene.verify()


def finish(scene: Scene) -> None:
    """Everything works, and a kill takes nothing of it away."""
    scene.carry_on()
    scene.verify()
    assert "Traceback" not in scene.server.log_text()
    scene.server.kill()
    scene.server.start()
    scene.verify()
