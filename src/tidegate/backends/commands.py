"""What a scheduler and a worker are started with: arguments and environment, as pure functions.

Every backend that starts processes uses these, so that they all start the same. Nothing secret is among the arguments
or in the environment: secrets lie in files beside the processes (``Launch.files``), and only their paths are named.

The environment is built up from nothing. What the gateway's own process has (tokens, database passwords, settings for
*its* Dask) must not reach the code of users; what belongs to the machine or to the person (``PASSED_ON``) may.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping

from tidegate.model.cluster import ClusterSpec

PASSED_ON = frozenset(
    {
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "PATH",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    }
)
"""Variables of the gateway's environment that processes of users get, besides ``LC_*``: who and where they are, and
which certificate authorities the machine trusts."""

# The names under which ``Launch.files`` hands things over.
CA = "ca.pem"
SCHEDULER_CERT = "scheduler.pem"
SCHEDULER_KEY = "scheduler.key"
WORKER_CERT = "worker.pem"
WORKER_KEY = "worker.key"
AGENT_SETTINGS = "agent.json"
VARIABLES = "variables.json"
AGENT = "tidegate_agent.py"
WORKER_GUARD = "tidegate_worker.py"


def threads(spec: ClusterSpec) -> int:
    """Return how many threads a worker has: as many as are asked for, else its cores, rounded up."""
    return spec.worker_threads or max(1, math.ceil(spec.worker_cores))


def scheduler_arguments(files: str, host: str, port: int = 0) -> list[str]:
    """Return the arguments for ``python -m distributed.cli.dask_scheduler``.

    Parameters
    ----------
    files : str
        The folder in which the launch's files lie.
    host : str
        The address to listen on, for the scheduler and its dashboard.
    port : int
        0: any that is free.
    """
    return [
        "--host",
        host,
        "--port",
        str(port),
        "--protocol",
        "tls",
        "--dashboard-address",
        f"{host}:0",
        # The agent makes its pages when somebody first asks for one.
        "--no-dashboard",
        "--preload",
        os.path.join(files, AGENT),
    ]


def passed_environment(own: Mapping[str, str], more: Collection[str] = ()) -> dict[str, str]:
    """Return what of the gateway's ``own`` environment processes of users get; ``more`` are further names."""
    return {name: value for name, value in own.items() if name in PASSED_ON or name in more or name.startswith("LC_")}


def worker_environment(files: str, spec: ClusterSpec) -> dict[str, str]:
    """Return what workers need in their environment besides ``passed_environment``.

    Configuration of Dask goes by the environment, because it then wins over the user's own files, which apply to all
    else.
    """
    cores = str(threads(spec))
    return {
        "TIDEGATE_AGENT_FILE": os.path.join(files, AGENT_SETTINGS),
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": os.path.join(files, CA),
        "DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT": os.path.join(files, WORKER_CERT),
        "DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY": os.path.join(files, WORKER_KEY),
        # A task may itself be a client of its cluster (``get_client``), and then needs a certificate as such.
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": os.path.join(files, WORKER_CERT),
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": os.path.join(files, WORKER_KEY),
        # Despite its name this is for the dashboards of workers too.
        "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__TLS__CERT": os.path.join(files, WORKER_CERT),
        "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__TLS__KEY": os.path.join(files, WORKER_KEY),
        # Each process measures how late its event loop is, by default every 20 ms. That alone is four fifths of what
        # an idle scheduler uses (2.0 % of a core; 0.4 % with this).
        "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
        # How often it works out the average of that: it must not be more often than it measures.
        "DASK_DISTRIBUTED__ADMIN__TICK__CYCLE": "10s",
        # Bokeh pings browsers and looks for pages that were closed, each twice a second, though there be none.
        "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__BOKEH_APPLICATION__KEEP_ALIVE_MILLISECONDS": "10000",
        "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__BOKEH_APPLICATION__CHECK_UNUSED_SESSIONS_MILLISECONDS": "5000",
        "OMP_NUM_THREADS": cores,
        "OPENBLAS_NUM_THREADS": cores,
        "MKL_NUM_THREADS": cores,
        # Read when a process starts, so Dask's own way of setting them is too late where workers are forked. All
        # workers must hash alike (6640 is Dask's number), and memory that is free goes back to the system.
        "PYTHONHASHSEED": "6640",
        "MALLOC_TRIM_THRESHOLD_": "65536",
        # Changing the title of a process must not overwrite its environment, by which it is known.
        "SPT_NOENV": "1",
    }


def scheduler_environment(files: str) -> dict[str, str]:
    """Return what the scheduler needs in its environment, besides or instead of what workers need."""
    return {
        "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT": os.path.join(files, SCHEDULER_CERT),
        "DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY": os.path.join(files, SCHEDULER_KEY),
        "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__TLS__CERT": os.path.join(files, SCHEDULER_CERT),
        "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__TLS__KEY": os.path.join(files, SCHEDULER_KEY),
    }
