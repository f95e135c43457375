"""What pydantic finds, as sentences that name the path in the file or the variable."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .environment import ANY_NAME, Override, Path, walk
from .errors import ConfigurationError
from .plugins import KNOWN_PROVIDERS

#: Clearer than what pydantic says.
_SENTENCES: Mapping[str, str] = {
    "finite_number": "must be a number",
    "missing": "is missing",
    "model_type": "must be a section, with keys below it",
    "mapping_type": "must be a section, with keys below it",
    "dict_type": "must be a section, with keys below it",
    "string_type": "must be a text; put numbers and words such as yes into quotes",
    "union_tag_not_found": "needs a key `type`",
    "model_attributes_type": "must be a section, with keys below it",
}


def describe(
    error: ValidationError,
    document: Any,
    model: type[BaseModel],
    overrides: Sequence[Override],
    *,
    prefix: Path = (),
) -> ConfigurationError:
    """All findings, one line each. Values are never shown: they can be secrets.

    Args:
        error: What pydantic raised.
        document: What was validated.
        model: Against which model.
        overrides: What came from outside of the file, to name the right origin.
        prefix: Where ``document`` lies in the file.
    """
    lines: list[str] = []
    exit_code = 4
    # input and url are left out: the one may be a secret, the other helps nobody.
    for details in error.errors(include_url=False, include_input=False):
        path = (*prefix, *_yaml_path(details["loc"], document))
        line = f"{_origin(path, overrides)}: {_sentence(details, path, model, prefix)}"
        if line not in lines:
            lines.append(line)
        cause = details.get("ctx", {}).get("error")
        exit_code = getattr(cause, "exit_code", exit_code)
    return ConfigurationError("\n".join(lines), exit_code=exit_code)


def _yaml_path(location: tuple[int | str, ...], document: Any) -> Path:
    """The location without the tags of unions, which are no keys of the file."""
    path: list[str] = []
    node = document
    for part in location:
        if isinstance(node, Mapping) and part not in node and node.get("type") == part:
            continue
        path.append(str(part))
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, list | tuple) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            node = None
    return tuple(path)


def _origin(path: Path, overrides: Sequence[Override]) -> str:
    """The dotted path, or the variable or flag that set it."""
    for override in reversed(overrides):
        if path[: len(override.path)] == override.path:
            return override.origin
    return ".".join(path)


def _sentence(details: ErrorDetails, path: Path, model: type[BaseModel], prefix: Path) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_key(path, model, prefix)
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    if kind == "value_error":
        return str(details["ctx"]["error"])
    if kind == "string_pattern_mismatch" and path[-1] == "access_key_id":
        return "must not contain spaces, commas or slashes"
    text = details["msg"]
    for start in ("Input should be ", "Value should be "):
        if text.startswith(start):
            return "must be " + text.removeprefix(start)
    return text.replace("String should have", "must have")


def _unknown_key(path: Path, model: type[BaseModel], prefix: Path) -> str:
    """Says so, and names who brings it, or the nearest known path."""
    known = [(*prefix, *there) for there, _ in walk(model)] + [
        ("storage", name) for name in ("filesystem", "s3")
    ]
    neighbours = {there[-1] for there in known if _is_parent(path[:-1], there)}
    elsewhere = {there[-1]: there for there in reversed(known) if ANY_NAME not in there}
    if path[:-1] == ("advanced",) and path[-1] in KNOWN_PROVIDERS:
        return f"unknown key; it comes with the package {KNOWN_PROVIDERS[path[-1]]}"
    if path[-1] in elsewhere:
        return f"unknown key; did you mean {'.'.join(elsewhere[path[-1]])}?"
    if close := difflib.get_close_matches(path[-1], neighbours, n=1):
        return f"unknown key; did you mean {'.'.join((*path[:-1], close[0]))}?"
    if close := difflib.get_close_matches(path[-1], elsewhere, n=1, cutoff=0.8):
        return f"unknown key; did you mean {'.'.join(elsewhere[close[0]])}?"
    if neighbours:
        return f"unknown key; known here: {', '.join(sorted(neighbours))}"
    return "unknown key"


def _is_parent(parent: Path, child: Path) -> bool:
    return len(parent) == len(child) - 1 and all(
        there in (here, ANY_NAME) for here, there in zip(parent, child, strict=False)
    )


__all__ = ["describe"]
