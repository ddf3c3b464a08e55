"""Addresses of the gateway, and who is to be found there."""

from __future__ import annotations

import os

import pytest

from tidegate.server.urls import listener_uid


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000/prefix", "http://[::1]:8000"])
def test_in_the_clear_on_this_machine_callers_can_ask_whose_listener_it_is(url: str) -> None:
    """It is the gateway's own user's."""
    assert listener_uid(url) == os.getuid()


@pytest.mark.parametrize("url", ["https://127.0.0.1:8000", "https://dask.example.org", "http://10.0.0.1:8000"])
def test_elsewhere_or_over_tls_there_is_nothing_to_ask(url: str) -> None:
    """A certificate says more; and what listens on another machine nobody here can see."""
    assert listener_uid(url) is None
