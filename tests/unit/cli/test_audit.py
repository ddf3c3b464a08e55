"""``tidegate audit`` against a gateway that listens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import dask.config
import pytest

from tests.in_process import Gateway, gateway_in_process, listening
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.cli.main import run
from tidegate.client import audit as client
from tidegate.client.gateway import Gateway as Client
from tidegate.model.audit import Deed, Entry, Outcome
from tidegate.model.principal import Principal

NOW = time.time()

STOP = Entry(NOW - 7200, Deed.CLUSTER_STOP, Outcome.DONE, principal="bob", actor="root", method="session", cluster="c1")
REFUSED = Entry(NOW - 60, Deed.LOGIN, Outcome.REFUSED, "unauthenticated", principal="[red]eve", times=3)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that listens, which the configuration of this process names, with root's token."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=["root"])) as gateway, listening(gateway) as address:
        _, gateway.tokens["root"] = await mint_token(gateway.store, Principal("root"), "test", now=gateway.clock.now)
        await gateway.store.add_audit([STOP, REFUSED])
        auth = {"type": "token", "kwargs": {"token": gateway.tokens["root"]}}
        with dask.config.set({"tidegate": {"address": address, "auth": auth}, "gateway": {}}):
            yield gateway


async def tidegate(*arguments: str) -> int:
    """Run the command beside the gateway."""
    return await asyncio.to_thread(run, ["audit", *arguments])


async def test_a_table_for_people(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest last, where one looks; both persons; what somebody typed is no markup."""
    assert await tidegate() == 0

    heading, stop, refused = capsys.readouterr().out.splitlines()
    assert heading.split() == ["TIME", "WHO", "ACTION", "CLUSTER", "OUTCOME", "FROM", "WHAT"]
    assert "root, on behalf of bob" in stop
    assert "cluster.stop" in stop
    assert "[red]eve (not proved)" in refused
    assert "login x3" in refused
    assert "refused: unauthenticated" in refused


async def test_json_for_programs(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Every fact, times with their zone."""
    assert await tidegate("--json", "--user", "root") == 0

    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["user"], entry["actor"], entry["action"], entry["times"]) == ("bob", "root", "cluster.stop", 1)
    assert entry["at"][-6] in "+-"


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--since", "1h"], 1),
        (["--since", "3h"], 2),
        (["--since", "2001-01-01"], 2),
        (["--action", "login"], 1),
        (["--outcome", "done"], 1),
        (["--cluster", "c1"], 1),
        (["--limit", "1"], 1),
    ],
)
async def test_filters(gateway: Gateway, capsys: pytest.CaptureFixture[str], arguments: list[str], count: int) -> None:
    """The words of the API, and times as people say them."""
    assert await tidegate("--json", *arguments) == 0

    assert len(json.loads(capsys.readouterr().out)) == count


async def test_more_than_a_page(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Pages are put together in order, as many entries as were asked for."""
    await gateway.store.add_audit([replace(STOP, detail=str(n)) for n in range(client.PAGE + 50)])

    assert await tidegate("--json", "--limit", str(client.PAGE + 20)) == 0

    found = [entry["detail"] for entry in json.loads(capsys.readouterr().out)]
    assert found == [str(n) for n in range(30, client.PAGE + 50)]


async def test_nothing_that_fits(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Is said."""
    assert await tidegate("--user", "nobody") == 0

    assert "There is nothing on record at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--since", "yesterday"], "write 30m, 12h, 7d, or a date"), (["--action", "tea"], "cannot use action")],
)
async def test_mistakes_are_told(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """In a sentence, with exit code 1."""
    assert await tidegate(*arguments) == 1

    assert words in capsys.readouterr().err


async def test_others_are_told_whom_it_is_for(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Though the gateway says that it is not there."""
    auth = {"type": "token", "kwargs": {"token": gateway.tokens["alice"]}}
    with dask.config.set({"tidegate.auth": auth}):
        assert await tidegate() == 1

    assert "that is for its administrators" in capsys.readouterr().err


async def test_what_comes_is_followed(gateway: Gateway) -> None:
    """From a given entry on, in order, as it is written."""

    def follow() -> list[str]:
        with Client() as here:
            following = client.follow_audit(here, 1)
            return [next(following).action for _ in range(3)]

    seen = asyncio.create_task(asyncio.to_thread(follow))
    await gateway.store.add_audit([STOP])
    await gateway.store.add_audit([STOP])

    assert await asyncio.wait_for(seen, 30) == ["login", "cluster.stop", "cluster.stop"]
