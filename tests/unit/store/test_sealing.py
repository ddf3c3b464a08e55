"""The sealing key: made once, used in turn, and refused with a sentence when it does not fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet, InvalidToken

from tidegate.store.base import StoreUnusable
from tidegate.store.sealing import KEY_FILE, KeyFile, Sealer, open_sealer, replace_keys


def lay_keys(folder: Path, *keys: bytes, mode: int = 0o600) -> Path:
    """Write a key file."""
    path = folder / KEY_FILE
    path.write_bytes(b"\n".join(keys) + b"\n")
    path.chmod(mode)
    return path


def test_the_first_start_makes_a_key_for_nobody_else(tmp_path: Path):
    """A key comes into being with mode 0600, alone in the folder, and the next start uses the same one."""
    sealed = open_sealer(tmp_path, []).seal(b"secret")

    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert b"secret" not in sealed
    assert open_sealer(tmp_path, [sealed]).unseal(sealed) == b"secret"


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path):
    """Sixteen first starts at the same time: what one seals, every other opens."""
    with ThreadPoolExecutor(16) as pool:
        sealers = list(pool.map(lambda _: open_sealer(tmp_path, []), range(16)))

    for sealer in sealers:
        assert sealers[0].unseal(sealer.seal(b"secret")) == b"secret"


def test_a_new_key_seals_and_an_old_one_still_opens(tmp_path: Path):
    """With a new key above the old one, old secrets are read, and new ones do not need the old key."""
    old, new = Fernet.generate_key(), Fernet.generate_key()
    lay_keys(tmp_path, old)
    before = open_sealer(tmp_path, []).seal(b"before")

    lay_keys(tmp_path, new, b"", old)
    rotated = open_sealer(tmp_path, [before])

    assert rotated.unseal(before) == b"before"
    assert Fernet(new).decrypt(rotated.seal(b"after")) == b"after"
    with pytest.raises(InvalidToken):
        Fernet(old).decrypt(rotated.seal(b"after"))


def test_a_missing_key_is_not_replaced_when_secrets_were_sealed(tmp_path: Path):
    """Without its key the gateway does not start, says what to do, and makes no new key that would hide the loss."""
    with pytest.raises(StoreUnusable, match=r"cannot read the secrets of 1 running clusters.*backup"):
        open_sealer(tmp_path, [b"sealed once"])

    assert list(tmp_path.iterdir()) == []


def test_another_key_is_told_apart(tmp_path: Path):
    """A key that opens some of the secrets but not all is refused, with both numbers."""
    ours, others = Fernet.generate_key(), Fernet.generate_key()
    path = lay_keys(tmp_path, ours)
    sealed = [Fernet(key).encrypt(b"x") for key in (ours, others, others)]

    with pytest.raises(StoreUnusable, match=f"cannot read the secrets of 2 of 3 running clusters.*{path}"):
        open_sealer(tmp_path, sealed)


@pytest.mark.parametrize(
    ("keys", "mode", "sentence"),
    [
        ([Fernet.generate_key()], 0o640, "its mode is 0640.*chmod 600"),
        ([b""], 0o600, "there is no key in it"),
        ([Fernet.generate_key(), b"c2hvcnQ="], 0o600, "line 2.*44 characters"),
        ([b"\xff\xfe not base64 at all"], 0o600, "line 1.*44 characters"),
    ],
    ids=["open to others", "empty", "short", "garbage"],
)
def test_a_bad_key_file_is_named(tmp_path: Path, keys: list[bytes], mode: int, sentence: str):
    """What is wrong with a key file is said with its path, and without any of its content."""
    path = lay_keys(tmp_path, *keys, mode=mode)

    with pytest.raises(StoreUnusable, match=f"{path}.*") as caught:
        open_sealer(tmp_path, [])

    assert caught.match(sentence)
    assert not any(key and key.decode(errors="replace") in caught.value.message for key in keys)


def test_another_file_counts_at_once(tmp_path: Path):
    """While the gateway runs: what seals is the new first key, and what was read a moment ago still opens."""
    old, new = Fernet.generate_key(), Fernet.generate_key()
    sealer = Sealer(KeyFile(lay_keys(tmp_path, old)))
    before = sealer.seal(b"before")

    replace_keys(tmp_path / KEY_FILE, [new])

    assert Fernet(new).decrypt(sealer.seal(b"after")) == b"after"
    assert sealer.unseal(before) == b"before"


@pytest.mark.parametrize("content", [b"", b"nonsense\n", None])
def test_a_slip_in_the_file_stops_nobody_who_runs(tmp_path: Path, content: bytes | None):
    """Whoever edits it, or moves it away, hears of it at the next start."""
    path = lay_keys(tmp_path, Fernet.generate_key())
    sealer = Sealer(KeyFile(path))
    sealed = sealer.seal(b"secret")

    path.unlink() if content is None else path.write_bytes(content)

    assert sealer.unseal(sealed) == sealer.unseal(sealer.seal(b"secret")) == b"secret"
    with pytest.raises(StoreUnusable):
        KeyFile(path).keys()
