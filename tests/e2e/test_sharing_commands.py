"""Sharing as people do it: by methods of the client and by commands, as owner, grantee and administrator."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import dask.config
import httpx
import pytest

from tests.e2e.gateways import GatewayProcess, serving
from tests.support import eventually, eventually_sync
from tidegate import Gateway, GatewayAuthError, GatewayCluster, GatewayClusterError, GatewayValueError, TokenAuth
from tidegate.cli.main import run as tidegate

pytestmark = pytest.mark.timeout(180)

CONFIG = "authentication: {admins: [ada], groups: {physics: [carol]}}\n"

Run = Callable[..., "Done"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with an administrator, ada, and a group, physics, of carol."""
    folder = tmp_path_factory.mktemp("sharing")
    with serving(folder, CONFIG) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(gateway: GatewayProcess) -> dict[str, str]:
    """Tokens of four people."""
    return {user: gateway.mint(user) for user in ("alice", "bob", "carol", "ada")}


@pytest.fixture
def cluster(gateway: GatewayProcess, tokens: dict[str, str]) -> Iterator[GatewayCluster]:
    """A cluster of alice's."""
    with Gateway(gateway.url, auth=TokenAuth(tokens["alice"])) as alice, alice.new_cluster() as cluster:
        yield cluster


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(gateway: GatewayProcess, tokens: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command of `tidegate clusters` as somebody; in this process, for there are many."""

    def run(user: str, *arguments: str) -> Done:
        settings = {"address": gateway.url, "auth": {"type": "token", "kwargs": {"token": tokens[user]}}}
        capsys.readouterr()
        with dask.config.set({"tidegate": settings, "gateway": {}}):
            code = tidegate(["clusters", *arguments])
        return Done(code, *capsys.readouterr())

    return run


def said(run: Run, user: str, *arguments: str) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = run(user, *arguments)
    assert done.code == 0, done.stderr
    return done.stdout


def test_a_notebook_shares_and_withdraws(
    gateway: GatewayProcess, tokens: dict[str, str], cluster: GatewayCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Another's notebook connects, shows whose cluster it is, and is told when it is over."""
    caplog.set_level(logging.WARNING, "tidegate.client")
    with Gateway(gateway.url, auth=TokenAuth(tokens["carol"])) as carol:
        with pytest.raises(GatewayValueError, match="neither yours nor shared with you"):
            carol.connect(cluster.name)
        cluster.share(group="physics", right="use")
        assert [str(share) for share in cluster.shares()] == ["group physics: use"]
        assert [report.owner for report in carol.list_clusters(of="shared")] == ["alice"]

        with carol.connect(cluster.name) as theirs, theirs.get_client(set_as_default=False) as client:
            assert f"GatewayCluster<{cluster.name}, of alice," in repr(theirs)
            assert "<strong>Owner:</strong> alice" in theirs._repr_html_()
            assert "Owner" not in cluster._repr_html_()
            assert type(theirs._widget()).__name__ == "HTML", "without the controls that are the owner's"
            with pytest.raises(GatewayAuthError, match=r"cannot resize cluster .* belongs to alice"):
                theirs.scale(1)

            cluster.unshare(group="physics")

            words = f"cannot use any longer cluster {cluster.name}: alice no longer shares it with you"
            eventually_sync(lambda: words in caplog.messages, 30, "the notebook is told")
            eventually_sync(lambda: client.status == "closed", 30)
            with pytest.raises(GatewayClusterError, match="alice no longer shares it with you"):
                theirs.get_client()
        assert carol.list_clusters(of="shared") == []


def test_to_view_is_not_to_connect(gateway: GatewayProcess, tokens: dict[str, str], cluster: GatewayCluster) -> None:
    """Who tries is told what they may and whose it is; logs and dashboard they have."""
    cluster.share(user="bob")
    with Gateway(gateway.url, auth=TokenAuth(tokens["bob"])) as bob:
        with pytest.raises(GatewayAuthError, match="belongs to alice, who shares it with you to view only"):
            bob.connect(cluster.name)
        report = bob.get_cluster(cluster.name)
        assert (report.owner, report.mine, report.security) == ("alice", False, None)
        assert report.may("dashboard")
        assert "Scheduler at" in bob.get_logs(cluster.name)["scheduler"]


def test_a_right_that_shrinks_ends_the_connection(
    gateway: GatewayProcess, tokens: dict[str, str], cluster: GatewayCluster, caplog: pytest.LogCaptureFixture
) -> None:
    """From use to view: the notebook is told what is left."""
    caplog.set_level(logging.WARNING, "tidegate.client")
    cluster.share(user="bob", right="use")
    with (
        Gateway(gateway.url, auth=TokenAuth(tokens["bob"])) as bob,
        bob.connect(cluster.name) as theirs,
        theirs.get_client(set_as_default=False) as client,
    ):
        cluster.share(user="bob", right="view")

        words = f"cannot use any longer cluster {cluster.name}: alice shares it with you to view, not to use"
        eventually_sync(lambda: words in caplog.messages, 30, "the notebook is told")
        eventually_sync(lambda: client.status == "closed", 30)


def test_a_link_opens_the_dashboard_until_it_is_withdrawn(cluster: GatewayCluster) -> None:
    """To whoever has it; its address is told once."""
    link = cluster.share_link("10m", label="meeting")
    with httpx.Client() as anybody:
        opened = anybody.get(link.url)
        assert (opened.status_code, f"//{cluster.name}.localhost" in opened.headers["location"]) == (302, True)
        assert [(one.id, one.label, one.url) for one in cluster.links()] == [(link.id, "meeting", None)]

        cluster.withdraw_link(link)

        assert cluster.links() == []
        assert anybody.get(link.url).status_code == 404
    with pytest.raises(GatewayValueError, match=r"cannot make a link for 30 days: .* at most 7 days"):
        cluster.share_link("30d")


async def test_it_all_works_from_a_loop(gateway: GatewayProcess, tokens: dict[str, str]) -> None:
    """Every method returns what can be awaited."""
    async with (
        Gateway(gateway.url, auth=TokenAuth(tokens["alice"]), asynchronous=True) as alice,
        Gateway(gateway.url, auth=TokenAuth(tokens["bob"]), asynchronous=True) as bob,
        alice.new_cluster() as cluster,
    ):
        await cluster.share(user="bob", right="use")
        async with bob.connect(cluster.name) as theirs:
            assert len(await cluster.shares()) == 1
            link = await cluster.share_link(60)
            await cluster.withdraw_link(link.id)
            assert await cluster.links() == []
            await cluster.unshare(user="bob")
            await eventually(lambda: theirs.status.name == "closed", 30)
        assert await bob.list_clusters(of="shared") == []


def test_sharing_by_commands(cluster: GatewayCluster, run: Run) -> None:
    """Given, listed, seen by the other, withdrawn; in the same words as everywhere."""
    name = cluster.name
    assert "is shared with user bob, to view" in said(run, "alice", "share", name, "--user", "bob")
    assert "to use" in said(run, "alice", "share", name, "--group", "physics", "--right", "use")
    link = said(run, "alice", "link", name, "--expires", "2h", "--label", "meeting").strip()
    listed = said(run, "alice", "shares", name)
    told = json.loads(said(run, "alice", "shares", name, "--json"))

    assert [(one["kind"], one["name"], one["right"]) for one in told["shares"]] == [
        ("user", "bob", "view"),
        ("group", "physics", "use"),
    ]
    assert "group physics" in listed
    assert "meeting" in listed
    assert link.startswith("http://")
    assert link not in listed + json.dumps(told)
    assert "There is no running cluster of yours" in said(run, "bob", "list")
    assert f"{name}  alice" in said(run, "bob", "list", "--of", "shared")
    assert "see its dashboard, read its logs" in said(run, "bob", "show", name)
    assert "Shared with" not in said(run, "bob", "show", name)
    assert "user bob (view), group physics (use)" in said(run, "alice", "show", name)
    assert "is withdrawn" in said(run, "alice", "unlink", name, told["links"][0]["id"])
    assert "not shared with user bob any more" in said(run, "alice", "unshare", name, "--user", "bob")
    assert f"{name}  alice" in said(run, "carol", "list", "--of", "shared")
    said(run, "alice", "unshare", name, "--group", "physics")
    assert "is shared with nobody" in said(run, "alice", "shares", name)
    assert "cannot find cluster" in run("bob", "show", name).stderr


def test_an_administrator_limits_and_acts_for_others(cluster: GatewayCluster, run: Run) -> None:
    """Sees everybody's, limits one, makes one for somebody; nobody else may."""
    name = cluster.name
    assert f"{name}  alice" in said(run, "ada", "list", "--owner", "alice")
    assert f"{name} of alice: at most 1 worker (set by administrator ada)" in said(run, "ada", "limit", name, "1")
    assert "at most 1 (set by administrator ada)" in said(run, "alice", "show", name)
    assert run("ada", "scale", name, "3").stderr.startswith("Scale request of 3 workers would exceed")

    made = said(run, "ada", "create", "--on-behalf-of", "bob").strip()
    assert [one["owner"] for one in json.loads(said(run, "bob", "list", "--json"))] == ["bob"]
    assert "is being stopped" in said(run, "ada", "stop", made)

    for arguments in (["limit", name, "9"], ["stop", name], ["show", name], ["list", "--on-behalf-of", "alice"]):
        refused = run("bob", *arguments)
        assert refused.code == 1
        assert refused.stderr.startswith("cannot ")
        assert "Traceback" not in refused.stderr


def test_an_administrator_computes_for_somebody(
    gateway: GatewayProcess, tokens: dict[str, str], cluster: GatewayCluster
) -> None:
    """As themselves they are told how; on behalf of the owner they connect, with the owner's rights."""
    with (
        Gateway(gateway.url, auth=TokenAuth(tokens["ada"])) as ada,
        pytest.raises(GatewayAuthError, match="An administrator does that on behalf of alice"),
    ):
        ada.connect(cluster.name)
    with (
        Gateway(gateway.url, auth=TokenAuth(tokens["ada"]), on_behalf_of="alice") as ada,
        ada.connect(cluster.name) as same,
        same.get_client(set_as_default=False) as client,
    ):
        same.scale(1)
        assert client.submit(os.getpid).result(60) > 0
