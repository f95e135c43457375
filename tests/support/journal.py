"""What the server says about itself: events, usage, and what a full scan finds."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from support.model import DELETED, Event, Mismatch
from support.raw import RawClient
from support.server import ServerProcess, clean_environment, command_path

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COMMAND_SECONDS = 60
#: Most seconds until what a death has left is settled.
SETTLE_SECONDS = 45.0
POLL_SECONDS = 0.1

#: Whether mutations are journaled and counted.
JOURNAL_IS_KEPT = True

#: Objects and logical bytes, by bucket.
Usage = dict[str, tuple[int, int]]


def run_command(server: ServerProcess, *words: str) -> bytes:
    """Run ``deltaglider_proxy`` beside the server, with its configuration.

    Raises:
        Mismatch: It failed; the text has what it printed.
    """
    result = subprocess.run(
        [command_path("deltaglider_proxy"), "--config", os.fspath(server.config), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        cwd=server.directory,
        env=clean_environment(server.directory, {"TMPDIR": os.fspath(server.temporary)}),
        check=False,
    )
    if result.returncode != 0:
        raise Mismatch(
            f"{' '.join(words)} ended with {result.returncode}\n"
            f"{result.stderr.decode(errors='replace')}"
        )
    return result.stdout


def read_events(server: ServerProcess) -> Counter[Event]:
    """The whole journal as a client could foretell it; ids grow and no write has two events.

    Raises:
        Mismatch: An id or a write id is there twice, or the order is broken.
    """
    journal: list[dict[str, Any]] = [
        json.loads(line)["event"]
        for line in run_command(server, "events", "--json", "--after", "0").splitlines()
    ]
    ids = [event["id"] for event in journal]
    if ids != sorted(set(ids)):
        raise Mismatch(f"event ids do not grow: {ids}")
    writes = Counter(event["write_id"] for event in journal)
    if twice := [write for write, count in writes.items() if count > 1]:
        raise Mismatch(f"writes with more than one event: {twice}")
    return Counter(
        Event(
            kind=event["kind"],
            bucket=event["bucket"],
            key=event["key"],
            etag="" if event["kind"] == DELETED else event["payload"]["etag"].strip('"'),
        )
        for event in journal
    )


def read_usage(server: ServerProcess) -> Usage:
    """What the counters say; a bucket that was never written to may be missing."""
    document = json.loads(run_command(server, "usage", "--json"))
    return {
        bucket: (counted["total_objects"], counted["total_original_size"])
        for bucket, counted in document["buckets"].items()
    }


def scan_usage(s3: S3Client) -> Usage:
    """What there is, by bucket."""
    found: Usage = {}
    for bucket in s3.list_buckets()["Buckets"]:
        sizes = [
            entry["Size"]
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"])
            for entry in page.get("Contents", [])
        ]
        found[bucket["Name"]] = (len(sizes), sum(sizes))
    return found


def has_pending_writes(server: ServerProcess) -> bool:
    """Whether there are intents, or nobody can say."""
    answer = RawClient(server).request("GET", "/_/stats")
    return answer.status != 200 or json.loads(answer.body)["pending_writes"] != 0


def verify_journal(
    server: ServerProcess, s3: S3Client, verify_events: Callable[[Counter[Event]], str]
) -> None:
    """Wait until journal and counters are what they must be; with nobody writing.

    What a death has left is settled a moment after it, so this may take a while.

    Args:
        verify_events: Says what is missing; raises ``Mismatch`` for what will never be right.

    Raises:
        Mismatch: With what is wrong.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    # The commands below cost a start of the interpreter each time.
    while has_pending_writes(server) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    while True:
        problems = verify_events(read_events(server))
        counted, there = read_usage(server), scan_usage(s3)
        if differing := {
            name: (counted.get(name), there.get(name))
            for name in counted.keys() | there.keys()
            if counted.get(name, (0, 0)) != there.get(name, (0, 0))
        }:
            problems += f"; counters and what there is: {differing}"
        if not problems:
            return
        if time.monotonic() > deadline:
            raise Mismatch(f"not in the journal or the counters: {problems}")
        time.sleep(POLL_SECONDS)
