"""Sharing from a notebook: what is asked of the gateway, and what is refused before it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tidegate.client import shares
from tidegate.client.errors import GatewayValueError
from tidegate.client.gateway import Gateway
from tidegate.client.shares import ClusterShare, DashboardLink

from .conftest import CLUSTER, StubGateway, refuses, says

SHARE = {
    "grantee": "user:bob",
    "kind": "user",
    "name": "bob",
    "right": "view",
    "created_at": 1_700_000_000.0,
    "created_by": "alice",
}
LINK = {
    "id": "c0ffee",
    "label": "review",
    "expires_at": 1_700_003_600.0,
    "created_at": 1_700_000_000.0,
    "created_by": "alice",
}


@pytest.fixture
async def gateway(stub: StubGateway) -> AsyncIterator[Gateway]:
    """A client of the stub."""
    async with Gateway(stub.address, proxy_address="127.0.0.1:1", asynchronous=True) as gateway:
        yield gateway


def asked(stub: StubGateway) -> tuple[str, str, Any]:
    """Return method, path and body of the last request."""
    return stub.requests[-1].method, stub.requests[-1].raw_path, stub.bodies[-1]


@pytest.mark.parametrize(
    ("whom", "path"),
    [
        ({"user": "bob"}, "user:bob"),
        ({"group": "physics"}, "group:physics"),
        ({"user": "bob@example.org"}, "user:bob@example.org"),
        ({"user": "a/b ü"}, "user:a%2Fb%20%C3%BC"),
    ],
)
async def test_a_share_is_given_and_withdrawn(
    stub: StubGateway, gateway: Gateway, whom: dict[str, str], path: str
) -> None:
    """To a user or a group, whatever their name has in it."""
    stub.will(says(SHARE))
    given = await shares.give_share(gateway, "x1", **whom, right="use")
    put = asked(stub)
    stub.will(says(None, 204))
    await shares.withdraw_share(gateway, "x1", **whom)

    assert put == ("PUT", f"/api/v2/clusters/x1/shares/{path}", {"right": "use"})
    assert asked(stub) == ("DELETE", f"/api/v2/clusters/x1/shares/{path}", None)
    assert (given.kind, given.name, given.right, str(given)) == ("user", "bob", "view", "user bob: view")


@pytest.mark.parametrize("whom", [{}, {"user": "bob", "group": "physics"}, {"user": ""}])
async def test_a_share_is_for_one(stub: StubGateway, gateway: Gateway, whom: dict[str, str]) -> None:
    """Nobody and two are refused before anything is asked."""
    with pytest.raises(GatewayValueError, match="either a user or a group"):
        await shares.give_share(gateway, "x1", **whom)
    assert not stub.requests


async def test_a_right_that_is_none_is_refused(stub: StubGateway, gateway: Gateway) -> None:
    """With those that there are."""
    with pytest.raises(GatewayValueError, match="'admin': choose view or use"):
        await shares.give_share(gateway, "x1", user="bob", right="admin")
    assert not stub.requests


async def test_who_has_what_is_listed(stub: StubGateway, gateway: Gateway) -> None:
    """As values."""
    stub.will(says({"shares": [SHARE]}))
    (share,) = await shares.list_shares(gateway, "x1")
    stub.will(says({"links": [LINK]}))
    (link,) = await shares.list_links(gateway, "x1")

    assert share == ClusterShare.from_json(SHARE)
    assert (link.id, link.label, link.url) == ("c0ffee", "review", None)


@pytest.mark.parametrize(("expires", "seconds"), [("1h", 3600), ("7d", 604800), (90, 90), (timedelta(minutes=2), 120)])
async def test_a_link_is_good_for_as_long_as_was_said(
    stub: StubGateway, gateway: Gateway, expires: Any, seconds: float
) -> None:
    """In words, in seconds, as Python has it. Its address is complete, and not in its representation."""
    stub.will(says(LINK | {"url": "/shared/secret"}, 201))

    link = await shares.make_link(gateway, "x1", expires, "review")

    assert asked(stub) == ("POST", "/api/v2/clusters/x1/links", {"seconds": seconds, "label": "review"})
    assert link.url == f"{stub.address}/shared/secret"
    assert "secret" not in repr(link)


@pytest.mark.parametrize("expires", ["soon", "", None, [], {}])
async def test_a_time_that_is_none_is_refused(stub: StubGateway, gateway: Gateway, expires: Any) -> None:
    """With examples of what can be written."""
    with pytest.raises(GatewayValueError, match="write 30m, 1h or 7d"):
        await shares.make_link(gateway, "x1", expires)
    assert not stub.requests


async def test_a_link_is_withdrawn_as_it_is_or_by_its_id(stub: StubGateway, gateway: Gateway) -> None:
    """What cannot be an id goes nowhere else."""
    stub.will(says(None, 204))
    await shares.withdraw_link(gateway, "x1", "c0ffee")
    by_id = asked(stub)
    await shares.withdraw_link(gateway, "x1", DashboardLink.from_json(LINK, ""))

    assert asked(stub) == by_id == ("DELETE", "/api/v2/clusters/x1/links/c0ffee", None)
    with pytest.raises(GatewayValueError, match="cannot withdraw link"):
        await shares.withdraw_link(gateway, "x1", "../../y2")
    assert len(stub.requests) == 2


async def test_what_is_not_there_is_said_as_everywhere(stub: StubGateway, gateway: Gateway) -> None:
    """A cluster that is neither one's own nor shared."""
    stub.will(refuses(404, "not-found", "Cluster x1 not found"))

    with pytest.raises(GatewayValueError, match="neither yours nor shared with you"):
        await shares.list_shares(gateway, "x1")


@pytest.mark.parametrize(
    ("chosen", "query"),
    [
        ({}, {}),
        ({"of": "shared"}, {"of": "shared"}),
        ({"of": "all"}, {"of": "all"}),
        ({"owner": "bob"}, {"of": "all", "owner": "bob"}),
    ],
)
async def test_whose_clusters_are_listed_can_be_chosen(
    stub: StubGateway, gateway: Gateway, chosen: dict[str, str], query: dict[str, str]
) -> None:
    """One's own by default; somebody's are looked for among all."""
    theirs = CLUSTER | {"owner": "bob", "mine": False, "rights": ["see", "logs"], "shares": [SHARE]}
    stub.will(says({"clusters": [theirs], "next_cursor": None}))

    (report,) = await gateway.list_clusters(**chosen)

    sent = stub.requests[-1].query
    assert {key: sent[key] for key in ("of", "owner") if key in sent} == query
    assert (report.owner, report.mine, report.may("logs"), report.may("connect")) == ("bob", False, True, False)
    assert str(report.shares[0]) == "user bob: view"


async def test_a_list_of_nobodys_is_refused(gateway: Gateway) -> None:
    """With the words that there are."""
    with pytest.raises(GatewayValueError, match="choose among mine, shared, all"):
        await gateway.list_clusters(of="yours")


@pytest.mark.parametrize(("user", "sent"), [("bob", "bob"), ("bob@x.org", "bob@x.org"), ("jürg", "j%C3%BCrg")])
async def test_an_administrator_acts_on_behalf_of_somebody(stub: StubGateway, user: str, sent: str) -> None:
    """Every request says so, and so does the object."""
    stub.will(says({"clusters": [], "next_cursor": None}))

    async with Gateway(stub.address, proxy_address="x:1", asynchronous=True, on_behalf_of=user) as gateway:
        await gateway.list_clusters()
        await gateway._sibling().list_clusters()

        assert repr(gateway) == f"Gateway<{stub.address}, on behalf of {user}>"
    assert [request.headers["Tidegate-On-Behalf-Of"] for request in stub.requests] == [sent, sent]


async def test_nobody_is_acted_for_by_default(stub: StubGateway, gateway: Gateway) -> None:
    """No such header; and an empty name is a mistake, not oneself."""
    stub.will(says({"clusters": [], "next_cursor": None}))
    await gateway.list_clusters()

    assert "Tidegate-On-Behalf-Of" not in stub.requests[-1].headers
    with pytest.raises(GatewayValueError, match="cannot act on behalf of ''"):
        Gateway(stub.address, asynchronous=True, on_behalf_of="")


async def test_a_limit_is_set(stub: StubGateway, gateway: Gateway) -> None:
    """By whoever may."""
    stub.will(says(CLUSTER | {"max_workers": 3}))

    report = await gateway.limit_cluster("c0ffee", 3)

    assert asked(stub) == ("PATCH", "/api/v2/clusters/c0ffee", {"max_workers": 3})
    assert report.max_workers == 3
