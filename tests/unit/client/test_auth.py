"""Ways to prove who one is."""

from __future__ import annotations

import base64
from importlib.util import find_spec
from typing import Any

import pytest

from tidegate.client.auth import BasicAuth, GatewayAuth, JupyterHubAuth, KerberosAuth, TokenAuth, make_auth
from tidegate.client.errors import GatewayAuthError, GatewayValueError

URL = "https://gateway.example.org/api"


def test_a_token_goes_with_every_request() -> None:
    """Nobody waits for a 401 first."""
    assert TokenAuth(" abc\n").headers(URL) == {"Authorization": "Bearer abc"}


def test_basic_sends_names_beyond_latin_1() -> None:
    """RFC 7617 says UTF-8; dask-gateway's client fails here."""
    sent = BasicAuth("Łukasz", "pw").headers(URL)["Authorization"].removeprefix("Basic ")

    assert base64.b64decode(sent).decode() == "Łukasz:pw"


def test_jupyterhub_takes_the_token_of_the_notebook_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub leaves it in the environment."""
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hub")

    assert JupyterHubAuth().headers(URL) == {"Authorization": "jupyterhub hub"}


def test_jupyterhub_without_a_token_says_where_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a notebook server of a Hub there is none."""
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)

    with pytest.raises(GatewayValueError, match="JUPYTERHUB_API_TOKEN is not set"):
        JupyterHubAuth()


@pytest.mark.skipif(find_spec("gssapi") is not None, reason="the package is there")
def test_kerberos_without_its_package_says_what_to_install() -> None:
    """gssapi is an extra."""
    with pytest.raises(GatewayAuthError, match="pip install gssapi"):
        KerberosAuth().begin(URL)


@pytest.mark.parametrize(
    ("kind", "made"), [("basic", BasicAuth), ("token", TokenAuth), ("tidegate.client.auth.TokenAuth", TokenAuth)]
)
def test_names_and_dotted_names(kind: str, made: type[GatewayAuth]) -> None:
    """Configuration names a class; its arguments come from there too."""
    kwargs: dict[str, Any] = {} if made is BasicAuth else {"token": "x"}

    assert type(make_auth(kind, kwargs, "here")) is made


@pytest.mark.parametrize(
    ("kind", "kwargs", "words"),
    [
        ("nonsense", {}, "none of basic, jupyterhub, kerberos, token"),
        ("no.such.module", {}, "'no.such.module' (in that file)"),
        ("token", {"tokn": "x"}, "TokenAuth (in that file)"),
        (5, {}, "int (in that file)"),
        ("token", {"token": "two words"}, "one word of ASCII"),
    ],
)
def test_what_cannot_log_in_is_named_with_its_source(kind: Any, kwargs: dict[str, Any], words: str) -> None:
    """The sentence says where the mistake was made."""
    with pytest.raises(GatewayValueError) as caught:
        make_auth(kind, kwargs, "in that file")

    assert words in str(caught.value)


@pytest.mark.parametrize("auth", [TokenAuth("s3cret"), BasicAuth("a", "s3cret"), JupyterHubAuth("s3cret")])
def test_secrets_are_not_shown(auth: GatewayAuth) -> None:
    """Objects are displayed in notebooks, and notebooks are published."""
    assert "s3cret" not in repr(auth)
