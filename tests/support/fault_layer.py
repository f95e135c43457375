"""A plugin for tests: the storage layer next to the backend, which fails on demand.

``support.faults`` installs this text as a distribution of its own and writes the control file
that ``DELTAGLIDER_TEST_FAULTS`` names; every process of a server reads it again when it changes,
and all of them count the calls together.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import fcntl
import json
import os
import signal
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from deltaglider_core import errors
from deltaglider_core.hookspecs import hookimpl
from deltaglider_core.interfaces.contribution import Order
from deltaglider_core.interfaces.storage import (
    Capabilities,
    ObjectReader,
    StorageLayer,
    StorageLayerType,
)

CONTROL_VARIABLE = "DELTAGLIDER_TEST_FAULTS"
REMOTE_VARIABLE = "DELTAGLIDER_TEST_REMOTE"
POLL_SECONDS = 0.02
REMEMBERED = 1000

#: Where bucket and key stand among the positional arguments; of a copy, those of the target.
PLACES: dict[str, tuple[int | None, int | None]] = {
    "list_buckets": (None, None),
    "probe": (None, None),
    "create_bucket": (0, None),
    "head_bucket": (0, None),
    "delete_bucket": (0, None),
    "list_objects": (0, None),
    "list_multipart_uploads": (0, None),
    "copy_object": (2, 3),
}
KEYED = (
    "put_object",
    "get_object",
    "head_object",
    "delete_object",
    "get_object_tags",
    "set_object_tags",
    "create_multipart_upload",
    "upload_part",
    "list_parts",
    "complete_multipart_upload",
    "abort_multipart_upload",
)
METHODS = (*PLACES, *KEYED)
BODIES = {"put_object": 2, "upload_part": 4}

Fault = dict[str, Any]


class Control:
    """The faults in force, and the count of the calls that each of them has met."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._faults: list[Fault] = []

    def faults(self) -> list[Fault]:
        """Read again if the file is another one."""
        try:
            facts = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._faults = None, []
            return []
        stamp = (facts.st_ino, facts.st_mtime_ns)
        if stamp != self._stamp:
            self._faults = json.loads(self._path.read_bytes())
            self._stamp = stamp
        return self._faults

    def hit(self, method: str, bucket: str, key: str) -> Fault | None:
        """The first fault that this call is subject to."""
        for fault in self.faults():
            if (
                fnmatchcase(method, fault["method"])
                and fnmatchcase(bucket, fault["bucket"])
                and fnmatchcase(key, fault["key"])
            ):
                number = self._count(fault["name"], f"{method} {bucket}/{key}")
                if number >= fault["nth"] and number < fault["nth"] + fault["times"]:
                    return fault
        return None

    def _count(self, name: str, call: str) -> int:
        with self._path.with_name(f"{name}.calls").open("a+", encoding="utf-8") as calls:
            fcntl.flock(calls, fcntl.LOCK_EX)
            calls.seek(0)
            number = len(calls.readlines()) + 1
            calls.write(f"{call}\n")
        return number


def error_of(fault: Fault) -> Exception:
    """What a fault raises: an error of the core, a failing disk, or a call without an answer."""
    name = fault["error"]
    if name == "OSError":
        return OSError(errno.EIO, "injected")
    if name == "TimeoutError":
        return TimeoutError("injected")
    found: Exception = getattr(errors, name)("injected")
    return found


async def shortened(body: AsyncIterator[bytes], fault: Fault) -> AsyncIterator[bytes]:
    """The first bytes of a body; then its error, or its end if the fault has none."""
    left = fault["bytes"]
    async for chunk in body:
        if len(chunk) > left:
            if left:
                yield chunk[:left]
            if fault["error"]:
                raise error_of(fault)
            return
        left -= len(chunk)
        yield chunk


class FaultLayer(StorageLayer):
    """Every method asks first whether this call shall fail."""

    control: Control
    remote = False

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._answers: OrderedDict[str, tuple[bool, Any]] = OrderedDict()

    @property
    def capabilities(self) -> Capabilities:
        """Those of the backend; if it shall pass for remote, requests may arrive late."""
        inner = self.inner.capabilities
        return dataclasses.replace(inner, late_commits=True) if self.remote else inner

    async def subject(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry out a call, or what the fault makes of it."""
        at_bucket, at_key = PLACES.get(method, (0, 1))
        bucket = "" if at_bucket is None else args[at_bucket]
        key = kwargs.get("prefix", "") if at_key is None else args[at_key]
        fault = self.control.hit(method, bucket, key)
        action = fault["action"] if fault else ""
        if fault is not None:
            args = await self._before(fault, method, args)
        stale = action == "stale"
        answer = await self._answer(method, args, kwargs, stale=stale)
        if fault is None:
            return answer
        if action == "ambiguous":
            raise error_of(fault)
        if action == "die-after":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "cut" and method == "get_object":
            return ObjectReader(
                answer.info,
                shortened(aiter(answer), fault),
                start=answer.start,
                stop=answer.stop,
                close=answer.aclose,
            )
        return answer

    async def _before(self, fault: Fault, method: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        action = fault["action"]
        if action == "error":
            raise error_of(fault)
        if action == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "delay":
            await asyncio.sleep(fault["seconds"])
        if action == "hang":
            # Another process says when it is over, through the file.
            while fault in self.control.faults():  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
        if action == "cut" and method in BODIES:
            at = BODIES[method]
            return (*args[:at], shortened(args[at], fault), *args[at + 1 :])
        return args

    async def _answer(
        self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, stale: bool
    ) -> Any:
        """Do it, and remember what a look-up said; or say that again."""
        call = getattr(self.inner, method)
        if not method.startswith(("head_", "list_")):
            return await call(*args, **kwargs)
        question = repr((method, args, sorted(kwargs.items())))
        if stale and question in self._answers:
            good, answer = self._answers[question]
        else:
            try:
                good, answer = True, await call(*args, **kwargs)
            except errors.ClientError as error:
                good, answer = False, error
            self._answers[question] = (good, answer)
            if len(self._answers) > REMEMBERED:
                self._answers.popitem(last=False)
        if not good:
            raise answer
        return answer


def _subjected(method: str) -> Any:
    async def call(self: FaultLayer, *args: Any, **kwargs: Any) -> Any:
        return await self.subject(method, args, kwargs)

    return call


for _method in METHODS:
    setattr(FaultLayer, _method, _subjected(_method))


@asynccontextmanager
async def open_layer(_: Any, __: Any) -> AsyncIterator[type[FaultLayer]]:
    """The layer, controlled by the file that the environment names."""
    FaultLayer.control = Control(Path(os.environ[CONTROL_VARIABLE]))
    FaultLayer.remote = REMOTE_VARIABLE in os.environ
    yield FaultLayer


@hookimpl
def dg_storage_layers() -> Iterator[StorageLayerType]:
    """Innermost: nothing but the backend is behind it."""
    yield StorageLayerType(
        name="faults",
        summary="Fails on demand; for tests.",
        open=open_layer,
        order=Order(phase="last", after=("intents", "delta", "encryption")),
    )
