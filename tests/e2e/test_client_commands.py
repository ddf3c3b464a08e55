"""The ``tidegate`` command against a real gateway."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually_sync

pytestmark = pytest.mark.timeout(240)


def ran(gateway: GatewayProcess, *arguments: str) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = gateway.run_cli(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_life_of_a_cluster_by_commands(gateway: GatewayProcess) -> None:
    """Made, listed, shown, sized, read and stopped without a line of Python."""
    name = ran(
        gateway, "clusters", "create", "-o", "worker_cores=1", "-o", "worker_memory=1 GiB", "--workers", "1"
    ).strip()
    assert re.fullmatch(r"[0-9a-f]{16}", name)

    assert f"{name}  running" in ran(gateway, "clusters", "list")
    eventually_sync(lambda: json.loads(ran(gateway, "clusters", "show", name, "--json"))["workers"] == 1, 60)
    assert "/ 2 workers" in ran(gateway, "clusters", "scale", name, "2")
    assert "adaptive, 1 to 3 workers" in ran(gateway, "clusters", "adapt", name, "--min", "1", "--max", "3")
    assert "not adaptive" in ran(gateway, "clusters", "adapt", name, "--off")
    shown = ran(gateway, "clusters", "show", name)
    assert "worker_memory" in shown
    assert "distributed" in shown
    assert "Scheduler at" in ran(gateway, "clusters", "logs", name, "--process", "scheduler")
    assert "is being stopped" in ran(gateway, "clusters", "stop", name)
    assert json.loads(ran(gateway, "clusters", "list", "--json")) == []
    eventually_sync(lambda: f"{name}  stopped" in ran(gateway, "clusters", "list", "--status", "stopped"), 60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "-o", "worker_cores"], "write it as KEY=VALUE"),
        (["create", "-o", "worker_cores=1000000"], "cannot set worker_cores to 1000000"),
        (["create", "-o", "nonsense=1"], "cannot find an option 'nonsense'"),
        (["show", "nonsense"], "cannot find cluster 'nonsense'"),
        (["scale", "--", "nonsense", "-1"], "Scale expects a non-negative integer, got -1"),
        (["list", "--status", "dead"], "choose among pending, running"),
    ],
)
def test_what_goes_wrong_is_one_sentence(gateway: GatewayProcess, arguments: list[str], words: str) -> None:
    """On standard error, with exit code 1 and without a traceback."""
    done = gateway.run_cli("clusters", *arguments)

    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_size_that_was_clamped_is_said(gateway: GatewayProcess) -> None:
    """The warning of the library is a sentence of the command."""
    name = ran(gateway, "clusters", "create").strip()

    done = gateway.run_cli("clusters", "scale", name, "1000000")
    ran(gateway, "clusters", "stop", name)

    assert done.stderr.startswith("Scale request of 1000000 workers would exceed resource limit of")
    assert "Warning" not in done.stderr


def test_the_version_tells_of_both(gateway: GatewayProcess) -> None:
    """The client's and the gateway's."""
    told = json.loads(ran(gateway, "version", "--json"))

    assert told["gateway"]["address"] == gateway.url
    assert told["gateway"]["version"] == told["client"]["version"]


def test_the_tour_takes_everything_in(gateway: GatewayProcess) -> None:
    """Real data, checked results, both ways of scaling, a link, and an end."""
    done = gateway.run_cli("tour", "--yes", timeout=220)

    assert done.returncode == 0, done.stderr
    assert "336,776 flights" in done.stdout
    assert "F9 21.9 min" in done.stdout
    assert done.stdout.count("the same here") == 5
    assert f"{gateway.url}/clusters/" in done.stdout
    assert "back at 1 worker" in done.stdout
    assert "It is gone" in done.stdout
    assert json.loads(ran(gateway, "clusters", "list", "--json")) == []
