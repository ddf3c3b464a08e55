"""The other side of the agent: a real HTTP server that speaks ``wire/agent.py`` and holds the tests' wishes.

It stands in for the gateway alone. What the agent sends is validated by the gateway's own models, and what it is told
is written by them, so an agent that passes here speaks the language that the gateway reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from aiohttp import web
from pydantic import ValidationError

from tidegate.model.report import Wanted
from tidegate.wire.agent import HOLD_SECONDS, ReportBody, WantedBody
from tidegate.wire.names import AGENT_PATH

CLUSTER = "0123456789abcdef"
TOKEN = "agent-token-that-no-log-may-show"
Bounds = tuple[int, int | None, int | None]


def absorb(wanted: Wanted, report: ReportBody) -> Wanted:
    """Return what is wanted after a report: of an adaptive group as many as the load asks for, within the bounds."""
    groups = dict(wanted.groups)
    for name, (_, minimum, maximum) in wanted.groups.items():
        if minimum is not None and maximum is not None and name in report.demand:
            groups[name] = (max(minimum, min(report.demand[name], maximum)), minimum, maximum)
    return replace(wanted, groups=groups)


class GatewayDouble:
    """Takes reports, answers them, and holds ``wanted`` requests until the wish changes."""

    def __init__(self) -> None:
        self.reports: list[ReportBody] = []
        self.times: list[float] = []
        self.problems: list[str] = []  # what a gateway would have refused
        self.refused = 0
        self.asked = 0
        self.attempt = 1
        self.token = TOKEN
        self.lost: list[ReportBody] = []  # what came while reports were not answered
        # "cut" drops every connection, "502" answers as a reverse proxy would, "reports" takes no reports.
        self.away: str | None = None
        self.is_slow = False  # says nothing new to who waits for it
        self._wanted = Wanted(exit=False, groups={"default": (0, None, None)})
        self._revocations = ""
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        path = AGENT_PATH.format(name=CLUSTER)
        app = web.Application(middlewares=[self._admit])
        app.add_routes([web.post(f"{path}/report", self._report), web.get(f"{path}/wanted", self._follow)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}{path}"

    async def close(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def want(self, groups: Mapping[str, Bounds] | None = None, *, exit: bool = False) -> None:
        """Wish for this from now on."""
        async with self._changed:
            self._wanted = replace(self._wanted, exit=exit, groups=groups or {})
            self._changed.notify_all()

    async def tell(self, **values: object) -> None:
        """Tell what an agent is to know of the ends of its cluster."""
        async with self._changed:
            self._wanted = replace(self._wanted, **values)  # type: ignore[arg-type]
            self._changed.notify_all()

    async def withdraw(self, serials: Iterable[str], revocations: str) -> None:
        """Have these clients' certificates refused from now on."""
        async with self._changed:
            self._wanted = replace(self._wanted, withdrawn=tuple(serials))
            self._revocations = revocations
            self._changed.notify_all()

    async def go_away(self, how: str) -> None:
        """Answer no more; requests that are held end too."""
        async with self._changed:
            self.away = how
            self._changed.notify_all()

    def come_back(self) -> None:
        """Answer again."""
        self.away = None

    async def until(self, predicate: Callable[[ReportBody], object], timeout: float = 60.0) -> ReportBody:
        """Return the latest report as soon as it satisfies ``predicate``."""

        def is_satisfied() -> bool:
            assert not self.problems, self.problems
            return bool(self.reports) and bool(predicate(self.reports[-1]))

        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(is_satisfied), timeout)
            except TimeoutError:
                last = self.reports[-1] if self.reports else None
                raise AssertionError(f"no such report within {timeout:g} s; the last: {last}") from None
            return self.reports[-1]

    @property
    def last(self) -> ReportBody:
        return self.reports[-1]

    @web.middleware
    async def _admit(self, request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
        self.asked += 1
        if self.away == "cut":
            assert request.transport is not None
            request.transport.abort()
        if self.away == "502":
            return web.Response(status=502, text="<html>Bad gateway</html>", content_type="text/html")
        if request.headers.get("Authorization") != f"token {self.token}":
            self.refused += 1
            return web.json_response({"error": "unauthenticated"}, status=401)
        return await handler(request)  # type: ignore[misc]

    def _answer(self, attempt: int) -> WantedBody:
        is_old = attempt != self.attempt
        return WantedBody.from_model(Wanted(exit=True) if is_old else self._wanted, self._revocations)

    async def _report(self, request: web.Request) -> web.Response:
        try:
            report = ReportBody.model_validate_json(await request.read())
        except ValidationError as error:
            self.problems.append(str(error))
            return web.json_response({"error": "invalid"}, status=422)
        if self.away is not None:
            self.lost.append(report)
            return web.Response(status=502)
        async with self._changed:
            self.reports.append(report)
            self.times.append(time.monotonic())
            self._wanted = absorb(self._wanted, report)
            self._changed.notify_all()
        return web.json_response(self._answer(report.attempt).model_dump())

    async def _follow(self, request: web.Request) -> web.Response:
        attempt, have = int(request.query["attempt"]), request.query["have"]

        def is_news() -> bool:
            if self.is_slow:
                return False
            return self.away in ("cut", "502") or self._answer(attempt).version != have

        async with self._changed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait_for(is_news), HOLD_SECONDS)
        if self.away in ("cut", "502"):
            return web.Response(status=502)
        return web.json_response(self._answer(attempt).model_dump())
