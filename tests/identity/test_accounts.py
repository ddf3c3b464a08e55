"""A gateway for several people of one machine: started by root, which stays out of all that talks to anybody."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateways import GatewayProcess
from tests.identity.accounts import Tenants, mint
from tests.support import eventually_sync
from tidegate import Gateway
from tidegate.backends.local.accounts import user_of
from tidegate.client.auth import TokenAuth

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def gateway(people: Tenants, tmp_path: Path) -> Iterator[GatewayProcess]:
    """Give a gateway that root will start, for clusters under their owners' accounts."""
    folder = people.place / tmp_path.name
    folder.mkdir(mode=0o755)
    command = [people.python, "-c", "from tidegate.cli.main import main; main()"]
    gateway = GatewayProcess(folder, ["--config", str(folder / "tidegate.yaml")], command=command)
    # Without zygotes, which wait a minute for the next gateway before they end.
    text = f"user: {people.gateway.pw_name}\nbackend: {{accounts: owner, zygotes: 0}}\n"
    (folder / "tidegate.yaml").write_text(text)
    try:
        yield gateway
        gateway.stop()
    finally:
        gateway.kill_everything()


@contextmanager
def connected(gateway: GatewayProcess, people: Tenants) -> Iterator[tuple[Any, Any]]:
    """Give a cluster of alice's with a worker, and a client of it."""
    token = mint(people, gateway.data, people.alice.pw_name)
    with Gateway(gateway.url, auth=TokenAuth(token)) as user:
        cluster = user.new_cluster(shutdown_on_close=False)
        cluster.scale(1)
        with cluster.get_client(set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
            yield cluster, client
        cluster.close(shutdown=False)


def users(gateway: GatewayProcess, words: str = "") -> set[int | None]:
    """Return whose processes of the gateway there are."""
    return {user_of(pid) for pid in gateway.processes(words)}


def test_root_is_only_where_it_must_be(people: Tenants, gateway: GatewayProcess) -> None:
    """What talks to the network has no rights, clusters are their owners', and only two processes stay root."""
    gateway.start()
    assert "clusters run under their owners' accounts" in gateway.text
    with connected(gateway, people) as (_, client):
        assert client.submit(os.getuid).result(60) == people.alice.pw_uid
        for module in ("tidegate.server.control", "tidegate.proxy"):
            assert users(gateway, module) == {people.gateway.pw_uid}
        roots = [pid for pid in gateway.processes() if user_of(pid) == 0]
        assert gateway.process is not None
        assert roots == [gateway.process.pid, *gateway.processes("tidegate.server.launcher")]
    assert (gateway.data.stat().st_uid, gateway.data.stat().st_mode & 0o777) == (people.gateway.pw_uid, 0o700)


def test_the_launcher_may_be_killed(people: Tenants, gateway: GatewayProcess) -> None:
    """Clusters go on without it, and what is asked meanwhile is done by the next one."""
    gateway.start()
    with connected(gateway, people) as (cluster, client):
        (launcher,) = gateway.processes("tidegate.server.launcher")
        os.kill(launcher, signal.SIGKILL)
        cluster.scale(2)
        client.wait_for_workers(2, timeout=60)
        assert set(client.run(os.getuid).values()) == {people.alice.pw_uid}
    assert gateway.says("The launcher ended (killed by SIGKILL)")


def test_clusters_outlive_the_gateway_and_are_found_again(people: Tenants, gateway: GatewayProcess) -> None:
    """A restart, also after root's own process was killed, changes nothing for who computes."""
    gateway.start()
    with connected(gateway, people) as (cluster, client):
        gateway.send(signal.SIGTERM)
        assert gateway.wait() == 0
        gateway.start()
        assert client.submit(os.getuid, pure=False).result(60) == people.alice.pw_uid
        gateway.send(signal.SIGKILL)
        gateway.wait()
        eventually_sync(lambda: not gateway.processes("tidegate.server"), 30, "what belongs to it has ended")
        gateway.start()
        assert client.submit(os.getuid, pure=False).result(60) == people.alice.pw_uid
        cluster.shutdown()
    eventually_sync(lambda: not _of(gateway, people.alice.pw_uid, "scheduler"), 30, "its processes are gone")


def _of(gateway: GatewayProcess, uid: int, words: str) -> list[int]:
    return [pid for pid in gateway.processes(words) if user_of(pid) == uid]


def test_who_has_no_account_gets_no_cluster(people: Tenants, gateway: GatewayProcess) -> None:
    """The request itself is refused, in words; there is no cluster that fails later."""
    gateway.start()
    for name, words in (("stranger", "this machine has no account of that name"), ("root", "a system account")):
        with Gateway(gateway.url, auth=TokenAuth(mint(people, gateway.data, name))) as user:
            with pytest.raises(ValueError, match=f"cannot run clusters for {name}: .*{words}"):
                user.new_cluster()
            assert user.list_clusters() == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("backend: {accounts: owner}", "the gateway needs an account of its own"),
        ("user: no-such-account\nbackend: {accounts: owner}", "'no-such-account' is no account of this machine"),
        ("user: root\nbackend: {accounts: owner}", "'root' is root"),
    ],
)
def test_what_it_needs_is_said_at_the_start(gateway: GatewayProcess, config: str, words: str) -> None:
    """A gateway that could not keep its promise does not start."""
    (gateway.folder / "tidegate.yaml").write_text(config)
    gateway.launch()
    assert gateway.wait() == 1
    assert words in gateway.text.replace("\n", " ")


def test_a_place_that_others_can_change_is_refused(people: Tenants, gateway: GatewayProcess) -> None:
    """The folder of clusters lies where only root can put something in its place."""
    place = Path(people.bob.pw_dir) / "clusters"
    text = f"user: {people.gateway.pw_name}\nbackend: {{accounts: owner, folder: {place}}}\n"
    (gateway.folder / "tidegate.yaml").write_text(text)
    gateway.launch()
    assert gateway.wait() == 1
    assert "others than root can rename what is in" in gateway.text.replace("\n", " ")


def test_root_imports_nothing_that_a_user_can_write(people: Tenants, gateway: GatewayProcess) -> None:
    """Whoever could change what stays root would be root: the start is refused, with the path and what to do."""
    folder = gateway.folder / "modules"
    folder.mkdir()
    os.chown(folder, people.alice.pw_uid, people.alice.pw_gid)
    gateway.more_environ["PYTHONPATH"] = str(folder)

    gateway.launch()

    assert gateway.wait() == 1
    assert f"user {people.alice.pw_name} can change {folder}" in gateway.text
    assert not gateway.processes("tidegate.server.launcher")
