"""Who may call what: every route of the application, by every kind of caller, with every kind of credential."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.routing import Route

from tests.in_process import gateway_in_process
from tests.security.access_matrix import COLUMNS, ROWS, Row
from tests.security.callers import LINK_SECONDS, ROSTER, Answer, Caller, House
from tidegate.api.access import RULES, GuardedRoute, anyone
from tidegate.authn.tokens import mint_token
from tidegate.model.cluster import ClusterState
from tidegate.model.principal import Principal

ABSENT = {"name": "0123456789abcdef", "id": "0123456789abcdef"}
"""Names of what never was, as long as those that are."""

FIXED = {
    "where:path": "status",
    "file": "console.css",
    "method": "oidc",
    "grantee:path": "user:vera",
    "resource": "cores",
    "subject:path": "user:vera",
}

HARMLESS = ("unknown", "stranger", "reader", "foreign", "pageless")
"""Columns of those who must not change a thing of somebody else, or with such a credential."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway and everybody who calls it."""
    async with gateway_in_process(tmp_path, roster=ROSTER) as gateway:
        yield await House.open(gateway)


async def present(house: House, row: Row) -> dict[str, str]:
    """Make what the path of a row names; return the names."""
    names = dict(FIXED)
    if "{name}" in row.path or "{name}" in row.body:
        names["name"] = (await house.cluster()).name
    if "/links/{id}" in row.path or "{link}" in row.path:
        link, names["link"] = await house.link(names.get("name") or (await house.cluster()).name)
        names["id"] = link.id
    elif "{id}" in row.path:
        spare, _ = await mint_token(house.gateway.store, Principal("alice"), "spare", now=house.gateway.clock.now)
        names["id"] = spare.id
    return names


LAST = ("/console/behalf", "/console/behalf/end", "/logout")
"""What ends sessions is asked for last."""


def expect(row: Row, caller: Caller) -> int:
    """Return the status that the matrix says, where it does not depend on how somebody proves who they are.

    The proxy asks about what programs show, so there no session counts; on whose behalf one acts in the console is said
    in a session, and whoever has none is told so.
    """
    in_session = "cookie" in caller.headers
    if row.path.startswith("/internal") and in_session:
        return 401
    if row.path == "/console/behalf" and caller.column == "admin" and not in_session:
        return 409
    return row.statuses[caller.column]


def test_every_route_has_a_row(house: House) -> None:
    """A new route must say who may call it; a row without a route is gone, and none stands twice."""
    found = set()
    for route in house.gateway.app.routes:
        assert isinstance(route, GuardedRoute), f"{route} has no rule of access"
        assert isinstance(route, Route)
        found |= {(method, route.path) for method in route.methods or ()}

    assert sorted(found) == sorted({row.route for row in ROWS})
    assert len({(row.method, row.path) for row in ROWS}) == len(ROWS)


async def test_everybody_gets_the_status_of_their_column(house: House) -> None:
    """By token, password and session, from our pages and from foreign ones; and nobody changes what they may not."""
    assert {caller.column for caller in house.callers} == set(COLUMNS)
    surprises = []
    for row in sorted(ROWS, key=lambda row: LAST.index(row.path) if row.path in LAST else -1):
        names: dict[str, str] = {}
        for caller in house.callers:
            expected = expect(row, caller)
            names = names or await present(house, row)
            before = await house.gateway.store.load(names["name"]) if "name" in names else None
            answer = await house.call(row, caller, names)
            if answer[0] != expected:
                told = answer[1][-200:]
                surprises.append(f"{row.method} {row.path}, {caller}: {answer[0]}, not {expected}: {told!r}")
            if (caller.column in HARMLESS or expected >= 400) and before is not None:
                assert await house.gateway.store.load(names["name"]) == before, (row, caller)
            elif not row.only_shows:
                names = {}

    assert not surprises, "\n".join(surprises)


async def test_foreign_is_told_in_the_same_bytes_as_absent(house: House) -> None:
    """A stranger cannot tell a cluster or a token of alice's from one that never was, of whatever length."""
    strangers = [caller for caller in house.callers if caller.column == "stranger"]
    for row in ROWS:
        if not {"name", "id"} & set(row.variables):
            continue
        names = await present(house, row)
        for caller in strangers:
            theirs = await house.call(row, caller, names)
            for absent in (ABSENT, {"name": "x", "id": "x" * 300}):
                if "v1" in row.path:  # which repeats the name that it was asked for, as dask-gateway does
                    absent = {"name": "x" * len(names["name"])}
                    theirs = (theirs[0], theirs[1].replace(names["name"].encode(), absent["name"].encode()))
                missing = await house.call(row, caller, {**names, **absent})
                assert theirs == missing, (row, caller, absent)


async def test_all_who_are_unknown_get_the_same_bytes(house: House) -> None:
    """What is wrong with a credential is not told, nor whether what it asked for exists."""
    unknown = [caller for caller in house.callers if caller.column == "unknown"]
    for row in ROWS:
        if row.statuses["unknown"] not in (401, 303) or row.path in ("/login", "/logout"):
            continue  # open to all
        names = await present(house, row)
        answers = {await house.call(row, caller, names) for caller in unknown}
        if row.statuses["unknown"] == 401:
            answers |= {await house.call(row, caller, {**names, **ABSENT}) for caller in unknown}
        assert len(answers) == 1, (row, answers)


async def test_lists_and_pages_of_others_name_nothing(house: House) -> None:
    """Whoever may not see a cluster finds its name nowhere, whichever route they ask."""
    cluster = await house.cluster()
    blind = [caller for caller in house.callers if caller.column in ("unknown", "stranger")]
    for row in ROWS:
        if "{name}" not in row.path:
            for caller in blind:
                told = await house.call(row, caller, {**FIXED, "link": "x" * 80})
                assert cluster.name.encode() not in told[1], (row, caller)


async def test_links_that_open_nothing(house: House) -> None:
    """One that was withdrawn, has expired or was changed, and one to a cluster that has ended, say what nonsense says.

    Whoever asks, and to the byte.
    """
    (row,) = [row for row in ROWS if row.route == ("GET", "/shared/{link}")]
    names = [(await house.cluster()).name for _ in range(4)]
    links = [await house.link(name) for name in names]
    texts = [text for _, text in links]
    alice = Principal("alice")
    await house.gateway.services.shares.withdraw_link(alice, names[0], links[0][0].id)
    await house.gateway.services.clusters.stop(alice, names[1])
    await house.gateway.change(names[1], state=ClusterState.STOPPED, stopped_at=house.gateway.clock.now)
    texts[2] = texts[2][:-1] + ("A" if texts[2][-1] != "A" else "B")
    for caller in (house.callers[0], *(caller for caller in house.callers if caller.column in ("owner", "view"))):
        assert (await house.call(row, caller, {"link": texts[3]}))[0] == 302
    house.gateway.clock.now += LINK_SECONDS
    for caller in (house.callers[0], *(caller for caller in house.callers if caller.column in ("owner", "view"))):
        answers = {await house.call(row, caller, {"link": text}) for text in (*texts, "x", "x" * len(texts[0]))}
        assert {status for status, _ in answers} == {404}
        assert len(answers) == 1


async def test_no_answer_but_the_two_holds_a_secret(house: House) -> None:
    """Of all that the owner can read, only what is asked for in order to connect shows the client's key."""
    cluster = await house.cluster()
    credentials = await house.gateway.store.credentials(cluster.name)
    parts = {name: getattr(credentials, name) for name in credentials.__slots__}
    secrets = [value for name, value in parts.items() if value and name.endswith(("key", "token", "secret"))]
    assert secrets
    owner = next(caller for caller in house.callers if caller.column == "owner")
    telling = set()
    for row in ROWS:
        if row.only_shows:
            answer: Answer = await house.call(row, owner, {**FIXED, "name": cluster.name, "link": "x"})
            told = answer[1].decode().replace("\\n", "\n")
            telling |= {row.path for secret in secrets if secret in told}
            assert credentials.ca_key not in told

    assert telling == {"/api/v1/clusters/{name}", "/api/v2/clusters/{name}/credentials"}


def test_a_route_without_a_rule_cannot_be_made() -> None:
    """Neither forgetting the rule nor inventing one works."""

    async def handler() -> None: ...

    with pytest.raises(TypeError):
        GuardedRoute("GET", "/x", None, handler)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        GuardedRoute("GET", "/x", lambda request: anyone(request), handler)
    assert GuardedRoute("GET", "/x", RULES[0], handler).rule is anyone
