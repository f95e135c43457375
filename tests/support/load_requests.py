"""Requests whose outcome is noted in the model: done, refused, or nobody knows."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    ReadTimeoutError,
)
from support.clients import boto3_client
from support.model import Mismatch, Model, Place, Write
from support.raw import Answer, RawClient
from support.server import ServerProcess

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from mypy_boto3_s3 import S3Client

#: Nothing that the clients do takes a second; whoever is not answered for so long is hanging.
PATIENCE = 60


class Unanswered(Exception):
    """The server, or a process of it, went away under a request, or could not say how it ended."""


class NotSent(Exception):
    """Nobody listens."""


class Refused(Exception):
    """An S3 error with a 4xx status."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


def sign_apart(s3: S3Client) -> None:
    """Give each request of a client a signature of its own, however alike they are.

    A signature names a second; two requests that are alike in everything else have the same one,
    and the second of them is refused as a replay if it changes something.
    """

    def add_number(request: AWSRequest, **_: Any) -> None:
        request.headers["x-test-call"] = str(uuid.uuid4())

    s3.meta.events.register("before-sign.s3", add_number)


class Sender:
    """Sends requests of one client, through boto3 and on connections of their own."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.chance = random.Random()

    def connect(self, server: ServerProcess) -> None:
        """Open what the requests need."""
        self.raw = RawClient(server)
        self.s3 = boto3_client(server, read_timeout=PATIENCE, connect_timeout=PATIENCE)
        sign_apart(self.s3)

    def call(self, method: str, **arguments: Any) -> Any:
        """A request through boto3.

        Raises:
            Refused, Unanswered, NotSent
            Mismatch: An answer that is never in order, or none in time.
        """
        try:
            return getattr(self.s3, method)(**arguments)
        except ClientError as error:
            facts: Any = error.response
            status = facts["ResponseMetadata"]["HTTPStatusCode"]
            self._sort_out(f"{method} {arguments.get('Key')}", status, facts["Error"]["Code"])
        except EndpointConnectionError as error:
            raise NotSent from error
        except ReadTimeoutError as error:
            raise Mismatch(f"{method} was not answered within {PATIENCE} s") from error
        except BotoCoreError as error:
            raise Unanswered from error

    def send(self, method: str, place: Place, body: bytes = b"", **headers: str) -> Answer:
        """A request on a connection of its own, so that any worker may take it; see ``call``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["x-test-call"] = str(uuid.uuid4())
        try:
            answer = self.raw.request(
                method, f"/{place.bucket}/{place.key}", body=body, headers=named
            )
        except ConnectionRefusedError as error:
            raise NotSent from error
        except TimeoutError as error:
            raise Mismatch(f"{method} {place.key} was not answered") from error
        except OSError as error:
            raise Unanswered from error
        if not answer.complete:
            raise Unanswered
        if answer.status >= 400:
            code = answer.code if method != "HEAD" else ""
            self._sort_out(f"{method} {place.key}", answer.status, code)
        return answer

    def _sort_out(self, what: str, status: int, code: str) -> NoReturn:
        if status == 503:
            raise Unanswered(f"{what}: {code}")
        if status >= 500:
            raise Mismatch(f"{what}: {status} {code}")
        raise Refused(status, code)

    def mutate(
        self,
        writes: Sequence[Write],
        request: Callable[[], Any],
        allowed: Sequence[str] = (),
    ) -> Any:
        """Send a request that carries out writes, and note how it ended.

        Args:
            allowed: Codes of refusals that are in order; None is returned then.
        """
        try:
            answer = request()
        except (Refused, NotSent) as error:
            for write in writes:
                self.model.refuse(write)
            if isinstance(error, NotSent) or error.code in allowed:
                if isinstance(error, NotSent):
                    raise
                return None
            raise Mismatch(f"{[write.place for write in writes]}: {error}") from error
        except (Unanswered, Mismatch):
            for write in writes:
                self.model.lose(write)
            raise
        return answer

    def expect(self, holds: bool, place: Place, what: str) -> None:
        """Raise ``Mismatch`` unless something holds."""
        if not holds:
            raise Mismatch(f"{place.bucket}/{place.key}: expected {what}")
