"""The agent tells its token to no other OS user's listener on the gateway's port."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from types import ModuleType

import pytest
from aiohttp import web

from tests.unit.agent.conftest import GIVEN
from tidegate.model.report import Wanted
from tidegate.wire.agent import WantedBody

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose listener it is")

ME, SOMEBODY = os.getuid(), os.getuid() + 1


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "::1"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """The URL of something that answers as a gateway does, and what it was asked."""
    asked: list[web.Request] = []
    answer = WantedBody.from_model(Wanted(exit=False)).model_dump()

    async def handle(got: web.Request) -> web.Response:
        asked.append(got)
        return web.json_response(answer)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, request.param, 0).start()
    except OSError:
        pytest.skip("this machine has no IPv6")
    host = "[::1]" if ":" in request.param else "127.0.0.1"
    yield f"http://{host}:{runner.addresses[0][1]}/agent", asked
    await runner.cleanup()


async def test_a_token_goes_to_the_gateways_own_user_alone(
    load: Callable[..., ModuleType], server: tuple[str, list[web.Request]]
) -> None:
    """To a stranger not even a connection; it counts as a gateway that is away, so the tries go on."""
    url, asked = server
    agent = load(content=json.dumps({**GIVEN, "url": url, "listener_uid": SOMEBODY}))
    stranger = agent.Gateway(agent.SETTINGS)
    with pytest.raises(agent.Away, match=f"belongs to the OS user {ME}, not to {SOMEBODY}: nothing was sent"):
        await stranger.report({})
    stranger.close()
    assert asked == []

    known = agent.Gateway(agent.SETTINGS._replace(listener_uid=ME))
    await known.report({})
    known.close()
    assert len(asked) == 1


async def test_a_gateway_that_is_away_is_away(agent: ModuleType) -> None:
    """Where nothing listens there is nobody to mistrust."""
    gateway = agent.Gateway(agent.SETTINGS._replace(listener_uid=SOMEBODY))
    with pytest.raises(agent.Away, match="refused"):
        await gateway.report({})
    gateway.close()
