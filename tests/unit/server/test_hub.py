"""What the configuration wants of a JupyterHub, and what ``tidegate config check`` says of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_double import SERVICE_TOKEN, HubDouble, hub_double
from tidegate.authn.hub_users import SCOPES
from tidegate.config.load import BadConfig, Loaded, load
from tidegate.config.words import describe
from tidegate.model.errors import Invalid
from tidegate.model.offer import Offer
from tidegate.server.hub import check_hub, make_hub_users

CONFIG = """
authentication:
  logins:
    jupyterhub: {{api_url: {url}, service_name: dask-gateway, api_token_file: token}}
ends:
  hub_server_stopped: true
"""


@pytest.fixture
def hub() -> Iterator[HubDouble]:
    """A Hub, in a thread: the command that asks it has a loop of its own."""
    running: list[HubDouble] = []
    up, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with hub_double() as double:
            running.append(double)
            up.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    up.wait(30)
    yield running[0]
    over.set()
    thread.join()


def configured(folder: Path, text: str) -> Loaded:
    """Return what a file with this text says."""
    (folder / "tidegate.yaml").write_text(text)
    (folder / "token").write_text(SERVICE_TOKEN)
    return load(folder / "tidegate.yaml")


def test_without_a_wish_nobody_is_asked(tmp_path: Path) -> None:
    """It is off by default, also where people log in by a Hub."""
    text = CONFIG.format(url="http://127.0.0.1:1/hub/api").replace("true", "false")
    assert make_hub_users(configured(tmp_path, text)) is None
    assert list(check_hub(configured(tmp_path, text))) == []


def test_config_check_says_what_ends_with_the_hub(tmp_path: Path) -> None:
    """Beside the other ends."""
    loaded = configured(tmp_path, CONFIG.format(url="http://127.0.0.1:1/hub/api") + "  hub_user_removed: true\n")
    told = "\n".join(describe(loaded, Offer(), frozenset()))
    assert "when the notebook server of the JupyterHub has stopped from which it was made" in told
    assert "when the JupyterHub no longer has its owner" in told


def test_without_a_hub_there_is_nothing_to_end_with(tmp_path: Path) -> None:
    """The mistake is told with its line."""
    with pytest.raises(BadConfig, match=r"tidegate\.yaml:2: cannot set ends\.hub_user_removed: .*logins\.jupyterhub"):
        make_hub_users(configured(tmp_path, "ends:\n  hub_user_removed: true\n"))


def test_whether_the_hub_permits_it_is_said(tmp_path: Path, hub: HubDouble) -> None:
    """Where it does not, with the line of its configuration that does."""
    loaded = configured(tmp_path, CONFIG.format(url=hub.api_url))
    hub.add_service("read:servers")
    with pytest.raises(Invalid, match=r"lacks list:users(.|\n)*c\.JupyterHub\.load_roles\.append"):
        list(check_hub(loaded))
    hub.add_service(*SCOPES)
    assert list(check_hub(loaded)) == ["JupyterHub permits the gateway to see which notebook servers run."]


def test_a_hub_that_is_away_is_no_mistake(tmp_path: Path) -> None:
    """A file is checked before the Hub is started, or on another machine."""
    (line,) = check_hub(configured(tmp_path, CONFIG.format(url="http://127.0.0.1:1/hub/api")))
    assert "does not answer now" in line
