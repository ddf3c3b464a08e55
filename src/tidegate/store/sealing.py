"""Sealing: how secrets lie in the database so that the database alone gives none away.

Fernet (AES-128-CBC with HMAC-SHA256) with keys from ``seal.key`` in the data folder: one key per line, the first
one seals, all of them unseal. To change the key, write a new one above the old one and restart; the old one may go
when the clusters from before have ended, since a cluster's secrets die with it.

The file comes into being whole or not at all: it is written under another name and then linked to its own, which fails
if there is one. A crash in the middle leaves no half key, and two processes that start at once agree on one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tidegate.store.base import StoreUnusable

KEY_FILE = "seal.key"


class Sealer:
    """Seals with the first of its keys, unseals with any. ``repr`` shows no key."""

    def __init__(self, keys: Sequence[Fernet]) -> None:
        self._fernet = MultiFernet(keys)

    def seal(self, plain: bytes) -> bytes:
        """Return ``plain``, encrypted and authenticated."""
        return self._fernet.encrypt(plain)

    def unseal(self, sealed: bytes) -> bytes:
        """Return what ``seal`` was given; ``cryptography.fernet.InvalidToken`` when no key fits."""
        return self._fernet.decrypt(sealed)


def open_sealer(folder: Path, sealed: Sequence[bytes]) -> Sealer:
    """Return the sealer of a data folder, made sure that it opens everything in ``sealed``.

    Parameters
    ----------
    folder : Path
        The data folder. A key is made there if there is none *and* nothing was sealed yet.
    sealed : sequence of bytes
        What the database holds.

    Raises
    ------
    StoreUnusable
        When the key is missing, unreadable, open to others, or not the one that sealed the records.
    """
    path = folder / KEY_FILE
    if not path.exists():
        if sealed:
            raise StoreUnusable(
                f"cannot read the secrets of {len(sealed)} running clusters: their key {path} is missing. "
                f"{_how_to_go_on(path)}"
            )
        _create_key(path)
    sealer = Sealer(_read_keys(path))
    unreadable = sum(not _opens(sealer, secret) for secret in sealed)
    if unreadable:
        raise StoreUnusable(
            f"cannot read the secrets of {unreadable} of {len(sealed)} running clusters: they were sealed with another "
            f"key than those in {path}. {_how_to_go_on(path)}"
        )
    return sealer


def _how_to_go_on(path: Path) -> str:
    return (
        f"Put the key file back from your backup (several keys may stand in {path.name}, one per line); if the key is "
        "lost for good, move the database away and start with an empty one: the clusters recorded in it are lost"
    )


def _opens(sealer: Sealer, sealed: bytes) -> bool:
    try:
        sealer.unseal(sealed)
    except InvalidToken:
        return False
    return True


def _read_keys(path: Path) -> list[Fernet]:
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise StoreUnusable(f"cannot read the key file {path}: {error.strerror}") from error
    if mode & 0o077:
        raise StoreUnusable(
            f"cannot use the key file {path}: its mode is {mode:04o}, so others could read it. Run: chmod 600 {path}"
        )
    keys = list(_parse_keys(path, text.splitlines()))
    if not keys:
        raise StoreUnusable(f"cannot use the key file {path}: there is no key in it. {_how_to_go_on(path)}")
    return keys


def _parse_keys(path: Path, lines: Iterable[str]) -> Iterable[Fernet]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield Fernet(line.strip())
        except ValueError:
            # Neither the line nor the cause is shown: a mistyped key is still most of a key.
            raise StoreUnusable(
                f"cannot use line {number} of the key file {path}: a key is 32 bytes in URL-safe base64, 44 characters"
            ) from None


def _create_key(path: Path) -> None:
    try:
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
        try:
            with open(handle, "wb") as file:
                file.write(Fernet.generate_key() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)
        finally:
            os.unlink(draft)
        sync_folder(path.parent)
    except FileExistsError:
        return  # another process was quicker: its key is the key
    except OSError as error:
        raise StoreUnusable(f"cannot create the key file {path}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder survive a power cut: what a key seals must never outlive the key."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
