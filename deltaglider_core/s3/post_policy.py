"""The policy of a form upload: parsing, and whether a form keeps to it.

Source: AWS, "POST policy" (browser-based uploads, AWS Signature Version 4). Where that page is
silent, codes and texts are those that S3 is known to answer with.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NoReturn

from ..errors import AccessDenied, InvalidPolicyDocument

#: Fields that no condition has to name: the signature covers or binds them, or nobody reads them.
_EXEMPT = frozenset(
    {
        "policy",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-signature",
        "x-amz-security-token",
        "awsaccesskeyid",
        "signature",
        "file",
        "submit",
    }
)
_IGNORED_PREFIX = "x-ignore-"

_EXPIRATION = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)
_NUMBER = re.compile(r"-?[0-9]{1,18}")
# Two escapes that policies may have and JSON lacks.
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_MORE_ESCAPES = {"$": "$", "v": r"\u000b"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldCondition:
    """What the value of one field must be.

    Attributes:
        name: Of the field, as the policy spells it.
        written: With ``$`` in front of the name, as it must be; without, S3 lets it always fail.
    """

    operator: Literal["eq", "starts-with"]
    name: str
    value: str
    written: bool = True

    @property
    def field(self) -> str:
        """Name of the field in lower case."""
        return self.name.lower()

    def holds(self, fields: Mapping[str, str]) -> bool:
        """Whether a form has the field with such a value; names in lower case."""
        found = fields.get(self.field)
        if found is None or not self.written:
            return False
        if self.operator == "eq":
            return found == self.value
        if self.field == "content-type":
            # A list of types: each of them must begin so.
            return all(part.strip().startswith(self.value) for part in found.split(","))
        return found.startswith(self.value)

    def __str__(self) -> str:
        name = f"${self.name}" if self.written else self.name
        return json.dumps([self.operator, name, self.value], ensure_ascii=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeRange:
    """Bytes that the file may have, both ends included; no maximum is None."""

    minimum: int = 0
    maximum: int | None = None

    def within(self, other: SizeRange) -> SizeRange:
        """What both allow."""
        ends = [end for end in (self.maximum, other.maximum) if end is not None]
        return SizeRange(minimum=max(self.minimum, other.minimum), maximum=min(ends, default=None))


@dataclass(frozen=True, kw_only=True, slots=True)
class PostPolicy:
    """A parsed policy.

    Attributes:
        expiration: Aware; from then on the policy is worth nothing.
        conditions: In the order of the document.
        sizes: All ``content-length-range`` conditions together.
    """

    expiration: datetime
    conditions: Sequence[FieldCondition]
    sizes: SizeRange

    def check(self, fields: Mapping[str, str], *, bucket: str, now: datetime) -> None:
        """Hold a form against the policy.

        Args:
            fields: By lower-case name, ``${filename}`` replaced.
            bucket: That the form was sent to. A condition must name it, as if it were a field.

        Raises:
            AccessDenied: The policy has expired, a condition does not hold, or no condition
                names a field.
        """
        if now >= self.expiration:
            raise AccessDenied("Invalid according to Policy: Policy expired.")
        everything = {**fields, "bucket": bucket}
        for condition in self.conditions:
            if not condition.holds(everything):
                raise AccessDenied(
                    f"Invalid according to Policy: Policy Condition failed: {condition}"
                )
        covered = {condition.field for condition in self.conditions}
        extra = [
            name
            for name in everything
            if name not in covered | _EXEMPT and not name.startswith(_IGNORED_PREFIX)
        ]
        if extra:
            raise AccessDenied(
                f"Invalid according to Policy: Extra input fields: {', '.join(extra)}"
            )


def parse_policy(text: str) -> PostPolicy:
    """Read a policy as the form sends it: JSON in base64.

    Raises:
        InvalidPolicyDocument: It is not what AWS documents.
        AccessDenied: A range that is no range, which S3 takes for one that does not hold.
    """
    document = _decode(text)
    unexpected = [name for name in document if name not in ("expiration", "conditions")]
    if unexpected:
        _refuse(f"Unexpected: '{unexpected[0]}'")
    if "expiration" not in document:
        _refuse("Policy missing expiration.")
    if "conditions" not in document:
        _refuse("Policy missing conditions.")
    if not isinstance(document["conditions"], list):
        _refuse("Invalid 'conditions' value: must be a List.")
    conditions: list[FieldCondition] = []
    sizes = SizeRange()
    for item in document["conditions"]:
        parsed = _condition(item)
        if isinstance(parsed, SizeRange):
            sizes = sizes.within(parsed)
        else:
            conditions.append(parsed)
    return PostPolicy(
        expiration=_expiration(document["expiration"]), conditions=conditions, sizes=sizes
    )


def _decode(text: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
        plain = _ESCAPE.sub(lambda found: _MORE_ESCAPES.get(found[1], found[0]), raw.decode())
    except (UnicodeError, binascii.Error):
        _refuse("it is not UTF-8 in base64.")
    try:
        document = json.loads(
            plain,
            object_pairs_hook=_object,
            parse_float=_no_such_number,
            parse_constant=_no_such_number,
        )
    except (ValueError, RecursionError):
        _refuse("Invalid JSON.")
    if not isinstance(document, dict):
        _refuse("Invalid JSON.")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name comes twice")
    return members


def _no_such_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of a policy")


def _expiration(value: Any) -> datetime:
    if isinstance(value, str) and _EXPIRATION.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    _refuse(f"Invalid 'expiration' value: '{value}'")


def _condition(item: Any) -> FieldCondition | SizeRange:
    if isinstance(item, dict):
        if len(item) != 1:
            _refuse(
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property "
                "specified."
            )
        ((name, value),) = item.items()
        if not isinstance(value, str):
            _refuse("Invalid Simple-Condition: value must be a string.")
        return FieldCondition(operator="eq", name=name, value=value)
    if not isinstance(item, list):
        _refuse("Invalid condition: must be a List or Object.")
    if not item or not isinstance(item[0], str):
        _refuse("Invalid Condition: missing operation identifier.")
    operator = item[0].lower()
    if operator not in ("eq", "starts-with", "content-length-range"):
        _refuse(f"Invalid Condition: unknown operation '{item[0]}'.")
    if len(item) != 3:
        _refuse(f"Invalid {operator}: wrong number of arguments.")
    if operator == "content-length-range":
        return _size_range(item[1:])
    _, name, value = item
    if not isinstance(name, str) or not isinstance(value, str):
        _refuse(f"Invalid {operator}: a field and its value must be strings.")
    return FieldCondition(
        operator="eq" if operator == "eq" else "starts-with",
        name=name.removeprefix("$"),
        value=value,
        written=name.startswith("$"),
    )


def _size_range(written: list[Any]) -> SizeRange:
    ends = []
    for end in written:
        # Numbers in quotes count as well.
        if isinstance(end, bool) or not _NUMBER.fullmatch(str(end)):
            condition = json.dumps(["content-length-range", *written], ensure_ascii=False)
            raise AccessDenied(f"Invalid according to Policy: Policy Condition failed: {condition}")
        ends.append(int(end))
    if min(ends) < 0:
        _refuse("Invalid content-length-range: it must not be negative.")
    return SizeRange(minimum=ends[0], maximum=ends[1])


def _refuse(reason: str) -> NoReturn:
    raise InvalidPolicyDocument(f"Invalid Policy: {reason}")


__all__ = ["FieldCondition", "PostPolicy", "SizeRange", "parse_policy"]
