"""Honest servers never come near the end of what a peer may make us do for nothing; see `rpc.budget`.

Many small messages are what costs them most: each comes in one or two small frames, and each that is sent may
be answered by a PING, and by a WINDOW_UPDATE for the stream and one for the connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.channel_scenarios import connections_of

from trio_model_runner.proto.dynamic_subclass import CallRequest
from trio_model_runner.rpc.budget import CAPACITY

from .stubs import Stub, chat

if TYPE_CHECKING:
    from trio_model_runner.channel import Channel

MARGIN = 0.9
COUNT = 400


def left(channel: Channel) -> float:
    """The fraction of its bucket that the channel's connection has left."""
    (connection,) = connections_of(channel)
    return connection._http2._budget.left / CAPACITY  # nothing public shows how near a peer is to its end


async def test_a_stream_of_small_answers(channel: Channel) -> None:
    async for _ in Stub(channel).expand(CallRequest("x"), metadata={"count": str(4 * COUNT)}):
        assert left(channel) > MARGIN


async def test_a_stream_of_small_requests(channel: Channel) -> None:
    await Stub(channel).gather([CallRequest("x" * 100)] * (4 * COUNT))
    assert left(channel) > MARGIN


async def test_small_messages_in_turns(channel: Channel) -> None:
    async with chat(channel) as stream:
        for _ in range(COUNT):
            await stream.send_message(CallRequest("x"))
            assert await stream.recv_message() == CallRequest("x")
        await stream.end()
    assert left(channel) > MARGIN
