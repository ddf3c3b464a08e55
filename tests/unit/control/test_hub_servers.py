"""Clusters that end with the notebook server of a JupyterHub, and whatever keeps the gateway from knowing."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from tests.hub_double import SERVICE_TOKEN, HubDouble, hub_double
from tests.unit.control.rig import START_TIMEOUT, Rig, rigged
from tidegate.authn.hub_users import SCOPES, HubUsers
from tidegate.authn.jupyterhub import JupyterHubSettings
from tidegate.control import hub_servers
from tidegate.control.hub_servers import HubServers
from tidegate.control.terms import Terms
from tidegate.model import reasons
from tidegate.model.cluster import ClusterState, Target
from tidegate.model.ends import EndRules
from tidegate.model.errors import Busy, Invalid
from tidegate.model.hub import HubUser
from tidegate.model.principal import Principal

RULES = EndRules(hub_server_stopped=True, hub_user_removed=True)


class Setting:
    """A rig beside a Hub."""

    def __init__(self, rig: Rig, hub: HubDouble, users: HubUsers) -> None:
        self.rig, self.hub = rig, hub
        self.watch = HubServers(users, rig.records, RULES, rig.clock)

    async def make(self, owner: str = "alice", server: str = "", shutdown_on_close: bool | None = None) -> str:
        """Return a cluster that was made from this server, or from somewhere else."""
        principal = Principal(owner, server=server)
        return (await self.rig.clusters.create(principal, {}, shutdown_on_close=shutdown_on_close)).name

    def reason(self, name: str) -> str | None:
        """Return the code of the reason for which a cluster is to end."""
        cluster = self.rig.cluster(name)
        assert (cluster.target is Target.STOPPED) == (cluster.reason is not None)
        return cluster.reason.code if cluster.reason else None

    def asked(self, name: str) -> int:
        """Return how often the Hub was asked about this user alone."""
        return self.hub.calls.count(f"/hub/api/users/{name}")


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    """Give a Hub where alice has a default server and one for GPUs."""
    (tmp_path / "token").write_text(SERVICE_TOKEN)
    async with hub_double() as hub, rigged(tmp_path, terms=Terms(START_TIMEOUT, ends=RULES)) as rig:
        hub.add_service(*SCOPES)
        hub.people = {"alice": {"", "gpu"}, "bob": {""}, "carol": {""}, "dave": set()}
        users = HubUsers(JupyterHubSettings(api_url=hub.api_url, service_name="s", api_token_file=tmp_path / "token"))
        await users.start()
        yield Setting(rig, hub, users)
        await users.close()


async def test_a_cluster_ends_when_its_server_has_stopped(setting: Setting):
    """It, and no other: not that of another server, of another user, from a laptop, or one that is to outlive it."""
    name = await setting.make(server="alice/gpu")
    others = [
        await setting.make(server="alice/"),
        await setting.make(),
        await setting.make(server="alice/gpu", shutdown_on_close=False),
        await setting.make("carol", "carol/"),
        await setting.make("zoe"),
    ]
    await setting.watch.look()
    assert setting.reason(name) is None
    assert setting.asked("alice") == 0

    setting.hub.people["alice"] = {""}
    await setting.watch.look()
    assert setting.reason(name) == reasons.HUB_SERVER_STOPPED
    assert "alice/gpu" in setting.rig.cluster(name).reason.message
    assert [setting.reason(other) for other in others] == [None] * 5
    await setting.rig.turn(name, 4)
    assert setting.rig.cluster(name).state is ClusterState.STOPPED


async def test_when_a_user_is_removed_all_their_clusters_end(setting: Setting):
    """Wherever they were made; but not those of somebody whom the Hub never had."""
    bobs = [await setting.make("bob", "bob/", shutdown_on_close=False), await setting.make("bob")]
    daves = await setting.make("dave")
    local = await setting.make("zoe")
    await setting.watch.look()
    del setting.hub.people["bob"], setting.hub.people["dave"]
    await setting.watch.look()
    assert [setting.reason(name) for name in (*bobs, daves)] == [reasons.HUB_USER_REMOVED] * 3
    assert setting.reason(local) is None


@pytest.mark.parametrize(
    "answer",
    [
        web.json_response({"status": 500, "message": "x"}, status=500),
        web.Response(text="<html>404</html>", status=404, content_type="text/html"),
        web.json_response([]),
        web.json_response({}),
    ],
)
async def test_a_hub_that_is_out_of_order_ends_nothing(setting: Setting, answer: web.Response):
    """What is no answer says nothing, whatever the record knows."""
    name = await setting.make(server="alice/")
    await setting.watch.look()
    setting.hub.answer = answer
    with pytest.raises(Busy):
        await setting.watch.look()
    assert setting.reason(name) is None


@pytest.mark.parametrize(
    "scopes", [["read:servers"], ["list:users"], ["list:users!group=hydro", "read:servers!user=bob"]]
)
async def test_a_hub_that_does_not_tell_it_all_ends_nothing(setting: Setting, scopes: list[str]):
    """It would answer as if those were not there whom the gateway may not see."""
    name = await setting.make(server="alice/")
    await setting.watch.look()
    setting.hub.add_service(*scopes)
    setting.hub.people = {}
    with pytest.raises(Invalid, match="lacks"):
        await setting.watch.look()
    assert setting.reason(name) is None


async def test_who_is_missing_in_the_list_is_asked_about_before_anything_ends(setting: Setting):
    """Between two pages somebody may have slipped through: what the Hub says of themselves counts."""
    name = await setting.make(server="alice/")
    setting.hub.page = 0  # lists nobody
    await setting.watch.look()
    assert setting.asked("alice") == 1
    assert setting.reason(name) is None


async def test_a_list_ends_nothing(setting: Setting):
    """It is older than what the Hub says when it is asked by name."""

    class Late:
        async def active_users(self) -> list[HubUser]:
            return [HubUser("alice", frozenset({"gpu"}))]

        async def user(self, name: str) -> HubUser | None:
            return HubUser(name, frozenset({"", "gpu"}))

    name = await setting.make(server="alice/")
    await HubServers(Late(), setting.rig.records, RULES, setting.rig.clock).look()
    assert setting.reason(name) is None


async def test_where_no_cluster_hangs_on_it_the_hub_is_left_in_peace(setting: Setting):
    """It has one thread for all of its users."""
    await setting.watch.look()
    assert setting.hub.calls == []
    await setting.rig.clusters.stop(Principal("alice"), await setting.make(server="alice/"))
    await setting.watch.look()
    assert setting.hub.calls == []


async def test_nothing_is_written_while_nothing_changes(setting: Setting):
    """That the owner was seen is written once."""
    name = await setting.make(server="alice/")
    await setting.watch.look()
    revision = setting.rig.cluster(name).revision
    await setting.watch.look()
    assert setting.rig.cluster(name).revision == revision


async def test_all_have_their_turn(setting: Setting):
    """However many have no server, a look asks about fifty, and each is asked about in time."""
    owners = [f"user{number:03}" for number in range(hub_servers.ASKED_AT_ONCE * 2)]
    for owner in owners:
        await setting.make(owner)
    await setting.watch.look()
    assert sum(setting.asked(owner) for owner in owners) == hub_servers.ASKED_AT_ONCE
    await setting.watch.look()
    assert all(setting.asked(owner) == 1 for owner in owners)


async def test_trouble_is_in_the_log_once(setting: Setting, caplog: pytest.LogCaptureFixture):
    """With the line of the Hub's configuration that mends it."""
    await setting.make(server="alice/")
    setting.hub.add_service("list:users")
    for _ in range(2):
        await setting.watch.try_to_look()
    setting.hub.add_service(*SCOPES)
    with caplog.at_level(logging.INFO):
        await setting.watch.try_to_look()
    told = [record.message for record in caplog.records if record.name == hub_servers.__name__]
    assert len(told) == 2
    assert 'c.JupyterHub.load_roles.append({"name": "dask-gateway"' in told[0]
    assert "again" in told[1]


async def test_a_restarted_control_ends_what_stopped_meanwhile(setting: Setting):
    """Nothing has to be remembered: the record says from which server, and the Hub whether that runs."""
    name = await setting.make(server="alice/")
    setting.hub.people["alice"] = set()
    other = HubServers(setting.watch._hub, setting.rig.records, RULES, setting.rig.clock)
    await other.look()
    assert setting.reason(name) == reasons.HUB_SERVER_STOPPED
