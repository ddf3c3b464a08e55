"""The audit log of a whole gateway: what is done through its door stands in it, also after its death."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.gateways import GatewayProcess, serving
from tests.support import eventually_sync

pytestmark = pytest.mark.timeout(240)

CONFIG = """
backend: {name: simulated}
audit: {file: audit.jsonl}
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway of the test's own, whose clusters are only simulated; its user administers it."""
    with serving(tmp_path / "gateway", CONFIG) as running:
        yield running


def ran(gateway: GatewayProcess, *arguments: str) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = gateway.run_cli(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def audit(gateway: GatewayProcess, *arguments: str) -> list[dict[str, Any]]:
    """Return what ``tidegate audit`` tells."""
    found: list[dict[str, Any]] = json.loads(ran(gateway, "audit", "--json", *arguments))
    return found


def lines(file: Path) -> list[dict[str, Any]]:
    """Return what stands in the file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def until_it_answers(gateway: GatewayProcess) -> None:
    """Wait for a control process: on a busy machine it is back after the proxy has given up waiting for it."""
    eventually_sync(lambda: httpx.get(f"{gateway.url}/api/health", timeout=60).status_code == 200, 60)


def test_who_did_what_from_where(gateway: GatewayProcess) -> None:
    """Through the proxy, in the database and in the file; refusals too, and no secret in any of it."""
    file = gateway.home / "audit.jsonl"
    name = ran(gateway, "clusters", "create", "--no-wait", "--on-behalf-of", "bob").strip()
    alice = gateway.mint("alice")
    headers = {"Authorization": f"Bearer {alice}", "X-Forwarded-For": "203.0.113.5"}
    assert httpx.delete(f"{gateway.url}/api/v2/clusters/{name}", headers=headers).status_code == 404
    assert httpx.get(f"{gateway.url}/api/v2/clusters", auth=("eve", "wr0ng-password")).status_code == 401
    assert "is being stopped" in ran(gateway, "clusters", "stop", name)

    entries = audit(gateway)
    facts = [(e["action"], e["outcome"], e["code"], e["user"], e["actor"], e["cluster"]) for e in entries]
    me = entries[0]["actor"]
    assert me
    assert facts == [
        ("cluster.create", "done", "", "bob", me, name),
        ("cluster.stop", "refused", "not-found", "alice", "", name),
        ("read", "refused", "unauthenticated", "eve", "", ""),
        ("cluster.stop", "done", "", me, "", name),
    ]
    # What the client itself says of its address counts for nothing.
    assert {e["address"] for e in entries} == {"127.0.0.1"}
    assert json.loads(ran(gateway, "clusters", "show", name, "--json"))["reason"] is not None

    eventually_sync(lambda: len(lines(file)) == 4, 30, "everything stands in the file")
    assert [line["action"] for line in lines(file)] == [fact[0] for fact in facts]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    told = file.read_text() + json.dumps(entries)
    assert [secret for secret in (alice, gateway.token, "wr0ng-password") if secret in told] == []


def test_what_was_answered_is_on_record_after_a_death(gateway: GatewayProcess) -> None:
    """Control is killed the moment after it has answered, again and again; no answered change is missing."""
    made = []
    for _ in range(3):
        until_it_answers(gateway)
        reply = httpx.post(f"{gateway.url}/api/v2/clusters", json={}, headers=gateway.headers, timeout=60)
        control = gateway.processes("tidegate.server.control")
        for pid in control:
            os.kill(pid, signal.SIGKILL)
        assert reply.status_code == 201
        made.append(reply.json()["name"])

    until_it_answers(gateway)
    entries = audit(gateway, "--action", "cluster.create")
    assert [entry["cluster"] for entry in entries] == made
    for name in made:
        ran(gateway, "clusters", "stop", name)


def test_a_rotation_and_a_folder_that_is_gone(gateway: GatewayProcess) -> None:
    """Moved aside, the file begins anew; without a place to write to, the gateway goes on and makes up for it."""
    file = gateway.home / "audit.jsonl"

    def fail_to_login(name: str) -> None:
        assert httpx.get(f"{gateway.url}/api/v2/clusters", auth=(name, "x")).status_code == 401

    fail_to_login("one")
    eventually_sync(lambda: file.exists() and len(lines(file)) == 1, 30)
    file.rename(file.with_suffix(".1"))
    fail_to_login("two")
    eventually_sync(lambda: file.exists() and [line["user"] for line in lines(file)] == ["two"], 30)

    file.unlink()
    file.mkdir()
    fail_to_login("three")
    log = gateway.data / "logs" / "control.log"
    eventually_sync(lambda: "cannot write the audit log to" in log.read_text(), 30, "it is said")
    assert [e["user"] for e in audit(gateway)] == ["one", "two", "three"]
    file.rmdir()
    eventually_sync(lambda: file.is_file() and [line["user"] for line in lines(file)] == ["three"], 30)


def test_who_stops_the_gateway_with_its_clusters(tmp_path: Path) -> None:
    """Ctrl-C pressed twice is on record too."""
    with serving(tmp_path / "gateway", CONFIG) as gateway:
        name = ran(gateway, "clusters", "create", "--no-wait").strip()

    last = lines(gateway.home / "audit.jsonl")[-1]
    assert (last["action"], last["cluster"], last["method"]) == ("cluster.stop", name, "supervisor")
