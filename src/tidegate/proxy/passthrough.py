"""From a cluster's name in a ClientHello to a spliced connection with its scheduler.

The proxy cannot read what passes and holds no key for it: TLS goes from end to end, and the scheduler itself demands a
certificate of its own authority. All that is decided here is where the bytes go.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from tidegate.proxy.connections import Admission, ClusterConnections
from tidegate.proxy.dial import OwnAddress, OwnAddresses, dial
from tidegate.proxy.holding import Holding, Taken
from tidegate.proxy.peek import hang_up
from tidegate.proxy.pipes import PipePool
from tidegate.proxy.routes import RouteTable
from tidegate.proxy.splice import Splice
from tidegate.wire.names import SNI_PREFIX
from tidegate.wire.proxy import Route

UNRECOGNIZED_NAME = bytes([21, 3, 3, 0, 2, 2, 112])
"""The fatal TLS alert that says "no such name here" (RFC 6066, 3), so that the client fails at once and says why."""

AGAIN_SECONDS = 0.05
"""Until connections are offered again that nobody could be given just now."""

COMPLAINT_SECONDS = 60.0
"""Between two lines of the log about a cluster that has too many connections."""

logger = logging.getLogger(__name__)


def cluster_of(server_name: str | None) -> str | None:
    """Return the cluster that a server name asks for, None if it is no cluster's name."""
    if server_name is None or not server_name.startswith(SNI_PREFIX):
        return None
    return server_name.removeprefix(SNI_PREFIX) or None


class Passthrough:
    """Connects clients with schedulers.

    Parameters
    ----------
    routes : RouteTable
    own : OwnAddresses
        What must never be dialled.
    connections : ClusterConnections
        Where each connection is counted, and from where it can be cut.
    admission : Admission
        Where a connection is counted that another process has left.
    holding : Holding
        Where each connection is registered, so that another process can go on with it.
    dial_seconds : float
    per_cluster : int
        So many connections one cluster may have here.
    """

    def __init__(
        self,
        routes: RouteTable,
        own: OwnAddresses,
        connections: ClusterConnections,
        admission: Admission,
        holding: Holding,
        *,
        dial_seconds: float,
        per_cluster: int,
    ) -> None:
        self._routes = routes
        self._own = own
        self._connections = connections
        self._admission = admission
        self._holding = holding
        self._dial_seconds = dial_seconds
        self._per_cluster = per_cluster
        self._dialling: Counter[str] = Counter()
        self._complained_at: dict[str, float] = {}
        self._pipes = PipePool(holding)
        self._splices: dict[int, Splice] = {}
        self._giving = False

    async def connect(self, client: socket.socket, name: str, ended: Callable[[], None]) -> bool:
        """Connect ``client``, whose ClientHello was seen but not consumed, with the scheduler of cluster ``name``.

        Returns
        -------
        bool
            True: ``client`` is taken care of, and ``ended`` will be called when it is closed. False: there is no way to
            that cluster, and the caller still owns ``client``.
        """
        route = await self._routes.find(name)
        if route is None:
            logger.debug("no route to cluster %s", name[:64])  # anybody may ask for any name, and often
            hang_up(client, UNRECOGNIZED_NAME)
            return False
        if self._connections.count(name) + self._dialling[name] >= self._per_cluster:
            self._complain(name)
            hang_up(client, UNRECOGNIZED_NAME)
            return False
        server = await self._dial(route)
        if server is None:
            return False
        if self._routes.get(name) is None:  # withdrawn while we were dialling
            server.close()
            return False
        number = self._holding.hold(name, client.fileno(), server.fileno())
        self._splice(name, client, server, number, ended).start()
        if self._giving:
            self.give_away()
        return True

    async def _dial(self, route: Route) -> socket.socket | None:
        """Connect with a scheduler; None when that cannot be done. Meanwhile it counts: a hostile one never accepts."""
        name = route.name
        self._dialling[name] += 1
        try:
            async with asyncio.timeout(self._dial_seconds):
                return await dial(route.host, route.port, self._own)
        except OwnAddress as error:
            logger.warning("cluster %s: %s", name, error)
        except (OSError, TimeoutError) as error:
            logger.info("cluster %s: cannot reach its scheduler at %s:%d: %r", name, route.host, route.port, error)
        finally:
            self._dialling[name] -= 1
            if not self._dialling[name]:
                del self._dialling[name]
        return None

    def take(self, taken: Taken) -> tuple[int, list[int], Callable[[], None]]:
        """Get ready to go on with a connection that another process has left (``Holding``)."""
        ended = self._admission.count_in(_address_of(taken.client))
        number = self._holding.number()
        splice = self._splice(taken.cluster, taken.client, taken.server, number, ended)
        carried = zip(taken.carries, taken.pipes, strict=True)
        pipes = [splice.adopt(direction, ends) for direction, ends in carried]

        def begin() -> None:
            splice.start()
            if self._routes.loaded and self._routes.get(taken.cluster) is None:
                splice.cut()  # its route was withdrawn while nobody had it
            elif self._giving:
                self.give_away()

        return number, pipes, begin

    def give_away(self) -> None:
        """Let other processes go on with everything that is here, as far as they take it."""
        self._giving = True
        for number, splice in list(self._splices.items()):
            if not splice.give_away(partial(self._holding.release, number)):
                asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.give_away)
                return

    def _splice(
        self, name: str, client: socket.socket, server: socket.socket, number: int, ended: Callable[[], None]
    ) -> Splice:
        def on_end() -> None:
            del self._splices[number]
            self._holding.drop(number)
            forget()
            ended()

        splice = Splice(client, server, self._pipes, number, on_end)
        forget = self._connections.add(name, splice.cut)
        self._splices[number] = splice
        return splice

    def _complain(self, name: str) -> None:
        """Log that a cluster has too many connections, once a minute: whoever causes this can cause it often."""
        now = time.monotonic()
        self._complained_at = {
            cluster: at for cluster, at in self._complained_at.items() if now - at < COMPLAINT_SECONDS
        }
        if name not in self._complained_at:
            self._complained_at[name] = now
            message = "cluster %s has %d connections through this process, as many as may be: more are refused"
            logger.warning(message, name, self._per_cluster)

    def close(self) -> None:
        """Cut every connection and free what is lent."""
        self._connections.cut_all()
        self._pipes.close()


def _address_of(client: socket.socket) -> str:
    try:
        return str(client.getpeername()[0])
    except OSError:  # it has left already, which will be noticed when it is read from
        return ""
