"""The conversation between supervisor and control."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tidegate.server.channel import Channel, Closed, Message

Pair = tuple[Channel, Channel]


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    ends = socket.socketpair()
    channels = await Channel.over(ends[0]), await Channel.over(ends[1])
    yield channels
    for channel in channels:
        channel.close()


async def collect(channel: Channel, into: list[Message]) -> None:
    async for message in channel.messages():
        into.append(message)


async def test_a_question_gets_its_own_answer_and_events_pass_by(pair: Pair) -> None:
    """Answers go to who asked, even out of order; everything else is heard by who listens."""
    supervisor, control = pair
    heard: list[Message] = []
    listening = asyncio.create_task(collect(supervisor, heard))
    questions = control.messages()

    first, second = (asyncio.create_task(supervisor.ask(op, 5)) for op in ("one", "two"))
    asked = [await anext(questions), await anext(questions)]
    control.send({"event": "ready"})
    for question in reversed(asked):
        control.send({"id": question["id"], "echo": question["op"]})

    assert ((await first)["echo"], (await second)["echo"]) == ("one", "two")
    control.close()
    await listening
    assert heard == [{"event": "ready"}]


async def test_a_question_fails_when_the_other_side_is_gone(pair: Pair) -> None:
    """Nobody waits for a process that has died."""
    supervisor, control = pair
    listening = asyncio.create_task(collect(supervisor, []))
    question = asyncio.create_task(supervisor.ask("one", 60))
    await anext(control.messages())

    control.close()

    with pytest.raises(Closed):
        await question
    await listening


async def test_a_question_has_a_deadline(pair: Pair) -> None:
    """A process that hangs does not hang its supervisor."""
    supervisor, _control = pair

    with pytest.raises(TimeoutError):
        await supervisor.ask("one", 0.05)
