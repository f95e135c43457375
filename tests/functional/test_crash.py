"""``kill -9`` under mixed load: what was acknowledged is there, nothing else is.

``CHAOS_SEED`` in the environment repeats what a failed run has printed; ``make soak`` runs the
same rounds for an hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.chaos import Campaign, new_seed
from support.journal import JOURNAL_IS_KEPT
from support.raw import RawClient
from support.samples import MIB, files_below, noise

if TYPE_CHECKING:
    from conftest import MakeClient, StartServer

BUCKET = "crash"


@pytest.mark.parametrize(
    ("workers", "deaths"),
    [
        (1, ["kill", "stop"]),
        (3, ["kill-workers", "kill"]),
    ],
)
def test_death_under_load(start_server: StartServer, workers: int, deaths: list[str]) -> None:
    server = start_server(arguments=["--workers", str(workers)])
    campaign = Campaign(server, new_seed(), journal=JOURNAL_IS_KEPT)
    for death in deaths:
        campaign.run_round(death)
    assert campaign.model.acknowledged > 20 * len(deaths)
    campaign.check()


def test_an_interrupted_upload_leaves_nothing_for_ever(
    start_server: StartServer, boto3_factory: MakeClient
) -> None:
    """What a killed process left behind is gone, or no longer grows, after the restart."""
    server = start_server()
    s3 = boto3_factory(server)
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="warm", Body=b"x")
    raw = RawClient(server)
    before = {name for name in files_below(server.data) if "%dg-locks" not in name}
    for key in ("plain", "app.zip"):
        signed = raw.signer.sign("PUT", f"/{BUCKET}/{key}", payload="UNSIGNED-PAYLOAD")
        with raw.connect() as connection:
            connection.send_head(
                "PUT", signed.target, {**signed.headers, "content-length": str(8 * MIB)}
            )
            connection.send(noise(4 * MIB))
            server.kill()
        server.start()
    s3.put_object(Bucket=BUCKET, Key="warm", Body=b"y")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["warm"]
    after = {name for name in files_below(server.data) if "%dg-locks" not in name}
    assert after == before
    assert [n for n in files_below(server.temporary) if "/op-" in n] == []
