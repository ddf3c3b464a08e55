"""The clock is set by an hour, forth and back, while the gateway runs: nobody loses anything, and all goes on.

Debian's libfaketime changes what the gateway's processes read; clusters, which have an environment of their own, keep
the right time. So both sides are seen: a gateway whose clock is wrong, and one that is set right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.doing import Doing
from tests.chaos.operations import Subject, check_computes
from tests.chaos.world import World

pytestmark = pytest.mark.timeout(240)

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A gateway whose clock can be set."""
    if LIBRARY is None:
        pytest.skip("needs Debian's libfaketime")
    made = World(tmp_path / "gateway")
    (made.folder / "clock").write_text("+0")
    made.gateway.more_environ = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(made.folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
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
    """Return a function that sets the gateway's clock to so much before or after the right time."""

    def set_it(offset: str) -> None:
        (world.folder / "clock").write_text(offset)

    return set_it


@pytest.mark.parametrize("way", [("+1h", "+0"), ("-1h", "+0")], ids=["forth and back", "back and forth"])
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
