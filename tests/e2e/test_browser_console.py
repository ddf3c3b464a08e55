"""The console in a real browser, on a whole gateway: what a person sees from the link in the terminal to the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.browser import PHONE, Visitor
from tests.e2e.gateways import GatewayProcess, serving
from tests.support import eventually_sync
from tidegate import Gateway, TokenAuth

Visit = Callable[[], Visitor]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

SOON = 7_000
"""Milliseconds within which a change is on the page: before the page is refreshed without one (every 15 s)."""

CONFIG = """
backend:
  name: local
  environments: {broken: ./python-without-dask}
"""

PYTHON_WITHOUT_DASK = """#!/bin/sh
echo "ModuleNotFoundError: No module named 'distributed'" >&2
exit 1
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway of this file's own, whose login link nobody has used, and with an environment that does not work."""
    folder = tmp_path_factory.mktemp("console")
    (folder / "home").mkdir()
    python = folder / "home" / "python-without-dask"
    python.write_text(PYTHON_WITHOUT_DASK)
    python.chmod(0o755)
    with serving(folder, CONFIG) as gateway:
        yield gateway


@pytest.fixture
def user(gateway: GatewayProcess) -> Iterator[Gateway]:
    """The same person's notebook. What a test leaves behind is stopped."""
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user:
        yield user
        for report in user.list_clusters():
            user.stop_cluster(report.name)


@pytest.fixture
def owner(gateway: GatewayProcess, visit: Visit) -> Visitor:
    """Somebody who has logged in."""
    owner = visit()
    owner.log_in(gateway.url, gateway.token)
    return owner


def row_of(page: Page, name: str) -> Locator:
    """Return the part of the list that shows a cluster."""
    return page.get_by_role("listitem").filter(has_text=name)


def test_the_link_in_the_terminal_logs_in_once(gateway: GatewayProcess, visit: Visit) -> None:
    """One click and one is in, with nothing secret left in the address; after logging out it opens nothing."""
    visitor = visit()
    page = visitor.page

    page.goto(gateway.login_url)
    expect(page.get_by_role("heading", name="My clusters")).to_be_visible()
    expect(page.get_by_text("No cluster is running")).to_be_visible()
    assert page.url == f"{gateway.url}/"

    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert visitor.context.cookies() == []
    page.goto(gateway.login_url)
    expect(page.get_by_role("alert")).to_contain_text("was used already")
    page.goto(gateway.url)
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert visitor.complaints == []


def test_whoever_is_not_logged_in_sees_the_login_page_alone(gateway: GatewayProcess, visit: Visit) -> None:
    """A wrong token is told in words; the right one leads to where one was going."""
    visitor = visit()
    page = visitor.page

    page.goto(f"{gateway.url}/clusters/0123456789abcdef")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    visitor.paste(f"tdg_{43 * 'x'}")
    expect(page.get_by_role("alert")).to_have_text("The gateway does not know this token.")
    expect(page.get_by_label("Token")).to_be_empty()
    visitor.paste(f" {gateway.token}\n")
    expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()

    assert page.url == f"{gateway.url}/clusters/0123456789abcdef"
    assert [re.sub(r".*status of (\d+).*", r"\1", refusal) for refusal in visitor.refusals] == ["401", "404"]
    assert visitor.complaints == []


def test_the_list_is_alive(gateway: GatewayProcess, user: Gateway, owner: Visitor) -> None:
    """What a notebook does appears by itself: a cluster, its state, its workers; the button ends it for real."""
    page = owner.page
    page.evaluate("window.neverReloaded = true")

    cluster = user.new_cluster(shutdown_on_close=False)
    row = row_of(page, cluster.name)
    expect(row).to_contain_text("Running", timeout=SOON)
    expect(row).to_contain_text("0 / 0 workers", timeout=SOON)
    cluster.scale(1)
    cluster.wait_for_workers(1, timeout=60)
    expect(row).to_contain_text("1 / 1 worker", timeout=SOON)
    cluster.close()

    page.once("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Stop").click()
    eventually_sync(lambda: not gateway.processes(cluster.name), 30, "nothing of the cluster is left")
    expect(row).to_contain_text("Stopped", timeout=SOON)
    expect(page.get_by_text("No cluster is running")).to_be_visible(timeout=SOON)

    assert page.evaluate("window.neverReloaded")
    assert owner.complaints == []
    assert owner.refusals == []


def test_a_cluster_that_fails_shows_why(owner: Visitor) -> None:
    """Its page fills with the reason and the end of the log while one looks, and keeps them."""
    page = owner.page
    page.get_by_text("New cluster").click()
    page.get_by_label("Environment").select_option("broken")
    page.get_by_role("button", name="Create cluster").click()

    expect(page.get_by_text("Failed", exact=True)).to_be_visible()
    expect(page.get_by_text("ended by itself").first).to_be_visible()
    expect(page.get_by_text("ModuleNotFoundError: No module named 'distributed'").first).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(page.get_by_role("link", name="Dashboard")).to_have_count(0)
    name = page.locator("h1").inner_text()

    page.reload()
    expect(page.get_by_text("ModuleNotFoundError: No module named 'distributed'").first).to_be_visible()
    page.get_by_role("link", name="My clusters").click()
    expect(row_of(page, name)).to_contain_text("ended by itself")
    assert owner.complaints == []


def test_a_phone_is_enough(gateway: GatewayProcess, user: Gateway, owner: Visitor) -> None:
    """Create, look, resize and stop with a thumb: nothing is wider than the screen."""
    page = owner.page
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.get_by_text("New cluster").click()
    assert owner.fits()
    page.get_by_role("button", name="Create cluster").click()
    expect(page.get_by_text("Running", exact=True)).to_be_visible()

    page.get_by_label("Workers").fill("1")
    page.get_by_role("button", name="Scale").click()
    expect(page.get_by_text("1 / 1 worker")).to_be_visible()
    expect(page.get_by_role("link", name="Dashboard")).to_be_in_viewport()
    page.get_by_role("link", name="Show logs").click()
    expect(page.get_by_text("Scheduler at").first).to_be_visible()
    assert owner.fits()

    page.get_by_role("link", name="My clusters").click()
    assert owner.fits()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("No cluster is running")).to_be_visible()
    assert user.list_clusters() == []
    assert owner.complaints == []


def test_logging_out_in_one_tab_ends_the_others(gateway: GatewayProcess, owner: Visitor) -> None:
    """The next thing that one does there asks for the login."""
    other = owner.context.new_page()
    other.goto(gateway.url)
    expect(other.get_by_role("heading", name="My clusters")).to_be_visible()

    owner.page.get_by_role("button", name="Log out").click()
    expect(owner.page.get_by_role("heading", name="Log in")).to_be_visible()

    other.get_by_text("New cluster").click()
    other.get_by_role("button", name="Create cluster").click()
    expect(other.get_by_role("heading", name="Please log in")).to_be_visible()
    assert owner.complaints == []
