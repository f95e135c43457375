"""The Signature Version 4 of a browser form: it signs the policy, and nothing else.

Source: AWS, "Browser-based uploads using POST (AWS Signature Version 4)", "Calculating a
signature".
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from ..context import S3Request
from ..errors import InvalidArgument, InvalidRequest, NotImplementedS3, SignatureDoesNotMatch
from ..interfaces.auth import PayloadSignature
from .sigv4 import signing_key
from .sigv4_evidence import (
    ALGORITHM,
    MAX_EXPIRES_SECONDS,
    Evidence,
    find_evidence,
    new_evidence,
)

#: Fields that a signed form must have, as AWS names them, in the order in which it misses them.
SIGNING_FIELDS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Signature",
    "Policy",
)
#: Fields of Signature Version 2.
_LEGACY_FIELDS = frozenset({"awsaccesskeyid", "signature"})
_SIGNATURE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FormEvidence:
    """The signature of a form as the form presents it; nothing in it has been verified.

    Attributes:
        evidence: Without signed headers. It expires after a week, as its signing key does.
        policy: Base64 as sent, which is the string to sign.
    """

    evidence: Evidence
    policy: str


def find_form_evidence(request: S3Request) -> FormEvidence | None:
    """Read the SigV4 evidence of a form upload; None if it brings none of this kind.

    Raises:
        InvalidArgument: A field is absent or malformed, or credentials come outside of the form.
        InvalidRequest: Signature Version 2, or a session token.
        NotImplementedS3: SigV4A.
        SignatureDoesNotMatch: The signature cannot be one.
    """
    form = request.form or {}
    if not form.keys().isdisjoint(_LEGACY_FIELDS):
        raise InvalidRequest(
            "This form is signed with Signature Version 2, which is not supported. Sign with "
            "AWS4-HMAC-SHA256; in boto3: Config(signature_version='s3v4')."
        )
    if form.keys().isdisjoint(name.lower() for name in SIGNING_FIELDS if name != "Policy"):
        if find_evidence(request) is not None:
            raise InvalidArgument(
                "A form upload is signed by its fields policy, x-amz-credential and so on, not "
                "by the Authorization header or the query.",
                fields={"ArgumentName": "Authorization"},
            )
        return None
    if "authorization" in request.headers or request.param("X-Amz-Signature") is not None:
        raise InvalidArgument(
            "Only one auth mechanism allowed; the form is signed, so there must be no "
            "Authorization header and no signature in the query.",
            fields={"ArgumentName": "Authorization"},
        )
    for name in SIGNING_FIELDS:
        if not form.get(name.lower()):
            raise missing_field(name)
    _check_algorithm(form["x-amz-algorithm"])
    if "x-amz-security-token" in form:
        raise InvalidRequest(
            "Session tokens (x-amz-security-token) are not supported. Use a permanent access key."
        )
    if not _SIGNATURE.fullmatch(form["x-amz-signature"]):
        raise SignatureDoesNotMatch(fields={"SignatureProvided": form["x-amz-signature"]})
    evidence = new_evidence(
        InvalidArgument,
        credential=form["x-amz-credential"],
        signed_headers=None,
        signature=form["x-amz-signature"],
        timestamp=form["x-amz-date"],
        payload_hash="",
        expires=MAX_EXPIRES_SECONDS,
    )
    return FormEvidence(evidence=evidence, policy=form["policy"])


def verify_form(form: FormEvidence, secret_access_key: str) -> PayloadSignature:
    """Verify the signature of the policy, in constant time.

    Raises:
        SignatureDoesNotMatch: With the string that was signed here, as AWS reports it.
    """
    evidence = form.evidence
    key = signing_key(secret_access_key, evidence.date, evidence.region)
    expected = hmac.digest(key, form.policy.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, evidence.signature):
        raise SignatureDoesNotMatch(
            fields={
                "AWSAccessKeyId": evidence.access_key_id,
                "StringToSign": form.policy,
                "SignatureProvided": evidence.signature,
                "StringToSignBytes": form.policy.encode().hex(" "),
            }
        )
    return PayloadSignature(
        signing_key=key,
        seed=evidence.signature,
        timestamp=evidence.timestamp,
        scope=evidence.scope,
    )


def missing_field(name: str) -> InvalidArgument:
    """The error for a form without a field that it must have, in the words of AWS."""
    return InvalidArgument(
        f"Bucket POST must contain a field named '{name}'.  If it is specified, please check the "
        "order of the fields.",
        fields={"ArgumentName": name, "ArgumentValue": ""},
    )


def _check_algorithm(algorithm: str) -> None:
    if algorithm.startswith("AWS4-ECDSA-P256-SHA256"):
        raise NotImplementedS3("SigV4A is not supported. Please use AWS4-HMAC-SHA256.")
    if algorithm != ALGORITHM:
        raise InvalidArgument(
            f'X-Amz-Algorithm only supports "{ALGORITHM}"',
            fields={"ArgumentName": "X-Amz-Algorithm", "ArgumentValue": algorithm},
        )


__all__ = ["SIGNING_FIELDS", "FormEvidence", "find_form_evidence", "missing_field", "verify_form"]
