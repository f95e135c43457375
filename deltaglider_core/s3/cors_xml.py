"""The rules of a bucket for requests of web pages from other sites: their XML, their matching.

Source: AWS, "PutBucketCors", "Elements of a CORS configuration".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from ..errors import InvalidRequest, MalformedXML
from .xml_output import XmlWriter
from .xml_tree import name_of, read_document

#: AWS: the document is limited to 64 KB.
MAX_CORS_BODY = 64 * 1024
MAX_RULES = 100
MAX_ID_LENGTH = 255

METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")

#: Elements of a rule, in the order in which GET shows them, and how often each may occur.
_ELEMENTS = {
    "ID": 1,
    "AllowedMethod": None,
    "AllowedOrigin": None,
    "AllowedHeader": None,
    "ExposeHeader": None,
    "MaxAgeSeconds": 1,
}
#: Name of a header (RFC 9110 section 5.1); ``*`` is one of its characters.
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Patterns:
    """Patterns for names of headers, prepared for being asked often.

    Attributes:
        names: Those without ``*``, in lower case.
        wildcards: By the lengths of what stands before and behind the ``*``, those two texts.
    """

    names: Collection[str]
    wildcards: Mapping[tuple[int, int], Collection[tuple[str, str]]]

    @classmethod
    def read(cls, patterns: Iterable[str]) -> _Patterns:
        names: set[str] = set()
        wildcards: dict[tuple[int, int], set[tuple[str, str]]] = {}
        for pattern in patterns:
            start, wildcard, end = pattern.lower().partition("*")
            if wildcard:
                wildcards.setdefault((len(start), len(end)), set()).add((start, end))
            else:
                names.add(start)
        return cls(names=names, wildcards=wildcards)

    def match(self, name: str) -> bool:
        """Whether one of them fits a name in lower case."""
        return name in self.names or any(
            start + end <= len(name) and (name[:start], name[len(name) - end :]) in texts
            for (start, end), texts in self.wildcards.items()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CorsRule:
    """One rule. Origins and headers may hold one ``*``, which stands for any characters."""

    rule_id: str | None = None
    methods: Sequence[str]
    origins: Sequence[str]
    headers: Sequence[str] = ()
    exposed: Sequence[str] = ()
    max_age_seconds: int | None = None
    _admitted: _Patterns = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Read here, once, since anybody may ask for any names as often as they like.
        object.__setattr__(self, "_admitted", _Patterns.read(self.headers))

    def admits(self, origin: str, method: str, headers: Sequence[str]) -> bool:
        """Whether pages of ``origin`` may send a request with this method and these headers."""
        return (
            method in self.methods
            and any(_matches(pattern, origin) for pattern in self.origins)
            and all(self._admitted.match(name.lower()) for name in headers)
        )


def _matches(pattern: str, text: str) -> bool:
    start, wildcard, end = pattern.partition("*")
    if not wildcard:
        return pattern == text
    return len(text) >= len(start) + len(end) and text.startswith(start) and text.endswith(end)


@functools.lru_cache(maxsize=256)
def parse_cors(document: bytes) -> Sequence[CorsRule]:
    """Read a ``CORSConfiguration``; remembered, since every request of a browser needs it.

    Raises:
        MalformedXML: Also for no rule, more than 100, or one without method or origin.
        InvalidRequest: A method, origin or header that a rule cannot have.
    """
    root = read_document(document, "CORSConfiguration")
    if not 1 <= len(root) <= MAX_RULES:
        raise MalformedXML
    return tuple(_rule(element) for element in root)


def _rule(element: Element) -> CorsRule:
    if name_of(element) != "CORSRule":
        raise MalformedXML
    found: dict[str, list[str]] = {name: [] for name in _ELEMENTS}
    for child in element:
        name = name_of(child)
        if name not in found or len(child):
            raise MalformedXML
        found[name].append(child.text or "")
    if any(most is not None and len(found[name]) > most for name, most in _ELEMENTS.items()):
        raise MalformedXML
    if not found["AllowedMethod"] or not found["AllowedOrigin"] or "" in found["AllowedOrigin"]:
        raise MalformedXML
    rule_id = found["ID"][0] if found["ID"] else None
    if rule_id is not None and len(rule_id) > MAX_ID_LENGTH:
        raise MalformedXML
    _check_values(found)
    return CorsRule(
        rule_id=rule_id,
        methods=tuple(found["AllowedMethod"]),
        origins=tuple(found["AllowedOrigin"]),
        headers=tuple(found["AllowedHeader"]),
        exposed=tuple(found["ExposeHeader"]),
        max_age_seconds=_seconds(found["MaxAgeSeconds"]),
    )


def _check_values(found: dict[str, list[str]]) -> None:
    for method in found["AllowedMethod"]:
        if method not in METHODS:
            raise InvalidRequest(
                "Found unsupported HTTP method in CORS config. Unsupported method is " + method
            )
    for name in ("AllowedOrigin", "AllowedHeader"):
        for value in found[name]:
            if value.count("*") > 1:
                raise InvalidRequest(f'{name} "{value}" can not have more than one wildcard.')
    for value in found["ExposeHeader"]:
        if "*" in value:
            raise InvalidRequest(
                f'ExposeHeader "{value}" contains wildcard. We currently do not support wildcard '
                "for ExposeHeader."
            )
    for name in ("AllowedHeader", "ExposeHeader"):
        for value in found[name]:
            if not _HEADER.fullmatch(value):
                raise InvalidRequest(f'{name} "{value}" contains invalid character.')


def _seconds(values: Sequence[str]) -> int | None:
    if not values:
        return None
    text = values[0].strip()
    if not _SECONDS.fullmatch(text):
        raise MalformedXML
    return int(text)


def render_cors(rules: Sequence[CorsRule]) -> bytes:
    """``CORSConfiguration``, as it is stored and as GET answers it."""
    xml = XmlWriter("CORSConfiguration")
    for rule in rules:
        with xml.element("CORSRule"):
            xml.leaf("ID", rule.rule_id)
            for name, values in (
                ("AllowedMethod", rule.methods),
                ("AllowedOrigin", rule.origins),
                ("AllowedHeader", rule.headers),
                ("ExposeHeader", rule.exposed),
            ):
                for value in values:
                    xml.leaf(name, value)
            xml.leaf("MaxAgeSeconds", rule.max_age_seconds)
    return xml.finish()


__all__ = ["MAX_CORS_BODY", "METHODS", "CorsRule", "parse_cors", "render_cors"]
