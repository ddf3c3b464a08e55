"""Lists of what is withdrawn are signed once, off the loop, and again when they are of yesterday."""

from __future__ import annotations

import asyncio

import pytest
from cryptography import x509

from tidegate.backends.simulation import ManualClock
from tidegate.control.credentials import mint, new_serial
from tidegate.control.revocations import KEPT, LASTS, RevocationLists
from tidegate.store.base import Credentials

NOW = 1_700_000_000.0
END = "-----END X509 CRL-----\n"


@pytest.fixture(scope="module")
def secrets() -> Credentials:
    """Give the secrets of a cluster."""
    return mint("c1", NOW)


async def test_lists_are_signed_once(secrets: Credentials) -> None:
    """For all who ask at a time, and afterwards; but anew for other leaves and other clusters."""
    lists = RevocationLists(ManualClock(NOW))
    first, *others = await asyncio.gather(*(lists.of(secrets, ["5", "7"]) for _ in range(5)))
    # No two signatures are the same, even of the same.
    assert {first, *others} == {await lists.of(secrets, ["5", "7"])}
    assert await lists.of(secrets, ["5"]) != first
    assert await lists.of(mint("c1", NOW), ["5", "7"]) != first


async def test_the_loop_goes_on_while_a_long_list_is_signed(secrets: Credentials) -> None:
    """Everybody's requests are on that loop."""
    lists = RevocationLists(ManualClock(NOW))
    making = asyncio.create_task(lists.of(secrets, [f"{new_serial():x}" for _ in range(5000)]))
    turns = 0
    while not making.done():
        turns += 1
        await asyncio.sleep(0)
    assert len(x509.load_pem_x509_crl((making.result().split(END)[0] + END).encode())) == 5000
    assert turns > 10


@pytest.mark.parametrize("seconds", [LASTS + 1, -LASTS - 1])
async def test_lists_of_another_day_are_signed_anew(secrets: Credentials, seconds: float) -> None:
    """What was signed before the clock was set back would not be good yet."""
    clock = ManualClock(NOW)
    lists = RevocationLists(clock)
    first = await lists.of(secrets, ["5"])
    clock.advance(seconds / 2)
    assert await lists.of(secrets, ["5"]) == first
    clock.advance(seconds / 2)
    assert await lists.of(secrets, ["5"]) != first


async def test_those_asked_for_last_are_kept(secrets: Credentials) -> None:
    """No more than a few, whatever is asked for."""
    lists = RevocationLists(ManualClock(NOW))
    first, second = [await lists.of(secrets, [serial]) for serial in ("1", "2")]
    for serial in range(KEPT - 1):
        assert await lists.of(secrets, ["1"]) == first
        await lists.of(secrets, [f"{serial + 16:x}"])
    assert await lists.of(secrets, ["1"]) == first
    assert await lists.of(secrets, ["2"]) != second
