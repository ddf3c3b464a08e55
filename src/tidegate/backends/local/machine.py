"""What this machine offers: memory and cores, and the control groups that we are in."""

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


def _memory_limits(proc: Path) -> Iterator[int]:
    for kind, controller, name in (("cgroup2", "", "memory.max"), ("cgroup", "memory", "memory.limit_in_bytes")):
        for folder in group_folders(kind, controller, proc):
            # A limit holds for everything below it.
            for level in (folder, *folder.parents):
                try:
                    text = (level / name).read_text().strip()
                except OSError:
                    break  # Above the mount.
                if text.isdigit():  # Version 2 says "max" where there is no limit.
                    yield int(text)


def group_folders(kind: str, controller: str, proc: Path = PROC) -> Iterator[Path]:
    """Yield the folder of our control group in each mounted hierarchy of ``kind`` that has ``controller``.

    ``kind`` is ``cgroup2``, whose one hierarchy has all controllers (name none), or ``cgroup`` for version 1.
    """
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
