"""A browser's part in a Dask dashboard: the page, and the WebSocket that its script opens.

The messages are those of Bokeh's server protocol (``bokeh/protocol``): each consists of a header, metadata and content,
in three frames of JSON.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.sides import Side

_TOKEN = re.compile(r'"token":"([^"]+)"')


async def load_page(http: aiohttp.ClientSession, side: Side, cluster: str) -> str:
    """Load the ``/status`` page of a cluster; return the token with which its WebSocket is opened."""
    url = f"{side.address}/clusters/{cluster}/status"
    async with http.get(url, headers=side.credential()) as answer:
        text = await answer.text()
        found = _TOKEN.search(text)
        if answer.status != 200 or found is None:
            raise RuntimeError(f"{side.name}: the dashboard answers {answer.status}: {text[:300]}")
        return found[1]


class Session:
    """An open WebSocket of a page."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._count = 0

    async def ask(self) -> float:
        """Ask the server about itself; return the seconds until its answer begins.

        What follows of the answer comes 40 ms later, whatever stands between: Tornado leaves Nagle's algorithm on.
        """
        self._count += 1
        number = str(self._count)
        began = time.perf_counter()
        for part in ({"msgid": number, "msgtype": "SERVER-INFO-REQ"}, {}, {}):
            await self._websocket.send_str(json.dumps(part))
        while True:
            header = json.loads(await self._websocket.receive_str(timeout=30))
            elapsed = time.perf_counter() - began
            for _ in range(2 + header.get("num_buffers", 0) * 2):
                await self._websocket.receive(timeout=30)
            if header.get("reqid") == number:
                return elapsed


@asynccontextmanager
async def open_session(http: aiohttp.ClientSession, side: Side, cluster: str) -> AsyncIterator[Session]:
    """Load the page and open its WebSocket."""
    token = await load_page(http, side, cluster)
    url = f"{side.address}/clusters/{cluster}/status/ws"
    async with http.ws_connect(url, headers=side.credential(), protocols=("bokeh", token)) as websocket:
        session = Session(websocket)
        await websocket.receive_str(timeout=30)  # the acknowledgement: header, metadata, content
        for _ in range(2):
            await websocket.receive(timeout=30)
        yield session
