"""What the handlers work with: handed to ``create_app``, reachable from every request, and nothing global."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from starlette.requests import HTTPConnection

from tidegate.authn.base import Authenticator
from tidegate.authn.codes import LoginCodes
from tidegate.authn.entries import Entries, ends_nothing
from tidegate.authn.flows import Flows
from tidegate.authn.limits import LoginLimits
from tidegate.authn.personal import PersonalTokens
from tidegate.authn.roster import Roster
from tidegate.authn.sessions import Sessions
from tidegate.control.agents import Agents
from tidegate.control.audit import Audit
from tidegate.control.clusters import Clusters
from tidegate.control.figures import Figures
from tidegate.control.limits import Limits
from tidegate.control.shares import Shares
from tidegate.control.usage import Usage
from tidegate.store.base import Store
from tidegate.telemetry.metrics import Metrics

VERSION = version("tidegate")


@dataclass(frozen=True, slots=True)
class Services:
    """The services under the API and the console.

    Parameters
    ----------
    clusters : Clusters
        What users can ask.
    agents : Agents
        What the agents in the schedulers can say and ask.
    shares : Shares
        What users can ask about sharing.
    limits : Limits
        What can be asked about limits.
    store : Store
        For the health check and the tickets of dashboards.
    audit : Audit
        The audit log.
    usage : Usage
        What was used, and who may read it.
    figures : Figures
        What monitoring reads.
    logins : mapping
        The authenticators by the names that the configuration gives them; asked in this order, the first that knows the
        caller decides.
    tokens : PersonalTokens
        What users can ask about their personal tokens.
    entries : Entries
        Whether those who logged in earlier still could.
    sessions : Sessions
        Of browsers.
    codes : LoginCodes
        One-time links into the console.
    flows : Flows
        Logins by another page that have begun.
    login_limits : LoginLimits
        How often somebody may be wrong about who they are.
    roster : Roster
        Groups and administrators that the configuration names.
    end_vouched : callable
        Ends the dashboards that are open because of a session (its mark) that has ended.
    clock : callable
        Returns the time in seconds since the epoch.
    proxy_address : str or None
        ``host:port`` where clients reach schedulers, when that is not where they reach the API.
    metrics : Metrics
        Where figures are counted.
    dashboard_host : str or None
        Pattern of the host name of a cluster's dashboard, with ``{name}`` in it; None where dashboards live below the
        gateway's own address and only their owner sees them.
    """

    clusters: Clusters
    agents: Agents
    shares: Shares
    limits: Limits
    store: Store
    audit: Audit
    usage: Usage
    figures: Figures
    logins: Mapping[str, Authenticator]
    tokens: PersonalTokens
    entries: Entries
    sessions: Sessions
    codes: LoginCodes
    flows: Flows
    login_limits: LoginLimits = field(default_factory=LoginLimits)
    roster: Roster = field(default_factory=Roster)
    end_vouched: Callable[[str], Awaitable[None]] = ends_nothing
    clock: Callable[[], float] = time.time
    metrics: Metrics = field(default_factory=Metrics)
    proxy_address: str | None = None
    dashboard_host: str | None = "{name}.localhost"

    @property
    def authenticators(self) -> Collection[Authenticator]:
        """The authenticators, in the order in which they are asked."""
        return self.logins.values()


def services_of(request: HTTPConnection) -> Services:
    """Return the services of the application that serves this request."""
    services: Services = request.app.state.services
    return services
