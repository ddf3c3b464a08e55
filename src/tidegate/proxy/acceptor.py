"""From an accepted connection to whoever serves it.

Its first bytes are looked at and left where they are. A ClientHello for a cluster's name goes to that cluster; anything
else is HTTP, or HTTPS where the gateway has a certificate. A stranger holds a slot for five seconds, and for
less when slots are short.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial

from tidegate.proxy.certificate import Certificate
from tidegate.proxy.connections import Admission, Waiting
from tidegate.proxy.dial import tune
from tidegate.proxy.hello import Malformed, Name, NotTls
from tidegate.proxy.http_connection import HttpServer
from tidegate.proxy.limits import Limits
from tidegate.proxy.passthrough import UNRECOGNIZED_NAME, Passthrough, cluster_of
from tidegate.proxy.peek import hang_up, peek_hello

ACCEPT_AT_ONCE = 16
"""Connections accepted before the ones that are served get their turn again, and other processes their share."""

PAUSE_SECONDS = 0.1
"""When the machine has run out of descriptors: until the next try."""

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_SPEAK_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"This address speaks HTTPS: use https:// instead of http://\n"
)

logger = logging.getLogger(__name__)


class Acceptor:
    """Accepts connections and hands them on.

    Parameters
    ----------
    listeners : list of socket.socket
        Non-blocking; other processes may accept from them too.
    passthrough : Passthrough
    http : HttpServer
    admission : Admission
    waiting : Waiting
    limits : Limits
    tls : Certificate, optional
        Makes HTTP into HTTPS.
    settled : callable, optional
        Called when nobody is being greeted any more: each one who was accepted is handed on or gone.
    """

    def __init__(
        self,
        listeners: list[socket.socket],
        passthrough: Passthrough,
        http: HttpServer,
        admission: Admission,
        waiting: Waiting,
        limits: Limits,
        tls: Certificate | None = None,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._listeners = listeners
        self._passthrough = passthrough
        self._http = http
        self._admission = admission
        self._waiting = waiting
        self._limits = limits
        self._tls = tls
        self._settled = settled
        self._loop = asyncio.get_running_loop()
        self._greetings: set[asyncio.Task[None]] = set()
        self._resume: dict[socket.socket, asyncio.TimerHandle] = {}
        self._complained_at = 0.0
        self._accepting = False

    @property
    def accepting(self) -> bool:
        """Whether new connections are accepted."""
        return self._accepting

    def start(self) -> None:
        """Accept from now on."""
        self._accepting = True
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def stop(self) -> None:
        """Accept no more. What waits in the kernel's queue is for another process."""
        if not self._accepting:
            return
        self._accepting = False
        for listener in self._listeners:
            self._loop.remove_reader(listener)
        for timer in self._resume.values():
            timer.cancel()
        self._resume.clear()

    def settle(self) -> bool:
        """Accept no more; return whether nobody is being greeted. Greetings have deadlines, so they end soon."""
        self.stop()
        return not self._greetings

    async def close(self) -> None:
        """Accept no more, and let go of connections that have not said anything yet."""
        self.stop()
        for greeting in self._greetings:
            greeting.cancel()
        await asyncio.gather(*self._greetings, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return  # another process was faster
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(listener, error)
                    return
                continue  # the client has left already
            self._admit(sock, str(address[0]))

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Stop for a moment: the listener stays readable, and asking it again and again would help nobody."""
        self._complain("cannot accept connections: %s", error)
        self._loop.remove_reader(listener)
        self._resume[listener] = self._loop.call_later(PAUSE_SECONDS, self._go_on, listener)

    def _go_on(self, listener: socket.socket) -> None:
        del self._resume[listener]
        self._loop.add_reader(listener, self._accept, listener)

    def _admit(self, sock: socket.socket, address: str) -> None:
        release = self._admission.admit(address)
        if release is None:
            self._complain("too many connections: one from %s was closed", address)
            sock.close()
            return
        sock.setblocking(False)
        greeting = self._loop.create_task(self._greet(sock, release))
        self._greetings.add(greeting)
        greeting.add_done_callback(self._greeted)

    def _greeted(self, greeting: asyncio.Task[None]) -> None:
        self._greetings.discard(greeting)
        if not self._greetings:
            self._settled()

    async def _greet(self, sock: socket.socket, release: Callable[[], None]) -> None:
        """Hand the connection on to who takes care of it, or close it."""
        taken = False
        heard = self._waiting.add(partial(_interrupt, sock))
        try:
            taken = await self._hand_on(sock, release, heard)
        except (OSError, TimeoutError, ssl.SSLError) as error:
            logger.debug("a connection came to nothing: %r", error)
        finally:
            heard()
            if not taken:
                sock.close()
                release()

    async def _hand_on(self, sock: socket.socket, release: Callable[[], None], heard: Callable[[], None]) -> bool:
        tune(sock)
        async with asyncio.timeout(self._limits.hello_seconds):
            hello = await peek_hello(sock)
        match hello:
            case Name(name) if (cluster := cluster_of(name)) is not None:
                heard()
                return await self._passthrough.connect(sock, cluster, release)
            case Name() if self._tls is not None:
                return await self._serve_http(sock, release)
            case NotTls() if self._tls is None:
                return await self._serve_http(sock, release)
            case Name():
                hang_up(sock, UNRECOGNIZED_NAME)
            case NotTls():
                hang_up(sock, _SPEAK_TLS)
            case Malformed(why):
                logger.debug("a connection was closed: %s", why)
        return False

    async def _serve_http(self, sock: socket.socket, release: Callable[[], None]) -> bool:
        # From here on aiohttp owns the socket: it is closed by its transport, and the protocol tells when.
        tls = None if self._tls is None else self._tls.context()
        handshake = None if tls is None else self._limits.header_seconds
        connection = partial(self._http.connection, release)
        await self._loop.connect_accepted_socket(connection, sock, ssl=tls, ssl_handshake_timeout=handshake)
        return True

    def _complain(self, message: str, what: object) -> None:
        """Log, but no more than once a second: whoever causes this can cause it often."""
        now = time.monotonic()
        if now - self._complained_at >= 1.0:
            self._complained_at = now
            logger.warning(message, what)


def _interrupt(sock: socket.socket) -> None:
    """Let whoever reads from a connection find its end: closing it is theirs to do."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
