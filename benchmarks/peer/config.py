# mypy: ignore-errors
"""Configuration of dask-gateway for the benchmark; what differs between groups comes from the environment.

BENCH_PORT, BENCH_API_PORT   where it listens
BENCH_FOLDER                 where its clusters' folders are
BENCH_BACKEND                ``local``: processes, or ``simulated``: records only
BENCH_DATABASE               its database; its own default is in memory, where nothing outlives the server
BENCH_SCHEDULER              ``host:port`` of what stands for every simulated scheduler
"""

import asyncio
import os

from dask_gateway_server.backends import db_base
from dask_gateway_server.backends.local import UnsafeLocalBackend


class SimulatedBackend(db_base.DBBackendBase):
    """Starts nothing and reports at once, as a scheduler would: for records, lists and routes."""

    async def do_setup(self):
        """All simulated clusters share one certificate: an RSA key costs 50 ms, and none of them is timed."""
        pair = db_base.new_keypair("simulated")
        db_base.new_keypair = lambda name: pair

    async def do_cleanup(self):
        """Nothing is held."""

    async def do_start_cluster(self, cluster):
        """Report as soon as the cluster counts as submitted."""
        report = {
            "scheduler_address": f"tls://{os.environ['BENCH_SCHEDULER']}",
            "dashboard_address": "",
            "api_address": "http://127.0.0.1:1",
            "count": 0,
            "active_workers": [],
            "closing_workers": [],
            "closed_workers": [],
        }
        yield {"simulated": True}
        later = asyncio.get_running_loop().call_later
        later(0.02, lambda: asyncio.ensure_future(self.on_cluster_heartbeat(cluster.name, report)))

    async def do_stop_cluster(self, cluster):
        """Nothing was started."""

    async def do_check_clusters(self, clusters):
        """All are well."""
        return [True for _ in clusters]

    async def do_check_workers(self, workers):
        """There are none."""
        return [True for _ in workers]


c = get_config()  # noqa: F821 -- provided by traitlets when it reads this file
simulated = os.environ["BENCH_BACKEND"] == "simulated"
c.DaskGateway.backend_class = SimulatedBackend if simulated else UnsafeLocalBackend
c.DaskGateway.log_level = "WARN"
c.DaskGateway.address = f"127.0.0.1:{os.environ['BENCH_API_PORT']}"
c.Proxy.address = f"127.0.0.1:{os.environ['BENCH_PORT']}"
c.Proxy.log_level = "error"
c.DBBackendBase.db_url = os.environ["BENCH_DATABASE"]
c.LocalBackend.clusters_directory = os.environ["BENCH_FOLDER"]
# Its defaults name `dask-scheduler` and `dask-worker`, which distributed no longer ships since 2026.6.
c.ClusterConfig.scheduler_cmd = ["dask", "scheduler"]
c.ClusterConfig.worker_cmd = ["dask", "worker"]
c.ClusterConfig.worker_cores = 1
c.ClusterConfig.worker_memory = "2 G"
if simulated:  # nobody sends heartbeats after the first
    c.DBBackendBase.cluster_heartbeat_timeout = 1e6
