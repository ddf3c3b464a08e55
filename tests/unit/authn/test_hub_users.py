"""The users of a JupyterHub and their servers, as the gateway's own service sees them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from tests.hub_double import SERVICE_TOKEN, HubDouble, hub_double
from tidegate.authn.hub_api import JupyterHubSettings
from tidegate.authn.hub_users import SCOPES, HubUsers
from tidegate.model.errors import Busy, Invalid
from tidegate.model.hub import HubUser

Make = Callable[..., HubUsers]


@pytest.fixture
async def hub() -> AsyncIterator[HubDouble]:
    """A Hub that lets the gateway see all."""
    async with hub_double() as running:
        running.add_service(*SCOPES)
        running.people = {f"user{number}": {"", "gpu"} for number in range(5)} | {"idle": set()}
        yield running


@pytest.fixture
async def users(hub: HubDouble, tmp_path: Path) -> AsyncIterator[HubUsers]:
    """What asks it."""
    (tmp_path / "token").write_text(SERVICE_TOKEN + "\n")
    settings = JupyterHubSettings(api_url=hub.api_url, service_name="dask-gateway", api_token_file=tmp_path / "token")
    asking = HubUsers(settings)
    await asking.start()
    yield asking
    await asking.close()


async def test_all_pages_are_read(users: HubUsers, hub: HubDouble) -> None:
    """A Hub lists no more than two hundred at a time, here two."""
    found = await users.active_users()
    assert {user.name for user in found} == {f"user{number}" for number in range(5)}
    assert all(user.servers == {"", "gpu"} for user in found)
    assert hub.calls.count("/hub/api/users") == 3


async def test_one_user_is_described(users: HubUsers, hub: HubDouble) -> None:
    """Also without a server, with a name that has to be quoted, and one that is not there."""
    hub.people["a/b?c"] = {""}
    assert await users.user("idle") == HubUser("idle", frozenset())
    assert await users.user("a/b?c") == HubUser("a/b?c", frozenset({""}))
    assert await users.user("nobody") is None


@pytest.mark.parametrize("answer", [web.Response(status=404, text="gone"), web.json_response({"status": 404})])
async def test_only_the_hubs_own_word_removes_a_user(users: HubUsers, hub: HubDouble, answer: web.Response) -> None:
    """A proxy on the way that does not find the Hub says 404 too."""
    hub.answer = answer
    with pytest.raises(Busy):
        await users.user("idle")


@pytest.mark.parametrize("missing", SCOPES)
async def test_a_missing_scope_is_told_with_the_line_that_grants_it(
    users: HubUsers, hub: HubDouble, missing: str
) -> None:
    """Before anything is concluded from what the Hub leaves out."""
    hub.add_service(*(scope for scope in SCOPES if scope != missing), f"{missing}!user=bob")
    for ask in (users.check, users.active_users):
        with pytest.raises(Invalid) as caught:
            await ask()
        assert f"It lacks {missing}, for all users" in caught.value.message
        assert caught.value.message.splitlines()[-1] == (
            'c.JupyterHub.load_roles.append({"name": "dask-gateway", "services": ["dask-gateway"], '
            '"scopes": ["list:users", "read:servers"]})'
        )


async def test_a_token_that_the_hub_does_not_know_is_told(users: HubUsers, hub: HubDouble) -> None:
    """It was changed there and not here."""
    hub.users.clear()
    with pytest.raises(Invalid, match="does not know the gateway's token"):
        await users.check()


async def test_without_a_token_nothing_starts(hub: HubDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants clusters to end with servers is told at the start what is missing."""
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    asking = HubUsers(JupyterHubSettings(api_url=hub.api_url, service_name="dask-gateway"))
    with pytest.raises(Invalid, match="api_token_file"):
        await asking.start()


async def test_the_token_is_not_logged(users: HubUsers, hub: HubDouble, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is it in what is said of a failure."""
    hub.answer = web.Response(status=500, text="broken")
    with caplog.at_level(logging.DEBUG), pytest.raises(Busy) as caught:
        await users.active_users()
    assert SERVICE_TOKEN not in caplog.text + str(caught.value) + str(caught.value.detail)
