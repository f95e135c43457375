"""What becomes of each operation of S3 here, for ``docs/reference/s3-compatibility.md``.

The operations are those of botocore's model of S3. Each is resolved as a request of it would be,
so that the table says what the service does and not what somebody thinks.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from deltaglider_core.s3.handlers import HANDLERS
from deltaglider_core.s3.operations import find_operation

ROOT = Path(__file__).resolve().parent.parent
MODULES = 3

#: Handlers that serve several operations, and what they make of them.
SHARED: Mapping[str, str] = {
    "get_acl": "private, of the one owner",
    "put_acl": "only what is the case: private",
    "get_bucket_configuration": "as where it was never set",
    "put_bucket_configuration": "only what is the case",
    "delete_bucket_configuration": "nothing is there to delete",
}

#: Why AWS's operations are refused, by a part of their name; the first that fits. Whatever a
#: client stores it may rely on: what nobody applies is refused and never accepted in silence.
REASONS: Mapping[str, str] = {
    "directory_buckets": "no directory buckets",
    "create_session": "no directory buckets",
    "rename_object": "no directory buckets",
    "accelerate": "no transfer acceleration",
    "analytics": "no storage class analysis",
    "metadata": "no S3 Metadata tables",
    "annotation": "no annotations",
    "metrics": "metrics are those of `/_/metrics`",
    "inventory": "no inventories",
    "intelligent_tiering": "one storage class",
    "restore_object": "one storage class",
    "object_lock": "no object lock",
    "legal_hold": "no object lock",
    "retention": "no object lock",
    "versioning": "no versions",
    "abac": "access is configured in the service",
    "policy": "access is configured in the service",
    "public_access_block": "access is configured in the service",
    "ownership_controls": "access is configured in the service",
    "encryption": "encryption is not chosen by clients",
    "lifecycle": "no lifecycle rules",
    "replication": "no replication rules",
    "logging": "requests are logged by the service",
    "notification": "events go to the sinks of the service",
    "website": "no static web sites",
    "torrent": "no BitTorrent",
    "select_object_content": "no S3 Select",
    "write_get_object_response": "no Object Lambda",
}

#: Requests that look like others; AWS serves them at endpoints of their own.
ELSEWHERE = frozenset({"list_directory_buckets", "write_get_object_response"})

#: What is served and is no operation of the SDKs: names of handlers.
BESIDE: Mapping[str, str] = {
    "post_object": "uploads by forms of browsers",
    "cors_preflight": "`OPTIONS`, for pages of other origins",
    "head_service": "`HEAD /`, a probe of some clients",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: As in the API reference: ``PutObject``; of what is in ``BESIDE`` the handler's.
        method: The same in snake case, as boto3 has it.
        handler: Name of the function that serves it, None if it is refused.
        note: What is special, or why it is refused.
    """

    name: str
    method: str
    handler: str | None
    note: str

    @property
    def served(self) -> str:
        """Yes or no, and what there is to say about it."""
        if self.handler is not None:
            return f"yes: {self.note}" if self.note else "yes"
        return f"{'no' if self.method in ELSEWHERE else '501'}: {self.note}"


def operations() -> list[Operation]:
    """Every operation of the installed model, sorted, and then what is beside the model."""
    found = [_resolve(name) for name in _model().operation_names]
    found += [
        Operation(name=name, method=name, handler=name, note=note) for name, note in BESIDE.items()
    ]
    return found


def _resolve(name: str) -> Operation:
    from botocore import xform_name

    method = xform_name(name)
    handler = request_operation(name)
    if method in ELSEWHERE or handler not in HANDLERS or handler == "not_implemented":
        reason = next((text for part, text in REASONS.items() if part in method), "")
        return Operation(name=name, method=method, handler=None, note=reason)
    return Operation(name=name, method=method, handler=handler, note=SHARED.get(handler, ""))


def request_operation(name: str) -> str:
    """What ``find_operation`` says of the smallest request that is this operation."""
    operation = _model().operation_model(name)
    path, _, query = operation.http["requestUri"].partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    headers = {}
    required = operation.input_shape.required_members if operation.input_shape else ()
    for member in required:
        place = operation.input_shape.members[member].serialization
        if place.get("location") == "querystring":
            pairs.append((place["name"], "1"))
        elif place.get("location") == "header":
            headers[place["name"].lower()] = "value"
    bucket = "bucket" if "{Bucket}" in path else ""
    key = "key" if "{Key+}" in path else ""
    return find_operation(operation.http["method"], bucket, key, pairs, headers)


@cache
def _model() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("s3")


@cache
def _calls() -> Mapping[str, Counter[str]]:
    """Test modules and how often they call, or name in a string, a method."""
    found: dict[str, Counter[str]] = {}
    for path in sorted(ROOT.glob("tests/*/test_*.py")):
        if path.parent.name in {"functional", "clients"}:
            found[path.relative_to(ROOT / "tests").as_posix()] = Counter(_names(path))
    return found


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.func.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def tested_by(operation: Operation) -> list[str]:
    """Modules that test an operation: those that bear its name, then those that call it most."""
    names = {operation.method}
    if operation.handler is not None and operation.handler not in SHARED:
        names.add(operation.handler)
    ranked = sorted(
        (
            (not any(Path(module).stem == f"test_{name}" for name in names), -calls, module)
            for module, counter in _calls().items()
            if (calls := sum(counter[name] for name in names))
            or any(Path(module).stem == f"test_{name}" for name in names)
        ),
    )
    return [module for _, _, module in ranked[:MODULES]]


def render(used_by: Mapping[str, set[str]], clients: set[str]) -> str:
    """The table of operations.

    Args:
        used_by: Names of handlers, and the clients that needed them.
        clients: Names of all clients.
    """
    lines = ["| operation | served | tests | clients |", "|---|---|---|---|"]
    for operation in operations():
        users = used_by.get(operation.handler or "", set())
        if operation.handler in SHARED:
            users = set()  # which of its operations it was, the log does not say
        shown = "all" if users >= clients else ", ".join(sorted(users, key=str.lower))
        tests = ", ".join(f"`{module}`" for module in tested_by(operation))
        lines.append(f"| {operation.name} | {operation.served} | {tests} | {shown} |")
    return "\n".join(lines)
