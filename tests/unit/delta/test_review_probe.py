from __future__ import annotations
import os, random
from dataclasses import replace
import pytest
from deltaglider_core.testing import MemoryBackend, body, metadata, read
from deltaglider_core.errors import *
from deltaglider_core.interfaces.storage import CompletedPart, Condition
from deltaglider_core.delta.policy import DeltaPolicy
SIZE=40_000

async def test_newer_metadata_survives_optimise(world):
    base=world.data(SIZE); await world.put("app-1.zip", base)
    data=world.version(base)
    up=await world.layer.create_multipart_upload("bucket","app-2.zip",metadata=metadata(user={"a":"old"}))
    p=await world.layer.upload_part("bucket","app-2.zip",up,1,body(data),size=SIZE)
    real=world.codec.encode_window
    state={"n":0}
    import asyncio
    loop=asyncio.get_running_loop()
    def enc(prepared,target):
        if state["n"]==0:
            state["n"]=1
            asyncio.run_coroutine_threadsafe(world.layer.copy_object("bucket","app-2.zip","bucket","app-2.zip",metadata=metadata(user={"a":"new"})),loop).result()
        return real(prepared,target)
    world.codec.encode_window=enc
    await world.layer.complete_multipart_upload("bucket","app-2.zip",up,[CompletedPart(part_number=1,etag=p.etag)])
    assert state["n"]
    assert (await world.layer.head_object("bucket","app-2.zip")).metadata.user=={"a":"new"}

async def test_cache_file_rot(world, make_world):
    base=world.data(SIZE); await world.put("app-1.zip", base)
    ref=next((world.services.cache_dir/"references").iterdir())
    with open(ref,"r+b") as f:
        f.seek(100); f.write(b"X"*1000)
    data=world.version(base)
    await world.put("app-2.zip", data)
    cold=await make_world(inner=world.inner)
    print(await world.form("app-2.zip"))
    assert await cold.get("app-2.zip")==data
    for _ in range(3):
        try:
            got=await world.get("app-1.zip")
        except IntegrityError as e: print("ERR", e); got=None
    assert got==base

async def test_cache_disk_full_on_read(world, make_world, monkeypatch):
    base=world.data(SIZE); await world.put("app-1.zip", base)
    cold=await make_world(inner=world.inner)
    d=cold.services.cache_dir/"references"
    d.chmod(0o500)
    import shutil
    shutil.rmtree(d)
    try:
        assert await cold.get("app-1.zip")==base
    except Exception as e:
        print(type(e), e); raise
