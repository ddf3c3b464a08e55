"""What users are offered, and what follows from what they choose: the declared options, then the administrator's hook.

The hook is a function of the administrator's, for what declarations cannot say. It is called with the user's name,
their groups and the value of every option, hidden ones among them, and returns values that take the place of these (or
None). Its word holds beyond all bounds, as everything of the administrator's. What it raises is for the user to read,
with every line; what it says by that is its own business, so it should not let others' errors through.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tidegate.model.choice import Choice, settle
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import Busy, Invalid
from tidegate.model.offer import ChoiceLabels, Offer
from tidegate.model.options import OptionSet
from tidegate.model.principal import Principal

log = logging.getLogger(__name__)

HOOK_SECONDS = 10.0
"""How long the hook may take: it may ask a directory, and a person waits."""

HOOK_THREADS = 64
"""How many calls of a hook that is no coroutine go on at a time: a class that begins at the same minute. One that hangs
holds its thread for good."""

Hook = Callable[[str, frozenset[str], dict[str, Any]], Any]
"""Takes a user's name, their groups and values; returns values or None, or an awaitable of those."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What somebody has chosen: ``options`` as they may be told, and what follows."""

    options: Mapping[str, Any]
    choice: Choice


class Choosing:
    """The options of this gateway.

    Parameters
    ----------
    offer : Offer
    hook : callable, optional
    hook_seconds : float
        How long the hook may take.
    """

    def __init__(self, offer: Offer, hook: Hook | None = None, *, hook_seconds: float = HOOK_SECONDS) -> None:
        self._offer = offer
        self.labels = ChoiceLabels(offer)
        self._hook = hook
        self._hook_seconds = hook_seconds
        self._free_threads = asyncio.Semaphore(HOOK_THREADS)

    def offered(self, principal: Principal) -> OptionSet:
        """Return the options as ``principal`` sees them."""
        return self._offer.seen_by(principal)

    async def choose(
        self, principal: Principal, given: Mapping[str, Any], base: ClusterSpec, *, whole: bool = False
    ) -> Chosen:
        """Return what follows from what ``principal`` gave, laid over ``base``.

        Parameters
        ----------
        principal : Principal
        given : mapping
        base : ClusterSpec
        whole : bool
            Whether it comes from a form, which brings all that it shows.

        Raises
        ------
        Invalid
            An option is unknown or breaks its rule, or the hook refuses.
        Busy
            The hook did not answer in time.
        """
        options = self.offered(principal)
        values = options.check(given, whole=whole)
        if self._hook is not None:
            values = _laid_over(options, values, await self._ask(self._hook, principal, values))
        return Chosen(options.told(values), settle(options, values, base))

    async def _ask(self, hook: Hook, principal: Principal, values: Mapping[str, Any]) -> Any:
        arguments = principal.name, principal.groups, dict(values)
        try:
            async with asyncio.timeout(self._hook_seconds) as deadline:
                if inspect.iscoroutinefunction(hook):
                    return await hook(*arguments)
                answer = await self._on_thread(hook, *arguments)
                return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            if deadline.expired():
                raise Busy(
                    "cannot create a cluster: the administrator's options hook did not answer within "
                    f"{self._hook_seconds:g} s. Try again, and tell them"
                ) from error
            # These are how a hook refuses; of others an administrator wants to know where they come from.
            trace = None if isinstance(error, ValueError | PermissionError) else error
            log.info("the options hook refused what %s chose: %s", principal.who, error, exc_info=trace)
            raise Invalid(str(error) or f"cannot create a cluster: {type(error).__name__}") from error

    async def _on_thread(self, hook: Hook, *arguments: Any) -> Any:
        """Return what a hook does on a thread of its own.

        Not one of a pool: these are waited for when the process ends, and one that hangs would keep it from ending.
        """
        await self._free_threads.acquire()
        loop, done = asyncio.get_running_loop(), Future[Any]()
        done.set_running_or_notify_cancel()  # from here on nobody can cancel it

        def run() -> None:
            try:
                done.set_result(hook(*arguments))
            except BaseException as error:
                done.set_exception(error)
            with suppress(RuntimeError):  # the gateway has stopped meanwhile
                loop.call_soon_threadsafe(self._free_threads.release)

        threading.Thread(target=run, name="hook", daemon=True).start()
        return await asyncio.wrap_future(done)


def _laid_over(options: OptionSet, values: dict[str, Any], answer: Any) -> dict[str, Any]:
    """Return the values with the hook's in their place."""
    if answer is None:
        return values
    by_name = {option.name: option for option in options.options}
    if not isinstance(answer, Mapping):
        log.error("the options hook returned %s, and not values by option, or None", type(answer).__name__)
        raise Invalid("cannot create a cluster: the administrator's options hook returned no values. Tell them")
    if unknown := [str(name) for name in answer if name not in by_name]:
        log.error("the options hook returned values of %s, which are not declared", ", ".join(unknown))
        raise Invalid(
            f"cannot create a cluster: the administrator's options hook set {', '.join(unknown)}, which this gateway "
            "has not declared. Tell them"
        )
    return {**values, **{name: by_name[name].normal(value) for name, value in answer.items()}}
