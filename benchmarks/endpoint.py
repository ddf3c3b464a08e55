"""What stands for a scheduler when the proxies are measured: TLS and threads, in Python, as Dask's own end points are.

    python -m benchmarks.endpoint CERTIFICATE KEY

prints its port. A connection begins with an order of nine bytes: ``U`` and a number of bytes that the client will send
and that are answered with one; ``D`` and a number of bytes to be sent; ``E`` and a size: messages of that size are sent
back until the client hangs up.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import struct
import sys
import threading
import time
from pathlib import Path

ORDER = struct.Struct("!cQ")
CHUNK = 1 << 20


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a self-signed certificate and its key, of the kind that clusters have; return both files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files = folder / "endpoint.crt", folder / "endpoint.key"
    for file, content in zip(files, (certificate.public_bytes(encoding), private), strict=True):
        file.touch(mode=0o600)
        file.write_bytes(content)
    return files


def connect(port: int, name: str) -> ssl.SSLSocket:
    """Connect by TLS to this port, asking for the cluster ``name`` as Dask clients behind a gateway do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    sock = socket.create_connection(("127.0.0.1", port), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(sock, server_hostname=f"daskgateway-{name}")


def send_bytes(sock: ssl.SSLSocket, count: int) -> None:
    """Send so many bytes."""
    block = memoryview(bytes(CHUNK))
    while count > 0:
        sock.sendall(block[:count])
        count -= CHUNK


def receive_bytes(sock: ssl.SSLSocket, count: int) -> None:
    """Receive so many bytes."""
    block = memoryview(bytearray(CHUNK))
    while count > 0:
        got = sock.recv_into(block[:count])
        if not got:
            raise ConnectionResetError("the other end hung up")
        count -= got


def upload(sock: ssl.SSLSocket, count: int) -> None:
    """Order an upload and do it."""
    sock.sendall(ORDER.pack(b"U", count))
    send_bytes(sock, count)
    receive_bytes(sock, 1)


def download(sock: ssl.SSLSocket, count: int) -> None:
    """Order a download and take it."""
    sock.sendall(ORDER.pack(b"D", count))
    receive_bytes(sock, count)


def echo(sock: ssl.SSLSocket, size: int, times: int) -> list[float]:
    """Send messages to and fro; return the seconds of each."""
    sock.sendall(ORDER.pack(b"E", size))
    message = bytes(size)
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        sock.sendall(message)
        receive_bytes(sock, size)
        seconds.append(time.perf_counter() - began)
    return seconds


def _serve(sock: socket.socket, context: ssl.SSLContext) -> None:
    with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as secure:
        while order := secure.recv(ORDER.size):
            kind, number = ORDER.unpack(order)
            if kind == b"U":
                receive_bytes(secure, number)
                secure.sendall(b"!")
            elif kind == b"D":
                send_bytes(secure, number)
            else:
                while True:
                    receive_bytes(secure, number)
                    secure.sendall(bytes(number))


def main() -> None:
    """Serve until whoever started it hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:3])
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(sock, context), daemon=True).start()


if __name__ == "__main__":
    main()
