"""Limits by commands and from a notebook, against a gateway that listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import dask.config
import pytest

from tests.in_process import Gateway, gateway_in_process, listening
from tidegate.authn.roster import Roster
from tidegate.cli.main import run
from tidegate.client.errors import GatewayAuthError, GatewayClusterError, GatewayValueError
from tidegate.client.gateway import Gateway as Client
from tidegate.client.limits import Limit, set_limit
from tidegate.model.amounts import Resource
from tidegate.model.limits import Rule, Rules, Subject

RULES = Rules(
    [
        Rule(Subject.parse("each:students"), Resource.CORES, 8),
        Rule(Subject.parse("gateway"), Resource.MEMORY, 64 * 2**30),
    ]
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that listens, which the configuration of this process names, with the token of alice, who administers
    it; bob, a student, has a cluster.
    """
    roster = Roster(admins=("alice",), groups={"students": ["alice", "bob"]})
    async with gateway_in_process(tmp_path, roster=roster, rules=RULES) as gateway, listening(gateway) as address:
        await gateway.create("bob")
        auth = {"type": "token", "kwargs": {"token": gateway.tokens["alice"]}}
        with dask.config.set({"tidegate": {"address": address, "auth": auth}, "gateway": {}}):
            yield gateway


async def limits(*arguments: str) -> int:
    """Run ``tidegate limits`` beside the gateway."""
    return await asyncio.to_thread(run, ["limits", *arguments])


async def test_ones_limits_are_a_table(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """With units, and a dash where there is no limit; the command alone shows them."""
    assert await limits() == 0

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["WHOSE", "WHAT", "IN", "USE", "LIMIT", "SET", "FOR"]
    assert lines[1] == ["user:alice", "clusters", "0", "-"]
    assert lines[3] == ["user:alice", "cores", "0", "8", "each:students"]
    assert lines[-1] == ["gateway", "memory", "0", "GiB", "64", "GiB", "gateway"]
    assert await limits("show") == 0


async def test_limits_are_json_for_programs(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Every fact; of one user, and of everybody who has a cluster."""
    for words in (["--user", "bob"], ["--all"]):
        assert await limits("show", *words, "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert told[0] == {"scope": "user:bob", "resource": "clusters", "used": 1, "amount": None, "source": None}


async def test_limits_are_set_and_taken_away(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """What holds is said, and who set it."""
    assert await limits("set", "user:bob", "memory", "2GiB") == 0
    assert await limits("set", "each:students", "cores", "unlimited") == 0
    assert capsys.readouterr().out.splitlines() == ["user:bob: memory 2 GiB", "each:students: cores unlimited"]

    assert await limits("rules") == 0
    heading, bob, students, everybody = capsys.readouterr().out.splitlines()
    assert heading.split() == ["WHOM", "WHAT", "LIMIT", "SET", "BY"]
    assert bob.split()[:5] == ["user:bob", "memory", "2", "GiB", "alice,"]
    assert students.split()[:4] == ["each:students", "cores", "unlimited", "alice,"]
    assert everybody.rstrip().endswith("the configuration")
    assert await limits("rules", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["amount"] == 2 * 2**30

    assert await limits("unset", "each:students", "cores") == 0
    assert "as the configuration says" in capsys.readouterr().out
    assert [rule.subject.name for rule in await gateway.store.rules()] == ["bob"]


async def test_a_mistake_is_a_sentence(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """On the error stream, with what may be written."""
    assert await limits("set", "user:bob", "cores", "many") == 1
    assert "cannot limit cores so: write a number from 0 on, or unlimited" in capsys.readouterr().err
    for number in ("nan", "inf"):
        assert await limits("set", "user:bob", "cores", number) == 1
        assert "cannot limit cores so: write a number from 0 on, or unlimited" in capsys.readouterr().err
    assert await limits("set", "user:bob", "memory", "64") == 1
    assert "write it with a unit, such as 64 GiB" in capsys.readouterr().err


async def test_a_notebook_reads_limits(gateway: Gateway) -> None:
    """As a sequence that prints as a table; others' are for administrators."""

    def ask() -> None:
        with Client() as client:
            mine = client.limits()
            assert mine[2] == Limit("user:alice", "cores", 0, 8, "each:students")
            assert repr(mine).splitlines()[3].split() == ["user:alice", "cores", "0", "8"]
            assert len(client.limits(of="all")) == len(mine)
            with pytest.raises(GatewayValueError, match="cannot tell for whom"):
                set_limit(client, "bob", "cores", 5)
        mallory = {"type": "token", "kwargs": {"token": gateway.tokens["mallory"]}}
        with (
            dask.config.set({"tidegate.auth": mallory}),
            Client() as client,
            pytest.raises(GatewayAuthError, match="only an administrator"),
        ):
            client.limits("alice")

    await asyncio.to_thread(ask)


async def test_a_cluster_that_is_refused_raises_the_sentence(gateway: Gateway) -> None:
    """Limit, use and help, as the gateway says them."""

    def ask() -> None:
        with Client() as client:
            set_limit(client, "user", "clusters", 0)
            with pytest.raises(
                GatewayClusterError, match="the limit is 0 clusters for each user, of which 0 are in use"
            ):
                client.submit()

    await asyncio.to_thread(ask)
