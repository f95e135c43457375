"""The hooks for what no request waits for; ``hookspecs.py`` explains hooks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from .interfaces.commands import Command
    from .interfaces.events import EventSinkType

hookspec = pluggy.HookspecMarker("deltaglider")


class BesideRequests:
    """Part of ``HookSpecs``."""

    @hookspec
    def dg_event_sinks(self) -> Iterable[EventSinkType]:  # type: ignore[empty-body]
        """Register places that every event of an object is delivered to.

        Called once, at start. The opened sinks receive the events of the journal in batches, each
        at its own pace; one process at a time delivers to a sink.

        Yields:
            ``EventSinkType``, whose ``open`` yields an ``EventSink``, or None where the
            configuration does not ask for it. ``deliver`` raises ``Retry`` or ``Permanent``.

        Order and conflicts: order is irrelevant, no sink waits for another. A name taken twice is
        an error.

        Example::

            from contextlib import asynccontextmanager

            from deltaglider_core import EventSinkType, hookimpl

            class LogDeletions:
                def __init__(self, log):
                    self.log = log

                async def deliver(self, batch):
                    for event in batch:
                        if event.kind == "ObjectDeleted":
                            self.log.info("gone", id=event.id, bucket=event.bucket, key=event.key)

            @asynccontextmanager
            async def open_sink(settings, services):
                yield LogDeletions(services.log)

            @hookimpl
            def dg_event_sinks():
                yield EventSinkType(name="log-deletions", summary="Logs.", open=open_sink)
        """

    @hookspec
    def dg_commands(self) -> Iterable[Command]:  # type: ignore[empty-body]
        """Register subcommands of ``deltaglider_proxy``.

        Called once, before the command line is parsed. No pipeline is opened.

        Yields:
            ``Command``: ``configure`` adds arguments, ``run`` returns the exit code.

        Order and conflicts: listed by name. A name taken twice stops every command.

        Example::

            from deltaglider_core import Command, hookimpl

            def run(arguments):
                print("Hello")
                return 0

            @hookimpl
            def dg_commands():
                yield Command(name="hi", summary="Hi.", configure=lambda parser: None, run=run)
        """


__all__ = ["BesideRequests"]
