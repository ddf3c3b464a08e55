"""The data folder: what is refused, and with which words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.store.base import StoreUnusable
from tidegate.store.folder import file_system_of, prepare_database, prepare_folder, refuse_network_file_system

MOUNTS = r"""
rootfs / ext4 rw 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/sdb /home/alice/scratch xfs rw 0 0
//server/share /mnt/two\040words\134 cifs rw 0 0
me@host:/ /mnt/ssh fuse.sshfs rw 0 0
none /covered tmpfs rw 0 0
server:/x /covered lustre rw 0 0
short line
"""


def test_a_new_folder_is_ours_alone(tmp_path: Path):
    """The folder is created with its parents, for nobody else; a second time changes nothing."""
    folder = tmp_path / "deep" / "data"
    prepare_folder(folder)
    prepare_folder(folder)

    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_folder_open_to_others_is_refused(tmp_path: Path, mode: int):
    """A folder that others can reach is refused with its mode and the command that mends it."""
    tmp_path.chmod(mode)

    with pytest.raises(StoreUnusable, match=rf"mode is {mode:04o}.*chmod 700 {tmp_path}"):
        prepare_folder(tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path):
    """A path that is no folder is named."""
    path = tmp_path / "data"
    path.touch()

    with pytest.raises(StoreUnusable, match=f"cannot create the data folder {path}.*--data"):
        prepare_folder(path)


@pytest.fixture
def plain_user() -> Iterator[int]:
    """The id of a user whom permissions bind: root takes another one's for a while."""
    me = os.geteuid()
    user = 65534 if me == 0 else me
    os.seteuid(user)
    yield user
    os.seteuid(me)


def test_a_folder_that_cannot_be_written_is_refused(plain_user: int):
    """A read-only folder is noticed at start, not at the first cluster."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o500)

        with pytest.raises(StoreUnusable, match=f"cannot write to the data folder {name}: Permission denied"):
            prepare_folder(Path(name))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/tidegate", "ext4"),
        ("/home/alice/.local/share/tidegate", "nfs4"),
        ("/home/alice/scratch/tidegate", "xfs"),
        ("/homeless", "ext4"),
        ("/mnt/two words\\/x", "cifs"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/covered/data", "lustre"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str):
    """The deepest mount point above a path tells its file system; of two at one place, the later."""
    assert file_system_of(Path(path), MOUNTS) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path: Path, kind: str):
    """SQLite is not put where its log would be damaged; the sentence names the kind and both ways out."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"rootfs / ext4 rw 0 0\nserver:/x {tmp_path} {kind} rw 0 0\n")

    with pytest.raises(StoreUnusable, match=rf"network file system \({kind}\).*--data.*PostgreSQL"):
        refuse_network_file_system(tmp_path / "data", mounts)


def test_a_link_to_a_network_file_system_is_followed(tmp_path: Path):
    """A folder that only looks local, through a symbolic link, is refused too."""
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"rootfs / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs rw 0 0\n")

    with pytest.raises(StoreUnusable, match="nfs"):
        refuse_network_file_system(tmp_path / "near", mounts)


def test_a_local_disk_is_accepted(tmp_path: Path):
    """A database on a local file system is created for nobody else, whatever the umask."""
    before = os.umask(0)
    try:
        prepare_database(tmp_path / "x.sqlite")
    finally:
        os.umask(before)

    assert (tmp_path / "x.sqlite").stat().st_mode & 0o777 == 0o600
