"""What the gateway's own processes ask over the Unix socket; the proxy never forwards these paths from outside."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from tidegate.api.access import authenticate
from tidegate.api.address import remember_client
from tidegate.api.audited import facts_of
from tidegate.api.body import read_object
from tidegate.api.services import services_of
from tidegate.model.cluster import Cluster
from tidegate.model.errors import Invalid, NotAllowed
from tidegate.model.permissions import Action
from tidegate.model.principal import Principal


async def dashboard_access(request: Request) -> JSONResponse:
    """Tell a proxy whether the bearer of an ``Authorization`` header may look at a cluster's dashboard, and who it is.

    The header is the one that the proxy was given, by whoever is at ``client``. What the bearer may not look at is 404.
    What they may is theirs in the share epoch ``epoch``, until ``until`` where that is known, and until one of ``by``
    is ended: the same as in a ticket.
    """
    name = facts_of(request).cluster = await _text(request, "cluster")
    client = (await read_object(request)).get("client")
    # A proxy that has outlived an upgrade does not say it.
    remember_client(request, client if isinstance(client, str) else "")
    principal = await authenticate(request, session=False)
    services = services_of(request)
    cluster = await services.clusters.get(principal, name, Action.DASHBOARD)
    check_dashboard(principal, cluster, own_host=services.dashboard_host is not None)
    by = [vouches for vouches in (principal.token, services.entries.of(principal)) if vouches]
    granted = {"epoch": epoch_of(principal, cluster), "until": principal.until, "by": by}
    return JSONResponse({"user": principal.name, **granted})


def check_dashboard(principal: Principal, cluster: Cluster, *, own_host: bool) -> None:
    """Make sure that a dashboard may be shown to ``principal``, who may see it, where it is shown on this gateway.

    Raises
    ------
    NotAllowed
        It would be on the gateway's own host, where its owner's code could act in the viewer's name; an administrator
        who acts on behalf of the owner is such a viewer too.
    """
    if not own_host and not _is_owner(principal, cluster):
        raise NotAllowed(
            f"cannot show the dashboard of cluster {cluster.name} to anybody but {cluster.owner}: on this gateway "
            "dashboards have no host names of their own, and a dashboard runs its owner's code. The administrator can "
            "set dashboards.host"
        )


def epoch_of(principal: Principal, cluster: Cluster) -> int | None:
    """Return in which share epoch a ticket for ``principal`` is good."""
    return None if _is_owner(principal, cluster) else cluster.share_epoch


def _is_owner(principal: Principal, cluster: Cluster) -> bool:
    """Whether the owner themselves is asking, not somebody in their name."""
    return principal.name == cluster.owner and not principal.actor


async def _text(request: Request, field: str) -> str:
    value = (await read_object(request)).get(field)
    if not isinstance(value, str) or not value:
        raise Invalid(f"cannot use the body: {field} must be text", field=field)
    return value
