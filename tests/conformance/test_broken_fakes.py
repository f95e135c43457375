"""Each broken fake fails the tests of its defect and no others."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

#: Test class and the tests that must fail. More than one is listed where a defect shows in
#: several contracts, e.g. an ignored range also where it touches no byte.
EXPECTED: dict[str, set[str]] = {
    "TestAbortForgetsNothing": {"test_abort"},
    "TestAuthenticatorClaimsEverything": {"test_not_mine"},
    "TestAuthenticatorPassesOn": {"test_invalid"},
    "TestAuthenticatorReadsBody": {"test_body_is_not_read"},
    "TestAuthenticatorShowsSecret": {"test_invalid"},
    "TestAuthorizerAnswersTrue": {"test_total"},
    "TestBucketDeletedWithContent": {"test_bucket_not_empty"},
    "TestBucketErrorIsAbsence": {"test_absent_bucket"},
    "TestCancelledBodyStored": {"test_cancellation"},
    "TestCodecIgnoresSize": {"test_wrong_size"},
    "TestCodecRaisesValueError": {
        "test_flipped_bits",
        "test_garbage",
        "test_truncated_window",
        "test_wrong_reference",
        "test_wrong_size",
    },
    "TestCodecSpanTooSmall": {"test_span"},
    "TestCodecWithState": {"test_windows_are_independent"},
    "TestCodecWrongByte": {"test_full_window"},
    "TestConditionNotAtomic": {
        "test_race_of_creators",
        "test_race_of_delete_and_replace",
        "test_race_of_replacers",
    },
    "TestDeleteConditionIgnored": {"test_delete_by_size_and_date"},
    "TestDeleteRaisesOnAbsent": {
        "test_conditional_delete_of_absent_key",
        "test_delete_absent",
    },
    "TestEtagMissing": {"test_facts_agree", "test_list_facts"},
    "TestEtagQuoted": {
        "test_conditional_delete",
        "test_copy",
        "test_delete_by_size_and_date",
        "test_facts_agree",
        "test_if_match",
        "test_list_facts",
        "test_set_tags",
    },
    "TestFailingBodyStored": {
        "test_bucket_is_empty_after_failures",
        "test_completed_at_once",  # the body of a Complete that lost the race fails
        "test_failing_body",
        "test_failing_part",
    },
    "TestIfMatchIgnored": {
        "test_complete_with_condition",
        "test_if_match",
        "test_if_match_on_absent_key",
        "test_race_of_replacers",
    },
    "TestIfNoneMatchIgnored": {
        "test_complete_with_condition",
        "test_copy_with_condition",
        "test_if_none_match",
        "test_if_none_match_beside_folder",
        "test_race_of_creators",
    },
    "TestKeyNormalised": {"test_hostile_key", "test_hostile_keys_together"},
    "TestLeakyLayer": {"test_forwards"},
    "TestLateMetadataEarly": {"test_late_metadata"},
    "TestLateMetadataLost": {"test_late_metadata"},
    "TestListMarkIsSkipped": {
        "test_list_delimiter",
        "test_list_pages",
        "test_list_prefix_and_start_after",
        "test_list_start_after",
    },
    "TestListNeverSaysEnd": {"test_list_last_page_is_full"},
    "TestListUnsorted": {
        "test_hostile_keys_together",
        "test_if_none_match_beside_folder",
        "test_key_beside_its_folder",
        "test_list_delimiter",
        "test_list_forgets_what_is_deleted",
        "test_list_order",
        "test_list_pages",
        "test_list_parts",
        "test_list_prefix",
        "test_list_prefix_and_start_after",
        "test_list_start_after",
    },
    "TestLongBodyCut": {"test_failing_part", "test_long_body"},
    "TestLongMetadataCut": {"test_long_internal_metadata"},
    "TestMetadataLost": {
        "test_internal_metadata_is_apart",
        "test_late_metadata",
        "test_metadata",
        "test_metadata_of_two_kilobytes",
    },
    "TestMetadataMerged": {"test_copy_onto_itself", "test_metadata_is_replaced"},
    "TestObjectsInMemory": {"test_memory_of_multipart_and_copy", "test_memory_of_put_and_get"},
    "TestRangeIgnored": {"test_range", "test_range_of_nothing", "test_range_outside"},
    "TestRangeOffByOne": {"test_range"},
    "TestReaderMixesVersions": {
        "test_reader_keeps_its_version",
        "test_reader_survives_deletion",
    },
    "TestRouterChangesItsMind": {"test_deterministic"},
    "TestRouterRaises": {"test_deterministic", "test_total"},
    "TestRouterReadsFile": {"test_deterministic", "test_routes", "test_total"},
    "TestRuleRaises": {"test_deterministic", "test_examples", "test_total"},
    "TestRuleWithoutError": {"test_total"},
    "TestShortBodyAccepted": {"test_failing_part", "test_short_body"},
    "TestSinkCannotBeCancelled": {"test_cancellation"},
    "TestSinkForgetsWhatWasCancelled": {"test_cancellation"},
    "TestSinkGivesUp": {"test_failure"},
    "TestSinkRaisesWhatItLikes": {"test_failure"},
    "TestSinkRefusesRepetition": {"test_overlap", "test_repeated_batch"},
    "TestSinkReturnsTooEarly": {
        "test_cancellation",
        "test_deliver",
        "test_deliver_many",
        "test_failure",
        "test_repeated_batch",
        "test_strange_events",
    },
    "TestSinkSendsBackwards": {
        "test_cancellation",
        "test_deliver",
        "test_deliver_many",
        "test_failure",
        "test_repeated_batch",
        "test_strange_events",
    },
    "TestSinkSwallowsFailures": {"test_failure"},
    "TestSinkTakesTheFirstHundred": {"test_deliver_many"},
    "TestSinkWaitsForAYear": {"test_failure"},
    "TestSinkWantsAsciiKeys": {"test_strange_events"},
    "TestSoundAuthenticator": set(),
    "TestSoundBackend": set(),
    "TestSoundSink": set(),
    "TestStoreMatchesPrefix": {"test_unknown_key"},
    "TestStoreRaisesOnUnknown": {"test_unknown_key"},
    "TestStoreShowsSecret": {"test_no_secret_in_repr"},
    "TestSwallowingLayer": {"test_error_of_inner"},
    "TestTagsByRewriting": {"test_set_tags"},
    "TestTagsForgotten": {
        "test_set_tags",
        "test_tags",
        "test_tags_of_a_copy",
        "test_tags_of_an_upload",
    },
    "TestTagsNotDeclared": set(),
    "TestTagsNotDone": {
        "test_long_internal_metadata",
        "test_set_tags",
        "test_set_tags_of_nothing",
        "test_tags_beside_a_writer",
    },
    "TestTagsOfAnotherVersion": {"test_tags_beside_a_writer"},
    "TestVisibleTooEarly": {
        "test_failing_part",
        "test_invisible_until_complete",
        "test_late_metadata",
    },
}

FAKES = ("broken_backends.py", "broken_parts.py", "broken_sinks.py")

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""

#: Tests with parts of 5 MiB. They run for the sound backend, and for the fakes that have to do
#: with parts.
LARGE = {
    "test_completed_at_once",
    "test_concurrent_parts",
    "test_multipart",
    "test_multipart_etag",
    "test_small_part",
}
OF_PARTS = {
    "TestAbortForgetsNothing",
    "TestFailingBodyStored",
    "TestIfMatchIgnored",
    "TestIfNoneMatchIgnored",
    "TestShortBodyAccepted",
    "TestSoundBackend",
    "TestVisibleTooEarly",
}

# All cases of all tests for every fake would take a minute and find nothing more.
CONFTEST = f"""
from itertools import groupby

LARGE = {LARGE!r}
OF_PARTS = {OF_PARTS!r}

def pytest_collection_modifyitems(config, items):
    chosen = []
    for (cls, name), group in groupby(items, key=lambda item: (item.cls, item.originalname)):
        if name in LARGE and cls.__name__ not in OF_PARTS:
            continue
        cases = list(group)
        if name not in getattr(cls, "all_cases_of", ()):
            cases = cases[len(cases) // 2 :][:1]
        chosen += cases
    items[:] = chosen
"""


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """Names of the tests that failed, by class, from one run over all fakes."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(INI)
    for name in FAKES:
        source = Path(__file__).with_name(name).read_text()
        (folder / f"test_{name}").write_text(source)
    # A hang fails the test that hangs, which its class does not expect.
    options = ("-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", "--timeout=60")
    command = [sys.executable, "-m", "pytest", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    failed: dict[str, set[str]] = defaultdict(set)
    for cls, name in re.findall(r"^FAILED \S+?::(\w+)::(\w+)", done.stdout, re.MULTILINE):
        failed[cls].add(name)
    assert not re.search(r"^ERROR", done.stdout, re.MULTILINE), done.stdout
    return failed


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fake", EXPECTED)
def test_fails_exactly(failures: Mapping[str, set[str]], fake: str) -> None:
    assert failures.get(fake, set()) == EXPECTED[fake]


def test_every_fake_is_expected() -> None:
    assert {fake for fake, tests in EXPECTED.items() if tests & LARGE} <= OF_PARTS <= set(EXPECTED)
    declared = set()
    for name in FAKES:
        source = Path(__file__).with_name(name).read_text()
        declared |= set(re.findall(r"^class (Test\w+)", source, re.MULTILINE))
    assert declared == set(EXPECTED)
