"""Requests to one gateway over HTTP: credentials, patience, and errors that people can act on.

Every request may be sent twice. Reading, setting a size and stopping are idempotent, and creating bears an idempotency
key. So whatever fails on the way is simply tried again, for a bounded time: a gateway that was there a moment ago is
probably being restarted and gets ``RESTART_PATIENCE``; one that never answered gets ``FIRST_PATIENCE``, because a wrong
address should be noticed at once.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import yarl

from tidegate.client.answer import RETRIED_STATUSES, Answer
from tidegate.client.auth import GatewayAuth, make_auth
from tidegate.client.config import Settings
from tidegate.client.errors import (
    GatewayAuthError,
    GatewayClusterError,
    GatewayConnectionError,
    GatewayError,
    GatewayServerError,
    GatewayValueError,
)
from tidegate.client.listener import check_listener
from tidegate.client.versions import own_version
from tidegate.wire.names import ON_BEHALF_HEADER

T = TypeVar("T")

CONNECT_SECONDS = 2.0
"""For one connection to be made. Two tries at an address that swallows packets stay below the 5 s that a user accepts
before they believe that something hangs."""

FIRST_PATIENCE = 2.5
"""Seconds during which a gateway that never answered is tried."""

RESTART_PATIENCE = 30.0
"""Seconds during which a gateway that has answered before, or says that it is busy, is tried: a restart takes a few."""

TOTAL_SECONDS = 60.0
"""For one request with its answer. The longest that the gateway holds one is 20 s."""

QUIET_SECONDS = 45.0
"""Of an event stream, after which it is taken for dead: three times the pause between the gateway's signs of life."""

FIRST_BYTE_SECONDS = 3.0
"""Until an event stream must have said something. A proxy that buffers never lets anything through: then we poll."""


class Transport:
    """Sends requests to one gateway.

    Parameters
    ----------
    settings : Settings
        Which gateway, and how to talk to it.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.auth = make_auth(settings.auth_type, settings.auth_kwargs, settings.auth_source)
        self._version = own_version()  # now: it takes milliseconds, and soon somebody waits
        self._session: aiohttp.ClientSession | None = None
        self._answered = False

    async def request(
        self, method: str, path: str, *, json: Any = None, params: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Send a request and return the JSON of the answer (None when it is empty).

        Raises
        ------
        GatewayError
            One of its subclasses, by what went wrong.
        """
        _check_numbers("it", json)
        started = time.monotonic()
        pause = 0.1
        while True:
            waited = time.monotonic() - started
            try:
                answer = await self._send(method, path, json=json, params=params, headers=headers)
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
                if isinstance(error, GatewayError):  # credentials: some of our errors are among Python's own, too
                    raise
                if waited > self._patience or isinstance(error, _HOPELESS):
                    raise self._unreachable(error) from None
            else:
                self._answered = True
                if not answer.worth_another_try or waited > RESTART_PATIENCE:
                    return self._read(answer)
                pause = max(pause, _retry_after(answer))
            await asyncio.sleep(pause)
            # A restart takes seconds: not so many tries that all notebooks together disturb it, not so few that one
            # waits much longer than it takes.
            pause = min(pause * 2, 1.0)

    @asynccontextmanager
    async def stream(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """Open an answer that does not end by itself, and yield an iterator over what comes (None: nothing more will).

        Raises
        ------
        OSError, aiohttp.ClientError, asyncio.TimeoutError
            When it cannot be opened, is cut or falls silent: open it again, or read instead.
        GatewayError
            When the gateway refuses.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=QUIET_SECONDS)
        async with AsyncExitStack() as stack:

            async def begin() -> tuple[aiohttp.ClientResponse, bytes]:
                opening = self._open("GET", path, headers=headers, timeout=timeout)
                response = await stack.enter_async_context(opening)
                return response, await response.content.readany() if response.status == 200 else b""

            # The head too: what buffers on the way may hold back even that.
            response, first = await _within(FIRST_BYTE_SECONDS, begin())
            if response.status != 200:
                answer = Answer(response.status, response.headers, await response.read())
                if answer.worth_another_try:
                    raise aiohttp.ClientConnectionError(f"the gateway answers {answer.status}")
                self._read(answer)
            self._answered = True
            yield _chunks(first, response) if response.status == 200 else None

    async def close(self) -> None:
        """Close all connections. The next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def _patience(self) -> float:
        return RESTART_PATIENCE if self._answered else FIRST_PATIENCE

    async def _send(self, method: str, path: str, **kwargs: Any) -> Answer:
        timeout = aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._open(method, path, timeout=timeout, **kwargs) as response:
            return Answer(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self.settings.address + path
        session = self._get_session()
        # A redirect would take the credentials to an address that nobody chose, and turn POST into GET.
        kwargs |= {"allow_redirects": False, **self._http_proxy()}
        own, proof = self._credentials(url)
        try:
            async with session.request(method, url, headers={**(headers or {}), **own}, **kwargs) as response:
                # What stands before the gateway while that is restarted proves nothing, and only makes us come back.
                if proof is not None and response.status not in (401, *RETRIED_STATUSES):
                    self.auth.check(response, proof)
                if response.status != 401 or own or self._asks_no_second_time:
                    yield response
                    return
                second, context = self.auth.pre_request(response)
            async with session.request(method, url, headers={**(headers or {}), **second}, **kwargs) as response:
                self.auth.post_response(response, context)
                yield response
        except aiohttp.ClientConnectorError:
            self._forget_names()
            raise

    def _credentials(self, url: str) -> tuple[dict[str, str], Any]:
        """Return the headers of one request that say who we are, and what its answer is checked with, if anything."""
        if hasattr(self.auth, "begin"):
            headers, proof = self.auth.begin(url)
            return headers, proof
        return (self.auth.headers(url) if hasattr(self.auth, "headers") else {}), None

    @property
    def _asks_no_second_time(self) -> bool:
        """Whether there is nothing to say to a 401 that was not said at once (dask-gateway's classes wait for it)."""
        pre_request = getattr(type(self.auth), "pre_request", None)
        return pre_request is None or pre_request is GatewayAuth.pre_request

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            # Looked-up names are kept until a connection fails: when the interpreter exits, clusters are still to be
            # stopped, but the threads that look names up are gone by then.
            connector = aiohttp.TCPConnector(ttl_dns_cache=None, ssl=self._ssl_context())
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.CookieJar(unsafe=True),  # cookies also from a host without a name
                headers=self._constant_headers(),
                trace_configs=self._listener_checks(),
            )
            # Not __del__: collected together with us, the session could complain before we close it.
            forgotten = weakref.finalize(self, _close_forgotten, self._session, asyncio.get_running_loop())
            forgotten.atexit = False
        return self._session

    def _constant_headers(self) -> dict[str, str]:
        headers = {"User-Agent": f"tidegate/{self._version}", "Accept": "application/json"}
        if self.settings.on_behalf_of is not None:
            headers[ON_BEHALF_HEADER] = quote(self.settings.on_behalf_of, safe="@")
        return headers

    def _forget_names(self) -> None:
        if self._session is not None and isinstance(self._session.connector, aiohttp.TCPConnector):
            self._session.connector.clear_dns_cache()

    def _listener_checks(self) -> list[aiohttp.TraceConfig]:
        """Return what asks, around each new connection, whose listener is there, where that says something.

        Before, so that a stranger's is not even connected to. And after, before anything is sent: what listens may have
        changed in between.
        """
        uid = self.settings.listener_uid
        is_direct = self.settings.is_on_this_machine and self.settings.proxy_for_http() is None
        if uid is None or not is_direct or self.settings.address.startswith("https:"):
            return []

        async def check(*_: object) -> None:
            check_listener(self.settings.address, uid)

        checks = aiohttp.TraceConfig()
        checks.on_connection_create_start.append(check)
        checks.on_connection_create_end.append(check)
        return [checks]

    def _ssl_context(self) -> ssl.SSLContext | bool:
        if not self.settings.address.startswith("https:"):
            return True  # reading all authorities takes a while, and is for nothing here
        context = ssl.create_default_context()
        if self.settings.ca_file:
            try:
                context.load_verify_locations(cafile=self.settings.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise GatewayValueError(
                    f"cannot read `tidegate.ca-file` {self.settings.ca_file!r} as certificates in PEM form: {error}"
                ) from None
        return context

    def _http_proxy(self) -> dict[str, Any]:
        address = self.settings.proxy_for_http()
        if address is None:
            return {}
        url = yarl.URL(address)
        if url.user is None:
            return {"proxy": url}
        return {"proxy": url.with_user(None), "proxy_auth": aiohttp.BasicAuth(url.user, url.password or "")}

    def _unreachable(self, error: Exception) -> GatewayConnectionError:
        address, source = self.settings.address, self.settings.source
        if isinstance(error, aiohttp.ClientSSLError):
            return GatewayConnectionError(
                f"cannot trust the gateway at {address} (from {source}): {error}. If its certificate comes from an "
                "authority of your own, name that authority's file in `tidegate.ca-file`"
            )
        why = str(error) or type(error).__name__
        if isinstance(error, asyncio.TimeoutError):
            why = "it did not answer in time"
        return GatewayConnectionError(
            f"cannot reach the gateway at {address} (from {source}): {why}. Is it running, and is the address right?"
        )

    def _read(self, answer: Answer) -> Any:
        """Return the JSON of a good answer, or raise what a bad one means."""
        if answer.status in (204, 205):
            return None
        body = answer.json()
        if 200 <= answer.status < 300 and body is not None:
            return body
        error = answer.error
        if not error:
            raise self._not_a_gateway(answer)
        message = str(error.get("message") or f"HTTP status {answer.status}")
        if answer.status == 401:
            raise GatewayAuthError(self._why_refused())
        if incident := error.get("incident"):
            message = f"{message} (tell your administrator the incident {incident})"
        raised = _ERRORS.get(answer.status, GatewayServerError)(message)
        raised.code = str(error.get("code") or "")
        raise raised

    def _why_refused(self) -> str:
        settings = self.settings
        if settings.auth_meant_for:
            return (
                f"cannot log in at the gateway {settings.address}: the credentials in {settings.auth_source} are for "
                f"{settings.auth_meant_for}, and are sent nowhere else. Use that address, or give `auth`"
            )
        return (
            f"cannot log in at the gateway {settings.address}: it refuses the credentials of "
            f"{type(self.auth).__name__} (from {settings.auth_source})"
        )

    def _not_a_gateway(self, answer: Answer) -> GatewayError:
        where = f"{self.settings.address} (from {self.settings.source})"
        if 300 <= answer.status < 400:
            return GatewayServerError(
                f"cannot use {where} as the address of a gateway: it sends us on to "
                f"{answer.headers.get('Location', 'another address')!r}. Use the address that it ends at"
            )
        if answer.worth_another_try:
            return GatewayServerError(
                f"cannot use the gateway at {where}: it answered HTTP status {answer.status} for "
                f"{RESTART_PATIENCE:g} s. Try again later, or tell its administrator"
            )
        kind = answer.headers.get("Content-Type", "nothing").partition(";")[0]
        return GatewayServerError(
            f"cannot use {where} as the address of a Tidegate gateway: what answers there is none (HTTP status "
            f"{answer.status}, {kind}). For a dask-gateway server use `from dask_gateway import Gateway`"
        )


_HOPELESS = (aiohttp.ClientSSLError, aiohttp.InvalidURL)
"""Errors of the connection that another try will not mend."""

_ERRORS: dict[int, type[GatewayError]] = {
    400: GatewayValueError,
    403: GatewayAuthError,
    404: GatewayValueError,
    409: GatewayClusterError,
    413: GatewayValueError,
    422: GatewayValueError,
}


def _close_forgotten(session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop) -> None:
    """Close the session of a client that nobody has closed; from whatever thread collects garbage."""
    if session.closed:
        return
    with suppress(RuntimeError):  # the loop is closed, and its connections with it
        loop.call_soon_threadsafe(lambda: loop.create_task(session.close()))


async def _chunks(first: bytes, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    chunk = first
    while chunk:  # from here on the session's own limit on silence counts
        yield chunk
        chunk = await response.content.readany()


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of ``work``, or raise ``asyncio.TimeoutError``.

    Not ``asyncio.wait_for``: before Python 3.12 it can swallow a cancellation that comes at the same moment as the
    result, and whoever waits for the cancelled task then waits for ever.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            raise asyncio.TimeoutError
        return task.result()
    finally:
        task.cancel()


def _retry_after(answer: Answer) -> float:
    """Return the seconds that the gateway asks for, within reason."""
    try:
        return min(max(float(answer.headers.get("Retry-After", "0")), 0.0), 5.0)
    except ValueError:  # a date: no gateway of ours sends one
        return 1.0


def _check_numbers(name: str, value: Any) -> None:
    """Refuse numbers that JSON does not have, by the name under which they are sent."""
    if isinstance(value, float) and not math.isfinite(value):
        raise GatewayValueError(f"cannot send {name}={value}: it must be a finite number")
    if isinstance(value, Mapping):
        for key, part in value.items():
            _check_numbers(str(key), part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_numbers(name, part)
