"""The way from the console to a dashboard: a ticket for its owner, on a host of its own."""

from __future__ import annotations

from dataclasses import replace
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.authn.sessions import SESSION_SECONDS
from tidegate.model.cluster import Target
from tidegate.model.principal import Principal
from tidegate.wire.tickets import COOKIE_SECONDS, OPEN_SECONDS, Ticket, bears_session, session_mark, verify


async def running(gateway: Gateway) -> str:
    """Return the name of a running cluster of alice's."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name)
    return cluster.name


async def key_of(gateway: Gateway, name: str) -> str:
    """Return the cluster's ticket key."""
    key: str = (await gateway.store.credentials(name)).ticket_key
    return key


@pytest.mark.parametrize(
    ("headers", "start"),
    [
        ({"X-Forwarded-Host": "127.0.0.1:8000"}, "http://NAME.localhost:8000"),
        ({"X-Forwarded-Host": "[::1]:8000"}, "http://NAME.localhost:8000"),
        ({"X-Forwarded-Host": "dask.example.org", "X-Forwarded-Proto": "https"}, "https://NAME.localhost"),
        ({"X-Forwarded-Host": "localhost:8000", "X-Forwarded-Prefix": "/services/dask"}, "http://NAME.localhost:8000"),
    ],
)
async def test_the_owner_is_sent_to_the_dashboards_own_host(
    gateway: Gateway, headers: dict[str, str], start: str
) -> None:
    """With a ticket that works once, soon, for this cluster, and the page that was asked for."""
    name = await running(gateway)

    reply = await gateway.browser("alice", **headers).get(f"/clusters/{name}/individual-plots?theme=dark")

    where = urlsplit(reply.headers["location"])
    query = parse_qs(where.query)
    assert reply.status_code == 302
    assert f"{where.scheme}://{where.netloc}{where.path}" == start.replace("NAME", name) + "/_tidegate/open"
    assert query["next"] == ["/individual-plots?theme=dark"]
    key, now = await key_of(gateway, name), gateway.clock.now
    ticket = verify(query["ticket"][0], name, key, now)
    assert ticket is not None
    assert (ticket.user, len(ticket.once) > 20) == ("alice", True)
    assert verify(query["ticket"][0], name, key, now + OPEN_SECONDS) is None
    assert key not in reply.headers["location"]


async def test_no_two_tickets_are_the_same(gateway: Gateway) -> None:
    """Each is used up by itself."""
    name = await running(gateway)
    browser = gateway.browser("alice")

    links = {(await browser.get(f"/clusters/{name}/status")).headers["location"] for _ in range(3)}

    assert len(links) == 3


async def test_nobody_is_led_to_the_login_and_back(gateway: Gateway) -> None:
    """With the page of the dashboard in ``next``."""
    name = await running(gateway)

    reply = await gateway.browser().get(f"/clusters/{name}/status")

    assert reply.status_code == 303
    assert reply.headers["location"] == f"/login?next=%2Fclusters%2F{name}%2Fstatus"


async def test_a_dashboard_that_is_not_there_is_explained(gateway: Gateway) -> None:
    """Not started, ended, failed, or without bokeh: a page that says so, with the reason."""
    requested, failed, leaving, bare = [(await gateway.create()).name for _ in range(4)]
    await gateway.become_failed(failed)
    await gateway.become_running(leaving)
    await gateway.change(leaving, target=Target.STOPPED)
    await gateway.become_running(bare, dashboard=False)
    browser = gateway.browser("alice")

    replies = {name: await browser.get(f"/clusters/{name}/status") for name in (requested, failed, leaving, bare)}

    assert {reply.status_code for reply in replies.values()} == {409}
    assert "Requested" in replies[requested].text
    assert "exit code 1" in replies[failed].text


@pytest.mark.parametrize("page", ["", "status", "a b/ü", "x%2F..%2Fy", "//evil.test"])
async def test_a_strange_page_stays_on_the_dashboards_host(gateway: Gateway, page: str) -> None:
    """Whatever the path, ``next`` is a path, and the answer has one location."""
    name = await running(gateway)

    reply = await gateway.browser("alice").get(f"/clusters/{name}/{page}")

    assert reply.status_code == 302
    location = reply.headers["location"]
    assert location.startswith(f"http://{name}.localhost/_tidegate/open?ticket=")
    assert parse_qs(urlsplit(location).query)["next"][0].startswith("/")
    assert "set-cookie" not in reply.headers
    assert "\n" not in location


async def by_path(browser: httpx.AsyncClient, name: str) -> tuple[httpx.Response, SimpleCookie]:
    """Ask for the dashboard and return the answer with its cookie."""
    reply = await browser.get(f"/clusters/{name}/status?x=1")
    return reply, SimpleCookie(reply.headers.get("set-cookie", ""))


async def test_without_hosts_of_their_own_the_owner_gets_a_cookie_for_the_path(tmp_path: Path) -> None:
    """Only for this cluster's path, for a quarter of an hour, and the browser is sent to the same page again."""
    async with gateway_in_process(tmp_path, dashboard_host=None) as gateway:
        name = await running(gateway)

        reply, cookie = await by_path(gateway.browser("alice"), name)

        morsel = cookie[f"tidegate-ticket-{name}"]
        assert (reply.status_code, reply.headers["location"]) == (302, f"/clusters/{name}/status?x=1")
        assert (morsel["path"], morsel["httponly"], morsel["samesite"]) == (f"/clusters/{name}/", True, "lax")
        key, now = await key_of(gateway, name), gateway.clock.now
        assert verify(morsel.value, name, key, now + COOKIE_SECONDS - 1) is not None
        assert verify(morsel.value, name, key, now + COOKIE_SECONDS) is None
        assert (await by_path(gateway.browser("mallory"), name))[0].status_code == 404


async def test_who_acts_on_behalf_of_the_owner_is_not_the_owner(tmp_path: Path) -> None:
    """The page would run in the administrator's browser: below the console's host it is not shown to them, and on its
    own host as to a guest.
    """
    roster = Roster(admins=("root",))
    for host in (None, "{name}.localhost"):
        folder = tmp_path / str(host)
        folder.mkdir()
        async with gateway_in_process(folder, dashboard_host=host, roster=roster) as gateway:
            name = await running(gateway)
            reply, _ = await by_path(gateway.browser("root", **{"Tidegate-On-Behalf-Of": "alice"}), name)
            if host is None:
                assert (reply.status_code, "set-cookie" in reply.headers) == (403, False)
                assert "to anybody but alice" in reply.text
                continue
            query = parse_qs(urlsplit(reply.headers["location"]).query)
            ticket = verify(query["ticket"][0], name, await key_of(gateway, name), gateway.clock.now)
            assert ticket is not None
            assert ticket.epoch is not None


async def test_a_ticket_for_a_path_is_good_in_its_session_alone(tmp_path: Path) -> None:
    """Its bearer is the browser that asked; after a new login there is a new ticket, and without a session none."""
    async with gateway_in_process(tmp_path, dashboard_host=None) as gateway:
        name = await running(gateway)
        key, now = await key_of(gateway, name), gateway.clock.now
        browser = gateway.browser("alice")
        cookie_name = gateway.services.sessions.cookie_name("http", "")

        tickets = []
        for login in range(2):
            _, cookie = await by_path(browser, name)
            browser.cookies.set(f"tidegate-ticket-{name}", cookie[f"tidegate-ticket-{name}"].value)
            ticket = verify(cookie[f"tidegate-ticket-{name}"].value, name, key, now + login)
            assert ticket is not None
            value = browser.cookies[cookie_name]
            assert bears_session(ticket.session, lambda asked, value=value: [value] if asked == cookie_name else [])
            assert not bears_session(ticket.session, lambda asked: ["another"] if asked == cookie_name else [])
            tickets.append(ticket)
            gateway.clock.now += 1
            browser.cookies.set(cookie_name, gateway.services.sessions.seal(Principal("alice")))

        assert tickets[0].session != tickets[1].session
        program = await gateway.client("alice").get(f"/clusters/{name}/status")
        assert (program.status_code, "set-cookie" in program.headers) == (303, False)


async def test_a_browser_is_not_sent_round_for_ever(tmp_path: Path) -> None:
    """With a good ticket the proxy would have served it: coming here again means that it cannot."""
    async with gateway_in_process(tmp_path, dashboard_host=None) as gateway:
        name = await running(gateway)
        browser = gateway.browser("alice")
        _, cookie = await by_path(browser, name)
        key = f"tidegate-ticket-{name}"
        browser.cookies.set(key, cookie[key].value)

        reply, _ = await by_path(browser, name)

        assert reply.status_code == 503
        assert "cannot be reached" in reply.text


async def test_what_is_open_ends_with_the_session_and_its_token(gateway: Gateway) -> None:
    """The ticket says by what it was given, and until when that is good."""
    name = await running(gateway)
    (token,) = await gateway.services.tokens.list(Principal("alice"))
    begun = replace(token.bearer, until=gateway.clock.now + 600)
    browser = gateway.browser()
    cookie, sessions = gateway.services.sessions.cookie_name("http", ""), gateway.services.sessions
    browser.cookies.set(cookie, sessions.seal(begun))

    async def ticket() -> Ticket:
        location = (await browser.get(f"/clusters/{name}/status")).headers["location"]
        text = parse_qs(urlsplit(location).query)["ticket"][0]
        found = verify(text, name, await key_of(gateway, name), gateway.clock.now)
        assert found is not None
        return found

    by_token = await ticket()
    assert by_token.by == (token.id, session_mark(cookie, browser.cookies[cookie]))
    assert by_token.until == gateway.clock.now + 600
    browser.cookies.set(cookie, sessions.seal(Principal("alice")))
    by_login = await ticket()
    assert by_login.by == (session_mark(cookie, browser.cookies[cookie]),)
    assert by_login.until == gateway.clock.now + SESSION_SECONDS


async def test_logging_out_and_revoking_end_what_is_open(tmp_path: Path) -> None:
    """The proxies are told before the answer; and a copy of the cookie is worth nothing any more."""
    ended: list[str] = []

    async def end(by: str) -> None:
        ended.append(by)

    async with gateway_in_process(tmp_path, end_vouched=end) as gateway:
        browser = gateway.browser("alice")
        ((cookie, value),) = browser.cookies.items()
        (token,) = await gateway.services.tokens.list(Principal("alice"))

        assert (await browser.post("/logout")).status_code == 303
        assert ended == [session_mark(cookie, value)]
        thief = gateway.browser(Cookie=f"{cookie}={value}")
        assert (await thief.get("/")).status_code == 303

        assert (await gateway.client("alice").delete(f"/api/v2/tokens/{token.id}")).status_code == 204
        assert ended[1:] == [token.id]


async def test_over_https_the_cookie_of_a_path_is_secure(tmp_path: Path) -> None:
    """By its name too: no page that was not sent over TLS can have set it."""
    async with gateway_in_process(tmp_path, dashboard_host=None) as gateway:
        name = await running(gateway)

        _, cookie = await by_path(gateway.browser("alice", **{"X-Forwarded-Proto": "https"}), name)

        assert cookie[f"__Secure-tidegate-ticket-{name}"]["secure"] is True
