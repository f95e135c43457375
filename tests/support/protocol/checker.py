"""A small explicit-state model checker: every state that can be reached, breadth first.

A counterexample is therefore a shortest one. States are hashable values; nothing is abstracted
and nothing is sampled, so what holds here holds for every order of the steps of the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)

#: More states than any scenario has: a model that grew out of hand fails instead of hanging.
LIMIT = 1_000_000


class Model(Protocol[S]):
    """A transition system with something to be proved about it."""

    def initial(self) -> S:
        """Where it begins."""

    def steps(self, state: S) -> Iterable[tuple[str, S]]:
        """What may happen next: a name for people, and the state that it leads to."""

    def broken(self, state: S) -> str | None:
        """The invariant that does not hold in ``state``, or None."""

    def unfinished(self, state: S) -> str | None:
        """What is wrong with ``state`` as an end, from which no step leads on, or None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counterexample(Generic[S]):
    """A shortest way to a state that must not be."""

    broken: str
    steps: Sequence[str]
    state: S

    def __str__(self) -> str:
        lines = [f"{number:3} {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join([self.broken, *lines, str(self.state)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Result(Generic[S]):
    """What the search found: how many states, and the first counterexample, if any."""

    states: int
    ends: int
    counterexample: Counterexample[S] | None


def explore(model: Model[S], limit: int = LIMIT) -> Result[S]:
    """Visit every reachable state, or stop at the first that must not be.

    Raises:
        RuntimeError: There are more than ``limit`` states.
    """
    first = model.initial()
    came: dict[S, tuple[S, str] | None] = {first: None}
    queue, ends = deque([first]), 0
    while queue:
        state = queue.popleft()
        broken = model.broken(state)
        last = True
        if broken is None:
            for label, following in model.steps(state):
                last = False
                if following not in came:
                    came[following] = (state, label)
                    queue.append(following)
            if last:
                ends += 1
                broken = model.unfinished(state)
        if broken is not None:
            steps = tuple(reversed(list(_way(came, state))))
            found = Counterexample(broken=broken, steps=steps, state=state)
            return Result(states=len(came), ends=ends, counterexample=found)
        if len(came) > limit:
            raise RuntimeError(f"more than {limit} states")
    return Result(states=len(came), ends=ends, counterexample=None)


def _way(came: dict[S, tuple[S, str] | None], state: S) -> Iterator[str]:
    """Names of the steps that led to ``state``, the last one first."""
    while (step := came[state]) is not None:
        state, label = step
        yield label
