"""Whoever is not the owner, and dashboards that attack: what a person, a page and a program cannot do.

A dashboard runs code of its cluster's owner, so its pages are hostile: here a scheduler really serves one, to somebody
who is logged in on the console in the same browser. All of it twice: on one machine, where dashboards live on
``<name>.localhost``, and as on a platform, with TLS and a wildcard domain *below* the console's host, where browsers
send the console's cookies along with what the pages do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from playwright.sync_api import Page, expect

from tests.e2e.browser import CHROMIUM, Chromium, Visitor
from tests.e2e.sites import DOMAIN, Site, loopback, wildcard
from tests.support import eventually_sync
from tidegate import Gateway, GatewayCluster

Visit = Callable[[], Visitor]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

SCRIPT = Path(__file__).with_name("hostile.js")

PLANTED = {
    "Set-Cookie": "planted=1; Path=/",
    "Service-Worker-Allowed": "/",
    "Clear-Site-Data": '"cookies", "storage"',
    "Access-Control-Allow-Origin": "*",
}
"""Headers that the hostile page comes with."""


@dataclass
class Viewer:
    """Somebody who looks at a hostile dashboard.

    Parameters
    ----------
    name : str
        As the gateway knows them.
    visitor : Visitor
        Their browser.
    victim : str
        A cluster to which they could do something.
    """

    name: str
    visitor: Visitor
    victim: str


@pytest.fixture(scope="module", params=["loopback", "wildcard"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway and its hosts."""
    if request.param == "loopback":
        yield loopback(request.getfixturevalue("gateway"))
    else:
        with wildcard(tmp_path_factory.mktemp("site")) as site:
            yield site


@pytest.fixture(scope="module")
def chromium(site: Site) -> Iterator[Chromium]:
    """A browser that finds the site's hosts."""
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium")
    where = f"127.0.0.1:{site.port}"
    with Chromium([f"MAP {DOMAIN} {where}", f"MAP *.{DOMAIN} {where}"]) as running:
        yield running


@pytest.fixture(scope="module")
def user(site: Site) -> Iterator[Gateway]:
    """The owner's notebook."""
    with site.notebook(site.gateway.token) as user:
        yield user


@pytest.fixture(scope="module")
def clusters(user: Gateway) -> Iterator[list[GatewayCluster]]:
    """Two clusters of the owner's, which start side by side."""
    names = [user.submit(), user.submit()]
    clusters = [user.connect(name, shutdown_on_close=True) for name in names]
    yield clusters
    for cluster in clusters:
        cluster.close()


@pytest.fixture(scope="module")
def victim(clusters: list[GatewayCluster]) -> GatewayCluster:
    """A cluster that minds its own business."""
    return clusters[0]


@pytest.fixture(scope="module")
def attacker(clusters: list[GatewayCluster]) -> GatewayCluster:
    """A cluster whose code is hostile. Its owner runs it all the same: such code comes with packages."""
    return clusters[1]


@pytest.fixture(scope="module")
def veras(site: Site) -> Iterator[GatewayCluster]:
    """A cluster of somebody else's."""
    with site.notebook(site.gateway.mint("vera")) as user:
        cluster = user.new_cluster(shutdown_on_close=True)
        yield cluster
        cluster.close()


@pytest.fixture
def owner(site: Site, visit: Visit) -> Visitor:
    """The owner, logged in under every name of the console."""
    owner = visit()
    for home in site.homes:
        owner.log_in(home, site.gateway.token)
    return owner


def plant(client: Client, page: str) -> None:
    """Let a scheduler serve ``page`` under ``/hostile``, and as a script under ``/hostile.js``."""

    def serve(dask_scheduler: Any) -> None:
        from tornado.web import RequestHandler

        class Hostile(RequestHandler):  # type: ignore[misc]
            def get(self) -> None:
                for name, value in PLANTED.items():
                    self.set_header(name, value)
                if self.request.path.endswith(".js"):
                    self.set_header("Content-Type", "text/javascript")
                    self.write("self.onfetch = () => {};")
                else:
                    self.write(page.replace("SEEN", json.dumps(dict(self.request.headers.get_all()))))

        dask_scheduler.http_application.add_handlers(r".*$", [(r"/hostile(?:\.js)?", Hostile)])

    client.run_on_scheduler(serve)


@pytest.fixture(scope="module")
def planted(site: Site, attacker: GatewayCluster, victim: GatewayCluster) -> str:
    """The address of a hostile page on the attacker's dashboard; it begins when it is told whom to aim at."""
    page = f"<!doctype html><title>Hostile</title><body><script>const seen = SEEN;\n{SCRIPT.read_text()}</script>"
    with attacker.get_client() as client:
        plant(client, page)
    return f"{site.host(attacker.name)}/hostile"


def open_planted(page: Page, planted: str) -> None:
    """Open the hostile page, as soon as the cluster is allowed another page after those of the viewers before."""

    def is_open() -> bool:
        answer = page.goto(planted)
        return answer is not None and answer.status == 200

    eventually_sync(is_open, 30, "the hostile page is served")


def open_dashboard(visitor: Visitor, site: Site, cluster: str) -> None:
    """Come by the console to a cluster's dashboard (a page that costs nothing), so that the browser has its ticket."""
    visitor.page.goto(f"{site.homes[0]}/clusters/{cluster}/health")
    expect(visitor.page.get_by_text("ok")).to_be_visible()
    assert visitor.page.url == f"{site.host(cluster)}/health"


def knows(page: Page, home: str, viewer: Viewer) -> bool:
    """Whether the console still knows who is there, and shows them the cluster that they can do something to."""
    page.goto(home)
    expect(page.get_by_role("heading", name="My clusters")).to_be_visible()
    answer = page.goto(f"{home}/clusters/{viewer.victim}")
    return answer is not None and answer.status == 200 and viewer.victim in page.content()


# -- pages -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["owner", "share", "admin"])
def viewer(request: pytest.FixtureRequest, site: Site, visit: Visit, attacker: GatewayCluster) -> Viewer:
    """Somebody who looks at the attacker's dashboard, logged in under every name of the console."""
    gateway = site.gateway
    match request.param:
        case "owner":
            name = site.ask(f"{site.homes[0]}/api/v2/whoami", **gateway.headers).json()["name"]
            token, own = gateway.token, request.getfixturevalue("victim").name
        case "share":
            site.share(attacker.name, "vera")
            name, token = "vera", gateway.mint("vera")
            own = request.getfixturevalue("veras").name
        case _:
            # An administrator can do something to every cluster.
            name, token = "root", gateway.mint("root", admin=True)
            own = request.getfixturevalue("veras").name
    visitor = visit()
    for home in site.homes:
        visitor.log_in(home, token)
    return Viewer(name, visitor, own)


def test_a_hostile_dashboard_gets_nothing_and_changes_nothing(
    site: Site, viewer: Viewer, planted: str, attacker: GatewayCluster
) -> None:
    """With its viewer logged in in the same browser, by what the page itself reports and by what the server has."""
    before, tokens = site.records(), site.tokens(viewer.name)
    assert {viewer.victim, attacker.name} <= set(before)
    context = viewer.visitor.context
    (session, *_) = context.cookies(site.homes[0])
    for cluster in (viewer.victim, attacker.name):
        open_dashboard(viewer.visitor, site, cluster)
    aims = {
        "homes": site.homes,
        "victim": viewer.victim,
        "other": site.host(viewer.victim),
        "domains": site.domains,
        "cookies": [session["name"], "tidegate-ticket", "planted"],
    }
    page = context.new_page()
    open_planted(page, planted)
    page.evaluate("aims => { window.aims = aims; try_everything(); }", aims)
    page.wait_for_function("window.finished")

    got = {what: value for what, value in page.evaluate("results").items() if value}
    assert got == {}
    assert len(page.evaluate("Object.keys(results)")) > 40 * len(site.homes)
    # Not there; or, after the viewers before, no more pages of this cluster for a moment.
    assert {status for _, status in page.evaluate("own_host")} <= {404, 429}
    assert not {"cookie", "authorization", "x-tidegate-dashboard"} & {name.lower() for name in page.evaluate("seen")}
    assert (site.records(), site.tokens(viewer.name)) == (before, tokens)
    framed = [frame.url for frame in page.frames if frame.parent_frame is not None]
    assert set(framed) == {"chrome-error://chromewebdata/"}, framed
    for home in site.homes:
        assert knows(context.new_page(), home, viewer)
    open_dashboard(viewer.visitor, site, viewer.victim)


def test_a_form_of_a_hostile_dashboard_does_nothing(
    site: Site, owner: Visitor, planted: str, victim: GatewayCluster, attacker: GatewayCluster
) -> None:
    """Neither as a page of its own nor in a frame: the console asks for a page of its own."""
    before = site.records()
    open_dashboard(owner, site, attacker.name)
    page = owner.page
    for home in site.homes:
        open_planted(page, planted)
        with owner.context.expect_event("requestfinished", lambda request: request.method == "POST"):
            page.evaluate("url => send_form(url, '_self')", f"{home}/console/clusters/{victim.name}/stop")
        expect(page.get_by_role("heading", name="Please log in")).to_be_visible()

    assert site.records() == before


def test_the_console_itself_could(site: Site, owner: Visitor, victim: GatewayCluster) -> None:
    """What the hostile page tries is what works from a page of the console: the attempts are real ones."""
    for home in site.homes:
        owner.page.goto(home)
        owner.page.evaluate(SCRIPT.read_text().replace("const results", "window.results"))
        for path in ("/", "/api/v1/clusters/", "/api/v2/clusters"):
            read = owner.page.evaluate("url => read(url, 'cors')", home + path)
            assert victim.name in read, path
        assert owner.page.evaluate("url => follow(url)", f"{home}/console/live") == "open"


# -- people ------------------------------------------------------------------------------------------------------------


def test_another_user_sees_nothing(site: Site, visit: Visit, victim: GatewayCluster) -> None:
    """Not the cluster, not its dashboard, not that there is one."""
    mallory = visit()
    home = site.homes[0]
    mallory.log_in(home, site.gateway.mint("mallory"))
    page = mallory.page

    expect(page.get_by_text("No cluster is running")).to_be_visible()
    assert victim.name not in page.content()
    for path in ("", "/status", "/system/ws"):
        answers = []
        for name in (victim.name, "0123456789abcdef"):
            answer = page.goto(f"{home}/clusters/{name}{path}")
            assert answer is not None
            assert answer.status == 404
            answers.append(answer.text())
        assert answers[0] == answers[1]
        expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()

    page.goto(f"{site.host(victim.name)}/status")
    assert page.url == f"{home}/clusters/{victim.name}/status"
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()


def test_whoever_is_not_logged_in_is_led_there_and_back(site: Site, visit: Visit, victim: GatewayCluster) -> None:
    """From a bookmark of a dashboard through the login to that dashboard."""
    visitor = visit()
    visitor.page.goto(f"{site.host(victim.name)}/system")
    expect(visitor.page.get_by_role("heading", name="Log in")).to_be_visible()
    assert visitor.page.url.startswith(f"{site.homes[0]}/login?next=")

    visitor.paste(site.gateway.token)

    expect(visitor.page).to_have_title("Dask: Scheduler System Monitor")
    assert visitor.page.url == f"{site.host(victim.name)}/system"
    assert visitor.complaints == []


# -- programs ----------------------------------------------------------------------------------------------------------


def test_a_socket_needs_the_ticket_and_the_dashboards_own_page(
    site: Site, owner: Visitor, victim: GatewayCluster, attacker: GatewayCluster
) -> None:
    """Nobody without a ticket, nobody with another's, no other page's script, and no session of the console."""
    for cluster in (victim, attacker):
        open_dashboard(owner, site, cluster.name)
    host, other, home = site.host(victim.name), site.host(attacker.name), site.homes[0]
    url, ticket = f"{host}/status/ws", owner.cookies(host)

    assert site.ask_for_socket(url, Origin=host, Cookie=ticket) == 101
    for origin in ({"Origin": other}, {"Origin": home}, {"Origin": "null"}, {}):
        assert site.ask_for_socket(url, Cookie=ticket, **origin) == 403
    for stolen in (owner.cookies(other), owner.cookies(home), ""):
        assert site.ask_for_socket(url, Origin=host, Cookie=stolen) == 401
        assert site.ask(f"{host}/status", Cookie=stolen).status_code == 401


def test_a_ticket_in_a_link_opens_once(site: Site, owner: Visitor, victim: GatewayCluster) -> None:
    """Whoever finds it in a history comes too late."""
    session, dashboard = owner.cookies(site.homes[0]), f"{site.homes[0]}/clusters/{victim.name}/status"
    link = site.ask(dashboard, Cookie=session, Accept="text/html").headers["Location"]

    first, second = site.ask(link, Accept="text/html"), site.ask(link, Accept="text/html")

    assert "tidegate-ticket=" in first.headers["Set-Cookie"]
    assert "Set-Cookie" not in second.headers
    assert second.headers["Location"] == dashboard
