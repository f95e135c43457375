"""A worker dies right before, or right after, the call of the backend that decides.

Unlike a death at a random moment, this meets the two moments that matter each time: the work is
not done though an intent says so, and the work is done though nobody was told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from botocore.exceptions import BotoCoreError
from support.clients import boto3_client
from support.fault_cases import BUCKET, CASES, Case, Workshop
from support.faults import Action, Fault, Faults
from support.journal import JOURNAL_IS_KEPT, verify_journal
from support.load_requests import sign_apart
from support.model import Event, Mismatch
from support.samples import wait_until
from support.server import ServerProcess


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    directory = tmp_path_factory.mktemp("points")
    faults = Faults(directory / "plugin")
    with ServerProcess(
        directory / "server", arguments=["--workers", "2"], environment=faults.environment
    ) as server:
        s3 = boto3_client(server)
        sign_apart(s3)
        s3.create_bucket(Bucket=BUCKET)
        yield Workshop(server=server, faults=faults, s3=s3)
        s3.close()


@pytest.fixture(scope="module")
def uncertain() -> Counter[Event]:
    """Events of the shop that may be in its journal or not."""
    return Counter()


@pytest.mark.parametrize("action", ["die", "die-after"])
def test_what_dead_workers_leave_is_settled(
    shop: Workshop, uncertain: Counter[Event], action: Action
) -> None:
    happened = action == "die-after"
    cases = [make(shop) for make in CASES]
    for case in cases:
        die_at_commit(shop, case, action)
        # The other worker knows nothing of it but what is on the backend.
        assert shop.read(case.key) == (case.new if happened else case.old), case.event
        shop.journaled[case.event] += happened
    verify(shop, uncertain)
    for case in cases:
        wait_until(case.succeeds, f"{case.event} when it is sent again")
        assert shop.read(case.key) == case.new, case.event
        shop.journaled[case.event] += not (happened and case.repeatable)
    verify(shop, uncertain)


def test_what_is_sent_again_at_once_is_journaled(shop: Workshop, uncertain: Counter[Event]) -> None:
    """The second request meets what the first has left before anybody has settled it.

    Nobody can say afterwards whether the first one had happened if the second has overwritten
    it, and its client was told nothing. What was acknowledged in the end has an event, though.
    """
    for make in CASES:
        case = make(shop)
        die_at_commit(shop, case, "die-after")
        wait_until(case.succeeds, f"{case.event} when it is sent again")
        assert shop.read(case.key) == case.new, case.event
        shop.journaled[case.event] += 1
        uncertain[case.event] += not case.repeatable
    verify(shop, uncertain)


def die_at_commit(shop: Workshop, case: Case, action: Action) -> None:
    fault = Fault(action=action, method=case.commit, key=case.key, times=1)
    with shop.faults.armed(fault), pytest.raises(BotoCoreError):
        case.request()
    assert shop.faults.calls(fault), "the commit was never reached"


def verify(shop: Workshop, uncertain: Counter[Event]) -> None:
    """The journal holds what was done here, and at most what is ``uncertain`` besides."""

    def differences(found: Counter[Event]) -> str:
        if too_many := found - shop.journaled - uncertain:
            raise Mismatch(f"not in order: {too_many}")
        return ", ".join(map(str, shop.journaled - found))

    if JOURNAL_IS_KEPT:
        verify_journal(shop.server, shop.s3, differences)
