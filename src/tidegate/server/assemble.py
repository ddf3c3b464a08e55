"""The one place where everything is wired, by hand: read it to see what the gateway is made of.

What is made first is closed last. Nothing below this file knows which store, which backend or which authenticator it
works with.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from tidegate.api.app import create_app
from tidegate.api.services import Services
from tidegate.authn.base import Authenticator
from tidegate.authn.codes import LoginCodes
from tidegate.authn.entries import Entries
from tidegate.authn.flows import Flows
from tidegate.authn.limits import Allowance, LoginLimits
from tidegate.authn.personal import Lifetimes, PersonalTokens
from tidegate.authn.roster import Roster
from tidegate.authn.sessions import Sessions
from tidegate.authn.tokens import TokenAuthenticator
from tidegate.backends.base import Backend
from tidegate.config.load import Loaded
from tidegate.config.offer import offered
from tidegate.config.schema import Address, Settings
from tidegate.console.routes import Console
from tidegate.control.agents import Agents
from tidegate.control.audit import Audit
from tidegate.control.budgets import BudgetWatch
from tidegate.control.bus import Bus
from tidegate.control.choosing import Choosing
from tidegate.control.clients import Clients
from tidegate.control.clusters import Clusters
from tidegate.control.credentials import LaunchFiles
from tidegate.control.execute import Executor
from tidegate.control.figures import Figures
from tidegate.control.hub_servers import HubServers
from tidegate.control.limits import Limits
from tidegate.control.reconciler import Reconciler
from tidegate.control.records import Records
from tidegate.control.routing import Routing
from tidegate.control.shares import Shares, SharingRules
from tidegate.control.sweep import Sweep, SweepSettings
from tidegate.control.terms import Terms
from tidegate.control.usage import Usage
from tidegate.model.ends import EndRules
from tidegate.proxy.forwarded import TrustedProxies
from tidegate.server.authenticators import make_authenticators
from tidegate.server.backend import reach_backend
from tidegate.server.database import database_url
from tidegate.server.hook import load_hook
from tidegate.server.hub import make_hub_users
from tidegate.server.proxies import dashboard_host
from tidegate.server.urls import listener_uid, local_url
from tidegate.store.base import Store
from tidegate.store.sealing import KEY_FILE, KeyFile
from tidegate.store.sql import SqlStore
from tidegate.telemetry.audit_file import AuditFile
from tidegate.telemetry.metrics import Metrics

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass(frozen=True)
class Gateway:
    """What the control process runs."""

    app: FastAPI
    audit: Audit
    budgets: BudgetWatch
    backends: Mapping[str, Backend]
    clients: Clients
    clusters: Clusters
    codes: LoginCodes
    entries: Entries
    hub_servers: HubServers | None
    reconciler: Reconciler
    routing: Routing
    store: Store
    sweep: Sweep

    def jobs(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Return what turns until the end, by name."""
        at_hub = {"hub-servers": self.hub_servers.run()} if self.hub_servers is not None else {}
        return {
            "routing": self.routing.run(),
            "entries": self.entries.run(),
            "reconciler": self.reconciler.run(),
            "sweep": self.sweep.run(),
            "clients": self.clients.run(),
            "budgets": self.budgets.run(),
            "audit": self.audit.run(),
            **at_hub,
        }


@asynccontextmanager
async def assemble(
    loaded: Loaded,
    address: Address,
    *,
    backend: Backend | None = None,
    clock: Callable[[], float] = time.time,
    steady: Callable[[], float] | None = time.monotonic,
) -> AsyncIterator[Gateway]:
    """Make the gateway ready to run, and take it apart afterwards.

    Parameters
    ----------
    loaded : Loaded
        The configuration.
    address : Address
        What is really bound.
    backend : Backend, optional
        Where clusters run; by default what the configuration names.
    clock : callable
        Returns the time, in seconds since the epoch.
    steady : callable, optional
        Returns seconds that nobody sets, by which it is noticed that the clock was set; None where time passes by hand.

    Raises
    ------
    TidegateError
        When a part cannot work with this configuration or on this machine.
    """
    settings = loaded.settings
    async with AsyncExitStack() as stack:
        store = SqlStore(settings.data, url=database_url(settings), clock=clock, steady=steady)
        await store.start()
        stack.push_async_callback(store.close)

        file = AuditFile(settings.audit.file) if settings.audit.file else None
        audit = Audit(store, clock, file, keep=settings.audit.keep_days * DAY)
        await audit.start()
        stack.push_async_callback(audit.close)

        backend = backend or reach_backend(loaded)
        await backend.start()
        stack.push_async_callback(backend.close)
        backends = {settings.backend.name: backend}

        routing = Routing(store, settings.data / "run")
        await routing.start()
        stack.push_async_callback(routing.close)

        bus = Bus()
        records = Records(store, bus, settings.limits.rules())
        budgets = BudgetWatch(settings.budgets.budgets(settings.prices.currency), records, clock)
        await budgets.look()
        metrics = Metrics()
        executor = Executor(records, backends, routing, _launch_files(settings, address), clock, metrics.count_effect)
        reconciler = Reconciler(records, backends, executor, bus, clock, steady=steady)
        sweep = Sweep(store, backends, clock, _sweeping(settings))
        choosing = Choosing(offered(loaded, backend.options(), backend.knows), load_hook(loaded))
        terms = Terms(settings.timeouts.start, ends=_end_rules(settings), prices=settings.prices.prices())
        clusters = Clusters(records, backends, settings.backend.name, bus, clock, choosing, terms)

        clients = Clients(records, routing, clock, time.monotonic)

        hub_users = make_hub_users(loaded)
        if hub_users is not None:
            await hub_users.start()
            stack.push_async_callback(hub_users.close)
        hub_servers = None if hub_users is None else HubServers(hub_users, records, terms.ends, clock)

        by_token = TokenAuthenticator(store)
        logins: dict[str, Authenticator] = {"tokens": by_token, **make_authenticators(loaded)}
        for authenticator in logins.values():
            await authenticator.start()
            stack.push_async_callback(authenticator.close)

        codes = LoginCodes()
        key = KeyFile(settings.data / KEY_FILE).current
        people = settings.authentication
        roster = Roster(people.admins, people.admin_groups, people.groups)
        entries, lifetimes = Entries(logins, routing.end_vouched), _lifetimes(settings)
        services = Services(
            clusters=clusters,
            agents=Agents(records, bus, clock, clientless=clients.clientless),
            usage=Usage(store, clusters, clock, settings.prices.currency, budgets),
            figures=Figures(store, metrics, clock),
            metrics=metrics,
            shares=Shares(clusters, records, routing, clock, _sharing_rules(settings)),
            limits=Limits(records, clock, roster.groups_of),
            store=store,
            audit=audit,
            logins=logins,
            tokens=PersonalTokens(store, by_token, roster, lifetimes, revoked=routing.end_vouched),
            entries=entries,
            sessions=Sessions(key, seconds=people.session_hours * HOUR),
            codes=codes,
            flows=Flows(key),
            login_limits=_login_limits(settings),
            end_vouched=routing.end_vouched,
            roster=roster,
            proxy_address=settings.proxy_address,
            dashboard_host=dashboard_host(settings),
        )
        app = create_app(services, Console())
        parts = (clients, clusters, codes, entries, hub_servers, reconciler, routing, store, sweep)
        yield Gateway(app, audit, budgets, backends, *parts)


def _sweeping(settings: Settings) -> SweepSettings:
    return SweepSettings(keep=settings.history_days * DAY, keep_usage=settings.usage_days * DAY)


def _launch_files(settings: Settings, address: Address) -> LaunchFiles:
    # Agents run beside the gateway here: they reach it where it listens, whatever its public name.
    url = local_url(settings, address)
    cert = settings.tls.cert
    return LaunchFiles(url, lambda: cert.read_text() if cert else None, listener_uid(url))


def _end_rules(settings: Settings) -> EndRules:
    chosen = settings.ends
    return EndRules(
        idle=chosen.idle,
        no_client=chosen.no_client,
        lifetime=chosen.lifetime,
        warn=chosen.warn,
        longest_keep=chosen.longest_keep,
        hub_server_stopped=chosen.hub_server_stopped,
        hub_user_removed=chosen.hub_user_removed,
    )


def _sharing_rules(settings: Settings) -> SharingRules:
    chosen = settings.sharing
    return SharingRules(
        enabled=chosen.enabled,
        groups=chosen.groups,
        links=chosen.links,
        longest_link=chosen.longest_link_days * DAY,
        own_hosts=dashboard_host(settings) is not None,
    )


def _login_limits(settings: Settings) -> LoginLimits:
    chosen, trusted = settings.authentication.login_limits, TrustedProxies(settings.trusted_proxies)
    # As in the proxy: behind another one that we do not know, all come from its address.
    known = trusted or not settings.public_url
    allowance = Allowance(chosen.wrong_passwords, chosen.longest_delay, chosen.per_address)
    return LoginLimits(allowance, trusted.share_an_address if known else lambda _: True)


def _lifetimes(settings: Settings) -> Lifetimes:
    chosen = settings.authentication.tokens
    return Lifetimes(chosen.default_days * DAY, chosen.max_days * DAY, chosen.max_days_by_service * DAY)
