"""Nothing that is secret is shown by accident: in a ``repr``, and so in a traceback, or in a path in a log."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.authn.base import Accepted, Begun, BegunDevice, Presented
from tidegate.authn.flows import Flow
from tidegate.authn.limits import Attempt
from tidegate.authn.users import User
from tidegate.control.choosing import Chosen
from tidegate.control.proxy_link import Change
from tidegate.model.choice import Choice
from tidegate.model.cluster import ClusterSpec
from tidegate.model.principal import Principal
from tidegate.server.client_config import Connection
from tidegate.store.base import ClientPair, Credentials
from tidegate.wire import v2, v2_shares, v2_tokens
from tidegate.wire.names import path_to_log
from tidegate.wire.proxy import Route

WORD = "hunter2"

BEARERS: list[Any] = [
    Accepted(Principal("alice"), WORD),
    Attempt("192.0.2.7", b"alice", WORD.encode()),
    Begun("https://login.example.org", WORD),
    BegunDevice("ABCD", "https://login.example.org", None, 600, 5, WORD),
    Change("put", {"route": {"ticket_key": WORD}}),
    ClientPair(WORD, WORD),
    Connection("http://127.0.0.1:8000", "alice", WORD),
    Chosen({}, Choice(ClusterSpec(), variables={"KEY": WORD})),
    Credentials(*(WORD for _ in range(11)), variables={"KEY": WORD}),
    Flow("oidc", WORD, "/"),
    Presented("bearer", WORD),
    Route("c1", "127.0.0.1", 1, 2, WORD, WORD, WORD),
    User("alice", WORD),
    v2.Credentials(certificate="", key=WORD, sni=""),
    v2.NewCluster(options={"variables": {"KEY": WORD}}),
    v2_shares.MadeLink(id="l1", label="", expires_at=0, created_at=0, created_by="alice", url=WORD),
    v2_tokens.DeviceLogin(user_code="", page="", whole_page=None, seconds=1, interval=1, handle=WORD),
    v2_tokens.DeviceQuestion(handle=WORD),
    v2_tokens.MintedToken(
        id="t1", user="alice", label="", scope="full", created_at=0, expires_at=None, used_at=None, secret=WORD
    ),
]


@pytest.mark.parametrize("bearer", BEARERS, ids=lambda bearer: type(bearer).__name__)
def test_no_secret_is_in_a_repr(bearer: Any) -> None:
    """A traceback, an assertion or a careless line in a log shows the rest."""
    assert WORD not in repr(bearer)
    assert WORD not in str(bearer)


@pytest.mark.parametrize("path", [f"/shared/{WORD}", f"/services/dask/shared/{WORD}", f"/shared/{WORD}/more"])
def test_a_link_is_not_in_a_log(path: str) -> None:
    """Whoever reads the log could open it."""
    assert WORD not in path_to_log(path)
