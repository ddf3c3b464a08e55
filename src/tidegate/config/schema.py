"""Every setting of the gateway, declared once: its type, unit, default and reason.

The YAML file that an administrator writes has exactly this shape. What the reference page and ``tidegate config
explain`` say about a setting is the docstring below its field, so a setting without one cannot be added.

A setting that is null in the file is at its default. Paths may begin with ``~`` and are relative to the folder of the
file in which they stand.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tidegate.config.budgets import BudgetSettings
from tidegate.config.database import DatabaseSettings
from tidegate.config.limits import LimitSettings
from tidegate.config.options import OptionSettings, ProfileSettings
from tidegate.config.prices import PriceSettings
from tidegate.settings import Duration, FilePath, Section, Unit


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 is any free one; a restart keeps it while clusters run."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT``; an IPv6 address stands in brackets.

        >>> Address.parse("[::1]:8000")
        Address(host='::1', port=8000)
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not host or not port.isascii() or not port.isdigit() or (":" in host and not bracketed):
            raise ValueError("write HOST:PORT, such as 127.0.0.1:8000 or [::1]:8000")
        if int(port) > 65535:
            raise ValueError("a port is at most 65535")
        return cls(host.strip("[]"), int(port))

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def default_data() -> Path:
    """Return the folder for data of this OS user (XDG base directory specification)."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "tidegate"


def _check_address(text: str) -> str:
    Address.parse(text)
    return text


def _check_prefix(text: str) -> str:
    if text and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text):
        raise ValueError("write a path that begins and does not end with '/', such as /services/dask-gateway")
    return text


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("write a URL such as https://dask.example.org or https://hub.example.org/services/dask")
    return text.rstrip("/")


def _check_network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError("write an address or a network, such as 10.0.0.7 or 10.0.0.0/24") from None


def _check_host_pattern(text: str) -> str:
    if not re.fullmatch(r"\{name\}(\.[a-z0-9-]+)+", text):
        raise ValueError("write '{name}.' and a domain, such as {name}.dask.example.org")
    return text


class Tls(Section):
    """Certificate of the public port. Give both files, or neither."""

    cert: FilePath | None = None
    """PEM file of the certificate, the intermediate authorities after it. Without one the port speaks plain HTTP,
    which is refused beyond loopback."""
    key: FilePath | None = None
    """PEM file of the certificate's key, without a password. Only the proxy reads it."""

    @model_validator(mode="after")
    def _both_or_neither(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            missing = "tls.key" if self.key is None else "tls.cert"
            raise ValueError(f"a certificate and its key belong together: {missing} is missing")
        for path in (self.cert, self.key):
            if path is not None and not os.access(path, os.R_OK):
                raise ValueError(f"cannot read {path}")
        return self

    @property
    def enabled(self) -> bool:
        """Whether the public port speaks TLS."""
        return self.cert is not None


class Dashboards(Section):
    """How browsers reach the dashboards of the clusters. A dashboard runs code of its cluster's owner."""

    mode: Literal["auto", "host", "path"] = "auto"
    """``host``: each cluster's dashboard has a host name of its own, so that its pages cannot act with the viewer's
    login. ``path``: below the gateway's own address, shown to the owner alone, for where there is no wildcard DNS.
    ``auto``: ``host`` when users reach the gateway on loopback or ``dashboards.host`` is set, else ``path``."""
    host: Annotated[str, AfterValidator(_check_host_pattern)] | None = None
    """Pattern of those host names. On loopback ``{name}.localhost``, which browsers resolve by themselves; elsewhere
    a domain whose wildcard DNS entry (and certificate) points to the gateway."""


class Audit(Section):
    """Who did what to which cluster, from where, and what came of it."""

    keep_days: Annotated[float, Field(gt=0, le=36500), Unit("days")] = 400
    """How long entries stay in the database: a year, and the time in which somebody looks into it."""
    file: FilePath | None = None
    """File to which entries are written besides, as JSON lines, for whatever collects logs. It is made with mode 0600;
    whoever rotates it moves it aside, and the next line begins a new one. When it cannot be written, the gateway goes
    on and says so in its log."""


class BackendChoice(BaseModel):
    """Where clusters run. Which further settings there are depends on the backend."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    name: str = "local"
    """Name of an entry point in the group ``tidegate.backends``: ``local`` (processes on this machine) or
    ``simulated`` (no processes at all: for tests)."""

    @property
    def settings(self) -> dict[str, Any]:
        """What is set beside the name: for the backend itself to check."""
        return dict(self.model_extra or {})


def _check_logins(value: Any) -> Any:
    # A login whose settings are all at their defaults is named and no more.
    return {name: {} if given is None else given for name, given in value.items()} if isinstance(value, dict) else value


class Tokens(Section):
    """Personal tokens, which users make for their notebooks and programs."""

    default_days: Annotated[float, Field(gt=0, le=36500), Unit("days")] = 90
    """How long one is good when its maker says nothing."""
    max_days: Annotated[float, Field(gt=0, le=36500), Unit("days")] = 366
    """How long one is good at the most. What a token says of its owner's groups is as old as the token."""
    max_days_by_service: Annotated[float, Field(gt=0, le=36500), Unit("days")] = 30
    """The same for one that a program makes with a token of JupyterHub or a ticket of Kerberos, of which nobody knows
    how long they are good: whoever has found one has a token for no longer. People who log in make longer ones."""

    @model_validator(mode="after")
    def _default_fits(self) -> Tokens:
        if self.default_days > self.max_days:
            raise ValueError(f"default_days is {self.default_days:g}, and max_days only {self.max_days:g}")
        return self


class LoginLimits(Section):
    """How often somebody may be wrong about who they are before they have to wait. What counts is something wrong that
    was not said before: a program that repeats an old password is wrong once."""

    wrong_passwords: Annotated[int, Field(ge=1, le=1_000_000), Unit("guesses")] = 10
    """Of one name from one address. After that each has to wait, at first 5 seconds and twice as long each time; after
    an hour without one all is forgotten. Nobody can lock a person out from another address."""
    longest_delay: Annotated[float, Field(gt=0, le=86400), Unit("seconds")] = 300
    """For which such a guess has to wait at the most."""
    per_address: Annotated[int, Field(ge=1, le=1_000_000), Unit("guesses per minute")] = 100
    """From one address, or one /64 of IPv6, whoever is named: passwords, tokens, tickets and logins by another page.
    Not counted for this machine and ``trusted_proxies``, and behind a ``public_url`` without ``trusted_proxies`` for
    nobody, since all have the same address there."""


class Authentication(Section):
    """How people prove who they are. Personal tokens always count; everything else is named here."""

    logins: Annotated[dict[str, dict[str, Any]], BeforeValidator(_check_logins)] = Field(default_factory=dict)
    """The authenticators, by their entry points in the group ``tidegate.authenticators``, each with its own settings.
    They are asked in this order, and the first that knows the caller decides."""
    tokens: Tokens = Tokens()
    """Personal tokens."""
    session_hours: Annotated[float, Field(gt=0, le=720), Unit("hours")] = 12
    """For which a login in the console is good. Whoever was removed from a Hub or a provider goes on for so long at the
    most; who was removed from the file of passwords is out at once."""
    login_limits: LoginLimits = LoginLimits()
    """How often somebody may be wrong."""
    admins: tuple[str, ...] = ()
    """Users who administer the gateway."""
    admin_groups: tuple[str, ...] = ()
    """Groups whose members administer the gateway."""
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Groups that are made here, to each its members, besides those that an authenticator vouches for."""


class Ends(Section):
    """When a cluster ends by itself, so that nobody has to remember to end it; its owner reads afterwards why."""

    idle: Annotated[Duration, Field(gt=0)] = 1800
    """For how long nothing must run on it. What counts as running, and what else keeps a cluster, is in the guide on
    ends. Where users have an option ``idle_timeout``, that counts instead."""
    no_client: Annotated[Duration, Field(gt=0)] = 300
    """For how long all its clients must be gone while nothing runs: the kernel was killed, the laptop closed. Only
    clusters end so that were made with ``shutdown_on_close=True``, the default of the client."""
    lifetime: Annotated[Duration, Field(gt=0)] = math.inf
    """For how long a cluster may run at the most, whatever runs on it. An option ``lifetime`` can make it shorter."""
    warn: Annotated[Duration, Field(ge=0, le=86400)] = 300
    """How long before it ends by ``idle`` or ``lifetime`` this is announced: half of that time at the most. No cluster
    ends before the announcement is so old."""
    longest_keep: Annotated[Duration, Field(gt=0)] = 86400
    """For how long somebody may keep an unused cluster at a time."""
    hub_server_stopped: bool = False
    """Whether a cluster ends within a minute, whatever runs on it, when the notebook server of a JupyterHub has stopped
    from which it was made. Only clusters end so that are made from one from now on, and not with
    ``shutdown_on_close=False``. Needs ``authentication.logins.jupyterhub`` and two scopes at the Hub; ``tidegate config
    check`` names what is missing."""
    hub_user_removed: bool = False
    """Whether a user's clusters end, all of them, when the JupyterHub no longer has that user. Needs the same."""


class Sharing(Section):
    """What users may give each other on their clusters."""

    enabled: bool = True
    """Whether users may share clusters at all. Turned off, what is shared already stays so until it is withdrawn."""
    groups: tuple[str, ...] | None = None
    """Whose members may share. By default everyone may."""
    links: bool = True
    """Whether users may make links, which show a dashboard to whoever has the link, without a login. There are none
    where dashboards have no host names of their own."""
    longest_link_days: Annotated[float, Field(gt=0, le=3650), Unit("days")] = 7
    """How long such a link is good at the most."""


class Proxy(Section):
    """The processes through which everything passes."""

    workers: Annotated[int, Field(ge=1, le=64), Unit("processes")] | None = None
    """How many share the port. By default one per core: one moves about a gigabyte a second, and when one is killed,
    another one goes on with its connections at once."""
    connections: Annotated[int, Field(ge=1), Unit("connections")] = 10_000
    """How many may be open at a time, of all clients. Each process has an equal share of this and of the other limits
    here but ``page_burst``, so a client whose connections are spread unevenly may be refused before. What does not fit
    into the open files that the system allows (``LimitNOFILE=``, six for each connection) is not accepted either. One
    cluster may have a quarter of a process's share; more connections to its scheduler are refused."""
    connections_per_address: Annotated[int, Field(ge=1), Unit("connections")] = 1_000
    """How many may be open at a time from one client address, or one /64 of IPv6. Not counted are this machine and
    ``trusted_proxies``, and behind a ``public_url`` without ``trusted_proxies`` nobody is."""
    page_burst: Annotated[int, Field(ge=1), Unit("pages")] = 20
    """How many dashboard pages of one cluster may be loaded at once, through each process: JupyterLab restores a dozen
    panes together."""
    pages_per_second: Annotated[float, Field(gt=0), Unit("pages per second")] = 1.0
    """... and after that. A page costs the scheduler up to a quarter of a second in which it schedules nothing."""

    @property
    def processes(self) -> int:
        """How many there are."""
        return self.workers or min(64, len(os.sched_getaffinity(0)))


class Timeouts(Section):
    """How long to wait."""

    start: Annotated[float, Field(gt=0, le=86400), Unit("seconds")] = 120
    """From the launch of a scheduler until it must have reported. An interpreter on a cold network file system takes
    a minute."""


class Settings(Section):
    """The gateway."""

    address: Annotated[str, AfterValidator(_check_address)] = "127.0.0.1:8000"
    """Where the gateway listens, ``HOST:PORT``: for the API, the console, the dashboards and the schedulers. Beyond
    loopback only with ``tls``."""
    data: FilePath = Field(default_factory=default_data)
    """Folder for the database, its key, logs and the clusters' files; made with mode 0700. On a local disk: the
    database cannot live on a network file system."""
    database: DatabaseSettings = DatabaseSettings()
    """Where the gateway keeps its records."""
    user: str | None = None
    """Account that the gateway becomes when root starts it. Needed where the backend has to be started as root; then
    only the part that starts clusters stays so. The data folder belongs to this account."""
    prefix: Annotated[str, AfterValidator(_check_prefix)] = ""
    """Path below which all of it is mounted, such as ``/services/dask-gateway``. Empty: at the root."""
    public_url: Annotated[str, AfterValidator(_check_url)] | None = None
    """The address that users write, prefix included, where it is not ``address``: behind another proxy or a name."""
    trusted_proxies: tuple[Annotated[str, AfterValidator(_check_network)], ...] = ()
    """Addresses and networks (``10.0.0.0/24``) of proxies that stand before the gateway. What they say in
    ``X-Forwarded-For`` is taken for the client's address; of anybody else it is ignored."""
    proxy_address: Annotated[str, AfterValidator(_check_address)] | None = None
    """``HOST:PORT`` at which clients reach the schedulers, where what stands at ``public_url`` passes HTTP only.
    By default the host and port of ``public_url``."""
    tls: Tls = Tls()
    """Certificate of the public port."""
    dashboards: Dashboards = Dashboards()
    """How browsers reach the dashboards of the clusters."""
    authentication: Authentication = Authentication()
    """How people prove who they are."""
    backend: BackendChoice = BackendChoice()
    """Where clusters run."""
    options: dict[str, OptionSettings] = Field(default_factory=dict)
    """What users may choose, by name, in the order of the form. Empty: what the backend offers by itself."""
    profiles: dict[str, ProfileSettings] = Field(default_factory=dict)
    """Sets of options under a name, such as ``small`` and ``large``. Users choose one by the option ``profile``;
    without a word from them it is the first."""
    options_hook: str | None = None
    """A function of yours that decides on options what cannot be declared: ``module:function``, or ``FILE.py:function``
    with a path that is relative to this file. It is called with the user's name, their groups and the values of all
    options, and returns the values that it changes; what it raises is told to the user."""
    limits: LimitSettings = LimitSettings()
    """How much may be held at most: by a cluster, a user, a group and all together."""
    prices: PriceSettings = PriceSettings()
    """What it costs to run something."""
    budgets: BudgetSettings = BudgetSettings()
    """How much may be used within a window of days, by a user and by a group."""
    ends: Ends = Ends()
    """When clusters end by themselves."""
    sharing: Sharing = Sharing()
    """What users may give each other on their clusters."""
    proxy: Proxy = Proxy()
    """The processes through which everything passes."""
    timeouts: Timeouts = Timeouts()
    """How long to wait."""
    audit: Audit = Audit()
    """Who did what to which cluster, from where, and what came of it."""
    usage_days: Annotated[float, Field(gt=0, le=36500), Unit("days")] = 400
    """How long it stays on record what each cluster used on each day: a year, and the time in which somebody asks."""
    history_days: Annotated[float, Field(gt=0), Unit("days")] = 30
    """How long a cluster that has ended stays on record, with its events, reason and logs."""
