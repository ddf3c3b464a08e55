"""Who leaves the file of passwords is out: their sessions and their tokens, and of others nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from argon2 import PasswordHasher

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.passwords import PasswordAuthenticator
from tidegate.authn.users import User, hash_password
from tidegate.model.audit import Deed, Wanted
from tidegate.model.principal import Principal
from tidegate.wire.tickets import verify

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""What tests hash with: they try no guesses."""

PASSWORD = "correct horse"


@dataclass
class Place:
    """A gateway with a file of passwords, with bob and carol in it; what the proxies were told to end."""

    gateway: Gateway
    login: PasswordAuthenticator
    ended: list[str]

    def write(self, name: str, password: str | None, *groups: str) -> None:
        """Give somebody a password, or remove them."""
        with self.login.file.changing() as users:
            if password is None:
                del users[name]
            else:
                users[name] = User(name, hash_password(password, QUICK), frozenset(groups))

    async def log_in(self, name: str = "bob", password: str = PASSWORD, **form: str) -> httpx.AsyncClient:
        """Return the browser of somebody who has logged in by a form."""
        browser = self.gateway.browser()
        reply = await browser.post("/login", data=form or {"username": name, "password": password})
        assert reply.status_code == 303
        return browser

    async def make_token(self, browser: httpx.AsyncClient) -> str:
        """Make a personal token in the console's session; return its secret."""
        secret: str = (await browser.post("/api/v2/tokens", json={"label": "x"})).json()["secret"]
        return secret


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """The gateway, and its file."""
    login, ended = PasswordAuthenticator(tmp_path, hasher=QUICK), []

    async def end(by: str) -> None:
        ended.append(by)

    async with gateway_in_process(tmp_path, logins={"passwords": login}, end_vouched=end) as gateway:
        place = Place(gateway, login, ended)
        for name in ("bob", "carol"):
            place.write(name, PASSWORD)
        await login.start()
        yield place
        await login.close()


async def enters(browser: httpx.AsyncClient) -> bool:
    """Whether a browser is still logged in."""
    return (await browser.get("/")).status_code == 200


async def test_who_is_removed_is_out_at_once(place: Place) -> None:
    """With the next request, from pages and by the API; who stays in the file goes on."""
    bob, carol = await place.log_in(), await place.log_in("carol")
    assert await enters(bob)

    place.write("bob", None)

    assert not await enters(bob)
    assert (await bob.get("/api/v2/clusters")).status_code == 401
    assert await enters(carol)


async def test_another_password_ends_what_began_with_the_old_one(place: Place) -> None:
    """Also where it is the same word again, and when the groups are others: the session would not know them."""
    for password, groups in (("battery staple", ()), (PASSWORD, ()), (PASSWORD, ("staff",))):
        bob, before = await place.log_in(), place.login.file.read()["bob"].hash
        place.write("bob", password, *groups)
        assert place.login.file.read()["bob"].hash != before
        assert not await enters(bob)
        assert await enters(await place.log_in(password=password))
        place.write("bob", PASSWORD)


async def test_groups_alone_make_another_session(place: Place) -> None:
    """Somebody edits the file, and takes bob out of a group."""
    place.write("bob", PASSWORD, "staff")
    bob = await place.log_in()
    with place.login.file.changing() as users:
        users["bob"] = User("bob", users["bob"].hash)

    assert not await enters(bob)


async def test_who_comes_back_logs_in_again(place: Place) -> None:
    """A session that was over stays so, although the name is there again."""
    bob = await place.log_in()
    place.write("bob", None)
    place.write("bob", PASSWORD)

    assert not await enters(bob)


async def test_tokens_of_who_is_removed_are_refused_with_a_sentence(place: Place) -> None:
    """One that was made in the session, and one that was made with that; and the sessions that they began."""
    first = await place.make_token(await place.log_in())
    second = (await place.gateway.client(first).post("/api/v2/tokens", json={"label": "y"})).json()["secret"]
    browser = await place.log_in(token=second)
    place.write("bob", "battery staple")
    assert await enters(browser)

    place.write("bob", None)

    for secret in (first, second):
        refused = await place.gateway.client(secret).get("/api/v2/clusters")
        assert refused.status_code == 403
        assert "bob, whose it is, is no longer among the users of this gateway" in refused.json()["error"]["message"]
        assert (await place.gateway.browser().post("/login", data={"token": secret})).status_code == 403
    assert not await enters(browser)
    found = await place.gateway.services.audit.find(Principal("root", admin=True), Wanted(user="bob"))
    assert {(r.entry.principal, r.entry.deed, r.entry.code) for r in found} >= {
        ("bob", Deed.READ, "not-allowed"),
        ("bob", Deed.LOGIN, "not-allowed"),
    }


async def test_tokens_outlive_a_password(place: Place) -> None:
    """They are credentials of their own: who leaked a password revokes tokens besides, if need be."""
    secret = await place.make_token(await place.log_in())
    place.write("bob", "battery staple")

    assert (await place.gateway.client(secret).get("/api/v2/clusters")).status_code == 200


async def test_whoever_did_not_come_by_the_file_does_not_need_it(place: Place) -> None:
    """A token of the first start, a Hub's user, a session of another login: alice is in no file."""
    services = place.gateway.services
    _, secret = await services.tokens.create(Principal("dave", method="jupyterhub"), "x")
    browser = place.gateway.browser()
    value = services.sessions.seal(Principal("dave", method="oidc"))
    browser.cookies.set(services.sessions.cookie_name("http", ""), value)

    assert (await place.gateway.client("alice").get("/api/v2/clusters")).status_code == 200
    assert (await place.gateway.client(secret).get("/api/v2/clusters")).status_code == 200
    assert await enters(browser)


async def vouchers(place: Place, browser: httpx.AsyncClient) -> tuple[str, ...]:
    """Return what vouches for the viewer in a ticket for a dashboard of theirs."""
    name = (await browser.post("/api/v2/clusters", json={})).json()["name"]
    await place.gateway.become_running(name)
    location = (await browser.get(f"/clusters/{name}/status")).headers["location"]
    text = parse_qs(urlsplit(location).query)["ticket"][0]
    key = (await place.gateway.store.credentials(name)).ticket_key
    ticket = verify(text, name, key, place.gateway.clock.now)
    assert ticket is not None
    return ticket.by


@pytest.mark.parametrize("by_token", [False, True])
async def test_what_is_open_ends_with_who_opened_it(place: Place, by_token: bool) -> None:
    """A dashboard shows nothing while it is open: it is ended for bob when he is gone, and for carol it goes on."""
    entries, bob = place.gateway.services.entries, await place.log_in()
    if by_token:
        bob = await place.log_in(token=await place.make_token(bob))
    by = await vouchers(place, bob)
    await entries.look()

    place.write("bob", None)
    await entries.look()
    await entries.look()

    assert len(place.ended) == 1
    assert place.ended[0] in by


async def test_what_an_administrator_opens_for_somebody_ends_with_the_administrator(place: Place) -> None:
    """Not with the user on whose behalf they do."""
    entries = place.gateway.services.entries
    stood_in = Principal("bob", method="session", origin="passwords", actor="carol")

    assert entries.of(stood_in) == entries.of(Principal("carol", method="passwords"))


async def test_a_file_that_cannot_be_read_lets_nobody_go_on(place: Place) -> None:
    """Who was removed may be the one who asks. When it can be read again, all is as before, and nothing was ended."""
    bob = await place.log_in()
    secret = await place.make_token(bob)
    await place.gateway.services.entries.look()
    kept = place.login.file.path.rename(place.login.file.path.with_name("kept"))
    place.login.file.path.mkdir()
    assert not await enters(bob)
    silent = await place.gateway.client(secret).get("/api/v2/clusters")
    assert (silent.status_code, "cannot check whether bob is still among" in silent.text) == (503, True)
    await place.gateway.services.entries.look()

    place.login.file.path.rmdir()
    kept.rename(place.login.file.path)
    await place.gateway.services.entries.look()
    assert await enters(bob)
    assert (await place.gateway.client(secret).get("/api/v2/clusters")).status_code == 200
    assert place.ended == []


async def test_what_a_session_is_bound_to_tells_nothing(place: Place) -> None:
    """Neither the hash nor a part of it is in the cookie."""
    hashed = place.login.file.read()["bob"].hash
    entry = place.gateway.services.entries.of(Principal("bob", method="passwords"))

    assert len(entry) == 32
    assert not any(part in entry for part in hashed.split("$") if len(part) > 8)
