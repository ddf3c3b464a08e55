"""What a cluster of real processes leaves on the disk, and what others may have left there for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.backend_sites import LocalSite
from tests.support import eventually
from tidegate.model.errors import BackendFailed


def lay_link(place: Path) -> None:
    """Somebody laid a link to a folder of theirs."""
    theirs = place.parent.parent / "theirs"
    theirs.mkdir(mode=0o700)
    place.symlink_to(theirs)


def lay_open_folder(place: Path) -> None:
    """Somebody made the folder, open to all."""
    place.mkdir()
    place.chmod(0o777)


def lay_own_folder(place: Path) -> None:
    """Another user made the folder."""
    place.mkdir(mode=0o700)
    os.chown(place, 12345, 12345)


def open_parent(place: Path) -> None:
    """The folder around it lets everybody rename what others put there."""
    place.parent.chmod(0o777)


@pytest.mark.parametrize("prepare", [lay_link, lay_open_folder, lay_own_folder, open_parent])
async def test_a_scratch_folder_that_others_prepared_is_refused(
    tmp_path: Path, prepare: Callable[[Path], None]
) -> None:
    """Workers load what lies in their own folder: whoever can write there would run code as the owner's."""
    if prepare is lay_own_folder and os.getuid() != 0:
        pytest.skip("only root can give a folder to another user")
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)
    site = await LocalSite(tmp_path, settings={"scratch": str(scratch)}).start()
    try:
        prepare(scratch / f"tidegate-{site.launch.cluster}")
        with pytest.raises(BackendFailed, match=r"cannot launch the cluster .*scratch") as failed:
            await site.backend.launch(site.launch)
        assert failed.value.permanent
        assert not site.marked()
        assert not (site.cluster_folder / "secrets" / "agent.json").exists()
    finally:
        await site.close()


async def test_a_scratch_folder_elsewhere_is_private_and_goes_with_its_cluster(tmp_path: Path) -> None:
    """Even where everybody may write, as in /tmp, and however often the launch is asked for."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    scratch.chmod(0o1777)
    site = await LocalSite(tmp_path, settings={"scratch": str(scratch)}).start()
    try:
        own = scratch / f"tidegate-{site.launch.cluster}"
        own.mkdir(mode=0o700)  # An earlier launch was killed right after it had made it.
        await site.run(workers=1)
        await site.backend.launch(site.launch)
        assert own.stat().st_mode & 0o777 == 0o700
        assert (own / "default-1").stat().st_mode & 0o777 == 0o700
    finally:
        await site.close()
    assert list(scratch.iterdir()) == []


async def test_logs_do_not_fill_the_disk(site: LocalSite) -> None:
    """What a scheduler or a worker prints without end is cut; how it began can still be read, and what follows."""

    def chatter() -> None:
        import os

        os.write(1, b"the first line\n")
        for _ in range(65):
            os.write(1, (b"x" * 99 + b"\n") * 10_486)

    def go_on() -> None:
        import os

        os.write(1, b"the last line\n")

    await site.run(workers=1)
    async with site.client() as client:
        await client.run_on_scheduler(chatter)
        await client.run(chatter)
        for process in ("scheduler", "default-1"):
            await eventually(lambda name=process: "tidegate: cut" in site.log(name), 30, f"the log of {process} is cut")
        await client.run_on_scheduler(go_on)
        await client.run(go_on)
    logs = {log.process: log.text for log in await site.backend.logs(site.launch.cluster)}
    for process in ("scheduler", "default-1"):
        assert "the first line\n" in site.log(process)
        assert len(site.log(process)) < 2**25
        assert "the last line" in logs[process]
