"""A renewed certificate is used by itself."""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

import pytest

from tests.proxy_rig import Authority
from tidegate.proxy.certificate import LOOK_SECONDS, Certificate


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def trusts(authority: Authority, context: ssl.SSLContext) -> bool:
    """Whether who trusts this authority can shake hands with a server that has this context."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = authority.client_context().wrap_bio(to_client, to_server)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return client.version() is not None


def test_new_files_are_used_without_a_restart(tmp_path: Path):
    """Not at once, for the files are looked at every few seconds only."""
    old, new = Authority(), Authority()
    clock = Clock()
    certificate = Certificate(*old.leaf(tmp_path, "localhost"), clock)
    assert trusts(old, certificate.context())
    new.leaf(tmp_path, "localhost")

    assert trusts(old, certificate.context())
    clock.now += LOOK_SECONDS

    assert trusts(new, certificate.context())
    assert not trusts(old, certificate.context())


def test_a_link_to_another_file_is_noticed(tmp_path: Path):
    """That is how renewal tools do it."""
    old, new = Authority(), Authority()
    clock = Clock()
    for name, authority in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        cert, key = authority.leaf(tmp_path / name, "localhost")
    live = tmp_path / "live"
    live.symlink_to("old")
    certificate = Certificate(live / cert.name, live / key.name, clock)
    live.unlink()
    live.symlink_to("new")
    clock.now += LOOK_SECONDS

    assert trusts(new, certificate.context())


def test_half_a_renewal_changes_nothing_until_it_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A certificate without its key would spoil every handshake; nothing, or garbage, would too."""
    old, new = Authority(), Authority()
    clock = Clock()
    cert, key = old.leaf(tmp_path, "localhost")
    certificate = Certificate(cert, key, clock)
    (tmp_path / "elsewhere").mkdir()
    new_cert, new_key = new.leaf(tmp_path / "elsewhere", "localhost")

    for change in (lambda: os.replace(new_cert, cert), lambda: key.write_text("garbage"), key.unlink):
        change()
        clock.now += LOOK_SECONDS
        with caplog.at_level(logging.ERROR):
            assert trusts(old, certificate.context())
        assert "the one before is used" in caplog.text
        caplog.clear()
    os.replace(new_key, key)
    clock.now += LOOK_SECONDS

    assert trusts(new, certificate.context())


async def test_a_gateway_that_is_started_again_makes_its_proxies_look_at_once(make_rig, tmp_path: Path):
    """Each of several looks at its own time otherwise, and the old one would be served now and then."""
    old, new = Authority(), Authority()
    cert, key = old.leaf(tmp_path, "localhost")
    rig = await make_rig(tls_cert=cert, tls_key=key)
    new.leaf(tmp_path, "localhost")

    control = await rig.control()
    await control.ask("status")

    where, trust = rig.url("/", "localhost", "https"), new.client_context()
    async with rig.browser() as browser, browser.get(where, ssl=trust) as reply:
        assert reply.status
    control.close()
