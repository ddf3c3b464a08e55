"""What the tests of the proxy are made of: real sockets on loopback, real TLS, a real control's end of the channel.

A ``Rig`` is one proxy in this process, with the servers behind it that a test puts there.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support import eventually
from tidegate.proxy.limits import Limits
from tidegate.proxy.server import Proxy
from tidegate.proxy.settings import Settings
from tidegate.wire.proxy import Route

SECRET = "secret-of-the-dashboard"
TICKET_KEY = "key-of-the-tickets"
_DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority of one cluster, as control makes one."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._certificate = self._sign(self._name, self._key, [x509.BasicConstraints(ca=True, path_length=0)])
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def leaf(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write a certificate for ``name`` and its key; return both files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, [x509.SubjectAlternativeName([x509.DNSName(name)])])
        cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + self.pem.encode())
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file

    def server_context(self, folder: Path, name: str) -> ssl.SSLContext:
        """Return what a server called ``name`` speaks TLS with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.leaf(folder, name))
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return what a client speaks TLS with that trusts this authority, whatever the name."""
        context = ssl.create_default_context(cadata=self.pem)
        context.check_hostname = False
        return context

    def _sign(self, subject: x509.Name, key: Any, extensions: list[x509.ExtensionType]) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())


Session = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Rig:
    """One proxy, listening on loopback.

    Parameters
    ----------
    folder : Path
    settings
        What differs from the defaults, limits among them.
    """

    def __init__(self, folder: Path, *, limits: Limits | None = None, **settings: Any) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.authority = Authority()
        self.settings = Settings(
            run_dir=self.run_dir, listen_fds=(self.listener.fileno(),), limits=limits or Limits(), **settings
        )
        self.proxy = Proxy(self.settings, [self.listener])
        self._running = asyncio.get_running_loop().create_task(self.proxy.run())
        self._servers: list[asyncio.Server] = []
        self._runners: list[web.AppRunner] = []
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def channel_path(self) -> Path:
        """Where control connects."""
        return self.run_dir / f"proxy-{os.getpid()}.sock"

    @property
    def running(self) -> bool:
        """Whether the proxy has not ended."""
        return not self._running.done()

    async def ended(self) -> None:
        """Wait until the proxy has ended."""
        await self._running

    async def close(self) -> None:
        """End everything."""
        for writer in self._writers:
            writer.close()
        for server in self._servers:
            server.close()
        for runner in self._runners:
            await runner.cleanup()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    # What stands behind the proxy.

    async def scheduler(self, name: str, session: Session, *, tls: bool = True) -> Route:
        """Start a TCP server that stands for a scheduler, and publish the way to it."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            try:
                await session(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                self._writers.discard(writer)
                writer.close()

        context = self.authority.server_context(self.folder, name) if tls else None
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        self._servers.append(server)
        return self.publish(name, server.sockets[0].getsockname()[1])

    async def dashboard(self, name: str, handler: Any, *, authority: Authority | None = None) -> Route:
        """Start an HTTPS server that stands for a scheduler's dashboard, and publish the way to it."""
        context = (authority or self.authority).server_context(self.folder, name)
        port = await self._serve_http(handler, lambda runner: web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context))
        return self.publish(name, 1, dashboard_port=port)

    async def api(self, handler: Any) -> web.AppRunner:
        """Start an HTTP server that stands for control."""
        path = f"/proc/self/fd/{self._directory()}/api.sock"
        await self._serve_http(handler, lambda runner: web.UnixSite(runner, path))
        return self._runners[-1]

    async def stop_api(self, runner: web.AppRunner) -> None:
        """Stop that server; like a killed one it leaves its socket behind."""
        self._runners.remove(runner)
        await runner.cleanup()

    def publish(self, name: str, port: int, *, host: str = "127.0.0.1", dashboard_port: int | None = None) -> Route:
        """Publish a way."""
        route = Route(name, host, port, dashboard_port, SECRET, self.authority.pem, TICKET_KEY)
        self.proxy.routes.put(route)
        return route

    def loaded(self) -> None:
        """Say that the table is complete as it is."""
        routes = [route for name in list(self._names()) if (route := self.proxy.routes.get(name))]
        self.proxy.routes.replace(routes)

    def _names(self) -> list[str]:
        return list(self.proxy.routes._routes)

    # Who stands before it.

    async def connect(self, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to a cluster as its client does."""
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.authority.client_context(), server_hostname=f"daskgateway-{name}"
        )

    async def connect_raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect without saying anything."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange_raw(self, request: bytes) -> bytes:
        """Send bytes, and return everything that comes until the proxy closes the connection."""
        reader, writer = await self.connect_raw()
        writer.write(request)
        try:
            return await until_end(reader)
        finally:
            writer.close()

    @asynccontextmanager
    async def browser(self, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
        """Return an HTTP client that resolves every host to the proxy and takes cookies as a browser does."""
        connector = aiohttp.TCPConnector(resolver=Everywhere(self.port))
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, **options) as session:
            yield session

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        """Return a URL of the proxy."""
        return f"{scheme}://{host}:{self.port}{path}"

    async def control(self) -> ControlEnd:
        """Connect as control does."""
        await eventually(lambda: self.proxy.channel.listening)
        return await ControlEnd.connect(self.channel_path)

    async def _serve_http(self, handler: Any, site: Callable[[Any], Any]) -> int:
        runner: Any
        if isinstance(handler, web.Application):
            runner = web.AppRunner(handler, access_log=None, shutdown_timeout=0.1)
        else:
            runner = web.ServerRunner(
                web.Server(handler, handler_cancellation=True, access_log=None), shutdown_timeout=0.1
            )
        await runner.setup()
        self._runners.append(runner)
        started = site(runner)
        await started.start()
        address = runner.addresses[0]
        return int(address[1]) if isinstance(address, tuple) else 0

    def _directory(self) -> int:
        return self.proxy.api._directory


class Everywhere(aiohttp.abc.AbstractResolver):
    """Finds every host on loopback, as ``*.localhost`` is for browsers."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
        """Answer with the loopback address."""
        where = {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [where]

    async def close(self) -> None:
        """Nothing is held."""


class ControlEnd:
    """Control's end of the channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._number = 0
        self.events: list[dict[str, Any]] = []

    @classmethod
    async def connect(cls, path: Path) -> ControlEnd:
        """Connect to a proxy's control socket, however long its path is."""
        directory = os.open(path.parent, os.O_PATH)
        try:
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory}/{path.name}", limit=64 * 2**20
            )
        finally:
            os.close(directory)
        return cls(reader, writer)

    async def ask(self, op: str, **content: Any) -> dict[str, Any]:
        """Ask for one operation and return its answer."""
        self._number += 1
        self._writer.write(json.dumps({"id": self._number, "op": op, **content}).encode() + b"\n")
        while True:
            message = await self.read()
            if message.get("id") == self._number:
                return message
            self.events.append(message)

    async def read(self) -> dict[str, Any]:
        """Return the next line."""
        line = await asyncio.wait_for(self._reader.readline(), 10)
        if not line:
            raise ConnectionResetError("the proxy hung up")
        message: dict[str, Any] = json.loads(line)
        return message

    async def counts(self, wanted: dict[str, int]) -> None:
        """Wait until the proxy pushes these counts."""
        while True:
            message = self.events.pop(0) if self.events else await self.read()
            if message.get("event") == "connections" and message["counts"] == wanted:
                return

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def short_limits(**changes: float) -> Limits:
    """Return limits whose deadlines a test can wait for."""
    return replace(Limits(hello_seconds=0.3, header_seconds=0.3, restart_seconds=0.3, table_seconds=0.3), **changes)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send everything back, and the end too."""
    while data := await reader.read(2**18):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def until_end(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the other side closes; a reset, or an end without TLS's goodbye, is an end too."""
    data = b""
    try:
        while piece := await asyncio.wait_for(reader.read(2**16), 10):
            data += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return data


def client_hello(name: str | None) -> bytes:
    """Return the ClientHello that this machine's OpenSSL sends for a name."""
    context = ssl.create_default_context()
    if name is None:
        context.check_hostname = False
    sent = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return sent.read()


def in_records(hello: bytes, sizes: list[int]) -> bytes:
    """Cut the handshake message of a hello into records of these sizes, the rest into one more."""
    message = hello[5:]
    records = b""
    for size in [*sizes, len(message)]:
        piece, message = message[:size], message[size:]
        if piece:
            records += b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece
    return records


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def processor_seconds(during: float = 0.4) -> float:
    """Return how much processor time this process uses in a stretch in which it should have nothing to do."""
    before = time.process_time()
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), during)
    return time.process_time() - before


def temporary_folder(parent: Path, length: int) -> Path:
    """Return a folder whose path is at least so long."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    while len(str(folder)) < length:
        folder /= "deep" * 10
    folder.mkdir(parents=True)
    return folder
