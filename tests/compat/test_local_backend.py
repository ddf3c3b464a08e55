"""The local backend with environments of other versions: the keeper runs with whatever Python the user chose."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.compat.lab import SCRIPTS
from tests.contract.backend_sites import LocalSite, see, state_of, until
from tidegate.model.observation import ProcessState

COMPUTATION = """
import os
assert sum(client.gather(client.map(lambda n: n + 1, range(10)))) == 55
there = client.scatter(os.urandom(20 * 2**20))
assert client.submit(len, client.submit(lambda data: data + b"!", there)).result() == 20 * 2**20 + 1
before = set(client.run(os.getpid).values())
client.restart()
after = set(client.run(os.getpid).values())
assert len(after) == 2 and not before & after, (before, after)
assert len(set(client.run(lambda: __import__("numpy").random.random()).values())) == 2
assert len(set(client.run(lambda: __import__("random").random()).values())) == 2
"""


@pytest.mark.compat
@pytest.mark.parametrize("forked", [False, True], ids=["interpreter", "forked"])
async def test_the_oldest_dask_works_under_a_keeper(oldest_dask: Path, tmp_path: Path, forked: bool) -> None:
    """Workers of distributed 2024.1 on Python 3.9 start, compute, restart, are replaced when they die, and go."""
    python = str(oldest_dask)
    settings = {"environments": {"oldest": python}, "notebook_environment": False}  # The default has the zygote.
    site = await LocalSite(tmp_path, python=python, zygote=forked, settings=settings).start()
    try:
        await site.run(workers=2)
        assert site.was_forked() is forked
        assert site.double.last.versions["distributed"] == "2024.1.0"
        await _compute(site)
        os.kill(site.children()[-1], signal.SIGKILL)
        seen = await until(site, lambda seen: any(worker.why for worker in seen.workers.values()))
        assert {worker.state for worker in seen.workers.values()} == {ProcessState.RUNNING}
        assert [worker.code for worker in seen.workers.values() if worker.why] == ["killed"]
        await site.backend.stop_workers(site.launch.cluster, ["default-1"])
        await until(site, lambda seen: state_of(seen, "default-1") is ProcessState.EXITED)
        await site.backend.stop(site.launch.cluster)
        await until(site, lambda seen: not seen.remains)
        assert not site.marked()
        assert state_of(await see(site)) is ProcessState.EXITED
    finally:
        await site.close()


async def _compute(site: LocalSite) -> None:
    """Run a client of the cluster's own version: a newer one does not understand its scheduler."""
    place = site.write_client_files()
    tls = {"CA_FILE": "ca.pem", "CLIENT__CERT": "client.pem", "CLIENT__KEY": "client.key"}
    environment = {f"DASK_DISTRIBUTED__COMM__TLS__{key}": str(place / name) for key, name in tls.items()}
    process = await asyncio.create_subprocess_exec(
        site.python, str(SCRIPTS / "client.py"), await site.address(), COMPUTATION, env=environment
    )
    assert await asyncio.wait_for(process.wait(), 60) == 0
