"""Waiting for workers: whether the gateway is asked first how the cluster is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tidegate.client.errors import GatewayClusterError
from tidegate.client.report import ClusterReport
from tidegate.client.waiting import FRESH_SECONDS, wait_for_workers

from .conftest import CLUSTER


def said(most: int, seconds_ago: float = 0.0) -> ClusterReport:
    """Return a report by which the cluster may have at most so many workers."""
    report = ClusterReport.from_json(CLUSTER | {"max_workers": most}, public_address="", scheduler_netloc="h:1")
    return replace(report, read_at=report.read_at - seconds_ago)


class Asked:
    """A gateway that counts how often it is asked."""

    def __init__(self, answer: ClusterReport) -> None:
        self.times = 0
        self._answer = answer

    async def _report(self, name: str) -> ClusterReport:
        self.times += 1
        return self._answer


class Waited:
    """What waiting looks at of a cluster object: here one that has two workers."""

    name = "c0ffee"

    def __init__(self, known: ClusterReport, gateway: Asked) -> None:
        self._report = known
        self._changed = asyncio.Event()
        self.gateway = gateway
        self.scheduler_info: dict[str, Any] = {"workers": {n: {"status": "running"} for n in "ab"}}

    async def _refresh(self) -> None:
        pass


async def test_what_was_just_said_is_not_asked_again() -> None:
    """Such as the answer to ``scale``, after which nearly everybody waits."""
    gateway = Asked(said(1))

    await wait_for_workers(Waited(said(2), gateway), 2)  # type: ignore[arg-type]

    assert gateway.times == 0


async def test_what_was_said_long_ago_is_asked_again() -> None:
    """The gateway may have set a limit meanwhile, which ends the wait."""
    gateway = Asked(said(1))
    known = said(2, seconds_ago=2 * FRESH_SECONDS)

    with pytest.raises(GatewayClusterError, match="it can have 1 at the most"):
        await wait_for_workers(Waited(known, gateway), 2)  # type: ignore[arg-type]

    assert gateway.times == 1
