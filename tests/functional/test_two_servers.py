"""Two servers with two workers each, on one PostgreSQL and one directory of objects.

``CHAOS_SEED`` in the environment repeats what a failed run has printed.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.chaos import Campaign, Load, new_seed
from support.clients import boto3_client
from support.journal import read_events, run_command
from support.load import BUCKET
from support.load_requests import sign_apart
from support.model import CREATED, Event, Mismatch, Model
from support.raw import RawClient
from support.samples import MIB, md5_hex, multipart_etag, noise, wait_until
from support.server import ServerProcess
from support.server_pair import Collector, Roamer, server_pair
from support.signing import sha256_hex
from support.state import postgres_place, postgres_url
from support.stored import scan_files
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from deltaglider_core.state.place import DatabasePlace

__all__ = ["postgres_place", "postgres_url"]

CLIENTS = 6
#: Shorter than any other test would have it, so that references go while they come.
GRACE = {"advanced": {"reference_grace_seconds": 1}}
QUOTA = 100_000
LOAD_SECONDS = 40.0


def test_mixed_load_with_collections_and_a_death(
    tmp_path: Path, postgres_place: DatabasePlace
) -> None:
    seed = new_seed()
    print(f"seed {seed}")
    assert postgres_place.url is not None
    first, second = server_pair(tmp_path, postgres_place.url, settings=GRACE)
    with first, second:
        campaign = Campaign(first, seed, journal=True)
        model = campaign.model
        clients = [Roamer(model, number, (first, second)) for number in range(CLIENTS)]
        with Collector(first) as collector, Load(first, clients, seed) as load:

            def go_on(acknowledged: int, deleted: int) -> None:
                wanted = model.acknowledged + acknowledged
                wait_until(
                    lambda: (
                        load.failed
                        or collector.error is not None
                        or (
                            model.acknowledged >= wanted and collector.counts["deleted"] >= deleted
                        )
                    ),
                    f"{acknowledged} writes, {deleted} references deleted; {collector.counts}",
                    LOAD_SECONDS,
                )

            go_on(60, 1)
            second.kill()
            go_on(40, 1)
            second.start()
            go_on(60, collector.counts["deleted"] + 1)
            load.end()
        if collector.error is not None:
            raise collector.error
        for server in (first, second):
            campaign.server = server
            campaign.check()
        check_references(first, collector)
        check_usage(first, second)
