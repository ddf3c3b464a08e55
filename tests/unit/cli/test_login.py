"""``tidegate login`` at a gateway that listens, by a provider that a test can hold (``tests/oidc_double.py``)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import dask.config
import pytest
import yaml

from tests.in_process import Gateway, gateway_in_process, listening
from tests.oidc_double import OidcDouble, authenticator_for, oidc_double
from tests.support import eventually
from tidegate.cli.main import run
from tidegate.client.saved import HEADER
from tidegate.model.audit import Deed, Outcome, Wanted
from tidegate.model.principal import Principal


@dataclass
class Place:
    """A gateway, its provider, its address and the folder of the user's configuration."""

    gateway: Gateway
    provider: OidcDouble
    address: str
    dask: Path


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """A gateway that offers logins to terminals."""
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path / "dask"))
    async with oidc_double() as provider:
        login = authenticator_for(provider, tmp_path)
        await login.start()
        async with gateway_in_process(tmp_path, {"oidc": login}) as gateway, listening(gateway) as address:
            gateway.clock.now = 4e9
            with dask.config.set({"tidegate": {}, "gateway": {}}):
                yield Place(gateway, provider, address, tmp_path / "dask")
        await login.close()


async def log_in(place: Place, answer: str, *more: str) -> int:
    """Run the command; when it waits, the person answers at the provider's page."""
    running = asyncio.create_task(asyncio.to_thread(run, ["login", "--address", place.address, *more]))
    await eventually(lambda: place.provider.devices or running.done())
    for code in place.provider.devices:
        place.provider.devices[code] = answer
    return await running


async def test_the_token_is_saved_for_this_user_alone(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Page and code are shown, the token is not; the file makes ``Gateway()`` work, and is written again."""
    for _ in range(2):
        assert await log_in(place, "") == 0
    shown = capsys.readouterr()
    assert "ABCD-EFGH" in shown.err
    assert f"{place.provider.issuer}/code" in shown.err
    assert "tdg_" not in shown.out + shown.err
    assert "You are alice" in shown.out

    file = place.dask / "tidegate.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert os.listdir(place.dask) == ["tidegate.yaml"]
    section = yaml.safe_load(file.read_text())["tidegate"]
    assert section["address"] == place.address
    assert section["listener-uid"] == os.getuid()
    client = place.gateway.client(section["auth"]["kwargs"]["token"])
    assert (await client.get("/api/v2/whoami")).json()["name"] == "alice"


async def test_a_file_that_somebody_else_wrote_stays(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is sent to the provider in vain; the token can be printed instead."""
    place.dask.mkdir()
    (place.dask / "tidegate.yaml").write_text("tidegate: {}\n")

    assert await log_in(place, "") == 1
    assert "did not write that file" in capsys.readouterr().err
    assert place.provider.asked.count("/device") == 0

    assert await log_in(place, "", "--print", "--read-only") == 0
    assert capsys.readouterr().out.startswith("tdg_")
    assert HEADER not in (place.dask / "tidegate.yaml").read_text()


async def test_a_gateway_without_such_a_login_says_what_else(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A token is made in the browser then."""
    place.provider.metadata["device_authorization_endpoint"] = None
    place.gateway.services.logins["oidc"]._provider._metadata_until = 0  # type: ignore[attr-defined]

    assert await log_in(place, "") == 1
    assert f"{place.address}/tokens" in capsys.readouterr().err


async def test_a_handle_is_no_cookie_and_a_cookie_no_handle(place: Place) -> None:
    """What began in a terminal ends there, and what began in a browser too."""
    client, browser = place.gateway.client(), place.gateway.browser()
    handle = (await client.post("/api/v2/login/device", json={})).json()["handle"]
    cookie = (await browser.get("/login/oidc")).cookies["tidegate-login"]

    crossed = await client.post("/api/v2/login/device/token", json={"handle": cookie})
    assert crossed.status_code == 404
    thief = place.gateway.browser(Cookie=f"tidegate-login={handle}")
    assert (await thief.get("/login/oidc/return", params={"state": "x", "code": "y"})).status_code == 401
    waiting = await client.post("/api/v2/login/device/token", json={"handle": handle})
    assert (waiting.status_code, waiting.json()) == (202, {"slower": False})


async def test_a_foreign_page_begins_nothing(place: Place) -> None:
    """A browser that visits it must not fetch codes for it."""
    client = place.gateway.client(**{"Sec-Fetch-Site": "cross-site"})

    assert (await client.post("/api/v2/login/device", json={})).status_code == 403


async def test_the_audit_log_tells_who_logged_in_by_a_terminal(place: Place) -> None:
    """Once, when it is complete, with the id of the token that came of it; and who was not let in."""
    assert await log_in(place, "", "--print") == 0
    place.provider.devices.clear()
    assert await log_in(place, "access_denied", "--print") == 1

    audit = place.gateway.services.audit
    refused, done = [r.entry for r in await audit.find(Principal("root", admin=True), Wanted(deed=Deed.LOGIN))]
    assert (done.outcome, done.principal, done.method) == (Outcome.DONE, "alice", "oidc")
    assert (await place.gateway.store.list_tokens("alice"))[0].id in done.detail
    assert (refused.outcome, refused.code, refused.principal) == (Outcome.REFUSED, "not-allowed", "")
