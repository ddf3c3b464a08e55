"""A real Kerberos realm on loopback: a KDC of MIT's, all of whose files are in one folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.identity.processes import Service, free_ports
from tests.support import eventually_sync

REALM = "TEST.LOCAL"

CLIENT = """
[libdefaults]
 default_realm = {realm}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
"""

SERVER = """
[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/kadm5.acl
 }}
"""


class Realm:
    """The realm.

    Parameters
    ----------
    folder : Path
        For everything that it keeps.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keytab = folder / "http.keytab"
        names = {"realm": REALM, "folder": folder, "port": free_ports(1)[0]}
        (folder / "krb5.conf").write_text(CLIENT.format(**names))
        (folder / "kdc.conf").write_text(SERVER.format(**names))
        self._kdc: Service | None = None

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a program in this realm, of nobody who has a ticket."""
        kept = {name: value for name, value in os.environ.items() if name in ("LANG", "HOME")}
        return kept | {
            "PATH": f"{os.environ['PATH']}:/usr/sbin",
            "KRB5_CONFIG": f"{self.folder}/krb5.conf",
            "KRB5_KDC_PROFILE": f"{self.folder}/kdc.conf",
            "KRB5CCNAME": f"FILE:{self.folder}/nobody.ccache",
            # Replays are remembered by user of the system, and all tests are one.
            "KRB5RCACHENAME": f"file2:{self.folder}/rcache",
        }

    def start(self) -> None:
        """Make the realm, its people and the key of the gateway, and start the KDC."""
        self._run(["kdb5_util", "create", "-s", "-r", REALM, "-P", "master"])
        for user in ("alice", "bob"):
            self._run(["kadmin.local", "-q", f"addprinc -pw {user}-password {user}"])
        for service in ("HTTP/localhost", "host/localhost"):
            self._run(["kadmin.local", "-q", f"addprinc -randkey {service}"])
            self._run(["kadmin.local", "-q", f"ktadd -k {self.keytab} {service}"])
        kdc = self._kdc = Service(["/usr/sbin/krb5kdc", "-n"], self.folder, self.environ)
        eventually_sync(lambda: "starting" in kdc.log.read_text() or not kdc.runs, 30, "the KDC runs")
        assert kdc.runs, kdc.log.read_text()

    def stop(self) -> None:
        """Stop the KDC."""
        if self._kdc is not None:
            self._kdc.stop()

    def log_in(self, user: str) -> dict[str, str]:
        """Return the environment of a program of a user who has got a ticket."""
        environ = self.environ | {"KRB5CCNAME": f"FILE:{self.folder}/{user}.ccache"}
        self._run(["kinit", user], input_=f"{user}-password\n", environ=environ)
        return environ

    def _run(self, command: Sequence[str], input_: str = "", environ: dict[str, str] | None = None) -> None:
        done = subprocess.run(
            command, env=environ or self.environ, input=input_, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def running_realm(folder: Path) -> Iterator[Realm]:
    """Start a realm, and stop it in the end."""
    realm = Realm(folder)
    try:
        realm.start()
        yield realm
    finally:
        realm.stop()
