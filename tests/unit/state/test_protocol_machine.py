"""Random histories of the real layers: crashes, slow processes, lost answers, late requests.

What must hold is what ``test_protocol_model.py`` proves of the model.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.protocol.deployment import GRACE, Deployment, content
from support.protocol.wire import Fate, Plan
from support.state_clock import ShiftedClock

from deltaglider_core.state import writes

T = TypeVar("T")

PROCESSES = st.integers(0, 1)
KEYS = st.sampled_from(["d/v1.zip", "d/v2.zip"])
CONTENTS = st.integers(0, 3).map(content)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Most operations go well; the others meet their fate at one of their calls."""
    if draw(st.integers(0, 2)) == 0:
        return Plan()
    method = draw(st.sampled_from(["put_object", "delete_object", "head_object", None]))
    last = 12 if method is None else 3
    fate = draw(st.sampled_from(list(Fate)))
    return Plan(call=draw(st.integers(0, last)), fate=fate, method=method)


class Histories(RuleBasedStateMachine):
    """Two processes and their clients."""

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = self.stack.enter_context(ShiftedClock())
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        # A write that waits for one that we let wait would only cost time.
        patch.setattr(writes, "_PATIENCE_SECONDS", 0.05)
        directory = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.deployment = self.run(Deployment.open(Path(directory), self.stack))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, 30))

    @rule(number=PROCESSES, key=KEYS, data=CONTENTS, plan=plans())
    def put(self, number: int, key: str, data: bytes, plan: Plan) -> None:
        self.run(self.deployment.put(number, key, data, plan))

    @rule(number=PROCESSES, key=KEYS, data=CONTENTS, plan=plans())
    def complete(self, number: int, key: str, data: bytes, plan: Plan) -> None:
        self.run(self.deployment.complete(number, key, data, plan))

    @rule(number=PROCESSES, source=KEYS, key=KEYS, plan=plans())
    def copy(self, number: int, source: str, key: str, plan: Plan) -> None:
        self.run(self.deployment.copy(number, source, key, plan))

    @rule(number=PROCESSES, key=KEYS, plan=plans())
    def delete(self, number: int, key: str, plan: Plan) -> None:
        self.run(self.deployment.delete(number, key, plan))

    @precondition(lambda self: self.deployment.waiting())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.run(self.deployment.release(data.draw(st.sampled_from(self.deployment.waiting()))))

    @precondition(lambda self: self.deployment.wire.flight)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        flight = self.deployment.wire.flight
        self.run(self.deployment.wire.land(data.draw(st.integers(0, len(flight) - 1))))

    @precondition(lambda self: self.deployment.waiting())
    @rule(number=PROCESSES)
    def kill(self, number: int) -> None:
        self.run(self.deployment.kill(number))

    @rule(number=PROCESSES, slow=st.none() | PROCESSES)
    def settle(self, number: int, slow: int | None) -> None:
        self.run(self.deployment.settle(number, slow=slow))

    @rule(number=PROCESSES)
    def collect(self, number: int) -> None:
        self.run(self.deployment.collect(number))

    @rule()
    def a_minute_passes(self) -> None:
        """Longer than any request is on its way."""
        self.deployment.forget_flight()
        self.clock.advance(61)

    @precondition(lambda self: not self.deployment.waiting())
    @rule()
    def the_grace_time_passes(self) -> None:
        """Longer than anything is under way."""
        self.deployment.forget_flight()
        self.clock.advance(GRACE + 1)

    @invariant()
    def always(self) -> None:
        if hasattr(self, "deployment"):
            self.run(self.deployment.check_always())

    def teardown(self) -> None:
        if not hasattr(self, "deployment"):
            return
        try:
            self.run(self.deployment.come_to_rest(self.clock))
            self.run(self.deployment.check_at_rest())
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    # Making a history shorter takes minutes; the one that failed can be read.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
