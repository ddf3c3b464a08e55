"""Kerberos, as far as it needs no realm: names, and what is said where its package is missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.authn.kerberos import KerberosAuthenticator, KerberosSettings, user_name
from tidegate.model.errors import Invalid

SERVICE = "HTTP/gateway.a.org@A.ORG"


@pytest.mark.parametrize(
    ("client", "realms", "name"),
    [
        ("alice@A.ORG", (), "alice"),
        ("alice@B.ORG", (), None),
        ("alice@a.org", (), None),
        ("alice@B.ORG", ("B.ORG",), "alice"),
        ("alice@A.ORG", ("B.ORG",), None),
        ("alice@A.ORG", ("A.ORG", "B.ORG"), "alice"),
        ("alice@B.ORG", ("A.ORG", "B.ORG"), "alice@B.ORG"),
        ("alice/admin@A.ORG", (), "alice/admin"),
        ("alice\\@B.ORG@A.ORG", (), "alice\\@B.ORG"),
        ("alice@B\\@A.ORG", (), None),
        ("alice", (), None),
        ("@A.ORG", (), None),
        ("alice@", (), None),
        ("", (), None),
    ],
)
def test_a_name_stands_for_one_principal(client: str, realms: tuple[str, ...], name: str | None) -> None:
    """Of the first realm without it, of others with it, of any other realm not at all."""
    assert user_name(client, SERVICE, realms) == name


PART = st.text(st.sampled_from("ab@\\/."), min_size=1, max_size=6)


@given(st.tuples(PART, PART), st.tuples(PART, PART))
def test_no_two_principals_have_one_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Whatever their names and realms look like, once Kerberos has written them down."""

    def written(part: str) -> str:
        return part.replace("\\", "\\\\").replace("@", "\\@")

    clients = [f"{written(name)}@{written(realm)}" for name, realm in (one, other)]
    realms = [written(realm) for _, realm in (one, other)]
    names = [user_name(client, SERVICE, realms) for client in clients]

    assert None not in names
    assert (names[0] == names[1]) == (one == other)


@pytest.mark.parametrize("service", ["", "HTTP@", "HTTP/gateway", "a b", "HTTP@a@b"])
def test_a_service_is_a_name_perhaps_with_a_host(service: str) -> None:
    """Written as GSSAPI writes it, not as a principal."""
    with pytest.raises(ValueError, match="service"):
        KerberosSettings(service=service)


@pytest.mark.skipif(find_spec("gssapi") is not None, reason="the package is there")
def test_without_its_package_it_says_what_to_install(tmp_path: Path) -> None:
    """It is an extra, for it has to be compiled; what is missing shows at the start and in `tidegate config check`."""
    with pytest.raises(Invalid, match=r"libkrb5-dev, then pip install 'tidegate\[kerberos\]'"):
        KerberosAuthenticator(tmp_path)
