"""Whether the gateway listens elsewhere than before: running clusters were told the old address, and keep it."""

from __future__ import annotations

from pathlib import Path

from tidegate.store.base import Store

FILE = "address"


async def note_address(store: Store, data: Path, url: str) -> list[str]:
    """Remember where agents reach the gateway; return a sentence if running clusters know another address."""
    path = data / FILE
    before = _read(path) or url
    running = await store.active()
    if before != url and running:
        names = ", ".join(cluster.name for cluster in running[:3]) + (", …" if len(running) > 3 else "")
        return [
            f"Clusters that run ({names}) know the gateway at {before} only: they compute on, but cannot be sized from "
            "here. Start the gateway at that address to have them back, or stop them."
        ]
    try:
        path.write_text(url + "\n")
    except OSError as error:
        return [
            f"cannot write {path}: {error.strerror}. A later start elsewhere will not notice that the gateway moved"
        ]
    return []


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""  # the first start, or a file that says nothing
