"""Two people of one machine, and one of them attacks: by a task of their cluster, with all that their account can do.

The gateway is started by root and runs its clusters under their owners' accounts. What bob's task tries on alice's
cluster, on alice and on the gateway stands in ``hostile_task.py``. That the attempts are real ones is seen by letting
alice's own task try them on what is hers.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.gateways import GatewayProcess
from tests.identity.accounts import Tenants, mint
from tests.support import eventually_sync
from tidegate import Gateway, GatewayCluster
from tidegate.backends.local.accounts import user_of
from tidegate.client.auth import TokenAuth
from tidegate.wire.names import AGENT_PATH, DASHBOARD_HEADER

pytestmark = pytest.mark.timeout(240)

TASK = Path(__file__).with_name("hostile_task.py")

COMMON = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/run/lock"]
"""Where everybody can leave something."""


OPEN = re.compile(r"(list|read) .*/data-clusters/\.keeper(/|$)")
"""The keeper's code, which every account has to read in order to run it; nobody but root may change it."""


@dataclass
class Tenant:
    """Somebody with a cluster.

    Parameters
    ----------
    person : pwd.struct_passwd
    token : str
    cluster : GatewayCluster
    client : distributed.Client
    folder : Path
        The cluster's.
    """

    person: pwd.struct_passwd
    token: str
    cluster: GatewayCluster
    client: Any
    folder: Path

    @property
    def pids(self) -> list[int]:
        """The processes of the cluster."""
        return [pid for pid in psutil.pids() if user_of(pid) == self.person.pw_uid and not _is_gone(pid)]

    @property
    def ports(self) -> list[int]:
        """Where they listen."""
        found = {c.laddr.port for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in self.pids}
        return sorted(found)

    @property
    def facts(self) -> dict[str, Any]:
        """What the agent was told."""
        told: dict[str, Any] = json.loads((self.folder / "secrets" / "agent.json").read_text())
        return told

    def certificates(self, gateway: GatewayProcess) -> list[tuple[str, str]]:
        """Return all certificates of theirs with their keys: of scheduler, workers and client, as files."""
        url = f"{gateway.url}/api/v2/clusters/{self.cluster.name}/credentials"
        given = httpx.get(url, headers=_bearer(self)).json()
        pairs = []
        for part in ("certificate", "key"):
            path = Path(self.person.pw_dir) / f"client.{part}"
            path.write_text(given[part])
            os.chown(path, self.person.pw_uid, self.person.pw_gid)
            pairs.append(str(path))
        secrets = self.folder / "secrets"
        keys = [path for path in secrets.iterdir() if path.is_file() and "PRIVATE KEY" in path.read_text()]
        certs = [path for path in secrets.iterdir() if path.is_file() and "BEGIN CERTIFICATE" in path.read_text()]
        return [(pairs[0], pairs[1]), *((str(cert), str(key)) for cert in certs for key in keys if _fit(cert, key))]

    def attack(self, aims: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """Let a task of theirs try everything; return how many attempts there were, and what they got."""

        def run(source: str, aims: dict[str, Any]) -> Any:
            names: dict[str, Any] = {}
            exec(source, names)
            return names["try_everything"](aims)

        found: tuple[int, dict[str, str]] = self.client.submit(run, TASK.read_text(), aims, pure=False).result(120)
        return found


def _fit(cert: Path, key: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key)
    except ssl.SSLError:
        return False
    return True


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def gateway(people: Tenants, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Give a gateway that root has started, for clusters under their owners' accounts."""
    folder = people.place / tmp_path_factory.mktemp("neighbours").name
    folder.mkdir(mode=0o755)
    command = [people.python, "-c", "from tidegate.cli.main import main; main()"]
    gateway = GatewayProcess(folder, ["--config", str(folder / "tidegate.yaml")], command=command)
    text = f"user: {people.gateway.pw_name}\nbackend: {{accounts: owner, zygotes: 4}}\n"
    (folder / "tidegate.yaml").write_text(text)
    try:
        yield gateway.start()
        gateway.stop()
    finally:
        gateway.kill_everything()


@contextmanager
def tenant(gateway: GatewayProcess, people: Tenants, person: pwd.struct_passwd) -> Iterator[Tenant]:
    """Give somebody a cluster with a worker."""
    token = mint(people, gateway.data, person.pw_name)
    with Gateway(gateway.url, auth=TokenAuth(token)) as user:
        cluster = user.new_cluster(shutdown_on_close=True)
        cluster.scale(1)
        with cluster.get_client(set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
            (secrets,) = [path for path in people.place.rglob("secrets") if path.parent.name == cluster.name]
            yield Tenant(person, token, cluster, client, secrets.parent)
        cluster.close()


@pytest.fixture(scope="module")
def both(gateway: GatewayProcess, people: Tenants) -> Iterator[tuple[Tenant, Tenant]]:
    """Give alice and bob, each with a cluster."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(tenant(gateway, people, p)) for p in (people.alice, people.bob))


def everything_below(*folders: Path) -> list[str]:
    """Return all paths below some folders, and the folders."""
    found = [str(folder) for folder in folders]
    for folder in folders:
        found += [str(path) for path in folder.rglob("*")]
    return found


def secret_words(gateway: GatewayProcess, tenant: Tenant) -> list[str]:
    """Return what nobody else may read: of the gateway and of a tenant."""
    files = [path.read_text() for path in (tenant.folder / "secrets").iterdir() if path.is_file()]
    keys = [text.split("-----")[2].split("\n")[1] for text in files if text.startswith("-----BEGIN PRIVATE")]
    told = [value for name, value in tenant.facts.items() if isinstance(value, str) and name in ("token", "secret")]
    words = [*keys, *told, tenant.token, (gateway.data / "seal.key").read_text().strip()]
    assert len(words) > 4
    return words


def _zygotes_of(root: Path, uid: int) -> list[Path]:
    """Return the sockets of somebody's zygotes."""
    return [path for path in root.glob(".zygotes/*/*.sock") if path.stat().st_uid == uid]


def _is_own(path: Path, tenant: Tenant) -> bool:
    """Whether a file is somebody's own, or lies in their cluster's folder, or is gone by now."""
    if path.is_relative_to(tenant.folder) or not os.path.lexists(path):
        return True
    return path.lstat().st_uid == tenant.person.pw_uid


def aims_at(gateway: GatewayProcess, tenant: Tenant, by: Tenant) -> dict[str, Any]:
    """Return everything of a tenant's and of the gateway's, with what the attacker has."""
    root = tenant.folder.parent
    eventually_sync(lambda: _zygotes_of(root, tenant.person.pw_uid), 60, "the next clusters are forked")
    scratch = tenant.client.run(lambda dask_worker: dask_worker.local_directory)
    below = everything_below(root, Path(tenant.person.pw_dir), gateway.data, *map(Path, scratch.values()))
    paths = below if by is tenant else [path for path in below if not _is_own(Path(path), by)]
    return {
        "pids": sorted({*tenant.pids, *(pid for pid in gateway.processes() if user_of(pid) != by.person.pw_uid)}),
        "paths": paths,
        "sockets": [path for path in paths if Path(path).is_socket()],
        "ports": tenant.ports,
        "certificates": by.certificates(gateway),
        "header": DASHBOARD_HEADER,
        "secret": by.facts["dashboard_secret"],
        "words": secret_words(gateway, tenant),
        "common": COMMON,
        "uids": [tenant.person.pw_uid, user_of(gateway.processes("tidegate.server.control")[0])],
    }


def test_a_tenants_task_gets_nothing_of_another_tenant(gateway: GatewayProcess, both: tuple[Tenant, Tenant]) -> None:
    """No file, process, memory, signal, socket, page, port, variable or leftover of alice's or of the gateway's."""
    alice, bob = both
    aims = aims_at(gateway, alice, bob)
    assert len(aims["pids"]) > 5
    assert len(aims["ports"]) >= 4
    names = {re.sub(r"-?[0-9]+", "", Path(path).name) for path in aims["sockets"]}
    assert names >= {"keeper.sock", "zygote.sock", "api.sock", "holder.sock", "launcher.sock", "proxy.sock"}
    assert len(aims["certificates"]) >= 3

    count, got = bob.attack(aims)

    assert {what: found for what, found in got.items() if not OPEN.match(what)} == {}
    assert count > 500
    assert alice.client.submit(sum, [1, 2]).result(30) == 3


def test_the_attempts_are_real_ones(gateway: GatewayProcess, both: tuple[Tenant, Tenant]) -> None:
    """On what is her own, alice's task gets what bob's did not."""
    alice, _ = both
    aims = aims_at(gateway, alice, alice)
    person = alice.person
    with subprocess.Popen(["/bin/sleep", "100"], user=person.pw_uid, group=person.pw_gid, extra_groups=[]) as mine:
        try:
            _, got = alice.attack({**aims, "pids": [mine.pid]})
        finally:
            mine.kill()

    kinds = {what.split(" ")[0] for what in got}
    assert {"read", "write", "list", "make", "link", "change", "socket", "signal", "Dask", "pages"} <= kinds
    assert {f"/proc/{mine.pid}/{name}" for name in ("environ", "maps", "fd", "cwd")} <= set(got)


def test_an_agent_that_lies_leads_nowhere(gateway: GatewayProcess, both: tuple[Tenant, Tenant]) -> None:
    """Bob's agent says that his scheduler listens where alice's does: the way to his cluster stays what it was."""
    alice, bob = both
    url = f"{gateway.url}{AGENT_PATH.replace('{name}', bob.cluster.name)}/report"
    headers = {"Authorization": f"token {bob.facts['token']}"}
    for port in alice.ports:
        lie = {"attempt": 1, "port": port, "dashboard_port": port}
        assert httpx.post(url, json=lie, headers=headers).status_code == 200
        with bob.cluster.get_client(set_as_default=False) as client:
            assert client.run_on_scheduler(os.getuid) == bob.person.pw_uid
        shown = httpx.get(f"{gateway.url}/clusters/{bob.cluster.name}/health", headers=_bearer(bob))
        assert (shown.status_code, shown.text) == (200, "ok")
    other = httpx.post(url.replace(bob.cluster.name, alice.cluster.name), json=lie, headers=headers)
    assert other.status_code == 401


def _bearer(tenant: Tenant) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant.token}"}
