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


@runtime_checkable
class AdmissionRule(Protocol):
    """Pure, total, no I/O; needs no identity."""

    def evaluate(self, facts: RequestFacts) -> Verdict | None:
        """None: this rule has no opinion."""


@runtime_checkable
class Gate(Protocol):
    """A condition that every request must meet."""

    async def check(self, request: S3Request, principal: Principal | None) -> None:
        """Raise an ``S3Error`` to refuse; the body has not been read."""


class AdmissionRuleType(Contribution[AdmissionRule]):
    """Rules are asked in order; the first verdict counts."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class GateType(Contribution[Gate]):
    """All gates of a stage must pass, in order."""

    stage: Literal["before_auth", "after_auth"]
