"""What large messages, slow readers and full servers cost, and whom."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from helpers.channel_servers import ANSWER, answering_server, h2_channel, hanging_server
from helpers.h2_server import FIELDS, H2Server, call, connected
from interoperability.servers import SERVICE, grpcio, grpclib_server
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.channel import Channel
from trio_model_runner.network import TCPNetwork
from trio_model_runner.proto.dynamic_subclass import CallRequest, DynamicSubclassServiceStub
from trio_model_runner.rpc import frames, writer
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.protocol import request_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 64 << 20


@pytest.mark.parametrize("server", [grpcio, grpclib_server])
async def test_64_mib_go_both_ways(server: Any) -> None:
    message = os.urandom(1 << 20) * 64
    fields = request_fields(f"/{SERVICE}/Echo", scheme="http", authority="node")
    with server() as port:
        async with trio.open_nursery() as nursery:
            connection = await open_connection(nursery, TCPNetwork(), "127.0.0.1", port)
            answer = await UnaryCall(connection, fields, [message], max_message_bytes=LARGEST).perform(60)
            assert answer.message == message
            await connection.aclose()


async def test_one_message_for_many_nodes_is_copied_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the kernel is given of it lies where the caller put it."""
    message = bytes(10_000_000)
    given = 0

    def writev(descriptor: int, buffers: Sequence[bytes | memoryview]) -> int:
        nonlocal given
        for buffer in buffers:
            whole = buffer.obj if isinstance(buffer, memoryview) else buffer
            assert whole is message or len(buffer) < 300
        written = os_writev(descriptor, buffers)
        given += written
        return written

    os_writev = os.writev
    monkeypatch.setattr(writer.os, "writev", writev)
    with grpcio() as port:
        fields = request_fields(f"/{SERVICE}/Gather", scheme="http", authority="node")
        async with trio.open_nursery() as nursery:
            connections = [await open_connection(nursery, TCPNetwork(), "127.0.0.1", port) for _ in range(5)]
            async with trio.open_nursery() as calls:
                for connection in connections:
                    unary = UnaryCall(connection, fields, [message], max_message_bytes=LARGEST)
                    calls.start_soon(unary.perform, 60)
            for connection in connections:
                await connection.aclose()
    assert given > 5 * len(message)


async def test_a_server_that_stops_reading_blocks_its_own_calls_alone_until_their_deadline(
    mock_clock: MockClock,
) -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        async with (
            Channel(*listening.getsockname()) as stalled,
            h2_channel(answering_server()) as (_, other),
            trio.open_nursery() as nursery,
        ):
            timed_out = 0

            async def call_stalled(size: int) -> None:
                nonlocal timed_out
                with pytest.raises(TimeoutError):
                    await DynamicSubclassServiceStub(stalled).call(CallRequest("x" * size), timeout=10)
                timed_out += 1

            nursery.start_soon(call_stalled, 32 << 20)
            with (await trio.to_thread.run_sync(listening.accept))[0] as peer:
                wide_open = frames.settings_frame([(frames.Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)])
                peer.sendall(wide_open + frames.window_update_frame(0, 2**30))
                connection = await stalled.connect()
                await wait_all_tasks_blocked()
                assert not connection.all_written
                nursery.start_soon(call_stalled, 5)
                assert await other.call(CallRequest("x" * 100_000), timeout=5) == ANSWER
                await wait_all_tasks_blocked()
                assert not timed_out
                mock_clock.jump(10)
                await wait_all_tasks_blocked()
                assert timed_out == 2
                assert connection.accepts_calls
                stalled.close()


async def test_a_server_that_takes_no_calls_for_now_lets_them_wait_until_their_deadline(
    autojump_clock: MockClock,
) -> None:
    server = answering_server()
    async with h2_channel(server) as (channel, stub):
        connection = await channel.connect()
        server.h2.update_settings({frames.Setting.MAX_CONCURRENT_STREAMS: 0})
        await server.flush()
        assert await connection.ping(10)
        begun = trio.current_time()
        with pytest.raises(TimeoutError):
            await stub.call(CallRequest(), timeout=10)
        assert trio.current_time() == begun + 10
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stub.call, CallRequest())
            await wait_all_tasks_blocked()
            assert not server.bodies
            server.h2.update_settings({frames.Setting.MAX_CONCURRENT_STREAMS: 1})
            await server.flush()
        assert len(server.bodies) == 1
        assert await stub.call(CallRequest()) == ANSWER


@pytest.mark.parametrize("kind", ["memory", "tcp"])
async def test_a_thousand_calls_cancelled_in_mid_answer_cost_the_connection_no_credit(kind: str) -> None:
    """Each takes 60 kB of a window of 4 MiB, which nobody has read when it is cancelled."""

    def begin(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
        for _ in range(4):
            server.h2.send_data(stream_id, bytes((0, 3, 0, 0, 0)) + bytes(14_995))

    async with connected(kind) as (connection, server):
        for _ in range(100):
            server.on_request = begin
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(
                        UnaryCall(connection, FIELDS, [b"x"], max_message_bytes=LARGEST).perform, 60
                    )
                seen = len(server.bodies)
                await server.wait(lambda seen=seen: len(server.bodies) >= seen + 10)
                nursery.cancel_scope.cancel()
            server.on_request = H2Server.echo
            assert await call(connection, b"x") == b"x"  # whose answer comes after all that
        assert await call(connection, bytes(1 << 20)) == bytes(1 << 20)
        assert connection.idle
        assert server.h2.open_inbound_streams == 0


async def test_resets_by_the_server_end_their_calls_alone(autojump_clock: MockClock) -> None:
    server = hanging_server()
    server.on_request = lambda server, stream_id, body: server.h2.reset_stream(stream_id, 2)
    async with h2_channel(server) as (_, stub):
        for _ in range(500):
            with pytest.raises(Exception, match="INTERNAL_ERROR"):
                await stub.call(CallRequest())
        server.on_request = lambda server, stream_id, body: server.answer(stream_id, b"\0\0\0\0\0")
        await stub.call(CallRequest())
    assert len(server.bodies) == 501
