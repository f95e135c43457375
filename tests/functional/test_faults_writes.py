"""A backend that fails at each call that a mutation makes, one after the other.

Whatever fails: an answer of success means the new content, any other answer leaves the old or
the new content, whole; the same request then succeeds on a sound backend; and nothing is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.clients import boto3_client
from support.fault_cases import (
    BUCKET,
    CASES,
    Case,
    Workshop,
    complete,
    delete,
    put_first_release,
    put_new,
    put_next_release,
)
from support.faults import Fault, Faults
from support.load_requests import sign_apart
from support.server import ServerProcess


@contextlib.contextmanager
def opened(directory: Path, *, remote: bool) -> Iterator[Workshop]:
    faults = Faults(directory / "plugin", remote=remote)
    with ServerProcess(directory / "server", environment=faults.environment) as server:
        s3 = boto3_client(server)
        sign_apart(s3)
        s3.create_bucket(Bucket=BUCKET)
        yield Workshop(server=server, faults=faults, s3=s3)
        s3.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with opened(tmp_path_factory.mktemp("faults"), remote=False) as shop:
        yield shop


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """With a backend that answers as if it were behind a network."""
    with opened(tmp_path_factory.mktemp("faults"), remote=True) as shop:
        yield shop


#: What is done after an error depends on its kind in few places, and these pass them all.
KINDS = (put_next_release, complete, delete)


@pytest.mark.parametrize(
    ("make", "error"),
    [(make, "TimeoutError") for make in CASES]
    + [(make, error) for make in KINDS for error in ("ServiceUnavailable", "OSError")],
)
def test_each_call_fails(shop: Workshop, make: Callable[[Workshop], Case], error: str) -> None:
    each_call(shop, make, lambda nth: Fault(action="error", nth=nth, times=1, error=error))


@pytest.mark.parametrize("make", CASES)
def test_each_call_succeeds_without_an_answer(
    shop: Workshop, make: Callable[[Workshop], Case]
) -> None:
    each_call(shop, make, lambda nth: Fault(action="ambiguous", nth=nth, times=1))


@pytest.mark.parametrize("make", [put_new, put_first_release, put_next_release])
def test_each_body_is_cut(shop: Workshop, make: Callable[[Workshop], Case]) -> None:
    each_call(
        shop, make, lambda nth: Fault(action="cut", method="*_object", nth=nth, times=1, bytes=2)
    )


def each_call(
    shop: Workshop, make: Callable[[Workshop], Case], fault_at: Callable[[int], Fault]
) -> None:
    """Carry out the case once for each call of the backend, each time failing the next one."""
    nth, failed = 0, 0
    while True:
        nth += 1
        assert nth < 60, "a request that never comes to its last call"
        case = make(shop)
        fault = fault_at(nth)
        with shop.faults.armed(fault):
            answered = case.succeeds()
        calls = shop.faults.calls(fault)
        failed += not answered
        place = f"call {nth}: {calls[nth - 1]}" if len(calls) >= nth else "no call failed"
        held = shop.read(case.key)
        if answered:
            assert held == case.new, place
        else:
            assert held in (case.old, case.new), place
        assert case.succeeds() or held == case.new, f"refused for good after {place}"
        assert shop.read(case.key) == case.new, place
        if len(calls) < nth:
            break
    assert nth > 1, "the request never reached the backend"
    assert failed, "no failure of the backend was ever told to the client"


@pytest.mark.parametrize("error", ["ServiceUnavailable", "TimeoutError"])
@pytest.mark.parametrize("make", [make for make in CASES if make is not delete])
def test_a_commit_whose_answer_is_lost_ends_right(
    remote: Workshop, make: Callable[[Workshop], Case], error: str
) -> None:
    """The write id at the key says that it has happened, so the client hears of success.

    Not of a local backend: its error may mean that the object is not on disk.
    """
    case = make(remote)
    fault = Fault(action="ambiguous", method=case.commit, key=case.key, times=1, error=error)
    with remote.faults.armed(fault):
        assert case.succeeds()
    assert remote.faults.calls(fault)
    assert remote.read(case.key) == case.new
