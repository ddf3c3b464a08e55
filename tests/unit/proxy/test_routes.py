"""The route table: what control says, kept while control is away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tidegate.proxy.routes import WITHDRAWN_KEPT, RouteTable
from tidegate.wire.proxy import Route


def route(name: str, secret: str = "s", port: int = 1) -> Route:
    """Return a route."""
    return Route(name, "127.0.0.1", port, None, "header", "ca", secret)


async def test_a_new_table_withdraws_what_is_not_in_it():
    """``replace`` is the whole truth; what stays is not touched."""
    gone: list[str] = []
    table = RouteTable(withdrawn=gone.append)
    table.replace([route("a"), route("b")])

    table.replace([route("b", port=2), route("c")])

    assert gone == ["a"]
    assert (table.get("a"), table.get("b"), table.get("c")) == (None, route("b", port=2), route("c"))
    assert len(table) == 2


async def test_every_operation_may_be_repeated():
    """Control repeats itself when it is not sure to have been heard."""
    gone: list[str] = []
    table = RouteTable(withdrawn=gone.append)
    for _ in range(2):
        table.put(route("a"))
        table.delete("b")
    for _ in range(2):
        table.delete("a")

    assert gone == ["a"]


async def test_the_first_table_is_waited_for_and_no_later_one():
    """Before it, nothing is known; after it, an unknown name is unknown at once."""
    table = RouteTable(wait_seconds=60)
    finding = asyncio.create_task(table.find("a"))
    await asyncio.sleep(0)
    assert not finding.done()

    table.replace([route("a")])

    assert await asyncio.wait_for(finding, 20) == route("a")
    assert await asyncio.wait_for(table.find("b"), 20) is None


async def test_the_wait_for_the_first_table_ends():
    """Without control nobody waits for ever."""
    assert await asyncio.wait_for(RouteTable(wait_seconds=0.05).find("a"), 20) is None


async def test_a_single_route_is_known_before_the_table_is():
    """What control has said already is used."""
    table = RouteTable(wait_seconds=60)
    table.put(route("a"))

    assert await asyncio.wait_for(table.find("a"), 20) == route("a")


async def test_another_secret_is_told():
    """Tickets signed with the old secret are void; open pages must end."""
    changed: list[str] = []
    table = RouteTable(secret_changed=changed.append)
    table.put(route("a", "one"))
    table.put(route("a", "one", port=2))
    assert changed == []

    table.put(route("a", "two"))
    table.put(replace(route("a", "two"), dashboard_secret="another"))

    assert changed == ["a", "a"]


async def test_the_ticket_keys_of_withdrawn_routes_are_kept_for_a_while():
    """... so that former viewers are told; the memory is bounded, and a route that comes back is a route."""
    table = RouteTable()
    for number in range(WITHDRAWN_KEPT + 1):
        table.put(route(str(number)))
        table.delete(str(number))

    assert table.withdrawn_key("0") is None
    assert table.withdrawn_key("1") == "s"
    table.put(route("1"))
    assert table.withdrawn_key("1") is None


async def test_a_later_share_epoch_is_told():
    """What others have open must end; a route that is merely repeated, or was read before, ends nothing."""
    withdrawn: list[str] = []
    table = RouteTable(shares_withdrawn=withdrawn.append)
    table.put(replace(route("a"), share_epoch=1))
    table.put(replace(route("a", port=2), share_epoch=1))
    assert withdrawn == []
    table.put(replace(route("a"), share_epoch=2))
    table.put(replace(route("a"), share_epoch=1))
    assert withdrawn == ["a"]
    table.replace([replace(route("a"), share_epoch=3)])
    assert withdrawn == ["a", "a"]
