"""Conformance of admission rules."""

from __future__ import annotations

import itertools

import pytest

from deltaglider_core.errors import S3Error
from deltaglider_core.interfaces.admission import AdmissionRule, RequestFacts, Verdict

from .purity import STRANGE_NAMES, no_io

ADDRESSES = ("127.0.0.1", "10.1.2.3", "::1", "2001:db8::1", "::ffff:10.1.2.3", "", "unknown")


def all_facts() -> list[RequestFacts]:
    """Requests of every kind, sensible and not."""
    facts = [
        RequestFacts(
            method=method,
            operation=operation,
            bucket="bucket",
            key=key,
            client_ip=address,
            has_credentials=has_credentials,
        )
        for (method, operation, key), address, has_credentials in itertools.product(
            (
                ("GET", "get_object", "public/a.zip"),
                ("HEAD", "head_object", "k"),
                ("PUT", "put_object", "k"),
                ("DELETE", "delete_object", "k"),
                ("GET", "list_objects_v2", ""),
                ("POST", "delete_objects", ""),
                ("PATCH", "", "k"),
            ),
            ADDRESSES,
            (True, False),
        )
    ]
    facts += [
        RequestFacts(
            method="GET",
            operation="get_object",
            bucket=bucket,
            key=key,
            client_ip="127.0.0.1",
            has_credentials=False,
        )
        for bucket, key in itertools.product(STRANGE_NAMES, STRANGE_NAMES)
    ]
    return facts


class AdmissionConformance:
    """What every ``AdmissionRule`` must do: pure, total, deterministic, no I/O.

    Inherit, and override the fixtures ``rule`` and ``examples``.
    """

    @pytest.fixture
    def rule(self) -> AdmissionRule:
        """The rule under test, open."""
        raise NotImplementedError("override the fixture `rule`")

    @pytest.fixture
    def examples(self) -> list[tuple[RequestFacts, str | None]]:
        """Facts and the expected action: ``continue``, ``reject`` or None."""
        raise NotImplementedError("override the fixture `examples`")

    def test_is_a_rule(self, rule: AdmissionRule) -> None:
        assert isinstance(rule, AdmissionRule)

    def test_examples(
        self, rule: AdmissionRule, examples: list[tuple[RequestFacts, str | None]]
    ) -> None:
        assert examples
        for facts, action in examples:
            with no_io():
                verdict = rule.evaluate(facts)
            assert (verdict and verdict.action) == action, facts

    def test_total(self, rule: AdmissionRule) -> None:
        """Any request has an answer, and a rejection says what the client gets to see."""
        for facts in all_facts():
            with no_io():
                verdict = rule.evaluate(facts)
            if verdict is not None:
                assert isinstance(verdict, Verdict)
                assert verdict.rule, "a verdict names its rule"
                assert isinstance(verdict.error, S3Error) == (verdict.action == "reject")

    def test_deterministic(self, rule: AdmissionRule) -> None:
        for facts in all_facts():
            with no_io():
                answers = [rule.evaluate(facts) for _ in range(2)]
            first, second = ((answer and (answer.action, answer.rule)) for answer in answers)
            assert first == second
