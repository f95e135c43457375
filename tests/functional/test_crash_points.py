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
from support.model import Event, Mismatch
from support.samples import wait_until
from support.server import ServerProcess


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    directory = tmp_path_factory.mktemp("points")
    faults = Faults(directory / "plugin")
    with ServerProcess(
        directory / "server", arguments=["--workers", "2"], environment=faults.environment
    ) as server:
        s3 = boto3_client(server)
        s3.create_bucket(Bucket=BUCKET)
        yield Workshop(server=server, faults=faults, s3=s3)
        s3.close()


@pytest.mark.parametrize("action", ["die", "die-after"])
def test_a_worker_dies_at_the_commit(shop: Workshop, action: Action) -> None:
    for make in CASES:
        case = make(shop)
        die_at_commit(shop, case, action)
        happened = action == "die-after"
        # The other worker knows nothing of it but what is on the backend.
        assert shop.read(case.key) == (case.new if happened else case.old), make
        shop.journaled[case.event] += happened
        wait_until(case.succeeds, f"{make.__name__} succeeds when it is sent again")
        assert shop.read(case.key) == case.new, make
        shop.journaled[case.event] += not (happened and case.repeatable)
    if JOURNAL_IS_KEPT:
        verify_journal(shop.server, shop.s3, lambda found: differences(shop.journaled, found))


def die_at_commit(shop: Workshop, case: Case, action: Action) -> None:
    fault = Fault(action=action, method=case.commit, key=case.key, times=1)
    with shop.faults.armed(fault), pytest.raises(BotoCoreError):
        case.request()
    assert shop.faults.calls(fault), "the commit was never reached"


def differences(expected: Counter[Event], found: Counter[Event]) -> str:
    if too_many := found - expected:
        raise Mismatch(f"not in order: {too_many}")
    return ", ".join(map(str, expected - found))
