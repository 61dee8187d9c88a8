"""`rpc.writer` on a plain socket, where whoever has something to say writes it right there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from helpers.h2_server import FIELDS, H2Server, connected
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trio_model_runner.rpc import frames
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.rpc.headers import Fields
from trio_model_runner.rpc.receiver import CallInterrupted

KINDS = ["memory", "tcp", "tcp in a hub", "tls on tcp", "tls on tcp in a hub"]
all_kinds = pytest.mark.parametrize("kind", KINDS)


@all_kinds
@pytest.mark.parametrize("pieces", [1020, 1023, 1024, 2049, 5000])
async def test_a_message_in_more_pieces_than_a_system_call_takes_arrives_whole(
    kind: str, pieces: int
) -> None:
    message = [b"%d" % (number % 10) for number in range(pieces)]
    async with connected(kind) as (connection, _):
        unary = UnaryCall(connection, FIELDS, message, max_message_bytes=1 << 20)
        assert (await unary.perform(60)).message == b"".join(message)


class Nobody:
    """A receiver that takes no notice."""

    def headers_received(self, fields: Fields, *, end_stream: bool, over_limit: bool = False) -> None: ...

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None: ...

    def interrupted(self, error: CallInterrupted) -> None: ...


@all_kinds
async def test_a_connection_that_was_given_up_writes_nothing_more(kind: str) -> None:
    """Its socket closes a moment later. Until then a reset would still reach the server."""
    async with connected(kind) as (connection, server):
        stream = connection.open(FIELDS, (), Nobody())
        connection.send(stream, [b"early"])
        await server.wait(lambda: bool(server.bodies.get(1)))
        connection.abort("enough")
        connection.send(stream, [b"late"])
        await server.ended.wait()
        assert (server.bodies, server.sent_resets, server.goaways) == ({1: b"early"}, {}, [])


WIDE_OPEN = frames.settings_frame([(frames.Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)]) + (
    frames.window_update_frame(0, 2**30)
)


class Collector:
    """A server that reads nothing before it may."""

    def __init__(self) -> None:
        self.may_read, self.all_read, self.ended = trio.Event(), trio.Event(), trio.Event()

    async def __call__(self, stream: trio.abc.Stream) -> None:
        await stream.send_all(WIDE_OPEN)
        await self.may_read.wait()
        length = 0
        async for data in stream:
            length += len(data)
            if length > 32 << 20:
                self.all_read.set()
        self.ended.set()


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_what_the_kernel_does_not_take_was_not_sent(kind: str) -> None:
    """From the moment on when it is given to the connection."""
    server = Collector()
    async with connected(kind, server) as (connection, _):
        await wait_all_tasks_blocked()
        assert connection.all_written
        unary = UnaryCall(connection, FIELDS, [bytes(32 << 20)], max_message_bytes=1 << 20)
        unary.begin(60, lambda _: None, None)
        assert not unary.sent
        assert not connection.all_written
        await wait_all_tasks_blocked()
        assert not unary.sent
        server.may_read.set()
        await server.all_read.wait()
        await connection._writer.wait_written()  # frames and records are more than the body that was read
        assert unary.sent
        assert connection.all_written
        unary.leave()
    await server.ended.wait()


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_a_server_that_does_not_read_holds_up_no_goodbye_for_long(kind: str) -> None:
    server = Collector()
    async with connected(kind, server) as (connection, _):
        unary = UnaryCall(connection, FIELDS, [bytes(32 << 20)], max_message_bytes=1 << 20)
        unary.begin(60, lambda _: None, None)
        await wait_all_tasks_blocked()
        await connection.aclose(0.01)
        assert unary.error is not None
        server.may_read.set()
        await server.ended.wait()
        assert not server.all_read.is_set()


@asynccontextmanager
async def held_up() -> AsyncIterator[tuple[Connection, trio.Event]]:
    """A connection whose stream takes nothing until the event is set, which leaving the block does."""
    ours, theirs = memory_stream_pair()
    may_write = trio.Event()
    async with trio.open_nursery() as nursery:
        connection = Connection(ours)
        nursery.start_soon(connection.run)
        try:
            await theirs.send_all(WIDE_OPEN)
            await connection.wait_ready()
            await wait_all_tasks_blocked()
            ours.send_stream.send_all_hook = may_write.wait  # type: ignore[attr-defined]
            yield connection, may_write
        finally:
            may_write.set()
            await connection.aclose()


async def test_what_a_stream_has_not_taken_was_not_sent() -> None:
    async with held_up() as (connection, may_write):
        unary = UnaryCall(connection, FIELDS, [b"x"], max_message_bytes=1 << 20)
        unary.begin(60, lambda _: None, None)
        await wait_all_tasks_blocked()
        assert (unary.handed_over, unary.sent, connection.all_written) == (True, False, False)
        may_write.set()
        await wait_all_tasks_blocked()
        assert (unary.handed_over, unary.sent, connection.all_written) == (True, True, True)
        unary.leave()


async def test_who_waits_for_a_body_to_be_sent_is_woken_when_the_call_is_left() -> None:
    async with connected("memory", H2Server(acknowledging=False)) as (connection, server):
        stream = connection.open(FIELDS, (), Nobody())
        connection.send(stream, [bytes(100_000)])
        await server.wait(lambda: len(server.bodies.get(1, b"")) == 65_535)
        with trio.fail_after(30):
            await connection.wait_unsent(stream, 100_000 - 65_535)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.wait_unsent, stream, 100_000 - 65_535 - 1)
                await wait_all_tasks_blocked()
                connection.leave(stream)


async def test_who_waits_for_a_body_to_be_sent_is_woken_though_the_server_does_not_read() -> None:
    async with held_up() as (connection, _):
        stream = connection.open(FIELDS, (), Nobody())
        connection.send(stream, [bytes(10 << 20)])
        with trio.fail_after(30):
            async with trio.open_nursery() as waiting:
                waiting.start_soon(connection.wait_unsent, stream, 0)
                await wait_all_tasks_blocked()
                connection.leave(stream)


async def test_who_waits_for_a_body_to_be_sent_is_woken_when_it_is() -> None:
    async with connected("memory", H2Server(acknowledging=False)) as (connection, server):
        stream = connection.open(FIELDS, (), Nobody())
        connection.send(stream, [bytes(100_000)])
        await server.wait(lambda: len(server.bodies.get(1, b"")) == 65_535)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.wait_unsent, stream, 0)
                await wait_all_tasks_blocked()
                await server.acknowledge()
        connection.leave(stream)
