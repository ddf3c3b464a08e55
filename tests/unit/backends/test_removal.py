"""Removing folders of which others decide what lies in them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tidegate.backends.local.accounts import Account
from tidegate.backends.local.removal import DEEP, remove_tree


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Give a folder with a file, which links may lead to and which must stay."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("stays")
    return kept


def test_whatever_is_there_goes(tmp_path: Path, kept: Path) -> None:
    """Files, folders, pipes and links go, and what links lead to stays."""
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch()
    os.mkfifo(tree / "a" / "pipe")
    (tree / "a" / "link").symlink_to(kept)
    (tree / "link").symlink_to(kept / "file")
    remove_tree(tree)
    assert not tree.exists()
    assert (kept / "file").read_text() == "stays"


@pytest.mark.parametrize("kind", ["link", "file", "pipe", "nothing"])
def test_what_is_no_folder_goes_by_itself(tmp_path: Path, kept: Path, kind: str) -> None:
    """A link in the place of the folder is removed, not what it leads to."""
    path = tmp_path / "path"
    if kind == "link":
        path.symlink_to(kept)
    elif kind == "file":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    remove_tree(path)
    assert not os.path.lexists(path)
    assert (kept / "file").exists()


def test_depth_does_not_matter(tmp_path: Path) -> None:
    """Folders within folders, more than there can be descriptors or calls within each other, go too."""
    tree = tmp_path / "tree"
    tree.mkdir()
    folder = os.open(tree, os.O_RDONLY)
    for _ in range(20 * DEEP + 7):
        os.mkdir("f", dir_fd=folder)
        below = os.open("f", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    remove_tree(tree)
    assert not tree.exists()


def test_what_its_owner_has_closed_goes_too() -> None:
    """Folders that nobody may read, write or enter, on top and below: whoever owns them can open them again."""
    with tempfile.TemporaryDirectory() as place:  # where others can pass through, as they cannot in pytest's
        check_closed(Path(place))


def check_closed(place: Path) -> None:
    """Remove a tree whose folders are closed."""
    tree = place / "tree"
    for mode in (0o000, 0o500, 0o300):
        (tree / f"{mode:o}" / "below").mkdir(parents=True)
        (tree / f"{mode:o}" / "below" / "file").touch()
        (tree / f"{mode:o}" / "below").chmod(mode)
        (tree / f"{mode:o}").chmod(mode)
    tree.chmod(0)
    if os.geteuid() != 0:
        remove_tree(tree)
    else:  # Root could without: as somebody else.
        os.chown(place, 12345, 12345)
        for path in (tree, *tree.rglob("*")):
            os.chown(path, 12345, 12345)
        with Account("", 12345, 12345).acting():
            remove_tree(tree)
    assert not tree.exists()


def test_what_is_missing_is_no_error(tmp_path: Path) -> None:
    """Nor is a folder above that is missing."""
    remove_tree(tmp_path / "missing" / "tree")
