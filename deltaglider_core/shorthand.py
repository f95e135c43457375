"""Short spellings in the section ``storage``, written out before anything is validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import ConfigurationError

#: Keys that belong to ``storage.s3``.
S3_COMPANIONS = ("region", "access_key_id", "secret_access_key", "force_path_style")


def write_out(document: Mapping[str, Any]) -> dict[str, Any]:
    """``storage.filesystem: PATH`` and ``storage.s3: URL`` as ``storage.backend``.

    Args:
        document: The parsed file; not changed.

    Raises:
        ConfigurationError: Two spellings at once, or a companion of ``s3`` without it.
    """
    storage = document.get("storage")
    if not isinstance(storage, Mapping):
        return dict(document)
    rest = dict(storage)
    used = [name for name in ("backend", "filesystem", "s3") if name in rest]
    if len(used) > 1:
        raise _error(f"storage.{used[0]} and storage.{used[1]} exclude each other; keep one")
    if "filesystem" in rest:
        path = rest.pop("filesystem")
        if not isinstance(path, str) or not path.strip():
            raise _error("storage.filesystem must be the path of a directory")
        rest["backend"] = {"type": "filesystem", "path": path}
    elif "s3" in rest:
        url = rest.pop("s3")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise _error("storage.s3 must be a URL that begins with https:// or http://")
        companions = {name: rest.pop(name) for name in S3_COMPANIONS if name in rest}
        rest["backend"] = {"type": "s3", "endpoint": url, **companions}
    else:
        for name in S3_COMPANIONS:
            if name in rest:
                own = name in ("access_key_id", "secret_access_key")
                hint = f"; did you mean access.{name}?" if own else ""
                raise _error(f"storage.{name} belongs to storage.s3, which is missing{hint}")
    return {**document, "storage": rest}


def _error(text: str) -> ConfigurationError:
    return ConfigurationError(text, exit_code=4)


__all__ = ["S3_COMPANIONS", "write_out"]
