"""The dashboards in a real browser, through the gateway, of a cluster that really computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from distributed import Client
from playwright.sync_api import expect

from tests.e2e.browser import Chromium, Dashboard, Visitor
from tests.e2e.gateways import GatewayProcess
from tidegate import Gateway, TokenAuth

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

PAGES = {
    "status": "Dask: Status",
    "individual-task-stream": "Dask: TaskStream",
    "individual-progress": "Dask: TaskProgress",
    "profile": "Dask: Profile",
    "system": "Dask: Scheduler System Monitor",
    "graph": "Dask: Task Graph",
    "workers": "Dask: Workers",
}


@dataclass
class Computing:
    """A cluster with a worker, and a client of it."""

    name: str
    host: str
    client: Client


@pytest.fixture(scope="module")
def computing(gateway: GatewayProcess) -> Iterator[Computing]:
    """A cluster with a worker."""
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user, user.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client() as client:
            client.wait_for_workers(1, timeout=60)
            port = urlsplit(gateway.url).port
            yield Computing(cluster.name, f"http://{cluster.name}.localhost:{port}", client)


@pytest.fixture(scope="module")
def owner(chromium: Chromium, gateway: GatewayProcess) -> Visitor:
    """Its owner, logged in on the console."""
    owner = chromium.visitor()
    owner.log_in(gateway.url, gateway.token)
    return owner


@pytest.fixture(scope="module")
def dashboard(owner: Visitor, computing: Computing) -> Dashboard:
    """A tab that has come to the dashboard by the link in the console."""
    page = owner.page
    row = page.get_by_role("listitem").filter(has_text=computing.name)
    with page.expect_popup() as opened:
        row.get_by_role("link", name="Dashboard").click()
    expect(opened.value).to_have_title("Dask: Status")
    return Dashboard(opened.value)


def test_the_link_in_the_console_leads_to_a_host_of_its_own(dashboard: Dashboard, computing: Computing) -> None:
    """Through a ticket of which nothing is left to see, in a tab that does not know the console's."""
    assert dashboard.page.url == f"{computing.host}/status"
    assert dashboard.page.evaluate("window.opener") is None
    (cookie,) = dashboard.page.context.cookies(computing.host)
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("tidegate-ticket", True, "Lax")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_drawn_and_hears_news(dashboard: Dashboard, owner: Visitor, computing: Computing, page: str) -> None:
    """The page, its files and its WebSocket, all through the gateway, without a complaint of the browser."""
    answer = dashboard.show(f"{computing.host}/{page}")

    assert answer is not None
    assert answer.status == 200
    expect(dashboard.page).to_have_title(PAGES[page])
    assert [socket.url for socket in dashboard.sockets] == [f"{computing.host.replace('http', 'ws')}/{page}/ws"]
    assert not dashboard.sockets[0].is_closed()
    assert dashboard.messages >= 2  # that it was accepted, and the document
    if page == "workers":
        expect(dashboard.page.get_by_text("default-1").first).to_be_visible()
    else:
        expect(dashboard.page.locator("canvas").first).to_be_visible()
    assert owner.complaints == []
    assert owner.refusals == []


def test_the_task_stream_moves_while_a_client_computes(dashboard: Dashboard, computing: Computing) -> None:
    """An empty plot fills with coloured bars, and goes on filling."""
    dashboard.show(f"{computing.host}/individual-task-stream")
    before, blank = dashboard.tasks(), dashboard.coloured()

    futures = computing.client.map(lambda _: time.sleep(0.02), range(2000), pure=False)
    some = dashboard.wait_for_tasks(before)
    more = dashboard.wait_for_tasks(some)
    dashboard.wait_for_tasks(more)

    assert dashboard.coloured() > blank + 1000
    computing.client.cancel(futures)


def test_it_can_be_reloaded_linked_and_walked(dashboard: Dashboard, owner: Visitor, computing: Computing) -> None:
    """The ticket stays in the browser: reload, Dask's own links, another tab."""
    dashboard.show(f"{computing.host}/system")
    dashboard.page.reload()
    dashboard.wait_until_drawn()
    dashboard.page.get_by_role("link", name="Graph").click()
    expect(dashboard.page).to_have_title(PAGES["graph"])
    dashboard.wait_until_drawn()
    dashboard.page.go_back()
    expect(dashboard.page).to_have_title(PAGES["system"])

    other = Dashboard(owner.context.new_page())
    other.show(f"{computing.host}/individual-progress")
    other.page.close()

    assert owner.complaints == []


def test_a_dashboard_without_its_cluster_says_so(
    gateway: GatewayProcess, owner: Visitor, computing: Computing, visit: Callable[[], Visitor]
) -> None:
    """To whoever reloads it or follows an old link, with a way back; to others not even that."""
    page = owner.context.new_page()
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user, user.new_cluster() as cluster:
        host = computing.host.replace(computing.name, cluster.name)
        page.goto(f"{gateway.url}/clusters/{cluster.name}/health")
        assert page.url == f"{host}/health"
    expect(owner.page.get_by_role("listitem").filter(has_text=cluster.name)).to_contain_text("Stopped")

    page.reload()
    expect(page.get_by_text(f"Cluster {cluster.name} has no dashboard")).to_be_visible()
    page.get_by_role("link", name="To the console").click()
    expect(page.get_by_role("heading", name="My clusters")).to_be_visible()
    page.goto(f"{gateway.url}/clusters/{cluster.name}/status")
    expect(page.get_by_role("heading", name="There is no dashboard now")).to_be_visible()

    stranger = visit()
    stranger.page.goto(f"{host}/status")
    expect(stranger.page.get_by_role("heading", name="Log in")).to_be_visible()
