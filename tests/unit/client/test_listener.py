"""Whose listener it is: a token goes in the clear to nobody but the OS user who runs the gateway."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from tidegate.client.errors import GatewayServerError
from tidegate.client.listener import check_listener
from tidegate.client.transport import Transport

from .conftest import StubGateway, says

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose listener it is")

ME, SOMEBODY = os.getuid(), os.getuid() + 1


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "::1", "::"])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """A listener at this address, and its port."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as one:
        try:
            one.bind((request.param, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        one.listen()
        yield request.param, one.getsockname()[1]


def reaching(address: str) -> list[str]:
    """Return the hosts under which what listens at ``address`` is reached."""
    by_4, by_6 = ["127.0.0.1", "localhost"], ["[::1]", "localhost"]
    return {"127.0.0.1": by_4, "0.0.0.0": by_4, "::1": by_6, "::": [*by_4, *by_6]}[address]


def test_the_owner_is_known_by_whatever_name_it_is_reached(listener: tuple[str, int]) -> None:
    """On the very address, on all of them, by IPv6 for IPv4 too."""
    address, port = listener
    for host in reaching(address):
        url = f"http://{host}:{port}/prefix"
        check_listener(url, ME)
        with pytest.raises(GatewayServerError, match=f"belongs to the user {pwd.getpwuid(ME).pw_name}, not to"):
            check_listener(url, SOMEBODY)


def test_nobody_is_not_somebody_else() -> None:
    """Where nothing listens it is the connection that fails, as always."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # bound, not listening
        check_listener(f"http://127.0.0.1:{one.getsockname()[1]}", SOMEBODY)


async def test_nothing_is_sent_to_a_stranger(stub: StubGateway, connect: Callable[..., Transport]) -> None:
    """Neither the token nor the request."""
    stub.will(says({}))
    known = {"auth_type": "token", "auth_kwargs": {"token": "geheim"}}

    with pytest.raises(GatewayServerError, match="nothing was sent"):
        await connect(listener_uid=SOMEBODY, **known).request("GET", "/x")
    assert stub.requests == []

    assert await connect(listener_uid=ME, **known).request("GET", "/x") == {}
    assert stub.requests[0].headers["Authorization"].endswith("geheim")


async def test_where_nobody_said_whose_it_is_nothing_is_asked(
    stub: StubGateway, connect: Callable[..., Transport]
) -> None:
    """A gateway behind a tunnel, say, has a listener of another user."""
    stub.will(says({}))

    assert await connect(auth_type=None).request("GET", "/x") == {}
