"""Conformance of event sinks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from deltaglider_core.interfaces.events import EventSink, ObjectEvent, Retry

from .purity import STRANGE_NAMES

Received = Callable[[], Awaitable[Sequence[int]]]
Trouble = Callable[[], AbstractAsyncContextManager[Any]]

#: Payloads with everything that JSON has.
PAYLOADS: tuple[dict[str, Any], ...] = (
    {},
    {"content_length": 0, "etag": "", "storage_type": None},
    {"content_length": 5 * 1024**4, "ratio": 0.25, "parts": [1, 2], "nested": {"a": {"b": True}}},
    {'"': "\\", "\n": "\u2028\u2029\x00\x7f", "\u202e": "</script>", "": "x" * 4000},
)


def make_event(number: int, *, key: str = "", **fields: Any) -> ObjectEvent:
    """An event whose values follow from its id."""
    values: dict[str, Any] = {
        "write_id": f"{number:032x}",
        "kind": "ObjectCreated",
        "bucket": "bucket",
        "key": key or f"folder/object-{number}.zip",
        "source": "s3_api",
        "occurred": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=number % 10**9),
        "payload": {"content_length": number},
    }
    return ObjectEvent(id=number, **{**values, **fields})


def make_events(first: int, count: int) -> list[ObjectEvent]:
    """Events with ascending ids."""
    return [make_event(number) for number in range(first, first + count)]


def ids_of(batch: Sequence[ObjectEvent]) -> list[int]:
    """The ids of a batch."""
    return [event.id for event in batch]


def without_repetition(ids: Sequence[int]) -> list[int]:
    """Each id once, where it came first: what a receiver makes of it."""
    return list(dict.fromkeys(ids))


class EventSinkConformance:
    """What every ``EventSink`` must do: at least once, in order, and honest about failures.

    Inherit, and override the fixtures. A sink that sends elsewhere needs a real receiver in the
    test, such as a server on port 0.

    Attributes:
        cancel_seconds: After which a cancelled delivery must have ended.
    """

    cancel_seconds: ClassVar[float] = 5.0

    @pytest.fixture
    def sink(self) -> EventSink:
        """The sink under test, open; its receiver is empty."""
        raise NotImplementedError("override the fixture `sink`")

    @pytest.fixture
    def received(self) -> Received:
        """A coroutine function: the ids of what the receiver has, in order, with repetitions."""
        raise NotImplementedError("override the fixture `received`")

    @pytest.fixture
    def broken(self) -> Trouble:
        """Gives an async context manager; within, the receiver refuses everything at once.

        The fault lies with the receiver, not with the events: a full disk, a connection refused.
        """
        raise NotImplementedError("override the fixture `broken`")

    @pytest.fixture
    def hung(self) -> Trouble:
        """Gives an async context manager; within, the receiver neither takes nor refuses."""
        raise NotImplementedError("override the fixture `hung`")

    def test_is_a_sink(self, sink: EventSink) -> None:
        assert isinstance(sink, EventSink)

    async def test_deliver(self, sink: EventSink, received: Received) -> None:
        """What is delivered is there when ``deliver`` returns, in order."""
        for batch in (make_events(1, 1), make_events(2, 5), make_events(7, 2)):
            await sink.deliver(batch)
            assert list(await received()) == list(range(1, batch[-1].id + 1))

    async def test_deliver_many(self, sink: EventSink, received: Received) -> None:
        batch = make_events(1, 1000)
        await sink.deliver(batch)
        assert list(await received()) == ids_of(batch)

    async def test_strange_events(self, sink: EventSink, received: Received) -> None:
        """Any key and any payload can be delivered, also kinds and ids that are not known yet."""
        strange = [name for name in STRANGE_NAMES if name]
        batch = [make_event(number, key=key) for number, key in enumerate(strange, 1)]
        for payload in PAYLOADS:
            batch.append(make_event(len(batch) + 1, kind="ObjectPainted", payload=payload))
        batch.append(make_event(2**53 + 1, occurred=datetime(1970, 1, 1, tzinfo=UTC)))
        await sink.deliver(batch)
        assert list(await received()) == ids_of(batch)

    async def test_repeated_batch(self, sink: EventSink, received: Received) -> None:
        """What comes again, as a whole or in part, is no error and changes no order."""
        for first, count in ((1, 4), (1, 4), (3, 4), (1, 8)):
            await sink.deliver(make_events(first, count))
        assert without_repetition(await received()) == list(range(1, 9))

    async def test_failure(self, sink: EventSink, received: Received, broken: Trouble) -> None:
        """A receiver that fails is ``Retry``; the batch can be delivered when it works again."""
        await sink.deliver(make_events(1, 2))
        async with broken():
            for _ in range(2):
                with pytest.raises(Retry) as caught:
                    await sink.deliver(make_events(3, 3))
                after = caught.value.after
                assert after is None or 0 <= after <= 86_400
        await sink.deliver(make_events(3, 3))
        assert without_repetition(await received()) == [1, 2, 3, 4, 5]

    async def test_cancellation(self, sink: EventSink, received: Received, hung: Trouble) -> None:
        """A delivery that hangs can be cancelled, and comes again."""
        await sink.deliver(make_events(1, 1))
        async with hung():
            delivery = asyncio.ensure_future(sink.deliver(make_events(2, 3)))
            done, _ = await asyncio.wait([delivery], timeout=0.3)
            # A sink may have a shorter time-out of its own.
            assert not done or isinstance(delivery.exception(), Retry)
            started = time.monotonic()
            delivery.cancel()
            await asyncio.wait([delivery], timeout=self.cancel_seconds)
            assert delivery.done(), f"goes on {time.monotonic() - started:.1f} s after"
            assert delivery.cancelled() or isinstance(delivery.exception(), Retry)
        await sink.deliver(make_events(2, 3))
        assert without_repetition(await received()) == [1, 2, 3, 4]

    async def test_overlap(self, sink: EventSink, received: Received) -> None:
        """A process that has lost its turn may still be delivering; nothing is lost or mixed."""
        batches = [make_events(1, 50), make_events(1, 100), make_events(51, 100)]
        await asyncio.gather(*(self.until_done(sink, batch) for batch in batches))
        assert set(await received()) == set(range(1, 151))

    @staticmethod
    async def until_done(sink: EventSink, batch: Sequence[ObjectEvent]) -> None:
        """Deliver, and again after ``Retry``, for ten seconds."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(Retry):
                await sink.deliver(batch)
                return
            await asyncio.sleep(0.01)
        raise AssertionError("could not be delivered beside another delivery")


__all__ = ["EventSinkConformance", "Received", "Trouble", "make_event", "make_events"]
