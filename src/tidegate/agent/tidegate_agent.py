"""The agent: runs inside a cluster's scheduler, and is the gateway's only contact with it.

How to think about it
---------------------
The gateway hands this one file over at launch, as a preload of the scheduler. It needs the standard library and
``distributed`` and nothing else, so any image with Dask in it will do: Python >= 3.9, distributed >= 2024.1. (That it
must travel alone is why it is longer than a file should be.)

The agent calls out, nothing calls in: it reports facts (where the scheduler listens, which workers it has, which it
retired, how many the load asks for, for how long nothing has run) and is told the whole wanted state. Four loops share
the work:

* *report* posts the facts, at once when something changed, else now and then;
* *follow* waits at the gateway for the wanted state to change;
* *size* compares the two: it looks at the load of groups that are adaptive, and retires workers that are too many.
  Starting workers is the gateway's affair;
* *rest* looks whether anything runs. Ending what rests is the gateway's affair too, while it answers.

A gateway that is away changes nothing: the loops try again for ever, and the computation goes on. Only a scheduler on
which nothing runs, for longer than it may, ends by itself, when nobody has answered for a while. Workers are retired
only while the gateway answers, so that it knows of the smaller size before it sees a worker end.

The scheduler's own HTTP server answers only to whoever knows the cluster's dashboard secret. ``distributed`` runs the
body of this module, several times, before that server exists: the guard is put up in the body, and there is no moment
without it. Whatever would leave the server open ends the process instead.

Whoever uses the cluster by a share has a certificate of an authority of its own, which the scheduler trusts beside that
of its workers and its owner. What the gateway says is withdrawn is refused, and what is connected with it is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import platform
import random
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib import metadata
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import dask
from dask.utils import parse_timedelta
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.http.routing import RoutingApplication
from distributed.http.utils import get_handlers
from distributed.preloading import process_preloads
from tornado.httpclient import HTTPError
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from tornado.web import ErrorHandler

logger = logging.getLogger("distributed.scheduler.tidegate")

HEADER = "X-Tidegate-Dashboard"

EXIT_UNGUARDED = 70
"""Exit status of a process that cannot guard itself (``EX_SOFTWARE`` of sysexits.h)."""

PACKAGES = ("dask", "distributed", "cloudpickle", "msgpack", "tornado", "toolz", "numpy", "pandas", "pyarrow", "lz4")
"""Whose versions are reported: what a client's must fit (as ``distributed.versions`` has it), and the usual formats."""

IMPORTED_IF_THERE = ("lz4",)
"""Which of them ``distributed`` has imported already, if they are there."""

KEPT_RETIRED = 1000
"""Retired names that are repeated although the gateway took them (14 kB a report): its database may be restored."""


# Named tuples, and no data classes: those are compiled when this file is run, and a cluster waits for 3 ms more.


class Settings(NamedTuple):
    """What the gateway handed over: who we are, where it is, and the secrets between us."""

    cluster: str
    attempt: int
    url: str
    token: str
    dashboard_secret: str
    ca: str | None
    clients_ca: str | None = None  # of those who use the cluster by a share
    listener_uid: int | None = None  # the OS user of a gateway that is reached in the clear, on this machine

    def __repr__(self) -> str:
        return f"<Settings of cluster {self.cluster}, attempt {self.attempt}>"

    @classmethod
    def load(cls) -> Settings:
        """Read the file that ``TIDEGATE_AGENT_FILE`` names, or exit with a sentence."""
        path = os.environ.get("TIDEGATE_AGENT_FILE", "")
        try:
            with open(path, encoding="utf-8") as file:
                given = json.load(file)
            settings = cls(**{name: given[name] for name in cls._fields if name in given})
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise SystemExit(f"cannot start without an agent file: TIDEGATE_AGENT_FILE={path!r}: {why}") from None
        if not settings.dashboard_secret:
            raise SystemExit(f"cannot start: the dashboard_secret in {path} is empty, which would open the dashboard")
        return settings


# -- the guard; tidegate_worker.py has the same, since it too travels alone ------------------------------------------


def guard_http(secret: str) -> None:
    """Make the HTTP servers of ``distributed`` in this process answer 404 to every request without ``secret``."""
    current = RoutingApplication.find_handler
    unguarded = getattr(current, "tidegate_unguarded", current)
    expected = secret.encode()

    def find_handler(self: Any, request: Any, **kwargs: Any) -> Any:
        if not hmac.compare_digest(request.headers.get(HEADER, "").encode(), expected):
            return self.get_handler_delegate(request, ErrorHandler, {"status_code": 404})
        # It goes no further: Bokeh would copy the headers into its pages, and Dask's proxy send them on to other hosts.
        del request.headers[HEADER]
        getattr(self, "tidegate_on_admission", bool)()
        return unguarded(self, request, **kwargs)

    guarded: Any = find_handler
    guarded.tidegate_unguarded = unguarded
    RoutingApplication.find_handler = guarded


def require_guard(server: Any) -> None:
    """Raise unless the HTTP server of ``server`` is of the kind that ``guard_http`` guards."""
    kind = type(server.http_application)
    if not hasattr(getattr(kind, "find_handler", None), "tidegate_unguarded"):
        raise RuntimeError(f"cannot guard an HTTP server of the kind {kind.__name__}: this distributed is too new")


async def start_configured_preloads(server: Any, kind: str, file_dir: str | None = None) -> None:
    """Start the preloads that the environment configures for ``kind``: ours, on the command line, took their place."""
    present = {preload.name for preload in server.preloads}
    configured = dask.config.get(f"distributed.{kind}.preload") or []
    names = [name for name in ([configured] if isinstance(configured, str) else configured) if name not in present]
    argv = dask.config.get(f"distributed.{kind}.preload-argv") if names else []
    server.tidegate_preloads = process_preloads(server, names, argv, file_dir=file_dir)
    await server.tidegate_preloads.start()


async def stop_configured_preloads(server: Any) -> None:
    """Let them tear down what they set up."""
    if hasattr(server, "tidegate_preloads"):
        await server.tidegate_preloads.teardown()


def make_pages_late(scheduler: Any) -> None:
    """Have the dashboard's pages made when the first request is let in, if Dask has not made them.

    The scheduler is started with ``--no-dashboard``. To make its pages takes a third of the time that it needs to
    start, and megabytes for as long as it runs; most clusters are never looked at. It takes as long as ever, later.
    """
    application = scheduler.http_application

    def make() -> None:
        del application.tidegate_on_admission
        try:
            from distributed.dashboard.scheduler import connect
        except ImportError:  # There is no Bokeh: Dask has a page that says so.
            routes = get_handlers(scheduler, ["distributed.http.scheduler.missing_bokeh"], prefix="/")
            application.add_handlers(".*$", routes)
        else:
            connect(application, scheduler.http_server, scheduler, prefix="")

    if not application.applications:
        application.tidegate_on_admission = make


# -- what the gateway says, and the way to it ------------------------------------------------------------------------


class Size(NamedTuple):
    """The wanted size of one group; where there are bounds, the load decides it."""

    wanted: int
    minimum: int | None
    maximum: int | None

    @property
    def is_adaptive(self) -> bool:
        """Whether the load decides."""
        return self.minimum is not None and self.maximum is not None

    def clamp(self, count: int) -> int:
        """Return ``count``, held within the bounds."""
        return max(self.minimum or 0, min(count, self.maximum or 0))


class Wanted(NamedTuple):
    """The whole wanted state; ``version`` names its content."""

    version: str
    exit: bool
    groups: Mapping[str, Size]
    withdrawn: frozenset[int] = frozenset()  # serial numbers of certificates
    revocations: str = ""  # PEM
    question: int = 0  # counts the times that the gateway asked whether anything runs
    tell_idle_after: float | None = None  # seconds for which nothing must run before it wants to know
    idle_timeout: float | None = None  # seconds after which we may end by ourselves, while it is away
    kept_until: float = 0.0  # the time before which we may not

    def __repr__(self) -> str:
        return f"<Wanted {self.version}>"

    @classmethod
    def parse(cls, body: bytes) -> Wanted:
        """Return the state that the gateway's JSON says."""
        given = json.loads(body)
        groups = {name: Size(g["wanted"], g["minimum"], g["maximum"]) for name, g in given["groups"].items()}
        return cls(
            version=str(given["version"]),
            exit=given["exit"] is True,
            groups=groups,
            withdrawn=frozenset(int(serial, 16) for serial in given.get("withdrawn", ())),
            revocations=str(given.get("revocations", "")),
            question=int(given.get("question", 0)),
            tell_idle_after=given.get("tell_idle_after"),
            idle_timeout=given.get("idle_timeout"),
            kept_until=given.get("kept_until") or 0.0,
        )


class Away(Exception):
    """The gateway did not answer as it should; a later try may do."""


class Refused(Away):
    """The gateway does not know this cluster's token."""


class Gateway:
    """Requests to the gateway: each has a deadline, bears the token in a header, and goes through no proxy."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.url.rstrip("/")
        self._listener_uid = settings.listener_uid
        self._options: dict[str, Any] = {
            "headers": {"Authorization": f"token {settings.token}", "Content-Type": "application/json"},
            "follow_redirects": False,  # they would carry the token to wherever they point
            "connect_timeout": 10.0,
        }
        if settings.ca:
            self._options["ssl_options"] = trust_only(settings.ca, urlsplit(self._url).hostname or "")
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=1024 * 1024)

    async def report(self, facts: Mapping[str, Any]) -> Wanted:
        """Tell the facts; return what is wanted."""
        return await self._fetch("/report", method="POST", body=json.dumps(facts), request_timeout=15.0)

    async def follow(self, attempt: int, have: str) -> Wanted:
        """Return what is wanted, as soon as it is not ``have`` any more, or after the 50 s that the gateway holds."""
        query = urlencode({"attempt": attempt, "have": have})
        return await self._fetch(f"/wanted?{query}", request_timeout=65.0)

    def close(self) -> None:
        """Break off what is under way."""
        self._client.close()

    async def _fetch(self, path: str, **options: Any) -> Wanted:
        try:
            if self._listener_uid is not None:
                check_listener(self._url, self._listener_uid)
            response = await self._client.fetch(self._url + path, **self._options, **options)
            return Wanted.parse(response.body)
        except HTTPError as error:
            raise (Refused if error.code == 401 else Away)(str(error)) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Away(f"{type(error).__name__}: {error}") from None


def check_listener(url: str, uid: int) -> None:
    """Raise ``Away`` when another OS user than ``uid`` listens where the gateway should: the token is not for them.

    While the gateway is down, any user of this machine could take its port. Linux tells whose listener is there; where
    it tells nothing, there is none, or none that can be seen from here.
    """
    parts = urlsplit(url)
    listeners = find_listeners(parts.port or 80)
    for address in ("127.0.0.1", "::1") if parts.hostname == "localhost" else (parts.hostname or "",):
        # Who listens on every address gets what nobody on that address takes, and with IPv6 what comes by IPv4 too.
        ways = [address, "::"] if ":" in address else [address, f"::ffff:{address}", "0.0.0.0", "::"]  # noqa: S104
        found = next((listeners[key] for key in map(encode_address, ways) if key in listeners), uid)
        if found != uid:
            raise Away(f"what listens at {parts.netloc} belongs to the OS user {found}, not to {uid}: nothing was sent")


def find_listeners(port: int) -> dict[bytes, int]:
    """Return the uid of each listener on ``port``, by its address; the kernel is asked, see sock_diag(7)."""
    listeners: dict[bytes, int] = {}
    for family, length in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        with contextlib.suppress(OSError, AttributeError):  # a sandbox that does not let us ask, or not Linux
            for address, uid in ask_kernel(family, port):
                listeners[address[:length]] = uid
    return listeners


def ask_kernel(family: int, port: int) -> Iterator[tuple[bytes, int]]:
    """Yield address and uid of each TCP listener on ``port``."""
    # inet_diag_req_v2: family, protocol, the states asked for (10 is LISTEN), and of the socket's identity its port.
    request = struct.pack("=BBBBIHxx44x", family, socket.IPPROTO_TCP, 0, 0, 1 << 10, socket.htons(port))
    # nlmsghdr: length, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP.
    head = struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as link:  # NETLINK_SOCK_DIAG
        link.settimeout(1.0)
        link.send(head + request)
        while True:
            answer = link.recv(65536)
            while answer:
                length, kind = struct.unpack_from("=IH", answer)
                if kind != 20:  # the end, or an error
                    return
                # inet_diag_msg: of the socket's identity port and address, and further on the uid.
                found, address, uid = struct.unpack_from("=4x2s2x16s16x12x12xI", answer, 16)
                if int.from_bytes(found, "big") == port:
                    yield address, uid
                answer = answer[(length + 3) & ~3 :]


def encode_address(address: str) -> bytes:
    """Return an IP address as the kernel has it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def trust_only(ca: str, host: str) -> ssl.SSLContext:
    """Return a context that trusts ``ca`` alone: one or more authorities in PEM, or the gateway's own certificate."""
    end = "-----END CERTIFICATE-----"
    first = ssl.create_default_context(cadata=ca[: ca.find(end) + len(end)] + "\n")
    is_pin = first.cert_store_stats()["x509_ca"] == 0
    context = first if is_pin else ssl.create_default_context(cadata=ca)
    context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)  # named since Python 3.10
    # Python 3.13 refuses old-fashioned certificates by default; the administrator has decided on this one.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # A pinned certificate needs no name, and one for a public name hardly ever names the loopback address too.
    context.check_hostname = not (is_pin or host in ("127.0.0.1", "::1", "localhost"))
    return context


# -- size ------------------------------------------------------------------------------------------------------------


class Timing(NamedTuple):
    """The agent's numbers, in seconds.

    ``heartbeat`` is how often it reports without news, in case the gateway has lost what it was told: rarely, for a
    report costs 6 ms, and to follow shows that we are there. ``coalesce`` is the least time between two reports.
    ``gather`` is for how long it may remain untold that a worker has come while more of them are on their way: each
    report is told on, and all that it sets in motion takes of the machine on which they start. The first and the last
    worker are told at once. ``look`` is the least time between two looks at the load.
    ``backoff`` is the first and the longest pause after a failure. ``refused`` is how long the gateway may not know us
    before we end: time for an administrator who restores a database. ``retry`` is the pause after workers had to stay.
    ``handshake`` is how long after a withdrawal connections are looked for that were being made meanwhile: longer than
    Dask waits for one.
    ``end`` is what a clean end may take: a thread of the user's that never ends would keep the process alive for ever.
    ``rest`` is how often it looks whether anything runs. ``grace`` is for how long the gateway must be away, and for
    how long nothing must run beyond what is allowed, before a scheduler ends by itself: an upgrade takes minutes. It is
    no longer than the idle time itself: who ends clusters after two minutes does not want this one to stay for fifteen.
    """

    heartbeat: float = 120.0
    coalesce: float = 0.05
    gather: float = 0.5
    look: float = 0.01
    backoff: tuple[float, float] = (0.1, 5.0)
    refused: float = 600.0
    retry: float = 5.0
    handshake: float = 60.0
    end: float = 10.0
    rest: float = 1.0
    grace: float = 900.0


class Demand:
    """How many workers the load asks for: up at once, down only to the most that the last few looks asked for.

    A low look says little: while workers are on their way, or between two steps of a computation, there is for a
    moment nothing to do. ``distributed.deploy.Adaptive`` waits in the same way (``wait-count``).
    """

    def __init__(self, size: int, looks: int) -> None:
        self.size = size
        self._looks: deque[int] = deque(maxlen=looks)

    def look(self, target: int, counts: bool) -> bool:
        """Take in what the load asks for now, and whether this look ``counts``; return whether ``size`` changed."""
        before = self.size
        if target > self.size:
            self.size = target
            self._looks.clear()
        elif counts:
            self._looks.append(target)
            if len(self._looks) == self._looks.maxlen:
                self.size = min(self.size, max(self._looks))
        return self.size != before


class Sizing:
    """Follows the wanted sizes: looks at the load, and retires workers that are too many."""

    def __init__(self, scheduler: Any, timing: Timing, news: asyncio.Event, report: Callable[[], Awaitable[Wanted]]):
        self._scheduler = scheduler
        self._timing = timing
        self._news = news  # set when there is something to report
        self._report = report  # waits until the gateway has taken the present facts, and returns what it wants
        # Dask's own knobs, where its users look for them.
        self._interval: float = parse_timedelta(dask.config.get("distributed.adaptive.interval") or "1s")
        self._looks: int = max(1, dask.config.get("distributed.adaptive.wait-count") or 3)
        self._next_look = 0.0
        self._due = asyncio.Event()
        self.groups: Mapping[str, Size] = {}
        self._demands: dict[str, Demand] = {}
        self.retired: dict[str, None] = {}  # names, oldest first
        self._retiring: dict[str, str] = {}  # address to name, while results are being moved away
        self._choosing: set[str] = set()  # groups in which a retirement is about to begin
        self._retry_at: dict[str, float] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    def set_groups(self, groups: Mapping[str, Size]) -> None:
        """Take the wanted sizes; a group that becomes adaptive starts from the size that it has."""
        before = self.demand()
        self.groups = groups
        adaptive = {name: size for name, size in groups.items() if size.is_adaptive}
        self._demands = {n: self._demands.get(n) or Demand(size.wanted, self._looks) for n, size in adaptive.items()}
        for name, size in adaptive.items():
            self._demands[name].size = size.clamp(self._demands[name].size)
        if self.demand() != before:
            self._news.set()
        self._retry_at.clear()
        self._due.set()

    def demand(self) -> dict[str, int]:
        """Return, for each adaptive group, how many workers the load asks for."""
        return {name: demand.size for name, demand in self._demands.items()}

    def load_changed(self) -> None:
        """Look soon."""
        if self._demands:
            self._due.set()

    def workers_changed(self, removed: str = "") -> None:
        """Look soon; a worker that goes while it is being retired *is* retired."""
        name = self._retiring.pop(removed, None)
        if name is not None:
            self.retired[name] = None
        self._due.set()

    def members(self, group: str) -> dict[str, str]:
        """Return address to name of the registered workers of ``group``: those with a name that the gateway gives."""
        members = {}
        for address, worker in self._scheduler.workers.items():
            head, _, number = str(worker.name).rpartition("-")
            if head == group and number.isdecimal():
                members[address] = str(worker.name)
        return members

    def awaits_more(self) -> bool:
        """Return whether workers are here and more of them are wanted."""
        return len(self._scheduler.workers) > 1 and any(self._surplus(group) < 0 for group in self.groups)

    async def size(self) -> None:
        """Wait until there is something to look at, look, and begin what follows."""
        is_watching = bool(self._demands) or any(self._surplus(group) > 0 for group in self.groups)
        await wait_for_event(self._due, self._interval if is_watching else None)
        now = asyncio.get_running_loop().time()
        counts = now >= self._next_look
        if counts:
            self._next_look = now + self._interval
        self._look_at_load(counts)
        for group in self.groups:
            if group not in self._choosing and self._surplus(group) > 0 and now >= self._retry_at.get(group, 0.0):
                self._choosing.add(group)
                task = asyncio.ensure_future(self._retire(group))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(self._timing.look)

    def close(self) -> None:
        """Let go of what is under way."""
        for task in self._tasks:
            task.cancel()

    def _look_at_load(self, counts: bool) -> None:
        if not self._demands:
            return
        # Dask's target is for the whole cluster: the part of other workers is not for these groups to fill.
        others = len(self._scheduler.workers) - sum(len(self.members(group)) for group in self._demands)
        target = self._scheduler.adaptive_target() - others
        for group, demand in sorted(self._demands.items()):
            share = self.groups[group].clamp(target)
            target -= share
            if demand.look(share, counts):
                self._news.set()

    def _surplus(self, group: str, wanted: Wanted | None = None) -> int:
        """Return how many workers of ``group`` are too many for us, or for ``wanted``; those that are going are not."""
        groups = wanted.groups if wanted else self.groups
        if group not in groups:
            return 0
        goal = groups[group].wanted
        if not wanted and group in self._demands:
            goal = min(goal, self._demands[group].size)  # less than the load asks for, while others wait
        return len(self.members(group).keys() - self._retiring.keys()) - goal

    def _choose(self, group: str, surplus: int) -> dict[str, str]:
        """Return address to name of workers to retire: in Dask's own judgement the idle ones with the least data."""
        members = self.members(group)
        ranked = self._scheduler.workers_to_close(n=len(self._scheduler.workers))
        candidates = [address for address in ranked if address in members and address not in self._retiring]
        return {address: members[address] for address in candidates[:surplus]}

    async def _retire(self, group: str) -> None:
        """Close surplus workers of ``group``, after Dask has moved their results to others."""
        try:
            # The gateway must know the size first, or it would replace what is about to go. And if it wants more than
            # we have heard of yet, those that seem too many are the first of the new ones.
            wanted = await self._report()
            surplus = min(self._surplus(group), self._surplus(group, wanted))
            if surplus <= 0:
                return
            chosen = self._choose(group, surplus)
            self._retiring.update(chosen)
        finally:
            self._choosing.discard(group)
        done: Mapping[str, Any] = {}
        try:
            if chosen:
                names = list(chosen.values())
                done = await self._scheduler.retire_workers(names=names, remove=True, close_workers=True)
        except Exception:
            logger.exception("cannot retire workers %s", ", ".join(chosen.values()))
        for address in chosen:  # those that went are out already (``workers_changed``); the others stay in use
            self._retiring.pop(address, None)
        if len(done) < surplus and self._surplus(group) > 0:
            if group not in self._retry_at:  # said once, tried again and again
                words = "Group %s keeps %d workers too many for now: their data fits nowhere else, or their tasks go on"
                logger.info(words, group, self._surplus(group))
            self._retry_at[group] = asyncio.get_running_loop().time() + self._timing.retry
        self._due.set()


# -- rest ------------------------------------------------------------------------------------------------------------


class Rest:
    """For how long nothing has run on this cluster, by a clock that nobody sets. When in doubt, something runs.

    What counts is not only tasks: an actor works unseen, a thread that a task left behind uses a worker's cores, and a
    large result may be on its way for an hour when the last task has ended. Who connects is about to do something.
    """

    OPERATIONS = frozenset({"gather", "scatter", "broadcast", "proxy", "run_function", "rebalance", "replicate"})
    """Requests to the scheduler that are work; the others are short, or only listen."""

    BUSY_PERCENT = 50.0
    """Of a core: an idle worker uses 2 to 5."""

    def __init__(self, scheduler: Any, news: asyncio.Event) -> None:
        self._scheduler = scheduler
        self._news = news  # set when there is something to report
        self._since: float | None = None
        self._mark: float | None = None
        self._told = False  # whether the gateway knows that nothing runs, or is about to
        self.tell_after: float | None = None

    def look(self) -> None:
        """Look whether anything runs; there is news when that has changed."""
        if self._is_busy():
            self.interrupt()
        elif self._since is None:
            self._since = asyncio.get_running_loop().time()
        elif not self._told and self._to_tell() is not None:
            self._news.set()

    def interrupt(self) -> None:
        """Take note that something runs, or is about to."""
        self._since = None
        if self._told:
            self._told = False
            self._news.set()

    def seconds(self) -> float:
        """Return for how long nothing has run."""
        return 0.0 if self._since is None else asyncio.get_running_loop().time() - self._since

    def report(self) -> float | None:
        """Look once more, and return what to report: the seconds, or None if it is not worth telling."""
        if self._is_busy():
            self._since = None
        told = self._to_tell()
        self._told = told is not None
        return told

    def _to_tell(self) -> float | None:
        seconds = self.seconds()
        if self._since is None or self.tell_after is None or seconds < self.tell_after:
            return None
        return seconds

    def _is_busy(self) -> bool:
        # Dask's own judgement is that of tasks: since when none has run, or None at the first look after one has. Where
        # an idle timeout of Dask's is configured, somebody else looks too: then the time has changed.
        mark, before = self._scheduler.check_idle(), self._mark
        self._mark = mark
        if mark is None or mark != before:
            return True
        if any(op in self.OPERATIONS for op in self._scheduler._comms.values()):
            return True
        workers = self._scheduler.workers.values()
        return any(w.actors or (w.metrics.get("cpu") or 0.0) > self.BUSY_PERCENT for w in workers)


# -- those who connect by a share ------------------------------------------------------------------------------------


class Clients:
    """Lets in those who use the cluster by a share, and out those whose share is withdrawn.

    They come with certificates of an authority that the scheduler trusts as a listener only. Workers do not know it,
    and neither does the scheduler where it calls others.
    """

    FAREWELL = "This cluster is no longer shared with you for use: its scheduler ends the connection"

    FAREWELL_SECONDS = 0.05
    """For that to go out: Dask sends what it gathers after 2 ms."""

    def __init__(self, scheduler: Any, authority: str | None, timing: Timing) -> None:
        self._scheduler = scheduler
        self._authority = authority
        self._timing = timing
        self._withdrawn: frozenset[int] = frozenset()
        self._cutting: asyncio.Future[None] | None = None

    def admit(self) -> None:
        """Let them in from now on."""
        if self._authority:
            for server in self._servers():
                server.ssl_options.load_verify_locations(cadata=self._authority)

    def refuse(self, withdrawn: frozenset[int], revocations: str) -> None:
        """Let nobody in any more who has one of these certificates, and cut who is here with one.

        A certificate that was withdrawn stays so. What an older answer does not name yet is refused all the same.
        """
        if not self._authority or withdrawn <= self._withdrawn:
            return
        context = self._make_context(revocations)
        for server in self._servers():
            server.ssl_options = context
        self._withdrawn |= withdrawn
        if self._cutting is not None:
            self._cutting.cancel()
        self._cutting = asyncio.ensure_future(self._cut())

    def close(self) -> None:
        """Let go of what is under way."""
        if self._cutting is not None:
            self._cutting.cancel()

    def _servers(self) -> list[Any]:
        """Return the listening servers that speak TLS."""
        servers = [getattr(listener, "tcp_server", None) for listener in self._scheduler.listeners]
        return [s for s in servers if isinstance(getattr(s, "ssl_options", None), ssl.SSLContext)]

    def _make_context(self, revocations: str) -> ssl.SSLContext:
        """Return what to listen with from now on.

        A new one each time: no TLS session of the one before can be resumed with it, for whoever resumes one is not
        asked for a certificate; and it holds the lists of now alone.
        """
        context: ssl.SSLContext = self._scheduler.security.get_listen_args("scheduler")["ssl_context"]
        context.load_verify_locations(cadata=self._authority)
        # Lists are read from files only.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(revocations)
            file.flush()
            context.load_verify_locations(cafile=file.name)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context

    async def _cut(self) -> None:
        """Cut who is here, and for a while who was about to be: their handshake may have begun before."""
        end = asyncio.get_running_loop().time() + self._timing.handshake
        while asyncio.get_running_loop().time() < end:
            found = [comm for comm in list(self._scheduler._comms) if self._is_withdrawn(comm)]
            if found:
                self._say_farewell(found)
                await asyncio.sleep(self.FAREWELL_SECONDS)
                for comm in found:
                    comm.abort()
                logger.info("Cut %d connections whose certificate is withdrawn", len(found))
            await asyncio.sleep(min(1.0, self._timing.handshake))

    def _is_withdrawn(self, comm: Any) -> bool:
        peer = comm.extra_info.get("peercert") or {}
        return int(peer.get("serialNumber") or "0", 16) in self._withdrawn

    def _say_farewell(self, comms: list[Any]) -> None:
        """Tell the clients behind these connections why, as a warning in their session."""
        event = {"op": "event", "topic": "warn", "event": (time.time(), self.FAREWELL)}
        for batched in list(self._scheduler.client_comms.values()):
            if getattr(batched, "comm", None) in comms:
                with contextlib.suppress(Exception):  # it is on its way out already
                    batched.send(event)


# -- the agent -------------------------------------------------------------------------------------------------------


async def wait_for_event(event: asyncio.Event, timeout: float | None) -> None:
    """Return when ``event`` is set, or after ``timeout`` seconds; the event is clear then."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), timeout)
    event.clear()


class Agent(SchedulerPlugin):
    """The four loops, and the events of the scheduler that wake them."""

    def __init__(self, scheduler: Any, settings: Settings, timing: Timing | None = None) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._timing = timing or Timing()
        self._gateway = Gateway(settings)
        self._versions = find_versions()
        self._version = ""  # of the wanted state that we follow
        self._news = asyncio.Event()
        self._sizing = Sizing(scheduler, self._timing, self._news, self._reported)
        self._clients = Clients(scheduler, settings.clients_ca, self._timing)
        self._rest = Rest(scheduler, self._news)
        self._question = 0
        self._idle_timeout: float | None = None
        self._kept_until = 0.0
        self._waiting: list[asyncio.Future[Wanted]] = []  # who waits until the gateway has taken the present facts
        self._is_away = False
        self._away_since: float | None = None
        self._refused_since: float | None = None
        self._tasks: list[asyncio.Future[None]] = []
        self._gathering: asyncio.TimerHandle | None = None  # until who has come is told
        self._ending: asyncio.Future[Any] | None = None
        self._is_closed = False

    def begin(self) -> None:
        """Report at once, and go on until the scheduler closes."""
        self._scheduler.add_plugin(self, name="tidegate-agent")
        self._clients.admit()
        self._news.set()
        for step in (self._report, self._follow, self._sizing.size, self._look_for_rest):
            self._tasks.append(asyncio.ensure_future(self._repeat(step)))

    def add_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        """Report who has come; soon, if others are about to."""
        self._sizing.workers_changed()
        if not self._sizing.awaits_more():
            self._news.set()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(self._timing.gather, self._news.set)

    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        """Report who has gone."""
        self._sizing.workers_changed(removed=worker)
        self._news.set()

    def update_graph(self, scheduler: Any, **kwargs: Any) -> None:
        """Look at the load when tasks come. (``transition`` would tell more, but is called for each of a million.)"""
        self._rest.interrupt()
        self._sizing.load_changed()

    def add_client(self, scheduler: Any, client: str) -> None:
        """Take note that somebody is about to do something."""
        self._rest.interrupt()

    async def close(self) -> None:
        """Stop when the scheduler closes."""
        # The flag too: before Python 3.12 ``wait_for`` may swallow a cancellation.
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        self._stop_gathering()
        self._sizing.close()
        self._clients.close()
        self._gateway.close()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do ``step`` for ever, with pauses that grow while it fails."""
        pause, longest = self._timing.backoff
        while not self._is_closed:
            try:
                await step()
                pause = self._timing.backoff[0]
            except Exception as error:
                if isinstance(error, Away):
                    self._note_away(error)
                else:
                    logger.exception("cannot %s; trying again", step.__name__.strip("_"))
                # Hundreds of agents that lost their gateway must not come back in step.
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(2 * pause, longest)

    async def _report(self) -> None:
        await wait_for_event(self._news, self._timing.heartbeat)
        self._stop_gathering()  # all who are here are told of now
        waiting, self._waiting = self._waiting, []
        retired = list(self._sizing.retired)
        try:
            wanted = await self._gateway.report(self._facts())
        except BaseException:
            self._waiting += waiting
            raise
        self._note_back()
        for name in retired[:-KEPT_RETIRED]:
            del self._sizing.retired[name]
        for future in waiting:
            if not future.done():
                future.set_result(wanted)
        # The sizes in a reply to a report may be older than what ``_follow`` was told: only the first reply counts.
        if wanted.exit or not self._version:
            self._obey(wanted)
        await asyncio.sleep(self._timing.coalesce)

    def _stop_gathering(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    async def _reported(self) -> Wanted:
        """Wait until the gateway has taken a report that began after this call; return what it answered."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._news.set()
        return await future

    async def _follow(self) -> None:
        if not self._version:
            await self._reported()
        have, began = self._version, asyncio.get_running_loop().time()
        self._obey(await self._gateway.follow(self._settings.attempt, have))
        self._note_back()
        if self._version == have and asyncio.get_running_loop().time() < began + 1:
            await asyncio.sleep(1)  # something on the way does not hold requests: then once a second must do

    def _facts(self) -> dict[str, Any]:
        return {
            "attempt": self._settings.attempt,
            "port": self._scheduler.port,
            "dashboard_port": self._scheduler.http_server.port,
            "versions": self._versions,
            "workers": [name for group in self._sizing.groups for name in self._sizing.members(group).values()],
            "retired": list(self._sizing.retired),
            "demand": self._sizing.demand(),
            "idle_seconds": self._rest.report(),
            "answer": self._question,
        }

    def _obey(self, wanted: Wanted) -> None:
        if wanted.exit:
            self._end("the gateway does not want this cluster any more")
        elif wanted.version != self._version:
            # Before the version is taken down: what fails here is tried again.
            self._clients.refuse(wanted.withdrawn, wanted.revocations)
            self._version = wanted.version
            self._idle_timeout, self._kept_until = wanted.idle_timeout, wanted.kept_until
            self._rest.tell_after = wanted.tell_idle_after
            if wanted.question != self._question:
                self._question = wanted.question
                self._news.set()
            self._sizing.set_groups(wanted.groups)

    def _note_away(self, error: Away) -> None:
        if not self._is_away:
            logger.warning("The gateway does not answer (%s). The computation goes on, and so do the tries", error)
        self._is_away = True
        # When it is back, it may be another one with other records: tell it all, do not wait for news.
        self._news.set()
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            self._away_since = now
        if not isinstance(error, Refused):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > self._timing.refused:
            self._end(f"the gateway has not known this cluster for {self._timing.refused:g} s")

    def _note_back(self) -> None:
        if self._is_away:
            logger.info("The gateway answers again")
        self._is_away = False
        self._away_since = self._refused_since = None

    async def _look_for_rest(self) -> None:
        await asyncio.sleep(self._timing.rest)
        self._rest.look()
        # Whoever would end an idle cluster is away: it must not run for ever because of that.
        if self._away_since is None or self._idle_timeout is None or time.time() < self._kept_until:
            return
        away = asyncio.get_running_loop().time() - self._away_since
        idle, grace = self._rest.seconds(), min(self._timing.grace, self._idle_timeout)
        if away > grace and idle > self._idle_timeout + grace:
            self._end(f"tidegate: the gateway is away, and nothing has run here for {idle:.0f} s")

    def _end(self, why: str) -> None:
        """Close the scheduler, and with it the process."""
        if self._ending is not None:
            return
        logger.info("Closing the scheduler: %s", why)
        last_resort = threading.Timer(self._timing.end, os._exit, [0])
        last_resort.daemon = True
        last_resort.start()
        # Not one of our tasks: closing the scheduler cancels those.
        self._ending = asyncio.ensure_future(self._scheduler.close(reason=why))
        # Among the last lines of the log, after those about each worker: there one looks for why it ended.
        self._ending.add_done_callback(lambda _: logger.info("Closed the scheduler: %s", why))


def find_versions() -> dict[str, str]:
    """Return the versions of Python and of those packages that are there."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        # A cluster waits for the first report, and to search the file system takes milliseconds.
        if package in sys.modules or package not in IMPORTED_IF_THERE:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[package] = find_loaded_version(package) or metadata.version(package)
    return versions


def find_loaded_version(package: str) -> str:
    """Return what the module of this name says of its version; empty if it is not loaded, or does not tell."""
    module = sys.modules.get(package)
    for name in ("__version__", "version"):
        said = getattr(module, name, None)
        if isinstance(said, tuple):  # as msgpack has it
            said = ".".join(map(str, said))
        if isinstance(said, str):
            return said
    return ""


async def dask_setup(scheduler: Any) -> None:
    """Begin; the scheduler calls this when it listens."""
    try:
        require_guard(scheduler)
        make_pages_late(scheduler)
        Agent(scheduler, SETTINGS).begin()
        await start_configured_preloads(scheduler, "scheduler")
    except Exception:
        # The scheduler would only log this, and go on without us.
        logger.critical("cannot go on: the gateway's agent does not start", exc_info=True)
        logging.shutdown()
        os._exit(EXIT_UNGUARDED)


async def dask_teardown(scheduler: Any) -> None:
    """End what ``dask_setup`` began; the agent itself ends as a plugin of the scheduler."""
    await stop_configured_preloads(scheduler)


SETTINGS = Settings.load()
guard_http(SETTINGS.dashboard_secret)
