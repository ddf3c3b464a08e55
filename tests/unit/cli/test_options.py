"""``tidegate options``, and options on the command line, against a gateway that listens."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import dask.config
import pytest

from tests.in_process import EVERY_KIND, Gateway, gateway_in_process, listening
from tidegate.cli.main import run


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that listens, which the configuration of this process names, with alice's token."""
    async with gateway_in_process(tmp_path, options=EVERY_KIND) as gateway, listening(gateway) as address:
        auth = {"type": "token", "kwargs": {"token": gateway.tokens["alice"]}}
        with dask.config.set({"tidegate": {"address": address, "auth": auth}, "gateway": {}}):
            yield gateway


async def tidegate(*arguments: str) -> int:
    """Run the command beside the gateway."""
    return await asyncio.to_thread(run, arguments)


async def test_what_one_may_choose_is_shown(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, with what holds and what it may be; nothing hidden or secret."""
    assert await tidegate("options") == 0
    shown = capsys.readouterr().out
    assert await tidegate("options", "--json") == 0
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}

    for words in ("one of r/py:1 (Python), r/r:1 (R)", "text like main or release-*", "SITE=***", "2 GiB"):
        assert words in shown
    assert told["worker_cores"] == {"name": "worker_cores", "value": 2, "may_be": "1 to 4"}
    assert "geheim" not in shown + str(told)
    assert "node" not in told


@pytest.mark.parametrize("by", ["file", "input"])
async def test_variables_come_from_a_file(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """What is secret is on no command line."""
    lines = "KEY=geheim\n\nOTHER = a=b\n"
    (tmp_path / "variables").write_text(lines)
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    where = "-" if by == "input" else str(tmp_path / "variables")

    assert await tidegate("clusters", "create", "--no-wait", "-o", "profile=Large", "--variables", where) == 0
    (cluster,) = await gateway.store.active()
    assert cluster.options["variables"] == {"KEY": "***", "OTHER": "***"}
    assert (cluster.options["profile"], cluster.spec.worker_cores) == ("large", 16)
    assert (await gateway.store.credentials(cluster.name)).variables == {"KEY": "geheim", "OTHER": "a=b"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [("geheim\n", "cannot set variables: line 1 is not NAME=text"), (None, "cannot read ")],
)
async def test_what_is_wrong_with_a_file_is_a_sentence(
    gateway: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str | None, words: str
) -> None:
    """Which repeats nothing of it."""
    if lines is not None:
        (tmp_path / "variables").write_text(lines)

    assert await tidegate("clusters", "create", "--no-wait", "--variables", str(tmp_path / "variables")) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "geheim" not in said
    assert await gateway.store.active() == []
