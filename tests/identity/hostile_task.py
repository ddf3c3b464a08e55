"""What a task of somebody's cluster could try with everybody else on its machine.

This text is sent to a worker and run there, in its user's account, so it imports nothing of ours. ``aims`` says at
what it is aimed. ``try_everything`` returns what each attempt got hold of; what got nothing is not in it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import ssl
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor

PTRACE_SEIZE = 0x4206
PIDFD_OPEN, PIDFD_GETFD, PROCESS_VM_READV = 434, 438, 310
"""System calls, on x86-64 (pidfd_open and pidfd_getfd have these numbers everywhere)."""

IN_PROC = ("environ", "mem", "maps", "auxv", "io", "stack", "pagemap", "syscall", "personality")

REFUSALS = (OSError, EOFError, ValueError)
"""How the machine says no."""

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    """Make a system call; raise what it answers."""
    answer = libc.syscall(number, *arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return answer


def read_file(path):
    """Read the beginning of a file."""
    with open(path, "rb") as file:
        return f"{len(file.read(64))} bytes"


def write_file(path):
    """Open a file as if to write; nothing is written."""
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK))
    return "could write"


def make_file(folder):
    """Put a file into a folder."""
    descriptor, name = tempfile.mkstemp(dir=folder)
    os.close(descriptor)
    os.unlink(name)
    return "could make a file"


def read_memory(pid):
    """Read where the program of a process begins, as it stands in its memory."""
    with open(f"/proc/{pid}/maps") as maps:
        start = int(maps.readline().split("-")[0], 16)
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(start)
        return f"{len(memory.read(16))} bytes"


def read_memory_by_call(pid):
    """Read another process's memory, wherever it is: an address that is not there is told otherwise than a refusal."""
    here = ctypes.create_string_buffer(16)
    local = struct.pack("QQ", ctypes.addressof(here), 16)
    remote = struct.pack("QQ", 0x1000, 16)
    try:
        call(PROCESS_VM_READV, pid, local, 1, remote, 1, 0)
    except OSError as error:
        if error.errno != 14:  # EFAULT: allowed, but there is nothing
            raise
    return "could read"


def attach(pid):
    """Take a process over as a debugger does, without stopping it; it is let go with the end of this thread."""
    if libc.ptrace(PTRACE_SEIZE, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return "attached"


def steal_descriptors(pid):
    """Copy the first descriptors of a process: its sockets and its open files."""
    handle = call(PIDFD_OPEN, pid, 0)
    try:
        stolen = [call(PIDFD_GETFD, handle, number, 0) for number in range(3)]
    finally:
        os.close(handle)
    for descriptor in stolen:
        os.close(descriptor)
    return "descriptors"


def on_process(pid):
    """Yield what can be tried on a process."""
    for name in IN_PROC:
        if name not in ("mem", "pagemap"):
            yield f"/proc/{pid}/{name}", lambda name=name: read_file(f"/proc/{pid}/{name}")
    yield f"memory of {pid}", lambda: read_memory(pid)
    yield f"memory of {pid}, by a call", lambda: read_memory_by_call(pid)
    for name in ("fd", "map_files", f"task/{pid}/fd"):
        yield f"/proc/{pid}/{name}", lambda name=name: str(len(os.listdir(f"/proc/{pid}/{name}")))
    for name in ("cwd", "root", "exe"):
        yield f"/proc/{pid}/{name}", lambda name=name: os.readlink(f"/proc/{pid}/{name}")
    yield f"debugger of {pid}", lambda: attach(pid)
    yield f"descriptors of {pid}", lambda: steal_descriptors(pid)
    for number in (0, signal.SIGCONT):  # whoever may send these may send all
        yield f"signal {number} to {pid}", lambda number=number: os.kill(pid, number) or "sent"
    yield f"signal by descriptor to {pid}", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), 0) or "sent"
    yield f"priority of {pid}", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19) or "changed"
    yield f"processors of {pid}", lambda: os.sched_setaffinity(pid, {0, 1}) or "changed"
    yield f"limits of {pid}", lambda: __import__("resource").prlimit(pid, 7) and "read"


def on_path(path):
    """Yield what can be tried on a file or a folder."""
    yield f"list {path}", lambda: str(len(os.listdir(path)))
    yield f"read {path}", lambda: read_file(path)
    yield f"write {path}", lambda: write_file(path)
    yield f"make a file in {path}", lambda: make_file(path)
    yield f"link to {path}", lambda: link(path)
    yield f"change {path}", lambda: os.chmod(path, 0o777) or "changed"


def link(path):
    """Give a file another name, in a folder of one's own."""
    folder = tempfile.mkdtemp()
    try:
        os.link(path, os.path.join(folder, "mine"))
        return "linked"
    finally:
        shutil.rmtree(folder)


def connect_unix(path):
    """Connect to a Unix socket, of whatever kind."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as mine:
            try:
                mine.connect(path)
                return "connected"
            except OSError as error:
                last = error
    raise last


def ask_http(port, tls, headers=""):
    """Ask an HTTP server for its pages, and return those that it shows."""
    shown = []
    for path in ("/", "/status", "/health", "/metrics", "/json/identity.json", "/sitemap.json", "/statics/js/x.js"):
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(plain) if tls else plain
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n".encode())
            status = connection.recv(12)
            if status and not status.endswith(b"404") and status != b"HTTP/1.1 400":
                shown.append(f"{path}: {status!r}")
    return " ".join(shown)


def speak_dask(port, certificates):
    """Open a Dask port with certificates of one's own, and say something."""
    import asyncio

    from distributed.core import rpc

    cert, key = certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if cert:
        context.load_cert_chain(cert, key)

    async def ask(scheme):
        arguments = {"ssl_context": context} if scheme == "tls" else {}
        async with rpc(f"{scheme}://127.0.0.1:{port}", connection_args=arguments, timeout=3) as peer:
            return str(await asyncio.wait_for(peer.identity(), 3))[:80]

    for scheme in ("tls", "tcp"):
        try:
            return asyncio.run(ask(scheme))
        except Exception as error:  # Dask wraps what TLS says in many ways
            last = error
    raise OSError(str(last))


def own_environment(words):
    """Return which secrets stand in what this process was given."""
    given = "\n".join(f"{name}={value}" for name, value in os.environ.items())
    with open("/proc/self/cmdline", "rb") as file:
        given += file.read().decode()
    return " ".join(str(number) for number, word in enumerate(words) if word in given)


def everybodys_arguments(words):
    """Return whose arguments, which everybody can read, hold a secret."""
    telling = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                text = file.read().decode(errors="replace")
        except OSError:
            continue
        if any(word in text for word in words):
            telling.append(pid)
    return " ".join(telling)


def left_open(folders, uids):
    """Return what other people left where everybody can look, and did not close."""
    found = []
    for folder in folders:
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            path = os.path.join(folder, name)
            try:
                state = os.lstat(path)
            except OSError:
                continue
            if state.st_uid in uids and (os.access(path, os.R_OK) or os.access(path, os.W_OK)):
                found.append(path)
    return " ".join(found)


def attempts(aims):
    """Yield every attempt: what, and how."""
    for pid in aims["pids"]:
        yield from on_process(pid)
    for path in aims["paths"]:
        yield from on_path(path)
    for path in aims["sockets"]:
        yield f"socket {path}", lambda path=path: connect_unix(path)
    for port in aims["ports"]:
        for number, certificates in enumerate([("", ""), *aims["certificates"]]):
            yield (
                f"Dask at {port}, certificate {number}",
                lambda port=port, certificates=certificates: speak_dask(port, certificates),
            )
        for tls in (True, False):
            for headers in ("", f"{aims['header']}: {aims['secret']}\r\n"):
                yield (
                    f"pages at {port} {tls} {len(headers)}",
                    lambda port=port, tls=tls, headers=headers: ask_http(port, tls, headers),
                )
    yield "own environment", lambda: own_environment(aims["words"])
    yield "arguments of all", lambda: everybodys_arguments(aims["words"])
    yield "left open", lambda: left_open(aims["common"], aims["uids"])


def attempt(one):
    """Return what came of an attempt."""
    what, action = one
    try:
        return what, action()
    except REFUSALS:
        return what, ""


def try_everything(aims):
    """Return what came of it: how many attempts there were, and what they got."""
    # Side by side, for Dask knocks for seconds at a door that stays closed.
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(attempt, attempts(aims)))
    return len(found), {what: got for what, got in found if got}
