"""The file of users: names, hashes of their passwords, and their groups.

::

    alice:$argon2id$v=19$m=65536,t=3,p=4$...:hydrology,staff

A line is a name, the Argon2id hash of the password (RFC 9106, by the second set of parameters that it recommends) and
the groups. ``tidegate users`` writes it; whatever else does must replace it in one step.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from argon2 import PasswordHasher

from tidegate.model.errors import TidegateError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,254}", re.ASCII)
"""What a user or a group may be called: no colon, no blank, nothing that could be taken for an option."""

SHORTEST = 8
"""Characters of a password at least (NIST SP 800-63B, 3.1.1.2)."""

LONGEST = 1024
"""Bytes of a password at most: hashing more would cost more."""


class BadUsers(TidegateError):
    """The file of users cannot be read or written; the message says what to do."""

    code = "bad-users"


class UnreadableUsers(BadUsers):
    """The file cannot even be looked at, so nobody knows who is in it."""


@dataclass(frozen=True)
class User:
    """A line of the file."""

    name: str
    hash: str = field(repr=False)
    groups: frozenset[str] = frozenset()


class UserFile:
    """The file of users.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, User]:
        """Return the users by name; none where there is no file.

        Raises
        ------
        BadUsers
            When it is there and cannot be read, or a line is not as it must be.
        """
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UnreadableUsers(f"cannot read the users in {self.path}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise BadUsers(f"cannot read the users in {self.path}: {error}") from None
        users = {}
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                name, _, rest = line.partition(":")
                hashed, _, groups = rest.partition(":")
                if not NAME.fullmatch(name) or not hashed.startswith("$argon2"):
                    raise BadUsers(f"cannot read the users in {self.path}: line {number} is not name:hash:groups")
                users[name] = User(name, hashed, frozenset(filter(None, groups.split(","))))
        return users

    def version(self) -> tuple[int, int, int]:
        """Return what is another when the file is another one; the same where there is none."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return 0, 0, 0
        except OSError as error:
            raise UnreadableUsers(f"cannot read the users in {self.path}: {error.strerror}") from None
        return status.st_ino, status.st_mtime_ns, status.st_size

    @contextmanager
    def changing(self) -> Iterator[dict[str, User]]:
        """Yield the users to be changed, and write what has become of them; one at a time, whoever does it."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # No link is followed: the folder may be another's, who could have it lead anywhere.
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            lock = os.open(self.path.with_name(f"{self.path.name}.lock"), flags, 0o600)
        except OSError as error:
            raise BadUsers(f"cannot write the users to {self.path}: {error.strerror}") from None
        try:
            self._hand_over(lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            users = self.read()
            yield users
            self._write(users)
        finally:
            os.close(lock)

    def _write(self, users: Mapping[str, User]) -> None:
        """Replace the file in one step; only its owner may read it, who is the gateway's account also after sudo."""
        lines = [f"{user.name}:{user.hash}:{','.join(sorted(user.groups))}\n" for user in users.values()]
        try:
            fd, new = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")  # made with mode 0600
            with os.fdopen(fd, "w") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
                self._hand_over(file.fileno())
            os.replace(new, self.path)
        except OSError as error:
            raise BadUsers(f"cannot write the users to {self.path}: {error.strerror}") from None

    def _hand_over(self, file: int) -> None:
        """If we are root, give a file that is open to whom it is for: the folder's owner, or as the users were."""
        if os.geteuid() != 0:
            return
        owner = self.path.parent.stat()
        if owner.st_uid == 0 and self.path.exists():
            owner = self.path.lstat()
        # One with a second name may be a file of the system, linked here.
        if os.fstat(file).st_nlink == 1:
            os.fchown(file, owner.st_uid, owner.st_gid)


def hash_password(password: str, hasher: PasswordHasher | None = None) -> str:
    """Return the hash of a password, to be kept.

    Raises
    ------
    BadUsers
        When it is too short to be one, or too long to be hashed.
    """
    if len(password) < SHORTEST:
        raise BadUsers(f"cannot use this password: it has {len(password)} characters, and needs {SHORTEST}")
    if len(password.encode()) > LONGEST:
        raise BadUsers(f"cannot use this password: it has more than {LONGEST} bytes")
    return (hasher or PasswordHasher()).hash(password)
