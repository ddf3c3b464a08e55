"""Whether the gateway really serves: a request that goes the way of a user's, through the public port."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from tidegate.config.schema import Address
from tidegate.server.urls import dialled

PAUSE = 0.05
"""Seconds between two tries."""
LIMIT = 5.0
"""Seconds for one try."""


async def wait_until_served(address: Address, *, tls: bool, prefix: str) -> None:
    """Wait until the API answers at the public port."""
    while not await _answers(address, tls=tls, prefix=prefix):
        await asyncio.sleep(PAUSE)


async def _answers(address: Address, *, tls: bool, prefix: str) -> bool:
    context: ssl.SSLContext | None = None
    if tls:
        # Whether it serves is asked, not who it is: its certificate may be for a name that this machine has not.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    there = dialled(address)
    request = f"GET {prefix}/api/health HTTP/1.1\r\nHost: {there}\r\nConnection: close\r\n\r\n"
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(LIMIT):
            reader, writer = await asyncio.open_connection(there.host, there.port, ssl=context)
            writer.write(request.encode())
            return b" 200 " in await reader.readline()
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
