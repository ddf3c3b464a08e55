"""A whole gateway under attack at its login, and while its keys are rotated."""

from __future__ import annotations

import base64
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from argon2 import PasswordHasher

from tests.e2e.gateways import GatewayProcess, serving
from tidegate import Gateway, TokenAuth
from tidegate.authn.users import User, UserFile, hash_password

pytestmark = pytest.mark.timeout(180)

PASSWORD = "correct horse"
CONFIG = "trusted_proxies: [127.0.0.1]\nauthentication: {session_hours: 2, logins: {passwords: {}}}\n"
ATTACKER, ALICE = "198.51.100.9", "192.0.2.7"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway behind a proxy on this machine, that knows alice and bob by their password."""
    folder = tmp_path_factory.mktemp("hardened")
    hashed = hash_password(PASSWORD, PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    with UserFile(folder / "data" / "users").changing() as users:
        users |= {name: User(name, hashed) for name in ("alice", "bob")}
    with serving(folder, CONFIG) as running:
        yield running


def log_in(gateway: GatewayProcess, password: str, client: str) -> httpx.Response:
    """Ask something as alice, by the proxy, from an address."""
    pair = base64.b64encode(f"alice:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {pair}", "X-Forwarded-For": client}
    return httpx.get(f"{gateway.url}/api/v2/whoami", headers=headers)


def test_who_guesses_passwords_waits_and_nobody_else(gateway: GatewayProcess) -> None:
    """By the address that the proxy before it tells, whatever the attacker writes to the left of it."""
    for number in range(10):
        assert log_in(gateway, f"guess {number}", f"{ALICE}, {ATTACKER}").status_code == 401

    refused = log_in(gateway, PASSWORD, f"{ALICE}, {ATTACKER}")

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert "too many wrong passwords for this name from your address" in refused.text
    assert log_in(gateway, PASSWORD, ALICE).status_code == 200
    assert httpx.get(f"{gateway.url}/api/v2/whoami", headers=gateway.headers).status_code == 200


def test_who_is_removed_is_out_at_once(gateway: GatewayProcess) -> None:
    """From the console and by tokens, with the next request; a session lasts as long as the configuration says."""
    with httpx.Client(base_url=gateway.url, headers={"Origin": gateway.url, "Accept": "text/html"}) as browser:
        begun = browser.post("/login", data={"username": "bob", "password": PASSWORD})
        assert "Max-Age=7200;" in begun.headers["set-cookie"].replace("7199;", "7200;")
        token = browser.post("/api/v2/tokens", json={"label": "x"}).json()["secret"]
        bearer = {"Authorization": f"Bearer {token}"}
        assert browser.get("/").status_code == 200
        assert httpx.get(f"{gateway.url}/api/v2/clusters", headers=bearer).status_code == 200

        done = gateway.run_cli("users", "remove", "bob", "--data", str(gateway.data))

        assert (done.returncode, done.stderr) == (0, "")
        assert browser.get("/").status_code == 303
        refused = httpx.get(f"{gateway.url}/api/v2/clusters", headers=bearer)
        assert (refused.status_code, "no longer among the users" in refused.text) == (403, True)
    assert log_in(gateway, PASSWORD, ALICE).status_code == 200


def test_keys_are_rotated_while_it_runs(gateway: GatewayProcess) -> None:
    """Clusters and tokens go on, sessions end; what is new is sealed anew, and a restart reads all of it."""
    before = (gateway.data / "seal.key").read_bytes()
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user, httpx.Client(base_url=gateway.url) as browser:
        cluster = user.new_cluster(shutdown_on_close=False)
        browser.get(gateway.login_url)
        assert browser.get("/").status_code == 200

        done = gateway.run_cli("keys", "rotate", "--data", str(gateway.data))

        assert (done.returncode, done.stderr) == (0, "")
        assert "sealed with a new key" in done.stdout
        assert browser.get("/").status_code == 401
        assert user.connect(cluster.name).name == cluster.name
        newer = user.new_cluster(shutdown_on_close=False)
        after = (gateway.data / "seal.key").read_bytes()
        assert len(after) == len(before)
        assert after != before

        gateway.send(signal.SIGTERM)
        gateway.wait()
        gateway.start()
        # By its certificate, which is sealed.
        for name in (cluster.name, newer.name):
            assert user.connect(name).name == name
        assert not [path for path in Path(gateway.data).iterdir() if path.name.startswith(".seal.key")]
        for one in (cluster, newer):
            one.shutdown()
