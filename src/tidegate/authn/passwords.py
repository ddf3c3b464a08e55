"""Names and passwords, for a gateway that has no other service to ask.

They stand in a file (``users.py``), and a change of it holds from the next request on, also for the sessions and the
tokens of those whom it names (``entries.py``).

A hash is meant to be slow (50 ms), and a program sends its password with every request. So a right answer is remembered
for ``CACHE_SECONDS``, under a keyed hash of the password. A name that is not in the file costs as much time as one that
is: nobody learns names by the clock. What was wrong is remembered too, beside the hash that it did not fit: a program
that repeats it costs nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from tidegate.authn.base import Accepted, Presented
from tidegate.authn.turns import Turns
from tidegate.authn.users import LONGEST, BadUsers, UnreadableUsers, User, UserFile
from tidegate.model.principal import Principal
from tidegate.settings import FilePath, Section

CACHE_SECONDS = 60.0
"""For how long a right password is remembered. The file is looked at with each request all the same."""

THREADS = 2
"""How many passwords are checked at a time: each takes a core and 64 MiB for 50 ms, and strangers can ask for it."""

COMPLAINT_SECONDS = 60.0
"""Between two lines in the log about a file that is not as it must be."""

CACHE_SIZE = 10_000
"""How many right answers are remembered at the most, and how many wrong ones."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class PasswordSettings(Section):
    """A file of names and passwords, kept by ``tidegate users``."""

    file: FilePath | None = None
    """The file. By default ``users`` in the data folder."""


class PasswordAuthenticator:
    """Knows people by a name and a password.

    Parameters
    ----------
    data : Path
        The gateway's data folder.
    settings : PasswordSettings
    clock : callable
        Returns the time in seconds since the epoch.
    hasher : PasswordHasher, optional
        How hashes are made: says what one for a name that is not there costs. By default as ``tidegate users`` does.
    """

    Settings = PasswordSettings
    scheme = "Basic"

    def __init__(
        self,
        data: Path,
        settings: PasswordSettings | None = None,
        clock: Callable[[], float] = time.time,
        hasher: PasswordHasher | None = None,
    ) -> None:
        chosen = settings or PasswordSettings()
        self.file = UserFile(chosen.file or data / "users")
        self._clock = clock
        self._hasher = hasher or PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_urlsafe())
        self._key = secrets.token_bytes(32)
        self._right: dict[tuple[str, str, bytes], float] = {}
        self._wrong: dict[tuple[str, str, bytes], None] = {}
        self._users: dict[str, User] = {}
        self._entries: dict[str, str] = {}
        self._version: tuple[int, int, int] | None = None
        self._complained = -COMPLAINT_SECONDS
        self._turns = Turns(THREADS, "passwords")

    async def start(self) -> None:
        """Read the file, so that a mistake in it shows at the start."""
        self._version = self.file.version()
        self._take(self.file.read())

    async def close(self) -> None:
        """End the threads."""
        self._turns.close()

    async def authenticate(self, presented: Presented) -> Accepted | None:
        """Return whose name and password a Basic credential brings, or None."""
        if presented.scheme != "basic":
            return None
        try:
            raw = base64.b64decode(presented.value.encode("ascii"), validate=True)
        except (UnicodeEncodeError, binascii.Error):
            return None
        name, _, password = raw.partition(b":")
        # Clients do not agree: UTF-8 (RFC 7617), or Latin-1 as the official dask-gateway client.
        for encoding in ("utf-8", "latin-1"):
            try:
                principal = await self.check_password(
                    name.decode(encoding), password.decode(encoding), presented.client
                )
            except UnicodeDecodeError:
                continue
            if principal is not None or raw.isascii():
                return Accepted(principal) if principal else None
        return None

    async def check_password(self, username: str, password: str, client: str = "") -> Principal | None:
        """Return who that is, or None.

        Raises
        ------
        Busy
            When too many passwords wait to be checked.
        """
        if len(password.encode("utf-8", "replace")) > LONGEST:
            return None
        self._look()
        user = self._users.get(username)
        hashed = user.hash if user else self._nobody
        key = (username, hashed, hmac.digest(self._key, password.encode("utf-8", "replace"), hashlib.sha256))
        if self._right.get(key, 0.0) <= self._clock():
            self._right.pop(key, None)
            if key in self._wrong:
                return None
            right = await self._turns.run(client, self._verify, hashed, password)
            if not right or user is None:
                _remember(self._wrong, key, None)
                return None
            self._look()
            if self._users.get(username) != user:  # There was a change while we were at it.
                return None
            _remember(self._right, key, self._clock() + CACHE_SECONDS)
        return Principal(user.name, user.groups, method="passwords") if user else None

    def entries(self) -> Mapping[str, str]:
        """Return to each user a digest of their line in the file.

        Raises
        ------
        UnreadableUsers
        """
        self._look()
        if self._version is None:
            raise UnreadableUsers(f"cannot read the users in {self.file.path}")
        return self._entries

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (Argon2Error, InvalidHashError, UnicodeEncodeError):
            return False

    def _look(self) -> None:
        """Read the file again if it is another one than before.

        A line that is not right is a slip of somebody who edits: what the file said before holds. But who is removed
        from a file that cannot be read must be out, and we cannot know who that is: so all are refused. Either way it
        is read again with each request until it is right.
        """
        try:
            version = self.file.version()
            if version == self._version:
                return
            self._take(self.file.read())
            self._version = version
            self._right.clear()
        except UnreadableUsers as error:
            self._take({})
            self._version = None
            self._complain(f"{error.message}; nobody can log in by a password until it can be read")
        except BadUsers as error:
            self._complain(f"{error.message}; the users are those from before")

    def _take(self, users: dict[str, User]) -> None:
        self._users = users
        self._entries = {user.name: _digest(user) for user in users.values()}

    def _complain(self, words: str) -> None:
        if self._clock() - self._complained >= COMPLAINT_SECONDS:
            self._complained = self._clock()
            log.error("%s", words)


def _digest(user: User) -> str:
    # The hash of a password has 128 random bits in it, so nobody can try passwords on what is made of it.
    line = ":".join((user.name, user.hash, *sorted(user.groups)))
    return hashlib.sha256(line.encode()).hexdigest()[:32]


def _remember(answers: dict[tuple[str, str, bytes], T], key: tuple[str, str, bytes], value: T) -> None:
    answers[key] = value
    if len(answers) > CACHE_SIZE:
        del answers[next(iter(answers))]
