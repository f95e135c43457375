"""Kill servers under load for an hour and compare each time with what their clients were told.

Campaigns follow one another, each on a fresh server with one, two or four workers, until the
time is over; the rounds are those of ``tests/functional/test_crash.py`` and
``test_crash_power.py``. Every line says what it takes to repeat it. The exit code is 0 if
nothing was found, else 1, and then the directory of the server is kept.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, os.fspath(ROOT / "tests"))

from support.chaos import Campaign, new_seed, server_with_disk  # noqa: E402  # the path above
from support.journal import JOURNAL_IS_KEPT  # noqa: E402

WORKERS = (1, 2, 4)
ROUNDS = 20


def say(text: str) -> None:
    """A line with the time of day, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def campaign(seed: str, directory: Path, rounds: int, deadline: float) -> Counter[str]:
    """Run the rounds of one seed, or as many as there is time for; returns what was counted."""
    workers = random.Random(seed).choice(WORKERS)
    say(f"campaign {seed}: {workers} workers")
    server, disk = server_with_disk(directory, arguments=["--workers", str(workers)])
    with server:
        played = Campaign(server, seed, disk=disk, journal=JOURNAL_IS_KEPT, say=say)
        while played.rounds < rounds and time.monotonic() < deadline:
            played.run_round()
        played.check()
    model = played.model
    return Counter(
        campaigns=1,
        rounds=played.rounds,
        acknowledged=model.acknowledged,
        refused=model.refused,
        unanswered=model.unanswered,
    )


def main() -> int:
    """Run campaigns until the time is over; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long (3600)")
    parser.add_argument("--seed", help="repeat a campaign: only this one, all of its rounds")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of a campaign (20)")
    arguments = parser.parse_args()
    began = time.monotonic()
    deadline = began + arguments.seconds
    total: Counter[str] = Counter()
    while not total or (time.monotonic() < deadline and arguments.seed is None):
        seed = arguments.seed or new_seed()
        directory = Path(tempfile.mkdtemp(prefix="deltaglider-soak-"))
        try:
            total += campaign(seed, directory, arguments.rounds, deadline)
        except BaseException:
            traceback.print_exc()
            say(f"FAILED: make soak ARGS='--seed {seed}'; what is left is in {directory}")
            return 1
        shutil.rmtree(directory)
    counted = ", ".join(f"{count} {what}" for what, count in total.items())
    say(f"passed in {time.monotonic() - began:.0f} s: {counted}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
