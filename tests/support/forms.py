"""Browser forms: the bytes of one, and policies that are signed by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from support.raw import Answer, Connection, RawClient
from support.signing import ALGORITHM

BOUNDARY = "----form-boundary-of-the-tests"
Fields = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A ``multipart/form-data`` body, as a browser would write it.

    Attributes:
        fields: Before the file.
        file: None leaves the part out.
        filename: None leaves the parameter out.
        after: Fields behind the file.
    """

    fields: Fields
    file: bytes | None = b"file"
    filename: str | None = "file.txt"
    after: Fields = ()

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={BOUNDARY}"

    def encode(self) -> bytes:
        parts = [_part(name, value.encode()) for name, value in _pairs(self.fields)]
        if self.file is not None:
            parts.append(_part("file", self.file, self.filename))
        parts.extend(_part(name, value.encode()) for name, value in _pairs(self.after))
        return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def _pairs(fields: Fields) -> Sequence[tuple[str, str]]:
    return list(fields.items()) if isinstance(fields, Mapping) else list(fields)


def _part(name: str, data: bytes, filename: str | None = None) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"\r\nContent-Type: text/plain'
    return head.encode() + b"\r\n\r\n" + data + b"\r\n"


def signed_fields(
    raw: RawClient,
    bucket: str,
    fields: Mapping[str, str],
    conditions: Sequence[Any] | None = None,
    *,
    expires: timedelta = timedelta(minutes=5),
    at: datetime | None = None,
    document: str | None = None,
) -> dict[str, str]:
    """Fields with a policy and its signature.

    Args:
        conditions: Beside that for the bucket; one for each of the fields unless given.
        at: Time of the signature; now unless given.
        document: Replaces the policy.
    """
    at = at or datetime.now(UTC)
    if conditions is None:
        conditions = [{name: value} for name, value in fields.items()]
    if document is None:
        expiration = (datetime.now(UTC) + expires).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = json.dumps(
            {"expiration": expiration, "conditions": [{"bucket": bucket}, *conditions]}
        )
    return {**fields, **sign_policy(raw, base64.b64encode(document.encode()).decode(), at)}


def sign_policy(raw: RawClient, policy: str, at: datetime) -> dict[str, str]:
    """The fields that sign a policy."""
    timestamp = at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{timestamp[:8]}/us-east-1/s3/aws4_request"
    key = b"AWS4" + raw.signer.secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return {
        "x-amz-algorithm": ALGORITHM,
        "x-amz-credential": f"{raw.signer.access_key}/{scope}",
        "x-amz-date": timestamp,
        "policy": policy,
        "x-amz-signature": hmac.digest(key, policy.encode(), hashlib.sha256).hex(),
    }


def post(
    raw: RawClient, target: str, form: Form, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send a form and return the answer."""
    body = form.encode()
    everything = {
        "host": f"127.0.0.1:{raw.server.port}",
        "content-type": form.content_type,
        "content-length": str(len(body)),
        **(headers or {}),
    }
    return raw.send_unsigned("POST", target, everything, body)


def begin(raw: RawClient, target: str, content_type: str, **headers: str) -> Connection:
    """A connection on which the head of a form upload has been sent."""
    connection = raw.connect()
    everything = {"host": f"127.0.0.1:{raw.server.port}", "content-type": content_type}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.send_head("POST", target, {**everything, **named})
    return connection
