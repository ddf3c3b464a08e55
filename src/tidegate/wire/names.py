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
