"""The pages: what they show, what they hide, and what their buttons do."""

from __future__ import annotations

import hashlib
import html
import re
from pathlib import Path

import pytest

import tidegate.console
from tests.in_process import NOW, Gateway
from tidegate.model import event as kinds
from tidegate.model.cluster import Adaptive, ClusterState, Reason, Target, WorkerGroup
from tidegate.model.event import Event

STATIC = Path(tidegate.console.__file__).parent / "static"


def text_of(page: str) -> str:
    """Return a page without its tags."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


async def test_an_empty_page_says_how_to_begin(gateway: Gateway) -> None:
    """With a form and the lines for a notebook."""
    page = text_of((await gateway.browser("alice").get("/")).text)

    assert "No cluster is running" in page
    assert "New cluster" in page
    assert "gateway.new_cluster()" in page
    assert "alice" in page


async def test_my_clusters_are_shown_with_what_matters(gateway: Gateway) -> None:
    """State, workers there and wanted, shape, age, the way to the dashboard, a button to stop; nobody else's."""
    cluster = await gateway.create("alice", worker_cores=4, worker_memory=8)
    await gateway.become_running(cluster.name, workers=2)
    group = WorkerGroup(wanted=3, adaptive=Adaptive(1, 5), launched=2)
    await gateway.change(cluster.name, groups=(group,))
    foreign = await gateway.create("mallory")
    gateway.clock.now += 3 * 3600 + 120

    page = (await gateway.browser("alice").get("/")).text
    words = text_of(page)

    assert "Running" in words
    assert "2 / 3 workers" in words
    assert "adaptive 1\N{EN DASH}5" in words
    assert "4 cores · 8 GiB a worker · 3 h 2 min ago" in words
    assert f'href="/clusters/{cluster.name}/status"' in page
    assert f'action="/console/clusters/{cluster.name}/stop"' in page
    assert foreign.name not in page


async def test_what_has_ended_says_why(gateway: Gateway) -> None:
    """A failed cluster stays in sight with its reason and without buttons."""
    cluster = await gateway.create()
    await gateway.become_failed(cluster.name)

    page = (await gateway.browser("alice").get("/")).text

    assert "Earlier" in page
    assert "The scheduler ended by itself: exit code 1" in page
    assert f"/console/clusters/{cluster.name}/stop" not in page


async def test_workers_that_do_not_stay_are_explained(gateway: Gateway) -> None:
    """With the reason of the latest one."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    trouble = Reason("out-of-memory", "The worker used more memory than its limit", "secret detail", "MemoryError")
    await gateway.change(cluster.name, groups=(WorkerGroup(wanted=1, failures=2, trouble=trouble),))

    home = (await gateway.browser("alice").get("/")).text
    detail = (await gateway.browser("alice").get(f"/clusters/{cluster.name}")).text

    assert "Workers do not stay: The worker used more memory than its limit" in home
    assert "MemoryError" in detail
    assert "secret detail" not in home + detail


async def test_one_cluster_shows_its_history_and_its_reason(gateway: Gateway) -> None:
    """The newest event first; the end of the log in full; the operator's detail never."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    await gateway.become_failed(cluster.name)

    reply = await gateway.browser("alice").get(f"/clusters/{cluster.name}")
    words = text_of(reply.text)

    assert words.index("exit code 1") < words.index("The cluster is running") < words.index("The cluster was requested")
    assert "ModuleNotFoundError: no <dask>" in words
    assert "2023-11-14 22:13:20 UTC" in reply.text
    assert "secret detail" not in reply.text
    assert "Scale" not in words


async def test_only_the_last_events_are_shown(gateway: Gateway) -> None:
    """A cluster that adapts for months does not make an endless page."""
    cluster = await gateway.create()
    await gateway.change(cluster.name, *(Event(kinds.WORKERS, f"event {n}.") for n in range(1200)))

    page = (await gateway.browser("alice").get(f"/clusters/{cluster.name}")).text

    assert page.count("<li class") == 50
    assert "event 1199." in page
    assert "event 1149." not in page


async def test_nothing_of_a_user_is_markup(gateway: Gateway) -> None:
    """Options, reasons, logs, names: what looks like a tag is text."""
    evil = "<script>alert(1)</script>\"'"
    cluster = await gateway.create()
    reason = Reason("exited", evil, log_tail=evil)
    await gateway.change(
        cluster.name,
        Event(kinds.FAILED, evil, {"log_tail": evil}),
        state=ClusterState.FAILED,
        target=Target.STOPPED,
        stopped_at=NOW,
        reason=reason,
        options={"queue": evil},
    )
    browser = gateway.browser("alice")

    for path in ("/", f"/clusters/{cluster.name}", f"/console/clusters/{cluster.name}/logs", f"/login?next=/{evil}"):
        page = (await browser.get(path)).text
        assert "<script>alert" not in page
        assert "<b>worker" not in page


async def test_every_page_has_a_strict_policy(gateway: Gateway) -> None:
    """No inline script or style, nothing from elsewhere, in nobody's frame; the templates keep to it."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name, workers=1)
    browser = gateway.browser("alice", **{"X-Forwarded-Host": "127.0.0.1:8000"})

    for path in ("/", "/login", "/nonsense", f"/clusters/{cluster.name}", f"/console/clusters/{cluster.name}/logs"):
        reply = await browser.get(path)
        assert reply.headers["content-security-policy"] == (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self' http://*.localhost:8000; base-uri 'none'; frame-ancestors 'none'"
        )
        assert reply.headers["cross-origin-opener-policy"] == "same-origin"
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:", reply.text)


@pytest.mark.parametrize("prefix", ["", "/services/dask"])
async def test_every_link_stays_below_the_prefix(gateway: Gateway, prefix: str) -> None:
    """Behind a hub the gateway is not at the root."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    browser = gateway.browser("alice", **({"X-Forwarded-Prefix": prefix} if prefix else {}))

    for path in ("/", f"/clusters/{cluster.name}", "/login", f"/console/clusters/{cluster.name}/logs", "/nonsense"):
        page = (await browser.get(path)).text
        links = re.findall(r'(?:href|src|action|hx-get|hx-post|sse-connect)="([^"]+)"', page)
        assert links
        assert all(link.startswith(prefix + "/") for link in links), links


async def test_a_cluster_is_created_by_the_form(gateway: Gateway) -> None:
    """Every kind of option; a box that is not ticked is false; a fixed one is left alone."""
    browser = gateway.browser("alice", **{"X-Forwarded-Prefix": "/p"})
    form = {"worker_cores": "3", "worker_memory": "4.5", "environment": "geo-2026", "profile": "on", "queue": "short"}

    reply = await browser.post("/console/clusters", data=form)
    (created,) = await gateway.store.active()
    plain = await browser.post("/console/clusters", data={"worker_cores": "1"})

    assert reply.status_code == plain.status_code == 303
    assert reply.headers["location"] == f"/p/clusters/{created.name}"
    assert created.options == {
        "worker_cores": 3,
        "worker_memory": 4.5,
        "environment": "geo-2026",
        "queue": "long",
        "profile": True,
    }


@pytest.mark.parametrize("value", ["99", "x", "", "1.5", "9" * 30, "<b>"])
async def test_a_mistake_is_shown_in_the_form(gateway: Gateway, value: str) -> None:
    """With the rule, at the field, and with what was typed; nothing is created."""
    reply = await gateway.browser("alice").post(
        "/console/clusters", data={"worker_cores": value, "worker_memory": "4.5", "profile": "on"}
    )

    assert reply.status_code == 422
    assert "Cannot set worker_cores to" in reply.text
    assert '<details class="card new" open>' in reply.text
    assert 'class="field wrong"' in reply.text
    assert f'value="{html.escape(value)}"' in reply.text
    assert 'value="4.5"' in reply.text
    assert "checked" in reply.text
    assert await gateway.store.active() == []


async def test_the_size_is_set_by_the_forms(gateway: Gateway) -> None:
    """By hand and by the load; an empty bound is no bound; what a limit did is said."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    browser = gateway.browser("alice")
    url = f"/console/clusters/{cluster.name}/size"

    by_hand = await browser.post(url, data={"workers": "4"})
    by_load = await browser.post(url, data={"minimum": "", "maximum": "6"})
    group = (await gateway.store.load(cluster.name)).groups[0]
    clamped = await browser.post(url, data={"workers": "1000"})
    wrong = await browser.post(url, data={"workers": "-1"})

    assert by_hand.status_code == by_load.status_code == 303
    assert (group.wanted, group.adaptive) == (4, Adaptive(0, 6))
    assert clamped.status_code == 200
    assert "Scaling to 20 instead" in clamped.text
    assert wrong.status_code == 422
    assert "Scale expects a non-negative integer" in wrong.text


async def test_a_size_before_its_time_is_explained(gateway: Gateway) -> None:
    """409 on the cluster's own page."""
    cluster = await gateway.create()

    reply = await gateway.browser("alice").post(f"/console/clusters/{cluster.name}/size", data={"workers": "1"})

    assert reply.status_code == 409
    assert f"Cluster {cluster.name} is not running" in reply.text


async def test_stop_stops(gateway: Gateway) -> None:
    """Without scripts the answer leads back, with htmx there is nothing to swap."""
    first, second = await gateway.create(), await gateway.create()
    browser = gateway.browser("alice")

    plain = await browser.post(f"/console/clusters/{first.name}/stop")
    scripted = await browser.post(f"/console/clusters/{second.name}/stop", headers={"HX-Request": "true"})

    assert (plain.status_code, plain.headers["location"]) == (303, "/")
    assert (scripted.status_code, scripted.content) == (204, b"")
    for cluster in (first, second):
        assert (await gateway.store.load(cluster.name)).target is Target.STOPPED
    page = (await browser.get("/")).text
    assert page.count("Stopping") == 2
    assert "/stop" not in page


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_a_foreign_page_cannot_press_a_button(gateway: Gateway, site: str) -> None:
    """Not even a dashboard on a sibling host."""
    cluster = await gateway.create()
    browser = gateway.browser("alice", **{"Sec-Fetch-Site": site})

    for path in ("/console/clusters", f"/console/clusters/{cluster.name}/stop"):
        reply = await browser.post(path)
        assert reply.status_code == 401
    assert len(await gateway.store.active()) == 1
    assert (await gateway.store.load(cluster.name)).target is Target.RUNNING


async def test_a_link_from_elsewhere_opens_a_page(gateway: Gateway) -> None:
    """From a mail or a chat, logged in."""
    reply = await gateway.browser("alice", **{"Sec-Fetch-Site": "cross-site"}).get("/")

    assert reply.status_code == 200


async def test_what_is_not_there_is_a_page(gateway: Gateway) -> None:
    """404 with a way back."""
    browser = gateway.browser("alice")

    for path in ("/nonsense", "/clusters/nonsense", "/console/static/nonsense.js", "/console/static/VERSIONS.md"):
        reply = await browser.get(path)
        assert reply.status_code == 404
        assert "My clusters" in reply.text


async def test_files_are_kept_by_browsers_until_they_change(gateway: Gateway) -> None:
    """Under their hash for good, under their bare name never."""
    browser = gateway.browser()
    page = (await browser.get("/login")).text
    for name, kind in (("console.css", "text/css"), ("htmx.min.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        found = re.search(rf"/console/static/{re.escape(name)}\?v=[0-9a-f]{{12}}", page)
        assert found is not None
        kept, bare = await browser.get(found[0]), await browser.get(f"/console/static/{name}")
        assert kept.content == bare.content == (STATIC / name).read_bytes()
        assert kept.headers["content-type"].startswith(kind)
        assert "immutable" in kept.headers["cache-control"]
        assert bare.headers["cache-control"] == "no-cache"


def test_what_is_vendored_is_what_the_table_says() -> None:
    """Each file has its version, its licence and its hash."""
    table = (STATIC / "VERSIONS.md").read_text()
    rows = re.findall(r"\| `(\S+)` \| `(\S+)` .*?\| (\S+) \| 0BSD, `(\S+)` \| `([0-9a-f]{64})` \|", table)

    assert {row[0] for row in rows} == {path.name for path in STATIC.glob("*.js")} - {"copy.js"}
    for name, _, _, licence, digest in rows:
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest
        assert "Permission to use" in (STATIC / licence).read_text()
