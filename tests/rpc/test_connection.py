"""`rpc.connection` over memory and TCP: how a connection begins, fails and ends."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from grpclib.exceptions import GRPCError
from helpers.h2_server import RESPONSE, Address, H2Server, call, frame, h2_server, serving
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.network import MemoryNetwork, Network, TCPNetwork
from trio_model_runner.rpc import frames
from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.rpc.receiver import CallInterrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

both_kinds = pytest.mark.parametrize("kind", ["memory", "tcp"])


async def connect(nursery: trio.Nursery, address: Address, **options: Any) -> Connection:
    return await open_connection(nursery, address.network, address.host, address.port, **options)


async def refused(serve: Callable[[Any], Awaitable[object]], kind: str = "memory") -> str:
    """The text of the error with which connecting to such a server fails."""
    async with serving(kind, serve) as address, trio.open_nursery() as nursery:
        with pytest.raises(ConnectionError) as raised:
            await connect(nursery, address)
        assert f"{address.host}:{address.port}" in str(raised.value)
    return str(raised.value)


# Beginnings


async def test_a_connection_is_open_only_when_the_servers_settings_are_there() -> None:
    network, opened = MemoryNetwork(), trio.Event()
    listener = network.listen("node")
    async with trio.open_nursery() as nursery:

        async def client() -> None:
            connection = await open_connection(nursery, network, "node", listener.port)
            opened.set()
            await connection.aclose()

        nursery.start_soon(client)
        stream = await listener.accept()
        hello = h2_server().data_to_send()
        await stream.send_all(hello[:-1])
        await wait_all_tasks_blocked()
        assert not opened.is_set()
        await stream.send_all(hello[-1:])
        await opened.wait()


async def test_a_port_that_wants_tls_is_named_as_such() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True)
        with pytest.raises(trio.BrokenResourceError):
            await tls.do_handshake()
        await trio.aclose_forcefully(tls)

    assert "TLS" in await refused(serve, "tcp")


@pytest.mark.parametrize("alert", [b"\x15\x03\x01\x00\x02\x02\x46", b"\x15\x03\x03\x00\x02\x02\x0a" * 2])
async def test_a_tls_alert_is_recognized(alert: bytes) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        for byte in alert:
            await stream.send_all(bytes((byte,)))
        await stream.aclose()

    assert (await refused(serve)).endswith("the server speaks TLS, and this connection is plaintext")


@both_kinds
@pytest.mark.parametrize("size", [1, 5, 1000])
async def test_an_http1_server_is_named_as_such(kind: str, size: int) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    async def serve(stream: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            for start in range(0, len(answer), size):
                await stream.send_all(answer[start : start + size])
            while await stream.receive_some():
                pass
        await stream.aclose()

    assert (await refused(serve, kind)).endswith("the server speaks HTTP/1, not gRPC")


@both_kinds
async def test_a_server_that_hangs_up_at_once_is_an_error_that_mentions_tls(kind: str) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.aclose()

    text = await refused(serve, kind)
    assert text.endswith("before its HTTP/2 SETTINGS (a port that wants TLS does that, too)")


async def test_a_server_that_says_something_else_first_is_refused() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.send_all(frames.ping_frame(bytes(8), ack=False))

    assert "does not begin with SETTINGS" in await refused(serve)


async def test_a_silent_server_costs_the_timeout_and_no_more(autojump_clock: MockClock) -> None:
    closed = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass
        closed.set()

    async with serving("memory", serve) as address, trio.open_nursery() as nursery:
        with pytest.raises(TimeoutError, match=r"^node:\d+: connected, but no HTTP/2 SETTINGS within 5 s$"):
            await connect(nursery, address, timeout=5)
        assert trio.current_time() - autojump_clock._virtual_base <= 5
        await closed.wait()


async def test_a_host_that_nobody_answers_at_costs_the_timeout(autojump_clock: MockClock) -> None:
    class Nowhere(Network):
        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            await trio.sleep_forever()
            raise AssertionError

    async with trio.open_nursery() as nursery:
        with pytest.raises(TimeoutError, match=r"^\[::1\]:9: no connection within 5 s$"):
            await open_connection(nursery, Nowhere(), "::1", 9, timeout=5)


async def test_a_port_where_nobody_listens_refuses() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="127"):
                await open_connection(nursery, TCPNetwork(), "127.0.0.1", unused.getsockname()[1])
            with pytest.raises(ConnectionRefusedError):
                await open_connection(nursery, MemoryNetwork(), "node", 1)


@both_kinds
async def test_a_nursery_that_is_closed_leaves_no_stream_open(kind: str) -> None:
    ended = trio.Event()

    async def serve(stream: trio.abc.Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        ended.set()

    async with trio.open_nursery() as nursery:
        pass
    async with serving(kind, serve) as address:
        with pytest.raises(RuntimeError, match="closed"):
            await connect(nursery, address)
        await ended.wait()


def rubbish(seed: int) -> bytes:
    """Frames of all types with nonsense in them, or just bytes."""
    chance = random.Random(seed)
    if seed % 3 == 0:
        return chance.randbytes(chance.randint(1, 2000))
    return b"".join(
        frame(chance.randint(0, 10), chance.randint(0, 255), chance.randint(0, 3), chance.randbytes(size))
        for size in chance.choices([0, 4, 5, 6, 8, 100, 5000], k=20)
    )


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("seed", range(30))
async def test_rubbish_from_a_server_costs_its_own_calls_alone(seed: int, answers: bool) -> None:
    """Before an answer or in the middle of it; the call ends with an error, and nothing is left running."""
    server, decent = H2Server(), H2Server()

    def talk_nonsense(server: H2Server, stream_id: int, body: bytes) -> None:
        if answers:
            server.h2.send_headers(stream_id, RESPONSE)
            server.h2.send_data(stream_id, body[:3])

    server.on_request = talk_nonsense
    with trio.fail_after(30):
        async with serving("memory", server) as address, serving("memory", decent) as elsewhere:
            async with trio.open_nursery() as nursery:
                connection = await connect(nursery, address)
                other = await connect(nursery, elsewhere)

                async def make_call() -> None:
                    with pytest.raises((CallInterrupted, GRPCError)):
                        await call(connection)

                nursery.start_soon(make_call)
                await server.wait(lambda: bool(server.bodies))
                await wait_all_tasks_blocked()
                await server.flush(rubbish(seed))
                await wait_all_tasks_blocked()
                assert server.stream is not None
                await server.stream.aclose()
                assert await call(other) == b"hello"
                await other.aclose()
            assert connection.lost
            assert connection.idle
