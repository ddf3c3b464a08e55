"""The folder in which all clusters have theirs: where it is, and whether nobody but us can put anything into it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tidegate.backends.local.accounts import drop_groups
from tidegate.backends.local.settings import LocalSettings
from tidegate.model.errors import BackendFailed


def place_of(data: Path, settings: LocalSettings) -> Path:
    """Return where the folders of clusters are."""
    data = Path(data).absolute()
    if settings.accounts != "owner":
        return settings.folder or data / "clusters"
    # Without links, for it is looked at step by step whether each is safe.
    return (settings.folder or data.with_name(f"{data.name}-clusters")).resolve()


def make_place(place: Path, settings: LocalSettings) -> None:
    """Make it, if it is not there, and make this process fit to act for the accounts of others, if it is to.

    Raises
    ------
    BackendFailed
        Clusters are to run under their owners' accounts, and this process cannot see to that, or not there.
    """
    if settings.accounts == "owner" and os.geteuid() != 0:
        raise BackendFailed(
            "cannot run clusters under their owners' accounts: the gateway was not started as root. Start it as root, "
            "or set backend.accounts to gateway",
            permanent=True,
        )
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.accounts != "owner":
        return
    drop_groups()
    # To pass through, not to list: that others have clusters is nobody's business.
    place.chmod(0o711)
    for folder in (place, *place.parents):
        _check(folder, place)
    if settings.scratch is not None:
        _check_scratch(settings.scratch)


def _check(folder: Path, place: Path) -> None:
    found = folder.stat()
    if found.st_uid != 0 or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
        problem, remedy = "others than root can rename what is in", f"chown root {folder} and chmod go-w {folder}"
    elif not found.st_mode & stat.S_IXOTH:
        problem, remedy = "users cannot pass through", f"chmod o+x {folder}"
    else:
        return
    raise BackendFailed(
        f"cannot keep the folders of clusters in {place}: {problem} {folder}. Run {remedy}, or set backend.folder to "
        "another place, such as /var/lib/tidegate-clusters",
        permanent=True,
    )


def _check_scratch(scratch: Path) -> None:
    mode = scratch.stat().st_mode if scratch.is_dir() else 0
    if not (mode & stat.S_IWOTH and mode & stat.S_ISVTX):
        raise BackendFailed(
            f"cannot use {scratch} as backend.scratch: users must be able to make folders there which nobody else can "
            f"rename. Run mkdir -p {scratch} and chmod 1777 {scratch}",
            permanent=True,
        )
