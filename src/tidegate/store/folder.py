"""The data folder: whether it is fit to hold secrets and a SQLite database in WAL mode.

SQLite's write-ahead log shares memory between processes through a mapped file. On a network file system two machines
do not see the same memory, and locks may be advisory or absent: the database is damaged without any error at the time.
So such a folder is refused by the type of its file system.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tidegate.store.base import StoreUnusable

MOUNTS = Path("/proc/self/mounts")

# fmt: off
NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "vboxsf", "wekafs",
    "fuse.beegfs", "fuse.ceph", "fuse.davfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs",
    "fuse.mount.glusterfs", "fuse.quobyte", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
})
# fmt: on
"""Types, as in the third column of ``/proc/mounts``, on which no shared memory map can be trusted."""


def prepare_folder(folder: Path) -> None:
    """Create the data folder if it is not there, and check that it is ours alone and can be written.

    Raises
    ------
    StoreUnusable
        With the command that mends it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode & 0o777
    except OSError as error:
        raise StoreUnusable(
            f"cannot create the data folder {folder}: {error.strerror}. Choose another with --data"
        ) from error
    if mode & 0o077:
        raise StoreUnusable(
            f"cannot use the data folder {folder}: its mode is {mode:04o}, so others on this machine could reach its "
            f"secrets. Run: chmod 700 {folder}"
        )
    try:
        # Asking the mode bits would miss read-only mounts, quotas and access lists.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreUnusable(
            f"cannot write to the data folder {folder}: {error.strerror}. Make it writable for the gateway's user, "
            "or choose another with --data"
        ) from error


def prepare_database(file: Path) -> None:
    """Check that SQLite can keep its database here, and create the file if it is not there, readable by nobody else.

    SQLite itself would use the umask's mode; the log files beside it take the mode of the database.
    """
    refuse_network_file_system(file.parent)
    try:
        if not file.exists():
            file.touch(mode=0o600)
    except OSError as error:
        raise StoreUnusable(f"cannot create the database {file}: {error.strerror}") from error


def refuse_network_file_system(folder: Path, mounts: Path = MOUNTS) -> None:
    """Raise ``StoreUnusable`` when ``folder`` is on a file system of another machine."""
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return  # no /proc: not Linux, or a sandbox; nothing can be said
    kind = file_system_of(folder.resolve(), table)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreUnusable(
            f"cannot keep the SQLite database in {folder}: it is on a network file system ({kind}), where SQLite's "
            "write-ahead log gets damaged. Choose a folder on a local disk with --data, or use PostgreSQL"
        )


def file_system_of(path: Path, table: str) -> str:
    r"""Return the type of the file system that holds ``path``, from the text of ``/proc/mounts``.

    >>> file_system_of(Path("/home/a b/x"), "/dev/sda / ext4 rw 0 0\nsrv:/h /home/a\\040b nfs4 rw 0 0")
    'nfs4'
    """
    best, kind = -1, ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(_unescape(fields[1]))
        # ">=": of two mounts at one place the later one covers the earlier.
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def _unescape(text: str) -> str:
    """Undo the kernel's octal escapes of blank, tab, line feed and backslash."""
    for code, char in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        text = text.replace(code, char)
    return text
