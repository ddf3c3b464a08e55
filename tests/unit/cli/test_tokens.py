"""``tidegate tokens`` against a gateway that listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import dask.config
import pytest

from tests.in_process import Gateway, gateway_in_process, listening
from tidegate.authn.tokens import SECRET
from tidegate.cli.main import run


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that listens, which the configuration of this process names, with alice's token."""
    async with gateway_in_process(tmp_path) as gateway, listening(gateway) as address:
        gateway.clock.now = 4e9  # in the future: what is made now has not expired for the client
        auth = {"type": "token", "kwargs": {"token": gateway.tokens["alice"]}}
        with dask.config.set({"tidegate": {"address": address, "auth": auth}, "gateway": {}}):
            yield gateway


async def tidegate(*arguments: str) -> int:
    """Run the command beside the gateway."""
    return await asyncio.to_thread(run, ["tokens", *arguments])


async def test_a_token_is_made_listed_and_revoked(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """The secret alone is on standard output, for `$(...)`; lists do not show it."""
    assert await tidegate("create", "--label", "report", "--days", "7", "--read-only") == 0
    secret = capsys.readouterr().out.strip()
    assert SECRET.fullmatch(secret)

    assert await tidegate("list", "--json") == 0
    shown = capsys.readouterr().out
    (token,) = [one for one in json.loads(shown) if one["label"] == "report"]
    assert token["scope"] == "read-only"
    assert secret not in shown

    assert token["used"] is None
    assert all(one["used"] for one in json.loads(shown) if one["label"] == "test")

    assert await tidegate("list") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if token["id"] in line]
    assert " never " in line

    assert await tidegate("revoke", token["id"]) == 0
    assert [one.label for one in await gateway.store.list_tokens("alice")] == ["test"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["revoke", "nonsense"], "cannot find token 'nonsense'"),
        (["revoke", "../clusters/x"], "cannot find token"),
        (["create", "--days", "61"], "at most 60 days"),
        (["list", "--user", "mallory"], "for administrators"),
    ],
)
async def test_what_goes_wrong_is_a_sentence(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """On standard error, with exit code 1."""
    assert await tidegate(*arguments) == 1

    assert words in capsys.readouterr().err
