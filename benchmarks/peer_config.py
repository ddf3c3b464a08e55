"""Configuration of dask-gateway for the benchmark: its local backend on a port from the environment."""

import os

c = get_config()  # noqa: F821 -- provided by traitlets when it reads this file
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.log_level = "WARN"
c.DaskGateway.address = f"127.0.0.1:{os.environ['BENCH_API_PORT']}"
c.Proxy.address = f"127.0.0.1:{os.environ['BENCH_PORT']}"
c.Proxy.log_level = "warn"
# Its defaults name `dask-scheduler` and `dask-worker`, which distributed no longer ships since 2026.6.
c.ClusterConfig.scheduler_cmd = ["dask", "scheduler"]
c.ClusterConfig.worker_cmd = ["dask", "worker"]
c.ClusterConfig.worker_cores = 1
c.ClusterConfig.worker_memory = "2 G"
