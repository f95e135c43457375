"""The write protocol, searched exhaustively: what it promises holds, and each rule is needed.

See ``docs/explanation/write-protocol.md``; the model itself is in ``tests/support/protocol``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from support.protocol.cases import CASES
from support.protocol.checker import explore
from support.protocol.protocol import WriteProtocol
from support.protocol.world import Case, Guards, World

REFERENCE = "an object names a reference that is gone"
TWO_EVENTS = "a mutation has two events"
ROW = "the row of a key is not what is there"

QUICK = "a delta while references are collected, slow processes"
NEW = "new references while references are collected, a crash"
BACK = "two collectors and a reference that comes back"
IN_USE = "two collectors and a reference that is in use"
MOVES = "an object moves while references are collected"
SLOW = "two puts on one key, slow processes"
COMPLETE = "complete and new metadata, a crash"
BUCKET = "a bucket is deleted under a slow process"

#: Rule, a case that needs it, and what breaks without it.
NEEDED = [
    ("hold", BACK, REFERENCE),
    ("hold_before_confirm", BACK, REFERENCE),
    ("hold_refuses_condemned", BACK, REFERENCE),
    ("confirm", NEW, REFERENCE),
    ("condemn_spares_held", QUICK, REFERENCE),
    ("condemn_before_delete", MOVES, REFERENCE),
    ("second_listing", QUICK, REFERENCE),
    ("grace", QUICK, REFERENCE),
    ("deleting_waits", BACK, REFERENCE),
    ("deletion_in_time", BACK, REFERENCE),
    ("fenced_marks", IN_USE, REFERENCE),
    ("fenced_judgement", IN_USE, REFERENCE),
    ("copy_names_its_source", "a source changes while references are collected", REFERENCE),
    ("contention", "three puts on one key", ROW),
    ("disturbance", "three puts on one key", ROW),
    ("journal_once", BUCKET, TWO_EVENTS),
    ("doubt_waits", "put and delete, a crash", ROW),
    ("doubt_renewed", BUCKET, ROW),
    (
        "absence_proves_nothing",
        "delete of an absent key and a put, a crash",
        "a write takes effect after its answer",
    ),
    ("stale_looks", BUCKET, ROW),
    ("lapsed_rechecks", SLOW, ROW),
    ("lapsed_confirms", BUCKET, REFERENCE),
    ("quota_reserves", "racing against a quota, a crash", "the bucket is above its quota"),
    ("alone", COMPLETE, ROW),
    ("rewrite_waits", COMPLETE, ROW),
    ("doubt_keeps_key", COMPLETE, "a rewrite in place undoes another write"),
    ("deletion_refuses_intents", BUCKET, REFERENCE),
    ("begin_refuses_deleting", BUCKET, REFERENCE),
    ("deletion_waits", BUCKET, REFERENCE),
]


@pytest.mark.parametrize("name", CASES)
def test_the_protocol_keeps_its_promises(name: str) -> None:
    found = explore(WriteProtocol(CASES[name]))
    assert found.counterexample is None, str(found.counterexample)
    assert found.ends > 0


@pytest.mark.parametrize(("rule", "name", "broken"), NEEDED, ids=[rule for rule, *_ in NEEDED])
def test_without_a_rule_something_breaks(rule: str, name: str, broken: str) -> None:
    guards = replace(Guards(), **{rule: False})
    found = explore(WriteProtocol(replace(CASES[name], guards=guards)))
    assert found.counterexample is not None
    assert found.counterexample.broken == broken


def test_every_rule_is_shown_to_be_needed() -> None:
    assert [rule for rule, *_ in NEEDED] == [field.name for field in fields(Guards)]


def test_a_delete_that_died_is_settled_only_when_it_can_no_longer_arrive() -> None:
    """The way of the examiner, which no client waits for."""
    case = CASES["delete of an absent key and a put, a crash"]
    guards = replace(Guards(), absence_proves_nothing=False)
    found = explore(WriteProtocol(replace(case, losses=False, guards=guards)))
    assert found.counterexample is not None
    assert found.counterexample.broken == ROW
    assert any("dies" in step for step in found.counterexample.steps)


class Reached(WriteProtocol):
    """Looks for an end at which everything succeeded, instead of one that must not be."""

    def broken(self, state: World) -> str | None:
        return "reached" if _all_done(self.case, state) else None

    def steps(self, state: World) -> Iterator[tuple[str, World]]:
        return (step for step in super().steps(state) if not step[0].endswith(": dies"))


def _all_done(case: Case, state: World) -> bool:
    if case.deletes_bucket:
        return state.bucket == "deleted"
    asked = {number for number, _ in enumerate(case.operations)}
    collected = 0 in state.files or any(found and found.reference == 0 for found in state.objects)
    return state.acked == asked and not state.intents and (collected or not any(state.passes))


@pytest.mark.parametrize("name", CASES)
def test_every_case_can_come_to_a_good_end(name: str) -> None:
    """Nothing is proved by a protocol in which nothing can happen."""
    case = CASES[name]
    found = explore(Reached(case))
    if case.quota is None:
        assert found.counterexample is not None
        assert found.counterexample.broken == "reached"


@pytest.mark.parametrize("name", [MOVES, NEW, BACK])
def test_references_are_collected_at_last(name: str) -> None:
    class Collected(WriteProtocol):
        def broken(self, state: World) -> str | None:
            return "collected" if state.refs == (None,) and state.collections else None

    found = explore(Collected(CASES[name]))
    assert found.counterexample is not None
    assert found.counterexample.broken == "collected"
