"""Several processes on one directory, and processes that die."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deltaglider_core.interfaces.storage import ObjectMetadata

LARGE = ObjectMetadata(user={"k": "v" * 90_000})
WORKER = str(Path(__file__).parent / "fs_worker.py")


def start(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, WORKER, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def results(workers: list[subprocess.Popen[str]]) -> list[Any]:
    found = []
    for worker in workers:
        out, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        found.append(json.loads(out))
    return found


@pytest.fixture
def stalled(store: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of an upload."""
    worker = start("stall", store.root)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "writing\n"
    yield worker
    worker.kill()
    worker.communicate()


async def test_conditions_have_exactly_one_winner(store: Any) -> None:
    rounds, processes = 25, 3
    await store.put("counter", b"0", metadata=LARGE)
    for number in range(rounds):
        await store.put(f"gone/{number}", b"x", metadata=LARGE)
    reports = results([start("race", store.root, rounds) for _ in range(processes)])
    won = [(number, report["pid"]) for report in reports for number in report["won"]]
    assert sorted(number for number, _ in won) == list(range(rounds))
    for number, pid in won:
        assert await store.get(f"claim/{number}") == str(pid).encode()
    assert sorted(n for report in reports for n in report["deleted"]) == list(range(rounds))
    assert await store.get("counter") == str(rounds * processes).encode()
    assert len(store.left_over()) == rounds + 1


async def test_files_become_folders_under_concurrent_writers(store: Any) -> None:
    await store.put("always", b"always", metadata=LARGE)
    rounds = 20
    reports = results([start("nest", store.root, name, rounds) for name in ("p", "q", "r")])
    assert reports == [[], [], []]
    expected = {"always", "top0", "top1", "top2"}
    for number in range(rounds):
        expected |= {f"turn{number}", *(f"turn{number}/{name}" for name in "pqr")}
    assert set(await store.keys()) == expected
    assert len(store.left_over()) == len(expected)


async def test_killed_writer_leaves_nothing_visible_and_the_next_start_cleans(
    store: Any, reopen: Any, stalled: subprocess.Popen[str]
) -> None:
    assert await store.keys() == []
    assert len(store.left_over()) == 1
    # The writer lives, so its file is no orphan.
    await (await reopen()).aclose()
    assert len(store.left_over()) == 1
    stalled.kill()
    stalled.wait()
    assert await store.keys() == []
    await (await reopen()).aclose()
    assert store.left_over() == []


@pytest.mark.parametrize(
    ("action", "key", "states"),
    [
        ("put", "a", [{"a": "old"}, {"a": "new"}]),
        ("put", "a/b/c", [{"a": "old"}, {"a": "old", "a/b/c": "new"}]),
        ("put", "x/y", [{"a": "old"}, {"a": "old", "x/y": "new"}]),
        ("delete", "a", [{"a": "old"}, {}]),
    ],
)
async def test_a_crash_before_any_system_call_leaves_one_state_or_the_other(
    store: Any, action: str, key: str, states: list[dict[str, str]]
) -> None:
    worker = start("crash", store.root, action, key)
    out, _ = worker.communicate(timeout=120)
    assert worker.returncode == 0
    reports = [json.loads(line) for line in out.splitlines()]
    assert [report["killed"] for report in reports] == [True] * (len(reports) - 1) + [False]
    assert len(reports) > 3
    seen = [report["saw"] for report in reports]
    assert (seen[0], seen[-1]) == (states[0], states[1])
    assert all(state in states for state in seen)
    # Once committed, always committed: the states do not alternate.
    assert seen == sorted(seen, key=states.index)
    assert list((store.path / "%dg-tmp").iterdir()) == []


async def test_orphaned_metadata_goes_with_its_temporary_file(store: Any, reopen: Any) -> None:
    for folder in ("%dg-tmp", "%dg-meta"):
        (store.path / folder).mkdir(exist_ok=True)
        (store.path / folder / "0123").touch()
    (store.path / "%dg-meta" / "4567").touch()
    folder = store.path / "%dg-tmp" / "89ab"
    folder.mkdir()
    (folder / "%dg-self").touch()
    await (await reopen()).aclose()
    assert [path.name for path in store.left_over()] == ["4567"]
