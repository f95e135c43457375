"""Clients that write, overwrite, copy, delete and read at random, and note what they are told.

Each client has keys of its own, of which it knows at any time what they may hold, and writes to
keys that all of them share. What it reads is held against the model at once.
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from botocore.exceptions import BotoCoreError, IncompleteReadError
from support.load_requests import NotSent, Refused, Sender, Unanswered
from support.model import COPIED, CREATED, DELETED, Mismatch, Model, Place, Version, Write
from support.raw import Answer
from support.samples import MIB, multipart_etag, noise, release
from support.server import ServerProcess

BUCKET = "chaos"
KEYS = 6  # of each kind and client
SHARED = 4
PART = 5 * MIB
RELEASE_SIZE = MIB // 4
#: What stands for a bucket that is there.
BUCKET_IS_THERE = Version(digest="bucket", size=0, etag="")


@dataclass(kw_only=True)
class PendingUpload:
    """A multipart upload, taken further one request at a time, across restarts."""

    place: Place
    upload_id: str
    parts: list[bytes]
    tags: dict[int, str] = field(default_factory=dict)
    completion: Write | None = None


@lru_cache(maxsize=16)
def small_release(number: int) -> bytes:
    """One of a series of similar files."""
    return release(number, RELEASE_SIZE)


class Client(Sender):
    """One thread's worth of requests.

    Args:
        number: Of the client; its keys carry it.
        bucket: Exists already.
    """

    def __init__(self, model: Model, number: int, bucket: str = BUCKET) -> None:
        super().__init__(model)
        self.number = number
        self.bucket = bucket
        self.own_bucket = f"{bucket}-{number}"
        self.uploads: list[PendingUpload] = []
        self.finished_uploads: list[Place] = []
        self._made = 0
        self.actions: dict[Callable[[], None], int] = {
            self.put_small: 5,
            self.put_text: 1,
            self.put_candidate: 4,
            self.put_conditionally: 3,
            self.copy: 2,
            self.delete: 2,
            self.delete_many: 1,
            self.advance_upload: 3,
            self.use_own_bucket: 2,
            self.write_shared: 4,
            self.read_own: 3,
            self.read_shared: 1,
            self.list_own: 1,
        }

    def run(self, server: ServerProcess, seed: str, stop: threading.Event) -> None:
        """Send requests until ``stop``. Raises ``Mismatch``."""
        self.chance = random.Random(f"{seed}/{self.number}")
        self.connect(server)
        try:
            while not stop.is_set():
                action = self.chance.choices([*self.actions], [*self.actions.values()])[0]
                try:
                    action()
                except Unanswered:
                    continue
                except NotSent:
                    stop.wait(0.02)
        finally:
            self.s3.close()

    # --- writing --------------------------------------------------------------------------

    def place(self, name: str) -> Place:
        """A key of this client alone."""
        return Place(bucket=self.bucket, key=f"own/{self.number}/{name}")

    def unique(self, data: bytes) -> bytes:
        """Content that nobody has sent before."""
        self._made += 1
        return data + f"{self.number}/{self._made}/{self.chance.random()}".encode()

    def put(
        self, place: Place, data: bytes, allowed: Sequence[str] = (), **headers: str
    ) -> Answer | None:
        """PutObject on a connection of its own."""
        version = Version.of(data)
        write = self.model.begin(place, version, CREATED)
        request = partial(self.send, "PUT", place, data, **headers)
        answer: Answer | None = self.mutate([write], request, allowed)
        if answer is None:
            return None
        self.model.acknowledge(write)
        self.expect(answer.headers["etag"].strip('"') == version.etag, place, "ETag of a PUT")
        return answer

    def put_small(self) -> None:
        place = self.place(f"small-{self.chance.randrange(KEYS)}")
        self.put(place, self.unique(self.chance.randbytes(self.chance.randrange(2000))))

    def put_text(self) -> None:
        place = self.place(f"text-{self.chance.randrange(2)}.txt")
        self._put_object(place, self.unique(noise(2 * MIB, seed=self.number)))

    def put_candidate(self) -> None:
        place = self.place(f"app-{self.chance.randrange(KEYS)}.zip")
        self._put_object(place, self.unique(small_release(self.chance.randrange(8))))

    def _put_object(self, place: Place, data: bytes) -> None:
        write = self.model.begin(place, Version.of(data), CREATED)
        self.mutate(
            [write],
            lambda: self.call("put_object", Bucket=place.bucket, Key=place.key, Body=data),
        )
        self.model.acknowledge(write)

    def put_conditionally(self) -> None:
        """On a key of which we know what it holds, we know what a condition leads to."""
        place = self.place(f"small-{self.chance.randrange(KEYS)}")
        data = self.unique(b"conditional")
        held = self.model.possible(place)
        present = next(iter(held - {None}), None)
        if self.chance.random() < 0.5 or present is None:
            answer = self.put(place, data, ("PreconditionFailed",), if_none_match="*")
            fitting = None in held
        else:
            codes = ("PreconditionFailed", "NoSuchKey")
            answer = self.put(place, data, codes, if_match=f'"{present.etag}"')
            fitting = present in held
        if len(held) == 1:
            self.expect((answer is not None) == fitting, place, "outcome of a condition")

    def copy(self) -> None:
        source = self.place(self.chance.choice(["small-0", "app-0.zip", "app-1.zip", "text-0.txt"]))
        held = self.model.possible(source)
        version = next(iter(held))
        if len(held) != 1 or version is None:
            return
        place = self.place(f"copy-{self.chance.randrange(2)}{source.key[-4:]}")
        write = self.model.begin(place, version, COPIED)
        answer = self.mutate(
            [write],
            lambda: self.call(
                "copy_object",
                Bucket=place.bucket,
                Key=place.key,
                CopySource={"Bucket": source.bucket, "Key": source.key},
            ),
        )
        self.model.acknowledge(write)
        etag = answer["CopyObjectResult"]["ETag"].strip('"')
        self.expect(etag == version.etag, place, "ETag of a copy")

    def delete(self) -> None:
        kind = self.chance.choice(["small-{}", "app-{}.zip", "copy-{}.zip"])
        self._delete(self.place(kind.format(self.chance.randrange(KEYS))))

    def _delete(self, place: Place) -> None:
        write = self.model.begin(place, None, DELETED)
        self.mutate([write], lambda: self.send("DELETE", place))
        self.model.acknowledge(write)

    def delete_many(self) -> None:
        names = [f"small-{number}" for number in self.chance.sample(range(KEYS), 2)]
        places = [self.place(name) for name in (*names, f"app-{self.chance.randrange(KEYS)}.zip")]
        places += [self.finished_uploads.pop() for _ in self.finished_uploads[2:]]
        self._delete_many(places)

    def _delete_many(self, places: Sequence[Place]) -> None:
        writes = {place.key: self.model.begin(place, None, DELETED) for place in places}
        listed = [{"Key": key} for key in writes]
        answer = self.mutate(
            [*writes.values()],
            lambda: self.call(
                "delete_objects", Bucket=places[0].bucket, Delete={"Objects": listed}
            ),
        )
        for entry in answer.get("Deleted", []):
            self.model.acknowledge(writes.pop(entry["Key"]))
        for entry in answer.get("Errors", []):
            self.model.lose(writes.pop(entry["Key"]))
        self.expect(not writes, places[0], f"answer for each of {len(places)} deletions")

    def write_shared(self) -> None:
        """Several clients at once; conditions decide among them."""
        number = self.chance.randrange(SHARED)
        name = f"shared/{number}.zip" if number % 2 else f"shared/{number}"
        place = Place(bucket=self.bucket, key=name, shared=True)
        choice = self.chance.randrange(5)
        data = self.unique(small_release(number) if number % 2 else b"shared")
        busy = ("PreconditionFailed", "ConditionalRequestConflict")
        if choice == 0:
            self._delete(place)
        elif choice == 1:
            self.put(place, data, busy, if_none_match="*")
        else:
            self.put(place, data)

    # --- uploads in parts -----------------------------------------------------------------

    def advance_upload(self) -> None:
        """The next request of an upload; a new one if there are not two yet."""
        if len(self.uploads) < 2:
            self._begin_upload()
            return
        upload = self.chance.choice(self.uploads)
        names = {"Bucket": upload.place.bucket, "Key": upload.place.key}
        names["UploadId"] = upload.upload_id
        missing = [n for n in range(1, len(upload.parts) + 1) if n not in upload.tags]
        if missing:
            number = self.chance.choice(missing)
            answer = self._sure(
                "upload_part", **names, PartNumber=number, Body=upload.parts[number - 1]
            )
            upload.tags[number] = answer["ETag"]
            return
        self._complete(upload, names)

    def _begin_upload(self) -> None:
        self._made += 1
        suffix = self.chance.choice(["bin", "zip"])
        place = self.place(f"multi-{self._made}.{suffix}")
        answer = self._sure("create_multipart_upload", Bucket=place.bucket, Key=place.key)
        parts = [self.unique(small_release(0))]
        if self.chance.random() < 0.4:
            parts.insert(0, noise(PART, seed=1))
        self.uploads.append(PendingUpload(place=place, upload_id=answer["UploadId"], parts=parts))

    def _complete(self, upload: PendingUpload, names: dict[str, str]) -> None:
        parts = [{"PartNumber": n, "ETag": tag} for n, tag in sorted(upload.tags.items())]

        def request() -> Any:
            return self.call("complete_multipart_upload", **names, MultipartUpload={"Parts": parts})

        repeated = upload.completion is not None
        if upload.completion is None:
            version = Version.of(b"".join(upload.parts), etag=multipart_etag(upload.parts))
            write = self.model.begin(upload.place, version, CREATED)
            upload.completion = write
            try:
                answer = self.mutate([write], request)
            except NotSent:
                upload.completion = None
                raise
            self.model.acknowledge(write)
        else:
            try:
                answer = request()
            except Refused as error:
                raise Mismatch(f"repeated completion of {upload.place}: {error}") from error
            self.model.confirm(upload.completion)
        self.uploads.remove(upload)
        self.finished_uploads.append(upload.place)
        assert upload.completion.version is not None
        correct = answer["ETag"].strip('"') == upload.completion.version.etag
        self.expect(correct, upload.place, f"ETag of an upload, {repeated=}")

    def _sure(self, method: str, **arguments: Any) -> Any:
        """A request that nothing but the end of the server can prevent."""
        try:
            return self.call(method, **arguments)
        except Refused as error:
            raise Mismatch(f"{method} {arguments.get('Key')}: {error}") from error

    # --- a bucket that comes and goes -----------------------------------------------------

    def use_own_bucket(self) -> None:
        """Create it, put something into it, empty it, delete it."""
        place = Place(bucket="", key=self.own_bucket)
        held = self.model.possible(place)
        objects = [Place(bucket=self.own_bucket, key=f"object-{n}") for n in range(2)]
        states = [self.model.possible(found) for found in objects]
        if None in held:
            self._change_bucket(place, BUCKET_IS_THERE, "create_bucket", "BucketAlreadyOwnedByYou")
        elif all(state == {None} for state in states):
            if self.chance.random() < 0.6:
                self.put(self.chance.choice(objects), self.unique(b"in a bucket of its own"))
            else:
                self._change_bucket(place, None, "delete_bucket", "NoSuchBucket")
        elif any(None not in state for state in states) and self.chance.random() < 0.3:
            try:
                self.call("delete_bucket", Bucket=self.own_bucket)
            except Refused as error:
                self.expect(error.code == "BucketNotEmpty", place, f"refusal, not {error}")
            else:
                raise Mismatch(f"the bucket {self.own_bucket} was deleted with what is in it")
        else:
            self._delete_many(objects)

    def _change_bucket(
        self, place: Place, version: Version | None, method: str, already: str
    ) -> None:
        """Create or delete; ``already`` is in order only if nobody knows what is there."""
        known = len(self.model.possible(place)) == 1
        write = self.model.begin(place, version, "")

        def request() -> Any:
            try:
                return self.call(method, Bucket=place.key)
            except Refused as error:
                if known or error.code != already:
                    raise
            return {}

        self.mutate([write], request)
        self.model.acknowledge(write)

    # --- reading --------------------------------------------------------------------------

    def read_own(self) -> None:
        kind = self.chance.choice(["small-{}", "app-{}.zip", "text-{}.txt", "copy-{}.zip"])
        place = self.place(kind.format(self.chance.randrange(KEYS)))
        held = self.model.possible(place)
        method = self.chance.choice(["GET", "HEAD"])
        try:
            answer = self.send(method, place)
        except Refused as error:
            self.expect(error.status == 404 and None in held, place, f"a value, not {error}")
            return
        facts = (int(answer.headers["content-length"]), answer.headers["etag"].strip('"'))
        known = {(version.size, version.etag) for version in held if version}
        self.expect(facts in known, place, f"{known}, not {facts}")
        if method == "GET":
            digest = hashlib.sha256(answer.body).hexdigest()
            digests = {version.digest for version in held if version}
            self.expect(digest in digests, place, "bytes as they were sent")

    def read_shared(self) -> None:
        number = self.chance.randrange(SHARED)
        name = f"shared/{number}.zip" if number % 2 else f"shared/{number}"
        place = Place(bucket=self.bucket, key=name, shared=True)
        try:
            answer = self.call("get_object", Bucket=place.bucket, Key=place.key)
            data = answer["Body"].read()
        except Refused as error:
            self.expect(error.status == 404, place, f"404, not {error}")
            return
        except (IncompleteReadError, BotoCoreError, OSError) as error:
            raise Unanswered from error
        digest = hashlib.sha256(data).hexdigest()
        self.expect(self.model.was_sent(place, digest), place, "one of the versions sent")

    def list_own(self) -> None:
        prefix = f"own/{self.number}/"
        listed: dict[str, tuple[int, str]] = {}
        token: dict[str, str] = {}
        while True:
            page = self._sure(
                "list_objects_v2", Bucket=self.bucket, Prefix=prefix, MaxKeys=9, **token
            )
            for entry in page.get("Contents", []):
                listed[entry["Key"]] = (entry["Size"], entry["ETag"].strip('"'))
            if not page["IsTruncated"]:
                break
            token = {"ContinuationToken": page["NextContinuationToken"]}
        for place in self.model.places(self.bucket):
            if place.key.startswith(prefix):
                found = listed.pop(place.key, None)
                held = {v and (v.size, v.etag) for v in self.model.possible(place)}
                self.expect(found in held, place, f"{held} in the listing, not {found}")
        self.expect(not listed, Place(bucket=self.bucket, key=prefix), f"nothing like {listed}")
