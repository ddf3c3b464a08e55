"""A connection to a gateway: where it is, who one is there, in which loop requests run, and how it is closed."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from distributed.utils import LoopRunner

from tidegate.client.background import run_in_loop
from tidegate.client.config import Settings, resolve
from tidegate.client.errors import GatewayValueError
from tidegate.client.transport import Transport

C = TypeVar("C", bound="Connection")


class Connection:
    """What ``Gateway`` stands on; its parameters are described there."""

    _instances: ClassVar[weakref.WeakSet[Connection]] = weakref.WeakSet()

    def __init__(
        self,
        address: str | None = None,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        auth: Any = None,
        asynchronous: bool = False,
        loop: Any = None,
        *,
        on_behalf_of: str | None = None,
    ) -> None:
        self._set_up(resolve(address, proxy_address, public_address, auth, on_behalf_of), asynchronous, loop)

    def _set_up(self, settings: Settings, asynchronous: bool, loop: Any) -> None:
        self._settings = settings
        self._http = Transport(settings)
        self._told_proxy: str | None = None
        self._asked_proxy = False
        self._asynchronous = asynchronous
        self._loop_runner = LoopRunner(loop=loop, asynchronous=asynchronous)
        self._loop_runner.start()
        self._loop = self._loop_runner.loop
        self._closed = False
        self._instances.add(self)

    def _sibling(self: C) -> C:
        """Return another client of the same gateway in the same loop, which may outlive this one."""
        other = object.__new__(type(self))
        other._set_up(replace(self._settings, auth_type=self.auth), self._asynchronous, self._loop)
        other._told_proxy, other._asked_proxy = self._told_proxy, self._asked_proxy
        return other

    # -- where, who, how ------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """URL of the gateway."""
        return self._settings.address

    @property
    def proxy_address(self) -> str:
        """Where schedulers are reached, as ``gateway://host:port``."""
        return f"gateway://{self._settings.scheduler_netloc(self._told_proxy)}"

    @property
    def auth(self) -> Any:
        """What logs in."""
        return self._http.auth

    @property
    def loop(self) -> Any:
        """The event loop (of tornado) that the requests run in."""
        return self._loop

    @property
    def asynchronous(self) -> bool:
        """Whether methods return awaitables: always in asynchronous mode, and always inside the loop itself."""
        try:
            return self._asynchronous or asyncio.get_running_loop() is self._loop.asyncio_loop
        except RuntimeError:
            return self._asynchronous

    def sync(self, func: Callable[..., Any], *args: Any, tick: Callable[[], None] | None = None, **kwargs: Any) -> Any:
        """Call the coroutine function ``func``: return its result, or in asynchronous use its coroutine."""
        if self.asynchronous:
            return func(*args, **kwargs)
        if self._closed:
            raise GatewayValueError(f"cannot use this client of {self.address}: it is closed. Make a new Gateway()")
        return run_in_loop(self._loop.asyncio_loop, lambda: func(*args, **kwargs), tick)

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self) -> Any:
        """Close the connections to the gateway. Clusters go on."""
        if self.asynchronous:
            return self._cleanup()
        if not self._closed and self._loop.asyncio_loop.is_running():
            self.sync(self._cleanup)
            self._loop_runner.stop()
        self._closed = True
        return None

    async def _cleanup(self) -> None:
        await self._http.close()

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self: C) -> C:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._cleanup()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and not self._asynchronous and not sys.is_finalizing():
            # Not here: whichever thread collects garbage, the loop's own among them, must not wait for the loop.
            threading.Thread(target=self.close, name="close-gateway").start()

    def __repr__(self) -> str:
        acting = f", on behalf of {self._settings.on_behalf_of}" if self._settings.on_behalf_of else ""
        return f"Gateway<{self.address}{acting}>"


@atexit.register
def _close_all() -> None:
    """When Python ends, close the connections that are still open; their loops' threads are gone in a moment."""
    for gateway in list(Connection._instances):
        if not gateway._asynchronous:
            gateway.close()
