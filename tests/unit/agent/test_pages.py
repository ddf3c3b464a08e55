"""The dashboard's pages, which are made when somebody is let in to look at them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from types import ModuleType

import aiohttp
import pytest
from distributed import Scheduler

from tests.unit.agent.conftest import GIVEN

KNOWN = {"X-Tidegate-Dashboard": GIVEN["dashboard_secret"]}


@pytest.fixture
async def scheduler(agent: ModuleType) -> AsyncIterator[Scheduler]:
    """Give a scheduler with a guarded server and without pages."""
    async with Scheduler(protocol="inproc", dashboard=False, dashboard_address="127.0.0.1:0") as scheduler:
        agent.make_pages_late(scheduler)
        yield scheduler


async def ask(scheduler: Scheduler, path: str, headers: dict[str, str]) -> tuple[int, str]:
    url = f"http://127.0.0.1:{scheduler.http_server.port}{path}"
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as response:
        return response.status, await response.text()


async def test_the_first_who_is_let_in_finds_all_pages(scheduler: Scheduler) -> None:
    """Even the list of pages has them; a stranger makes nothing be made, and nothing is made twice."""
    assert await ask(scheduler, "/status", {}) == (404, (await ask(scheduler, "/nonsense", {}))[1])
    assert scheduler.http_application.applications == []

    status, pages = await ask(scheduler, "/individual-plots.json", KNOWN)
    assert status == 200
    assert "individual-task-stream" in pages
    assert (await ask(scheduler, "/status", KNOWN))[0] == 200
    assert len(scheduler.http_application.applications) == 1


async def test_without_bokeh_the_page_says_so(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Dask's own does: what to install."""
    monkeypatch.setitem(sys.modules, "distributed.dashboard.scheduler", None)

    status, text = await ask(scheduler, "/status", KNOWN)

    assert status == 200
    assert "bokeh" in text
    assert (await ask(scheduler, "/health", KNOWN))[0] == 200


async def test_pages_that_dask_has_made_stay(agent: ModuleType) -> None:
    """Whoever starts a scheduler with its dashboard has it once."""
    async with Scheduler(protocol="inproc", dashboard=True, dashboard_address="127.0.0.1:0") as scheduler:
        made = list(scheduler.http_application.applications)
        agent.make_pages_late(scheduler)
        assert (await ask(scheduler, "/status", KNOWN))[0] == 200
        assert scheduler.http_application.applications == made


def test_versions_are_those_of_what_is_loaded(agent: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module tells by itself, as text or as numbers; one that does not is looked up."""
    loaded = ModuleType("msgpack")
    monkeypatch.setitem(sys.modules, "msgpack", loaded)
    assert agent.find_loaded_version("msgpack") == ""
    loaded.version = (1, 2, 4)  # type: ignore[attr-defined]
    assert agent.find_loaded_version("msgpack") == "1.2.4"
    loaded.__version__ = "1.3"  # type: ignore[attr-defined]
    assert agent.find_versions()["msgpack"] == "1.3"
    monkeypatch.delitem(sys.modules, "lz4", raising=False)
    assert "lz4" not in agent.find_versions()
