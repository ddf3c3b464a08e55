"""Names that two processes must agree on."""

SNI_PREFIX = "daskgateway-"
"""A TLS ClientHello for this and a cluster's name goes to that cluster's scheduler (dask-gateway's convention)."""

DASHBOARD_HEADER = "X-Tidegate-Dashboard"
"""The header in which a cluster's own HTTP servers demand the cluster's dashboard secret."""

AGENT_PATH = "/api/agent/v1/clusters/{name}"
"""Where an agent reports (``/report``) and waits for the wanted state (``/wanted``), below the gateway's address."""

TICKET_PATH = "/_tidegate/open"
"""On a dashboard's own host: where a one-time ticket in the query becomes a cookie of that host."""

TICKET_COOKIE = "tidegate-ticket"
"""Cookie that holds a dashboard ticket; host-only."""

LINK_PATH = "/shared/{link}"
"""Path of a link to a dashboard, on the gateway's own host."""


def path_to_log(path: str) -> str:
    """Return a path as a log may have it: who reads of a link in one could open it.

    >>> path_to_log("/services/dask/shared/secret"), path_to_log("/clusters/shared")
    ('/services/dask/shared/...', '/clusters/shared')
    """
    start = LINK_PATH.partition("{")[0]
    before, found, _ = path.partition(start)
    return f"{before}{start}..." if found else path


ON_BEHALF_HEADER = "Tidegate-On-Behalf-Of"
"""The header in which an administrator names the user on whose behalf a request is made, percent-encoded."""
