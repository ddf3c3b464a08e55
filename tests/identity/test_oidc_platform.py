"""A whole gateway at a real OpenID provider: people log in by Chromium and ``tidegate login``, and use both clients."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest
import yaml
from playwright.sync_api import expect

from tests.e2e.browser import Chromium
from tests.e2e.gateways import GatewayProcess
from tests.identity.processes import free_ports
from tests.identity.provider import AUDIENCE, SECRET, Person, Provider, running_provider

CONFIG = f"""
authentication:
  admin_groups: [operators]
  logins:
    oidc:
      issuer: {{issuer}}
      client_id: gateway
      client_secret_file: client-secret
      scopes: [openid, profile, groups]
      audience: {AUDIENCE}
      label: Our University
proxy: {{{{workers: 1}}}}
"""

OURS = """
from tidegate import Gateway

with Gateway() as gateway, gateway.new_cluster() as cluster:
    cluster.scale(1)
    with cluster.get_client() as client:
        print(gateway.address, client.submit(sum, [40, 2]).result(timeout=60))
"""

THEIRS = """
import os
from dask_gateway import BasicAuth, Gateway

with Gateway(os.environ["ADDRESS"], auth=BasicAuth("alice", os.environ["TOKEN"])) as gateway:
    with gateway.new_cluster() as cluster:
        print([report.name == cluster.name for report in gateway.list_clusters()])
"""


class Place:
    """A provider, and a gateway that is known there."""

    def __init__(self, provider: Provider, gateway: GatewayProcess) -> None:
        self.provider = provider
        self.gateway = gateway
        # Alice's, apart from what the first start has left for the user who started the gateway.
        self.folder = gateway.folder / "dask"
        self.environ = {"DASK_CONFIG": str(self.folder)}

    def log_in(self, person: Person, *more: str) -> tuple[int, str, str]:
        """Run ``tidegate login``, and have a person open the page that it shows; return exit code and output."""
        terminal = subprocess.Popen(
            [*self.gateway.command, "login", "--address", self.gateway.url, *more],
            env=self.gateway.environ | self.environ,
            cwd=self.gateway.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert terminal.stderr is not None
        seen = ""
        for line in terminal.stderr:
            seen += line
            if found := re.search(r"page with the code in it: (\S+)", line):
                person.visit(found[1])
                break
        out, err = terminal.communicate(timeout=60)
        return terminal.returncode, out, seen + err

    def ask_whoami(self, token: str) -> httpx.Response:
        """Ask the gateway who bears a token."""
        bearer = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{self.gateway.url}/api/v2/whoami", headers=bearer, timeout=20)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Both; the gateway's port is chosen before it runs, for the provider has to know where to send people back to."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), ["--config", "tidegate.yaml"], address=address)
    with running_provider(tmp_path_factory.mktemp("idp"), [f"http://{address}/login/oidc/return"]) as provider:
        (gateway.home / "client-secret").write_text(SECRET)
        (gateway.home / "tidegate.yaml").write_text(CONFIG.format(issuer=provider.issuer))
        try:
            yield Place(provider, gateway.start())
            gateway.stop()
        finally:
            gateway.kill_everything()


def test_a_person_logs_in_with_a_browser(place: Place, chromium: Chromium) -> None:
    """From the console to the provider's pages, a wrong password once, and back; groups, and by them the role."""
    visitor = chromium.visitor()
    page = visitor.page
    page.goto(f"{place.gateway.url}/tokens")
    page.get_by_role("link", name="Log in with Our University").click()

    for password in ("wrong", "password-of-alice"):
        page.get_by_label("Name").fill("alice")
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="May gateway know who you are?")).to_be_visible()
    page.get_by_role("button", name="Allow").click()

    expect(page).to_have_url(f"{place.gateway.url}/tokens")
    who = page.evaluate("fetch('/api/v2/whoami').then(answer => answer.json())")
    assert (who["name"], who["groups"], who["admin"]) == ("alice", ["hydro", "operators"], True)
    assert visitor.complaints == []


def test_who_says_no_in_the_browser_is_told_so(place: Place, chromium: Chromium) -> None:
    """On the gateway's login page, where they may begin again."""
    page = chromium.visitor().page
    page.goto(f"{place.gateway.url}/login")
    page.get_by_role("link", name="Log in with Our University").click()
    page.get_by_label("Name").fill("bob")
    page.get_by_label("Password").fill("password-of-bob")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Deny").click()

    expect(page.get_by_text("The login provider did not let you in")).to_be_visible()
    expect(page.get_by_role("link", name="Log in with Our University")).to_be_visible()


def test_a_terminal_logs_in_and_both_clients_work(place: Place) -> None:
    """The token is saved for ``Gateway()``, and is a password for the official client; it is bound to no role."""
    code, said, complaint = place.log_in(Person(place.provider))
    assert code == 0, complaint
    assert "You are alice" in said

    saved = yaml.safe_load((place.folder / "tidegate.yaml").read_text())["tidegate"]
    token = saved["auth"]["kwargs"]["token"]
    who = place.ask_whoami(token).json()
    assert (who["name"], who["groups"], who["admin"]) == ("alice", ["hydro", "operators"], False)
    ours = place.gateway.run_python(OURS, **place.environ)
    assert ours.stdout.split() == [place.gateway.url, "42"], ours.stderr
    theirs = place.gateway.run_python(THEIRS, ADDRESS=place.gateway.url, TOKEN=token)
    assert theirs.stdout.strip() == "[True]", theirs.stderr


def test_who_says_no_to_a_terminal_is_not_logged_in(place: Place) -> None:
    """The terminal is told by a sentence, and saves nothing."""
    code, said, complaint = place.log_in(Person(place.provider, "bob", agrees=False), "--print")

    assert (code, said) == (1, "")
    assert "The login was denied at the provider's page." in complaint
    assert "Traceback" not in complaint


def test_a_program_is_who_its_token_says(place: Place) -> None:
    """Through the gateway's own port: a JSON Web Token counts while it is for this gateway."""
    assert place.ask_whoami(place.provider.program_token()).json()["name"] == "pipeline"
    assert place.ask_whoami(place.provider.program_token("https://other.example.org")).status_code == 401
