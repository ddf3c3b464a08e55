"""What is left for Dask: a configuration file with which ``Gateway()`` finds this gateway without arguments.

It lies where Dask looks (``$DASK_CONFIG`` if that is a folder, else ``~/.config/dask``), is called ``tidegate.yaml``,
has mode 0600, and holds a section for each client: ``tidegate:`` for ours, ``gateway:`` for dask-gateway's.

A file is not ours to change unless its first line says that we wrote it. Dask reads files in the order of their names,
so a section of ours would win over one in ``gateway.yaml``: where the user (or the platform) has a section already,
ours is left out, for it would send their notebooks to another gateway than the one that was chosen for them.

The second line says which gateway wrote it, by its data folder. While that one runs, the file stays with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = "tidegate.yaml"
HEADER = "# Written by `tidegate serve`, and written again when the gateway changes. To keep changes, delete this line."
OWNER = "# Its data folder: "
"""Begins the second line; the folder follows as a JSON string, whatever bytes are in its name."""
SECTIONS = ("tidegate", "gateway")
SUFFIXES = (".yaml", ".yml", ".json")


def current_user() -> str:
    """Return the name of the OS user who runs this process (not what ``$USER`` claims)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        return str(os.getuid())


@dataclass(frozen=True)
class Connection:
    """What a client needs to know: the address, the user's name and their token.

    Where it is not None: an authority to trust, the ``host:port`` at which schedulers are reached, and the OS user as
    whom the gateway listens in the clear on this machine.
    """

    address: str
    user: str
    token: str
    ca_file: str | None = None
    proxy_address: str | None = None
    listener_uid: int | None = None

    def __repr__(self) -> str:
        return f"Connection({self.address!r}, {self.user!r})"

    def sections(self) -> dict[str, Any]:
        """Return the two sections of a Dask configuration."""
        ours: dict[str, Any] = {"address": self.address}
        ours["auth"] = {"type": "token", "kwargs": {"token": self.token}}
        if self.ca_file:
            ours["ca-file"] = self.ca_file
        if self.listener_uid is not None:
            ours["listener-uid"] = self.listener_uid
        theirs: dict[str, Any] = {"address": self.address}
        theirs["auth"] = {"type": "basic", "kwargs": {"username": self.user, "password": self.token}}
        if self.proxy_address:
            ours["proxy-address"] = theirs["proxy-address"] = self.proxy_address
        return {"tidegate": ours, "gateway": theirs}


class ClientConfig:
    """The configuration file of the OS user who starts the gateway.

    Parameters
    ----------
    data : Path
        The gateway's data folder; when the user has a configuration of their own, ours is left in there.
    environ : mapping, optional
        The environment in which to look for the user's folders.
    """

    def __init__(self, data: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._data = data.resolve()  # as other starts find it, whatever way led there
        home = environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
        self._home = Path(home) / ".config" / "dask"
        chosen = Path(environ.get("DASK_CONFIG") or self._home)
        # Dask also takes a single file there; it reads the home folder in any case.
        is_folder = chosen.suffix not in SUFFIXES and not os.path.isfile(chosen)
        self.path = (chosen if is_folder else self._home) / FILE
        self.aside = data / "dask" / FILE

    def token(self) -> str | None:
        """Return the token in the file that we left earlier, or None."""
        for path in (self.path, self.aside):
            if _owner(path) in ("", str(self._data)) and (token := _token_in(_read(path))):
                return token
        return None

    def leave(self, connection: Connection) -> list[str]:
        """Write what may be written, and return sentences about what was done; none if nothing changed."""
        sections = connection.sections()
        try:
            return self._leave(connection, sections)
        except OSError as error:
            return self._step_aside(sections, f"cannot write {self.path}: {error.strerror or error}")

    def _leave(self, connection: Connection, sections: dict[str, Any]) -> list[str]:
        owner = _owner(self.path)
        if self.path.exists() and owner is None:
            return self._step_aside(sections, f"{self.path} is yours: it was left as it is")
        if owner and owner != str(self._data) and _runs(Path(owner)):
            why = f"{self.path} leads to the gateway with its data in {owner}, which runs: it was left as it is"
            return self._step_aside(sections, why)
        taken = {name: where for name in SECTIONS if (where := self._who_has(name))}
        mine = {name: content for name, content in sections.items() if name not in taken}
        if not mine:
            _remove_ours(self.path)
            return self._step_aside(sections, f"{taken['tidegate']} has a `tidegate:` section already")
        notes = []
        if self._write(self.path, mine):
            notes.append(f"Wrote {self.path}: in a notebook of {connection.user}, Gateway() finds this gateway.")
        if "gateway" in taken:
            notes.append(
                f"{taken['gateway']} has a `gateway:` section already: dask_gateway.Gateway() goes where that says. "
                "tidegate.Gateway() comes here."
            )
        if "tidegate" in taken:
            notes.append(
                f"{taken['tidegate']} has a `tidegate:` section already: tidegate.Gateway() goes where that says."
            )
        return notes

    def _step_aside(self, sections: dict[str, Any], why: str) -> list[str]:
        self._write(self.aside, sections)
        return [f"{why}. To use this gateway from a notebook, start it with DASK_CONFIG={self.aside.parent}"]

    def _write(self, path: Path, sections: dict[str, Any]) -> bool:
        """Put the file in place, whole or not at all; return whether it changed."""
        text = f"{HEADER}\n{OWNER}{json.dumps(str(self._data))}\n{yaml.safe_dump(sections, sort_keys=False)}"
        if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == 0o600:
            return False
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        return True

    def _who_has(self, section: str) -> str | None:
        """Return where Dask finds this section outside our own file: a file, an environment variable, or None."""
        for path in self._files():
            if not _is_ours(path) and isinstance(_read(path).get(section), dict):
                return str(path)
        prefix = f"DASK_{section.upper()}__"
        return next((f"${name}" for name in self._environ if name.upper().startswith(prefix)), None)

    def _files(self) -> Iterator[Path]:
        """Yield the configuration files that Dask reads (``dask.config.collect_yaml``), but for its own defaults."""
        prefixes = [self._environ.get(name) for name in ("CONDA_PREFIX", "VIRTUAL_ENV")]
        folders = [Path(self._environ.get("DASK_ROOT_CONFIG", "/etc/dask"))]
        folders += [Path(prefix) / "etc" / "dask" for prefix in prefixes if prefix]
        folders.append(self._home)
        if chosen := self._environ.get("DASK_CONFIG"):
            folders.append(Path(chosen))
        for folder in folders:
            if folder.is_file():
                yield folder
            elif os.access(folder, os.R_OK | os.X_OK):
                yield from sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def _is_ours(path: Path) -> bool:
    return _owner(path) is not None


def _owner(path: Path) -> str | None:
    """Return the data folder of the gateway that wrote the file: empty if it does not say, None if none wrote it."""
    try:
        with path.open() as file:
            first, second = file.readline(), file.readline()
        if first.rstrip("\n") != HEADER:
            return None
        return str(json.loads(second.removeprefix(OWNER))) if second.startswith(OWNER) else ""
    except (OSError, ValueError):
        return None


def _runs(data: Path) -> bool:
    """Whether a gateway works on this data folder: then its control process holds the lock there."""
    try:
        descriptor = os.open(data / "control.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}  # Dask would not read it either
    return content if isinstance(content, dict) else {}


def _token_in(content: dict[str, Any]) -> str | None:
    for section, key in (("tidegate", "token"), ("gateway", "password")):
        try:
            token = content[section]["auth"]["kwargs"][key]
        except (KeyError, TypeError):
            continue
        if isinstance(token, str):
            return token
    return None


def _remove_ours(path: Path) -> None:
    if _is_ours(path):
        path.unlink()
