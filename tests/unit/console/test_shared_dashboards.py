"""The way from the console to somebody else's dashboard: by a share, as an administrator, and by a link."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.model.principal import Principal
from tidegate.model.share import Right
from tidegate.wire.tickets import OPEN_SECONDS, Ticket, verify

ALICE = Principal("alice")


async def running(gateway: Gateway, *shares: str, right: Right = Right.VIEW) -> str:
    """Return the name of a running cluster of alice's, shared with these."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name)
    for grantee in shares:
        await gateway.services.shares.give(ALICE, cluster.name, grantee, right)
    return cluster.name


async def ticket_in(gateway: Gateway, name: str, reply: httpx.Response) -> Ticket:
    """Return the ticket with which a browser is sent on to the dashboard's own host."""
    assert reply.status_code == 302, reply.text
    where = urlsplit(reply.headers["location"])
    assert where.hostname == f"{name}.localhost"
    key = (await gateway.store.credentials(name)).ticket_key
    ticket = verify(parse_qs(where.query)["ticket"][0], name, key, gateway.clock.now)
    assert ticket is not None
    assert ticket.once
    return ticket


@pytest.mark.parametrize("right", Right)
async def test_a_share_opens_the_dashboard_in_its_epoch(gateway: Gateway, right: Right) -> None:
    """The owner's ticket has none; a guest's has that of now, and a later one after something was withdrawn."""
    name = await running(gateway, "user:mallory", "user:eve", right=right)
    path = f"/clusters/{name}/status"

    owner = await ticket_in(gateway, name, await gateway.browser("alice").get(path))
    guest = await ticket_in(gateway, name, await gateway.browser("mallory").get(path))
    await gateway.services.shares.withdraw(ALICE, name, "user:eve")
    later = await ticket_in(gateway, name, await gateway.browser("mallory").get(path))

    assert (owner.user, owner.epoch) == ("alice", None)
    assert (guest.user, guest.epoch, later.epoch) == ("mallory", 0, 1)
    assert guest.is_over(1)
    assert not later.is_over(1)


async def test_without_a_share_there_is_no_dashboard(gateway: Gateway) -> None:
    """Before, and after it was withdrawn: what never was."""
    name = await running(gateway)
    browser = gateway.browser("mallory")
    never = await browser.get("/clusters/0123456789abcdef/status")
    before = await browser.get(f"/clusters/{name}/status")
    await gateway.services.shares.give(ALICE, name, "user:mallory", Right.USE)
    assert (await browser.get(f"/clusters/{name}/status")).status_code == 302
    await gateway.services.shares.withdraw(ALICE, name, "user:mallory")
    after = await browser.get(f"/clusters/{name}/status")
    assert never.status_code == before.status_code == after.status_code == 404
    assert never.text == before.text == after.text


async def test_an_administrator_sees_every_dashboard_as_a_guest(tmp_path: Path) -> None:
    """On its own host, with a ticket that ends when something is withdrawn; programs are told the same."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=["mallory"])) as gateway:
        name = await running(gateway)
        ticket = await ticket_in(gateway, name, await gateway.browser("mallory").get(f"/clusters/{name}/status"))
        told = await gateway.client("mallory").post("/internal/dashboard-access", json={"cluster": name})
    assert (ticket.user, ticket.epoch) == ("mallory", 0)
    assert (told.json()["user"], told.json()["epoch"]) == ("mallory", 0)


async def test_without_hosts_of_their_own_only_the_owner_sees_dashboards(tmp_path: Path) -> None:
    """A share and an administrator are told why, whether they come with a browser or with a program; a link, made
    while there were such hosts, leads nowhere.
    """
    hosts = Roster(admins=["root"])
    async with gateway_in_process(tmp_path, roster=hosts, dashboard_host=None) as gateway:
        name = await running(gateway, "user:mallory")
        _, link = await gateway.services.shares.make_link(ALICE, name, 60, "")
        for user in ("mallory", "root"):
            reply = await gateway.browser(user).get(f"/clusters/{name}/status")
            assert reply.status_code == 403
            assert "no host names of their own" in reply.text
            assert "set-cookie" not in reply.headers
        program = await gateway.client("mallory").post("/internal/dashboard-access", json={"cluster": name})
        assert program.status_code == 403
        assert "no host names of their own" in program.json()["error"]
        visitor = await gateway.browser().get(f"/shared/{link}")
        assert visitor.status_code == 409
        assert "location" not in visitor.headers


async def test_a_link_that_is_nearly_over_gives_a_ticket_that_is_nearly_over(gateway: Gateway) -> None:
    """Never for longer than the link, whichever is shorter."""
    name = await running(gateway)
    _, link = await gateway.services.shares.make_link(ALICE, name, 100, "")
    now = gateway.clock.now
    for passed, expected in ((0.0, OPEN_SECONDS), (90.0, 10.0)):
        gateway.clock.now = now + passed
        ticket = await ticket_in(gateway, name, await gateway.browser().get(f"/shared/{link}"))
        assert ticket.expires_at == gateway.clock.now + expected
        assert (ticket.until, ticket.epoch) == (now + 100, 0)


async def test_a_link_says_when_the_dashboard_is_not_there(gateway: Gateway) -> None:
    """While the cluster is starting: to come back later. It shows nothing of the cluster."""
    cluster = await gateway.create("alice")
    _, link = await gateway.services.shares.make_link(ALICE, cluster.name, 100, "")
    reply = await gateway.browser().get(f"/shared/{link}")
    assert reply.status_code == 409
    assert "Open the link again later" in reply.text
    assert "alice" not in reply.text


async def test_a_link_opens_nothing_else(gateway: Gateway) -> None:
    """It is no credential: the console and the API know nobody by it."""
    name = await running(gateway)
    _, link = await gateway.services.shares.make_link(ALICE, name, 100, "")
    for path in (f"/clusters/{name}", f"/clusters/{name}/status", "/"):
        assert (await gateway.browser().get(path, params={"ticket": link})).status_code == 303
    assert (await gateway.client(link).get(f"/api/v2/clusters/{name}")).status_code == 401
