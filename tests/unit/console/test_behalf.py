"""Acting on behalf of a user in the console: who can, what it is worth, and that it ends."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest

from tests.in_process import DAY, Gateway, Reader, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.authn.sessions import SESSION_SECONDS
from tidegate.authn.tokens import mint_token
from tidegate.model.audit import Deed, Outcome, Wanted
from tidegate.model.principal import Principal, Scope
from tidegate.wire.tickets import session_mark, verify

ROSTER = Roster(admins=("root", "rita"), groups={"hydro": ("bob",)})
BANNER = "You, <strong>root</strong>, act on behalf of <strong>bob</strong>"


@pytest.fixture
def ended() -> list[str]:
    """What the proxies were told to end."""
    return []


@pytest.fixture
async def gateway(tmp_path: Path, ended: list[str]) -> AsyncIterator[Gateway]:
    """A gateway that root and rita administer."""

    async def end(by: str) -> None:
        ended.append(by)

    async with gateway_in_process(tmp_path, roster=ROSTER, end_vouched=end) as gateway:
        yield gateway


async def logged_in(gateway: Gateway, user: str = "root") -> httpx.AsyncClient:
    """Return the browser of somebody who has logged in."""
    browser = gateway.browser()
    await browser.get(f"/login?code={gateway.services.codes.mint(Principal(user))}")
    return browser


async def begin(browser: httpx.AsyncClient, user: str, **more: str) -> httpx.Response:
    """Choose on whose behalf to act."""
    return await browser.post("/console/behalf", data={"user": user, **more})


async def acting(gateway: Gateway, user: str = "bob") -> httpx.AsyncClient:
    """Return root's browser when root acts on behalf of a user."""
    browser = await logged_in(gateway)
    assert (await begin(browser, user)).status_code == 303
    return browser


async def test_all_pages_are_the_users_and_say_so(gateway: Gateway) -> None:
    """With a button to stop; what only administrators see is not there."""
    await gateway.create("alice")
    name = (await gateway.create("bob")).name
    browser = await acting(gateway)

    for path in ("", "usage", "limits", "options", "tokens", f"clusters/{name}", f"console/clusters/{name}/logs"):
        shown = (await browser.get(f"/{path}")).text
        assert BANNER in shown, path
        assert 'action="/console/behalf/end"' in shown
        assert "Everybody" not in shown
    home = (await browser.get("/")).text
    assert f'href="/clusters/{name}"' in home
    assert home.count('class="card cluster"') == 1
    assert "on_behalf_of=" in home
    assert [(await browser.get(path)).status_code for path in ("/audit", "/behalf")] == [404, 404]
    assert BANNER in (await browser.get("/nothing-of-that-name")).text


async def test_what_is_done_names_both(gateway: Gateway) -> None:
    """The cluster is bob's, of what bob is offered; the audit log tells of the beginning, the deed and the end."""
    browser = await acting(gateway)
    made = await browser.post("/console/clusters", data={"worker_cores": "2"})
    name = made.headers["location"].rpartition("/")[2]
    await browser.post("/console/behalf/end")

    cluster = await gateway.store.load(name)
    assert cluster.owner == "bob"
    assert (await gateway.store.last_events(name, 1))[0].event.message == (
        "The cluster was requested (administrator root, on behalf of bob)"
    )
    found = await gateway.services.audit.find(Principal("root", admin=True), Wanted())
    assert [(r.entry.deed, r.entry.principal, r.entry.actor, r.entry.method) for r in found[:3]] == [
        (Deed.BEHALF_END, "bob", "root", "session"),
        (Deed.CLUSTER_CREATE, "bob", "root", "session"),
        (Deed.BEHALF_BEGIN, "bob", "root", "session"),
    ]


async def test_stopping_gives_the_role_back(gateway: Gateway, ended: list[str]) -> None:
    """What was opened before the change, as somebody else, ends each time; and the cookie of then is worth nothing."""
    browser = await logged_in(gateway)
    ((cookie, first),) = browser.cookies.items()
    await begin(browser, "bob")
    second = browser.cookies[cookie]

    reply = await browser.post("/console/behalf/end")

    assert (reply.status_code, reply.headers["location"]) == (303, "/")
    assert (await browser.get("/audit")).status_code == 200
    assert BANNER not in (await browser.get("/")).text
    assert ended == [session_mark(cookie, first), session_mark(cookie, second)]
    for old in (first, second):
        assert (await gateway.browser(Cookie=f"{cookie}={old}").get("/")).status_code == 303
    await browser.post("/console/behalf/end")
    assert len(ended) == 2


async def test_it_ends_with_the_session(gateway: Gateway) -> None:
    """By logging out, and when the session would have ended: to act on behalf makes none longer."""
    browser = await acting(gateway)
    await browser.post("/logout")
    assert (await browser.get("/")).status_code == 303

    late = await logged_in(gateway)
    gateway.clock.now += SESSION_SECONDS - 60
    chosen = await begin(late, "bob")
    assert "Max-Age=60;" in chosen.headers["set-cookie"]
    assert BANNER in (await late.get("/")).text
    gateway.clock.now += 60
    assert (await late.get("/")).status_code == 303
    assert (await begin(await logged_in(gateway), "bob")).status_code == 303


@pytest.mark.parametrize("user", ["bob", "root"])
async def test_only_administrators_can(gateway: Gateway, user: str) -> None:
    """Others are refused, and that they tried is on record; the page for it is not there."""
    browser = await logged_in(gateway, "alice")

    assert (await begin(browser, user)).status_code == 403
    assert (await browser.get("/behalf")).status_code == 404
    wanted = Wanted(user="alice", deed=Deed.BEHALF_BEGIN)
    (found,) = await gateway.services.audit.find(Principal("root", admin=True), wanted)
    assert (found.entry.outcome, found.entry.detail) == (Outcome.REFUSED, f"on behalf of {user}")
    assert BANNER not in (await browser.get("/")).text


async def test_a_read_only_login_cannot(gateway: Gateway) -> None:
    """Neither by choosing, nor by what a session says."""
    sessions, browser = gateway.services.sessions, gateway.browser()
    value = sessions.seal(Principal("root", scope=Scope.READ_ONLY))
    browser.cookies.set(sessions.cookie_name("http", ""), value)

    assert (await begin(browser, "bob")).status_code == 403
    assert "not enough" in (await browser.get("/behalf")).text
    browser.cookies.set(sessions.cookie_name("http", ""), sessions.change(value, "bob"))
    assert (await browser.get("/")).status_code == 403


async def test_who_loses_the_role_acts_for_nobody(gateway: Gateway) -> None:
    """It is looked up with each request. They can stop, and go on as themselves."""
    browser = await acting(gateway)
    services = replace(gateway.services, roster=Roster(admins=("rita",)))
    gateway.app.state.services = services

    refused = await browser.get("/")
    assert (refused.status_code, "for administrators" in refused.text) == (403, True)
    assert 'action="/console/behalf/end"' in refused.text
    assert (await browser.get("/api/v2/clusters")).status_code == 403
    await browser.post("/console/behalf/end")
    assert (await browser.get("/api/v2/whoami")).json()["name"] == "root"


async def test_a_token_that_is_revoked_ends_it(gateway: Gateway) -> None:
    """The session was begun with a personal token of root's, not of bob's."""
    token, _ = await mint_token(
        gateway.store, Principal("root"), "test", now=gateway.clock.now, expires_at=gateway.clock.now + DAY
    )
    sessions, browser = gateway.services.sessions, gateway.browser()
    browser.cookies.set(sessions.cookie_name("http", ""), sessions.seal(token.bearer))
    await begin(browser, "bob")
    assert BANNER in (await browser.get("/")).text

    await gateway.services.tokens.revoke(Principal("root"), token.id)

    assert (await browser.get("/")).status_code == 303


async def test_nobody_acts_through_somebody(gateway: Gateway) -> None:
    """On behalf of an administrator one is none, and chooses nobody else; a header adds nothing."""
    browser = await acting(gateway, "rita")

    assert (await begin(browser, "bob")).status_code == 403
    assert (await browser.get("/audit")).status_code == 404
    assert (await browser.get("/api/v2/whoami", headers={"Tidegate-On-Behalf-Of": "bob"})).status_code == 403


async def test_it_is_a_browsers_choice(gateway: Gateway) -> None:
    """Where a token says who asks, no session beside it is changed: it may be somebody else's."""
    _, gateway.tokens["root"] = await mint_token(gateway.store, Principal("root"), "test", now=gateway.clock.now)
    for client in (gateway.client("root"), gateway.browser("alice", Authorization=f"Bearer {gateway.tokens['root']}")):
        reply = await begin(client, "bob")
        assert (reply.status_code, "set-cookie" in reply.headers) == (409, False)
        assert "Tidegate-On-Behalf-Of" in reply.text


@pytest.mark.parametrize("user", ["", " ", "b\nob", "b" * 256])
async def test_what_is_no_name_is_told_in_the_form(gateway: Gateway, user: str) -> None:
    """And nothing begins."""
    browser = await logged_in(gateway)

    reply = await begin(browser, user)

    assert (reply.status_code, "that is no name of a user" in reply.text) == (422, True)
    assert BANNER not in (await browser.get("/")).text


@pytest.mark.parametrize(("drawn_for", "told"), [("root", True), ("root, on behalf of bob", False)])
async def test_a_page_of_before_shows_nothing_of_now(gateway: Gateway, drawn_for: str, told: bool) -> None:
    """A window that was open when one began, in another, is told so; it has no banner that says whose clusters come."""
    _, gateway.tokens["root"] = await mint_token(gateway.store, Principal("root"), "test", now=gateway.clock.now)
    name = (await gateway.create("bob")).name
    for path, place in (("/console/live", "clusters"), (f"/console/clusters/{name}/live", "cluster")):
        asked = f"{path}?{urlencode({'as': drawn_for})}"
        async with Reader(gateway, asked, "root", tidegate_on_behalf_of="bob") as reader:
            message = await anext(reader.messages())
        assert message["event"] == place
        assert ("you are root, on behalf of bob now" in message["data"], name in message["data"]) == (told, not told)


async def test_a_name_is_no_markup(gateway: Gateway) -> None:
    """Neither in the banner nor in the lines for a notebook, whatever a login lets people be called."""
    name = """<script>'"</script>"""
    shown = (await (await acting(gateway, name)).get("/")).text

    assert "<script>'" not in shown
    assert "&lt;script&gt;&#39;&#34;&lt;/script&gt;</strong>" in shown
    line = next(line for line in shown.splitlines() if line.startswith("gateway = Gateway("))
    assert ast.literal_eval(line.removeprefix("gateway = Gateway(on_behalf_of=").removesuffix(")")) == name


async def test_it_leads_back_to_a_page_of_ours(gateway: Gateway) -> None:
    """The cluster from which one began; never another site."""
    for wanted, found in (("/clusters/x", "/clusters/x"), ("//evil.test", "/"), ("https://evil.test", "/")):
        assert (await begin(await logged_in(gateway), "bob", next=wanted)).headers["location"] == found


async def test_where_it_is_offered(gateway: Gateway) -> None:
    """On the cluster of somebody else, and where one looks at somebody's clusters; to administrators alone."""
    name = (await gateway.create("bob")).name
    root, bob = await logged_in(gateway), await logged_in(gateway, "bob")

    for path in (f"/clusters/{name}", "/?of=all&owner=bob"):
        assert "Act on behalf of bob" in (await root.get(path)).text
        assert "Act on behalf" not in (await bob.get(path)).text
    assert "On behalf" in (await root.get("/")).text
    assert "Act on behalf" in (await root.get("/behalf")).text


async def test_a_token_is_revoked_but_not_made(gateway: Gateway) -> None:
    """As by the header; the page has no form for one."""
    token, _ = await mint_token(gateway.store, Principal("bob"), "laptop", now=gateway.clock.now)
    browser = await acting(gateway)

    shown = (await browser.get("/tokens")).text
    assert ("laptop" in shown, "Create token" in shown, "only bob can" in shown) == (True, False, True)
    assert (await browser.post("/console/tokens", data={"label": "x"})).status_code == 403
    assert (await browser.post(f"/console/tokens/{token.id}/revoke")).status_code == 303
    assert await gateway.store.list_tokens("bob") == []


async def test_dashboards_are_shown_as_to_an_administrator(tmp_path: Path) -> None:
    """Below the console's host not at all; on its own host with a ticket that somebody can withdraw."""
    for host in (None, "{name}.localhost"):
        (folder := tmp_path / str(host)).mkdir()
        async with gateway_in_process(folder, dashboard_host=host, roster=ROSTER) as gateway:
            name = (await gateway.create("bob")).name
            await gateway.become_running(name)
            browser = await acting(gateway)
            reply = await browser.get(f"/clusters/{name}/status")
            if host is None:
                assert (reply.status_code, "set-cookie" in reply.headers, BANNER in reply.text) == (403, False, True)
                continue
            text = parse_qs(urlsplit(reply.headers["location"]).query)["ticket"][0]
            ticket = verify(text, name, (await gateway.store.credentials(name)).ticket_key, gateway.clock.now)
            assert ticket is not None
            ((cookie, value),) = browser.cookies.items()
            assert (ticket.epoch is not None, ticket.by) == (True, (session_mark(cookie, value),))
