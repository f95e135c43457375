"""One process of the tests that need several; prints what it saw as JSON or as text."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from deltaglider_backend_fs import commit, linux
from deltaglider_backend_fs.backend import FsBackend
from deltaglider_backend_fs.settings import FsSettings
from deltaglider_core.errors import ConfigurationError, NoSuchKey, PreconditionFailed, S3Error
from deltaglider_core.interfaces.storage import Condition, ObjectMetadata
from deltaglider_core.services import SystemClock

MIB = 1024 * 1024
LARGE = ObjectMetadata(user={"k": "v" * 90_000})


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def open_backend(root: str) -> FsBackend:
    return await FsBackend.create(FsSettings(type="filesystem", path=Path(root)), SystemClock())


async def put(backend: FsBackend, key: str, data: bytes, **condition: str) -> Any:
    return await backend.put_object(
        "bkt",
        key,
        chunks(data),
        size=len(data),
        metadata=LARGE,
        condition=Condition(**condition) if condition else None,
    )


async def get(backend: FsBackend, key: str) -> tuple[str, bytes]:
    async with await backend.get_object("bkt", key) as reader:
        assert reader.info.metadata == LARGE
        return reader.info.etag, b"".join([chunk async for chunk in reader])


async def open_unprivileged(root: str) -> None:
    # Load what is loaded late; the interpreter may lie where other users cannot read.
    await asyncio.to_thread(os.getpid)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    try:
        await open_backend(root)
    except ConfigurationError as error:
        print(error)


async def limit(root: str) -> None:
    backend = await open_backend(root)
    await backend.create_bucket("bkt")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))
    error = ""
    try:
        await put(backend, "big", bytes(3 * MIB))
    except S3Error as raised:
        error = type(raised).__name__
    await backend.put_object("bkt", "small", chunks(b"x"), size=1, metadata=ObjectMetadata())
    page = await backend.list_objects("bkt")
    left = [*os.listdir(f"{root}/bkt/%dg-tmp"), *os.listdir(f"{root}/bkt/%dg-meta")]
    print(json.dumps({"error": error, "keys": [i.key for i in page.objects], "left": left}))


async def race(root: str, rounds: str) -> None:
    """Claim keys, increment a counter, claim deletions, against others that do the same."""
    dawdle()
    backend = await open_backend(root)
    won, deleted = [], []
    for number in range(int(rounds)):
        try:
            await put(backend, f"claim/{number}", str(os.getpid()).encode(), if_none_match="*")
            won.append(number)
        except PreconditionFailed:
            pass
        while True:
            etag, value = await get(backend, "counter")
            try:
                await put(backend, "counter", str(int(value) + 1).encode(), if_match=etag)
                break
            except PreconditionFailed:
                continue
        try:
            condition = Condition(if_match="*")
            if await backend.delete_object("bkt", f"gone/{number}", condition=condition):
                deleted.append(number)
        except NoSuchKey:
            pass
    print(json.dumps({"pid": os.getpid(), "won": won, "deleted": deleted}))


def dawdle() -> None:
    """Widen the gap between the check of a condition and the act from microseconds to more.

    Without locks every round then has several winners; with them it only takes longer.
    """
    real = commit.read_current

    def slow(parent: int, name: bytes) -> Any:
        current = real(parent, name)
        time.sleep(0.003)
        return current

    commit.read_current = slow


async def nest(root: str, name: str, rounds: str) -> None:
    """Write and delete below and at shared folders; what was acknowledged must stay readable."""
    backend = await open_backend(root)
    lost = []
    for number in range(int(rounds)):
        top = f"top{number % 3}"
        mine = f"{top}/{name}/deep"
        await put(backend, mine, b"mine")
        await put(backend, f"{top}/{name}", b"above mine")
        await put(backend, top, b"shared")
        for key, expected in ((mine, b"mine"), (f"{top}/{name}", b"above mine")):
            if (await get(backend, key))[1] != expected:
                lost.append(key)
        for key in (mine, f"{top}/{name}"):
            if not await backend.delete_object("bkt", key):
                lost.append(key)
        # This key is written all the time and never deleted: it must never be absent.
        if (await get(backend, "always"))[1] != b"always":
            lost.append("always")
        await put(backend, "always", b"always")
        await put(backend, f"always/{name}", b"x")
        await backend.delete_object("bkt", f"always/{name}")
        # And this one changes between file and folder.
        await put(backend, f"turn{number}", b"turn")
        if (await get(backend, f"turn{number}"))[1] != b"turn":
            lost.append(f"turn{number}")
        await put(backend, f"turn{number}/{name}", b"x")
    print(json.dumps(lost))


async def stall(root: str) -> None:
    """Upload half an object, say so, and wait to be killed."""
    backend = await open_backend(root)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(MIB)
        print("writing", flush=True)
        await asyncio.Event().wait()

    await backend.put_object("bkt", "k", body(), size=None, metadata=LARGE)


def crash(root: str, action: str, key: str) -> None:
    """Do it over and over in child processes, each killed before its next system call.

    Prints per child whether it was killed, and what it left.
    """
    for number in itertools.count(1):
        asyncio.run(prepare(root))
        pid = os.fork()
        if pid == 0:
            asyncio.run(act(root, action, key, number))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status)
        assert killed or os.waitstatus_to_exitcode(status) == 0
        print(json.dumps({"killed": killed, "saw": asyncio.run(look(root))}))
        if not killed:
            return


async def prepare(root: str) -> None:
    backend = await open_backend(root)
    for info in (await backend.list_objects("bkt")).objects:
        await backend.delete_object("bkt", info.key)
    await put(backend, "a", b"old")
    await backend.aclose()


async def act(root: str, action: str, key: str, number: int) -> None:
    backend = await open_backend(root)
    die_before(number)
    if action == "put":
        await put(backend, key, b"new")
    else:
        await backend.delete_object("bkt", key)


def die_before(number: int) -> None:
    """Kill this process before its call of that number among those that change a disk."""
    count = itertools.count(1)

    def deadly(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in ("fsync", "rename", "link", "unlink", "rmdir", "mkdir", "setxattr", "write"):
        setattr(os, name, deadly(getattr(os, name)))
    linux.exchange = deadly(linux.exchange)


async def look(root: str) -> dict[str, str]:
    backend = await open_backend(root)
    seen = {}
    for info in (await backend.list_objects("bkt")).objects:
        seen[info.key] = (await get(backend, info.key))[1].decode()
    await backend.aclose()
    return seen


ASYNC = {"open": open_unprivileged, "limit": limit, "race": race, "nest": nest, "stall": stall}

if __name__ == "__main__":
    if sys.argv[1] == "crash":
        crash(*sys.argv[2:])
    else:
        asyncio.run(ASYNC[sys.argv[1]](*sys.argv[2:]))
