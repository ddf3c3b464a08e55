"""Each end, while the agent, the gateway or the way between them fails: none comes wrongly, and none is forgotten.

A small world turns the same wheels as the real one, in steps of half a minute: the plan while there is a gateway, the
agent's reports while there is an agent and a way. What each of them knows dies with it; the record stays.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.model.samples import NOW, look, make_running
from tidegate.model import ends, reasons
from tidegate.model import event as events
from tidegate.model.activity import Activity
from tidegate.model.cluster import Cluster, ClusterSpec, Target
from tidegate.model.lifecycle import plan
from tidegate.model.report import Report, absorb
from tidegate.model.steps import Mark

STEP, MINUTE = 30.0, 60.0
WARN = 5 * MINUTE
SPANS = {
    reasons.IDLE: 30 * MINUTE,
    reasons.NO_CLIENT: 10 * MINUTE,
    reasons.LIFETIME: 60 * MINUTE,
    reasons.BUDGET: 20 * MINUTE,
}
HANGING = [reasons.IDLE, reasons.NO_CLIENT]
"""Those that hang on nothing running."""
IN_ANY_CASE = [reasons.LIFETIME, reasons.BUDGET]


class World:
    """A cluster on which nothing runs from now on, that can end in one way alone.

    Parameters
    ----------
    code : str
        Of the reason.
    """

    def __init__(self, code: str) -> None:
        spec = ClusterSpec(end_warning=WARN)
        activity = Activity(had_client=True)
        if code == reasons.IDLE:
            spec = replace(spec, idle_timeout=SPANS[code])
        elif code == reasons.NO_CLIENT:
            spec = replace(spec, no_client_timeout=SPANS[code])
        elif code == reasons.LIFETIME:
            spec = replace(spec, lifetime=SPANS[code])
        else:
            activity = replace(activity, spent_since=NOW, spent_grace=SPANS[code], spent_why="all of it")
        self.cluster: Cluster = replace(make_running(), spec=spec, activity=activity, started_at=NOW)
        self.now = NOW
        self.idle_since: float | None = NOW
        self.clientless_since: float | None = NOW
        self.told: list[tuple[float, str]] = []

    def run(self, minutes: float, *, agent: bool = True, gateway: bool = True, engine: bool = True) -> str | None:
        """Let time pass, with or without each of them; return the reason for which the cluster is to end by then."""
        if not gateway:
            self.clientless_since = None  # who comes and goes then, nobody counts
        end = self.now + minutes * MINUTE
        while self.now < end and self.reason is None:
            self.now += STEP
            if gateway:
                self._plan(engine)
            if gateway and agent:
                self._report()
        return self.reason

    @property
    def reason(self) -> str | None:
        """The code of the reason for which it is to end."""
        if self.cluster.target is Target.RUNNING:
            return None
        assert self.cluster.reason is not None
        return self.cluster.reason.code

    def _plan(self, engine: bool) -> None:
        if self.clientless_since is None:
            self.clientless_since = self.now
        clientless = self.now - self.clientless_since
        self.cluster = ends.see_clients(self.cluster, clientless, self.now, known=True)
        steps = plan(self.cluster, look(at=self.now) if engine else None, self.now)
        for mark in (step for step in steps if isinstance(step, Mark)):
            self.cluster = mark.cluster
            self.told += [(self.now, event.kind) for event in mark.events]

    def _report(self) -> None:
        assert self.cluster.scheduler is not None
        assert self.clientless_since is not None
        idle = None if self.idle_since is None else self.now - self.idle_since
        report = Report(self.cluster.scheduler, idle=idle, answer=self.cluster.activity.question)
        self.cluster = absorb(self.cluster, report, self.now, self.now - self.clientless_since)[0]

    def announced(self) -> list[float]:
        """Return when its end was announced."""
        return [at for at, kind in self.told if kind == events.ENDING]


@pytest.mark.parametrize("code", SPANS)
def test_when_all_work_each_end_comes_in_time(code: str):
    """After its span and not before it, give and take two steps; announced, where somebody can avert it or use it."""
    world = World(code)
    assert world.run(SPANS[code] / MINUTE - 1) is None
    assert world.run(2.5) == code
    assert bool(world.announced()) is (code != reasons.NO_CLIENT)


@pytest.mark.parametrize("code", HANGING)
def test_without_its_agent_a_cluster_is_not_idle(code: str):
    """Silent for a day, whatever was heard before: it goes on. When the agent is back, what it says then counts."""
    world = World(code)
    world.run(SPANS[code] / MINUTE - 2)
    assert world.run(24 * 60, agent=False) is None
    assert world.run(2) == code


@pytest.mark.parametrize("code", HANGING)
def test_work_that_began_while_the_agent_was_not_heard_keeps_it(code: str):
    """The record said for a day that nothing runs; the first word of the agent says otherwise."""
    world = World(code)
    world.run(SPANS[code] / MINUTE - 2)
    world.run(24 * 60, agent=False)
    world.idle_since = None
    assert world.run(60) is None
    assert world.cluster.activity.idle_since is None


@pytest.mark.parametrize("code", IN_ANY_CASE)
@pytest.mark.parametrize("engine", [True, False])
def test_what_ends_in_any_case_needs_no_agent_and_no_engine(code: str, engine: bool):
    """Nobody has to be heard, and nothing to be seen, for a time to be over."""
    world = World(code)
    world.idle_since = None
    assert world.run(SPANS[code] / MINUTE + 1, agent=False, engine=engine) == code


@pytest.mark.parametrize("code", HANGING)
def test_an_engine_that_cannot_look_keeps_nothing(code: str):
    """The agent says what runs; whether the backend sees the processes makes no difference."""
    world = World(code)
    assert world.run(SPANS[code] / MINUTE + 2, engine=False) == code


@pytest.mark.parametrize("code", [reasons.IDLE, reasons.LIFETIME])
def test_an_end_that_fell_due_while_the_gateway_was_away_is_announced_first(code: str):
    """Whoever comes in the morning has as long as the announcement stands, and then it comes."""
    world = World(code)
    world.run(1)
    assert world.run(24 * 60, gateway=False) is None
    back = world.now
    assert world.run(WARN / MINUTE - 1) is None
    assert world.run(2.5) == code
    assert back < world.announced()[0] <= back + STEP


def test_a_grace_that_was_announced_is_over_when_the_gateway_is_back():
    """That a budget is spent is told at once, and then all of the time is for finishing. Untold, it begins anew."""
    told, untold = World(reasons.BUDGET), World(reasons.BUDGET)
    told.run(1)
    for world in (told, untold):
        world.run(24 * 60, gateway=False)
    assert told.run(0.5) == reasons.BUDGET
    assert untold.run(SPANS[reasons.BUDGET] / MINUTE - 1) is None
    assert untold.run(2) == reasons.BUDGET


def test_how_long_there_was_no_client_counts_anew_when_the_gateway_is_back():
    """Somebody may have been there meanwhile."""
    world = World(reasons.NO_CLIENT)
    world.run(9)
    world.run(24 * 60, gateway=False)
    assert world.run(9) is None
    assert world.run(2.5) == reasons.NO_CLIENT


@pytest.mark.parametrize("code", SPANS)
def test_a_gateway_that_restarts_again_and_again_forgets_no_end_that_it_can_count(code: str):
    """Each minute another one, for an hour: what the agent measures, and what the record holds, goes on counting.

    How long there was no client does not, for each counts by itself: then the idle time ends the cluster.
    """
    world = World(code)
    for _ in range(60):
        world.run(0.5, gateway=False)
        world.run(0.5)
    assert world.reason == (None if code == reasons.NO_CLIENT else code)


@pytest.mark.parametrize("code", SPANS)
def test_what_died_meanwhile_is_not_said_to_have_been_ended(code: str):
    """When the gateway is back and the scheduler gone, that is the reason; but for one that ended idle by itself."""
    world = World(code)
    world.run(1)
    world.run(24 * 60, gateway=False)
    gone = replace(look(at=world.now), scheduler=None)
    marks = [step for step in plan(world.cluster, gone, world.now) if isinstance(step, Mark)]
    assert marks[0].cluster.reason.code == reasons.SCHEDULER_LOST
