"""Sharing by commands, against a gateway that listens: what is printed where, and what is refused."""

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
from tidegate.model.cluster import Cluster


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that listens, which the configuration of this process names, with the token of alice, who administers
    it."""
    roster = Roster(admins=("alice",))
    async with gateway_in_process(tmp_path, roster=roster) as gateway, listening(gateway) as address:
        gateway.clock.now = 4e9  # in the future: what is made now has not expired for the client
        auth = {"type": "token", "kwargs": {"token": gateway.tokens["alice"]}}
        with dask.config.set({"tidegate": {"address": address, "auth": auth}, "gateway": {}}):
            yield gateway


@pytest.fixture
async def cluster(gateway: Gateway) -> Cluster:
    """A running cluster of alice's."""
    cluster = await gateway.create("alice")
    return await gateway.become_running(cluster.name)


async def clusters(*arguments: str) -> int:
    """Run the command beside the gateway."""
    return await asyncio.to_thread(run, ["clusters", *arguments])


async def test_a_link_alone_is_on_standard_output(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """For `$(...)`; how to withdraw it stands beside. As JSON it has its address too, in a list never."""
    assert await clusters("link", cluster.name, "--label", "meeting") == 0
    out, err = capsys.readouterr()
    assert out.startswith("http://")
    assert out.count("\n") == 1
    assert "To withdraw it: tidegate clusters unlink" in err

    assert await clusters("link", cluster.name, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["url"].startswith("http://")
    assert await clusters("shares", cluster.name, "--json") == 0
    assert ["url" in link for link in json.loads(capsys.readouterr().out)["links"]] == [False, False]


async def test_what_was_given_is_listed(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """In the order in which it was; nothing is said in a sentence."""
    assert await clusters("shares", cluster.name) == 0
    assert "is shared with nobody, and there is no link" in capsys.readouterr().out
    await clusters("share", cluster.name, "--user", "bob")
    await clusters("share", cluster.name, "--group", "physics", "--right", "use")
    capsys.readouterr()

    assert await clusters("shares", cluster.name) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["user", "bob", "view"], ["group", "physics", "use"]]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["share"], 1, "give either a user or a group"),
        (["share", "--user", "bob", "--group", "physics"], 1, "give either a user or a group"),
        (["share", "--user", "bob", "--right", "own"], 2, "'own' is not one of"),
        (["share", "--user", "alice"], 1, "cannot share cluster"),
        (["share", "--user", "b" * 300], 1, "a name has 1 to 255 printable characters"),
        (["unshare"], 1, "give either a user or a group"),
        (["link", "--expires", "soon"], 1, "write 30m, 1h or 7d"),
        (["link", "--expires", "8d"], 1, "cannot make a link for 8 days"),
        (["link", "--expires", "0"], 1, "cannot make a link for 0 s"),
        (["unlink", "../x"], 1, "cannot withdraw link '../x'"),
        (["limit", "-1"], 1, "must be a whole number from 0"),
        (["shares", "--on-behalf-of", "bob"], 1, "cannot find cluster"),
        (["shares", "--on-behalf-of", ""], 1, "cannot act on behalf of ''"),
    ],
)
async def test_what_goes_wrong_is_a_sentence(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    """On standard error, and nothing has changed."""
    command, *rest = arguments

    assert await clusters(command, cluster.name, *rest) == code

    out, err = capsys.readouterr()
    assert words in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "There is no running cluster of yours at"),
        (["--of", "shared"], "There is no running cluster shared with you at"),
        (["--of", "all"], "There is no running cluster that you may see at"),
        (["--owner", "bob"], "There is no running cluster of bob that you may see at"),
        (["--owner", "bob", "--all"], "There is no cluster of bob that you may see at"),
    ],
)
async def test_an_empty_list_says_of_what(
    gateway: Gateway, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    """Whose, and at which gateway."""
    assert await clusters("list", *arguments) == 0

    assert capsys.readouterr().out.startswith(words)


async def test_a_list_of_others_shows_their_owners(
    gateway: Gateway, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """One's own list does not: it says nothing new there."""
    other = await gateway.create("mallory")

    assert await clusters("list") == 0
    mine = capsys.readouterr().out
    assert await clusters("list", "--of", "all") == 0
    every = capsys.readouterr().out

    assert "OWNER" not in mine
    assert other.name not in mine
    assert dict(line.split()[:2] for line in every.splitlines()[1:]) == {other.name: "mallory", cluster.name: "alice"}


async def test_a_limit_is_one(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """It says of whose cluster, and why it is so."""
    assert await clusters("limit", cluster.name, "1") == 0

    out = capsys.readouterr().out
    assert out == f"{cluster.name} of alice: at most 1 worker (set by administrator alice)\n"
