"""The window of a stream of answers, which a program reads later, or in the middle of a message."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from grpclib.const import Cardinality
from helpers.channel_servers import CALL, h2_channel, hanging_server, server_that
from helpers.h2_server import RESPONSE, H2Server, message
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.channel import Channel
from trio_model_runner.proto.commons import Status
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse

WINDOW = 1 << 20


def answer_of(length: int) -> CallResponse:
    return CallResponse(status=Status(message="x" * length))


def streaming(channel: Channel) -> Any:
    return channel.request(CALL, Cardinality.UNARY_STREAM, CallRequest, CallResponse)


def server_with(*answers: CallResponse) -> H2Server:
    body = b"".join(message(bytes(each)) for each in answers)
    return server_that(lambda server, stream_id, _: server.answer(stream_id, body))


@pytest.mark.parametrize("first", [0, 10, WINDOW // 3])
async def test_a_message_larger_than_the_window_may_come_behind_one_that_nobody_has_read_yet(
    autojump_clock: MockClock, first: int
) -> None:
    """Reading that one gives back all of the window, or the large one would never become whole."""
    answers = [answer_of(first), answer_of(3 * WINDOW), answer_of(5)]
    async with h2_channel(server_with(*answers)) as (channel, _), streaming(channel) as stream:
        await stream.send_message(CallRequest(), end=True)
        await wait_all_tasks_blocked()  # the window is full
        with trio.fail_after(10):
            assert [answer async for answer in stream] == answers


async def test_a_server_is_never_given_more_window_than_one() -> None:
    """A message that came while nobody waited gave its window back already."""
    large, small = answer_of(700_000), answer_of(5)
    async with h2_channel(server := hanging_server()) as (channel, _), streaming(channel) as stream:
        await stream.send_message(CallRequest(), end=True)
        await server.wait(lambda: 1 in server.bodies)
        server.h2.send_headers(1, RESPONSE)
        data = message(bytes(large)) + message(bytes(small)) * 2
        for start in range(0, len(data), 16_000):
            server.h2.send_data(1, data[start : start + 16_000])
        await server.flush()
        await wait_all_tasks_blocked()
        for answer in (large, small, small):
            assert await stream.recv_message() == answer
            await wait_all_tasks_blocked()
            assert WINDOW // 2 < server.h2.local_flow_control_window(1) <= WINDOW
