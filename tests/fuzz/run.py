"""``make fuzz``: requests without end to a real gateway, made from its own description, as every kind of caller.

A gateway with the simulated backend is started with the defaults of a platform. For each principal schemathesis makes
requests of all operations, right ones and wrong ones, and judges the answers: no 5xx, nothing that the description does
not tell of, in bounded time. In the end a table says how many requests each principal made and what came of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.gateways import GatewayProcess, serving
from tidegate.wire.names import ON_BEHALF_HEADER

ENOUGH = 20_000
"""Requests of all principals together: fewer are no success."""

TURNS = 6
"""How often everybody may make requests until there were enough: a busy machine needs several turns."""

SLOWEST = 5.0
"""Seconds that one answer may take on a busy machine. Nothing here waits for anything but the database."""

CONFIG = """
backend: {name: simulated}
authentication: {admins: [root]}
limits: {cluster: {workers: 50}}
"""

CHECKS = """
not_a_server_error status_code_conformance content_type_conformance response_headers_conformance
response_schema_conformance unsupported_method
"""
"""Not among them: whether what was deleted is gone (a cluster that has ended stays in the history, on purpose), and
whether all that the description calls wrong is refused (a number as text in a query is taken for the number)."""

ENDLESS = ["/api/v2/events", "/api/v2/clusters/{name}/events"]
"""Answers without an end; tests of their own read them."""

PROJECT = """
[headers]
Authorization = "${TIDEGATE_FUZZ_CREDENTIAL}"
"""

SHARES = {"user:vera": "view", "user:ursula": "use"}


@dataclass(frozen=True)
class Caller:
    """Somebody who makes requests.

    Parameters
    ----------
    name : str
    credential : str
        What stands in their ``Authorization`` header.
    behalf : str
        On whose behalf they make them, if they do.
    """

    name: str
    credential: str
    behalf: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of the requests of one principal."""

    name: str
    statuses: Counter[int]
    slowest: tuple[float, str]
    failed: str

    @property
    def requests(self) -> int:
        """How many there were."""
        return self.statuses.total()


def callers(gateway: GatewayProcess) -> list[Caller]:
    """Return everybody, with their credentials."""
    secrets = {name: gateway.mint(name) for name in ("alice", "mallory", "vera", "ursula", "root")}
    headers = {"Authorization": f"Bearer {secrets['alice']}"}
    made = httpx.post(f"{gateway.url}/api/v2/tokens", json={"scope": "read-only"}, headers=headers)
    return [
        Caller("owner", f"Bearer {secrets['alice']}"),
        Caller("read-only", f"Bearer {made.raise_for_status().json()['secret']}"),
        Caller("view share", f"Bearer {secrets['vera']}"),
        Caller("use share", f"Bearer {secrets['ursula']}"),
        Caller("stranger", f"Bearer {secrets['mallory']}"),
        Caller("admin", f"Bearer {secrets['root']}"),
        Caller("on behalf", f"Bearer {secrets['root']}", "alice"),
        Caller("nobody", "Bearer nothing"),
    ]


def make_clusters(gateway: GatewayProcess, count: int) -> list[str]:
    """Return the names of clusters of alice's, which she shares."""
    headers = {"Authorization": f"Bearer {gateway.mint('alice')}"}
    with httpx.Client(base_url=gateway.url, headers=headers) as alice:
        names = [alice.post("/api/v2/clusters", json={}).raise_for_status().json()["name"] for _ in range(count)]
        for name in names:
            for grantee, right in SHARES.items():
                alice.put(f"/api/v2/clusters/{name}/shares/{grantee}", json={"right": right}).raise_for_status()
    return names


def fuzz(folder: Path, gateway: GatewayProcess, caller: Caller, names: list[str], seconds: int, seed: int) -> Outcome:
    """Make requests as somebody for so many seconds."""
    place = folder / caller.name
    place.mkdir()
    behalf = f'{ON_BEHALF_HEADER} = "{caller.behalf}"\n' if caller.behalf else ""
    (place / "schemathesis.toml").write_text(PROJECT + behalf)
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{gateway.url}/api/v2/openapi.json"]
    command += ["--max-time", str(seconds), "--seed", str(seed), "--checks", ",".join(CHECKS.split())]
    command += [
        "--max-response-time",
        str(SLOWEST),
        "--continue-on-failure",
        "--no-color",
        "--generation-database",
        "none",
        "--suppress-health-check=all",
    ]
    for path in ENDLESS:
        command += ["--exclude-path", path]
    environ = os.environ | {
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TIDEGATE_FUZZ_CREDENTIAL": caller.credential,
        "TIDEGATE_FUZZ_CLUSTERS": ",".join(names),
        "TIDEGATE_FUZZ_RECORD": str(place / "requests"),
    }
    done = subprocess.run(
        command,
        env=environ,
        cwd=place,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds * 5,
    )
    lines = [json.loads(line) for line in (place / "requests").read_text().splitlines()]
    slowest = max(((line[1], line[2]) for line in lines), default=(0.0, ""))
    failed = done.stdout if done.returncode else ""
    return Outcome(caller.name, Counter(line[0] for line in lines), slowest, failed)


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield f"{'principal':<12} {'requests':>8}  {'slowest':>8}  {'it was':<44} statuses"
    for outcome in outcomes:
        statuses = " ".join(f"{status}:{count}" for status, count in sorted(outcome.statuses.items()))
        seconds, operation = outcome.slowest
        yield f"{outcome.name:<12} {outcome.requests:>8,}  {seconds:>6.2f} s  {operation:<44} {statuses}"
    yield f"{'all':<12} {sum(outcome.requests for outcome in outcomes):>8,}"


def run(folder: Path, given: argparse.Namespace) -> list[Outcome]:
    """Let everybody make requests, two at a time, and once more until there were enough."""
    outcomes: list[Outcome] = []
    with serving(folder / "gateway", CONFIG) as gateway, ThreadPoolExecutor(2) as pool:
        everybody = callers(gateway)
        for turn in range(TURNS):
            names = make_clusters(gateway, 40)
            place = folder / str(turn)
            place.mkdir()
            jobs = [
                pool.submit(fuzz, place, gateway, caller, names, given.seconds, given.seed + turn)
                for caller in everybody
            ]
            outcomes = merged(outcomes, [job.result() for job in jobs])
            if sum(outcome.requests for outcome in outcomes) >= given.enough:
                break
    return outcomes


def merged(before: list[Outcome], now: list[Outcome]) -> list[Outcome]:
    """Return what came of two turns."""
    if not before:
        return now
    return [
        Outcome(
            one.name,
            one.statuses + other.statuses,
            max(one.slowest, other.slowest),
            one.failed + other.failed,
        )
        for one, other in zip(before, now, strict=True)
    ]


def main() -> int:
    """Run everything, say what came of it, and return 0 if all is well."""
    parser = argparse.ArgumentParser(description="Fuzz a gateway through its API, as every kind of caller.")
    parser.add_argument("--seconds", type=int, default=45, help="for each principal, in each turn")
    parser.add_argument("--enough", type=int, default=ENOUGH, help="requests that there must be in all")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="to repeat a run")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tidegate-fuzz-") as folder:
        outcomes = run(Path(folder), given)
    for outcome in outcomes:
        if outcome.failed:
            print(f"\n== {outcome.name} ==\n{outcome.failed}")
    print("\n".join(table(outcomes)))
    enough = sum(outcome.requests for outcome in outcomes) >= given.enough
    if not enough:
        print(f"too few: there must be {given.enough:,} requests")
    return 0 if enough and not any(outcome.failed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
