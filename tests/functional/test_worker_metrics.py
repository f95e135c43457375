"""Several workers, one set of metrics, whichever of them is asked."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.processes import process_of, workers_of
from support.raw import Connection, RawClient
from support.samples import wait_until
from support.server import ServerProcess

WORKERS = 2
BUCKET = "counted"
BUDGET = "deltaglider_cache_max_bytes"
REQUESTS = "deltaglider_http_requests_total"
BODY = b"x" * 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, arguments=["--workers", str(WORKERS)]) as server:
        assert RawClient(server).request("PUT", f"/{BUCKET}").status == 200
        yield server


def put_many(server: ServerProcess, count: int) -> None:
    """Each over a connection of its own, so that all workers take some."""
    raw = RawClient(server)

    def put(number: int) -> int:
        return raw.request("PUT", f"/{BUCKET}/{number}", body=BODY).status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(put, range(count))) == {200}


def scrape(connection: Connection) -> str:
    connection.send_head("GET", "/_/metrics", {"host": "x"})
    answer = connection.answer()
    assert answer.status == 200
    return answer.body.decode()


def scrape_any(server: ServerProcess) -> str:
    with RawClient(server).connect() as connection:
        return scrape(connection)


def scrape_each(server: ServerProcess) -> list[str]:
    """What every worker answers; over as many connections as it takes to meet all."""
    raw, workers = RawClient(server), workers_of(server.pid)
    found: dict[int, str] = {}
    with ExitStack() as stack:
        for _ in range(500):
            connection = stack.enter_context(raw.connect())
            text = scrape(connection)
            found[process_of(server.port, connection.local_port, workers)] = text
            if found.keys() == workers:
                return list(found.values())
    raise AssertionError(f"only {len(found)} of {len(workers)} workers answer")


def values(text: str, name: str, labels: str = "") -> list[float]:
    """The samples of a metric whose labels contain ``labels``."""
    pattern = rf"^{name}(?:\{{.*{labels}.*\}}){'' if labels else '?'} (\S+)$"
    return [float(found) for found in re.findall(pattern, text, re.MULTILINE)]


def puts(text: str) -> float:
    return sum(values(text, REQUESTS, 'operation="put_object"'))


def wait_for_puts(server: ServerProcess, count: int) -> None:
    """A request is counted when its answer has been sent, so the last ones come a little late."""
    wait_until(lambda: puts(scrape_any(server)) == count, f"{count} requests are counted")


def budget(text: str) -> list[float]:
    return values(text, BUDGET)


def metric_files(server: ServerProcess, kind: str) -> set[int]:
    """Ids of the processes that have a file of a kind."""
    names = {path.stem.rpartition("_")[2] for path in server.temporary.rglob(f"{kind}_*.db")}
    return {int(name) for name in names if name.isdigit()}


def test_each_worker_shows_the_sum_of_all(server: ServerProcess) -> None:
    put_many(server, 200)
    wait_for_puts(server, 200)
    answers = scrape_each(server)
    assert len(answers) == WORKERS
    budgets = {tuple(budget(text)) for text in answers}
    assert len(budgets) == 1, "they disagree"
    for text in answers:
        assert puts(text) == 200
        assert values(text, "deltaglider_http_request_duration_seconds_count", "put_object") == [
            200
        ]
        uploaded = values(text, "deltaglider_http_request_size_bytes_sum", 'method="PUT"')
        assert uploaded == [200 * len(BODY)]
        assert values(text, "deltaglider_build_info") == [1]
        assert len(values(text, "process_start_time_seconds")) == 1
        assert 'pid="' not in text


def kill_one(server: ServerProcess, counted: float) -> None:
    """Kill a worker; what is shown until it is replaced must be ``counted`` all the time."""
    victim = min(workers_of(server.pid))
    os.kill(victim, signal.SIGKILL)
    seen = set()

    def replaced() -> bool:
        seen.add(puts(scrape_any(server)))
        living = workers_of(server.pid)
        return victim not in living and metric_files(server, "gauge_livesum") == living

    wait_until(replaced, "the dead one has no gauges, its successor has")
    assert seen == {counted}, "the counters went back or jumped"


def test_the_dead_go_on_counting_and_show_no_gauges(server: ServerProcess) -> None:
    all_budgets = budget(scrape_any(server))
    first = values(scrape_any(server), "process_start_time_seconds")
    for count in (50, 100):
        put_many(server, 50)
        wait_for_puts(server, count)
        kill_one(server, count)
        wait_until(lambda: budget(scrape_any(server)) == all_budgets, "all workers serve again")
    assert values(scrape_any(server), "process_start_time_seconds") >= first
    # Two have died and left no files of their own: what they counted is added up in one.
    assert metric_files(server, "counter") == workers_of(server.pid)


def test_the_directory_is_fresh_and_goes_away(server: ServerProcess) -> None:
    def directories() -> set[Path]:
        return {path.parent for path in server.temporary.rglob("counter_*.db")}

    put_many(server, 10)
    wait_for_puts(server, 10)
    (first,) = directories()
    assert first.stat().st_mode & 0o777 == 0o700
    server.kill()
    assert first.exists()
    server.start()
    (second,) = directories()
    assert second != first
    assert puts(scrape_any(server)) == 0
    assert server.stop() == 0
    assert directories() == set()
    assert not any(server.temporary.rglob("process-*"))
    server.start()


def test_one_worker_keeps_its_metrics_in_memory(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        assert RawClient(server).request("PUT", f"/{BUCKET}").status == 200
        put_many(server, 5)
        wait_for_puts(server, 5)
        assert not any(server.temporary.rglob("*.db"))
