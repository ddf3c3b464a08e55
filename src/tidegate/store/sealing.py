"""Sealing: how secrets lie in the database so that the database alone gives none away.

Fernet (AES-128-CBC with HMAC-SHA256) with keys from ``seal.key`` in the data folder: one key per line, the first
one seals, all of them unseal. The file is read again whenever it is another one, so that the key can be changed while
the gateway runs (``rotation.py``): whoever seals for the store does so within the transaction that writes it down.
What signs the sessions of browsers comes from the first key too.

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


class KeyFile:
    """The keys in a file, as they are now.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: tuple[tuple[int, int, int], tuple[bytes, ...]] | None = None

    def keys(self) -> tuple[bytes, ...]:
        """Return the keys, the one that seals first.

        Raises
        ------
        StoreUnusable
            When they cannot be read, and never could be: else those from before count, since a slip of somebody who
            edits the file must not stop a gateway that runs.
        """
        try:
            status = self.path.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if self._known is None or self._known[0] != version:
                self._known = version, _read_keys(self.path)
        except OSError as error:
            if self._known is None:
                raise _unreadable(self.path, error) from error
        except StoreUnusable:
            if self._known is None:
                raise
        return self._known[1] if self._known else ()

    def current(self) -> bytes:
        """Return the key that seals."""
        return self.keys()[0]


class Sealer:
    """Seals with the first key of a file, unseals with any that it has had since. ``repr`` shows no key.

    Parameters
    ----------
    file : KeyFile
    """

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self._keys = file.keys()
        self._fernet = MultiFernet([Fernet(key) for key in self._keys])

    def seal(self, plain: bytes) -> bytes:
        """Return ``plain``, encrypted and authenticated."""
        self._look()
        return self._fernet.encrypt(plain)

    def unseal(self, sealed: bytes) -> bytes:
        """Return what ``seal`` was given; ``cryptography.fernet.InvalidToken`` when no key fits."""
        self._look()
        return self._fernet.decrypt(sealed)

    def _look(self) -> None:
        """Use the keys that the file has now; those from before stay behind them, for what was read a moment ago."""
        keys = self._file.keys()
        if keys != self._keys[: len(keys)]:
            self._keys = (*keys, *(key for key in self._keys if key not in keys))
            self._fernet = MultiFernet([Fernet(key) for key in self._keys])


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
    sealer = Sealer(KeyFile(path))
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


def _unreadable(path: Path, error: OSError) -> StoreUnusable:
    return StoreUnusable(f"cannot read the key file {path}: {error.strerror}")


def _read_keys(path: Path) -> tuple[bytes, ...]:
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise _unreadable(path, error) from error
    if mode & 0o077:
        raise StoreUnusable(
            f"cannot use the key file {path}: its mode is {mode:04o}, so others could read it. Run: chmod 600 {path}"
        )
    keys = tuple(_parse_keys(path, text.splitlines()))
    if not keys:
        raise StoreUnusable(f"cannot use the key file {path}: there is no key in it. {_how_to_go_on(path)}")
    return keys


def _parse_keys(path: Path, lines: Iterable[str]) -> Iterable[bytes]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            Fernet(line.strip())
            yield line.strip().encode()
        except ValueError:
            # Neither the line nor the cause is shown: a mistyped key is still most of a key.
            raise StoreUnusable(
                f"cannot use line {number} of the key file {path}: a key is 32 bytes in URL-safe base64, 44 characters"
            ) from None


def _create_key(path: Path) -> None:
    try:
        draft = _write_draft(path, [Fernet.generate_key()])
        try:
            os.link(draft, path)
        finally:
            os.unlink(draft)
        sync_folder(path.parent)
    except FileExistsError:
        return  # another process was quicker: its key is the key
    except OSError as error:
        raise StoreUnusable(f"cannot create the key file {path}: {error.strerror}") from error


def replace_keys(path: Path, keys: Sequence[bytes]) -> None:
    """Write other keys into a key file, in one step that survives a power cut.

    Raises
    ------
    StoreUnusable
        When that is not possible; then the file is as it was.
    """
    try:
        for left in path.parent.glob(f".{path.name}.*"):  # by somebody who was killed on this very line
            left.unlink()
        os.replace(_write_draft(path, keys), path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreUnusable(f"cannot write the key file {path}: {error.strerror}. It is as it was") from error


def _write_draft(path: Path, keys: Sequence[bytes]) -> str:
    """Write keys to a file of another name beside it, for its owner alone to read, and return that name."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    with open(handle, "wb") as file:
        file.writelines(key + b"\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    return draft


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder survive a power cut: what a key seals must never outlive the key."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
