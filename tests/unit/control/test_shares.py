"""Sharing inside control: what is saved before what is ended, and the certificates that stand on shares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509

from tests.contract.store_samples import make_credentials
from tests.unit.control.rig import ALICE, Rig
from tests.unit.model.samples import make_cluster
from tidegate.control.leaves import LEAVES_LIMIT
from tidegate.control.shares import LINKS_LIMIT, Shares, SharingRules
from tidegate.model.cluster import Cluster
from tidegate.model.errors import Conflict, NotAllowed, NotVisible
from tidegate.model.principal import Principal
from tidegate.model.share import ClientLeaf, Grantee, Right

BOB = Principal("bob", frozenset({"physics"}))
CAROL = Principal("carol", frozenset({"physics"}))


class Routes:
    """Of the routes, what sharing asks: remembers it, and what was on record in that moment; may be broken."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.raised: list[tuple[int, Cluster]] = []
        self.broken = False

    async def raise_epoch(self, name: str, epoch: int) -> None:
        """Take note."""
        if self.broken:
            raise ConnectionError
        self.raised.append((epoch, self._rig.cluster(name)))

    async def put(self, route: Any) -> None:
        """Nobody asks for this."""
        raise AssertionError

    async def delete(self, name: str) -> None:
        """Nor for this."""
        raise AssertionError


@pytest.fixture
def routes(rig: Rig) -> Routes:
    """The routes of the shares below."""
    return Routes(rig)


@pytest.fixture
def shares(rig: Rig, routes: Routes) -> Shares:
    """What is tested."""
    return Shares(rig.clusters, rig.records, routes, rig.clock, SharingRules())


def serial_of(credentials: tuple[str, str] | None) -> str:
    """Return the serial number of a certificate."""
    assert credentials is not None
    return f"{x509.load_pem_x509_certificate(credentials[0].encode()).serial_number:x}"


async def test_the_record_is_changed_before_anything_is_ended(rig: Rig, shares: Shares, routes: Routes):
    """When the proxies hear of a later epoch, nobody gets a ticket of it by what is withdrawn."""
    name = await rig.bring_up()
    await shares.give(ALICE, name, "user:bob", Right.VIEW)
    link, _ = await shares.make_link(ALICE, name, 60, "")
    assert routes.raised == []

    await shares.withdraw(ALICE, name, "user:bob")
    await shares.withdraw_link(ALICE, name, link.id)

    assert [(epoch, len(c.shares), len(c.links)) for epoch, c in routes.raised] == [(1, 0, 1), (2, 0, 0)]


async def test_a_withdrawal_that_failed_half_way_is_finished_by_the_next_try(rig: Rig, shares: Shares, routes: Routes):
    """The record says so already; what is open is ended nevertheless, and the epoch is not counted twice."""
    name = await rig.bring_up()
    await shares.give(ALICE, name, "user:bob", Right.VIEW)
    routes.broken = True
    with pytest.raises(ConnectionError):
        await shares.withdraw(ALICE, name, "user:bob")
    routes.broken = False
    await shares.withdraw(ALICE, name, "user:bob")
    assert [epoch for epoch, _ in routes.raised] == [1]


async def test_to_give_ends_nothing(rig: Rig, shares: Shares, routes: Routes):
    """Neither does another right, nor a link: other viewers are not disturbed."""
    name = await rig.bring_up()
    for right in (Right.USE, Right.VIEW):
        await shares.give(ALICE, name, "user:bob", right)
    await shares.make_link(ALICE, name, 60, "")
    assert (rig.cluster(name).share_epoch, routes.raised) == (0, [])


# -- leaves ----------------------------------------------------------------------------------------------------------


async def test_each_user_has_a_leaf_of_their_own(rig: Rig, shares: Shares):
    """Also those who come by the same group; each gets the same one again; the owner has none on record."""
    name = await rig.bring_up()
    await shares.give(ALICE, name, "group:physics", Right.USE)
    bobs, carols = [serial_of(await rig.clusters.client_credentials(who, name)) for who in (BOB, CAROL)]
    assert bobs != carols
    assert serial_of(await rig.clusters.client_credentials(BOB, name)) == bobs
    await rig.clusters.client_credentials(ALICE, name)
    assert [(leaf.user, leaf.serial) for leaf in rig.cluster(name).leaves] == [("bob", bobs), ("carol", carols)]


async def test_a_withdrawn_leaf_never_comes_back(rig: Rig, shares: Shares):
    """Shared again, its user gets another one; with it withdrawn too, both are refused."""
    name = await rig.bring_up()
    serials = []
    for _ in range(2):
        await shares.give(ALICE, name, "user:bob", Right.USE)
        serials.append(serial_of(await rig.clusters.client_credentials(BOB, name)))
        await shares.withdraw(ALICE, name, "user:bob")
        with pytest.raises(NotVisible):
            await rig.clusters.client_credentials(BOB, name)
    assert len(set(serials)) == 2
    assert [(leaf.serial, leaf.withdrawn) for leaf in rig.cluster(name).leaves] == [(s, True) for s in serials]


async def test_to_view_instead_of_to_use_withdraws_the_leaf(rig: Rig, shares: Shares):
    """The share stays, the certificate does not."""
    name = await rig.bring_up()
    await shares.give(ALICE, name, "user:bob", Right.USE)
    await rig.clusters.client_credentials(BOB, name)
    await shares.give(ALICE, name, "user:bob", Right.VIEW)
    assert [leaf.withdrawn for leaf in rig.cluster(name).leaves] == [True]
    with pytest.raises(NotAllowed, match="to view only"):
        await rig.clusters.client_credentials(BOB, name)


async def test_a_leaf_stands_on_every_share_that_gives_it(rig: Rig, shares: Shares):
    """Withdrawing one of two cuts nobody. What they stand on follows the groups that somebody is in when they ask:
    who has left a group no longer stands on its share.
    """
    name = await rig.bring_up()
    for grantee in ("user:bob", "group:physics"):
        await shares.give(ALICE, name, grantee, Right.USE)
    first = serial_of(await rig.clusters.client_credentials(BOB, name))
    await shares.withdraw(ALICE, name, "user:bob")
    assert serial_of(await rig.clusters.client_credentials(BOB, name)) == first
    await shares.give(ALICE, name, "user:bob", Right.USE)
    assert serial_of(await rig.clusters.client_credentials(Principal("bob"), name)) == first

    await shares.withdraw(ALICE, name, "user:bob")

    assert [leaf.withdrawn for leaf in rig.cluster(name).leaves] == [True]


async def test_a_share_that_is_withdrawn_meanwhile_gives_no_leaf(rig: Rig, shares: Shares):
    """Between the look and the record: the record decides."""
    name = await rig.bring_up()
    await shares.give(ALICE, name, "user:bob", Right.USE)
    entry = await rig.clusters.entry(BOB, name)
    await shares.withdraw(ALICE, name, "user:bob")
    with pytest.raises(NotAllowed):
        await rig.clusters._leaves.pair(BOB, entry.cluster)
    assert rig.cluster(name).leaves == ()


async def test_clusters_of_an_older_gateway_are_shared_to_view_only(rig: Rig, shares: Shares):
    """Their scheduler cannot tell one client from another; the refusal says what to do."""
    name = await rig.bring_up()
    rig.tables.credentials[name] = replace(rig.tables.credentials[name], clients_ca_cert="", clients_ca_key="")
    with pytest.raises(Conflict, match="older version"):
        await shares.give(ALICE, name, "user:bob", Right.USE)
    await shares.give(ALICE, name, "user:bob", Right.VIEW)


async def test_an_ended_cluster_hands_out_nothing(rig: Rig, shares: Shares):
    """Its credentials ended with it, those of grantees too."""
    name = await rig.bring_up()
    await shares.give(ALICE, name, "user:bob", Right.USE)
    await rig.clusters.client_credentials(BOB, name)
    await rig.clusters.stop(ALICE, name)
    await rig.turn(name, times=3)
    assert rig.cluster(name).state.ended
    assert await rig.clusters.client_credentials(BOB, name) is None
    assert rig.tables.client_pairs == {}


async def test_there_is_an_end_to_leaves_and_links(rig: Rig, shares: Shares):
    """Who gives and withdraws for ever fills no scheduler's memory; what has expired does not count."""
    bob = Grantee.parse("user:bob")
    leaves = tuple(ClientLeaf(f"{n:x}", "bob", (bob,), withdrawn=True) for n in range(LEAVES_LIMIT))
    name = await rig.bring_up()
    await rig.records.change(name, lambda c: (replace(c, leaves=leaves), ()))
    await shares.give(ALICE, name, "user:bob", Right.USE)
    with pytest.raises(Conflict, match="as many as there may be"):
        await rig.clusters.client_credentials(BOB, name)

    for _ in range(LINKS_LIMIT):
        await shares.make_link(ALICE, name, 60, "")
    with pytest.raises(Conflict, match="Withdraw one first"):
        await shares.make_link(ALICE, name, 60, "")
    rig.clock.advance(61)
    await shares.make_link(ALICE, name, 60, "")


async def test_who_really_did_it_is_on_record(rig: Rig, shares: Shares):
    """An administrator on behalf of the owner is named, in the share, the link and the events."""
    name = await rig.bring_up()
    acting = Principal("alice", actor="root")
    share = await shares.give(acting, name, "user:bob", Right.VIEW)
    link, _ = await shares.make_link(acting, name, 60, "")
    await shares.withdraw(acting, name, "user:bob")
    await shares.withdraw_link(acting, name, link.id)
    both = "root, on behalf of alice"
    assert (share.created_by, link.created_by) == (both, both)
    told = [e.event for e in rig.tables.events if "by" in e.event.data]
    assert [event.data["by"] for event in told] == [both] * 4
    assert {event.message.partition(" (")[2] for event in told} == {f"administrator {both})"}


async def test_nothing_of_a_link_is_stored_that_opens_it(rig: Rig, shares: Shares):
    """Neither in the record nor in its events, and no representation shows it."""
    name = await rig.bring_up()
    _, text = await shares.make_link(ALICE, name, 60, "")
    opened = await shares.open_link(text)
    signature = text.rpartition(".")[2]
    key = rig.tables.credentials[name].ticket_key
    for shown in (repr(rig.cluster(name)), repr(rig.tables.events), repr(opened)):
        assert signature not in shown
        assert key not in shown


async def test_a_link_of_another_cluster_opens_nothing(rig: Rig, shares: Shares):
    """Even one with the same id and end, in the record of a cluster that has the same key."""
    name = await rig.bring_up()
    link, text = await shares.make_link(ALICE, name, 60, "")
    credentials = replace(make_credentials(), ticket_key=rig.tables.credentials[name].ticket_key)
    await rig.store.insert(replace(make_cluster(), links=(link,)), credentials, [])
    assert (await shares.open_link(text)).cluster.name == name
