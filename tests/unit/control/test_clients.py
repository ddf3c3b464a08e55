"""Who is connected, as the proxies count it, and what is concluded from that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.unit.control.rig import ALICE, START_TIMEOUT, Rig, rigged
from tidegate.control.agents import Agents
from tidegate.control.clients import Clients
from tidegate.control.terms import Terms
from tidegate.model import reasons
from tidegate.model.cluster import ClusterState, SchedulerFacts, Target
from tidegate.model.ends import EndRules
from tidegate.model.errors import Invalid, NotVisible
from tidegate.model.principal import Principal
from tidegate.model.report import Report, Wanted

NO_CLIENT = 300.0
RULES = EndRules(idle=1800.0, no_client=NO_CLIENT, longest_keep=7200.0)


@dataclass
class Proxies:
    """How many connections there are; None while a proxy is away."""

    counts: dict[str, int | None] = field(default_factory=dict)

    def open_ways(self) -> set[str]:
        """Return the clusters that have a way."""
        return set(self.counts)

    def connections(self, name: str) -> int | None:
        """Return how many connections it has."""
        return self.counts.get(name)


class Setting:
    """A rig with a cluster that ends without clients, and the count of those."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig, self.name = rig, name
        self.proxies = Proxies({name: 0})
        self.restart()

    def restart(self) -> None:
        """Let another control process take over."""
        rig = self.rig
        self.clients = Clients(rig.records, self.proxies, rig.clock, rig.clock)
        rig.agents = Agents(rig.records, rig.bus, rig.clock, clientless=self.clients.clientless)

    async def connect(self, count: int | None) -> None:
        """Let so many clients be connected from now on; None is that nobody knows."""
        self.proxies.counts[self.name] = count
        await self.clients.look()

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.rig.clock.advance(seconds)
        await self.clients.look()
        await self.rig.turn(self.name)

    async def report(self, idle: float | None = 600.0) -> Wanted:
        """Let the agent report, with an answer to the last question."""
        question = self.rig.cluster(self.name).activity.question
        return await self.rig.agents.report(
            self.name, Report(SchedulerFacts(1, 40001, 40002), idle=idle, answer=question)
        )

    @property
    def reason(self) -> str | None:
        """The code of the reason for which the cluster is to end."""
        cluster = self.rig.cluster(self.name)
        assert (cluster.target is Target.STOPPED) == (cluster.reason is not None)
        return cluster.reason.code if cluster.reason else None


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    """Give a running cluster that a client's closing would end."""
    async with rigged(tmp_path, terms=Terms(START_TIMEOUT, ends=RULES)) as rig:
        name = (await rig.clusters.create(ALICE, {}, shutdown_on_close=True)).name
        for _ in range(2):
            await rig.turn(name)
            await rig.report(name)
        assert rig.cluster(name).state is ClusterState.RUNNING
        yield Setting(rig, name)


async def test_when_all_clients_are_gone_and_nothing_runs_it_ends(setting: Setting):
    """Counted from the moment at which the last one was gone; and only once the agent has answered."""
    await setting.connect(2)
    await setting.connect(0)
    await setting.report()
    await setting.wait(NO_CLIENT - 10)
    await setting.report()
    assert setting.reason is None

    await setting.wait(11)
    assert setting.reason is None
    wanted = await setting.report()
    assert setting.reason == reasons.NO_CLIENT
    assert wanted.exit
    await setting.rig.turn(setting.name, 4)
    assert setting.rig.cluster(setting.name).state is ClusterState.STOPPED


async def test_a_client_that_comes_back_starts_the_count_anew(setting: Setting):
    """A kernel that is restarted needs a minute."""
    await setting.connect(1)
    await setting.connect(0)
    await setting.wait(NO_CLIENT - 10)
    await setting.connect(1)
    await setting.connect(0)
    await setting.wait(NO_CLIENT - 10)
    await setting.report()
    assert setting.reason is None


async def test_a_client_that_came_after_the_last_look_counts(setting: Setting):
    """What decides is the count at the moment of the answer."""
    await setting.connect(1)
    await setting.connect(0)
    await setting.report()
    await setting.wait(NO_CLIENT + 1)
    setting.proxies.counts[setting.name] = 1
    await setting.report()
    assert setting.reason is None


async def test_proxies_that_are_away_are_not_without_connections(setting: Setting):
    """Nobody knows who passes through them, and the time counts anew when they are back."""
    await setting.connect(1)
    await setting.connect(0)
    await setting.wait(NO_CLIENT - 10)
    await setting.connect(None)
    assert setting.rig.cluster(setting.name).activity.clientless_since is None
    await setting.wait(10 * NO_CLIENT)
    await setting.report()
    await setting.connect(0)
    await setting.wait(NO_CLIENT - 10)
    await setting.report()
    assert setting.reason is None
    await setting.wait(20)
    await setting.report()
    assert setting.reason == reasons.NO_CLIENT


async def test_another_control_counts_anew(setting: Setting):
    """What happened while there was none, nobody knows; that there was a client once is on record."""
    await setting.connect(1)
    await setting.connect(0)
    await setting.report()
    await setting.wait(NO_CLIENT - 10)
    setting.restart()
    await setting.wait(20)
    await setting.report()
    assert setting.reason is None
    await setting.wait(NO_CLIENT)
    await setting.report()
    assert setting.reason == reasons.NO_CLIENT


async def test_what_outlives_its_clients_is_not_even_noted(setting: Setting):
    """Its record does not change when they come and go."""
    rig = setting.rig
    name = await rig.bring_up()
    before = rig.cluster(name)
    setting.proxies.counts = {name: 1}
    await setting.clients.look()
    setting.proxies.counts = {name: 0}
    await setting.clients.look()
    assert rig.cluster(name) == before


async def test_counting_is_quiet(setting: Setting):
    """Nothing is written while nothing changes; what has no way any more is forgotten."""
    await setting.connect(1)
    revision = setting.rig.cluster(setting.name).revision
    for _ in range(5):
        setting.rig.clock.advance(2)
        await setting.clients.look()
    assert setting.rig.cluster(setting.name).revision == revision
    setting.proxies.counts.clear()
    await setting.clients.look()
    assert setting.clients.clientless(setting.name) is None


async def test_who_may_resize_a_cluster_may_keep_it(setting: Setting):
    """Others may not, and to strangers there is none."""
    clusters = setting.rig.clusters
    kept, note = await clusters.keep(ALICE, setting.name, 86400)
    assert kept.activity.kept_until == setting.rig.clock() + RULES.longest_keep
    assert note is not None
    assert "2 h at a time" in note
    kept, note = await clusters.keep(ALICE, setting.name)
    assert (kept.activity.kept_until, note) == (None, None)
    with pytest.raises(NotVisible):
        await clusters.keep(Principal("mallory"), setting.name)
    with pytest.raises(Invalid):
        await clusters.keep(ALICE, setting.name, "long")
    from_root, _ = await clusters.keep(Principal("root", admin=True), setting.name)
    assert from_root.activity.active_at == setting.rig.clock()


async def test_whoever_sizes_a_cluster_has_its_time_anew(setting: Setting):
    """Nobody wants to see a cluster end that he has just scaled."""
    await setting.report(idle=1799.0)
    await setting.rig.clusters.scale(ALICE, setting.name, 0)
    before = setting.rig.cluster(setting.name).activity.active_at
    setting.rig.clock.advance(60)
    await setting.rig.clusters.scale(ALICE, setting.name, 1)
    assert setting.rig.cluster(setting.name).activity.active_at > before


async def test_the_gateways_rules_are_in_the_record(setting: Setting):
    """A cluster ends by the rules under which it was made, whatever is set later."""
    spec = setting.rig.cluster(setting.name).spec
    assert (spec.idle_timeout, spec.no_client_timeout, spec.lifetime) == (1800.0, NO_CLIENT, None)
    assert replace(spec, idle_timeout=None).end_warning == RULES.warn
