"""A keeper is its user's process: whatever it says, and however often, harms no other cluster."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tidegate.backends.listeners import Listeners
from tidegate.backends.local.accounts import own
from tidegate.backends.local.backend import OBEY_TIMEOUT, LocalBackend
from tidegate.backends.local.folder import ClusterFolder
from tidegate.backends.local.keeper.channel import listen
from tidegate.backends.local.keeper.journal import SCHEDULER, Journal
from tidegate.backends.local.keeper.processes import identity, start_time
from tidegate.backends.local.talk import NoAnswer, Watches, request

NAME = "0123456789abcdef"


@pytest.fixture
def folder(tmp_path: Path) -> ClusterFolder:
    """Give a cluster's folder, whose keeper is at first this process."""
    folder = ClusterFolder(tmp_path / "clusters", NAME)
    folder.give_to(own())
    folder.create({"agent.json": b"{}"})
    folder.pid_file.write_text(json.dumps(identity(os.getpid())))
    return folder


@asynccontextmanager
async def saying(folder: ClusterFolder, words: bytes, *, for_ever: bool = False) -> AsyncIterator[None]:
    """Stand in the keeper's place, and say ``words`` to whoever says something."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readline()
            writer.write(words)
            await writer.drain()
            while for_ever:
                writer.write(words)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(say, sock=listen(str(folder.path), "keeper.sock"))
    try:
        yield
    finally:
        server.close()


@pytest.mark.parametrize("answer", [b"[]", b"1", b"null", b"[" * 50_000, b"{", b"", b'{"error": "\\ud800"}'])
async def test_what_is_no_answer_is_none(folder: ClusterFolder, answer: bytes) -> None:
    """Whatever comes instead of an answer is told as such, in words that can be passed on."""
    async with saying(folder, answer + b"\n"):
        with pytest.raises(NoAnswer) as caught:
            await request(folder, {"op": "stop"}, 5)
    str(caught.value).encode()


async def test_a_name_that_waits_is_not_queued_twice() -> None:
    """Who tells faster than anybody listens fills no memory; what is told during a look is told again."""
    listeners = Listeners()
    changes = listeners.changes()
    first = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    listeners.tell("first")
    assert await first == "first"
    for _ in range(1000):
        listeners.tell("a")
    listeners.tell("b")
    assert [await anext(changes), await anext(changes)] == ["a", "b"]
    listeners.tell("a")
    assert await anext(changes) == "a"
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_keeper_that_tells_without_end_is_heard_now_and_then(folder: ClusterFolder) -> None:
    """Ten times what it tells takes ten pauses, however much it is."""
    watches = Watches()
    async with saying(folder, b"\n" * 1000, for_ever=True):
        changes = watches.changes()
        heard = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        watches.follow(folder)
        begin = asyncio.get_running_loop().time()
        await heard
        for _ in range(10):
            await anext(changes)
        assert asyncio.get_running_loop().time() - begin >= 0.15
        await changes.aclose()  # type: ignore[attr-defined]
        await watches.close()


async def test_a_keeper_that_says_yes_and_goes_on_is_ended(folder: ClusterFolder, tmp_path: Path) -> None:
    """It has its time; who asks again after that ends it."""
    now = 1000.0
    keeper = await asyncio.create_subprocess_exec("sleep", "1000")
    folder.pid_file.write_text(json.dumps(identity(keeper.pid)))
    Journal(str(folder.status_file)).running(SCHEDULER)
    backend = LocalBackend(tmp_path, lambda: now, {"zygotes": 0})
    await backend.start()
    try:
        async with saying(folder, b'{"ok": true}\n'):
            await backend.stop(NAME)
            now += OBEY_TIMEOUT - 1
            await backend.stop(NAME)
            assert start_time(keeper.pid) is not None
            now += 1
            await backend.stop(NAME)
        assert await asyncio.wait_for(keeper.wait(), 20) < 0
        assert not folder.has_secrets
    finally:
        if keeper.returncode is None:
            keeper.kill()
            await keeper.wait()
        await backend.close()
