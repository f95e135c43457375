"""Event sinks with one defect each; run by ``test_broken_fakes``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from deltaglider_core.interfaces.events import ObjectEvent, Permanent, Retry
from deltaglider_testkit import EventSinkConformance
from deltaglider_testkit.events import Received, Trouble


class Receiver:
    """Where events arrive; sound."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.broken = False
        self.working = asyncio.Event()
        self.working.set()

    async def take(self, *ids: int) -> None:
        await self.working.wait()
        if self.broken:
            raise ConnectionError("refused")
        self.ids += ids


class SoundSink:
    """The control: nothing is broken, and nothing fails."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
        try:
            await self.send(batch)
        except ConnectionError as error:
            raise Retry(str(error)) from error

    async def send(self, batch: Sequence[ObjectEvent]) -> None:
        await self.receiver.take(*(event.id for event in batch))


class BrokenSinkTests(EventSinkConformance):
    broken_sink: type[SoundSink] = SoundSink

    @pytest.fixture
    def receiver(self) -> Receiver:
        return Receiver()

    @pytest.fixture
    def sink(self, receiver: Receiver) -> Any:
        return self.broken_sink(receiver)

    @pytest.fixture
    def received(self, receiver: Receiver) -> Received:
        async def read() -> list[int]:
            return list(receiver.ids)

        return read

    @pytest.fixture
    def broken(self, receiver: Receiver) -> Trouble:
        @asynccontextmanager
        async def trouble() -> AsyncIterator[None]:
            receiver.broken = True
            yield
            receiver.broken = False

        return trouble

    @pytest.fixture
    def hung(self, receiver: Receiver) -> Trouble:
        @asynccontextmanager
        async def trouble() -> AsyncIterator[None]:
            receiver.working.clear()
            yield
            receiver.working.set()

        return trouble


class TestSoundSink(BrokenSinkTests):
    pass


class TestSinkSwallowsFailures(BrokenSinkTests):
    class broken_sink(SoundSink):
        """Says that it has delivered what nobody has received."""

        async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
            with suppress(Retry):
                await super().deliver(batch)


class TestSinkGivesUp(BrokenSinkTests):
    class broken_sink(SoundSink):
        """A receiver that is away would lose every event that comes meanwhile."""

        async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
            try:
                await super().deliver(batch)
            except Retry as error:
                raise Permanent(error.reason) from error


class TestSinkRaisesWhatItLikes(BrokenSinkTests):
    class broken_sink(SoundSink):
        async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
            await self.send(batch)


class TestSinkWaitsForAYear(BrokenSinkTests):
    class broken_sink(SoundSink):
        async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
            try:
                await self.send(batch)
            except ConnectionError as error:
                raise Retry(str(error), after=365 * 86_400.0) from error


class TestSinkReturnsTooEarly(BrokenSinkTests):
    class broken_sink(SoundSink):
        """Delivers after it has said so; a crash would lose it."""

        def __init__(self, receiver: Receiver) -> None:
            super().__init__(receiver)
            self.tasks: set[asyncio.Task[None]] = set()

        async def send(self, batch: Sequence[ObjectEvent]) -> None:
            if self.receiver.broken or not self.receiver.working.is_set():
                await super().send(batch)
            task = asyncio.create_task(super().send(batch))
            self.tasks.add(task)


class TestSinkTakesTheFirstHundred(BrokenSinkTests):
    class broken_sink(SoundSink):
        async def send(self, batch: Sequence[ObjectEvent]) -> None:
            await super().send(batch[:100])


class TestSinkSendsBackwards(BrokenSinkTests):
    class broken_sink(SoundSink):
        async def send(self, batch: Sequence[ObjectEvent]) -> None:
            await super().send(batch[::-1])


class TestSinkWantsAsciiKeys(BrokenSinkTests):
    class broken_sink(SoundSink):
        async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
            if not all(event.key.isascii() for event in batch):
                raise Permanent("a key is not ASCII")
            await super().deliver(batch)


class TestSinkRefusesRepetition(BrokenSinkTests):
    class broken_sink(SoundSink):
        """A unique index that nobody thought of."""

        async def deliver(self, batch: Sequence[ObjectEvent]) -> None:
            if set(self.receiver.ids) & {event.id for event in batch}:
                raise Permanent("an event is there already")
            await super().deliver(batch)


class TestSinkCannotBeCancelled(BrokenSinkTests):
    cancel_seconds = 0.5

    class broken_sink(SoundSink):
        async def send(self, batch: Sequence[ObjectEvent]) -> None:
            sending = asyncio.ensure_future(super().send(batch))
            while not sending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(sending)
            sending.result()


class TestSinkForgetsWhatWasCancelled(BrokenSinkTests):
    class broken_sink(SoundSink):
        """Remembers what it has begun, and never sends it again."""

        def __init__(self, receiver: Receiver) -> None:
            super().__init__(receiver)
            self.begun: set[int] = set()

        async def send(self, batch: Sequence[ObjectEvent]) -> None:
            new = [event for event in batch if event.id not in self.begun]
            if not self.receiver.broken:
                self.begun |= {event.id for event in new}
            await super().send(new)
