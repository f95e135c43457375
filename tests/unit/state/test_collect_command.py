"""``collect`` on a service: every bucket, what fails in one, what is printed."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import update
from support.collecting import Collected

from deltaglider_codec_xdelta3.codec import Xdelta3Codec
from deltaglider_core.commands.collect import collect_buckets, configure_collect
from deltaglider_core.delta.layer import DeltaLayer, open_engine
from deltaglider_core.delta.policy import DeltaPolicy
from deltaglider_core.state.collect import collect_bucket
from deltaglider_core.state.layer import StateLayer
from deltaglider_core.state.place import DatabasePlace
from deltaglider_core.state.state import State, open_state
from deltaglider_core.state.tables import buckets
from deltaglider_core.testing import MemoryBackend, body, metadata, read, services_for_tests

DATA = Collected.data()


@dataclass
class Site:
    """A state layer around a delta layer around a backend in memory."""

    layer: StateLayer
    backend: MemoryBackend
    state: State

    async def put(self, bucket: str, key: str, data: bytes = DATA) -> None:
        await self.layer.put_object(bucket, key, body(data), size=len(data), metadata=metadata())

    def references(self, bucket: str) -> list[str]:
        keys = self.backend.keys(bucket)
        return [key for key in keys if key.startswith(".deltaglider/refs/")]

    async def collect(self, *names: str, dry_run: bool = False, grace: float = 0.0) -> int:
        service: Any = SimpleNamespace(state=self.state)
        return await collect_buckets(service, names, grace=grace, dry_run=dry_run, quiet=True)


@pytest.fixture
async def site(embedded_place: DatabasePlace, tmp_path: Path) -> AsyncIterator[Site]:
    codec = Xdelta3Codec(level=1, window_size=1 << 20, zstd_level=1)
    services = services_for_tests(tmp_path, codecs={codec.codec_id: codec})
    log = structlog.get_logger()
    async with (
        open_engine(DeltaPolicy(cache_bytes=0), services) as engine,
        open_state(embedded_place, log=log, metrics=CollectorRegistry()) as state,
    ):
        backend = MemoryBackend()
        layer = StateLayer(DeltaLayer(backend, engine), state, {}.get)
        state.attach(layer)
        for name in ("one", "two"):
            await layer.create_bucket(name)
        yield Site(layer=layer, backend=backend, state=state)
        state.detach(layer)


async def test_all_buckets(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    await site.put("one", "a-1.zip")
    await site.put("two", "a-1.zip")
    await site.layer.delete_object("one", "a-1.zip")
    await site.put("two", "b.txt", b"text")
    assert await site.collect(dry_run=True) == 0
    assert await site.collect() == 0
    assert await site.collect() == 0
    size = len(DATA)
    assert capsys.readouterr().out.splitlines() == [
        f"one: 1 references ({size} bytes) for 0 objects, 1 would be condemned, "
        "0 would be deleted (0 bytes)",
        f"two: 1 references ({size} bytes) for 2 objects, 0 would be deleted (0 bytes)",
        f"one: 1 references ({size} bytes) for 0 objects, 1 condemned, 0 deleted (0 bytes)",
        f"two: 1 references ({size} bytes) for 2 objects, 0 deleted (0 bytes)",
        f"one: 1 references ({size} bytes) for 0 objects, 1 deleted ({size} bytes)",
        f"two: 1 references ({size} bytes) for 2 objects, 0 deleted (0 bytes)",
    ]
    assert site.references("one") == []
    assert len(site.references("two")) == 1


async def test_waiting_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    await site.put("one", "a-1.zip")
    await site.layer.delete_object("one", "a-1.zip")
    for _ in range(2):
        assert await site.collect("one", grace=60.0) == 0
    assert "1 condemned before and waiting, 0 deleted" in capsys.readouterr().out
    assert len(site.references("one")) == 1


async def test_a_write_under_an_intent_keeps_its_reference(site: Site) -> None:
    """The intents of the real layer are what a collection looks at."""
    await site.put("one", "a-1.zip")
    await site.layer.delete_object("one", "a-1.zip")
    newer = Collected.version(7)
    passes = 0

    async def collect(*, bucket: str, key: str) -> None:
        nonlocal passes
        if key == "a-2.zip":
            passes += 1
            assert await site.collect("one") == 0
            assert await site.collect("one") == 0

    site.backend.before("put_object", collect)
    await site.put("one", "a-2.zip", newer)
    assert passes == 1
    assert len(site.references("one")) == 1
    assert await read(await site.layer.get_object("one", "a-2.zip")) == newer


async def test_the_sums_of_the_bucket_follow(site: Site) -> None:
    from sqlalchemy import select

    async def stored() -> int:
        found: int = await site.state.database.read(
            lambda c: c.execute(
                select(buckets.c.reference_bytes).where(buckets.c.name == "one")
            ).scalar_one()
        )
        return found

    await site.put("one", "a-1.zip")
    assert await stored() == len(DATA)
    await site.layer.delete_object("one", "a-1.zip")
    for _ in range(2):
        await site.collect("one")
    assert await stored() == 0


async def test_one_failure_does_not_keep_the_others(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        await site.put(name, "a-1.zip")
        await site.layer.delete_object(name, "a-1.zip")
    bad = metadata(internal={"form": "delta"})
    await site.backend.put_object("one", "bad.zip", body(b"x"), size=1, metadata=bad)
    assert await site.collect() == 10
    output = capsys.readouterr()
    assert output.err.startswith("one: InternalError: one/bad.zip cannot be read")
    assert output.out.startswith("two: 1 references")
    assert await site.collect("one") == 5
    assert await site.collect("nowhere", "two") == 10
    assert "nowhere: NoSuchBucket" in capsys.readouterr().err


async def test_buckets_of_others_are_left_out_unless_they_are_named(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    await site.state.database.write(
        lambda c: (
            c.execute(update(buckets).where(buckets.c.name == "one").values(owner="f" * 32))
            and None
        )
    )
    assert await site.collect() == 0
    assert "one: left out: The bucket is owned by another" in capsys.readouterr().err
    assert await site.collect("one") == 5


async def test_a_service_without_deltas(
    embedded_place: DatabasePlace, site: Site, tmp_path: Path
) -> None:
    """What was written when there were some is still found below the layer of the state."""
    await site.put("one", "a-1.zip")
    await site.layer.delete_object("one", "a-1.zip")
    plain = StateLayer(site.backend, site.state, {}.get)
    report = await collect_bucket(plain, site.state, "one", grace=0.0)
    assert report.condemned == 1


def test_arguments() -> None:
    parser = argparse.ArgumentParser()
    configure_collect(parser)
    given = parser.parse_args(["--dry-run", "-q", "one", "two"])
    assert (given.dry_run, given.quiet, given.buckets) == (True, True, ["one", "two"])
    assert parser.parse_args([]).buckets == []
