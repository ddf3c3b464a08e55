"""Below a path of a platform's host, with no host names for dashboards: everything under one prefix, in a browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Chromium, Dashboard, Visitor
from tests.e2e.gateways import GatewayProcess, serving
from tests.support import eventually_sync
from tidegate import Gateway, GatewayCluster, TokenAuth

Visit = Callable[[], Visitor]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

CONFIG = """
prefix: /services/dask-gateway
dashboards: {mode: path}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway below a prefix."""
    with serving(tmp_path_factory.mktemp("path"), CONFIG) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def cluster(gateway: GatewayProcess) -> Iterator[GatewayCluster]:
    """A cluster with a worker."""
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user, user.new_cluster() as cluster:
        cluster.scale(1)
        yield cluster


@pytest.fixture(scope="module")
def owner(chromium: Chromium, gateway: GatewayProcess) -> Visitor:
    """The owner, who came by the link in the terminal."""
    owner = chromium.visitor()
    owner.page.goto(gateway.login_url)
    expect(owner.page.get_by_role("heading", name="My clusters")).to_be_visible()
    assert owner.page.url == f"{gateway.url}/"
    return owner


def test_the_owner_sees_the_dashboard_move(gateway: GatewayProcess, owner: Visitor, cluster: GatewayCluster) -> None:
    """From the console to a page whose files, WebSocket and links all stay below the prefix."""
    with owner.page.expect_popup() as opened:
        owner.page.get_by_role("link", name="Dashboard").click()
    page, below = opened.value, f"{gateway.url}/clusters/{cluster.name}"
    expect(page).to_have_title("Dask: Status")
    assert page.url == f"{below}/status"

    dashboard = Dashboard(page)
    dashboard.show(f"{below}/individual-task-stream")
    (socket,) = dashboard.sockets
    assert socket.url == f"{below.replace('http', 'ws')}/individual-task-stream/ws"
    with cluster.get_client() as client:
        client.wait_for_workers(1, timeout=60)
        before, blank = dashboard.tasks(), dashboard.coloured()
        futures = client.map(lambda _: time.sleep(0.02), range(2000), pure=False)
        some = dashboard.wait_for_tasks(before)
        dashboard.wait_for_tasks(some)
        assert dashboard.coloured() > blank + 1000
        client.cancel(futures)

    dashboard.show(f"{below}/system")
    page.get_by_role("link", name="Graph").click()
    expect(page).to_have_title("Dask: Task Graph")
    dashboard.wait_until_drawn()
    assert page.url == f"{below}/graph"
    page.reload()
    dashboard.wait_until_drawn()
    assert owner.complaints == []
    # Pages of Dask's without an icon of their own: the browser asks the host itself, which is the platform's.
    assert [refusal for refusal in owner.refusals if "/favicon.ico" not in refusal] == []


def test_nobody_else_sees_it(gateway: GatewayProcess, owner: Visitor, cluster: GatewayCluster, visit: Visit) -> None:
    """Another user reads what they read of a name that never was; who is not logged in is led to the login."""
    page = f"{gateway.url}/clusters/{cluster.name}/status"
    stranger = visit()
    stranger.page.goto(page)
    expect(stranger.page.get_by_role("heading", name="Log in")).to_be_visible()
    stranger.paste(gateway.mint("mallory"))
    expect(stranger.page.get_by_role("heading", name="Nothing here")).to_be_visible()

    answers = []
    for address in (page, page.replace(cluster.name, "0123456789abcdef")):
        answer = stranger.page.goto(address)
        assert answer is not None
        answers.append((answer.status, answer.text()))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


def test_the_ticket_opens_this_dashboard_alone(
    gateway: GatewayProcess, owner: Visitor, cluster: GatewayCluster
) -> None:
    """It is sent to no other path, and a WebSocket wants it from a page of the gateway's own."""
    url = f"{gateway.url}/clusters/{cluster.name}/status/ws"
    owner.page.goto(f"{gateway.url}/clusters/{cluster.name}/health")
    sent = owner.cookies(url)
    assert f"tidegate-ticket-{cluster.name}=" in sent
    assert "ticket" not in owner.cookies(f"{gateway.url}/clusters/0123456789abcdef/status")
    assert "ticket" not in owner.cookies(f"{gateway.url}/api/v2/clusters")

    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    handshake |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Cookie": sent}
    origin = gateway.url.removesuffix("/services/dask-gateway")
    for value, status in ((origin, 101), ("http://example.test", 403), ("null", 403)):
        assert httpx.get(url, headers=handshake | {"Origin": value}).status_code == status
    assert httpx.get(url, headers=handshake).status_code == 403


def test_a_dashboard_without_its_cluster_says_so(gateway: GatewayProcess, owner: Visitor) -> None:
    """Below the same address, with the way back to the cluster's page."""
    page = owner.page
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user:
        cluster = user.new_cluster()
        page.goto(f"{gateway.url}/clusters/{cluster.name}/health")
        expect(page.get_by_text("ok")).to_be_visible()
        cluster.shutdown()
        eventually_sync(lambda: user.get_cluster(cluster.name).status.ended, 30)
    page.reload()
    expect(page.get_by_role("heading", name="There is no dashboard now")).to_be_visible()

    page.get_by_role("link", name=cluster.name).click()
    assert page.url == f"{gateway.url}/clusters/{cluster.name}"
