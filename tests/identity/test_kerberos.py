"""The gateway in a real Kerberos realm: tickets, the proof that both sides give, and what is refused."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import gssapi
import httpx
import pytest

from tests.e2e.gateways import GatewayProcess
from tests.identity.realm import REALM, Realm
from tidegate.authn.base import NotAdmitted, Presented
from tidegate.authn.kerberos import KerberosAuthenticator, KerberosSettings
from tidegate.model.errors import Invalid

CONFIG = """
authentication:
  logins:
    kerberos: {{keytab: {keytab}, realms: [{realms}]}}
proxy: {{workers: 1}}
"""


@contextmanager
def gateway_in(realm: Realm, folder: Path, realms: str) -> Iterator[GatewayProcess]:
    """Run a gateway with the realm's key."""
    gateway = GatewayProcess(folder, ["--config", "tidegate.yaml"])
    gateway.more_environ = {n: v for n, v in realm.environ.items() if n.startswith("KRB5")}
    (gateway.home / "tidegate.yaml").write_text(CONFIG.format(keytab=realm.keytab, realms=realms))
    try:
        yield gateway.start()
        gateway.stop()
    finally:
        gateway.kill_everything()


@pytest.fixture(scope="module")
def gateway(realm: Realm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway for the users of the realm."""
    with gateway_in(realm, tmp_path_factory.mktemp("gateway"), "") as started:
        yield started


def address_of(gateway: GatewayProcess) -> str:
    """Return the address under the name that the gateway has a key for."""
    return f"http://localhost:{urlsplit(gateway.url).port}"


def run_python(
    gateway: GatewayProcess, code: str, environ: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run a program of somebody who has ``ADDRESS``, and Kerberos as ``environ`` says."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environ | {"HOME": str(folder), "ADDRESS": address_of(gateway)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=90,
    )


OFFICIAL = """
import os
from dask_gateway import Gateway
with Gateway(os.environ["ADDRESS"], auth="kerberos") as gateway:
"""
OURS = """
import os
from tidegate import Gateway
with Gateway(os.environ["ADDRESS"], auth="kerberos") as gateway:
"""
COMPUTES = """
    cluster = gateway.new_cluster()
    cluster.scale(1)
    print("computed", cluster.get_client().submit(sum, [40, 2]).result(timeout=60), len(gateway.list_clusters()))
    cluster.shutdown()
"""
FAILS = """
    print("listed", gateway.list_clusters())
    gateway.connect("no-such-cluster")
"""


@pytest.mark.parametrize("client", [OFFICIAL, OURS], ids=["official", "ours"])
def test_a_ticket_is_all_that_a_client_needs(
    gateway: GatewayProcess, realm: Realm, tmp_path: Path, client: str
) -> None:
    """The official client is unmodified, with the package that it asks for."""
    done = run_python(gateway, client + COMPUTES, realm.log_in("alice"), tmp_path)

    assert "computed 42 1" in done.stdout, done.stderr


@pytest.mark.parametrize("client", [OFFICIAL, OURS], ids=["official", "ours"])
def test_an_error_keeps_its_words(gateway: GatewayProcess, realm: Realm, tmp_path: Path, client: str) -> None:
    """The proof goes with errors too, else the official client says "Kerberos negotiation failed" of each of them."""
    done = run_python(gateway, client + FAILS, realm.log_in("alice"), tmp_path)

    assert "listed []" in done.stdout, done.stderr
    assert "ValueError: " in done.stderr
    assert "no-such-cluster" in done.stderr or "there is none of this name" in done.stderr
    assert "negotiation failed" not in done.stderr


@pytest.mark.parametrize(
    ("client", "words"), [(OFFICIAL, "No Kerberos credentials available"), (OURS, "Is there a ticket?")]
)
def test_without_a_ticket_the_client_says_so(
    gateway: GatewayProcess, realm: Realm, tmp_path: Path, client: str, words: str
) -> None:
    """Nothing is sent at all."""
    done = run_python(gateway, client + FAILS, realm.environ, tmp_path)

    assert words in done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize("client", [OFFICIAL, OURS], ids=["official", "ours"])
def test_a_user_of_another_realm_is_told_why(realm: Realm, tmp_path: Path, client: str) -> None:
    """Known, but not for this gateway: the words come with the proof, so that they are shown."""
    with gateway_in(realm, tmp_path / "gateway", "ELSEWHERE.ORG") as gateway:
        done = run_python(gateway, client + FAILS, realm.log_in("alice"), tmp_path)

    assert f"Kerberos knows you as alice@{REALM}, but users of this realm may not use this gateway" in done.stderr


# -- one request at a time ---------------------------------------------------------------------------------------------


@pytest.fixture
def alice(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has alice's ticket, and the realm's replay cache."""
    for name, value in realm.log_in("alice").items():
        if name.startswith("KRB5"):
            monkeypatch.setenv(name, value)


@pytest.fixture
async def authenticator(alice: None, realm: Realm, tmp_path: Path) -> AsyncIterator[KerberosAuthenticator]:
    """The authenticator itself, in the same realm."""
    made = KerberosAuthenticator(tmp_path, KerberosSettings(keytab=realm.keytab))
    await made.start()
    yield made
    await made.close()


def message(service: str = "HTTP@localhost", mech: gssapi.OID | None = None) -> str:
    """Return what a client of this process's user would send to a service."""
    name = gssapi.Name(service, gssapi.NameType.hostbased_service)
    context = gssapi.SecurityContext(name=name, usage="initiate", mech=mech)
    return base64.b64encode(context.step() or b"").decode()


SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")


@pytest.mark.parametrize("mech", [None, SPNEGO], ids=["plain", "spnego"])
async def test_a_ticket_counts_once(
    authenticator: KerberosAuthenticator, mech: gssapi.OID | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever overhears a message cannot use it again, in either form that clients send."""
    sent = Presented("negotiate", message(mech=mech))

    accepted = await authenticator.authenticate(sent)
    assert accepted is not None
    assert accepted.principal.name == "alice"
    assert accepted.principal.method == "kerberos"
    assert (accepted.reply or "").startswith("Negotiate ")
    assert await authenticator.authenticate(sent) is None
    assert "Request is a replay" in caplog.text


def test_a_gateway_refuses_a_replay_and_says_what_it_takes(alice: None, gateway: GatewayProcess) -> None:
    """Over HTTP, where the challenge names Negotiate without parameters: clients read what follows as a message."""
    headers = {"Authorization": f"Negotiate {message()}"}
    first = httpx.get(f"{address_of(gateway)}/api/v2/whoami", headers=headers)
    second = httpx.get(f"{address_of(gateway)}/api/v2/whoami", headers=headers)

    assert first.json()["name"] == "alice"
    assert first.headers["WWW-Authenticate"].startswith("Negotiate ")
    assert second.status_code == 401
    assert second.headers["WWW-Authenticate"] == 'Basic realm="tidegate", Negotiate'


@pytest.mark.parametrize(
    "value",
    [
        "",
        "====",
        "é",
        base64.b64encode(b"").decode(),
        base64.b64encode(b"NTLMSSP\0\1" + bytes(30)).decode(),
        base64.b64encode(b"x" * 100).decode(),
        "A" * 200_000,
    ],
)
async def test_nonsense_is_nobody(authenticator: KerberosAuthenticator, value: str) -> None:
    """Also the start of a mechanism that needs more messages (an empty one, NTLM): there is only one."""
    assert await authenticator.authenticate(Presented("negotiate", value)) is None


async def test_a_mechanism_that_takes_several_messages_is_named(
    authenticator: KerberosAuthenticator, caplog: pytest.LogCaptureFixture
) -> None:
    """An empty message asks what there is to choose from; the choice would be a second one."""
    assert await authenticator.authenticate(Presented("negotiate", "")) is None
    assert "needs more than one message" in caplog.text


async def test_what_is_nearly_a_ticket_is_nobody(authenticator: KerberosAuthenticator) -> None:
    """One byte changed or missing, or another scheme."""
    good = base64.b64decode(message())
    changed = good[:-1] + bytes([good[-1] ^ 1])
    for raw in (changed, good[:-1], good[:50]):
        assert await authenticator.authenticate(Presented("negotiate", base64.b64encode(raw).decode())) is None
    assert await authenticator.authenticate(Presented("bearer", message())) is None


async def test_a_ticket_for_another_service_is_nobody(
    authenticator: KerberosAuthenticator, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the keytab has that service's key too, as a machine's own keytab does; the log says why."""
    assert await authenticator.authenticate(Presented("negotiate", message("host@localhost"))) is None
    assert "does not match server principal" in caplog.text


async def test_another_realm_is_named(alice: None, realm: Realm, tmp_path: Path) -> None:
    """The refusal bears the proof."""
    made = KerberosAuthenticator(tmp_path, KerberosSettings(keytab=realm.keytab, realms=("ELSEWHERE.ORG",)))
    await made.start()

    with pytest.raises(NotAdmitted, match=f"alice@{REALM}") as caught:
        await made.authenticate(Presented("negotiate", message()))
    assert (caught.value.reply or "").startswith("Negotiate ")
    await made.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (KerberosSettings(keytab=Path("/no/such/keytab")), "keytab /no/such/keytab"),
        (KerberosSettings(service="nfs"), "No key table entry found matching nfs"),
    ],
)
async def test_a_missing_key_is_told_at_the_start(
    alice: None, realm: Realm, tmp_path: Path, settings: KerberosSettings, words: str
) -> None:
    """With the file, and with what makes one."""
    chosen = settings.model_copy(update={"keytab": settings.keytab or realm.keytab})
    with pytest.raises(Invalid) as caught:
        await KerberosAuthenticator(tmp_path, chosen).start()

    assert words in caught.value.message
    assert "ktadd" in caught.value.message


# -- the gateway's proof -----------------------------------------------------------------------------------------------


class Impostor(BaseHTTPRequestHandler):
    """Answers like a gateway, but cannot read tickets."""

    proof: str | None = None

    def do_GET(self) -> None:
        """Say what would please the client."""
        body = json.dumps({"clusters": [], "next": None, "options": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.proof is not None:
            self.send_header("WWW-Authenticate", self.proof)
        self.end_headers()
        self.wfile.write(body)


@pytest.mark.parametrize("proof", [None, "Negotiate", "Negotiate YWJj", 'Negotiate realm="x"', "Basic"])
def test_our_client_believes_nobody_without_the_proof(
    gateway: GatewayProcess, realm: Realm, tmp_path: Path, proof: str | None
) -> None:
    """Whoever took over the gateway's name has not got its key."""
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Impostor,), {"proof": proof}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        code = OURS.replace('os.environ["ADDRESS"]', f'"http://localhost:{server.server_port}"') + FAILS
        done = run_python(gateway, code, realm.log_in("alice"), tmp_path)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert "does not bear the proof" in done.stderr
    assert "listed" not in done.stdout
