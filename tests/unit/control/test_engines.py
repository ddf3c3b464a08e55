"""A backend that breaks its promises does not break control."""

from __future__ import annotations

import asyncio

import pytest

from tidegate.control.engines import ask
from tidegate.model.errors import BackendFailed, Busy, Invalid


async def never() -> None:
    """Never return."""
    await asyncio.Event().wait()


async def fail(error: Exception) -> None:
    """Raise this."""
    raise error


async def test_one_that_does_not_answer_has_failed():
    """After the deadline that the protocol promises, and a grace."""
    with pytest.raises(BackendFailed, match=r"^cannot launch cluster c1: the backend did not answer within 0.01 s$"):
        await ask("launch cluster c1", never(), deadline=0.01)


@pytest.mark.parametrize("error", [Invalid("no"), Busy("later"), BackendFailed("away", permanent=True)])
async def test_what_is_raised_on_purpose_is_passed_on(error):
    """The same object, so that nothing of it is lost."""
    with pytest.raises(type(error)) as caught:
        await ask("stop cluster c1", fail(error))
    assert caught.value is error


async def test_what_nobody_foresaw_is_for_the_operator(caplog):
    """The user reads that the backend failed; the traceback is in the log."""
    with pytest.raises(BackendFailed) as caught:
        await ask("stop cluster c1", fail(KeyError("secret-of-the-backend")))
    assert caught.value.message == "cannot stop cluster c1: the backend failed"
    assert "secret-of-the-backend" in caught.value.detail
    assert "Traceback" in caplog.text
