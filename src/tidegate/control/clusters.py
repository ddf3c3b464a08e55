"""What users can ask about clusters: create, find, size, stop, wait, follow.

Nothing here waits for an engine. A request becomes a record (or a change of one), in one transaction with the events
that tell of it; the reconciler, woken by the bus, does the rest. So every answer is quick, and what was answered is not
lost if this process dies the moment after.

Who may do what is asked of ``model/permissions.py`` in one place, ``get``. What the caller may not see is
``NotVisible``, in the same words as what never was.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from tidegate.backends.base import Backend, Log
from tidegate.control.bus import Bus, of_cluster
from tidegate.control.catalogue import Catalogue, Entry, Whose
from tidegate.control.choosing import Choosing
from tidegate.control.credentials import client_pem, mint
from tidegate.control.engines import ask
from tidegate.control.follow import follow, is_told
from tidegate.control.leaves import Leaves
from tidegate.control.records import Records
from tidegate.control.terms import Terms
from tidegate.model import admission, ends, naming, policy, sizing
from tidegate.model.cluster import DEFAULT_GROUP, Cluster, ClusterSpec, ClusterState, Target
from tidegate.model.errors import NotAllowed, NotVisible
from tidegate.model.event import Event, RecordedEvent
from tidegate.model.limits import Ledger
from tidegate.model.line import placed
from tidegate.model.offer import ChoiceLabels
from tidegate.model.options import OptionSet
from tidegate.model.permissions import Action, may, refusal
from tidegate.model.principal import Principal
from tidegate.model.sizing import Sized, show_name
from tidegate.store.base import Credentials

log = logging.getLogger(__name__)

NAME_BYTES = 8
"""64 random bits, 16 characters: unique for any number of clusters, and short enough for every engine's names."""
_UNDER_WAY = (ClusterState.REQUESTED, ClusterState.STARTING)


class Clusters:
    """The clusters, as their owners see them.

    Parameters
    ----------
    records : Records
    backends : mapping of str to Backend
        By the name that clusters carry.
    backend : str
        Which of them runs new clusters.
    bus : Bus
    clock : callable
        Returns the time, in seconds since the epoch.
    choosing : Choosing
        What users may choose, and what follows.
    terms : Terms
    """

    def __init__(
        self,
        records: Records,
        backends: Mapping[str, Backend],
        backend: str,
        bus: Bus,
        clock: Callable[[], float],
        choosing: Choosing,
        terms: Terms,
    ) -> None:
        self._records = records
        self._store = records.store
        self._catalogue = Catalogue(records.store)
        self._leaves = Leaves(records)
        self._backends = backends
        self._backend = backend
        self._bus = bus
        self._clock = clock
        self._choosing = choosing
        self._terms = terms
        # A thread of its own: those that everyone shares may all be waiting for processes to end.
        self._minting = ThreadPoolExecutor(1, thread_name_prefix="mint")

    def options(self, principal: Principal) -> OptionSet:
        """Return what ``principal`` may choose."""
        return self._choosing.offered(principal)

    @property
    def choice_labels(self) -> ChoiceLabels:
        """What people read for the values of choices."""
        return self._choosing.labels

    async def create(
        self,
        principal: Principal,
        options: Mapping[str, Any],
        *,
        whole: bool = False,
        hints: Mapping[str, str] | None = None,
        key: str | None = None,
        alias: Any = None,
        labels: Any = None,
        shutdown_on_close: bool | None = None,
    ) -> Cluster:
        """Admit and record a new cluster; it is launched right after.

        Parameters
        ----------
        principal : Principal
            Whose it will be.
        options : mapping
            Their choice among ``options()``.
        whole : bool, optional
            Whether that is all that a form showed: what stands there unchanged was not chosen.
        hints : mapping of str to str, optional
            What the client said of itself.
        key : str, optional
            With the key of an earlier request of the same principal, that request's cluster is returned.
        alias : str, optional
            What its owner calls it.
        labels : mapping of str to str, optional
            What its owner notes of it.
        shutdown_on_close : bool, optional
            Whether it is to end when its last client is gone; None where the client cannot say.

        Raises
        ------
        Invalid
            An option is unknown or breaks its rule, or the backend cannot run what was chosen.
        NameTaken
            Another cluster of theirs has that alias.
        LimitReached
            A limit leaves no room for it.
        """
        alias, labels = naming.check_alias(alias), naming.check_labels(labels)
        base = ClusterSpec(start_timeout=self._terms.start_timeout)
        chosen = await self._choosing.choose(principal, options, base, whole=whole)
        spec = self._terms.ends.applied_to(chosen.choice.spec, shutdown_on_close, principal.server)
        spec = await self._prepare(spec, principal.name, hints or {})
        group, note = chosen.choice.first_group(spec)
        now = self._clock()
        cluster = Cluster(
            name=secrets.token_hex(NAME_BYTES),
            owner=principal.name,
            backend=self._backend,
            spec=spec,
            options=chosen.options,
            created_at=now,
            changed_at=now,
            groups=(group,),
            owner_groups=tuple(sorted(principal.groups)),
            alias=alias,
            labels=labels,
            prices=self._terms.prices,
        )
        credentials = replace(await self._mint(cluster), variables=chosen.choice.variables)
        recorded = await self._records.insert(
            cluster, credentials, lambda new, ledger: sizing.create(new, principal, note, ledger), key=key
        )
        if recorded.name == cluster.name:
            log.info("%s created cluster %s", principal.who, recorded.name)
        return recorded

    async def _mint(self, cluster: Cluster) -> Credentials:
        loop, lifetime = asyncio.get_running_loop(), self._terms.certificate_lifetime
        return await loop.run_in_executor(self._minting, mint, cluster.name, cluster.created_at, lifetime)

    async def _prepare(self, spec: ClusterSpec, owner: str, hints: Mapping[str, str]) -> ClusterSpec:
        backend = self._backends[self._backend]
        spec = await ask("create a cluster", backend.prepare(spec, owner, hints))
        rules = self._records.rules.overlaid(await self._store.rules())
        capacity = admission.capacity(spec, rules.of_clusters(), backend.capacity)
        return replace(spec, max_workers=capacity.max_workers, max_workers_reason=capacity.reason)

    async def resolve(self, principal: Principal, name: str) -> str:
        """Return the global name of the cluster that ``principal`` means by ``name``: that name or an alias of theirs.

        What means nothing is returned as it is. Whether they may see what they mean is asked elsewhere.
        """
        meant = await self._catalogue.called(principal.name, name) if naming.can_be_alias(name) else None
        return name if meant is None else meant.name

    async def get(self, principal: Principal, name: str, action: Action = Action.SEE) -> Cluster:
        """Return one cluster, if ``principal`` may do ``action`` to it.

        Raises
        ------
        NotVisible
            There is none of that name, or it is not theirs to see.
        NotAllowed
            They may see it, but not do that.
        """
        return (await self.entry(principal, name, action)).cluster

    async def entry(self, principal: Principal, name: str, action: Action = Action.SEE) -> Entry:
        """Return what ``get`` does, with what was made of it."""
        entry = await self._catalogue.get(name)
        if entry is None or not may(principal, Action.SEE, entry.cluster):
            raise NotVisible(f"Cluster {show_name(name)} not found")
        if not may(principal, action, entry.cluster):
            raise NotAllowed(refusal(principal, action, entry.cluster))
        return entry.placed(self._records.places)

    async def find(self, principal: Principal, **chosen: Any) -> list[Cluster]:
        """Return clusters as ``entries`` does."""
        return [entry.cluster for entry in await self.entries(principal, **chosen)]

    async def entries(
        self,
        principal: Principal,
        *,
        whose: Whose = Whose.MINE,
        owner: str | None = None,
        states: Collection[ClusterState] | None = None,
        before: tuple[float, str] | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return clusters that ``principal`` sees, newest first, with what was made of each; ``before``
        (``created_at``, ``name``) pages on. With ``owner``, those of that user among them.
        """
        found = await self._catalogue.find(
            principal, whose=whose, owner=owner, states=states, before=before, limit=limit
        )
        return [entry.placed(self._records.places) for entry in found]

    async def scale(
        self, principal: Principal, name: str, count: Any, group: str = DEFAULT_GROUP
    ) -> tuple[Cluster, str | None]:
        """Set the size of a group by hand, and turn its adaptive scaling off.

        Returns
        -------
        cluster : Cluster
        note : str or None
            What limit made the size smaller than asked.

        Raises
        ------
        Invalid
            ``count`` cannot be a number of workers, or there is no such group.
        Conflict
            The cluster is not running.
        """
        await self.get(principal, name, Action.SCALE)
        asked = policy.check_count(count)
        return await self._admit(name, lambda cluster, ledger: sizing.scale(cluster, group, asked, principal, ledger))

    async def adapt(
        self,
        principal: Principal,
        name: str,
        minimum: Any,
        maximum: Any,
        *,
        active: bool = True,
        group: str = DEFAULT_GROUP,
    ) -> tuple[Cluster, str | None]:
        """Let the load set the size of a group, within bounds (None: no bound); or no longer, if not ``active``.

        Returns and raises what ``scale`` does.
        """
        await self.get(principal, name, Action.SCALE)
        if not active:
            return await self._change(name, lambda cluster: sizing.stop_adapting(cluster, group, principal)), None
        return await self._admit(
            name, lambda cluster, ledger: sizing.adapt(cluster, group, minimum, maximum, principal, ledger)
        )

    async def limit(self, principal: Principal, name: str, most: Any) -> Cluster:
        """Set the most workers that a cluster may have; what runs goes on."""
        await self.get(principal, name, Action.LIMIT)
        checked = sizing.check_limit(most)
        cluster = await self._change(name, lambda cluster: sizing.limit(cluster, checked, principal))
        log.info("%s limited cluster %s to %d workers", principal.who, name, checked)
        return cluster

    async def keep(self, principal: Principal, name: str, seconds: Any = None) -> tuple[Cluster, str | None]:
        """Keep a cluster that nobody uses: for so many seconds, or by default for its usual time anew.

        Returns
        -------
        cluster : Cluster
        note : str or None
            What ends it all the same, or keeps it for less than asked.
        """
        await self.get(principal, name, Action.SCALE)
        asked, longest, note = ends.check_keep(seconds), self._terms.ends.longest_keep, None

        def keep(cluster: Cluster) -> Sized:
            nonlocal note
            kept = ends.keep(cluster, asked, longest, principal, self._clock())
            note = kept.note
            return kept

        return await self._change(name, keep), note

    async def stop(self, principal: Principal, name: str) -> Cluster:
        """Ask for the end of a cluster; nothing happens if it has ended or is ending."""
        await self.get(principal, name, Action.STOP)
        cluster = await self._change(name, lambda cluster: sizing.stop(cluster, principal))
        log.info("%s stopped cluster %s", principal.who, name)
        return cluster

    async def logs(self, principal: Principal, name: str, lines: int = 200) -> list[Log]:
        """Return the last lines of every log of a cluster, the scheduler's first; also after its end."""
        cluster = await self.get(principal, name, Action.LOGS)
        backend = self._backends.get(cluster.backend)
        if backend is None:
            return []
        return await ask(f"read the logs of cluster {name}", backend.logs(name, lines=lines))

    async def client_credentials(self, principal: Principal, name: str) -> tuple[str, str] | None:
        """Return what a client connects with, as PEM: its certificate with the authority's, and its key.

        None once the cluster has ended: its credentials end with it.
        """
        entry = await self.entry(principal, name, Action.CONNECT)
        if entry.cluster.state.ended:
            return None
        if entry.cluster.owner != principal.name:
            pair = await self._leaves.pair(principal, entry.cluster)
            return None if pair is None else (pair.certificate, pair.key)
        if entry.client_credentials is None:
            credentials = await self._store.credentials(name)
            if credentials is None:
                return None
            entry.client_credentials = client_pem(credentials), credentials.client_key
        return entry.client_credentials

    async def wait(self, principal: Principal, name: str, timeout: float, action: Action = Action.SEE) -> Cluster:
        """Return the cluster as soon as its start has come to something, or after ``timeout`` seconds as it is then."""
        deadline = asyncio.get_running_loop().time() + timeout
        with self._bus.listen(of_cluster(name)) as listener:
            while True:
                cluster = await self.get(principal, name, action)
                left = deadline - asyncio.get_running_loop().time()
                under_way = cluster.state in _UNDER_WAY and cluster.target is Target.RUNNING
                if not under_way or left <= 0:
                    return cluster
                await listener.changed(left)

    def follow(
        self,
        principal: Principal,
        *,
        cluster: str | None = None,
        whose: Whose = Whose.MINE,
        after: int | None = None,
    ) -> AsyncIterator[RecordedEvent]:
        """Yield events as they happen: of one cluster until it has ended, or of those that a list shows for ever.

        Parameters
        ----------
        cluster : str, optional
            Which one. The first step raises ``NotVisible`` if it is not theirs to see.
        whose : Whose, optional
            Of which clusters, where it is not one.
        after : int, optional
            The last event that is known already. By default one cluster is told from its beginning, and all from now.
        """
        return follow(self._records, self._bus, self._catalogue, principal, cluster=cluster, whose=whose, after=after)

    async def last_event_id(self) -> int:
        """Return the number of the newest event of all: what happens from now on has a larger one."""
        return await self._store.last_event_id()

    async def last_events(self, principal: Principal, name: str, limit: int) -> list[RecordedEvent]:
        """Return the newest events of a cluster, oldest first.

        Raises
        ------
        NotVisible
            As ``get``.
        """
        cluster = await self.get(principal, name)
        recorded = await self._store.last_events(cluster.name, limit)
        return [event for event in recorded if is_told(event, principal, cluster)]

    async def _change(self, name: str, alter: Callable[[Cluster], Sized]) -> Cluster:
        """Change a record in a way that takes no more than it has."""

        def change(cluster: Cluster) -> tuple[Cluster, tuple[Event, ...]]:
            sized = alter(cluster)
            return sized.cluster, sized.events

        return self._there(name, await self._records.change(name, change))

    async def _admit(self, name: str, alter: Callable[[Cluster, Ledger], Sized]) -> tuple[Cluster, str | None]:
        """Change a record within the limits, and return what they made less than asked."""
        note: str | None = None

        def decide(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, tuple[Event, ...]]:
            nonlocal note
            sized = alter(cluster, ledger)
            note = sized.note
            # Whoever sizes a cluster is about to use it.
            return ends.touch(sized.cluster, self._clock()) if sized.events else sized.cluster, sized.events

        return self._there(name, await self._records.admit(name, decide)), note

    def _there(self, name: str, cluster: Cluster | None) -> Cluster:
        if cluster is None:
            raise NotVisible(f"Cluster {show_name(name)} not found")
        return placed(cluster, self._records.places)
