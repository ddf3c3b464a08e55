"""Whoever can write to what root imports is told apart from those who cannot."""

from __future__ import annotations

import grp
import os
import stat
import struct
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.server.imports import ACCESS_LIST, _has_members, check_imports, find_writable
from tidegate.server.preflight import CannotServe

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has files that are root's")

NOBODY = 65534


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of root's, below others of root's, with a module in it."""
    for folder in (tmp_path, *tmp_path.parents):
        assert folder.stat().st_uid == 0
    tmp_path.chmod(0o755)
    (tmp_path / "module.py").touch(0o644)
    return tmp_path


def look(path: Path) -> tuple[str, str] | None:
    """Look at one path."""
    return find_writable([str(path)])


def test_what_is_roots_alone_is_fine(place: Path) -> None:
    """Also below /tmp, where everybody may write, but not move what is root's."""
    assert look(place / "module.py") is None
    assert look(place / "not there") is None


def test_a_sticky_folder_is_not_fine_where_modules_are_searched_for(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can move what is root's there, but anybody can add a module."""
    place.chmod(0o1777)
    assert look(place / "module.py") is None

    monkeypatch.setattr(sys, "path", [*sys.path, str(place)])
    assert look(place / "module.py") == (str(place), "every user")


@pytest.mark.parametrize("name", ["module.py", "."])
def test_an_owner_can_write(place: Path, name: str) -> None:
    """Of the file, or of a folder above it; whatever the mode says today."""
    path = place / name
    os.chown(path, NOBODY, 0)
    path.chmod(0o555)

    assert look(place / "module.py") == (str(path), "user nobody")


@pytest.mark.parametrize(
    ("mode", "gid", "who"),
    [(0o666, 0, "every user"), (0o664, NOBODY, "group nogroup"), (0o664, 0, ""), (0o664, 54321, "group 54321")],
)
def test_the_mode_says_who_else_can(place: Path, mode: int, gid: int, who: str) -> None:
    """A group that has members, or that nobody knows; root's own has none but root."""
    path = place / "module.py"
    os.chown(path, 0, gid)
    path.chmod(mode)

    assert look(path) == ((str(path), who) if who else None)


def test_somebody_else_in_roots_group_can_write(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a group as any other: an administrator may have put people in."""
    path = place / "module.py"
    path.chmod(0o664)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("root", "x", gid, ["root", "nobody"])))
    _has_members.cache_clear()
    try:
        assert look(path) == (str(path), "group root")
    finally:
        _has_members.cache_clear()


@pytest.mark.parametrize("name", ["module.py", "."])
def test_an_access_control_list_is_refused(place: Path, name: str) -> None:
    """It gives rights that neither owner nor mode show: here to write, to user nobody, behind the mode 0644."""
    path = place / name
    nobody_else = 0xFFFFFFFF
    entries = [(1, 6, nobody_else), (2, 6, NOBODY), (4, 4, nobody_else), (0x10, 6, nobody_else), (0x20, 4, nobody_else)]
    content = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, ACCESS_LIST, content)
    except OSError as error:
        pytest.skip(f"this file system has no access control lists: {error}")

    found = look(place / "module.py")

    assert found is not None
    assert (found[0], "setfacl -b" in found[1]) == (str(path), True)
    os.removexattr(path, ACCESS_LIST)


def test_a_link_is_followed(place: Path) -> None:
    """What is imported is where it leads; a link of somebody else's can lead anywhere tomorrow."""
    (place / "theirs").mkdir()
    (place / "theirs" / "module.py").touch()
    os.chown(place / "theirs", NOBODY, 0)
    (place / "link.py").symlink_to(place / "theirs" / "module.py")
    (place / "other.py").symlink_to(place / "module.py")
    os.lchown(place / "other.py", NOBODY, 0)

    assert look(place / "link.py") == (str(place / "theirs"), "user nobody")
    assert look(place / "other.py") == (str(place / "other.py"), "user nobody")


@pytest.fixture
def module(place: Path) -> Iterator[Path]:
    """The file of a module that is loaded."""
    sys.modules["tests.loaded"] = types.ModuleType("tests.loaded")
    sys.modules["tests.loaded"].__file__ = str(place / "module.py")
    yield place / "module.py"
    del sys.modules["tests.loaded"]


def test_every_loaded_module_counts(module: Path) -> None:
    """And the words say the path, and what to do with it."""
    check_imports()
    module.chmod(module.stat().st_mode | stat.S_IWOTH)

    with pytest.raises(CannotServe, match=f"every user can change {module}.*chown root:root {module} && chmod go-w"):
        check_imports()


def test_the_configuration_counts(place: Path) -> None:
    """It says what root runs, and as whom."""
    (place / "tidegate.yaml").touch()
    check_imports(place / "tidegate.yaml")
    os.chown(place / "tidegate.yaml", NOBODY, 0)

    with pytest.raises(CannotServe, match=r"user nobody can change .*tidegate.yaml"):
        check_imports(place / "tidegate.yaml")


def test_a_folder_that_modules_are_looked_for_in_counts(place: Path) -> None:
    """Whoever can add a module there has it imported in place of another."""
    (place / "more").mkdir()
    os.chown(place / "more", NOBODY, 0)
    sys.path.append(str(place / "more"))
    try:
        with pytest.raises(CannotServe, match=r"user nobody can change .*/more"):
            check_imports()
    finally:
        sys.path.remove(str(place / "more"))
