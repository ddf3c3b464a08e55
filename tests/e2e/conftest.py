"""Whole gateways: one that tests share, and as many of their own as they like."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dask_gateway import Gateway as OfficialGateway

from tests.e2e.browser import CHROMIUM, Chromium, Visitor
from tests.e2e.gateways import GatewayProcess


@pytest.fixture(autouse=True, scope="session")
def quiet_finalizer() -> Iterator[None]:
    """Take the finalizer of the official ``Gateway`` away: with today's distributed it raises for what was closed.

    Python tells of that while it collects garbage, and 3.11 fails if it was compiling something just then.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(OfficialGateway, "__del__")
        yield
        gc.collect()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A running gateway with all at its defaults, for tests that take away what they make."""
    running = GatewayProcess(tmp_path_factory.mktemp("gateway"))
    try:
        running.start()
        yield running
        running.stop()
    finally:
        running.kill_everything()


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Return a function that makes a gateway of the test's own; it is stopped, and its remains are looked for."""
    made: list[GatewayProcess] = []

    def make(*arguments: str, name: str = "gateway", **settings: str) -> GatewayProcess:
        made.append(GatewayProcess(tmp_path / name, arguments, **settings))
        return made[-1]

    try:
        yield make
        for one in made:
            one.stop()
    finally:
        for one in made:
            one.kill_everything()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser. Not for the whole session: while it runs, no test of this process can have an event loop."""
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium")
    with Chromium() as running:
        yield running


@pytest.fixture
def visit(chromium: Chromium) -> Iterator[Callable[[], Visitor]]:
    """Return a function that lets somebody open their browser, who is known to nobody yet."""
    opened: list[Visitor] = []

    def open_browser() -> Visitor:
        opened.append(chromium.visitor())
        return opened[-1]

    yield open_browser
    for visitor in opened:
        visitor.context.close()
