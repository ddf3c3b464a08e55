"""Dashboards of real clusters in a real browser: they move, and a hostile one can do nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from distributed import Client
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually_sync
from tidegate import Gateway, GatewayCluster, TokenAuth

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

TASKS = 20
PAGES = ["status", "individual-task-stream", "individual-progress", "profile", "system", "graph", "workers"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium"),
]

HOSTILE = """
<!doctype html><title>waiting</title><script>
const main = MAIN, found = {};
const shown = frame => frame.contentDocument && frame.contentDocument.body.innerText ? "read" : "not read";
async function attempt(name, action) {
  try { found[name] = await action(); } catch (error) { found[name] = "refused"; }
}
(async () => {
  await attempt("read", async () => (await fetch(main + "/api/v2/clusters", {credentials: "include"})).status);
  await attempt("whoami", async () => (await fetch("/api/v2/whoami")).status);
  await attempt("create", async () => (await fetch(main + "/api/v2/clusters", {method: "POST", mode: "no-cors",
    credentials: "include", body: "{}", headers: {"Content-Type": "text/plain"}})).type);
  await attempt("create in v1", async () => (await fetch(main + "/api/v1/clusters/", {method: "POST", mode: "no-cors",
    credentials: "include", body: "{}"})).type);
  await attempt("stop", async () => (await fetch(main + "/api/v2/clusters/" + NAME, {method: "DELETE",
    credentials: "include"})).status);
  await attempt("form", async () => {
    const frame = document.body.appendChild(document.createElement("iframe"));
    frame.name = "target";
    const form = document.body.appendChild(document.createElement("form"));
    form.action = main + "/clusters/" + NAME + "/stop"; form.method = "post"; form.target = "target";
    const loaded = new Promise(done => { frame.onload = done; setTimeout(done, 3000); });
    form.submit(); await loaded;
    return shown(frame);
  });
  await attempt("frame", async () => {
    const frame = document.body.appendChild(document.createElement("iframe"));
    const loaded = new Promise(done => { frame.onload = done; setTimeout(done, 3000); });
    frame.src = main + "/"; await loaded;
    return shown(frame);
  });
  await attempt("worker", async () => (await navigator.serviceWorker.register("/hostile.js")) && "registered");
  found["cookie"] = document.cookie;
  found["opener"] = String(window.opener);
  document.body.innerText = JSON.stringify(found);
  document.title = "done";
})();
</script><body></body>
"""


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@contextmanager
def running_cluster(gateway: GatewayProcess) -> Iterator[tuple[GatewayCluster, Client]]:
    """Return a cluster with a worker, and a client of it; it is gone afterwards."""
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user, user.new_cluster() as cluster:
        cluster.scale(1)
        with cluster.get_client(set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
            yield cluster, client
        cluster.shutdown()


def log_in(browser: Browser, gateway: GatewayProcess, base: str) -> Page:
    """Return a page of a browser that is logged in to the console at ``base``, as someone who pasted the token."""
    page = browser.new_context().new_page()
    page.goto(f"{base}/login")
    page.locator("input[name=token]").fill(gateway.token)
    page.locator("main button, form button").first.click()
    page.wait_for_url(f"{base}/")
    return page


def drawn(page: Page) -> int:
    """Return how many rectangles the page's task stream shows."""
    count: int = page.evaluate(
        """() => {
          const documents = window.Bokeh ? window.Bokeh.documents : [];
          let most = 0;
          for (const one of documents)
            for (const model of one._all_models.values())
              if (model.type === "ColumnDataSource" && model.data.duration)
                most = Math.max(most, model.data.duration.length);
          return most;
        }"""
    )
    return count


def work(client: Client) -> None:
    """Give the cluster something that its dashboards show."""

    def nap(number: int) -> int:
        import time

        time.sleep(0.02)
        return number

    client.gather(client.map(nap, range(TASKS), pure=False))


def test_the_task_stream_moves(gateway: GatewayProcess, browser: Browser) -> None:
    """From the one-time link over the console to a dashboard whose WebSocket brings what happens."""
    with running_cluster(gateway) as (cluster, client):
        page = log_in(browser, gateway, gateway.url)
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.goto(f"{gateway.url}/clusters/{cluster.name}/individual-task-stream")

        assert f"//{cluster.name}.localhost:" in page.url
        eventually_sync(lambda: page.evaluate("() => !!(window.Bokeh && Bokeh.documents.length)"), 30)
        assert drawn(page) < TASKS
        work(client)

        eventually_sync(lambda: drawn(page) >= TASKS, 30, "the task stream shows the tasks")
        assert any(f"//{cluster.name}.localhost:" in url for url in sockets)


def test_every_page_of_the_dashboard_is_there(gateway: GatewayProcess, browser: Browser) -> None:
    """All that JupyterLab's panel offers, with scripts and styles, and nothing that failed to load."""
    with running_cluster(gateway) as (cluster, client):
        work(client)
        page = log_in(browser, gateway, gateway.url)
        failed: list[str] = []
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        for name in PAGES:
            page.goto(f"{gateway.url}/clusters/{cluster.name}/{name}")
            eventually_sync(lambda: page.evaluate("() => !!(window.Bokeh && Bokeh.documents.length)"), 30, name)
        assert [url for url in failed if not url.endswith("favicon.ico")] == []


def serve_page(html: str) -> Callable[[Any], None]:
    """Return what puts a page of its owner's on a scheduler's dashboard."""

    def install(dask_scheduler: Any) -> None:
        from tornado.web import RequestHandler

        class Page(RequestHandler):
            def get(self) -> None:
                self.set_header("Content-Type", "text/html")
                self.write(html)

        class Script(RequestHandler):
            def get(self) -> None:
                self.set_header("Content-Type", "text/javascript")
                self.write("")

        dask_scheduler.http_application.add_handlers(r".*", [(r"/hostile", Page), (r"/hostile.js", Script)])

    return install


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_hostile_dashboard_cannot_act_with_the_viewers_login(
    gateway: GatewayProcess, browser: Browser, host: str
) -> None:
    """Its scripts run beside a logged-in console, and get nothing: no answer, no cluster, no stop, no cookie."""
    base = gateway.url.replace("127.0.0.1", host)
    with running_cluster(gateway) as (cluster, client):
        html = HOSTILE.replace("MAIN", json.dumps(base)).replace("NAME", json.dumps(cluster.name))
        client.run_on_scheduler(serve_page(html))
        page = log_in(browser, gateway, base)
        page.goto(f"{base}/clusters/{cluster.name}/hostile")
        page.wait_for_function("document.title === 'done'", timeout=60_000)
        found = json.loads(page.locator("body").inner_text())

        clusters = httpx.get(f"{gateway.url}/api/v2/clusters", headers=gateway.headers).json()["clusters"]
        mine = [c for c in clusters if c["state"] == "running"]
        assert [(c["name"], c["target"]) for c in mine] == [(cluster.name, "running")]
        assert found["read"] == found["stop"] == found["worker"] == "refused"
        assert found["whoami"] in (404, 421)
        assert found["form"] == found["frame"] == "not read"
        assert found["cookie"] == ""
        assert page.context.cookies(base), "the viewer was logged in all the time"
