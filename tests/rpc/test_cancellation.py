"""Cancelling any await anywhere leaves a connection usable or closed, never half-written, and no leaks."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from helpers.checkpoints import cancel_everywhere
from helpers.connection_scenarios import Line, closed_line, open_line, still_usable
from helpers.h2_server import H2Server, call

from trio_model_runner.rpc.receiver import CallInterrupted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KINDS = ["memory", "tcp", "tls"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [10, 150_000])
async def test_a_call_cancelled_anywhere_leaves_the_connection_usable(kind: str, size: int) -> None:
    body = bytes(size)

    async def scenario(line: Line) -> None:
        assert line.connection is not None
        assert await call(line.connection, body) == body

    points = await cancel_everywhere(lambda: open_line(kind), scenario, still_usable)
    assert points >= 3


@pytest.mark.parametrize("kind", KINDS)
async def test_opening_a_connection_cancelled_anywhere_leaves_nothing(kind: str) -> None:
    async def check(line: Line, cut_short: bool) -> None:
        assert (line.connection is None) == cut_short
        if line.connection is not None:
            assert await call(line.connection) == b"hello"
            await line.connection.aclose()
        while line.nursery.child_tasks:  # else: the test's time limit
            await trio.lowlevel.checkpoint()
        if line.server.stream is not None:
            await line.server.ended.wait()

    points = await cancel_everywhere(lambda: closed_line(kind), Line.open, check)
    assert points >= 3


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_a_connection_cancelled_anywhere_still_closes_it_and_says_goodbye(kind: str) -> None:
    interrupted: list[CallInterrupted] = []

    @asynccontextmanager
    async def busy_line() -> AsyncIterator[Line]:
        async with open_line(kind) as line:
            line.server.on_request = H2Server.hang

            async def wait() -> None:
                assert line.connection is not None
                try:
                    await call(line.connection)
                except CallInterrupted as error:
                    interrupted.append(error)

            line.nursery.start_soon(wait)
            await line.server.wait(lambda: len(line.server.bodies) == 2)
            yield line

    async def scenario(line: Line) -> None:
        assert line.connection is not None
        await line.connection.aclose(grace=1.0)

    async def check(line: Line, cut_short: bool) -> None:
        assert not cut_short  # it puts cancellation off until it is done
        assert line.connection is not None
        assert line.connection.lost
        await line.server.ended.wait()
        assert list(line.server.sent_resets.values()) == [8]
        assert line.server.goaways == [0]
        while line.nursery.child_tasks:
            await trio.lowlevel.checkpoint()
        assert interrupted.pop().connection_lost
        assert interrupted == []

    points = await cancel_everywhere(busy_line, scenario, check)
    assert points >= 3


@pytest.mark.parametrize("kind", KINDS)
async def test_a_connections_whole_life_cancelled_anywhere_ends_with_nothing_open(kind: str) -> None:
    async def scenario(line: Line) -> None:
        async with trio.open_nursery() as nursery:  # what is cancelled surrounds the connection's tasks, too
            line.nursery = nursery
            connection = await line.open()
            try:
                assert await call(connection) == b"hello"
            finally:
                await connection.aclose()

    async def check(line: Line, _: bool) -> None:
        assert line.connection is None or line.connection.lost
        if line.server.stream is not None:
            await line.server.ended.wait()

    assert await cancel_everywhere(lambda: closed_line(kind), scenario, check) >= 10
