"""The figures that a monitoring system reads from the gateway: what there is, and in which words.

How to think about it
---------------------
* This is the list; those who know a figure count it, and ``control/figures.py`` reads the others when somebody asks.
* The number of series is bounded whatever users do: labels are states, codes, routes as they are declared, and of names
  of users and groups so many as ``MOST_NAMES``; the rest is added up under ``OTHERS``.
* Counters begin at nothing with each process, as Prometheus expects. Who wants to bill somebody reads the books
  (``model/usage.py``): these are for curves and alarms.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE: str = CONTENT_TYPE_LATEST

MOST_NAMES = 500
"""Users, and groups, that are told apart: with four figures each 4,000 series, which any Prometheus carries."""

OTHERS = "(others)"
"""All whose names came later than so many; nobody is called so, for a name of ours has no parentheses."""

LATENCIES = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Bounds in seconds: a list takes 3 ms, a new cluster 20 ms, and an agent's question up to a minute by design."""


class Metrics:
    """All figures of one control process."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.clusters = Gauge("tidegate_clusters", "Clusters that have not ended.", ["state"], registry=registry)
        self.workers = Gauge("tidegate_workers", "Workers of these clusters.", ["state"], registry=registry)
        self.waiting = Gauge("tidegate_waiting_clusters", "Clusters that wait for room.", ["what"], registry=registry)
        self.longest_wait = Gauge("tidegate_longest_wait_seconds", "How long the first has waited.", registry=registry)
        self.held = Gauge("tidegate_held", "What all hold, as limits count it.", ["resource"], registry=registry)
        self.user_use = {
            figure: Counter(f"tidegate_user_{figure}", f"{words}, by user.", ["user"], registry=registry)
            for figure, words in USE.items()
        }
        self.group_use = {
            figure: Counter(f"tidegate_group_{figure}", f"{words}, by group.", ["group"], registry=registry)
            for figure, words in USE.items()
        }
        self._errors = Counter("tidegate_errors", "Requests not done, by code.", ["code"], registry=registry)
        self._effects = Counter(
            "tidegate_effects", "What was asked of backends and proxies.", ["effect", "outcome"], registry=registry
        )
        self._requests = Histogram(
            "tidegate_request_seconds", "Requests.", ["method", "route"], buckets=LATENCIES, registry=registry
        )

    def count_error(self, code: str) -> None:
        """Count a request that was refused, or failed."""
        self._errors.labels(code).inc()

    def count_effect(self, effect: str, outcome: str) -> None:
        """Count an effect, by what came of it: ``done`` or ``failed``."""
        self._effects.labels(effect, outcome).inc()

    def time_request(self, method: str, route: str, seconds: float) -> None:
        """Count a request, and how long it took."""
        self._requests.labels(method, route).observe(seconds)

    def write(self) -> bytes:
        """Return all figures, as ``CONTENT_TYPE``."""
        return generate_latest(self.registry)


USE = {
    "core_seconds": "Cores, times the seconds for which workers and schedulers had them",
    "gib_seconds": "GiB of memory, times the seconds",
    "gpu_seconds": "GPUs, times the seconds",
    "cost": "What that cost, in the currency of the configuration",
}
"""What is counted of use, by the names of its fields."""
