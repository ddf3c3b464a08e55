"""The console in a real browser: scripts, cookies and the content security policy as they really are."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from playwright.async_api import Dialog, Page, async_playwright, expect

from tests.in_process import Gateway, listening
from tidegate.authn.roster import Roster
from tidegate.control.bus import of_cluster
from tidegate.model import event as kinds
from tidegate.model.cluster import Target, WorkerGroup
from tidegate.model.event import Event
from tidegate.model.principal import Principal

CHROMIUM = shutil.which("chromium")

SITE = "gate.example.test"
"""A host name that can have siblings of the same site, which ``localhost`` cannot: cookies are sent between them."""

FLAGS = [
    f"--host-resolver-rules=MAP {SITE} 127.0.0.1, MAP *.{SITE} 127.0.0.1",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium"),
]


@dataclass
class Visit:
    """A page in the browser, and what the browser complained about."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
async def visit(gateway: Gateway) -> AsyncIterator[Visit]:
    """A browser that is not logged in."""
    async with listening(gateway) as address, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await (await browser.new_context()).new_page()
        visit = Visit(page, address)
        page.on("console", lambda m: visit.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        yield visit
        await browser.close()


async def until_stopped(gateway: Gateway, name: str) -> None:
    """Wait until the wish to stop is on record."""
    with gateway.records._bus.listen(of_cluster(name)) as listener:
        while (await gateway.store.load(name)).target is not Target.STOPPED:
            assert await listener.changed(10)


async def test_a_day_in_the_console(gateway: Gateway, visit: Visit) -> None:
    """Log in on the way to a page, create, watch it grow without reloading, read logs, stop, log out."""
    page = visit.page
    await page.goto(visit.address + "/")
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    await page.get_by_label("Token").fill(gateway.tokens["alice"])
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_text("No cluster is running")).to_be_visible()

    await page.get_by_text("New cluster").click()
    await page.get_by_label("Worker cores").fill("2")
    await page.get_by_role("button", name="Create cluster").click()
    await expect(page.get_by_text("Requested", exact=True)).to_be_visible()
    (cluster,) = await gateway.store.active()

    await gateway.become_running(cluster.name, workers=1)
    await expect(page.get_by_text("Running", exact=True)).to_be_visible()
    await expect(page.get_by_text("1 / 1 worker")).to_be_visible()
    await expect(page.get_by_text("The cluster is running")).to_be_visible()
    await page.get_by_role("link", name="Show logs").click()
    await expect(page.get_by_text("scheduler line").first).to_be_visible()
    assert "<b>worker</b> line" in (await page.locator("#logs").text_content() or "")

    await page.get_by_role("link", name="My clusters").click()
    await gateway.change(cluster.name, Event(kinds.SCALED, "more"), groups=(WorkerGroup(wanted=5, launched=5),))
    await expect(page.get_by_text("1 / 5 workers")).to_be_visible()
    page.once("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Stop").click()
    await until_stopped(gateway, cluster.name)
    await gateway.change(cluster.name, Event(kinds.STOPPING, "The cluster is shutting down"))
    await expect(page.get_by_text("Stopping", exact=True)).to_be_visible()

    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert await page.context.cookies() == []
    assert visit.complaints == []


async def test_not_confirming_stops_nothing(gateway: Gateway, visit: Visit) -> None:
    """The dialog can be dismissed."""
    cluster = await gateway.create()
    await visit.page.goto(f"{visit.address}/login?code={gateway.services.codes.mint(Principal('alice'))}")
    asked: list[str] = []

    async def dismiss(dialog: Dialog) -> None:
        asked.append(dialog.message)
        await dialog.dismiss()

    visit.page.on("dialog", dismiss)

    await visit.page.get_by_role("button", name="Stop").click()

    assert cluster.name in asked[0]
    assert (await gateway.store.load(cluster.name)).target is Target.RUNNING


async def test_logging_in_leads_through_to_the_dashboards_host(gateway: Gateway, visit: Visit) -> None:
    """The form's answer leads to another host, which the content security policy must allow."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    port = visit.address.rpartition(":")[2]
    dashboard = f"http://{cluster.name}.localhost:{port}/_tidegate/open"
    reached: list[str] = []
    visit.page.on("request", lambda request: reached.append(request.url))

    await visit.page.goto(f"{visit.address}/clusters/{cluster.name}/status")
    await visit.page.get_by_label("Token").fill(gateway.tokens["alice"])
    await visit.page.get_by_role("button", name="Log in").click()
    await visit.page.wait_for_url(f"{dashboard}*")

    assert any(url.startswith(dashboard) for url in reached)


async def test_a_page_of_a_sibling_host_cannot_use_the_session(gateway: Gateway, visit: Visit) -> None:
    """What a dashboard's page could try, with the session's cookie being sent: neither reading nor acting works."""
    cluster = await gateway.create()
    port = visit.address.rpartition(":")[2]
    home = f"http://{SITE}:{port}"
    await visit.page.goto(f"{home}/login?code={gateway.services.codes.mint(Principal('alice'))}")
    await expect(visit.page.get_by_role("heading", name="My clusters")).to_be_visible()
    hostile = await visit.page.context.new_page()
    # Any page on a dashboard's host; what serves it here does not matter, its origin does.
    await hostile.goto(f"http://{cluster.name}.{SITE}:{port}/api/health")

    read = await hostile.evaluate(
        """async home => {
          const tries = [];
          for (const mode of ["cors", "no-cors"])
            for (const path of ["/api/v2/clusters", "/"]) {
              try {
                const reply = await fetch(home + path, {mode, credentials: "include"});
                tries.push(await reply.text());
              } catch (error) { tries.push(""); }
            }
          return tries.join("");
        }""",
        home,
    )
    await hostile.evaluate(
        """async ([home, name]) => {
          for (const path of [`/console/clusters/${name}/stop`, "/console/clusters", `/api/v1/clusters/${name}/scale`])
            await fetch(home + path, {method: "POST", mode: "no-cors", credentials: "include"}).catch(() => {});
        }""",
        [home, cluster.name],
    )
    await hostile.set_content(f'<form method="post" action="{home}/console/clusters/{cluster.name}/stop"></form>')
    await hostile.evaluate("document.forms[0].submit()")
    await hostile.wait_for_url(f"{home}/**")

    assert cluster.name not in read
    assert len(await gateway.store.active()) == 1
    assert (await gateway.store.load(cluster.name)).target is Target.RUNNING


async def test_no_page_is_shown_in_a_frame(gateway: Gateway, visit: Visit) -> None:
    """A click on what looks like a game must not press our buttons."""
    port = visit.address.rpartition(":")[2]
    home = f"http://{SITE}:{port}"
    await visit.page.goto(f"{home}/login?code={gateway.services.codes.mint(Principal('alice'))}")
    hostile = await visit.page.context.new_page()
    await hostile.goto(f"http://x.{SITE}:{port}/api/health")
    refused: list[str] = []
    hostile.on("console", lambda message: refused.append(message.text))

    async with hostile.expect_console_message(lambda message: "frame-ancestors" in message.text):
        await hostile.set_content(f'<iframe src="{home}/"></iframe>')

    assert refused


async def test_a_token_is_made_and_revoked(gateway: Gateway, visit: Visit) -> None:
    """By two forms, whose answers the content security policy lets through."""
    page = visit.page
    await page.goto(f"{visit.address}/login?code={gateway.services.codes.mint(Principal('carol'))}")
    await page.get_by_role("link", name="Tokens").click()
    await page.get_by_label("What it is for").fill("laptop")
    await page.get_by_label("Read only").check()
    await page.get_by_role("button", name="Create token").click()
    secret = await page.locator("#secret").inner_text()

    assert (await gateway.client(secret).get("/api/v2/whoami")).json()["name"] == "carol"
    assert (await gateway.client(secret).post("/api/v2/clusters", json={})).status_code == 403
    await page.get_by_role("button", name="Revoke").click()
    await expect(page.get_by_text("You have no tokens")).to_be_visible()
    assert (await gateway.client(secret).get("/api/v2/whoami")).status_code == 401
    assert visit.complaints == []


async def test_a_cluster_is_shared_and_withdrawn(gateway: Gateway, visit: Visit) -> None:
    """By the Sharing section alone; the other's page, open meanwhile, says when it is over."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name)
    page, bobs = visit.page, await (await visit.page.context.browser.new_context()).new_page()  # type: ignore[union-attr]
    await page.goto(f"{visit.address}/login?code={gateway.services.codes.mint(Principal('alice'))}")
    await bobs.goto(f"{visit.address}/login?code={gateway.services.codes.mint(Principal('bob'))}")
    await bobs.get_by_role("link", name="Shared with me").click()
    await expect(bobs.get_by_text("Nobody shares a running cluster with you")).to_be_visible()

    await page.get_by_role("link", name=cluster.name).click()
    sharing = page.locator("#sharing")
    await expect(sharing.get_by_text("shared with nobody")).to_be_visible()
    await sharing.get_by_label("Name", exact=True).fill("bob")
    await sharing.get_by_label("What they may do").select_option("use")
    await sharing.get_by_role("button", name="Share").click()
    await expect(sharing.get_by_text("user, may use")).to_be_visible()

    await bobs.get_by_role("link", name=cluster.name).click()
    await expect(bobs.get_by_text("This cluster belongs to alice. It is shared with you to use")).to_be_visible()
    await expect(bobs.get_by_text("From a notebook")).to_be_visible()
    await expect(bobs.get_by_role("button", name="Stop")).to_have_count(0)
    await expect(bobs.locator("#sharing")).to_have_count(0)

    await sharing.get_by_role("button", name="Withdraw from user bob").click()
    await expect(sharing.get_by_text("shared with nobody")).to_be_visible()
    await expect(bobs.get_by_role("alert")).to_have_text("This cluster is not shared with you any more.")
    assert visit.complaints == []


async def test_an_administrator_acts_on_behalf_of_a_user(gateway: Gateway, visit: Visit) -> None:
    """From the user's cluster to their form and back to being oneself, with the banner always in sight."""
    cluster = await gateway.create("alice")
    gateway.app.state.services = replace(gateway.services, roster=Roster(admins=("rita",)))
    page = visit.page
    await page.goto(f"{visit.address}/login?code={gateway.services.codes.mint(Principal('rita'))}")
    banner = page.get_by_text("You, rita, act on behalf of alice")
    await page.goto(f"{visit.address}/clusters/{cluster.name}")
    await expect(page.get_by_text("You see it as an administrator")).to_be_visible()
    await page.get_by_role("button", name="Act on behalf of alice").click()
    await expect(banner).to_be_in_viewport()
    await page.mouse.wheel(0, 5000)
    await expect(banner).to_be_in_viewport()

    await page.get_by_role("link", name="My clusters").click()
    await page.get_by_text("New cluster").click()
    await page.get_by_role("button", name="Create cluster").click()
    await expect(page.get_by_text("The cluster was requested (administrator rita, on behalf of alice)")).to_be_visible()
    assert {one.owner for one in await gateway.store.active()} == {"alice"}

    await page.get_by_role("button", name="Stop acting on their behalf").click()
    await expect(banner).to_have_count(0)
    await expect(page.get_by_role("link", name="On behalf")).to_be_visible()
    await expect(page.get_by_text("No cluster is running")).to_be_visible()
    assert visit.complaints == []


async def test_a_link_is_made_copied_and_withdrawn(gateway: Gateway, visit: Visit) -> None:
    """The button copies it by a script of ours, which the content security policy lets in."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name)
    page = visit.page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto(f"{visit.address}/login?code={gateway.services.codes.mint(Principal('alice'))}")
    await page.goto(f"{visit.address}/clusters/{cluster.name}")

    await page.get_by_label("What the link is for").fill("meeting")
    await page.get_by_role("button", name="Make a link").click()
    shown = await page.locator("#link").inner_text()
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == shown
    assert shown.startswith(f"{visit.address}/shared/")

    await page.get_by_role("button", name="Withdraw link meeting").click()
    await expect(page.get_by_text("A link to the dashboard was withdrawn: meeting")).to_be_visible()
    await expect(page.get_by_role("button", name="Withdraw link meeting")).to_have_count(0)
    assert visit.complaints == []
