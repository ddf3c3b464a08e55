"""JupyterHub: what is made of its answers, and what of its silence."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from pydantic import ValidationError

from tests.hub_double import SCOPE, SERVICE_TOKEN, HubDouble, hub_double
from tests.in_process import Clock
from tidegate.authn.base import BrowserLogin, NotAdmitted, Presented
from tidegate.authn.jupyterhub import JupyterHubAuthenticator, JupyterHubSettings
from tidegate.model.errors import Busy, Invalid, LoginFailed, TidegateError
from tidegate.model.principal import Principal

RETURN = "https://hub.example.org/services/dask-gateway/login/jupyterhub/return"

Make = Callable[..., JupyterHubAuthenticator]


@pytest.fixture
async def hub() -> AsyncIterator[HubDouble]:
    """A Hub that knows alice."""
    async with hub_double() as running:
        running.add("alice-token", "alice", groups=["hydro"], admin=False)
        yield running


@pytest.fixture
async def make(hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Return a function that makes an authenticator for that Hub."""
    for name in ("API_URL", "API_TOKEN", "SERVICE_NAME", "CLIENT_ID", "BASE_URL", "PUBLIC_HUB_URL", "HOST"):
        monkeypatch.delenv(f"JUPYTERHUB_{name}", raising=False)
    (tmp_path / "token").write_text(SERVICE_TOKEN + "\n")
    made: list[JupyterHubAuthenticator] = []

    def make_one(clock: Clock | None = None, **settings: Any) -> JupyterHubAuthenticator:
        told = {"api_url": hub.api_url, "service_name": "dask-gateway", "api_token_file": tmp_path / "token"}
        chosen = {name: value for name, value in (told | settings).items() if value is not None}
        made.append(JupyterHubAuthenticator(tmp_path, JupyterHubSettings(**chosen), clock or Clock()))
        return made[-1]

    yield make_one
    for one in made:
        await one.close()


def by(token: str, scheme: str = "jupyterhub") -> Presented:
    """Return a token as it is presented."""
    return Presented(scheme, token)


# -- who it is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "principal"),
    [
        ({"name": "alice"}, Principal("alice", method="jupyterhub")),
        (
            {"name": "alice", "groups": ["b", "a"], "admin": True},
            Principal("alice", frozenset({"a", "b"}), method="jupyterhub"),
        ),
        (
            {"name": "alice", "scopes": [SCOPE, "access:servers!server=alice/gpu", "users:activity!user=alice"]},
            Principal("alice", method="jupyterhub", server="alice/gpu"),
        ),
        ({"name": "alice", "kind": "service"}, Principal("service:alice", method="jupyterhub")),
        # A user whose name looks like a service's.
        ({"name": "service:alice"}, Principal("user:service:alice", method="jupyterhub")),
        ({"name": "alice", "admin": "yes", "groups": None}, Principal("alice", method="jupyterhub")),
    ],
)
async def test_names_and_groups_are_the_hubs(
    hub: HubDouble, make: Make, user: dict[str, Any], principal: Principal
) -> None:
    """A service is never taken for the user of its name, and no token brings the role of an administrator."""
    hub.users["t"] = {"kind": "user", "scopes": [SCOPE], **user}
    login = make()
    await login.start()

    accepted = await login.authenticate(by("t"))

    assert accepted is not None
    assert accepted.principal == principal


@pytest.mark.parametrize("scopes", [["access:services"], ["self", SCOPE]])
async def test_a_scope_for_all_services_or_for_this_one_will_do(hub: HubDouble, make: Make, scopes: list[str]) -> None:
    """Administrators of a Hub have the former."""
    hub.add("t", "alice", *scopes)
    login = make()
    await login.start()

    assert await login.authenticate(by("t")) is not None


@pytest.mark.parametrize("scopes", [["self"], [f"{SCOPE}-2"], ["access:services!service=other"]])
async def test_a_token_for_something_else_is_refused_with_the_cure(
    hub: HubDouble, make: Make, scopes: list[str]
) -> None:
    """Another service that holds a token of alice's cannot act as alice here."""
    hub.add("t", "alice", *scopes)
    login = make()
    await login.start()

    with pytest.raises(NotAdmitted, match=r"c\.JupyterHub\.load_roles = \[") as caught:
        await login.authenticate(by("t"))
    assert SCOPE in caught.value.message


async def test_without_a_service_name_every_token_counts_and_the_log_warns(
    hub: HubDouble, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Then nothing says for which service it should be; so it has to be asked for."""
    with pytest.raises(ValidationError, match="service_name is missing"):
        make(service_name=None)
    hub.add("t", "alice", "self")
    login = make(service_name=None, any_token=True)
    await login.start()

    assert await login.authenticate(by("t")) is not None
    assert "every token of the Hub is accepted" in caplog.text


async def test_our_own_tokens_are_not_shown_to_the_hub(hub: HubDouble, make: Make) -> None:
    """Neither is what cannot be a token at all."""
    login = make()
    await login.start()

    for value in ("tdg_" + "x" * 43, "two words", "x\r\ny", "é", "x" * 600):
        assert await login.authenticate(by(value, "bearer")) is None
    assert hub.asked == []


# -- how long it is remembered -----------------------------------------------------------------------------------------


async def test_an_answer_is_remembered_as_long_as_the_setting_says(hub: HubDouble, make: Make) -> None:
    """Under the token, and not longer; a wrong one is asked about each time, for it may have been made just now."""
    clock = Clock()
    login = make(clock, cache=10)
    await login.start()
    for _ in range(3):
        assert await login.authenticate(by("alice-token")) is not None
    assert len(hub.asked) == 1

    del hub.users["alice-token"]
    clock.now += 9.9
    assert await login.authenticate(by("alice-token")) is not None
    clock.now += 0.2
    assert await login.authenticate(by("alice-token")) is None
    hub.add("alice-token", "alice")
    assert await login.authenticate(by("alice-token")) is not None


async def test_users_share_nothing_on_the_way(hub: HubDouble, make: Make) -> None:
    """A Hub sets cookies, and a cookie of one user's must not go along with another's token."""
    hub.add("bob-token", "bob")
    login = make()
    await login.start()
    await login.authenticate(by("alice-token"))
    await login.authenticate(by("bob-token"))

    assert login._api._session is not None
    assert len(login._api._session.cookie_jar) == 0


# -- silence -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(status=500),
        web.Response(status=503, text="Hub is down"),
        web.Response(status=429),
        web.Response(status=404, text="404: Not Found"),
        web.Response(status=302, headers={"Location": "http://elsewhere.invalid/"}),
        web.Response(text="<html>"),
        web.json_response(["alice"]),
        web.json_response({"kind": "user"}),
    ],
    ids=lambda answer: str(answer.status),
)
async def test_what_is_no_answer_refuses_nobody(hub: HubDouble, make: Make, answer: web.Response) -> None:
    """Whoever comes is told to come again; the operator reads what it was."""
    login = make()
    await login.start()
    hub.answer = answer

    with pytest.raises(Busy, match="JupyterHub does not answer") as caught:
        await login.authenticate(by("alice-token"))

    assert caught.value.retry_after >= 1
    assert hub.api_url in (caught.value.detail or "")
    assert "alice-token" not in str(vars(caught.value))


async def test_no_secret_goes_anywhere_else(hub: HubDouble, make: Make) -> None:
    """Wherever a Hub, or what stands before it, points to: neither a user's token nor our own."""
    login = make()
    await login.start()
    begun = await login.begin(RETURN)
    async with hub_double() as elsewhere:
        hub.answer = web.Response(status=307, headers={"Location": f"{elsewhere.api_url}/oauth2/token"})
        with pytest.raises(Busy):
            await login.authenticate(by("alice-token"))
        with pytest.raises(Busy):
            await login.complete(RETURN, begun.secret, {"code": "x", "state": json.loads(begun.secret)[0]})

        assert elsewhere.calls == []


async def test_a_hub_that_hangs_is_given_up(make: Make) -> None:
    """After the setting's time; and one that is away at the start keeps nobody from starting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        login = make(api_url=f"http://127.0.0.1:{silent.getsockname()[1]}/hub/api", timeout=0.05)
        async with asyncio.timeout(20):
            await login.start()
            with pytest.raises(Busy):
                await login.authenticate(by("alice-token"))


# -- the configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [web.Response(status=404), web.json_response({"hello": 1}), web.Response(text="hi")])
async def test_what_is_no_hub_is_told_at_the_start(hub: HubDouble, make: Make, answer: web.Response) -> None:
    """Most often the path is missing."""
    hub.answer = answer
    with pytest.raises(Invalid, match=r"api_url .* is not the API of a JupyterHub"):
        await make().start()


async def test_a_missing_file_is_told_at_the_start(make: Make, tmp_path: Path) -> None:
    """By the name of its setting."""
    for name in ("api_token_file", "ca_file"):
        with pytest.raises(Invalid, match=name):
            await make(**{name: tmp_path / "missing"}).start()


async def test_a_service_that_the_hub_starts_needs_no_setting(
    hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it stands in the environment that it gets from the Hub."""
    with pytest.raises(ValidationError, match="api_url is missing"):
        JupyterHubSettings()
    environ = {"API_URL": hub.api_url, "API_TOKEN": SERVICE_TOKEN, "SERVICE_NAME": "dask-gateway", "BASE_URL": "/base/"}
    for name, value in environ.items():
        monkeypatch.setenv(f"JUPYTERHUB_{name}", value)
    login = JupyterHubAuthenticator(tmp_path, JupyterHubSettings())
    await login.start()

    assert await login.authenticate(by("alice-token")) is not None
    begun = await login.begin(RETURN)
    assert begun.url.startswith("https://hub.example.org/base/hub/api/oauth2/authorize?client_id=service-dask-gateway&")
    await login.close()


@pytest.mark.parametrize(
    ("hub_url", "page"),
    [
        (None, "https://hub.example.org/hub/api/oauth2/authorize"),
        ("/jupyter/hub/", "https://hub.example.org/jupyter/hub/api/oauth2/authorize"),
        ("https://other.example.org/hub", "https://other.example.org/hub/api/oauth2/authorize"),
    ],
)
async def test_the_hubs_page_is_at_our_own_address_or_where_it_is_said(
    make: Make, hub_url: str | None, page: str
) -> None:
    """A service of the Hub stands below the Hub's address."""
    assert (await make(hub_url=hub_url).begin(RETURN)).url.partition("?")[0] == page


# -- logins in a browser -----------------------------------------------------------------------------------------------


async def test_a_browser_comes_back_as_whom_the_hub_says(hub: HubDouble, make: Make) -> None:
    """By a code that counts together with the secret of the one who began; here the role comes along."""
    hub.users["alice-token"]["admin"] = True
    login = make()
    await login.start()
    assert isinstance(login, BrowserLogin)
    begun = await login.begin(RETURN)
    asked = parse_qs(urlsplit(begun.url).query)
    hub.codes["the-code"] = ("alice-token", asked["code_challenge"][0])

    principal = await login.complete(RETURN, begun.secret, {"code": "the-code", "state": asked["state"][0]})

    assert principal == Principal("alice", frozenset({"hydro"}), admin=True, method="jupyterhub")
    assert asked["redirect_uri"] == [RETURN]
    assert "alice-token" not in repr(vars(login))


async def test_a_login_that_is_not_the_one_that_began_fails(hub: HubDouble, make: Make) -> None:
    """Another state, a code for another login, none at all, one for a user without access."""
    login = make()
    await login.start()
    begun, other = await login.begin(RETURN), await login.begin(RETURN)
    state = json.loads(begun.secret)[0]
    hub.add("no-access", "bob", "self")
    hub.codes["other"] = ("alice-token", parse_qs(urlsplit(other.url).query)["code_challenge"][0])
    hub.codes["no-access"] = ("no-access", parse_qs(urlsplit(begun.url).query)["code_challenge"][0])

    for query, words in [
        ({"code": "x", "state": "é"}, "another window"),
        ({"code": "x"}, "another window"),
        ({"error": "access_denied", "state": state}, "did not let you in"),
        ({"code": "other", "state": state}, "no longer knows"),
        ({"code": "no-access", "state": state}, "access:services!service=dask-gateway"),
    ]:
        with pytest.raises(LoginFailed, match=words):
            await login.complete(RETURN, begun.secret, query)


async def test_a_hub_that_is_silent_meanwhile_is_not_a_failed_login(hub: HubDouble, make: Make) -> None:
    """The person may try again."""
    login = make()
    await login.start()
    begun = await login.begin(RETURN)
    hub.answer = web.Response(status=502)

    with pytest.raises(Busy):
        await login.complete(RETURN, begun.secret, {"code": "x", "state": json.loads(begun.secret)[0]})


@pytest.mark.parametrize("missing", ["api_token_file", "service_name"])
async def test_without_a_place_at_the_hub_nobody_is_sent_there(make: Make, missing: str) -> None:
    """The Hub would answer with a page that nobody understands."""
    with pytest.raises(LoginFailed, match="no token of its own"):
        await make(**{missing: None}, any_token=True).begin(RETURN)


async def test_no_secret_is_logged(hub: HubDouble, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Not of what fails either."""
    caplog.set_level(logging.DEBUG)
    login = make()
    await login.start()
    begun = await login.begin(RETURN)
    for code in ("s3cret-code", ""):
        with pytest.raises(TidegateError):
            await login.complete(RETURN, begun.secret, {"code": code, "state": json.loads(begun.secret)[0]})
    await login.authenticate(by("s3cret-token"))

    for secret in ("s3cret", SERVICE_TOKEN, *json.loads(begun.secret)):
        assert secret not in caplog.text
