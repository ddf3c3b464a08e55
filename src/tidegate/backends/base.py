"""The protocol of a backend, read first: what control may ask, and what every backend promises.

Promises
--------
* **Everything may be repeated.** ``launch``, ``start_workers``, ``stop_workers`` and ``stop`` may be called again at
  any time, by another process, after a crash in the middle of the first call. Names derive from the cluster's name, the
  attempt and the worker's name; a second call finds what the first made.
* **Returning means accepted, not done.** A call returns when the engine has accepted the work; whether it came to be is
  what ``observe`` says.
* **Nothing is remembered here.** Backends hold caches at most; a new process with the same settings sees the same.
* **An observation says when it began.** What was asked later may be missing from it.
* **Ends leave a trace.** A process that ended stays in ``observe`` as EXITED, with a sentence and the tail of its log,
  until the cluster is forgotten. Logs are kept until then too.
* **Stopped means gone.** After ``stop``, ``Seen.remains`` is false only when nothing of the cluster runs, grandchildren
  included, and its secrets are removed from wherever they were laid.
* **Failures speak.** What the user can mend is ``Invalid``; what the engine refuses is ``BackendFailed``.
* **Privileges are asked for.** A backend that has to run as root has an attribute ``privileged``, which is true. It is
  then run in a process of its own, and only what is in this protocol can be asked of it (``remote.py``).
* **Deadlines.** Every call returns or raises within ``CALL_TIMEOUT``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tidegate.model.cluster import ClusterSpec
from tidegate.model.observation import Seen
from tidegate.model.options import Option
from tidegate.model.policy import Capacity

CALL_TIMEOUT = 30.0
"""Seconds within which every call to a backend returns or raises. squeue on a busy controller takes several."""


@dataclass(frozen=True, slots=True)
class Launch:
    """All that is needed to start the processes of one attempt of one cluster.

    Parameters
    ----------
    cluster : str
        The cluster's name: lower-case, at most 51 characters, safe in file names, job names and host names.
    owner : str
        The principal whom it belongs to.
    attempt : int
        Number of this launch.
    spec : ClusterSpec
    files : mapping of str to bytes
        What must lie beside the processes, readable by nobody else: by name ``ca.pem``, ``scheduler.pem``,
        ``scheduler.key``, ``worker.pem``, ``worker.key``, ``agent.json`` (token, dashboard secret, address of the
        gateway), ``variables.json`` (what the owner wants in the environment of scheduler and workers; only where there
        is something, and for backends that know ``variables``), ``tidegate_agent.py``, ``tidegate_worker.py``.
    """

    cluster: str
    owner: str
    attempt: int
    spec: ClusterSpec
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one process: ``process`` is ``scheduler`` or a worker's name, ``text`` its last lines."""

    process: str
    text: str


class Backend(Protocol):
    """What control asks of the place where clusters run."""

    @property
    def knows(self) -> Collection[str]:
        """Which options of ``model.known.BACKENDS`` mean something here, so that an administrator may declare them."""

    async def start(self) -> None:
        """Make ready. Called once before anything else."""

    async def close(self) -> None:
        """Let go of connections and caches. **Clusters go on.**"""

    def notes(self) -> Sequence[str]:
        """Return what whoever starts the gateway should know of this engine, in sentences. After ``start``."""

    def options(self) -> Sequence[Option]:
        """Return the options that this backend offers when the administrator declares none."""

    async def prepare(self, spec: ClusterSpec, owner: str, hints: Mapping[str, str]) -> ClusterSpec:
        """Return ``spec`` with what only this backend can resolve, or raise ``Invalid``. Quick, and without effect.

        ``owner`` is the principal for whom the cluster is to be: some backends can run clusters for some people only.
        ``hints`` is what the client said of itself (``python``: the path of the notebook's interpreter). The limit on
        the number of workers (``max_workers``, ``max_workers_reason``) is *not* set here: see ``capacity``.
        """

    def capacity(self, spec: ClusterSpec) -> Capacity:
        """Return how many workers of this shape one cluster may have at most by default."""

    async def launch(self, launch: Launch) -> None:
        """Start the scheduler with the agent in it."""

    async def start_workers(self, launch: Launch, scheduler: str, names: Sequence[str]) -> None:
        """Start workers of these names that connect to ``scheduler`` (``tls://host:port``)."""

    async def stop_workers(self, cluster: str, names: Sequence[str]) -> None:
        """Take these workers away; unknown names are no error."""

    async def stop(self, cluster: str) -> None:
        """Take away everything that runs of this cluster; an unknown cluster is no error."""

    async def observe(self, clusters: Collection[str]) -> Mapping[str, Seen]:
        """Look at these clusters, in as few calls to the engine as can be.

        Every name asked for is in the answer, but those of which nothing can be told now: one cluster that cannot be
        looked at must not hide the others, and must not look as if it were dead.
        """

    async def listens(self, cluster: str, ports: Collection[int]) -> bool:
        """Return whether these ports, at the scheduler's host, are the cluster's own, as far as the engine can tell.

        They come from the agent, which its user may have replaced, and they are where the proxy dials: false when what
        listens on one of them is not of this cluster, or nothing is. An engine in which every cluster has a host (or an
        address) to itself has nothing to look at, and says true. ``BackendFailed`` when there is no such cluster now.
        """

    async def list_clusters(self) -> set[str]:
        """Return every cluster of which anything runs or secrets lie here, known to the records or not."""

    async def logs(self, cluster: str, *, lines: int = 200) -> list[Log]:
        """Return the tails of all logs of the cluster, the scheduler's first; also after its end, until forgotten.

        Where there are very many, those written to last.
        """

    async def forget(self, cluster: str) -> None:
        """Remove the logs and traces of a cluster that has ended."""

    def changes(self) -> AsyncIterator[str]:
        """Yield the names of clusters at which something may have changed, as it happens, until closed.

        Only a hint to look sooner: nothing is lost when one is missed. A backend that hears nothing yields nothing.
        """
