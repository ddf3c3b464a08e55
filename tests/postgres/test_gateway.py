"""A whole gateway whose records are in PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateways import GatewayProcess
from tests.postgres.server import PASSWORD, PostgresServer
from tests.support import eventually_sync

pytestmark = pytest.mark.xdist_group("gateway")
"""One gateway is started for all of these, so one process runs them."""

CONFIG = """
database:
  url: {url}
  password_file: database-password
proxy: {{workers: 1}}
"""

MAKE = """
from tidegate import Gateway

with Gateway() as gateway:
    cluster = gateway.new_cluster(shutdown_on_close=False)
    cluster.scale(1)
    with cluster.get_client() as client:
        print(cluster.name, client.submit(sum, [40, 2]).result(timeout=60))
"""

COMPUTE_WHILE_IT_IS_AWAY = """
import sys
from tidegate import Gateway

with Gateway() as gateway, gateway.connect(sys.argv[1]) as cluster, cluster.get_client() as client:
    print("connected", flush=True)
    sys.stdin.readline()
    print(client.submit(sum, [40, 2]).result(timeout=60), flush=True)
"""


@pytest.fixture(scope="module")
def gateway(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that was told of the database in its configuration file, and of the password in another."""
    made = GatewayProcess(tmp_path_factory.mktemp("gateway"), ["--config", "tidegate.yaml"])
    (made.home / "tidegate.yaml").write_text(CONFIG.format(url=postgres.url))
    (made.home / "database-password").write_text(f"{PASSWORD}\n")
    try:
        yield made.start()
        made.stop()
    finally:
        made.kill_everything()


@pytest.fixture(scope="module")
def cluster(gateway: GatewayProcess) -> str:
    """The name of a cluster that has computed something."""
    name, answer = gateway.run_python(MAKE).stdout.split()
    assert answer == "42"
    return name


def status(gateway: GatewayProcess, path: str = "/api/v2/clusters") -> int:
    """Return how the API answers."""
    return httpx.get(f"{gateway.url}{path}", headers=gateway.headers, timeout=20).status_code


def state(gateway: GatewayProcess, name: str) -> str:
    """Return the state of a cluster."""
    found: str = httpx.get(f"{gateway.url}/api/v2/clusters/{name}", headers=gateway.headers).json()["state"]
    return found


def test_nothing_of_it_is_in_the_data_folder(gateway: GatewayProcess, cluster: str) -> None:
    """No SQLite database is made beside; the key that secrets are sealed with stays apart from them."""
    there = {path.name for path in gateway.data.iterdir()}

    assert "seal.key" in there
    assert not [name for name in there if "sqlite" in name]
    assert state(gateway, cluster) == "running"


def test_the_password_is_shown_nowhere(gateway: GatewayProcess, cluster: str) -> None:
    """Neither in what the gateway says, nor in logs, arguments of processes, and answers about the configuration."""
    commands = [gateway.run_cli("config", word, "--config", "tidegate.yaml") for word in ("check", "explain")]
    assert [done.returncode for done in commands] == [0, 0]
    checked, explained = (done.stdout + done.stderr for done in commands)
    assert "Records are kept in postgresql://tidegate:***@127.0.0.1:" in checked
    assert "password_file" in explained

    logs = [path.read_text() for path in (gateway.data / "logs").iterdir()]
    arguments = [Path(f"/proc/{pid}/cmdline").read_text() for pid in gateway.processes()]
    assert logs
    assert arguments
    for text in (gateway.text, checked, explained, *logs, *arguments):
        assert PASSWORD not in text


def test_a_wrong_password_is_told_before_the_start(gateway: GatewayProcess, postgres: PostgresServer) -> None:
    """By ``config check`` and by the start itself, in one sentence and without it."""
    other = GatewayProcess(gateway.folder.with_name("other"), ["--config", "tidegate.yaml"])
    (other.home / "tidegate.yaml").write_text(CONFIG.format(url=postgres.url))
    (other.home / "database-password").write_text("letmein\n")

    checked = other.run_cli("config", "check", "--config", "tidegate.yaml")
    other.launch()
    code = other.wait()

    for status, text in ((checked.returncode, checked.stderr), (code, other.text)):
        assert status == 1
        assert "password authentication failed" in text
        assert "letmein" not in text
        assert "Traceback" not in text


def test_secrets_are_sealed_anew(gateway: GatewayProcess, cluster: str) -> None:
    """``tidegate keys rotate`` finds them there, while the gateway runs."""
    done = gateway.run_cli("keys", "rotate", "--config", "tidegate.yaml", "--data", str(gateway.data))

    assert "1 secrets are sealed with a new key" in done.stdout, done.stderr
    assert state(gateway, cluster) == "running"


async def test_computing_goes_on_while_the_database_is_away(
    gateway: GatewayProcess, postgres: PostgresServer, cluster: str
) -> None:
    """It crashes: the API says 503 and why, who computes notices nothing; it is back: so is everything."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMPUTE_WHILE_IT_IS_AWAY, cluster),
        env=gateway.environ,
        cwd=gateway.home,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    assert (await program.stdout.readline()).strip() == b"connected"
    control = gateway.processes("tidegate.server.control")
    postgres.stop(kindly=False)
    try:
        refused = httpx.post(f"{gateway.url}/api/v2/clusters", json={}, headers=gateway.headers, timeout=20)
        said, _ = await asyncio.wait_for(program.communicate(b"go on\n"), 60)
    finally:
        postgres.start()

    assert refused.status_code == 503
    assert "cannot reach the gateway's database now" in refused.text
    assert said.strip() == b"42"
    eventually_sync(lambda: status(gateway) == 200)
    assert state(gateway, cluster) == "running"
    assert gateway.processes("tidegate.server.control") == control


def test_a_killed_control_process_knows_everything_again(gateway: GatewayProcess, cluster: str) -> None:
    """The next one finds the cluster in the database, and ends it when it is told to."""
    (control,) = gateway.processes("tidegate.server.control")
    os.kill(control, signal.SIGKILL)
    eventually_sync(lambda: gateway.says("The control process is back"))

    assert state(gateway, cluster) == "running"
    stopped = httpx.delete(f"{gateway.url}/api/v2/clusters/{cluster}", headers=gateway.headers, timeout=20)
    assert stopped.status_code < 300
    eventually_sync(lambda: state(gateway, cluster) == "stopped")
