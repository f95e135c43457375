"""The write protocol as a transition system, and what it promises."""

from __future__ import annotations

from collections.abc import Iterator

from .collector import collector_steps
from .deleter import deleter_steps
from .examiner import examiner_steps
from .network import network_steps, time_steps
from .world import Case, World, begin_world
from .writer import is_late, writer_steps

Step = tuple[str, World]


class WriteProtocol:
    """A ``Model`` of one case."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def initial(self) -> World:
        return begin_world(self.case)

    def steps(self, state: World) -> Iterator[Step]:
        for number in range(len(state.writers)):
            yield from writer_steps(state, self.case, number)
        for number in range(len(state.examiners)):
            yield from examiner_steps(state, self.case, number)
        for number in range(len(state.collectors)):
            yield from collector_steps(state, self.case, number)
        yield from deleter_steps(state, self.case)
        yield from network_steps(state, self.case)
        yield from time_steps(state, self.case)

    def broken(self, state: World) -> str | None:
        return (
            state.fault
            or self._names_a_deleted_reference(state)
            or self._events_do_not_match(state)
            or self._rows_differ(state)
            or self._above_the_quota(state)
            or self._lost_with_the_bucket(state)
        )

    def unfinished(self, state: World) -> str | None:
        if state.intents:
            return "an intent stays for ever"
        if state.bucket == "deleting":
            return "a bucket stays closed for ever"
        return None

    def _names_a_deleted_reference(self, state: World) -> str | None:
        """No object that can be read names a reference that is gone.

        Whether its write was answered does not matter: it may have replaced one that was. Only
        a bucket that is deleted while a process writes to it that was taken for dead may be
        left with an object that no client was told of.
        """
        for found in state.objects:
            if found is None or found.reference is None or found.reference in state.files:
                continue
            if found.write in state.acked or not self.case.deletes_bucket:
                return "an object names a reference that is gone"
        return None

    def _events_do_not_match(self, state: World) -> str | None:
        if any(count > 1 for count in state.events):
            return "a mutation has two events"
        if any(not state.events[write] for write in state.acked):
            return "a mutation was answered and has no event"
        return None

    def _rows_differ(self, state: World) -> str | None:
        """Where nothing is under way, the row of a key is what is there."""
        if state.rows == state.objects:
            return None
        busy = {intent.key for intent in state.intents}
        busy |= {
            operation.key
            for number, operation in enumerate(self.case.operations)
            if is_late(state, number)
        }
        for key, row in enumerate(state.rows):
            if key not in busy and row != state.objects[key]:
                return "the row of a key is not what is there"
        return None

    def _above_the_quota(self, state: World) -> str | None:
        quota = self.case.quota
        if quota is None:
            return None
        size = sum(self.case.size_of(found.write) for found in state.objects if found)
        return "the bucket is above its quota" if size > quota else None

    def _lost_with_the_bucket(self, state: World) -> str | None:
        """A bucket that was answered to be deleted holds nothing that was answered to be stored."""
        if state.exists:
            return None
        if any(found is not None for found in state.objects):
            return "an object was lost with its bucket"
        return None
