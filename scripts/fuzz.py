"""Run the fuzz and model tests of the S3 surface with examples that nobody has tried before.

One round after another, each with a seed of its own, until the time is over. A round is the same
tests that ``make test`` runs, with many more examples. Every line says what it takes to repeat it:
``make fuzz ARGS="--seed N"`` runs that round alone. The exit code is 0 if nothing was found.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("test_fuzz_*.py", "test_listing_model.py", "test_sigv4_model.py")
#: A test of ``make test`` with 300 examples has this many times 300 in a round.
FACTOR = 25
ROUND_SECONDS = 1200.0


def say(text: str) -> None:
    """A line with the time of day, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def files() -> list[Path]:
    """The tests of a round."""
    folder = ROOT / "tests" / "unit" / "s3"
    return sorted(path for pattern in TESTS for path in folder.glob(pattern))


def run_round(seed: int, factor: int, words: Sequence[str]) -> bool:
    """Run one round; returns whether it found nothing."""
    say(f"seed {seed}")
    started = time.monotonic()
    command = [
        *(sys.executable, "-m", "pytest", "--quiet", "--maxfail=3", f"--hypothesis-seed={seed}"),
        *(f"--timeout={ROUND_SECONDS}", *words, *map(os.fspath, files())),
    ]
    environment = {**os.environ, "DGP_TEST_FUZZ_FACTOR": str(factor)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )
    seconds = time.monotonic() - started
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0:
        say(f"  nothing found in {seconds:.0f} s: {lines[-1]}")
        return True
    print(done.stdout, done.stderr, sep="\n")
    say(f'  FOUND after {seconds:.0f} s; repeat it with: make fuzz ARGS="--seed {seed}"')
    return False


def main() -> int:
    """Run rounds until the time is over; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--seed", type=int, help="run the round of this seed alone")
    parser.add_argument("--factor", type=int, default=FACTOR, help=f"examples, times ({FACTOR})")
    known, words = parser.parse_known_args()
    if known.factor < 2:
        parser.error("--factor must be at least 2: with 1 the examples are always the same")
    if known.seed is not None:
        return 0 if run_round(known.seed, known.factor, words) else 1
    end = time.monotonic() + known.seconds
    rounds = found = 0
    while rounds == 0 or time.monotonic() < end:
        seed = random.SystemRandom().randrange(2**32)
        rounds += 1
        found += not run_round(seed, known.factor, words)
    say(f"{rounds} rounds, {found} with a finding")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
