"""The lock between processes: it excludes, it is fair, and death releases it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from deltaglider_core.state.turnstile import Turnstile


def test_it_excludes_and_takes_turns(tmp_path: Path) -> None:
    """Four that want it all the time: nobody has it twice while another one waits at the gate."""
    inside = threading.Lock()
    order: list[int] = []
    start = threading.Barrier(4)
    overlaps = []

    def worker(number: int) -> None:
        with contextlib.closing(Turnstile(tmp_path / "x.db")) as turnstile:
            start.wait()
            for _ in range(100):
                with turnstile.turn():
                    if not inside.acquire(blocking=False):
                        overlaps.append(number)
                        continue
                    order.append(number)
                    # As a commit does: others get to run.
                    os.sched_yield()
                    inside.release()

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not overlaps
    assert [order.count(number) for number in range(4)] == [100] * 4


def test_whoever_waits_is_next(tmp_path: Path) -> None:
    """The holder that asks again at once has to queue behind one that waits already."""
    path = tmp_path / "x.db"
    order: list[str] = []
    with contextlib.closing(Turnstile(path)) as mine, contextlib.closing(Turnstile(path)) as other:

        def wait() -> None:
            with other.turn():
                order.append("other")

        thread = threading.Thread(target=wait)
        with mine.turn():
            thread.start()
            # It is at the gate when nobody else can pass it.
            gate = os.open(tmp_path / "x.db.gate", os.O_RDWR)
            while _free(gate):
                os.sched_yield()
            os.close(gate)
        with mine.turn():
            order.append("mine")
        thread.join()
    assert order == ["other", "mine"]


def _free(descriptor: int) -> bool:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from deltaglider_core.state.turnstile import Turnstile
with Turnstile(Path(sys.argv[1])).turn():
    print("held", flush=True)
    time.sleep(60)
"""
    path = tmp_path / "x.db"
    process = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == b"held\n"
        lock = os.open(tmp_path / "x.db.lock", os.O_RDWR)
        assert not _free(lock)
        os.close(lock)
        process.send_signal(signal.SIGKILL)
    with contextlib.closing(Turnstile(path)) as turnstile, turnstile.turn():
        pass
