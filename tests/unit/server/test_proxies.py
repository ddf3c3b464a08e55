"""Which proxies of an earlier supervisor are left alone."""

from __future__ import annotations

import socket
from pathlib import Path

from tidegate.server.listener import LivingProxy
from tidegate.server.proxies import Proxies


def test_only_a_proxy_that_goes_on_serving_takes_the_place_of_a_new_one(tmp_path: Path):
    """One that drains, accepts nothing, or has other settings is told to end, and another one is started."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        good = {"address": f"127.0.0.1:{listener.getsockname()[1]}", "mark": "m", "accepting": True, "draining": False}
        changes = [{"draining": True}, {"accepting": False}, {"mark": "other"}, {"address": "127.0.0.1:1"}, {}]
        living = [LivingProxy(tmp_path, number, good | change) for number, change in enumerate(changes)]
        proxies = Proxies({"mark": "m"}, listener, len(living), living, tmp_path, print)

    assert proxies._adopted == living[-1:]
    assert proxies._outdated == living[:-1]
