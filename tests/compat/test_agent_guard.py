"""The HTTP servers of schedulers and workers answer to the cluster's dashboard secret alone."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.compat.lab import AGENT, GUARD, HEADERS, SCRIPTS, SECRET, Lab

PRELOAD = """
import pathlib
def dask_setup(server):
    pathlib.Path("{word}-up").touch()
def dask_teardown(server):
    pathlib.Path("{word}-down").touch()
"""
PAGES = [
    "/",
    "/status",
    "/workers",
    "/graph",
    "/system",
    "/profile",
    "/individual-task-stream",
    "/individual-progress",
    "/info/main/workers.html",
    "/json/identity.json",
    "/health",
    "/metrics",
    "/statics/css/base.css",
    "/static/js/bokeh.min.js",
    "/individual-plots.json",
]
SOCKETS = ["/status/ws", "/individual-task-stream/ws", "/eventstream"]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def all_paths(lab: Lab, kind: str) -> list[str]:
    """Return every path that Dask's own HTTP server of that kind knows, groups of a pattern replaced by something."""
    process = await lab.start("paths", str(SCRIPTS / "http_paths.py"), kind)
    out, _ = await process.communicate()
    paths = ["/" + re.sub(r"\([^)]*\)", "1", pattern).lstrip("/") for pattern in out.decode().split()]
    assert len(paths) > 10
    return paths


async def status_of(http: aiohttp.ClientSession, url: str, **headers: str) -> int:
    async with http.get(url, headers=headers, allow_redirects=False) as response:
        return response.status


async def test_every_path_of_a_scheduler_is_closed_to_strangers(lab: Lab, http: aiohttp.ClientSession) -> None:
    """Pages, static files, metrics and JSON are 404 without the secret or with another, and open with it."""
    await lab.scheduler()
    base = f"http://127.0.0.1:{lab.gateway.last.dashboard_port}"
    for page in PAGES:
        # "/" leads on to "/status", and without a Prometheus client there are no metrics.
        expected = {200} if page not in ("/", "/metrics") else {200, 301, 302, 404}
        assert await status_of(http, base + page, **HEADERS) in expected, page
    for path in [*PAGES, *await all_paths(lab, "scheduler"), "/no-such-page"]:
        assert await status_of(http, base + path) == 404, path
    for wrong in ("", SECRET[:-1], SECRET + "x", "geheim\u00e4", f"{SECRET},{SECRET}"):
        assert await status_of(http, f"{base}/status", **{"X-Tidegate-Dashboard": wrong}) == 404, wrong


async def test_a_closed_page_looks_like_one_that_never_was(lab: Lab, http: aiohttp.ClientSession) -> None:
    """A stranger cannot tell from the answers which pages there are."""
    await lab.scheduler()
    base = f"http://127.0.0.1:{lab.gateway.last.dashboard_port}"
    answers = set()
    for path in ("/status", "/metrics", "/no-such-page"):
        async with http.get(base + path) as response:
            answers.add((response.status, await response.text()))
    async with http.get(f"{base}/no-such-page", headers=HEADERS) as response:
        answers.add((response.status, await response.text()))

    assert len(answers) == 1


async def test_websockets_are_closed_to_strangers(lab: Lab, http: aiohttp.ClientSession) -> None:
    """The handshake of a dashboard's WebSocket is refused without the secret, and reaches the application with it."""
    await lab.scheduler()
    base = f"http://127.0.0.1:{lab.gateway.last.dashboard_port}"
    for path in SOCKETS:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(base + path)
        assert refused.value.status == 404, path
    async with http.get(f"{base}/status", headers=HEADERS) as response:
        token = re.search(r'"token":\s*"([^"]+)"', await response.text())
    assert token is not None
    async with http.ws_connect(f"{base}/status/ws", headers=HEADERS, protocols=("bokeh", token[1])) as socket:
        assert "ACK" in await socket.receive_str(timeout=20)


async def test_the_secret_stays_out_of_the_pages(lab: Lab, http: aiohttp.ClientSession) -> None:
    """Bokeh writes the headers of a request into the token of its page: the secret is not among them."""
    from bokeh.util.token import get_token_payload

    await lab.scheduler()
    url = f"http://127.0.0.1:{lab.gateway.last.dashboard_port}/status"
    async with http.get(url, headers=HEADERS | {"X-Harmless": "shown"}) as response:
        token = re.search(r'"token":\s*"([^"]+)"', await response.text())
    assert token is not None
    payload = json.dumps(get_token_payload(token[1]))

    assert "X-Harmless" in payload
    assert SECRET not in payload


@pytest.mark.parametrize("dashboard", ["--dashboard", "--no-dashboard"])
async def test_a_worker_is_closed_to_strangers(lab: Lab, http: aiohttp.ClientSession, dashboard: str) -> None:
    """A worker under a nanny, by Dask's own command line, is guarded; its server listens even without dashboard."""
    await lab.scheduler()
    await lab.gateway.want({"default": (1, None, None)})
    await start_worker(lab, dashboard, "--dashboard-address", "127.0.0.1:0")
    await lab.gateway.until(lambda report: report.workers == ["default-1"])
    identity = f"http://127.0.0.1:{lab.gateway.last.dashboard_port}/json/identity.json"
    async with http.get(identity, headers=HEADERS) as response:
        [worker] = (await response.json())["workers"].values()
    base = f"http://127.0.0.1:{worker['services']['dashboard']}"

    assert await status_of(http, f"{base}/health", **HEADERS) == 200
    for path in [*await all_paths(lab, "worker"), "/status", "/status/ws", "/health", "/metrics"]:
        assert await status_of(http, base + path) == 404, path


async def start_worker(lab: Lab, *options: str, **environment: str) -> None:
    module = ("-m", "distributed.cli.dask_worker", lab.address, "--name", "default-1", "--nthreads", "1")
    await lab.start("worker", *module, "--host", "127.0.0.1", "--preload", str(GUARD), *options, **environment)


def write_preload(folder: Path, word: str, body: str = PRELOAD) -> str:
    path = folder / f"{word}_preload.py"
    path.write_text(body.format(word=folder / word))
    return json.dumps([str(path)])


async def test_the_preloads_of_an_image_still_run(lab: Lab) -> None:
    """What an environment configures for schedulers and workers is set up and torn down beside what is ours."""
    of_scheduler = write_preload(lab.folder, "scheduler")
    of_worker = write_preload(lab.folder, "worker")
    await lab.scheduler(DASK_DISTRIBUTED__SCHEDULER__PRELOAD=of_scheduler)
    await lab.gateway.want({"default": (1, None, None)})
    await start_worker(lab, DASK_DISTRIBUTED__WORKER__PRELOAD=of_worker)
    await lab.gateway.until(lambda report: report.workers)
    assert {path.name for path in lab.folder.glob("*-up")} == {"scheduler-up", "worker-up"}
    # A nanny that is told to end while it still waits for its worker's first word lets nothing be torn down.
    client = await lab.client("print(client.submit(sum, [1, 2]).result(), flush=True)")
    await client.hear("3")
    await lab.gateway.want(exit=True)
    assert await lab.exit_status("scheduler") == 0
    await lab.exit_status("worker")

    assert {path.name for path in lab.folder.glob("*-down")} == {"scheduler-down", "worker-down"}


async def test_a_configured_preload_that_is_ours_is_not_started_twice(lab: Lab, http: aiohttp.ClientSession) -> None:
    """Where the configuration names the agent itself, there is one agent, and the scheduler is guarded."""
    lab.write_agent_file()
    module = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
    environment = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": json.dumps([str(AGENT)])}
    await lab.start("scheduler", *module, "--dashboard-address", "127.0.0.1:0", **environment)
    await lab.reported()

    assert await status_of(http, f"http://127.0.0.1:{lab.gateway.last.dashboard_port}/status") == 404
    assert lab.log("scheduler").read_text().count("Run preload setup") == 1


async def test_the_agent_works_as_text_in_the_environment(lab: Lab, http: aiohttp.ClientSession) -> None:
    """A backend that can place no file hands over the text itself."""
    lab.write_agent_file()
    module = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
    environment = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": json.dumps([AGENT.read_text()])}
    await lab.start("scheduler", *module, "--dashboard-address", "127.0.0.1:0", **environment)
    await lab.reported()

    base = f"http://127.0.0.1:{lab.gateway.last.dashboard_port}"
    assert await status_of(http, f"{base}/status") == 404
    assert await status_of(http, f"{base}/status", **HEADERS) == 200


async def test_a_configured_preload_that_cannot_be_loaded_ends_the_scheduler(lab: Lab) -> None:
    """As with stock Dask, and with a traceback in the log; the exit status says that it was not the gateway's wish."""
    broken = write_preload(lab.folder, "broken", "raise RuntimeError('no licence for this image')")
    await lab.start_scheduler(DASK_DISTRIBUTED__SCHEDULER__PRELOAD=broken)

    assert await lab.exit_status("scheduler") == 70
    await lab.wait_for_log("scheduler", "no licence for this image")


@pytest.mark.parametrize("content", [None, "{}", "empty secret"])
async def test_without_an_agent_file_nothing_starts(lab: Lab, content: str | None) -> None:
    """A scheduler or a worker that could not be guarded ends with a sentence instead."""
    path = lab.folder / "agent.json"
    if content == "empty secret":
        lab.write_agent_file()
        path.write_text(path.read_text().replace(SECRET, ""))
    elif content is not None:
        path.write_text(content)
    lab.address = "tcp://127.0.0.1:1"
    await lab.start("scheduler", "-m", "distributed.cli.dask_scheduler", "--port", "0", "--preload", str(AGENT))
    await start_worker(lab)

    for name in ("scheduler", "worker"):
        assert await lab.exit_status(name) == 1
        log = lab.log(name).read_text()
        assert "cannot start" in log
        assert str(path) in log
        assert "Traceback" not in log
