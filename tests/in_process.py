"""The API and the console in this process, over a real store and the real services, without an engine behind.

No reconciler runs: a test that needs a cluster in some state says so (``become_running``, ``become_failed``), and time
stands still unless a test moves it.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import URL

from tidegate.api.app import create_app
from tidegate.api.services import Services
from tidegate.authn.base import Authenticator
from tidegate.authn.codes import LoginCodes
from tidegate.authn.entries import Entries, ends_nothing
from tidegate.authn.flows import Flows
from tidegate.authn.personal import Lifetimes, PersonalTokens
from tidegate.authn.roster import Roster
from tidegate.authn.sessions import Sessions
from tidegate.authn.tokens import TokenAuthenticator, mint_token
from tidegate.backends.base import Log
from tidegate.console.routes import Console
from tidegate.control.agents import Agents
from tidegate.control.audit import Audit
from tidegate.control.budgets import BudgetWatch
from tidegate.control.bus import Bus
from tidegate.control.choosing import Choosing
from tidegate.control.clusters import Clusters
from tidegate.control.figures import Figures
from tidegate.control.limits import Limits
from tidegate.control.records import Records
from tidegate.control.routing import Routing
from tidegate.control.shares import Shares, SharingRules
from tidegate.control.terms import Terms
from tidegate.control.usage import Usage
from tidegate.model import event as events
from tidegate.model.budgets import Budgets
from tidegate.model.cluster import (
    Cluster,
    ClusterSpec,
    ClusterState,
    Reason,
    SchedulerFacts,
    Target,
    Worker,
    WorkerState,
)
from tidegate.model.event import Event
from tidegate.model.offer import Offer, Variant
from tidegate.model.options import Kind, Option
from tidegate.model.policy import Capacity
from tidegate.model.principal import Principal
from tidegate.model.profiles import Profile
from tidegate.store.database import DATABASE_FILE
from tidegate.store.folder import prepare_folder
from tidegate.store.schema import bring_up_to_date
from tidegate.store.sql import SqlStore
from tidegate.telemetry.metrics import Metrics

NOW = 1_700_000_000.0

DAY = 86400.0

OPTIONS = Offer(
    (
        Option("worker_cores", Kind.INTEGER, 1, "Worker cores", "Threads of one worker.", 1, 8),
        Option("worker_memory", Kind.FLOAT, 2.0, "Worker memory", "", 0.5, 16.0, "GiB"),
        Option("environment", Kind.CHOICE, "notebook", "Environment", choices=("notebook", "geo-2026")),
        Option("queue", Kind.STRING, "long", "Queue", fixed=True),
        Option("profile", Kind.BOOLEAN, False, "Profile"),
    )
)


EVERY_KIND = Offer(
    (
        Option("profile", Kind.CHOICE, "small", "Profile", choices=("small", "large"), labels=("Small", "Large")),
        Option("worker_cores", Kind.INTEGER, 1, "Worker cores", minimum=1, maximum=4),
        Option("worker_memory", Kind.FLOAT, 2.0, "Worker memory", fixed=True, unit="GiB"),
        Option("image", Kind.CHOICE, "r/py:1", "Image", choices=("r/py:1", "r/r:1"), labels=("Python", "R")),
        Option("branch", Kind.STRING, "main", "Branch", patterns=("main", "release-*")),
        Option("variables", Kind.MAPPING, {"SITE": "geheim-{user}"}, "Variables", secret=True),
        Option("spot", Kind.BOOLEAN, True, "Spot"),
        Option("node", Kind.STRING, "cpu", hidden=True),
    ),
    {"spot": (Variant("staff", Option("spot", Kind.BOOLEAN, False, fixed=True)),)},
    (
        Profile("small", "Small", "For trying out.", {"worker_cores": 2}),
        Profile("large", "Large", "", {"worker_cores": 16, "worker_memory": 8.0, "node": "big"}),
    ),
)
"""All that an administrator can do with options."""


class Backend:
    """Of a backend, what the API asks itself: whether a request can be met, and logs."""

    async def prepare(self, spec: ClusterSpec, owner: str, hints: Mapping[str, str]) -> ClusterSpec:
        """Take every request, and remember the hints in the record."""
        return replace(spec, extra={**spec.extra, "hints": dict(hints)})

    def capacity(self, spec: ClusterSpec) -> Capacity:
        """Say that 20 fit."""
        return Capacity(20, "this machine has 8 cores")

    async def logs(self, cluster: str, *, lines: int = 200) -> list[Log]:
        """Return two logs."""
        return [Log("scheduler", "scheduler line\n" * min(lines, 2)), Log("default-1", "<b>worker</b> line")]


@dataclass
class Clock:
    """Time that moves when it is told to."""

    now: float = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@dataclass
class Gateway:
    """The gateway in this process, with one token each for alice and mallory."""

    app: FastAPI
    services: Services
    records: Records
    clock: Clock
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Any:
        """The store below."""
        return self.services.store

    def client(self, user: str | None = None, **headers: str) -> httpx.AsyncClient:
        """Return a program's HTTP client, that bears the token of ``user``."""
        if user is not None:
            headers["Authorization"] = f"Bearer {self.tokens.get(user, user)}"
        return self._client(headers)

    def browser(self, user: str | None = None, **headers: str) -> httpx.AsyncClient:
        """Return a browser's HTTP client on a page of ours, logged in as ``user``."""
        client = self._client(
            {"Accept": "text/html,*/*", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin", **headers}
        )
        if user is not None:
            sessions = self.services.sessions
            scheme, prefix = headers.get("X-Forwarded-Proto", "http"), headers.get("X-Forwarded-Prefix", "")
            client.cookies.set(sessions.cookie_name(scheme, prefix), sessions.seal(Principal(user)))
        return client

    def _client(self, headers: dict[str, str]) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://gateway.test", headers=headers)

    async def create(self, user: str = "alice", **options: Any) -> Cluster:
        """Create a cluster."""
        return await self.services.clusters.create(Principal(user), options)

    async def change(self, name: str, *happened: Event, **values: Any) -> Cluster:
        """Change a record, as the control loop would."""
        changed = await self.records.admit(name, lambda c, _: (replace(c, **values), happened))
        assert changed is not None
        return changed

    async def become_running(self, name: str, *, workers: int = 0, dashboard: bool = True) -> Cluster:
        """Let a cluster run, with so many workers."""
        facts = SchedulerFacts(1, 40001, 40002 if dashboard else None, {"python": "3.12.1", "distributed": "2026.8.0"})
        cluster = await self.store.load(name)
        group = replace(cluster.groups[0], wanted=workers, launched=workers)
        return await self.change(
            name,
            Event(events.RUNNING, "The cluster is running"),
            state=ClusterState.RUNNING,
            started_at=self.clock.now,
            host="127.0.0.1",
            scheduler=facts,
            groups=(group,),
            workers=tuple(Worker(f"default-{n + 1}", state=WorkerState.RUNNING) for n in range(workers)),
        )

    async def become_failed(self, name: str) -> Cluster:
        """Let a cluster fail."""
        reason = Reason(
            "scheduler-exited",
            "The scheduler ended by itself: exit code 1",
            "secret detail",
            "ModuleNotFoundError: no <dask>",
        )
        return await self.change(
            name,
            Event(events.FAILED, reason.message, {"code": reason.code, "log_tail": reason.log_tail}),
            state=ClusterState.FAILED,
            target=Target.STOPPED,
            stopped_at=self.clock.now,
            reason=reason,
        )


@cache
def _empty_database() -> bytes:
    """Return a new database as it is on disk: the migrations take longer than a usual test."""
    with TemporaryDirectory() as folder:
        url = URL.create("sqlite", database=f"{folder}/{DATABASE_FILE}")
        bring_up_to_date(url, busy_timeout=1, now=0)
        return Path(folder, DATABASE_FILE).read_bytes()


@asynccontextmanager
async def gateway_in_process(
    folder: Path, logins: Mapping[str, Authenticator] | None = None, options: Offer = OPTIONS, **settings: Any
) -> AsyncIterator[Gateway]:
    """Start the gateway in this process, and close it in the end."""
    clock = Clock()
    database = folder / "data" / DATABASE_FILE
    prepare_folder(database.parent)
    if not database.exists():
        database.touch(mode=0o600)
        database.write_bytes(_empty_database())
    store = SqlStore(folder / "data", clock=clock)
    await store.start()
    try:
        bus = Bus()
        records = Records(store, bus, settings.pop("rules", None))
        backends: Any = {"quiet": Backend()}
        audit = Audit(store, clock, settings.pop("audit_file", None))
        budgets = BudgetWatch(settings.pop("budgets", Budgets()), records, clock)
        clusters = Clusters(records, backends, "quiet", bus, clock, Choosing(options), Terms())
        routes = Routing(store, folder)
        by_token, roster = TokenAuthenticator(store, clock), settings.pop("roster", Roster())
        revoked = settings.get("end_vouched", ends_nothing)
        key = secrets.token_bytes(32)
        known: dict[str, Authenticator] = {"tokens": by_token, **(logins or {})}
        services = Services(
            clusters=clusters,
            agents=Agents(records, bus, clock),
            shares=Shares(clusters, records, routes, clock, settings.pop("sharing", SharingRules())),
            limits=Limits(records, clock, roster.groups_of),
            store=store,
            audit=audit,
            usage=Usage(store, clusters, clock, "EUR", budgets),
            figures=Figures(store, metrics := Metrics(), clock),
            metrics=metrics,
            logins=known,
            entries=Entries(known, revoked),
            tokens=PersonalTokens(store, by_token, roster, Lifetimes(30 * DAY, 60 * DAY), clock, revoked),
            roster=roster,
            sessions=Sessions(lambda: key, clock),
            codes=LoginCodes(clock),
            flows=Flows(lambda: key, clock),
            clock=clock,
            **settings,
        )
        gateway = Gateway(create_app(services, Console()), services, records, clock)
        for user in ("alice", "mallory"):
            _, gateway.tokens[user] = await mint_token(store, Principal(user), "test", now=clock.now)
        yield gateway
        await audit.close()
        await by_token.close()
    finally:
        await store.close()


def names_of(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of clusters in a reply."""
    return [cluster["name"] for cluster in found]


class Reader:
    """Reads an endless answer of the application, message by message."""

    def __init__(self, gateway: Gateway, path: str, user: str = "alice", **headers: str) -> None:
        where, _, query = path.partition("?")
        raw = {"host": "gateway.test", "authorization": f"Bearer {gateway.tokens[user]}", **headers}
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": where,
            "query_string": query.encode(),
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in raw.items()],
            "scheme": "http",
            "http_version": "1.1",
            "root_path": "",
            "server": ("gateway.test", 80),
            "client": ("127.0.0.1", 1),
        }
        self._app = gateway.app
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._asked = False

    async def _receive(self) -> dict[str, Any]:
        if self._asked:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        self._asked = True
        return {"type": "http.request", "body": b""}

    async def __aenter__(self) -> Reader:
        self.serving = asyncio.create_task(self._app(self._scope, self._receive, self._sent.put))
        self.start = await asyncio.wait_for(self._sent.get(), 10)
        self.headers = {name.decode(): value.decode() for name, value in self.start["headers"]}
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._gone.set()
        await asyncio.wait_for(self.serving, 10)

    async def messages(self) -> AsyncIterator[dict[str, str]]:
        """Yield what comes, field by field; comments are under the empty name."""
        while True:
            part = await asyncio.wait_for(self._sent.get(), 10)
            for block in part["body"].decode().split("\n\n"):
                fields: dict[str, str] = {}
                for line in block.splitlines():
                    name, value = line.split(": ", 1) if ": " in line else ("", line)
                    fields[name] = f"{fields[name]}\n{value}" if name in fields else value
                if fields:
                    yield fields
            if not part.get("more_body"):
                return


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: tests have their own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def listening(gateway: Gateway) -> AsyncIterator[str]:
    """Serve the gateway on a free port of loopback, and return its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = uvicorn.Config(gateway.app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        server = _Server(settings)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
