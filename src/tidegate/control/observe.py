"""Looking at what runs: many who want to know share one look.

Whoever asks gets a look that *began after* they asked, since anything older may miss what was just done. So a question
that comes while the backend is looking waits for the next look, together with all others that come meanwhile: a
thousand questions cost two calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from tidegate.backends.base import Backend
from tidegate.control.engines import ask
from tidegate.model.errors import BackendFailed
from tidegate.model.observation import Seen

UNKNOWN = "its backend looked and could not tell; the backend's log says why"


class Observer:
    """Looks at the clusters of one backend."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._asked: dict[str, asyncio.Future[Seen]] = {}
        self._task: asyncio.Task[None] | None = None

    async def look(self, name: str) -> Seen:
        """Return what the backend sees of one cluster, looked at after this call.

        Raises
        ------
        TidegateError
            ``BackendFailed`` or ``Busy`` when it cannot look.
        """
        future = self._asked.get(name)
        if future is None:
            future = self._asked[name] = asyncio.get_running_loop().create_future()
            # Everyone who asked may be gone when it fails; that is no news then.
            future.add_done_callback(lambda f: f.cancelled() or f.exception())
        if self._task is None:
            self._task = asyncio.create_task(self._answer(), name="observer")
        # One who stops waiting must not take the answer from the others.
        return await asyncio.shield(future)

    async def look_at_all(self, names: Collection[str]) -> Mapping[str, Seen]:
        """Return what the backend sees of these clusters, in one call."""
        return await ask("look at the clusters", self._backend.observe(names)) if names else {}

    async def close(self) -> None:
        """Stop looking; whoever still waits is cancelled."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _answer(self) -> None:
        asked: dict[str, asyncio.Future[Seen]] = {}
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                try:
                    seen = await self.look_at_all(list(asked))
                    for name, future in asked.items():
                        if name in seen:
                            future.set_result(seen[name])
                        else:
                            future.set_exception(BackendFailed(f"cannot look at the cluster {name}: {UNKNOWN}"))
                except Exception as error:
                    for future in asked.values():
                        if not future.done():
                            future.set_exception(error)
        finally:
            self._task = None
            for future in (*asked.values(), *self._asked.values()):
                future.cancel()
