"""Decisions before and beside identity: admission rules and gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from ..errors import S3Error
from .contribution import Contribution

if TYPE_CHECKING:
    from ..context import S3Request
    from .auth import Principal


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFacts:
    """What an admission rule may look at."""

    method: str
    operation: str
    bucket: str
    key: str
    client_ip: str
    has_credentials: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """``continue`` stops the search for rules; ``reject`` answers with ``error``."""

    action: Literal["continue", "reject"]
    rule: str
    error: S3Error | None = None

    def __post_init__(self) -> None:
        if self.action not in ("continue", "reject"):
            raise ValueError(f"the verdict {self.action!r} is neither continue nor reject")


@runtime_checkable
class AdmissionRule(Protocol):
    """Pure, total, no I/O; needs no identity."""

    def evaluate(self, facts: RequestFacts) -> Verdict | None:
        """None: this rule has no opinion."""


@runtime_checkable
class Gate(Protocol):
    """A condition that every request must meet."""

    async def check(self, request: S3Request, principal: Principal | None) -> None:
        """Raise an ``S3Error`` to refuse; of the body nothing has been read but a form's fields."""


class AdmissionRuleType(Contribution[AdmissionRule]):
    """Rules are asked in order; the first verdict counts."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class GateType(Contribution[Gate]):
    """All gates of a stage must pass, in order."""

    stage: Literal["before_auth", "after_auth"]

    def __post_init__(self) -> None:
        # A gate of an unknown stage would never be asked, and everything would pass it.
        if self.stage not in ("before_auth", "after_auth"):
            raise ValueError(
                f"the gate {self.name!r} has the stage {self.stage!r}; it is before_auth or "
                "after_auth"
            )
