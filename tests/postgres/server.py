"""A PostgreSQL of Debian's, started for the tests in a folder of its own, by an account that is not root's.

It listens on loopback, where it wants a password, and on a socket in its folder, where it wants none.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, create_engine, text

from tests.identity.processes import free_ports

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nowhere"))

SETTINGS = {
    "fsync": "off",  # what is tested is what a killed process loses, not a machine without power
    "max_connections": "100",
    "unix_socket_permissions": "0700",
}

PASSWORD = "hunter2/with:signs@"


class PostgresServer:
    """The server; ``tidegate`` is its superuser, and a database.

    Parameters
    ----------
    folder : Path
        Where everything of it is. Its path is short, for a socket's path has a hundred characters at most.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self._account = _account()

    @property
    def url(self) -> str:
        """How the gateway reaches its database with a password, which does not stand here."""
        return self._url_of("tidegate")

    def make(self) -> None:
        """Make the server's files, and its database."""
        (self.folder / "password").write_text(PASSWORD)
        if self._account is not None:
            for path in (self.folder, self.folder / "password"):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        trusts = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={self.folder}/password"]
        form = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--username=tidegate"]
        self._run("initdb", *trusts, *form)
        lines = [f"{name} = {value}" for name, value in SETTINGS.items()]
        lines += [f"port = {self.port}", "listen_addresses = '127.0.0.1'"]
        lines += [f"unix_socket_directories = '{self.folder}'"]
        (self.folder / "data" / "postgresql.auto.conf").write_text("\n".join(lines))
        self.start()
        self.execute("CREATE DATABASE tidegate", database="postgres")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "--wait", f"--log={self.folder}/log", "start")

    def stop(self, *, kindly: bool = True) -> None:
        """End it; unkindly it is like a crash."""
        self._run("pg_ctl", "--wait", f"--mode={'fast' if kindly else 'immediate'}", "stop")

    def execute(self, *statements: str, database: str = "tidegate") -> None:
        """Run SQL as the superuser."""
        url = URL.create(
            "postgresql+psycopg", "tidegate", port=self.port, database=database, query={"host": str(self.folder)}
        )
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    @contextmanager
    def schema(self) -> Iterator[str]:
        """Make an empty schema, which is quicker than a database; give its URL by the socket, and remove it then."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE SCHEMA {name}")
        yield f"postgresql://tidegate@:{self.port}/tidegate?host={self.folder}&options=-csearch_path%3D{name}"
        self.execute(f"DROP SCHEMA {name} CASCADE")

    @contextmanager
    def database(self, name: str, options: str = "") -> Iterator[str]:
        """Make an empty database; give its URL by loopback, and remove it in the end."""
        self.execute(f"CREATE DATABASE {name} {options}")
        yield self._url_of(name)
        self.execute(f"DROP DATABASE {name}")

    def _url_of(self, database: str) -> str:
        return f"postgresql://tidegate@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(PROGRAMS / program), f"--pgdata={self.folder}/data", *arguments]
        if self._account is not None:
            ids = [f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--init-groups"]
            command = ["setpriv", *ids, *command]
        # Nothing is read from it: the server would keep the pipe open for as long as it runs.
        with (self.folder / "output").open("ab") as output:
            done = subprocess.run(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        assert done.returncode == 0, (self.folder / "output").read_text()


def _account() -> pwd.struct_passwd | None:
    """Return the account to run it as: root may not. Debian's package makes one for that."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else None


@contextmanager
def running() -> Iterator[PostgresServer]:
    """Start a server, and leave nothing of it."""
    if not (PROGRAMS / "initdb").exists():
        raise RuntimeError("there is no PostgreSQL: run make test-postgres")
    # Short, and where every account may go.
    folder = Path(tempfile.mkdtemp(prefix="tidegate-pg-", dir="/tmp"))
    server = PostgresServer(folder)
    try:
        server.make()
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop(kindly=False)
        shutil.rmtree(folder)
