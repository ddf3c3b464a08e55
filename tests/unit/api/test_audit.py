"""``GET /api/v2/audit``: reading the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import NOW, Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.model.audit import Deed, Entry, Outcome
from tidegate.model.principal import Principal

PATH = "/api/v2/audit"

STOP = Entry(
    NOW,
    Deed.CLUSTER_STOP,
    Outcome.DONE,
    principal="bob",
    actor="root",
    method="session",
    cluster="c1",
    address="192.0.2.7",
)
REFUSED = Entry(NOW + 1, Deed.READ, Outcome.REFUSED, "not-found", principal="eve", method="token", times=3)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with an administrator and two entries."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=["root"])) as gateway:
        _, gateway.tokens["root"] = await mint_token(gateway.store, Principal("root"), "test", now=gateway.clock.now)
        await gateway.store.add_audit([STOP, REFUSED])
        yield gateway


async def read(gateway: Gateway, **query: Any) -> dict[str, Any]:
    """Return what root reads."""
    reply = await gateway.client("root").get(PATH, params=query)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


async def test_an_administrator_reads_it_newest_first(gateway: Gateway) -> None:
    """Every fact of an entry; reading it is not told in it."""
    body = await read(gateway)

    assert body["next_before"] is None
    assert body["entries"] == [
        {
            "id": 2,
            "at": NOW + 1,
            "action": "read",
            "outcome": "refused",
            "code": "not-found",
            "user": "eve",
            "actor": "",
            "method": "token",
            "token": "",
            "cluster": "",
            "detail": "",
            "address": "",
            "times": 3,
        },
        {
            "id": 1,
            "at": NOW,
            "action": "cluster.stop",
            "outcome": "done",
            "code": "",
            "user": "bob",
            "actor": "root",
            "method": "session",
            "token": "",
            "cluster": "c1",
            "detail": "",
            "address": "192.0.2.7",
            "times": 1,
        },
    ]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({"user": "root"}, [1]),
        ({"user": "eve"}, [2]),
        ({"cluster": "c1"}, [1]),
        ({"action": "read"}, [2]),
        ({"outcome": "done"}, [1]),
        ({"since": NOW + 0.5}, [2]),
        ({"user": "eve", "outcome": "done"}, []),
        ({"after": 1}, [2]),
        ({"before": 2}, [1]),
    ],
)
async def test_what_is_asked_for_is_shown(gateway: Gateway, query: dict[str, Any], ids: list[int]) -> None:
    """By the same words as on the command line and in the console."""
    assert [entry["id"] for entry in (await read(gateway, **query))["entries"]] == ids


@pytest.mark.parametrize(
    "query", [{"action": "tea"}, {"outcome": "well"}, {"limit": 0}, {"limit": 1001}, {"before": -1}, {"since": "nan"}]
)
async def test_what_makes_no_sense_is_refused(gateway: Gateway, query: dict[str, Any]) -> None:
    """And not taken for no filter at all, which would show other entries than were asked for."""
    reply = await gateway.client("root").get(PATH, params=query)

    assert (reply.status_code, reply.json()["error"]["field"]) == (422, next(iter(query)))


async def test_it_is_read_in_pages(gateway: Gateway) -> None:
    """``next_before`` leads from page to page, to the end and no further."""
    await gateway.store.add_audit([replace(STOP, detail=str(n)) for n in range(5)])
    seen, before = [], None
    while True:
        page = await read(gateway, limit=3, **({} if before is None else {"before": before}))
        seen += [entry["id"] for entry in page["entries"]]
        before = page["next_before"]
        if before is None:
            break

    assert seen == [7, 6, 5, 4, 3, 2, 1]


async def test_to_others_it_is_not_there(gateway: Gateway) -> None:
    """The same bytes as from a path that never was, and nothing that could be filtered by tells anything."""
    nothing = await gateway.client("alice").get("/api/v2/nothing")

    for query in ("", "?user=alice", "?before=1"):
        reply = await gateway.client("alice").get(PATH + query)
        assert (reply.status_code, reply.content) == (nothing.status_code, nothing.content)
