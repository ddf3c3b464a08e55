"""Whoever is wrong too often has to wait: at every door, in the words of its protocol, and nobody else."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from tests.in_process import Clock, Gateway, gateway_in_process
from tidegate.authn.limits import Allowance, LoginLimits
from tidegate.authn.passwords import PasswordAuthenticator
from tidegate.authn.users import User, UserFile, hash_password

WHOAMI = "/api/v2/whoami"
PASSWORD = "correct horse"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
ME, ELSEWHERE = "192.0.2.7", "198.51.100.9"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that knows alice by her password; three wrong ones, and then ten logins from an address."""
    with UserFile(tmp_path / "users").changing() as users:
        users["alice"] = User("alice", hash_password(PASSWORD, QUICK))
    login = PasswordAuthenticator(tmp_path, hasher=QUICK)
    await login.start()
    limits = LoginLimits(Allowance(3, 60, 10), lambda address: not address, Clock())
    async with gateway_in_process(tmp_path, {"passwords": login}, login_limits=limits) as gateway:
        yield gateway
    await login.close()


def basic(password: str, name: str = "alice", address: str = ME) -> dict[str, str]:
    """Return the headers of a program with a password."""
    pair = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}", "X-Forwarded-For": address}


async def be_wrong(gateway: Gateway, address: str = ME) -> None:
    """Use up what is allowed for alice."""
    for number in range(3):
        reply = await gateway.client(**basic(f"guess {number}", address=address)).get(WHOAMI)
        assert reply.status_code == 401


async def test_our_client_is_told_when_to_come_back(gateway: Gateway) -> None:
    """With 429, a code for programs, and words for people."""
    await be_wrong(gateway)

    reply = await gateway.client(**basic(PASSWORD)).get(WHOAMI)

    assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
    assert reply.json()["error"]["code"] == "too-many-attempts"
    assert reply.json()["error"]["message"] == (
        "cannot check this login: there were too many wrong passwords for this name from your address. Try again in "
        "5 seconds"
    )


async def test_the_official_client_shows_the_words(gateway: Gateway) -> None:
    """It keeps those of a 500, and drops those of a 429."""
    await be_wrong(gateway)

    reply = await gateway.client(**basic(PASSWORD)).get("/api/v1/clusters/")

    assert (reply.status_code, reply.headers["retry-after"]) == (500, "5")
    assert reply.json()["error"].startswith("cannot check this login: there were too many wrong passwords")


async def test_a_flood_from_elsewhere_locks_nobody_out(gateway: Gateway) -> None:
    """Alice's own address is another one; and at the attacker's her token goes on."""
    await be_wrong(gateway, ELSEWHERE)
    assert (await gateway.client(**basic(PASSWORD, address=ELSEWHERE)).get(WHOAMI)).status_code == 429

    assert (await gateway.client(**basic(PASSWORD)).get(WHOAMI)).status_code == 200
    token = gateway.tokens["alice"]
    assert (await gateway.client(**basic(token, address=ELSEWHERE)).get(WHOAMI)).status_code == 200


async def test_the_form_and_the_header_are_one_door(gateway: Gateway) -> None:
    """Who has used up the one does not go on at the other; the page says when to come back, and shows the form."""
    await be_wrong(gateway)

    reply = await gateway.browser(**{"X-Forwarded-For": ME}).post(
        "/login", data={"username": "alice", "password": PASSWORD}
    )

    assert (reply.status_code, reply.headers["retry-after"]) == (429, "5")
    assert "Try again in 5 seconds" in reply.text
    assert 'name="password"' in reply.text
    other = gateway.browser(**{"X-Forwarded-For": ELSEWHERE})
    assert (await other.post("/login", data={"username": "alice", "password": PASSWORD})).status_code == 303


async def test_every_other_door_counts_for_the_address(gateway: Gateway) -> None:
    """Tokens, one-time links, the token form, and what a proxy asks for somebody."""
    cluster = await gateway.create("alice")
    here = {"X-Forwarded-For": ME}
    browser = gateway.browser(**here)
    for number in range(2):
        wrong = {"Authorization": f"Bearer wrong {number}"}
        asked = {"cluster": cluster.name, "client": ME}
        assert (await gateway.client(**here, **wrong).get(WHOAMI)).status_code == 401
        assert (await browser.get(f"/login?code=lost{number}")).status_code == 401
        assert (await browser.get(f"/login?code=wrong{number}")).status_code == 401
        assert (await browser.post("/login", data={"token": f"nonsense {number}"})).status_code == 401
        program = gateway.client(Authorization=f"Bearer mistaken {number}")
        assert (await program.post("/internal/dashboard-access", json=asked)).status_code == 401

    for reply in (
        await gateway.client(**here, Authorization="Bearer another").get(WHOAMI),
        await browser.get("/login?code=another"),
        await browser.post("/login", data={"token": "another"}),
        await gateway.client(Authorization="Bearer another").post(
            "/internal/dashboard-access", json={"cluster": cluster.name, "client": ME}
        ),
    ):
        assert reply.status_code == 429, reply.text
    assert (await gateway.client("alice").get(WHOAMI)).status_code == 200


async def test_agents_do_not_wait_for_what_their_neighbours_try(gateway: Gateway) -> None:
    """All clusters of a host have one address, and each runs its owner's code."""
    cluster = await gateway.create("alice")
    door = f"/api/agent/v1/clusters/{cluster.name}/wanted"
    for number in range(30):
        wrong = gateway.client(**{"X-Forwarded-For": ME}, Authorization=f"token wrong {number}")
        assert (await wrong.get(door)).status_code == 401

    assert (await gateway.client(**basic(PASSWORD)).get(WHOAMI)).status_code == 200


async def test_who_asks_without_a_credential_is_never_counted(gateway: Gateway) -> None:
    """The official client begins each request without one."""
    for _ in range(30):
        assert (await gateway.client(**{"X-Forwarded-For": ME}).get(WHOAMI)).status_code == 401

    assert (await gateway.client(**basic(PASSWORD)).get(WHOAMI)).status_code == 200


async def test_many_right_logins_at_once_are_no_guesses(gateway: Gateway) -> None:
    """A notebook that was just opened sends a dozen requests together."""
    replies = await asyncio.gather(*(gateway.client(**basic(PASSWORD)).get(WHOAMI) for _ in range(30)))

    assert {reply.status_code for reply in replies} == {200}


async def test_a_thousand_guesses_at_once_are_not_judged(gateway: Gateway) -> None:
    """Only as many as are allowed one after the other."""
    guesses = (gateway.client(**basic(f"guess {number}")).get(WHOAMI) for number in range(50))
    replies = await asyncio.gather(*guesses)

    assert sorted(reply.status_code for reply in replies) == [401] * 3 + [429] * 47


async def test_words_for_everybody_else_stay(gateway: Gateway) -> None:
    """A user who is not there is refused in the same words and after as many guesses."""
    replies = [await gateway.client(**basic(f"{n}", "nobody")).get(WHOAMI) for n in range(4)]
    known = [await gateway.client(**basic(f"{n}")).get(WHOAMI) for n in range(4)]

    assert [reply.text for reply in replies] == [reply.text for reply in known]
