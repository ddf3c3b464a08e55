"""Those who use a cluster by a share: the scheduler lets them in, no worker does; what is withdrawn ends at once."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import pytest

from tests.compat.lab import AGENT, SCRIPTS, Lab, Talker
from tests.support import eventually
from tidegate.control.credentials import client_pem, mint, mint_client, new_serial, revocation_lists
from tidegate.store.base import ClientPair

NAME = "0123456789abcdef"


class SharedCluster:
    """A scheduler over TLS with its workers, whose owner shares it: all the files, and who connects with which."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.secrets = mint(NAME, time.time())
        self.folder = lab.folder
        lab.more["clients_ca"] = self.secrets.clients_ca_cert
        for part in ("ca_cert", "scheduler_cert", "scheduler_key", "worker_cert", "worker_key"):
            (self.folder / part).write_text(getattr(self.secrets, part))
        self.add("owner", ClientPair(client_pem(self.secrets), self.secrets.client_key))

    def add(self, who: str, pair: ClientPair | None = None) -> int:
        """Make the files that ``who`` connects with; return the serial number of a grantee's leaf."""
        serial = new_serial()
        pair = pair or mint_client(NAME, self.secrets, serial)
        (self.folder / f"{who}.pem").write_text(pair.certificate)
        (self.folder / f"{who}.key").write_text(pair.key)
        return serial

    def environment(self, role: str, cert: str, key: str, ca: str = "ca_cert") -> dict[str, str]:
        """Return Dask's settings for TLS in one role."""
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        names = {f"{role}__CERT": cert, f"{role}__KEY": key, "CA_FILE": ca}
        return {tls + name: str(self.folder / file) for name, file in names.items()}

    async def start(self) -> None:
        """Start the scheduler and a worker."""
        environment = self.environment("SCHEDULER", "scheduler_cert", "scheduler_key")
        self.lab.write_agent_file()
        command = ("-m", "distributed.cli.dask_scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0")
        options = ("--dashboard-address", "127.0.0.1:0", "--preload", str(AGENT))
        await self.lab.start("scheduler", *command, *options, **environment)
        await self.lab.reported()
        self.lab.address = self.lab.address.replace("tcp://", "tls://")
        await self.lab.gateway.want({"default": (1, None, None)})
        environment = self.environment("WORKER", "worker_cert", "worker_key")
        command = (str(SCRIPTS / "workers.py"), self.lab.address, "1", "default-1")
        await self.lab.start("workers-default-1", *command, **environment)
        await self.lab.gateway.until(lambda report: report.workers == ["default-1"], timeout=30)

    async def client(self, who: str, script: str) -> Talker:
        """Start a program of ``who``'s, as in ``Lab.client``."""
        environment = self.environment("CLIENT", f"{who}.pem", f"{who}.key", ca=f"{who}.pem")
        command = (str(SCRIPTS / "client.py"), self.lab.address, script)
        return Talker(await self.lab.start(who, *command, **environment), self.lab.log(who))

    async def withdraw(self, *serials: int) -> None:
        """Have these certificates refused."""
        lists = revocation_lists(self.secrets, serials, time.time())
        await self.lab.gateway.withdraw([f"{serial:x}" for serial in serials], lists)

    def context(self, who: str, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """Return what ``who`` connects with."""
        context = ssl.create_default_context(cafile=self.folder / f"{who}.pem")
        context.check_hostname = False
        context.maximum_version = version
        context.load_cert_chain(self.folder / f"{who}.pem", self.folder / f"{who}.key")
        return context

    @property
    def port(self) -> int:
        """Where the scheduler listens."""
        return int(self.lab.address.rpartition(":")[2])


def greet(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
    """Connect and wait for the first byte, with which Dask greets whoever is let in; return the TLS session.

    Raises
    ------
    OSError
        When the certificate is refused, which TLS 1.3 says only after the handshake.
    """
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    with context.wrap_socket(raw, server_hostname=NAME, session=session) as connection:
        if not connection.recv(1):
            raise ConnectionResetError("cut")
        assert connection.session_reused is (session is not None)
        return connection.session


@pytest.fixture
async def shared(lab: Lab) -> SharedCluster:
    """A cluster that runs."""
    cluster = SharedCluster(lab)
    await cluster.start()
    return cluster


WORK = """
future = client.submit(lambda: 40 + 2)
say(future.result())
wait()
say(client.submit(lambda x: x + 1, future).result())
wait()
"""

CUT = """
import asyncio, time, warnings
warnings.simplefilter("always")
future = client.submit(lambda: 40 + 2)
say(future.result())
deadline = time.monotonic() + 30
while client.status == "running" and time.monotonic() < deadline:
    time.sleep(0.05)
say(client.status)
wait()
"""


async def test_what_is_withdrawn_ends_and_the_owner_notices_nothing(shared: SharedCluster) -> None:
    """A grantee computes; withdrawn, their client is cut with a sentence and comes in no more, however often it tries.
    The owner's client keeps its connection and its results, and so does another grantee's.
    """
    bob, _ = shared.add("bob"), shared.add("carol")
    owner, bobs, carols = [
        await shared.client(who, script) for who, script in (("owner", WORK), ("bob", CUT), ("carol", WORK))
    ]
    for talker in (owner, bobs, carols):
        await talker.hear("42")

    await shared.withdraw(bob)

    await bobs.hear("connecting")
    assert "no longer shared with you for use" in shared.lab.log("bob").read_text()
    with pytest.raises(OSError):
        greet(shared.port, shared.context("bob"))
    for talker in (owner, carols):
        talker.say()
        await talker.hear("43")
    assert "econnecting" not in shared.lab.log("owner").read_text()
    await shared.lab.wait_for_log("scheduler", "Cut .* connections whose certificate is withdrawn")


async def test_a_second_withdrawal_counts_as_well(shared: SharedCluster) -> None:
    """Each list replaces the one before; who is on neither comes in, and the workers are never refused."""
    serials = {who: shared.add(who) for who in ("bob", "carol", "dave")}
    for who in serials:
        assert greet(shared.port, shared.context(who))
    withdrawn: list[int] = []
    for who in ("bob", "carol"):
        withdrawn.append(serials[who])
        await shared.withdraw(*withdrawn)
        await eventually(lambda who=who: is_refused(shared, who), 30, f"{who} is refused")
    assert is_refused(shared, "bob")
    for who in ("dave", "owner"):
        assert greet(shared.port, shared.context(who))
    await shared.lab.start(
        "workers-default-2",
        *(str(SCRIPTS / "workers.py"), shared.lab.address, "1", "default-2"),
        **shared.environment("WORKER", "worker_cert", "worker_key"),
    )
    await shared.lab.gateway.until(lambda report: len(report.workers) == 2, timeout=30)


def is_refused(shared: SharedCluster, who: str) -> bool:
    """Whether the scheduler does not let ``who`` in."""
    with contextlib.suppress(OSError):
        greet(shared.port, shared.context(who))
        return False
    return True


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_from_before_opens_nothing(shared: SharedCluster, version: ssl.TLSVersion) -> None:
    """Whoever resumes a TLS session is not asked for a certificate; none from before a withdrawal can be resumed."""
    bob = shared.add("bob")
    context = shared.context("bob", version)
    session = greet(shared.port, context)
    assert greet(shared.port, context, session)
    await shared.withdraw(bob)
    await eventually(lambda: is_refused(shared, "bob"), 30, "bob is refused")
    with pytest.raises(OSError):
        greet(shared.port, context, session)


async def test_a_grantees_leaf_opens_no_port_of_a_worker(shared: SharedCluster) -> None:
    """Workers trust the servers' authority alone: the owner comes in there, who has it by share does not."""
    shared.add("bob")
    script = "say(next(iter(client.scheduler_info()['workers'])))\nwait()"
    talker = await shared.client("owner", script)
    assert talker._process.stdout is not None
    address = (await talker._process.stdout.readline()).decode().strip()
    port = int(address.rpartition(":")[2])

    assert greet(port, shared.context("owner"))
    with pytest.raises(OSError) as refused:
        greet(port, shared.context("bob"))
    assert "unknown ca" in str(refused.value).lower() or "UNKNOWN_CA" in str(refused.value)


async def test_a_grantees_leaf_cannot_pose_as_a_server(shared: SharedCluster) -> None:
    """Neither a worker nor the scheduler, as which they would be called, believes it."""
    shared.add("bob")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(shared.folder / "bob.pem", shared.folder / "bob.key")
    trusting = ssl.create_default_context(cafile=shared.folder / "ca_cert")
    trusting.check_hostname = False
    # Even whoever trusted the clients' authority would see that it is no server's.
    trusting_all = ssl.create_default_context(cadata=shared.secrets.clients_ca_cert)
    trusting_all.check_hostname = False
    for context, words in ((trusting, "unable to get local issuer"), (trusting_all, "unsuitable certificate purpose")):
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=pose, args=(server, theirs))
        thread.start()
        with pytest.raises(ssl.SSLCertVerificationError, match=words), ours:
            context.wrap_socket(ours, server_hostname=NAME)
        thread.join()


def pose(server: ssl.SSLContext, sock: socket.socket) -> None:
    """Answer one TLS client."""
    with contextlib.suppress(OSError), sock:
        server.wrap_socket(sock, server_side=True)


async def test_without_an_authority_for_them_nobody_comes_in(lab: Lab) -> None:
    """The file of an older gateway names none: everything else is as ever."""
    cluster = SharedCluster(lab)
    lab.more["clients_ca"] = None
    await cluster.start()
    cluster.add("bob")
    assert greet(cluster.port, cluster.context("owner"))
    assert is_refused(cluster, "bob")
