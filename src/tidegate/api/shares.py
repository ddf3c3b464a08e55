"""Sharing a cluster: who else may see or use it, and links to its dashboard."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.audited import facts_of
from tidegate.api.services import services_of
from tidegate.wire.names import LINK_PATH
from tidegate.wire.v2_shares import LinkBody, LinkList, MadeLink, NewLink, NewShare, ShareBody, ShareList

GranteePath = Annotated[str, Path(max_length=600, description="user:NAME or group:NAME, percent-encoded.")]


async def list_shares(request: Request, name: str) -> ShareList:
    """List whom a cluster is shared with."""
    shares = await services_of(request).shares.find(caller(request), name)
    return ShareList(shares=[ShareBody.from_model(share) for share in shares])


async def give_share(request: Request, name: str, grantee: GranteePath, body: NewShare) -> ShareBody:
    """Share a cluster with a user or a group, or give them another right."""
    facts_of(request).detail = f"{grantee}: {body.right.value}"
    return ShareBody.from_model(await services_of(request).shares.give(caller(request), name, grantee, body.right))


async def withdraw_share(request: Request, name: str, grantee: GranteePath) -> Response:
    """Share a cluster no longer with a user or a group. What they have open ends."""
    facts_of(request).detail = grantee
    await services_of(request).shares.withdraw(caller(request), name, grantee)
    return Response(status_code=204)


async def list_links(request: Request, name: str) -> LinkList:
    """List the links to a cluster's dashboard that have not expired; where they lead is told once, to their maker."""
    links = await services_of(request).shares.find_links(caller(request), name)
    return LinkList(links=[LinkBody.from_model(link) for link in links])


async def make_link(request: Request, name: str, body: NewLink) -> MadeLink:
    """Make a link that opens a cluster's dashboard to whoever has it, and nothing else."""
    link, text = await services_of(request).shares.make_link(caller(request), name, body.seconds, body.label)
    facts_of(request).detail = f"link {link.id}"
    return MadeLink.from_model(link, url=link_url(request, text))


async def withdraw_link(request: Request, name: str, id: str) -> Response:
    """Withdraw a link. The pages that it opened end."""
    facts_of(request).detail = f"link {id}"
    await services_of(request).shares.withdraw_link(caller(request), name, id)
    return Response(status_code=204)


def link_url(request: Request, text: str) -> str:
    """Return the whole address of a link."""
    address = address_of(request)
    return address.origin + address.prefix + LINK_PATH.format(link=text)
