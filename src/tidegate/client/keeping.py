"""Keeping a cluster that nobody uses, and hearing of its end before it comes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tidegate.client.errors import GatewayValueError
from tidegate.client.warn import warn
from tidegate.model.durations import describe_duration, parse_duration

if TYPE_CHECKING:
    from tidegate.client.gateway import Gateway


@dataclass(frozen=True)
class ClusterEnding:
    """An end that comes by itself if nothing changes.

    Parameters
    ----------
    code : str
        Of its reason: ``idle``, ``no-client``, ``lifetime`` or ``budget``.
    at : datetime
        When.
    why : str
        Why, as the end of a sentence.
    announced : bool
        Whether it is so near that the gateway announces it.
    can_be_kept : bool
        Whether work, or ``keep``, calls it off.
    """

    code: str
    at: datetime
    why: str
    announced: bool
    can_be_kept: bool = True

    @classmethod
    def from_json(cls, body: Mapping[str, Any] | None) -> ClusterEnding | None:
        """Read what the gateway says of the end of a cluster, if anything. What is beyond all calendars never comes."""
        if body is None:
            return None
        try:
            at = datetime.fromtimestamp(body["at"])
        except (ValueError, OverflowError, OSError):
            return None
        return cls(body["code"], at, body["why"], bool(body.get("announced")), body.get("can_be_kept", True))

    @property
    def left(self) -> str:
        """How long it is until then, in words."""
        return describe_duration((self.at - datetime.now()).total_seconds())

    def __str__(self) -> str:
        return f"in {self.left}, if nothing changes: {self.why}"


async def keep_cluster(gateway: Gateway, name: str, duration: Any = None) -> Any:
    """Ask the gateway to keep a cluster; warn of what ends it all the same."""
    body = await gateway._request_of(name, "POST", "/keep", json={"seconds": _seconds(duration)})
    if body.get("note"):
        warn(body["note"])
    return gateway._to_report(body, await gateway._scheduler_netloc())


def _seconds(duration: Any) -> float | None:
    if duration is None:
        return None
    try:
        seconds = parse_duration(duration)
    except ValueError as error:
        raise GatewayValueError(f"cannot keep the cluster for {duration!r}: {error}") from None
    if not 0 < seconds < math.inf:
        raise GatewayValueError(f"cannot keep the cluster for {duration!r}: say for how long, such as '8 hours'")
    return seconds


class Keeping:
    """The method of a cluster object by which it is kept. ``gateway`` and ``name`` say which."""

    gateway: Gateway
    name: Any

    def keep(self, duration: Any = None) -> Any:
        """Keep the cluster although nothing runs on it.

        Parameters
        ----------
        duration : str or float, optional
            For how long: ``"8 hours"``, ``"30 min"``; a number is seconds. By default the usual time counts anew. The
            gateway has a longest, and a maximum lifetime is not extended.

        Examples
        --------
        >>> cluster.keep("8 hours")  # doctest: +SKIP
        """
        return self.gateway.sync(self._keep, duration)

    async def _keep(self, duration: Any) -> None:
        await keep_cluster(self.gateway, self.name, duration)
