"""Kinds of intents that exclude each other: changes of tags, and copies of objects onto themselves.

A change of tags leaves the version in place, and a copy of an object onto itself takes the tags
over that it finds: no condition on the object would notice the one during the other. Two such
copies at once would overtake each other without end, as each must have been made from what is
there. The later one waits before it has an intent, so neither can wait for one that waits for it.
All other mutations go on beside them.
"""

from __future__ import annotations

#: A change of tags, and a copy of an object onto itself.
TAGS, RESTATE = "tags", "restate"

_APART = {TAGS: frozenset({RESTATE}), RESTATE: frozenset({TAGS, RESTATE})}


def keeps_off(kind: str, state: str, exclusive: bool, newcomer: str) -> bool:
    """Whether an intent keeps one of the kind ``newcomer`` from beginning on its key.

    One whose outcome is known (``recheck``) changes nothing any more; one in doubt still may.
    """
    return exclusive or (newcomer in _APART.get(kind, ()) and state != "recheck")


__all__ = ["RESTATE", "TAGS", "keeps_off"]
