"""Sharing for real: a second user computes on somebody's cluster with either client, until that is withdrawn."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually_sync
from tidegate import Gateway, GatewayCluster, TokenAuth

pytestmark = pytest.mark.timeout(180)

GUEST = """
import sys, time, warnings
warnings.simplefilter("always")
{imports}
{connect}
client = cluster.get_client()
print("computed", client.submit(sum, [20, 22]).result(timeout=60), flush=True)
deadline = time.monotonic() + 60
while client.status == "running" and time.monotonic() < deadline:
    time.sleep(0.05)
print("status", client.status, flush=True)
try:
    {again}
    print("in again", flush=True)
except Exception as error:
    print("refused", type(error).__name__, error, flush=True)
"""

OURS = GUEST.format(
    imports="from tidegate import Gateway, TokenAuth",
    connect="gateway = Gateway(sys.argv[1], auth=TokenAuth(sys.argv[2])); cluster = gateway.connect(sys.argv[3])",
    again="gateway.connect(sys.argv[3]).get_client()",
)

THEIRS = GUEST.format(
    imports="from dask_gateway import Gateway, BasicAuth",
    connect=(
        "gateway = Gateway(sys.argv[1], auth=BasicAuth('bob', sys.argv[2])); cluster = gateway.connect(sys.argv[3])"
    ),
    again="gateway.connect(sys.argv[3]).get_client()",
)

HELD = """
import sys
from distributed import Client
from distributed.security import Security
cert, key, address = sys.argv[1:4]
# As somebody would who has kept what they were once given.
import ssl
context = ssl.create_default_context(cafile=cert)
context.check_hostname = False
context.load_cert_chain(cert, key)
arguments = {"ssl_context": context, "require_encryption": True, "server_hostname": sys.argv[4]}

class Kept(Security):
    def get_connection_args(self, role):
        return arguments

try:
    client = Client(address, security=Kept(require_encryption=True), timeout=8)
    print("computed", client.submit(sum, [20, 22]).result(timeout=60), flush=True)
except Exception as error:
    print("refused", type(error).__name__, flush=True)
"""


class Program:
    """A program of another user's, that is read line by line."""

    def __init__(self, gateway: GatewayProcess, code: str, *arguments: str) -> None:
        self.lines: list[str] = []
        # No configuration of the owner's: what it knows stands in its arguments.
        environ = gateway.environ | {"HOME": str(gateway.folder), "DASK_CONFIG": str(gateway.folder / "none")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(self._process.stdout)

    @property
    def text(self) -> str:
        """What it has said so far."""
        return "".join(self.lines)

    def hear(self, words: str, timeout: float = 60) -> None:
        """Wait until it says this."""
        eventually_sync(lambda: words in self.text or self._process.poll() is not None, timeout, words)
        assert words in self.text, self.text

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def cluster(gateway: GatewayProcess) -> Iterator[GatewayCluster]:
    """A cluster of the gateway's user, with a worker."""
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as owner, owner.new_cluster() as cluster:
        cluster.scale(1)
        yield cluster


@pytest.fixture
def run(gateway: GatewayProcess) -> Iterator[Callable[..., Program]]:
    """Return a function that starts a program; none outlives its test."""
    started: list[Program] = []

    def start(code: str, *arguments: str) -> Program:
        started.append(Program(gateway, code, *arguments))
        return started[-1]

    yield start
    for program in started:
        program.end()


def share(gateway: GatewayProcess, name: str, method: str = "PUT", right: str = "use") -> None:
    """Share a cluster with bob, or no longer."""
    body = {"json": {"right": right}} if method == "PUT" else {}
    url = f"{gateway.url}/api/v2/clusters/{name}/shares/user:bob"
    httpx.request(method, url, headers=gateway.headers, **body).raise_for_status()


@pytest.mark.parametrize("code", [OURS, THEIRS], ids=["tidegate", "dask_gateway"])
def test_another_user_computes_until_it_is_withdrawn(
    gateway: GatewayProcess, cluster: GatewayCluster, run: Callable[..., Program], code: str
) -> None:
    """With either client: connected by name, computing; then cut with a reason, and refused when they come back. The
    owner, who computes all the while, loses nothing.
    """
    owner = cluster.get_client()
    kept = owner.scatter([1, 2, 3])
    share(gateway, cluster.name)
    bob = run(code, gateway.url, gateway.mint("bob"), cluster.name)
    bob.hear("computed 42")

    share(gateway, cluster.name, "DELETE")

    bob.hear("status c", 20)  # closed, or connecting for as long as Dask tries
    bob.hear("refused")
    assert "no longer share" in bob.text  # by the scheduler, or by the gateway, whose word may be faster
    assert "not found" in bob.text.lower() or "cannot find" in bob.text.lower()
    assert "Traceback" not in bob.text.partition("refused")[2]
    assert owner.status == "running"
    assert owner.gather(kept) == [1, 2, 3]
    assert owner.submit(sum, kept).result(timeout=60) == 6


def test_what_was_kept_opens_nothing_any_more(
    gateway: GatewayProcess, cluster: GatewayCluster, run: Callable[..., Program], tmp_path: Path
) -> None:
    """Certificate and key that bob wrote down while he could, used without asking the gateway: good before, refused
    after; shared again, he gets others, and the old ones stay refused.
    """
    share(gateway, cluster.name)
    bob = {"Authorization": f"Bearer {gateway.mint('bob')}"}
    url = f"{gateway.url}/api/v2/clusters/{cluster.name}/credentials"

    def fetch(number: int) -> tuple[str, ...]:
        given = httpx.get(url, headers=bob).raise_for_status().json()
        cert, key = tmp_path / f"{number}.pem", tmp_path / f"{number}.key"
        cert.write_text(given["certificate"])
        key.write_text(given["key"])
        return str(cert), str(key), gateway.url.replace("http://", "tls://"), given["sni"]

    first = fetch(1)
    run(HELD, *first).hear("computed 42")
    share(gateway, cluster.name, "DELETE")
    assert httpx.get(url, headers=bob).status_code == 404
    run(HELD, *first).hear("refused")
    share(gateway, cluster.name)
    run(HELD, *fetch(2)).hear("computed 42")
    run(HELD, *first).hear("refused")


def test_to_view_is_not_to_connect(
    gateway: GatewayProcess, cluster: GatewayCluster, run: Callable[..., Program]
) -> None:
    """Either client says why; the right to use it helps, and taking that away again cuts."""
    token = gateway.mint("bob")
    share(gateway, cluster.name, right="view")
    for code in (OURS, THEIRS):
        program = run(code, gateway.url, token, cluster.name)
        program.hear("who shares it with you to view only")
        assert "computed" not in program.text
    share(gateway, cluster.name)
    bob = run(OURS, gateway.url, token, cluster.name)
    bob.hear("computed 42")
    share(gateway, cluster.name, right="view")
    bob.hear("status c", 20)  # closed, or connecting for as long as Dask tries
    bob.hear("to view only")
