"""What the benchmark does in the place of an administrator and of simulated schedulers, with Tidegate's own store.

A simulated scheduler has no agent, so its part is played from here: it needs the token that only the store knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tidegate.authn.tokens import mint_token
from tidegate.model.principal import Principal
from tidegate.store.sql import SqlStore


def mint_all(data: Path, users: Iterable[str]) -> dict[str, str]:
    """Return a new token of each of these users."""
    return _run(_mint(data, users))


def agent_tokens(data: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the tokens with which the schedulers of these clusters report."""
    return _run(_agent_tokens(data, names))


def _run(work: Coroutine[Any, Any, dict[str, str]]) -> dict[str, str]:
    """Run it in a thread of its own, for the caller may have an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _mint(data: Path, users: Iterable[str]) -> dict[str, str]:
    store = SqlStore(data)
    await store.start()
    try:
        return {user: (await mint_token(store, Principal(user), "benchmark", now=time.time()))[1] for user in users}
    finally:
        await store.close()


async def _agent_tokens(data: Path, names: Iterable[str]) -> dict[str, str]:
    store = SqlStore(data)
    await store.start()
    try:
        found = {name: await store.credentials(name) for name in names}
        return {name: credentials.agent_token for name, credentials in found.items() if credentials}
    finally:
        await store.close()
