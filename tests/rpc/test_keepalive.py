"""`rpc.keepalive` on a connection: what is a sign of life, and how many PINGs a server is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h2.events
import pytest
import trio
from helpers.h2_server import FIELDS, H2Server, call, connected, h2_server
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.connection import Connection

both_kinds = pytest.mark.parametrize("kind", ["memory", "tcp"])

SILENT = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"
"""A WINDOW_UPDATE of one byte for the whole connection: something that answers nothing."""


@asynccontextmanager
async def silent_server(kind: str) -> AsyncIterator[tuple[Connection, H2Server]]:
    """A connection to a server that answers no PING, and that has said all that it has to say at first."""
    async with connected(kind, H2Server(answering_pings=False)) as (connection, server):
        assert await call(connection) == b"hello"
        await wait_all_tasks_blocked()
        yield connection, server


async def note_ping(connection: Connection, timeout: float, answers: list[tuple[bool, float]]) -> None:
    answered = await connection.ping(timeout)
    answers.append((answered, trio.current_time()))


async def test_anything_that_arrives_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    async with silent_server("memory") as (connection, server):
        answers: list[tuple[bool, float]] = []
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note_ping, connection, 5, answers)
            nursery.start_soon(note_ping, connection, 2, answers)
            nursery.start_soon(note_ping, connection, 10, answers)
            await trio.sleep(3)
            await server.flush(SILENT)
        assert answers[0] == (False, begun + 2)
        assert answers[1:] == [(True, begun + 3)] * 2


async def test_what_came_before_a_ping_is_no_answer_to_it(autojump_clock: MockClock) -> None:
    async with silent_server("memory") as (connection, server):
        await server.flush(SILENT)
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        assert not await connection.ping(5)
        assert trio.current_time() == begun + 5


@both_kinds
async def test_a_connection_that_is_lost_gives_no_sign_of_life(kind: str) -> None:
    async with silent_server(kind) as (connection, _):
        answers: list[tuple[bool, float]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note_ping, connection, 1000, answers)
            nursery.start_soon(note_ping, connection, 1000, answers)
            await wait_all_tasks_blocked()
            connection.abort("enough")
        assert [answered for answered, _ in answers] == [False, False]


async def test_an_answer_that_comes_in_pieces_keeps_a_connection(autojump_clock: MockClock) -> None:
    """A server that sends a large message may not come to answer a PING before its end."""
    async with silent_server("memory") as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            unary = UnaryCall(connection, FIELDS, [b"x"], max_message_bytes=100)
            unary.begin(10_000, lambda _: None, None)
            await wait_all_tasks_blocked()  # the server has said that it has read the request
            nursery.start_soon(connection.watch, 20, 15)
            for _ in range(10):
                await trio.sleep(30)  # the PING is sent after 20 s, and nothing comes for 10 s more
                await server.flush(SILENT)
            assert not connection.lost
            assert server.pings == 10
            with trio.fail_after(36):
                await connection.watch()
        assert str(connection.loss) == "no answer to a PING within 15 s"


async def test_what_is_sent_beside_a_ping_is_in_the_same_write(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    server = h2_server()
    async with trio.open_nursery() as nursery:
        connection = Connection(ours)
        nursery.start_soon(connection.run)
        await theirs.send_all(server.data_to_send())
        await connection.wait_ready()
        await wait_all_tasks_blocked()
        server.receive_data(bytes(await theirs.receive_some()))
        server.data_to_send()

        unary = UnaryCall(connection, FIELDS, [b"x"], max_message_bytes=100)
        nursery.start_soon(connection.ping, 5, lambda: unary.begin(5, lambda _: None, None))
        await wait_all_tasks_blocked()
        received = server.receive_data(bytes(await theirs.receive_some()))
        kinds = {type(event) for event in received}
        assert {h2.events.PingReceived, h2.events.RequestReceived, h2.events.StreamEnded} <= kinds
        with trio.move_on_after(1) as nothing_more:
            await theirs.receive_some()
        assert nothing_more.cancelled_caught
        unary.leave()
        await connection.aclose()


@both_kinds
async def test_no_more_than_three_pings_go_unanswered_by_data(kind: str) -> None:
    """Nodes close a connection at the fifth; the PINGs' own answers make no difference to them."""
    async with connected(kind) as (connection, server):
        for _ in range(2):
            for number in range(3):
                assert connection.pings_without_answer == number
                assert connection.may_ping
                assert await connection.ping(1000)
            assert not connection.may_ping
            assert await call(connection, b"x") == b"x"
            assert connection.may_ping
        assert server.pings == 6
