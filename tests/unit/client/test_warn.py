"""Warnings: each time, and at the line of the user's that asked for something."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tidegate.client.errors import GatewayWarning
from tidegate.client.gateway import Gateway

from .conftest import CLUSTER, StubGateway, says

CLAMPED = says(CLUSTER | {"note": "Scale request of 11 workers would exceed resource limit of 10 workers"})


async def test_in_a_coroutine_it_points_at_the_line_that_asked(stub: StubGateway) -> None:
    """Not at a line of ours."""
    stub.will(CLAMPED)

    async with Gateway(stub.address, proxy_address="127.0.0.1:1", asynchronous=True) as gateway:
        with pytest.warns(GatewayWarning, match="Scale request of 11") as caught:
            await gateway.scale_cluster("c0ffee", 11)

    assert [warning.filename for warning in caught] == [__file__]


async def test_in_a_notebook_it_points_at_the_line_that_asked(stub: StubGateway) -> None:
    """The request runs in another thread; the warning comes in the caller's."""
    stub.will(CLAMPED)

    def scale() -> None:
        with Gateway(stub.address, proxy_address="127.0.0.1:1") as gateway:
            gateway.scale_cluster("c0ffee", 11)

    with pytest.warns(GatewayWarning, match="Scale request of 11") as caught:
        await asyncio.to_thread(scale)

    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(("chosen", "times"), [([], 2), (["-Wignore"], 0)])
def test_it_is_said_each_time_unless_the_user_chose_otherwise(chosen: list[str], times: int) -> None:
    """Python would say the same words at the same line only once."""
    program = "from tidegate.client.warn import warn\nfor _ in range(2): warn('clamped')"

    done = subprocess.run([sys.executable, *chosen, "-c", program], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("GatewayWarning: clamped") == times
