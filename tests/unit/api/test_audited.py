"""What of a request reaches the audit log."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.in_process import Gateway, gateway_in_process
from tidegate.api.access import GuardedRoute, anyone, user
from tidegate.authn.passwords import PasswordAuthenticator
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.authn.users import User, UserFile, hash_password
from tidegate.model.audit import Deed, Entry, Outcome, Wanted
from tidegate.model.principal import Principal, Scope
from tidegate.telemetry.audit_file import AuditFile

ROOT = Principal("root", admin=True)
FROM = {"X-Forwarded-For": "192.0.2.7"}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with an administrator, and with alice's read-only token."""
    file = AuditFile(tmp_path / "audit.jsonl")
    async with gateway_in_process(tmp_path, roster=Roster(admins=["root"]), audit_file=file) as gateway:
        _, gateway.tokens["root"] = await mint_token(gateway.store, Principal("root"), "test", now=gateway.clock.now)
        _, gateway.tokens["reading"] = await mint_token(
            gateway.store, Principal("alice"), "reading", now=gateway.clock.now, scope=Scope.READ_ONLY
        )
        yield gateway


async def told(gateway: Gateway, **wanted: str) -> list[Entry]:
    """Return the entries, oldest first."""
    return [r.entry for r in (await gateway.services.audit.find(ROOT, Wanted(**wanted), limit=1000))[::-1]]


async def running(gateway: Gateway) -> str:
    """Return the name of a cluster of alice's that runs."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name, workers=1)
    return cluster.name


DONE = [
    ("PATCH", "/api/v2/clusters/{name}", {"workers": 4}, Deed.CLUSTER_SCALE, "4 workers"),
    (
        "PATCH",
        "/api/v2/clusters/{name}",
        {"adaptive": {"minimum": 1}},
        Deed.CLUSTER_SCALE,
        "adaptive, 1 to any number of workers",
    ),
    ("PATCH", "/api/v2/clusters/{name}", {"adaptive": None}, Deed.CLUSTER_SCALE, "not adaptive"),
    ("POST", "/api/v1/clusters/{name}/scale", {"count": 3}, Deed.CLUSTER_SCALE, "3 workers"),
    (
        "POST",
        "/api/v1/clusters/{name}/adapt",
        {"minimum": 0, "maximum": 2},
        Deed.CLUSTER_SCALE,
        "adaptive, 0 to 2 workers",
    ),
    ("DELETE", "/api/v2/clusters/{name}", None, Deed.CLUSTER_STOP, ""),
    ("DELETE", "/api/v1/clusters/{name}", None, Deed.CLUSTER_STOP, ""),
    ("GET", "/api/v2/clusters/{name}/credentials", None, Deed.CREDENTIALS_READ, ""),
    ("GET", "/api/v1/clusters/{name}", None, Deed.CREDENTIALS_READ, ""),
    ("GET", "/api/v2/clusters/{name}/logs", None, Deed.LOGS_READ, ""),
    ("PUT", "/api/v2/clusters/{name}/shares/user:bob", {"right": "use"}, Deed.SHARE_GIVE, "user:bob: use"),
    ("DELETE", "/api/v2/clusters/{name}/shares/group:geo", None, Deed.SHARE_WITHDRAW, "group:geo"),
    ("DELETE", "/api/v2/clusters/{name}/links/abc", None, Deed.LINK_WITHDRAW, "link abc"),
]


@pytest.mark.parametrize(("method", "path", "body", "deed", "detail"), DONE)
async def test_what_is_done_to_a_cluster(
    gateway: Gateway, method: str, path: str, body: object, deed: Deed, detail: str
) -> None:
    """By whom, with which credential, from where, to which cluster, and what it was about."""
    name = await running(gateway)
    path = path.replace("{name}", name)

    reply = await gateway.client("alice", **FROM).request(method, path, json=body)
    assert reply.status_code < 300, reply.text

    (token,) = [t.id for t in await gateway.store.list_tokens("alice") if t.label == "test"]
    assert await told(gateway) == [
        Entry(
            gateway.clock.now,
            deed,
            Outcome.DONE,
            principal="alice",
            method="token",
            token=token,
            cluster=name,
            detail=detail,
            address="192.0.2.7",
        )
    ]


@pytest.mark.parametrize(("path", "status"), [("/api/v2/clusters", 201), ("/api/v1/clusters/", 201)])
async def test_a_new_cluster_is_named(gateway: Gateway, path: str, status: int) -> None:
    """Its name is only known afterwards."""
    reply = await gateway.client("alice").post(path, json={})
    assert reply.status_code == status

    (entry,) = await told(gateway)
    assert (entry.deed, entry.outcome, entry.cluster) == (Deed.CLUSTER_CREATE, Outcome.DONE, reply.json()["name"])


async def test_tokens_are_named_by_their_ids(gateway: Gateway) -> None:
    """Made and revoked; the secret is nowhere."""
    made = (await gateway.client("alice").post("/api/v2/tokens", json={"label": "report"})).json()
    await gateway.client("root").delete(f"/api/v2/tokens/{made['id']}?user=alice")

    create, revoke = await told(gateway)
    assert (create.deed, create.detail) == (Deed.TOKEN_CREATE, f"{made['id']}, full: report")
    assert (revoke.deed, revoke.principal, revoke.detail) == (Deed.TOKEN_REVOKE, "root", f"{made['id']} of alice")
    assert made["secret"] not in repr((create, revoke))


async def test_what_is_asked_again_and_again_is_not_told(gateway: Gateway) -> None:
    """Lists, one cluster, who am I, pages: a notebook asks every second."""
    name = await running(gateway)
    for path in ("/api/v2/clusters", f"/api/v2/clusters/{name}", "/api/v1/clusters/", "/api/v2/whoami"):
        assert (await gateway.client("alice").get(path)).status_code == 200
    for path in ("/", f"/clusters/{name}", "/tokens"):
        assert (await gateway.browser("alice").get(path)).status_code == 200
    # A cluster that does not run yet has no credentials to hand out.
    pending = (await gateway.create("alice")).name
    assert (await gateway.client("alice").get(f"/api/v1/clusters/{pending}")).status_code == 200

    assert await told(gateway) == []


async def test_reading_logs_all_day_is_an_entry_a_minute(gateway: Gateway) -> None:
    """The first time at once, the others of the same minute as a number."""
    name = await running(gateway)
    for _ in range(5):
        await gateway.client("alice").get(f"/api/v2/clusters/{name}/logs")
    gateway.clock.now += 60
    await gateway.client("alice").get(f"/api/v2/clusters/{name}/logs")

    assert [entry.times for entry in await told(gateway)] == [1, 4, 1]


# -- what is refused -------------------------------------------------------------------------------------------------


async def test_refusals_are_told(gateway: Gateway) -> None:
    """Not known, not entitled, not theirs to see: with the code, and who it was as far as that is known."""
    name = await running(gateway)
    await gateway.client("nonsense", **FROM).get("/api/v2/clusters")
    await gateway.client("reading").delete(f"/api/v2/clusters/{name}")
    await gateway.client("mallory").patch(f"/api/v2/clusters/{name}", json={"workers": 1})
    await gateway.client("mallory").get(f"/api/v2/clusters/{name}")

    facts = [(e.deed, e.outcome, e.code, e.principal, e.cluster) for e in await told(gateway)]
    assert facts == [
        (Deed.READ, Outcome.REFUSED, "unauthenticated", "", ""),
        (Deed.CLUSTER_STOP, Outcome.REFUSED, "not-allowed", "alice", name),
        (Deed.CLUSTER_SCALE, Outcome.REFUSED, "not-found", "mallory", name),
        (Deed.READ, Outcome.REFUSED, "not-found", "mallory", name),
    ]


async def test_version_1_says_204_and_the_log_says_what_it_was(gateway: Gateway) -> None:
    """The official client is told that nothing is there any more; the administrator reads that somebody tried."""
    name = await running(gateway)
    assert (await gateway.client("mallory").delete(f"/api/v1/clusters/{name}")).status_code == 204

    (entry,) = await told(gateway)
    assert (entry.deed, entry.outcome, entry.code) == (Deed.CLUSTER_STOP, Outcome.REFUSED, "not-found")


@pytest.mark.parametrize(
    ("credential", "name"),
    [
        (b"eve:wrong", "eve"),
        ("Zoë:wrong".encode(), "Zoë"),
        (b"a\r\nb:wrong", "a??b"),
        (b"not a pair, perhaps a secret", ""),
        (b"\xff\xfe:x", "\ufffd\ufffd"),
        (b"tdg_" + b"A1b2" * 11 + b":", "[redacted]"),
    ],
)
async def test_a_name_is_told_as_it_was_given(gateway: Gateway, credential: bytes, name: str) -> None:
    """With an empty method, for nobody has proved it."""
    basic = base64.b64encode(credential).decode()
    await gateway.client(Authorization=f"Basic {basic}").get("/api/v2/whoami")

    (entry,) = await told(gateway)
    assert (entry.outcome, entry.principal, entry.method) == (Outcome.REFUSED, name, "")


async def test_who_shows_nothing_at_all_is_not_told(gateway: Gateway) -> None:
    """Clients ask without a credential first, to learn what to show; browsers are led to the login."""
    assert (await gateway.client().get("/api/v2/clusters")).status_code == 401
    assert (await gateway.client().post("/api/v1/clusters/", json={})).status_code == 401
    assert (await gateway.browser().get("/")).status_code == 303

    assert await told(gateway) == []


async def test_what_makes_no_sense_has_failed(gateway: Gateway) -> None:
    """The caller was entitled; the log says what stood in the way."""
    name = await running(gateway)
    await gateway.client("alice").patch(f"/api/v2/clusters/{name}", json={"workers": -1})
    await gateway.client("alice").patch(f"/api/v2/clusters/{name}", json={"size": 1})
    await gateway.client("alice").post("/api/v2/clusters", json={"options": {"worker_cores": 99}})

    assert [(e.deed, e.outcome, e.code) for e in await told(gateway)] == [
        (Deed.CLUSTER_SCALE, Outcome.FAILED, "invalid"),
        (Deed.CLUSTER_SCALE, Outcome.FAILED, "invalid"),
        (Deed.CLUSTER_CREATE, Outcome.FAILED, "invalid"),
    ]


async def test_what_nobody_foresaw_has_failed_too(gateway: Gateway) -> None:
    """An incident is in the log of the gateway, and the attempt in the audit log."""
    name = await running(gateway)
    gateway.services.clusters._records = None  # type: ignore[assignment]

    assert (await gateway.client("alice").delete(f"/api/v2/clusters/{name}")).status_code == 500

    (entry,) = await told(gateway)
    assert (entry.deed, entry.outcome, entry.code) == (Deed.CLUSTER_STOP, Outcome.FAILED, "internal-error")


# -- logins ----------------------------------------------------------------------------------------------------------


async def test_logins_by_token_code_and_logout(gateway: Gateway) -> None:
    """Success and refusal, and the end of it."""
    browser = gateway.browser(**FROM)
    await browser.post("/login", data={"token": "nonsense"})
    await browser.post("/login", data={"token": gateway.tokens["alice"]})
    await browser.post("/logout")
    await browser.post("/logout")
    await gateway.browser().get("/login")
    await gateway.browser().get("/login?code=nonsense")
    code = gateway.services.codes.mint(Principal("carol", method="code"))
    await gateway.browser().get(f"/login?code={code}")

    assert [(e.deed, e.outcome, e.code, e.principal, e.method, e.address) for e in await told(gateway)] == [
        (Deed.LOGIN, Outcome.REFUSED, "unauthenticated", "", "", "192.0.2.7"),
        (Deed.LOGIN, Outcome.DONE, "", "alice", "token", "192.0.2.7"),
        (Deed.LOGOUT, Outcome.DONE, "", "alice", "session", "192.0.2.7"),
        (Deed.LOGIN, Outcome.REFUSED, "unauthenticated", "", "", "127.0.0.1"),
        (Deed.LOGIN, Outcome.DONE, "", "carol", "code", "127.0.0.1"),
    ]


async def test_logins_by_password(tmp_path: Path) -> None:
    """With the name that was given."""
    with UserFile(tmp_path / "users").changing() as users:
        users["bob"] = User("bob", hash_password("correct horse"))
    login = PasswordAuthenticator(tmp_path)
    await login.start()
    async with gateway_in_process(tmp_path, {"passwords": login}) as gateway:
        for password in ("wrong", "correct horse"):
            await gateway.browser().post("/login", data={"username": "bob", "password": password})

        assert [(e.outcome, e.principal, e.method) for e in await told(gateway)] == [
            (Outcome.REFUSED, "bob", ""),
            (Outcome.DONE, "bob", "passwords"),
        ]
    await login.close()


# -- dashboards ------------------------------------------------------------------------------------------------------


async def test_opening_a_dashboard(gateway: Gateway) -> None:
    """By a browser where the ticket is signed, by a program where the proxy asks; each with the client's address."""
    name = await running(gateway)
    assert (await gateway.browser("alice", **FROM).get(f"/clusters/{name}/status")).status_code == 302
    asked = {"cluster": name, "client": "192.0.2.8"}
    assert (await gateway.client("alice").post("/internal/dashboard-access", json=asked)).status_code == 200
    assert (await gateway.client("mallory").post("/internal/dashboard-access", json=asked)).status_code == 404

    facts = [(e.deed, e.outcome, e.principal, e.method, e.cluster, e.address) for e in await told(gateway)]
    assert facts == [
        (Deed.DASHBOARD_OPEN, Outcome.DONE, "alice", "session", name, "192.0.2.7"),
        (Deed.DASHBOARD_OPEN, Outcome.DONE, "alice", "token", name, "192.0.2.8"),
        (Deed.DASHBOARD_OPEN, Outcome.REFUSED, "mallory", "token", name, "192.0.2.8"),
    ]


# -- routes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_route_that_changes_something_without_a_deed_cannot_be_made(method: str) -> None:
    """Nobody has to remember the audit log."""

    async def handler() -> None: ...

    with pytest.raises(TypeError, match="which deed is that"):
        GuardedRoute(method, "/x", user, handler)
    with pytest.raises(TypeError, match="which deed is that"):
        GuardedRoute(method, "/x", user, handler, deed="tea")  # type: ignore[arg-type]
    assert GuardedRoute(method, "/x", user, handler, deed=Deed.LOGIN).deed is Deed.LOGIN
    assert GuardedRoute("GET", "/x", anyone, handler).deed is Deed.READ


async def test_every_deed_is_of_some_route(gateway: Gateway) -> None:
    """A word that nothing is called by is forgotten, or its route is."""
    used = {route.deed for route in gateway.app.router.routes if isinstance(route, GuardedRoute)}

    assert set(Deed) - used == {Deed.VARIOUS}


# -- secrets ---------------------------------------------------------------------------------------------------------


async def test_no_secret_reaches_the_log(gateway: Gateway, tmp_path: Path) -> None:
    """Everything that has one is called with one, rightly and wrongly; neither log nor file knows any of them."""
    name = await running(gateway)
    credentials = await gateway.store.credentials(name)
    assert credentials is not None
    made = (await gateway.client("alice").post("/api/v2/tokens", json={"label": "x"})).json()["secret"]
    link = (await gateway.client("alice").post(f"/api/v2/clusters/{name}/links", json={})).json()["url"]
    marker = "tdg_" + "M4rk" * 10 + "er1"
    secrets = [made, link.rpartition("/")[2], marker, *gateway.tokens.values(), "s3cret-password"]
    secrets += [getattr(credentials, key) for key in credentials.__slots__ if key.endswith(("_key", "token", "secret"))]
    for secret in secrets:
        await _try_everywhere(gateway, name, secret)
        gateway.clock.now += 60

    await gateway.services.audit.flush()
    log, file = repr(await told(gateway)), (tmp_path / "audit.jsonl").read_text()
    assert len(await told(gateway)) == len(file.splitlines()) > 100
    assert [secret for secret in secrets if secret in log or json.dumps(secret)[1:-1] in file] == []


async def _try_everywhere(gateway: Gateway, name: str, secret: str) -> None:
    """Show a secret wherever one can be shown."""
    latin = secret.replace("\n", "")
    pair = base64.b64encode(f"alice:{latin}".encode()).decode()
    for scheme in (f"Bearer {latin}", f"Basic {pair}", f"token {latin}", f"jupyterhub {latin}"):
        client = gateway.client(Authorization=scheme)
        for method, path in (
            ("GET", "/api/v2/clusters"),
            ("DELETE", f"/api/v1/clusters/{name}x"),
            ("GET", f"/api/agent/v1/clusters/{name}/wanted?attempt=1"),
            ("GET", f"/api/v2/clusters/{name}/credentials"),
            ("GET", f"/api/v1/clusters/{name}"),
        ):
            await client.request(method, path)
    browser: httpx.AsyncClient = gateway.browser()
    await browser.post("/login", data={"token": secret})
    await browser.post("/login", data={"username": "alice", "password": secret})
    await browser.get("/login", params={"code": secret})
    await browser.get("/login/oidc/return", params={"code": secret, "state": secret})
    await browser.get(f"/shared/{latin[:500]}")
    await browser.get("/", headers={"Cookie": f"tidegate-x={latin[:500]}"})
    handle = {"handle": secret, "token": {"label": "x"}}
    await gateway.client().post("/api/v2/login/device/token", json=handle)
