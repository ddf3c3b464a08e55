"""What this machine offers: memory and cores, and whether control groups can be made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def memory(proc: Path = PROC) -> int:
    """Return the bytes of memory that processes of ours can have: the machine's, or less if a control group says so."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([pages, *_memory_limits(proc)])


def cores() -> int:
    """Return the number of cores that we may run on."""
    return len(os.sched_getaffinity(0))


def group_folder(proc: Path = PROC) -> Path | None:
    """Return the folder of our own control group of version 2, or None if there is none that we may extend."""
    for folder in _groups(proc, "cgroup2", ""):
        if os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
            return folder
    return None


def _memory_limits(proc: Path) -> Iterator[int]:
    for kind, controller, name in (("cgroup2", "", "memory.max"), ("cgroup", "memory", "memory.limit_in_bytes")):
        for folder in _groups(proc, kind, controller):
            # A limit holds for everything below it.
            for level in (folder, *folder.parents):
                try:
                    text = (level / name).read_text().strip()
                except OSError:
                    break  # Above the mount.
                if text.isdigit():  # Version 2 says "max" where there is no limit.
                    yield int(text)


def _groups(proc: Path, kind: str, controller: str) -> Iterator[Path]:
    """Yield the folder of our control group in each mounted hierarchy of ``kind`` that has ``controller``."""
    try:
        memberships = (proc / "self" / "cgroup").read_text().splitlines()
        mounts = (proc / "self" / "mountinfo").read_text().splitlines()
    except OSError:
        return
    own = next((m.split(":", 2)[2] for m in memberships if controller in m.split(":", 2)[1].split(",")), None)
    if own is None:
        return
    for mount in mounts:
        # proc(5): "ID PARENT DEVICE ROOT MOUNTPOINT OPTIONS ... - TYPE SOURCE SUPEROPTIONS"
        place, _, what = mount.partition(" - ")
        fields, (filesystem, _, options) = place.split(), what.split(" ", 2)
        if filesystem == kind and (not controller or controller in options.split(",")):
            root, point = fields[3], Path(fields[4])
            # In a container the hierarchy may be mounted from our own group on.
            inside = os.path.relpath(own, root) if (own + "/").startswith(root.rstrip("/") + "/") else "."
            folder = Path(os.path.normpath(point / inside))
            yield folder if folder.exists() else point
