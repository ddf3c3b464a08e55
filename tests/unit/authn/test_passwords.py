"""Passwords: the file as it changes, and what a mistake in it costs."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.in_process import Clock
from tidegate.authn.passwords import PasswordAuthenticator
from tidegate.authn.users import BadUsers, User, UserFile, hash_password
from tidegate.model.principal import Principal

PASSWORD = "correct horse"


@pytest.fixture
def file(tmp_path: Path) -> UserFile:
    """A file with alice, of two groups."""
    file = UserFile(tmp_path / "users")
    with file.changing() as users:
        users["alice"] = User("alice", hash_password(PASSWORD), frozenset({"hydro", "staff"}))
    return file


@pytest.fixture
async def login(file: UserFile, tmp_path: Path) -> AsyncIterator[PasswordAuthenticator]:
    """The authenticator on that file."""
    made = PasswordAuthenticator(tmp_path, clock=Clock())
    await made.start()
    yield made
    await made.close()


async def test_a_right_password_brings_the_groups(login: PasswordAuthenticator) -> None:
    """They are the second thing that the file knows."""
    assert await login.check_password("alice", PASSWORD) == Principal(
        "alice", frozenset({"hydro", "staff"}), method="passwords"
    )


async def test_a_change_holds_from_the_next_request_on(login: PasswordAuthenticator, file: UserFile) -> None:
    """Although right answers are remembered: a new password, and a user who was removed."""
    assert await login.check_password("alice", PASSWORD) is not None
    with file.changing() as users:
        users["alice"] = User("alice", hash_password("battery staple"))

    assert await login.check_password("alice", PASSWORD) is None
    assert await login.check_password("alice", "battery staple") == Principal("alice", method="passwords")
    with file.changing() as users:
        del users["alice"]
    assert await login.check_password("alice", "battery staple") is None


async def test_a_file_that_breaks_keeps_the_users(
    login: PasswordAuthenticator, file: UserFile, caplog: pytest.LogCaptureFixture
) -> None:
    """A slip of an editor must not lock everybody out; the log says the line, once."""
    file.path.write_text("alice: oops\n")

    with caplog.at_level(logging.ERROR):
        assert await login.check_password("alice", PASSWORD) is not None
        assert await login.check_password("alice", PASSWORD) is not None
    assert [record.message for record in caplog.records] == [
        f"cannot read the users in {file.path}: line 1 is not name:hash:groups; the users are those from before"
    ]


async def test_a_file_that_cannot_be_read_refuses_everybody(
    login: PasswordAuthenticator, file: UserFile, caplog: pytest.LogCaptureFixture
) -> None:
    """Who was removed from it may be the one who asks. When it can be read again, all is well; the log tells once."""
    assert await login.check_password("alice", PASSWORD) is not None
    kept = file.path.rename(file.path.with_name("kept"))
    file.path.mkdir()

    with caplog.at_level(logging.ERROR):
        assert await login.check_password("alice", PASSWORD) is None
        assert await login.check_password("alice", PASSWORD) is None
    assert [record.message for record in caplog.records] == [
        f"cannot read the users in {file.path}: Is a directory; nobody can log in by a password until it can be read"
    ]
    file.path.rmdir()
    kept.rename(file.path)
    assert await login.check_password("alice", PASSWORD) is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")
def test_what_root_writes_is_the_gateways(tmp_path: Path) -> None:
    """After ``sudo tidegate users`` the gateway's account can read the file, and lock it; no link is followed."""
    os.chown(tmp_path, 12345, 12345)
    file = UserFile(tmp_path / "users")
    with file.changing() as users:
        users["alice"] = User("alice", "$argon2")

    for path in (file.path, tmp_path / "users.lock"):
        assert (path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o777) == (12345, 12345, 0o600)
    (tmp_path / "users.lock").unlink()
    (tmp_path / "users.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadUsers, match="cannot write"), file.changing():
        pass
    assert not (tmp_path / "elsewhere").exists()


async def test_a_file_that_is_broken_at_the_start_stops_it(file: UserFile, tmp_path: Path) -> None:
    """Then somebody is there who can mend it."""
    file.path.write_text("# users\nalice\n")

    with pytest.raises(BadUsers, match="line 2"):
        await PasswordAuthenticator(tmp_path).start()


def test_only_its_owner_may_read_the_file(file: UserFile) -> None:
    """Hashes can be guessed at."""
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in file.path.read_text()
    assert "argon2" not in repr(file.read())


@pytest.mark.parametrize(("password", "why"), [("short", "has 5 characters"), ("x" * 1025, "more than 1024 bytes")])
def test_a_password_that_is_none_is_refused(password: str, why: str) -> None:
    """Before it is kept."""
    with pytest.raises(BadUsers, match=why):
        hash_password(password)
