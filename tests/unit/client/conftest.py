"""A gateway of a few lines, for what a real one cannot be made to do on demand: to be cut, to be busy, to be absent."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import dask.config
import pytest
from aiohttp import web

from tidegate.client.config import Settings
from tidegate.client.transport import Transport

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CLUSTER = {
    "name": "c0ffee",
    "owner": "alice",
    "state": "running",
    "target": "running",
    "created_at": 1_700_000_000.0,
    "started_at": 1_700_000_001.0,
    "stopped_at": None,
    "options": {"worker_cores": 1},
    "groups": [
        {
            "name": "default",
            "wanted": 2,
            "adaptive": None,
            "running": 1,
            "starting": 1,
            "failures": 0,
            "trouble": None,
        }
    ],
    "workers": {"wanted": 2, "running": 1, "starting": 1},
    "max_workers": 10,
    "max_workers_reason": "",
    "reason": None,
    "versions": {},
    "scheduler": {"sni": "daskgateway-c0ffee"},
    "dashboard_link": "/clusters/c0ffee/status",
    "notes": [],
    "note": None,
}
"""A cluster as the gateway describes one."""


class StubGateway:
    """Answers each request with the next of ``answers``, the last one for ever, and remembers what was asked."""

    def __init__(self) -> None:
        self.answers: list[Handler] = []
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.address = ""

    def will(self, *answers: Handler) -> None:
        """Answer so from now on."""
        self.answers = list(answers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        self.requests.append(request)
        self.bodies.append(await request.json() if request.can_read_body else None)
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return await answer(request)

    def settings(self, **changes: Any) -> Settings:
        """Return what a client of it needs to know."""
        given = {"address": self.address, "source": "the argument `address`", "public_address": self.address}
        return Settings(**{**given, **changes})


def says(body: Any, status: int = 200, **headers: str) -> Handler:
    """Answer with JSON."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


def refuses(status: int, code: str, message: str, **headers: str) -> Handler:
    """Answer with an error as the gateway words it."""
    return says({"error": {"code": code, "message": message, "field": None, "incident": None}}, status, **headers)


def streams(*chunks: bytes, cut: bool = False) -> Handler:
    """Answer with an event stream that ends after these bytes, in order or by a cut of the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return answer


async def cuts(request: web.Request) -> web.StreamResponse:
    """Cut the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.fixture
async def stub() -> AsyncIterator[StubGateway]:
    """A stub gateway that listens on loopback."""
    gateway = StubGateway()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", gateway.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    gateway.address = f"http://{host}:{port}"
    yield gateway
    await runner.cleanup()


@pytest.fixture
async def connect(stub: StubGateway) -> AsyncIterator[Callable[..., Transport]]:
    """Return a function that makes what sends requests to the stub, with these settings."""
    made: list[Transport] = []

    def make(**changes: Any) -> Transport:
        made.append(Transport(stub.settings(**changes)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
def transport(connect: Callable[..., Transport]) -> Transport:
    """What sends requests to the stub, without credentials."""
    return connect(auth_type=None)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, so that nobody else gets it; not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def no_configuration() -> Iterator[None]:
    """Whatever the machine's Dask configuration says, tests begin without a gateway in it."""
    with dask.config.set({"tidegate": {}, "gateway": {}}):
        yield
