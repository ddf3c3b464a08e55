"""Which gateway is meant, and which secrets go there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.config
import pytest

from tidegate.client.config import resolve, where_set
from tidegate.client.errors import GatewayValueError

OURS = {"address": "http://ours:8000", "auth": {"type": "token", "kwargs": {"token": "secret"}}}
THEIRS = {
    "address": "https://theirs/services/dask-gateway/",
    "public-address": "https://hub.example.org/services/dask-gateway/",
    "proxy-address": "gateway://theirs-proxy:8786",
    "auth": {"type": "basic", "kwargs": {"username": "alice", "password": "secret"}},
    "http-client": {"proxy": False},
    "cluster": {"options": {"worker_cores": 2}},
}


def test_a_notebook_that_was_set_up_for_dask_gateway_works_unchanged() -> None:
    """All keys of dask-gateway's section are read as dask-gateway reads them."""
    with dask.config.set(gateway=THEIRS):
        settings = resolve()

    assert settings.address == "https://theirs/services/dask-gateway"
    assert settings.public_address == "https://hub.example.org/services/dask-gateway"
    assert settings.scheduler_netloc() == "theirs-proxy:8786"
    assert settings.auth_type == "basic"
    assert settings.auth_kwargs == {"username": "alice", "password": "secret"}
    assert settings.http_proxy is False
    assert settings.options == {"worker_cores": 2}


def test_our_section_with_an_address_stands_alone() -> None:
    """A platform's proxy address must not be mixed with the address of another gateway."""
    with dask.config.set(tidegate=OURS, gateway=THEIRS):
        settings = resolve()

    assert settings.address == "http://ours:8000"
    assert settings.scheduler_netloc() == "ours:8000"
    assert settings.auth_kwargs == {"token": "secret"}
    assert settings.options == {}


def test_the_section_that_names_an_address_is_used_for_it() -> None:
    """A platform's gateway, given by its address, gets the platform's credentials beside a gateway of one's own."""
    with dask.config.set(tidegate=OURS, gateway=THEIRS):
        settings = resolve("https://theirs/services/dask-gateway")

    assert settings.auth_kwargs == {"username": "alice", "password": "secret"}
    assert settings.scheduler_netloc() == "theirs-proxy:8786"


@pytest.mark.parametrize("auth", ["jupyterhub", {"type": "jupyterhub"}, {"type": "jupyterhub", "kwargs": None}])
def test_a_way_to_log_in_may_be_named_and_no_more(auth: Any) -> None:
    """As in `Gateway(auth=...)`: what it needs it finds by itself."""
    with dask.config.set(tidegate={"address": "http://ours:8000", "auth": auth}):
        settings = resolve()

    assert settings.auth_type == "jupyterhub"
    assert settings.auth_kwargs == {}


def test_our_section_without_an_address_adds_to_theirs() -> None:
    """Single keys of `tidegate:` win over the same keys of `gateway:`."""
    with dask.config.set(tidegate={"cluster": {"options": {"worker_cores": 4}}}, gateway=THEIRS):
        settings = resolve()

    assert settings.address == "https://theirs/services/dask-gateway"
    assert settings.options == {"worker_cores": 4}


def test_arguments_win() -> None:
    """What is given is not looked up."""
    with dask.config.set(gateway=THEIRS):
        settings = resolve("http://mine:9000/", 8786, "https://public/", "jupyterhub")

    assert settings.address == "http://mine:9000"
    assert settings.scheduler_netloc() == "mine:8786"
    assert settings.public_address == "https://public"
    assert settings.auth_type == "jupyterhub"


@pytest.mark.parametrize("section", ["tidegate", "gateway"])
def test_the_secrets_of_one_gateway_are_not_sent_to_another(section: str) -> None:
    """A token in the configuration belongs to the address beside it."""
    with dask.config.set({section: OURS}):
        elsewhere = resolve("http://elsewhere:8000")
        here = resolve("http://ours:8000/")

    assert "secret" not in str(elsewhere.auth_kwargs)
    assert here.auth_kwargs == {"token": "secret"}


def test_the_secrets_go_to_the_public_address_of_the_same_gateway() -> None:
    """A gateway that is known by two addresses is one gateway."""
    with dask.config.set(gateway=THEIRS):
        settings = resolve("https://hub.example.org/services/dask-gateway")

    assert settings.auth_kwargs == {"username": "alice", "password": "secret"}


def test_a_withheld_secret_says_whom_it_is_for() -> None:
    """The error that follows can then name the address that the credentials are for."""
    with dask.config.set(gateway=THEIRS):
        settings = resolve("http://elsewhere")

    assert settings.auth_type is None
    assert settings.auth_meant_for == THEIRS["address"]


def test_a_log_in_without_secrets_goes_anywhere() -> None:
    """`auth: {type: jupyterhub}` is used for an address that was given, as with dask-gateway."""
    with dask.config.set(gateway={"address": "https://theirs", "auth": {"type": "jupyterhub"}}):
        settings = resolve("https://elsewhere")

    assert settings.auth_type == "jupyterhub"


def test_a_secret_is_not_shown() -> None:
    """Settings end up in tracebacks."""
    with dask.config.set(tidegate=OURS):
        assert "secret" not in repr(resolve())


def test_environment_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts name them as {NAME}, at any depth."""
    monkeypatch.setenv("GATEWAY_HOST", "example.org")
    monkeypatch.setenv("MY_TOKEN", "abc")
    section = {
        "address": "https://{GATEWAY_HOST}",
        "auth": {"type": "token", "kwargs": {"token": "{MY_TOKEN}"}},
        "cluster": {"options": {"image": "{GATEWAY_HOST}/image"}},
    }
    with dask.config.set(gateway=section):
        settings = resolve()

    assert settings.address == "https://example.org"
    assert settings.auth_kwargs == {"token": "abc"}
    assert settings.options == {"image": "example.org/image"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "neither `tidegate.address` nor `gateway.address`"),
        ({"gateway": {"address": "https://{NOT_SET_ANYWHERE}"}}, "NOT_SET_ANYWHERE is not set"),
        ({"gateway": {"address": "https://{"}}, "`gateway.address`: write environment variables as {NAME}"),
        ({"gateway": {"address": "dask.example.org"}}, "write a URL"),
        ({"gateway": {"address": "https://me:pw@dask.example.org"}}, "give them as `auth`"),
        ({"gateway": {"address": "https://x:y"}}, "as `gateway.address`"),
        ({"gateway": {"address": "https://x", "proxy-address": "tls://"}}, "write host:port"),
        ({"tidegate": {"address": "http://127.0.0.1", "listener-uid": "alice"}}, "write the number of an OS user"),
    ],
)
def test_what_makes_no_sense_is_named(config: dict[str, Any], words: str) -> None:
    """Each mistake says which setting, and what to write."""
    with dask.config.set(config), pytest.raises(GatewayValueError) as caught:
        resolve()

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("address", "given", "told", "netloc"),
    [
        ("http://h", None, None, "h:80"),
        ("https://h/prefix", None, None, "h:443"),
        ("https://h:8000", None, "tls://proxy:8786", "proxy:8786"),
        ("https://h:8000", "other:1", "tls://proxy:8786", "other:1"),
        ("https://[::1]:8000", None, None, "[::1]:8000"),
        ("https://h", "proxy", None, "proxy:8786"),
        ("https://h", 9000, None, "h:9000"),
    ],
)
def test_where_schedulers_are(address: str, given: Any, told: str | None, netloc: str) -> None:
    """As configured, else as the gateway tells, else at its own address."""
    assert resolve(address, given).scheduler_netloc(told) == netloc


def test_loopback_is_reached_without_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A company's proxy in the environment cannot reach a gateway on this machine."""
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("no_proxy", raising=False)

    assert resolve("http://127.0.0.1:8000").proxy_for_http() is None
    assert resolve("http://localhost:8000").proxy_for_http() is None
    assert resolve("http://elsewhere:8000").proxy_for_http() == "http://proxy:3128"


def test_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several files that set a key, the one that Dask reads last."""
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        (tmp_path / name).write_text("gateway: {address: 'http://x'}\n" if name != "c.yaml" else "other: 1\n")
    (tmp_path / "d.yaml").write_text("gateway: [\n")  # what Dask cannot read has no say
    monkeypatch.setattr(dask.config, "paths", [str(tmp_path)])

    assert where_set("gateway.address") == f"`gateway.address` in {tmp_path / 'b.yaml'}"


def test_an_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask reads DASK_GATEWAY__ADDRESS after all files."""
    monkeypatch.setenv("DASK_GATEWAY__ADDRESS", "http://x")

    assert where_set("gateway.address") == "`gateway.address` in the environment variable DASK_GATEWAY__ADDRESS"
