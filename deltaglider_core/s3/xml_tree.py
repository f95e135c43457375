"""Reading an XML document of a client into a small tree, whatever it is made of.

Any namespace is as good as none; DTDs, entities and deep nesting are refused. Everything that a
document may not be is ``MalformedXML``. The caller limits the size.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml.ElementTree import XMLParser

from ..errors import MalformedXML

#: The deepest document that S3 defines has five levels.
MAX_DEPTH = 16
#: 10,000 parts with their number, ETag and five checksums, and what surrounds them.
MAX_ELEMENTS = 10_000 * 8 + 100


class _Builder(TreeBuilder):
    """Builds a tree, but no deep one: freeing and walking it would recurse.

    Nor one of very many elements: each takes some 40 times the four bytes of ``<a/>``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise MalformedXML
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def read_document(data: bytes, root: str) -> Element:
    """Read a document whose root element is called ``root``. Raises ``MalformedXML``."""
    parser = XMLParser(
        target=_Builder(), forbid_dtd=True, forbid_entities=True, forbid_external=True
    )
    try:
        parser.feed(data)
        tree: Element = parser.close()
    except (ParseError, ValueError, LookupError):
        # ValueError: what defusedxml forbids; it and LookupError: encodings expat lacks.
        raise MalformedXML from None
    if name_of(tree) != root:
        raise MalformedXML
    return tree


def name_of(element: Element) -> str:
    """Name of an element, without its namespace."""
    return element.tag.rpartition("}")[2]


def children_of(element: Element) -> dict[str, Element]:
    """Child elements by name. Raises ``MalformedXML`` if two have the same one."""
    children = {name_of(child): child for child in element}
    if len(children) != len(element):
        raise MalformedXML
    return children


def text_of(children: Mapping[str, Element], name: str) -> str | None:
    """Text of one of these elements, None if there is none of that name.

    Raises:
        MalformedXML: It has elements inside.
    """
    element = children.get(name)
    if element is None:
        return None
    if len(element):
        raise MalformedXML
    return element.text or ""


def boolean_of(element: Element) -> bool:
    """``true`` or ``false``, in any case. Raises ``MalformedXML`` for anything else."""
    text = (element.text or "").strip().lower()
    if text not in ("true", "false") or len(element):
        raise MalformedXML
    return text == "true"
