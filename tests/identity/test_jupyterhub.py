"""The gateway as a service of a real JupyterHub, reached through the Hub's own proxy."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from tests.e2e.browser import Chromium, Visitor
from tests.identity.hub import CACHE_SECONDS, PASSWORD, Platform, running
from tests.support import ANY_TLS, eventually_sync

OFFICIAL = """
import os
from dask_gateway import Gateway
with Gateway(os.environ["ADDRESS"], auth="jupyterhub", proxy_address=os.environ.get("PROXY_ADDRESS")) as gateway:
"""
COMPUTES = """
    cluster = gateway.new_cluster()
    cluster.scale(1)
    client = cluster.get_client()
    print("computed", client.submit(sum, [40, 2]).result(timeout=60), len(gateway.list_clusters()))
    cluster.shutdown()
"""
OURS = """
from tidegate import Gateway
with Gateway() as gateway:
"""
LEAVES = """
    name = gateway.submit()
    gateway.connect(name).close()
    print("left", name)
"""
LISTS = """
    print("listed", gateway.list_clusters())
"""


def test_the_official_client_computes(platform: Platform) -> None:
    """Unmodified, with no more than the token that the Hub leaves in its environment."""
    platform.add_user("alice")
    proxy = f"gateway://127.0.0.1:{platform.ports['gateway']}"

    done = platform.run_python(OFFICIAL + COMPUTES, JUPYTERHUB_API_TOKEN=platform.token("alice"), PROXY_ADDRESS=proxy)

    assert "computed 42 1" in done.stdout, done.stderr


def test_a_notebook_of_the_hub_needs_no_argument_at_all(platform: Platform) -> None:
    """Gateway() takes address and way from the configuration that the administrator gave to all notebooks."""
    platform.add_user("bob")
    environ = platform.start_notebook("bob")

    code = "from tidegate import Gateway\nwith Gateway() as gateway:" + COMPUTES
    done = platform.run_python(code, **environ)

    assert "computed 42 1" in done.stdout, done.stderr


def test_users_are_named_as_in_the_hub(platform: Platform) -> None:
    """With their groups; whoever is in the right one administers the gateway. A service is never taken for a user."""
    platform.add_user("carol", "hydro", "operators")
    told = platform.call("/api/v2/whoami", platform.token("carol")).json()
    service = platform.call("/api/v2/whoami", platform.secret("admin_token"))

    assert told["name"] == "carol"
    assert set(told["groups"]) == {"hydro", "operators"}
    assert told["admin"] is True
    # It has no access to other services, and is told so; never is it "tests", as a user could be.
    assert service.status_code == 403


@pytest.mark.parametrize("scheme", ["jupyterhub", "token", "bearer"])
def test_a_token_may_come_as_the_hub_itself_takes_it(platform: Platform, scheme: str) -> None:
    """The official client says jupyterhub, the Hub's own tools say token."""
    platform.add_user(f"dave-{scheme}")

    assert platform.call("/api/v2/whoami", platform.token(f"dave-{scheme}"), scheme).json()["name"] == f"dave-{scheme}"
    assert platform.call("/api/v2/whoami", secrets.token_hex(16), scheme).status_code == 401


def test_the_first_request_of_the_official_client_is_answered_as_it_needs(platform: Platform) -> None:
    """It comes without a credential, and goes on only after exactly 401."""
    answer = httpx.get(f"{platform.address}/api/v1/clusters/")

    assert answer.status_code == 401
    assert "jupyterhub" in answer.headers["WWW-Authenticate"]
    assert answer.json() == {"error": "Authentication required"}


def test_a_missing_scope_is_told_with_its_cure(tmp_path: Path) -> None:
    """The lines that a user reads, put into the Hub's configuration, let that user in."""
    with running(tmp_path / "platform", roles="c.JupyterHub.load_roles = []") as platform:
        platform.add_user("alice")
        environ = platform.start_notebook("alice")
        official = platform.run_python(OFFICIAL + LISTS, **environ)
        ours = platform.run_python("from tidegate import Gateway\nwith Gateway() as gateway:" + LISTS, **environ)

        for refused in (official, ours):
            assert "access:services!service=dask-gateway" in refused.stderr
            assert "Traceback" in refused.stderr
            assert "listed" not in refused.stdout
        lines = re.search(r"^c\.JupyterHub\.load_roles = \[\n.*?^\]$", official.stderr, re.DOTALL | re.MULTILINE)
        assert lines is not None, official.stderr
        checked = platform.gateway.run_cli("config", "check", "--config", "tidegate.yaml")
        line = re.search(r"^c\.JupyterHub\.load_roles\.append.*$", checked.stderr, re.MULTILINE)
        assert line is not None, checked.stderr

        platform.stop_hub()
        platform.roles = f"{lines[0]}\n{line[0]}"
        platform.start_hub()
        checked = platform.gateway.run_cli("config", "check", "--config", "tidegate.yaml")
        assert "permits the gateway to see which notebook servers run" in checked.stdout, checked.stderr
        done = platform.run_python(OFFICIAL + LISTS, **platform.start_notebook("alice"))

        assert "listed []" in done.stdout, done.stderr


def test_a_revoked_token_is_refused_in_time(platform: Platform) -> None:
    """Not at once, since answers are remembered; but as soon as the setting says."""
    platform.add_user("erin")
    made = platform.ask_hub("POST", "/users/erin/tokens", note="test")
    assert platform.call("/api/v2/clusters", made["token"]).status_code == 200

    platform.ask_hub("DELETE", f"/users/erin/tokens/{made['id']}")

    assert platform.status_until(401, made["token"], seconds=CACHE_SECONDS + 10) < CACHE_SECONDS + 3


def test_a_hub_that_is_killed_refuses_nobody(platform: Platform) -> None:
    """Its users are told to come back, none that they are wrong; and when it is back, so are they."""
    platform.add_user("frank")
    token = platform.token("frank")
    assert platform.call("/api/v2/clusters", token).status_code == 200

    platform.kill_hub()
    try:
        platform.status_until(503, token, seconds=CACHE_SECONDS + 10)
        told = platform.call("/api/v2/clusters", token)
        official = platform.run_python(OFFICIAL + LISTS, JUPYTERHUB_API_TOKEN=token)
        own = httpx.get(f"{platform.address}/api/v2/clusters", headers=platform.gateway.headers)
    finally:
        platform.stop_hub()
        platform.start_hub()

    assert int(told.headers["Retry-After"]) >= 1
    assert "JupyterHub does not answer" in told.json()["error"]["message"]
    assert "JupyterHub does not answer" in official.stderr
    # The gateway's own tokens need no Hub.
    assert own.status_code == 200
    assert platform.call("/api/v2/clusters", token).status_code == 200


# -- ends --------------------------------------------------------------------------------------------------------------


def state_of(platform: Platform, name: str) -> tuple[str, str | None]:
    """Return the state of a cluster and the code of the reason for it, as the gateway's administrator reads them."""
    path = f"{platform.address}/api/v2/clusters/{name}"
    answer = httpx.get(path, headers=platform.gateway.headers, verify=ANY_TLS).json()
    return answer["state"], answer["reason"] and answer["reason"]["code"]


def leave_cluster(platform: Platform, code: str, environ: dict[str, str]) -> str:
    """Run a program in a notebook server that makes a cluster and forgets it; return its name."""
    proxy = f"gateway://127.0.0.1:{platform.ports['gateway']}"
    done = platform.run_python(code, **environ, PROXY_ADDRESS=proxy)
    left = re.search(r"left (\w+)", done.stdout)
    assert left, done.stderr
    return left[1]


@pytest.mark.timeout(300)
def test_clusters_end_with_the_notebook_server_and_with_the_user(platform: Platform) -> None:
    """Stop one of two servers: what was made from it ends within a minute, with a reason. Remove the user: all does.

    While the Hub is away, and when another one begins to look for the servers of the first, nothing ends.
    """
    platform.add_user("heidi")
    default = platform.start_notebook("heidi")
    gpu = platform.start_notebook("heidi", "gpu")
    forgotten = leave_cluster(platform, OFFICIAL + LEAVES, gpu)
    elsewhere = leave_cluster(platform, OFFICIAL + LEAVES, default)
    lasting = leave_cluster(platform, OURS + LEAVES, gpu)  # ``submit`` makes one that nobody's closing ends

    log = platform.gateway.data / "logs" / "control.log"
    platform.restart_hub(lambda: "cannot see which notebook servers run" in log.read_text())
    eventually_sync(lambda: "JupyterHub tells again which notebook servers run" in log.read_text(), 60, "a look")
    assert [state_of(platform, name)[0] for name in (forgotten, elsewhere, lasting)] == ["running"] * 3

    platform.ask_hub("DELETE", "/users/heidi/servers/gpu")
    eventually_sync(lambda: state_of(platform, forgotten) == ("stopped", "hub-server-stopped"), 60, "it ends")
    assert state_of(platform, elsewhere) == ("running", None)
    assert state_of(platform, lasting) == ("running", None)

    platform.ask_hub("DELETE", "/users/heidi")
    eventually_sync(lambda: state_of(platform, lasting) == ("stopped", "hub-user-removed"), 60, "it ends")
    eventually_sync(lambda: state_of(platform, elsewhere)[0] == "stopped", 60, "it ends")


# -- browsers ----------------------------------------------------------------------------------------------------------


def log_in_at_hub(visitor: Visitor, name: str) -> None:
    """Fill the Hub's own form."""
    visitor.page.get_by_label("Username").fill(name)
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name="Sign in").click()


def test_a_person_logs_in_by_the_hub(platform: Platform, chromium: Chromium) -> None:
    """One click, the Hub's form, and back to the page that was asked for."""
    visitor = chromium.visitor()
    visitor.page.goto(f"{platform.address}/")
    visitor.page.get_by_role("link", name="Log in with JupyterHub").click()
    log_in_at_hub(visitor, "grace")

    expect(visitor.page.get_by_role("heading", name="My clusters")).to_be_visible()
    assert visitor.page.url.rstrip("/") == platform.address
    assert "grace" in visitor.page.content()
    names = {cookie["name"]: cookie for cookie in visitor.context.cookies(f"{platform.address}/")}
    session = next(cookie for name, cookie in names.items() if name.startswith("tidegate-"))
    assert session["path"] == "/services/dask-gateway"
    assert session["httpOnly"] is True
    assert visitor.complaints == []
    visitor.context.close()


def test_a_link_that_somebody_else_began_logs_nobody_in(platform: Platform) -> None:
    """The return of a login is worth something only in the browser that began it, with the state that it began with."""
    with httpx.Client(base_url=platform.address) as browser, httpx.Client() as victim:
        begun = browser.get("/login/jupyterhub")
        asked = parse_qs(urlsplit(begun.headers["Location"]).query)
        state = asked["state"][0]
        returned = f"{platform.address}/login/jupyterhub/return"

        without_cookie = victim.get(returned, params={"code": "x", "state": state})
        other_state = browser.get(returned, params={"code": "x", "state": "y" * 43})
        made_up_code = browser.get(returned, params={"code": "x" * 32, "state": state})
        refused = browser.get(returned, params={"error": "access_denied", "state": state})

    assert begun.status_code == 302
    assert asked["redirect_uri"] == [returned]
    assert asked["code_challenge_method"] == ["S256"]
    for answer, words in {
        without_cookie: "began in another browser",
        other_state: "began in another window",
        made_up_code: "no longer knows of this login",
        refused: "did not let you in",
    }.items():
        assert answer.status_code == 401
        assert words in answer.text
        assert not any(name.startswith("tidegate-") and name != "tidegate-login" for name in answer.cookies)
