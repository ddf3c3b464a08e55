"""The guard of a worker: runs inside each worker of a cluster and closes its HTTP server to strangers.

A worker's HTTP server listens even when its dashboard is switched off, and shows what its tasks do. With this file as a
preload it answers only to whoever knows the cluster's dashboard secret, which lies in the agent file beside it. It does
nothing else: whatever there is to say about workers, the scheduler's agent says.

Handed over alone, to any image with Dask in it: Python >= 3.9, distributed >= 2024.1. The guard itself and the care for
configured preloads are the same as in ``tidegate_agent.py``, which explains them.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
from typing import Any

import dask
from distributed.http.routing import RoutingApplication
from distributed.preloading import process_preloads
from tornado.web import ErrorHandler

logger = logging.getLogger("distributed.worker.tidegate")

HEADER = "X-Tidegate-Dashboard"

EXIT_UNGUARDED = 70
"""Exit status of a process that cannot guard itself (``EX_SOFTWARE`` of sysexits.h)."""


def load_secret() -> str:
    """Read the dashboard secret from the file that ``TIDEGATE_AGENT_FILE`` names, or exit with a sentence."""
    path = os.environ.get("TIDEGATE_AGENT_FILE", "")
    try:
        with open(path, encoding="utf-8") as file:
            secret = json.load(file)["dashboard_secret"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise SystemExit(f"cannot start without an agent file: TIDEGATE_AGENT_FILE={path!r}: {why}") from None
    if not isinstance(secret, str) or not secret:
        raise SystemExit(f"cannot start: the dashboard_secret in {path} is empty, which would open the dashboard")
    return secret


def guard_http(secret: str) -> None:
    """Make the HTTP servers of ``distributed`` in this process answer 404 to every request without ``secret``."""
    current = RoutingApplication.find_handler
    unguarded = getattr(current, "tidegate_unguarded", current)
    expected = secret.encode()

    def find_handler(self: Any, request: Any, **kwargs: Any) -> Any:
        if not hmac.compare_digest(request.headers.get(HEADER, "").encode(), expected):
            return self.get_handler_delegate(request, ErrorHandler, {"status_code": 404})
        # It goes no further: Bokeh would copy the headers into its pages, and Dask's proxy send them on to other hosts.
        del request.headers[HEADER]
        getattr(self, "tidegate_on_admission", bool)()
        return unguarded(self, request, **kwargs)

    guarded: Any = find_handler
    guarded.tidegate_unguarded = unguarded
    RoutingApplication.find_handler = guarded


def require_guard(server: Any) -> None:
    """Raise unless the HTTP server of ``server`` is of the kind that ``guard_http`` guards."""
    kind = type(server.http_application)
    if not hasattr(getattr(kind, "find_handler", None), "tidegate_unguarded"):
        raise RuntimeError(f"cannot guard an HTTP server of the kind {kind.__name__}: this distributed is too new")


async def start_configured_preloads(server: Any, kind: str, file_dir: str | None = None) -> None:
    """Start the preloads that the environment configures for ``kind``: ours, on the command line, took their place."""
    present = {preload.name for preload in server.preloads}
    configured = dask.config.get(f"distributed.{kind}.preload") or []
    names = [name for name in ([configured] if isinstance(configured, str) else configured) if name not in present]
    argv = dask.config.get(f"distributed.{kind}.preload-argv") if names else []
    server.tidegate_preloads = process_preloads(server, names, argv, file_dir=file_dir)
    await server.tidegate_preloads.start()


async def stop_configured_preloads(server: Any) -> None:
    """Let them tear down what they set up."""
    if hasattr(server, "tidegate_preloads"):
        await server.tidegate_preloads.teardown()


async def dask_setup(worker: Any) -> None:
    """Begin; the worker calls this before it registers with the scheduler."""
    try:
        require_guard(worker)
        await start_configured_preloads(worker, "worker", file_dir=worker.local_directory)
    except Exception:
        # The worker would only log this, and go on without us.
        logger.critical("cannot go on: the guard of this worker does not start", exc_info=True)
        logging.shutdown()
        os._exit(EXIT_UNGUARDED)


async def dask_teardown(worker: Any) -> None:
    """End what ``dask_setup`` began."""
    await stop_configured_preloads(worker)


guard_http(load_secret())
