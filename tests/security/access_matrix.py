"""The access matrix: every route of the application, and what each kind of caller gets there.

Whoever adds a route adds a line; a route without one fails the test, and so does a line without a route. A ``?query``
or a ``#word`` at the end of a path tells lines of the same route apart. The columns:

unknown
    Nobody, and whoever shows a wrong, an expired or a revoked token, or such a session: all get the same bytes.
stranger
    Another tenant, and somebody from whom a share was withdrawn: what is not theirs gives the same bytes as what never
    was. (Where the path names no cluster there is nothing to hide, and they are users like any other.)
reader
    The owner's read-only token.
view, use
    Somebody with such a share, given to them or to a group of theirs.
owner
    By token, and by a session from a page of the gateway.
foreign
    The owner's browser on a page of somebody else, a dashboard's among them: with a session, a token or a password.
pageless
    The owner's session, sent by something that does not say which page it was on.
admin
    An administrator, as themselves.
behalf
    An administrator on behalf of the owner.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

COLUMNS = ("unknown", "stranger", "reader", "view", "use", "owner", "foreign", "pageless", "admin", "behalf")

TABLE = """
#                                                   unknown stranger reader view use owner foreign pageless admin behalf
# dask-gateway's protocol: 409 stands for 403, whose words its client would drop; a DELETE of nothing is 204.
GET    /api/version                                     200      200    200  200 200   200     200      200   200    200
GET    /api/health                                      200      200    200  200 200   200     200      200   200    200
GET    /api/v1/options                                  401      200    200  200 200   200     401      401   200    200
GET    /api/v1/clusters/                                401      200    200  200 200   200     401      401   200    200
POST   /api/v1/clusters/                                401      201    409  201 201   201     401      401   201    201
GET    /api/v1/clusters/{name}                          401      404    409  409 200   200     401      401   409    200
DELETE /api/v1/clusters/{name}                          401      204    409  409 409   204     401      401   204    204
POST   /api/v1/clusters/{name}/scale                    401      404    409  409 409   200     401      401   200    200
POST   /api/v1/clusters/{name}/adapt                    401      404    409  409 409   200     401      401   200    200

# Our own protocol.
GET    /api/v2/health                                   200      200    200  200 200   200     200      200   200    200
GET    /api/v2/version                                  200      200    200  200 200   200     200      200   200    200
GET    /api/v2/openapi.json                             200      200    200  200 200   200     200      200   200    200
GET    /api/v2/whoami                                   401      200    200  200 200   200     401      401   200    200
GET    /api/v2/options                                  401      200    200  200 200   200     401      401   200    200
POST   /api/v2/clusters                                 401      201    403  201 201   201     401      401   201    201
GET    /api/v2/clusters                                 401      200    200  200 200   200     401      401   200    200
GET    /api/v2/clusters/{name}                          401      404    200  200 200   200     401      401   200    200
PATCH  /api/v2/clusters/{name}                          401      404    403  403 403   200     401      401   200    200
DELETE /api/v2/clusters/{name}                          401      404    403  403 403   202     401      401   202    202
POST   /api/v2/clusters/{name}/keep                     401      404    403  403 403   200     401      401   200    200
GET    /api/v2/clusters/{name}/credentials              401      404    403  403 200   200     401      401   403    200
GET    /api/v2/clusters/{name}/logs                     401      404    200  200 200   200     401      401   200    200
GET    /api/v2/clusters/{name}/events                   401      404    200  200 200   200     401      401   200    200
GET    /api/v2/events                                   401      200    200  200 200   200     401      401   200    200
# For monitoring: an administrator, acting as such, or a token of theirs that is good for nothing else.
GET    /metrics                                         401      403    403  403 403   403     401      401   200    403
# What asks for more than one's own.
GET    /api/v2/clusters?of=all                          401      200    200  200 200   200     401      401   200    200
GET    /api/v2/clusters?of=shared                       401      200    200  200 200   200     401      401   200    200
GET    /api/v2/clusters?owner=alice                     401      200    200  200 200   200     401      401   200    200
GET    /api/v2/events?of=all                            401      200    200  200 200   200     401      401   200    200
GET    /api/v2/tokens?user=alice                        401      403    200  403 403   200     401      401   200    200
# To be set by an administrator alone, acting as such.
PATCH  /api/v2/clusters/{name}#limit                    401      404    403  403 403   403     401      401   200    403
# Sharing: for the owner, and for an administrator.
GET    /api/v2/clusters/{name}/shares                   401      404    200  403 403   200     401      401   200    200
PUT    /api/v2/clusters/{name}/shares/{grantee:path}    401      404    403  403 403   200     401      401   200    200
DELETE /api/v2/clusters/{name}/shares/{grantee:path}    401      404    403  403 403   204     401      401   204    204
GET    /api/v2/clusters/{name}/links                    401      404    200  403 403   200     401      401   200    200
POST   /api/v2/clusters/{name}/links                    401      404    403  403 403   201     401      401   201    201
DELETE /api/v2/clusters/{name}/links/{id}               401      404    403  403 403   204     401      401   204    204
# Everyone reads their own use; that of others, whoever it is, an administrator acting as such.
GET    /api/v2/usage                                    401      200    200  200 200   200     401      401   200    200
GET    /api/v2/usage?user=nobody                        401      403    403  403 403   403     401      401   200    403
GET    /api/v2/usage?group=nobody                       401      403    403  403 403   403     401      401   200    403
# How much one may hold everyone reads of themselves; what others may, and every rule, an administrator acting as such.
GET    /api/v2/limits                                   401      200    200  200 200   200     401      401   200    200
GET    /api/v2/limits?user=nobody                       401      403    403  403 403   403     401      401   200    403
GET    /api/v2/limits?of=all                            401      403    403  403 403   403     401      401   200    403
GET    /api/v2/limits/rules                             401      403    403  403 403   403     401      401   200    403
PUT    /api/v2/limits/{resource}/{subject:path}         401      403    403  403 403   403     401      401   200    403
DELETE /api/v2/limits/{resource}/{subject:path}         401      403    403  403 403   403     401      401   204    403
# To nobody but an administrator there is a log.
GET    /api/v2/audit                                    401      404    404  404 404   404     401      401   200    404
# The token that is revoked is the owner's.
POST   /api/v2/tokens                                   401      201    403  201 201   201     401      401   201    403
GET    /api/v2/tokens                                   401      200    200  200 200   200     401      401   200    200
DELETE /api/v2/tokens/{id}                              401      404    403  404 404   204     401      401   404    204
# Nobody logs in in a terminal here.
POST   /api/v2/login/device                             404      404    404  404 404   404     403      404   404    404
POST   /api/v2/login/device/token                       404      404    404  404 404   404     403      404   404    404

# For the cluster's own agent, whatever a user shows; and for the gateway's own processes (see test_internal.py).
POST   /api/agent/v1/clusters/{name}/report             401      401    401  401 401   401     401      401   401    401
GET    /api/agent/v1/clusters/{name}/wanted             401      401    401  401 401   401     401      401   401    401
POST   /internal/dashboard-access                       401      404    200  200 200   200     200      200   200    200

# The console: whoever is not known is led to the login. A link from elsewhere opens a page, and acts on nothing.
GET    /                                                303      200    200  200 200   200     200      200   200    200
GET    /clusters/{name}                                 303      404    200  200 200   200     200      200   200    200
GET    /clusters/{name}/{where:path}                    303      404    302  302 302   302     302      302   302    302
GET    /login                                           200      200    200  200 200   200     200      200   200    200
POST   /login                                           401      401    401  401 401   401     403      403   401    401
GET    /login/{method}                                  404      404    404  404 404   404     404      404   404    404
GET    /login/{method}/return                           404      404    404  404 404   404     404      404   404    404
POST   /logout                                          303      303    303  303 303   303     403      403   303    303
GET    /console/live                                    303      200    200  200 200   200     303      303   200    200
GET    /console/clusters/{name}/live                    303      404    200  200 200   200     303      303   200    200
GET    /console/clusters/{name}/logs                    303      404    200  200 200   200     200      200   200    200
POST   /console/clusters                                401      303    403  303 303   303     401      401   303    303
POST   /console/clusters/{name}/size                    401      404    403  403 403   303     401      401   303    303
POST   /console/clusters/{name}/stop                    401      404    403  403 403   303     401      401   303    303
POST   /console/clusters/{name}/keep                    401      404    403  403 403   303     401      401   303    303
POST   /console/clusters/{name}/limit                   401      404    403  403 403   403     401      401   303    403
POST   /console/clusters/{name}/shares                  401      404    403  403 403   303     401      401   303    303
POST   /console/clusters/{name}/shares/withdraw         401      404    403  403 403   303     401      401   303    303
POST   /console/clusters/{name}/links                   401      404    403  403 403   200     401      401   200    200
POST   /console/clusters/{name}/links/{id}/withdraw     401      404    403  403 403   303     401      401   303    303
GET    /limits                                          303      200    200  200 200   200     200      200   200    200
POST   /console/limits                                  401      403    403  403 403   403     401      401   303    403
POST   /console/limits/unset                            401      403    403  403 403   403     401      401   303    403
GET    /usage                                           303      200    200  200 200   200     200      200   200    200
GET    /usage.csv                                       303      200    200  200 200   200     200      200   200    200
GET    /audit                                           303      404    404  404 404   404     404      404   200    404
GET    /behalf                                          303      404    404  404 404   404     404      404   200    404
# An administrator who shows a token has no session to choose in: see test_access_matrix.py.
POST   /console/behalf                                  401      403    403  403 403   403     401      401   303    403
POST   /console/behalf/end                              303      303    303  303 303   303     403      403   303    303
GET    /options                                         303      200    200  200 200   200     200      200   200    200
GET    /tokens                                          303      200    200  200 200   200     200      200   200    200
POST   /console/tokens                                  401      200    403  200 200   200     401      401   200    403
POST   /console/tokens/{id}/revoke                      401      404    403  404 404   303     401      401   404    303
# Whoever has a link needs no name. What is wrong with one is not told: see test_links_that_open_nothing.
GET    /shared/{link}                                   302      302    302  302 302   302     302      302   302    302
GET    /console/static/{file}                           200      200    200  200 200   200     200      200   200    200
GET    /favicon.ico                                     200      200    200  200 200   200     200      200   200    200
"""

BODIES = {
    ("POST", "/api/v1/clusters/"): "{}",
    ("POST", "/api/v1/clusters/{name}/scale"): '{"count": 1}',
    ("POST", "/api/v1/clusters/{name}/adapt"): "{}",
    ("POST", "/api/v2/clusters"): "{}",
    ("PATCH", "/api/v2/clusters/{name}"): '{"workers": 1}',
    ("PATCH", "/api/v2/clusters/{name}#limit"): '{"max_workers": 5}',
    ("PUT", "/api/v2/clusters/{name}/shares/{grantee:path}"): '{"right": "use"}',
    ("POST", "/api/v2/clusters/{name}/keep"): "{}",
    ("POST", "/api/v2/clusters/{name}/links"): '{"seconds": 60}',
    ("PUT", "/api/v2/limits/{resource}/{subject:path}"): '{"amount": 5}',
    ("POST", "/api/v2/tokens"): "{}",
    ("POST", "/api/v2/login/device"): "{}",
    ("POST", "/api/v2/login/device/token"): '{"handle": "x"}',
    ("POST", "/api/agent/v1/clusters/{name}/report"): '{"attempt": 1, "port": 1}',
    ("POST", "/internal/dashboard-access"): '{"cluster": "{name}"}',
    ("POST", "/console/clusters/{name}/size"): "workers=1",
    ("POST", "/console/clusters/{name}/limit"): "limit=5",
    ("POST", "/console/clusters/{name}/shares"): "kind=user&name=nora&right=use",
    ("POST", "/console/clusters/{name}/shares/withdraw"): "kind=user&name=vera",
    ("POST", "/console/clusters/{name}/links"): "seconds=60",
    ("POST", "/console/limits"): "subject=user:vera&resource=cores&amount=5",
    ("POST", "/console/limits/unset"): "subject=user:vera&resource=cores",
    ("POST", "/console/tokens"): "label=x",
    ("POST", "/console/behalf"): "user=alice",
}
"""What is sent; nothing to the others."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    method: str
    path: str
    statuses: dict[str, int]

    @property
    def body(self) -> str:
        """What is sent."""
        return BODIES.get((self.method, self.path), "")

    @property
    def route(self) -> tuple[str, str]:
        """Which route it is about."""
        return self.method, re.split(r"[?#]", self.path)[0]

    @property
    def variables(self) -> list[str]:
        """What the path leaves open."""
        return re.findall(r"{(\w+)", self.path)

    @property
    def is_page(self) -> bool:
        """Whether it is for people, in browsers."""
        return not self.path.startswith(("/api", "/internal", "/metrics"))

    @property
    def only_shows(self) -> bool:
        """Whether nothing is changed by it."""
        return self.method == "GET"


def _row(line: str) -> Row:
    method, path, *statuses = line.split()
    return Row(method, path, dict(zip(COLUMNS, map(int, statuses), strict=True)))


ROWS = [_row(line) for line in TABLE.splitlines() if line and not line.startswith("#")]
