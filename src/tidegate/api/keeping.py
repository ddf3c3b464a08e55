"""Keeping a cluster that would end by itself, in our own protocol."""

from __future__ import annotations

from starlette.requests import Request

from tidegate.api.access import caller
from tidegate.api.audited import facts_of, tell_keep
from tidegate.api.clusters import body_of
from tidegate.api.services import services_of
from tidegate.wire.v2 import ClusterBody
from tidegate.wire.v2_ends import KeepCluster


async def keep_cluster(request: Request, name: str, body: KeepCluster) -> ClusterBody:
    """Keep a cluster that nobody uses; ``note`` tells what ends it all the same, or keeps it for less than asked."""
    facts_of(request).detail = tell_keep(body.seconds)
    cluster, note = await services_of(request).clusters.keep(caller(request), name, body.seconds)
    return body_of(request, cluster, note=note)
