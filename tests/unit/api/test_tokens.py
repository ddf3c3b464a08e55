"""Personal tokens over the API: what one makes of them, and what a token may not become."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import DAY, Gateway, gateway_in_process
from tests.support import eventually
from tidegate.authn.personal import MOST
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import SECRET, mint_token
from tidegate.model.errors import NotAllowed
from tidegate.model.principal import Principal, Scope

TOKENS = "/api/v2/tokens"


async def make(gateway: Gateway, by: str = "alice", **body: Any) -> dict[str, Any]:
    """Make a token with the one of ``by``, and remember its secret under its label."""
    answer = await gateway.client(by).post(TOKENS, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    gateway.tokens[made["label"]] = made["secret"]
    return made


async def refusal(gateway: Gateway, by: str, **body: Any) -> tuple[int, str]:
    """Return status and sentence of a token that is not made."""
    answer = await gateway.client(by).post(TOKENS, json=body)
    return answer.status_code, answer.json()["error"]["message"]


async def whoami(gateway: Gateway, by: str) -> dict[str, Any]:
    """Return who the gateway takes the bearer of a token for."""
    answer = await gateway.client(by).get("/api/v2/whoami")
    return {"status": answer.status_code, **answer.json()}


async def test_a_token_is_made_listed_and_revoked(gateway: Gateway) -> None:
    """Its secret is in the answer to its making and in no other; revoked, it is refused in that moment."""
    made = await make(gateway, label="report", days=7)

    assert SECRET.fullmatch(made["secret"])
    assert made["expires_at"] == gateway.clock.now + 7 * DAY
    assert (await whoami(gateway, "report"))["name"] == "alice"

    listed = await gateway.client("alice").get(TOKENS)
    assert {token["label"] for token in listed.json()["tokens"]} == {"report", "test"}
    assert "tdg_" not in listed.text

    assert (await gateway.client("alice").delete(f"{TOKENS}/{made['id']}")).status_code == 204
    assert (await whoami(gateway, "report"))["status"] == 401
    assert (await gateway.client("alice").delete(f"{TOKENS}/{made['id']}")).status_code == 404


async def test_the_last_use_is_told(gateway: Gateway) -> None:
    """To the day; of the one that it is asked with, it is now, and what was never used says so."""
    for label in ("used", "unused"):
        await make(gateway, label=label)
    used_at = gateway.clock.now
    await whoami(gateway, "used")
    writing = gateway.services.logins["tokens"]._noting
    await eventually(lambda: not writing)
    gateway.clock.now += 2 * DAY
    answer = await gateway.client("alice").get(TOKENS)

    told = {token["label"]: token["used_at"] for token in answer.json()["tokens"]}
    assert told == {"used": used_at, "unused": None, "test": gateway.clock.now}


async def test_a_token_expires(gateway: Gateway) -> None:
    """After the days that it was made for, or those of the configuration."""
    await make(gateway, label="short", days=1)
    await make(gateway, label="default")

    gateway.clock.now += 1 * DAY
    assert (await whoami(gateway, "short"))["status"] == 401
    assert (await whoami(gateway, "default"))["status"] == 200
    gateway.clock.now += 29 * DAY
    assert (await whoami(gateway, "default"))["status"] == 401


@pytest.mark.parametrize("days", [61, 1e5])
async def test_no_token_lives_longer_than_the_configuration_allows(gateway: Gateway, days: float) -> None:
    """The answer names both numbers."""
    status, words = await refusal(gateway, "alice", days=days)

    assert status == 422
    assert f"{days:g} days" in words
    assert "at most 60 days" in words


@pytest.mark.parametrize(
    "body",
    [{"days": 0}, {"days": -1}, {"scope": "all"}, {"label": "x" * 101}, {"label": "a\nb"}, {"label": "nib\u202egro"}],
)
async def test_what_makes_no_sense_is_refused(gateway: Gateway, body: dict[str, Any]) -> None:
    """By name of the field."""
    answer = await gateway.client("alice").post(TOKENS, json=body)

    assert answer.status_code == 422
    assert answer.json()["error"]["field"] in body


async def test_a_token_makes_none_that_lives_longer_than_itself(gateway: Gateway) -> None:
    """Else whoever found one would have found it for ever."""
    await make(gateway, label="week", days=7)

    status, words = await refusal(gateway, "week", days=8)
    child = await make(gateway, "week", label="child")

    assert status == 403
    assert "expires in 7 days" in words
    assert child["expires_at"] == gateway.clock.now + 7 * DAY


async def test_a_read_only_token_reads(gateway: Gateway) -> None:
    """Clusters, logs, events; it makes no tokens and gets no credentials."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    await make(gateway, label="eyes", scope="read-only")
    eyes = gateway.client("eyes")
    where = f"/api/v2/clusters/{cluster.name}"

    assert [(await eyes.get(path)).status_code for path in (where, f"{where}/logs", TOKENS)] == [200, 200, 200]
    refused = await eyes.get(f"{where}/credentials")
    assert refused.status_code == 403
    assert "read-only token" in refused.json()["error"]["message"]
    assert (await refusal(gateway, "eyes", scope="read-only"))[0] == 403
    # The protocol of dask-gateway shows what one connects with in the report itself.
    by_v1 = await eyes.get(f"/api/v1/clusters/{cluster.name}")
    assert by_v1.status_code == 409
    assert "PRIVATE KEY" not in by_v1.text


async def test_there_is_a_most(gateway: Gateway) -> None:
    """It is named; what has expired makes room."""
    for number in range(MOST - 1):
        await mint_token(gateway.store, Principal("alice"), str(number), now=0, expires_at=gateway.clock.now + DAY)

    status, words = await refusal(gateway, "alice")
    assert status == 409
    assert str(MOST) in words

    gateway.clock.now += DAY
    await make(gateway, label="new")
    assert len((await gateway.client("alice").get(TOKENS)).json()["tokens"]) == 2


async def test_nobody_touches_the_tokens_of_others(gateway: Gateway) -> None:
    """Mallory cannot tell a token of alice's from none, nor list them by her name."""
    made = await make(gateway, label="mine")
    mallory = gateway.client("mallory")

    theirs = await mallory.delete(f"{TOKENS}/{made['id']}")
    absent = await mallory.delete(f"{TOKENS}/nonsense")

    assert (theirs.status_code, theirs.content) == (404, absent.content)
    assert (await mallory.get(TOKENS, params={"user": "alice"})).status_code == 403
    assert (await mallory.delete(f"{TOKENS}/{made['id']}", params={"user": "alice"})).status_code == 403
    assert (await whoami(gateway, "mine"))["status"] == 200


# -- roles and groups --------------------------------------------------------------------------------------------------


@pytest.fixture
async def staffed(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway where alice and the group "operators" administer, and mallory is in the configured group "lab"."""
    roster = Roster(admins=("alice",), admin_groups=("operators",), groups={"lab": ("mallory",)})
    async with gateway_in_process(tmp_path, roster=roster) as gateway:
        yield gateway


async def test_no_role_and_no_configured_group_is_stored(staffed: Gateway) -> None:
    """Both are looked up when the token is used, so whoever loses them has lost them."""
    await make(staffed, "alice", label="hers")
    await make(staffed, "mallory", label="theirs")

    for user in ("alice", "mallory"):
        for token in await staffed.store.list_tokens(user):
            assert token.principal == Principal(user)
    assert (await whoami(staffed, "hers"))["admin"]
    assert (await whoami(staffed, "theirs"))["groups"] == ["lab"]


async def test_a_group_that_a_token_remembers_makes_no_administrator(staffed: Gateway) -> None:
    """An authenticator vouched for it once; nobody says that it still does."""
    remembered = Principal("bob", frozenset({"operators"}))
    _, staffed.tokens["bob"] = await mint_token(staffed.store, remembered, "old", now=staffed.clock.now)

    assert await whoami(staffed, "bob") == {
        "status": 200, "name": "bob", "groups": ["operators"], "admin": False, "method": "token",
    }  # fmt: skip


async def test_an_administrator_looks_after_the_tokens_of_others(staffed: Gateway) -> None:
    """Somebody leaves: their tokens are listed and revoked."""
    made = await make(staffed, "mallory", label="left over")
    alice = staffed.client("alice")

    listed = (await alice.get(TOKENS, params={"user": "mallory"})).json()["tokens"]
    gone = await alice.delete(f"{TOKENS}/{made['id']}", params={"user": "mallory"})

    assert {token["label"] for token in listed} == {"left over", "test"}
    assert gone.status_code == 204
    assert (await whoami(staffed, "left over"))["status"] == 401


# -- sessions that began with a token ----------------------------------------------------------------------------------


async def test_a_session_is_worth_what_its_token_is(gateway: Gateway) -> None:
    """Read-only stays read-only in the console, and a revoked token ends the sessions that it began."""
    made = await make(gateway, label="eyes", scope="read-only", days=1)
    browser = gateway.browser()
    logged_in = await browser.post("/login", data={"token": made["secret"]})
    assert logged_in.status_code == 303
    browser.cookies.update(logged_in.cookies)

    assert "alice (read only)" in (await browser.get("/")).text
    assert (await browser.post("/console/clusters")).status_code == 403
    assert (await browser.post("/console/tokens", data={"label": "x"})).status_code == 403

    await gateway.client("alice").delete(f"{TOKENS}/{made['id']}")
    assert (await browser.get("/")).status_code == 303


async def test_a_session_ends_with_its_token(gateway: Gateway) -> None:
    """Also before its own end."""
    soon = Principal("alice", scope=Scope.FULL, token="x", until=gateway.clock.now + 60)
    cookie = gateway.services.sessions.seal(soon)

    assert gateway.services.sessions.read(cookie) is not None
    gateway.clock.now += 60
    assert gateway.services.sessions.read(cookie) is None


@pytest.mark.parametrize("method", ["jupyterhub", "kerberos"])
async def test_what_another_service_vouches_for_makes_none_for_long(gateway: Gateway, method: str) -> None:
    """Whoever finds a notebook's token of the Hub has not found one for a year; who logs in there in person may."""
    program, person = Principal("alice", method=method), Principal("alice", method="session")
    create = gateway.services.tokens.create

    assert (await create(program, "a"))[0].expires_at == gateway.clock.now + 30 * DAY
    assert (await create(program, "b", days=30))[0].expires_at == gateway.clock.now + 30 * DAY
    with pytest.raises(NotAllowed, match=f"for 31 days with a credential of {method}: at most 30 days"):
        await create(program, "c", days=31)
    assert (await create(person, "d", days=60))[0].expires_at == gateway.clock.now + 60 * DAY
