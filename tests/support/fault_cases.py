"""Requests that change one key, in a situation made for each of them, for tests with faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from support.faults import Faults
from support.model import COPIED, CREATED, DELETED, Event
from support.samples import MIB, md5_hex, multipart_etag, noise, release
from support.server import ServerProcess
from support.uploads import Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "faults"
SIZE = MIB // 4


@dataclass(kw_only=True)
class Case:
    """A bucket in a known state, and a request that changes it.

    Attributes:
        key: What the request changes.
        old, new: What the key holds before and after; None for nothing.
        request: Sends it; raises ``ClientError``.
        event: What is journaled if it happens.
        commit: The call of the backend that makes it happen.
        repeatable: Sent again after it has happened, it changes nothing and has no event.
    """

    key: str
    old: bytes | None
    new: bytes | None
    request: Callable[[], Any]
    event: Event
    commit: str = "put_object"
    repeatable: bool = False

    def succeeds(self) -> bool:
        """Whether the request is answered with success; a refusal must be the server's fault."""
        try:
            self.request()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (500, 503):
                raise
            return False
        return True


@dataclass(kw_only=True)
class Workshop:
    """A server with the fault layer, and a client of it.

    Attributes:
        journaled: The events of everything that was done here.
    """

    server: ServerProcess
    faults: Faults
    s3: S3Client
    journaled: Counter[Event] = field(default_factory=Counter)
    made: int = 0

    def fresh(self, suffix: str = "") -> str:
        """A key in a folder of its own, so that every case meets the same situation."""
        self.made += 1
        return f"case-{self.made}/object{suffix}"

    def send(self, key: str, data: bytes) -> None:
        """PutObject, as the request of a case."""
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)

    def put(self, key: str, data: bytes) -> None:
        """Store what a case needs."""
        self.send(key, data)
        self.journaled[created(key, data)] += 1

    def read(self, key: str) -> bytes | None:
        """What a key holds; None for nothing."""
        try:
            return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None


def created(key: str, data: bytes, kind: str = CREATED) -> Event:
    """The event of an object that was sent in one piece."""
    return Event(kind=kind, bucket=BUCKET, key=key, etag=md5_hex(data))


def put_case(shop: Workshop, key: str, old: bytes | None, new: bytes) -> Case:
    """PutObject on a key that holds ``old``."""
    if old is not None:
        shop.put(key, old)
    return Case(
        key=key, old=old, new=new, request=lambda: shop.send(key, new), event=created(key, new)
    )


def put_new(shop: Workshop) -> Case:
    """A small object on a new key."""
    return put_case(shop, shop.fresh(), None, b"new")


def overwrite(shop: Workshop) -> Case:
    """A small object in the place of another one."""
    return put_case(shop, shop.fresh(), b"old", b"new")


def put_first_release(shop: Workshop) -> Case:
    """The first file of a deltaspace, which becomes its reference."""
    return put_case(shop, shop.fresh(".zip"), None, release(0, SIZE))


def put_next_release(shop: Workshop) -> Case:
    """A delta in the place of another one."""
    key = shop.fresh(".zip")
    shop.put(f"{key}-0.zip", release(0, SIZE))
    return put_case(shop, key, release(1, SIZE), release(2, SIZE))


def copy(shop: Workshop) -> Case:
    """A copy of a delta."""
    key, data = shop.fresh(".zip"), release(2, SIZE)
    shop.put(f"{key}-0.zip", release(0, SIZE))
    shop.put(f"{key}-2.zip", data)
    source: Any = {"Bucket": BUCKET, "Key": f"{key}-2.zip"}
    return Case(
        key=key,
        old=None,
        new=data,
        request=lambda: shop.s3.copy_object(Bucket=BUCKET, Key=key, CopySource=source),
        event=created(key, data, COPIED),
        commit="copy_object",
    )


def complete(shop: Workshop) -> Case:
    """The completion of an upload in two parts."""
    key = shop.fresh(".zip")
    parts = [noise(5 * MIB, 7), release(0, SIZE)]
    upload = Upload(shop.s3, BUCKET, key)
    tags = [(number, upload.part(number, part)) for number, part in enumerate(parts, 1)]
    return Case(
        key=key,
        old=None,
        new=b"".join(parts),
        request=lambda: upload.complete(*tags),
        event=Event(kind=CREATED, bucket=BUCKET, key=key, etag=multipart_etag(parts)),
        commit="complete_multipart_upload",
        repeatable=True,
    )


def delete(shop: Workshop) -> Case:
    """A deletion."""
    key, data = shop.fresh(".zip"), release(0, SIZE)
    shop.put(key, data)
    return Case(
        key=key,
        old=data,
        new=None,
        request=lambda: shop.s3.delete_object(Bucket=BUCKET, Key=key),
        event=Event(kind=DELETED, bucket=BUCKET, key=key),
        commit="delete_object",
        repeatable=True,
    )


CASES = (put_new, overwrite, put_first_release, put_next_release, copy, complete, delete)
