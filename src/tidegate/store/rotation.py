"""Changing the key that secrets are sealed with, while the gateway runs or while it does not.

How to think about it
---------------------
1. A new key is written above the old one. From then on everything is sealed with the new one, and both open.
2. Whatever the new key does not open is sealed anew, in one transaction. A record that was written with the old key was
   written before it, so it is among them: who writes one reads the key file within the transaction (``sealing.py``).
3. The old key is taken out of the file.

Killed on any line, the file has all keys that something is sealed with, so the gateway goes on; the next call goes on
where this one ended. Two keys in the file are how it knows.
"""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import URL, Connection, LargeBinary, NullPool, bindparam, select, update

from tidegate.store import tables
from tidegate.store.base import StoreUnusable
from tidegate.store.database import BUSY_TIMEOUT, DATABASE_FILE
from tidegate.store.engine import Mode, for_mode, make_engine, our_words
from tidegate.store.schema import check_revision
from tidegate.store.sealing import KEY_FILE, KeyFile, replace_keys


def rotate_keys(folder: Path, database: URL | None = None) -> int:
    """Change the key of a data folder, or finish what was begun; return how many secrets were sealed anew.

    Parameters
    ----------
    folder : Path
        The data folder.
    database : sqlalchemy.URL, optional
        Where the database is, if not in that folder.

    Raises
    ------
    StoreUnusable
        When that is not possible. Nothing is lost then, and it may be called again.
    """
    path = folder / KEY_FILE
    with _alone(folder, [KEY_FILE] if database is not None else [KEY_FILE, DATABASE_FILE]):
        database = database or URL.create("sqlite", database=str(folder / DATABASE_FILE))
        check_revision(database, busy_timeout=BUSY_TIMEOUT)
        keys = KeyFile(path).keys()
        if len(keys) == 1:
            keys = (Fernet.generate_key(), *keys)
            replace_keys(path, keys)
        engine = make_engine(database, busy_timeout=BUSY_TIMEOUT, connections=1, poolclass=NullPool)
        with our_words(), for_mode(engine, Mode.DURABLE).begin() as connection:
            count = _seal_anew(connection, [Fernet(key) for key in keys])
        replace_keys(path, keys[:1])
        return count


@contextmanager
def _alone(folder: Path, needed: Sequence[str]) -> Iterator[None]:
    """See that this is the folder's owner, and nobody else at it."""
    if not all((folder / name).exists() for name in needed):
        raise StoreUnusable(
            f"cannot rotate the keys in {folder}: no gateway has worked there yet. Name its data folder with --data, "
            "or its configuration with --config"
        )
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        # What root leaves behind there the gateway could not read.
        raise StoreUnusable(
            f"cannot rotate the keys in {folder}: it belongs to {_name_of(owner)}. Run this as that user: "
            f"sudo -u {_name_of(owner)} tidegate keys rotate --data {folder}"
        )
    lock = os.open(folder / "rotation.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"  # as sudo reads a number


def _seal_anew(connection: Connection, keys: list[Fernet]) -> int:
    """Seal with the first key what it does not open; return how many that were."""
    every, count = MultiFernet(keys), 0
    for table in tables.metadata.sorted_tables:
        # Secrets are the only binary columns.
        for column in [column for column in table.c if isinstance(column.type, LargeBinary)]:
            own = [key.label(f"own_{key.name}") for key in table.primary_key]
            rows = connection.execute(select(*own, column.label("sealed"))).mappings().all()
            old = [row for row in rows if not _opens(keys[0], row["sealed"])]
            changed = [{**row, "sealed": _rotate(every, row["sealed"])} for row in old]
            if changed:
                same = [key == bindparam(f"own_{key.name}") for key in table.primary_key]
                connection.execute(update(table).where(*same).values({column: bindparam("sealed")}), changed)
            count += len(changed)
    return count


def _opens(key: Fernet, sealed: bytes) -> bool:
    try:
        key.decrypt(sealed)
    except InvalidToken:
        return False
    return True


def _rotate(keys: MultiFernet, sealed: bytes) -> bytes:
    try:
        return keys.rotate(sealed)
    except InvalidToken:
        raise StoreUnusable(
            f"cannot rotate the keys: there are secrets that no key in {KEY_FILE} opens. Put the key that they were "
            "sealed with below the others, from your backup, and run this again; nothing was sealed anew"
        ) from None
