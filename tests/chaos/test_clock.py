"""The clock is set by an hour, forth and back, while the gateway runs: nobody loses anything, and all goes on.

Debian's libfaketime changes what the gateway's processes read; clusters, which have an environment of their own, keep
the right time. So both sides are seen: a gateway whose clock is wrong, and one that is set right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
import pytest

from tests.chaos.doing import Doing
from tests.chaos.operations import Subject, check_computes
from tests.chaos.world import World
from tests.support import ANY_TLS, eventually_sync

pytestmark = pytest.mark.timeout(240)

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway whose clock can be set."""
    if LIBRARY is None:
        pytest.skip("needs Debian's libfaketime")
    made = World(tmp_path_factory.mktemp("gateway"))
    (made.folder / "clock").write_text("+0")
    made.gateway.more_environ = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(made.folder / "clock"),
        # Seconds. Without it the file is read each time that a process asks for the time: most of what it would do.
        "FAKETIME_CACHE_DURATION": "1",
        # Files keep their times: every import looks at some, and would read the timestamp file for each.
        "NO_FAKE_STAT": "1",
        # Setting a clock changes the time of day, and not how long anything takes.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    try:
        yield made
        made.stop()
    finally:
        made.kill_everything()


@pytest.fixture
def set_clock(world: World) -> Callable[[str], None]:
    """Return a function that sets the gateway's clock to so many hours before or after the right time."""

    def set_it(offset: str) -> None:
        (world.folder / "clock").write_text(offset)
        hours = float(offset.removesuffix("h"))
        eventually_sync(lambda: round(ahead(world) / 3600, 1) == hours, what=f"its time differs by {hours} h")

    return set_it


def ahead(world: World) -> float:
    """Return by how many seconds the time that the gateway tells is after the right one."""
    told = httpx.get(f"{world.gateway.url}/api/v2/health", timeout=30, verify=ANY_TLS).headers["date"]
    return parsedate_to_datetime(told).timestamp() - time.time()


@pytest.mark.parametrize("way", [("+1h", "+0h"), ("-1h", "+0h")], ids=["forth and back", "back and forth"])
def test_a_clock_that_is_set_costs_nothing(
    world: World, subject: Subject, set_clock: Callable[[str], None], way: tuple[str, str]
) -> None:
    """What runs and what is starting goes on; both can be sized, used and stopped under either time."""
    starting = [Subject(subject.user), Subject(subject.user)]
    for number, (offset, other) in enumerate(zip(way, starting, strict=True)):
        creating = Doing(lambda other=other: other.create(1))
        set_clock(offset)
        check_computes(subject)
        subject.scale(2 + number)
        assert creating.wait(90) is None
    for one in (subject, *starting):
        check_computes(one)
        assert world.cluster(one.name)["state"] == "running"
    for other in starting:
        other.cluster.shutdown()
        other.close()
