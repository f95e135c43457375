"""The comparison after a crash finds what it is there to find: each fault is planted here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.chaos import Campaign
from support.load import BUCKET
from support.model import COPIED, CREATED, DELETED, Event, Mismatch, Model, Place, Version
from support.server import ServerProcess

KEY = Place(bucket="b", key="k")
ONE, TWO, THREE = (Version.of(data) for data in (b"1", b"2", b"3"))


@pytest.fixture
def model() -> Model:
    return Model()


def put(model: Model, version: Version | None, outcome: str = "acknowledge") -> None:
    write = model.begin(KEY, version, CREATED if version else DELETED)
    getattr(model, outcome)(write)


def created(version: Version) -> Event:
    return Event(kind=CREATED, bucket="b", key="k", etag=version.etag)


DELETION = Event(kind=DELETED, bucket="b", key="k")


def test_an_acknowledged_write_counts(model: Model) -> None:
    put(model, ONE)
    put(model, TWO)
    assert model.possible(KEY) == {TWO}
    for wrong in (ONE, THREE, None):
        with pytest.raises(Mismatch):
            model.verify(KEY, wrong)
    model.verify(KEY, TWO)


def test_a_refused_write_does_not(model: Model) -> None:
    put(model, ONE)
    put(model, TWO, "refuse")
    assert model.possible(KEY) == {ONE}


def test_an_unanswered_write_counts_or_not_until_it_is_seen(model: Model) -> None:
    put(model, ONE)
    put(model, TWO, "lose")
    assert model.possible(KEY) == {ONE, TWO}
    model.verify(KEY, TWO)
    assert model.possible(KEY) == {TWO}
    with pytest.raises(Mismatch):
        model.verify(KEY, ONE)


def test_a_deletion_stays(model: Model) -> None:
    put(model, ONE)
    put(model, None)
    model.verify(KEY, None)
    with pytest.raises(Mismatch):
        model.verify(KEY, ONE)


def test_of_writes_that_overlap_any_can_be_the_last(model: Model) -> None:
    first = model.begin(KEY, ONE, CREATED)
    second = model.begin(KEY, TWO, CREATED)
    model.acknowledge(first)
    model.acknowledge(second)
    assert model.possible(KEY) == {ONE, TWO}
    put(model, THREE)
    assert model.possible(KEY) == {THREE}


def test_events_of_acknowledged_writes_are_there_once(model: Model) -> None:
    put(model, ONE)
    put(model, None)
    put(model, None)  # finds nothing: no event
    assert str(created(ONE)) in model.verify_events(Counter([DELETION]))
    assert str(DELETION) in model.verify_events(Counter([created(ONE)]))
    assert model.verify_events(Counter([created(ONE), DELETION])) == ""
    for strange in (created(ONE), DELETION, created(TWO)):
        with pytest.raises(Mismatch):
            model.verify_events(Counter([created(ONE), DELETION, strange]))


def test_events_of_unanswered_writes_may_be_there_and_must_be_if_seen(model: Model) -> None:
    put(model, ONE, "lose")
    assert model.verify_events(Counter()) == ""
    assert model.verify_events(Counter([created(ONE)])) == ""
    model.verify(KEY, ONE)
    assert model.verify_events(Counter()) != ""
    put(model, None, "lose")
    assert model.verify_events(Counter([created(ONE)])) == ""
    model.verify(KEY, None)
    assert model.verify_events(Counter([created(ONE)])) != ""


def test_a_refused_write_has_no_event(model: Model) -> None:
    put(model, ONE, "refuse")
    with pytest.raises(Mismatch):
        model.verify_events(Counter([created(ONE)]))
    with pytest.raises(Mismatch):
        model.verify_events(Counter([Event(kind=COPIED, bucket="b", key="k", etag=ONE.etag)]))


def test_a_confirmed_write_is_as_good_as_an_acknowledged_one(model: Model) -> None:
    write = model.begin(KEY, ONE, CREATED)
    model.lose(write)
    model.verify(KEY, None)
    model.confirm(write)
    assert model.possible(KEY) == {ONE}
    assert model.verify_events(Counter()) != ""
    assert model.verify_events(Counter([created(ONE)])) == ""


# --- a server that has lost, changed or invented something ------------------------------


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    with ServerProcess(tmp_path_factory.mktemp("checks")) as server:
        campaign = Campaign(server, "1")
        campaign.run_round("kill")
        yield campaign


@pytest.fixture
def victim(campaign: Campaign) -> Iterator[Path]:
    """The file of an acknowledged object, put back afterwards."""
    key = next(
        place.key
        for place in campaign.model.places(BUCKET)
        if place.key.endswith(".zip") and campaign.model.unchanged(place)
    )
    path = campaign.server.data / BUCKET / key
    aside = campaign.server.directory / "aside"
    os.link(path, aside)
    yield path
    path.unlink(missing_ok=True)
    aside.rename(path)
    campaign.check()


def test_a_lost_object_is_noticed(campaign: Campaign, victim: Path) -> None:
    victim.unlink()
    with pytest.raises(Mismatch, match="holds None"):
        campaign.check()


def test_another_content_is_noticed(campaign: Campaign, victim: Path) -> None:
    victim.unlink()
    victim.write_bytes(b"never sent")
    with pytest.raises(Mismatch, match="was told to hold"):
        campaign.check()


def test_an_object_that_nobody_sent_is_noticed(campaign: Campaign) -> None:
    stranger = campaign.server.data / BUCKET / "own" / "stranger"
    stranger.write_bytes(b"x")
    with pytest.raises(Mismatch, match="nobody has sent"):
        campaign.check()
    stranger.unlink()
    campaign.check()


def test_a_bucket_that_nobody_created_is_noticed(campaign: Campaign) -> None:
    (campaign.server.data / "stranger").mkdir()
    with pytest.raises(Mismatch, match="nobody has created"):
        campaign.check()
    (campaign.server.data / "stranger").rmdir()
