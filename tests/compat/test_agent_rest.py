"""What the agent says of a cluster on which nothing runs, and that it ends one that nobody else can end."""

from __future__ import annotations

import json
import time

import pytest

from tests.compat.lab import Lab
from tests.support import eventually
from tidegate.model.ends import FAREWELL

QUICK = {"rest": 0.05, "backoff": (0.05, 0.2)}
HELD = """
from distributed import Event
hold = lambda: Event("go").wait()
"""


async def start(lab: Lab, **timing: object) -> None:
    """Start a scheduler that tells after a fifth of a second that nothing runs, and a worker."""
    await lab.start_with_timing(**QUICK | timing)
    await lab.reported()
    await lab.gateway.want({"default": (1, None, None)})
    await lab.gateway.tell(tell_idle_after=0.2)
    await lab.workers("default-1")


async def test_that_nothing_runs_is_told_and_that_something_does_at_once(lab: Lab) -> None:
    """Idle after a while; busy when a task comes; idle again when it is done, counted from there."""
    await start(lab)
    first = await lab.gateway.until(lambda report: report.idle_seconds is not None)
    assert first.idle_seconds is not None
    assert first.idle_seconds >= 0.2

    client = await lab.client(
        HELD + "f = client.submit(hold); say('sent'); wait(); Event('go').set(); f.result(); wait()"
    )
    await client.hear("sent")
    await lab.gateway.until(lambda report: report.idle_seconds is None)
    reports = len(lab.gateway.reports)
    await lab.gateway.tell(question=1)
    await lab.gateway.until(lambda report: report.answer == 1)
    assert all(report.idle_seconds is None for report in lab.gateway.reports[reports:])

    released = time.monotonic()
    client.say()
    again = await lab.gateway.until(lambda report: report.idle_seconds is not None)
    assert again.idle_seconds is not None
    assert again.idle_seconds < time.monotonic() - released


async def test_a_question_is_answered_at_once(lab: Lab) -> None:
    """The answer bears the question's number, and what is true then."""
    await start(lab)
    await lab.gateway.until(lambda report: report.idle_seconds is not None)
    before = lab.gateway.last.idle_seconds
    await lab.gateway.tell(question=7)

    answer = await lab.gateway.until(lambda report: report.answer == 7)
    assert answer.idle_seconds is not None
    assert before is not None
    assert answer.idle_seconds >= before


async def test_where_nobody_wants_to_know_nothing_is_told(lab: Lab) -> None:
    """A gateway without such ends has no reports that it does not need."""
    await lab.start_with_timing(**QUICK)
    await lab.reported()
    await lab.gateway.tell(question=1)
    answer = await lab.gateway.until(lambda report: report.answer == 1)
    assert answer.idle_seconds is None


@pytest.mark.parametrize(
    "work",
    [
        "class Counter: pass\nheld = client.submit(Counter, actor=True); held.result()",
        "import asyncio, threading\nasync def run():\n    await asyncio.sleep(600)\n"
        "threading.Thread(target=client.run, args=[run], daemon=True).start()",
        "import threading\ndef burn():\n"
        "    threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()\n"
        "client.submit(burn, pure=False).result()",
    ],
    ids=["an actor", "a function that runs beside the tasks", "a thread that a task left"],
)
async def test_what_works_unseen_is_work(lab: Lab, work: str) -> None:
    """Tasks are not all that runs: a cluster is not idle for what Dask does not count."""
    await start(lab, heartbeat=0.5)
    client = await lab.client(f"{HELD}{work}\nsay('works'); wait()")
    await client.hear("works")
    before = len(lab.gateway.reports)

    def is_busy() -> bool:
        """Whether three heartbeats on end say so. What cores a worker uses is known with its own."""
        last = lab.gateway.reports[before:][-3:]
        return len(last) == 3 and all(report.idle_seconds is None for report in last)

    await eventually(is_busy, what="reports that something runs")


@pytest.mark.parametrize("grace", [{"grace": 0.3}, {}], ids=["grace", "as long again"])
async def test_while_the_gateway_is_away_an_idle_scheduler_ends_by_itself(lab: Lab, grace: dict[str, float]) -> None:
    """After its time and a grace, here tenths of seconds; its last words tell why, for whoever looks later.

    The grace is a quarter of an hour, but where clusters end sooner than that, no more than what they are given.
    """
    await start(lab, **grace)
    await lab.gateway.tell(idle_timeout=0.5)
    await lab.gateway.until(lambda report: report.idle_seconds is not None and report.idle_seconds > 0.2)
    assert lab.is_running("scheduler")
    await lab.gateway.go_away("cut")

    assert await lab.exit_status("scheduler") == 0
    await lab.wait_for_log("scheduler", rf"Closed the scheduler: {FAREWELL} \d+ s")


@pytest.mark.parametrize("why", ["it works", "it is kept", "nobody said how long"])
async def test_whatever_is_wanted_outlives_the_gateway(lab: Lab, why: str) -> None:
    """Work that goes on, a wish to keep it, and a gateway that never ended anything: each is enough."""
    await start(lab, grace=0.1)
    client = await lab.client(HELD + "f = client.submit(hold) if wait() is None else None; say('sent'); wait()")
    if why == "it works":
        client.say()
        await client.hear("sent")
    told = {"idle_timeout": None if why == "nobody said how long" else 0.1}
    await lab.gateway.tell(**told, kept_until=time.time() + 3600 if why == "it is kept" else None, question=1)
    await lab.gateway.until(lambda report: report.answer == 1)
    await lab.gateway.go_away("cut")
    asked = lab.gateway.asked
    # Twenty tries take two seconds at the least: ten times what it would take to end.
    await eventually(lambda: lab.gateway.asked > asked + 20, what="many tries")

    assert lab.is_running("scheduler"), json.dumps(told)
