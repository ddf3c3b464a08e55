"""Limits by both protocols: what is refused, what is cut, what one reads, and what administrators set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.model.amounts import Resource
from tidegate.model.audit import Deed, Outcome, Wanted
from tidegate.model.limits import Rule, Rules, Subject
from tidegate.model.principal import Principal

RULES = Rules(
    [
        Rule(Subject.parse("each:students"), Resource.CLUSTERS, 2),
        Rule(Subject.parse("each:students"), Resource.CORES, 8),
        Rule(Subject.parse("cluster"), Resource.WORKERS, 6),
    ]
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that root administers, where alice is a student."""
    roster = Roster(admins=["root"], groups={"students": ["alice"]})
    async with gateway_in_process(tmp_path, roster=roster, rules=RULES) as gateway:
        _, gateway.tokens["root"] = await mint_token(gateway.store, Principal("root"), "root", now=gateway.clock.now)
        yield gateway


async def create(gateway: Gateway, version: str, **options: Any) -> Any:
    """Ask for a cluster of alice's."""
    client = gateway.client("alice")
    if version == "v1":
        return await client.post("/api/v1/clusters/", json={"cluster_options": options})
    return await client.post("/api/v2/clusters", json={"options": options})


async def running(gateway: Gateway, **options: Any) -> str:
    """Return the name of a cluster of alice's that runs."""
    name = (await create(gateway, "v2", **options)).json()["name"]
    await gateway.become_running(name)
    return str(name)


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_refusal_names_limit_and_use(gateway: Gateway, version: str) -> None:
    """Under a status whose words both clients show; and it is on record as refused."""
    for _ in range(2):
        assert (await create(gateway, version)).status_code == 201
    refused = await create(gateway, version)

    words = (
        "cannot create a cluster: the limit is 2 clusters for each member of the group students, of which 2 are in "
        "use. Stop what is no longer needed, or ask the administrator of this gateway for more"
    )
    assert refused.status_code == 409
    error = refused.json()["error"]
    assert (error if version == "v1" else error["message"]) == words
    assert version == "v1" or error["code"] == "limit-reached"
    await gateway.services.audit.flush()
    (entry,) = await gateway.store.find_audit(Wanted(deed=Deed.CLUSTER_CREATE, outcome=Outcome.REFUSED))
    assert (entry.entry.principal, entry.entry.code) == ("alice", "limit-reached")


async def test_a_size_beyond_a_limit_is_cut_with_a_warning(gateway: Gateway) -> None:
    """Version 1's answer is not ok, and its words are dask-gateway's with the limit behind them; ours says the same."""
    name = await running(gateway, worker_cores=2)
    client = gateway.client("alice")

    v1 = (await client.post(f"/api/v1/clusters/{name}/scale", json={"count": 5})).json()
    v2 = (await client.patch(f"/api/v2/clusters/{name}", json={"workers": 5})).json()

    assert v1 == {
        "ok": False,
        "msg": "Scale request of 5 workers would exceed resource limit of 4 workers. Scaling to 4 instead. "
        "(the limit is 8 cores for each member of the group students, of which 0 are in use)",
    }
    assert v2["workers"]["wanted"] == 4
    assert v2["note"].endswith("of which 8 are in use)")
    adapted = (await client.post(f"/api/v1/clusters/{name}/adapt", json={"minimum": 1, "maximum": 9})).json()
    words = "Adapt with `maximum=9, minimum=1` workers would exceed resource limit of 4 workers."
    assert adapted["msg"].startswith(words)


async def test_workers_to_begin_with_are_cut_as_well(gateway: Gateway) -> None:
    """The first event of the cluster says it."""
    await running(gateway, worker_cores=7)
    reply = (await create(gateway, "v2", worker_cores=2)).json()

    assert (reply["max_workers"], reply["max_workers_reason"]) == (
        6,
        "6 workers for one cluster, set by the administrator of this gateway",
    )


async def test_one_reads_ones_limits(gateway: Gateway) -> None:
    """With what is in use, for programs and in words."""
    await running(gateway)

    told = (await gateway.client("alice").get("/api/v2/limits")).json()["limits"]

    assert [limit["resource"] for limit in told] == ["clusters", "workers", "cores", "memory", "gpus"]
    assert told[0] == {
        "scope": "user:alice",
        "resource": "clusters",
        "used": 1,
        "amount": 2,
        "source": "each:students",
        "words": "2 clusters for each member of the group students, of which 1 is in use",
    }
    assert (told[1]["amount"], told[1]["source"]) == (None, None)


async def test_an_administrator_sets_and_takes_away(gateway: Gateway) -> None:
    """It counts at once, is told with who and when, and both are on record."""
    root = gateway.client("root")
    name = await running(gateway)

    put = await root.put("/api/v2/limits/memory/user:alice", json={"amount": "1 GiB"})
    assert put.json() == {
        "subject": "user:alice",
        "resource": "memory",
        "amount": 2**30,
        "configured": None,
        "set_by": "root",
        "set_at": gateway.clock.now,
        "words": "1 GiB of memory for alice",
    }
    cut = (await gateway.client("alice").patch(f"/api/v2/clusters/{name}", json={"workers": 6})).json()
    assert "1 GiB of memory for alice" in cut["note"]
    rules = (await root.get("/api/v2/limits/rules")).json()["rules"]
    assert [(rule["subject"], rule["set_by"]) for rule in rules][1:] == [
        ("user:alice", "root"),
        ("each:students", None),
        ("each:students", None),
    ]
    assert (await root.get("/api/v2/limits?user=alice")).json()["limits"][3]["amount"] == 2**30
    assert (await root.delete("/api/v2/limits/memory/user:alice")).status_code == 204
    assert await gateway.store.rules() == []

    log = [found.entry for found in await gateway.store.find_audit(Wanted(user="root"))]
    assert [(entry.deed, entry.detail) for entry in log[::-1]] == [
        (Deed.LIMIT_SET, "memory for user:alice: 1 GiB"),
        (Deed.LIMIT_UNSET, "memory for user:alice"),
    ]


async def test_names_with_slashes_are_limited_too(gateway: Gateway) -> None:
    """As groups of directories have them."""
    root = gateway.client("root")

    put = await root.put("/api/v2/limits/cores/group:physics%2Fice%20cores", json={"amount": 5})

    assert put.json()["subject"] == "group:physics/ice cores"


@pytest.mark.parametrize(
    ("place", "amount", "field"),
    [("cores/nobody", 5, "subject"), ("coffee/user", 5, "resource"), ("cores/user", -1, "amount")],
)
async def test_what_makes_no_sense_is_named(gateway: Gateway, place: str, amount: object, field: str) -> None:
    """Which part of it."""
    refused = await gateway.client("root").put(f"/api/v2/limits/{place}", json={"amount": amount})

    assert (refused.status_code, refused.json()["error"]["field"]) == (422, field)


async def test_who_waits_is_told_where(tmp_path: Path) -> None:
    """Where the administrator has it so: made all the same, with a place and the limit, by both protocols."""
    rules = Rules([Rule(Subject.parse("user"), Resource.CLUSTERS, 1)], waits=True)
    async with gateway_in_process(tmp_path, rules=rules) as gateway:
        first, waiting = [(await create(gateway, "v2")).json() for _ in range(2)]

        reason = "the limit is 1 cluster for each user, of which 1 is in use"
        assert first["waiting"] is None
        assert waiting["waiting"] == {"since": gateway.clock.now, "place": 0, "reason": reason}
        assert (waiting["state"], waiting["notes"]) == ("requested", [f"It waits for room: {reason}"])
        name = waiting["name"]
        assert (await gateway.client("alice").get(f"/api/v1/clusters/{name}")).json()["status"] == "PENDING"
        (event,) = await gateway.store.last_events(name, 1)
        assert reason in event.event.message
        alice, record = gateway.client("alice"), await gateway.store.load(name)
        for place in (1, 2):  # another one comes before it: all who read it see that, and nothing is written
            assert record is not None
            others = [replace(record, name=str(number)) for number in range(1, place)]
            gateway.records.number([*others, record])
            whole = (await alice.get(f"/api/v2/clusters/{name}")).json()
            brief = (await alice.get("/api/v2/clusters")).json()["clusters"]
            for body in (whole, *(each for each in brief if each["name"] == name)):
                assert body["waiting"]["place"] == place
                assert body["notes"] == [f"It waits for room as number {place} in line: {reason}"]
            assert await gateway.store.load(name) == record
        assert (await gateway.client("alice").delete(f"/api/v2/clusters/{name}")).json()["waiting"] is None
