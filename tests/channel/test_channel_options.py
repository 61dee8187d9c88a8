"""What a channel is told when it is made, or with a call: each of it gets where it is meant to."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from grpclib.const import Cardinality
from grpclib.exceptions import GRPCError
from helpers.channel_servers import ANSWER, CALL, answering_server, h2_channel, hanging_server, server_that
from helpers.h2_server import RESPONSE, TRAILERS, H2Server, message, serve_tls, tls_contexts
from trio.testing import MockClock

from trio_model_runner.channel import Channel
from trio_model_runner.groups import describe
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub

if TYPE_CHECKING:
    from pathlib import Path


def request(channel: Channel, path: str = CALL, **options: Any) -> Any:
    return channel.request(path, Cardinality.UNARY_UNARY, CallRequest, CallResponse, **options)


@pytest.mark.parametrize("timeout", [math.nan, -math.nan])
async def test_a_timeout_that_is_no_number_is_refused_before_the_call(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout: must be a number of seconds, got nan"):
        request(Channel(), timeout=timeout)


@pytest.mark.parametrize("timeout", [True, "1", 1j])
async def test_a_timeout_of_another_type_is_refused_before_the_call(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout: must be a number of seconds"):
        request(Channel(), timeout=timeout)


@pytest.mark.parametrize("timeout", [1e308, 10**400, math.inf])
async def test_a_timeout_may_be_as_long_as_it_likes(timeout: float) -> None:
    async with h2_channel(answering_server()) as (_, stub):
        assert await stub.call(CallRequest(), timeout=timeout) == ANSWER


async def test_a_path_has_at_most_4096_characters() -> None:
    async with h2_channel(server := answering_server()) as (channel, _):
        path = "/" + "x" * 4095
        async with request(channel, path) as stream:
            await stream.send_message(CallRequest(), end=True)
            assert await stream.recv_message() == ANSWER
        assert server.requests[1][":path"] == path
        with pytest.raises(ValueError, match="name"):
            request(channel, f"{path}x")


@pytest.mark.parametrize("path", ["/a b", "/a\n", "/a\x7f", "/", "a/b", "", "/ä"])
async def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="name"):
        request(Channel(), path)


async def test_on_a_unix_socket_the_authority_is_localhost(tmp_path: Path) -> None:
    server = answering_server()
    with trio.socket.socket(socket.AF_UNIX) as listening:
        await listening.bind(str(tmp_path / "socket"))
        listening.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, server, [trio.SocketListener(listening)])
            async with Channel(path=tmp_path / "socket") as channel:
                assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == ANSWER
            nursery.cancel_scope.cancel()
    assert server.requests[1][":authority"] == "localhost"
    assert server.requests[1][":scheme"] == "http"


async def test_a_certificate_may_have_another_name_than_the_host() -> None:
    server = answering_server()
    server_side, client_side = tls_contexts()  # the certificate is for "node"
    network = MemoryNetwork()
    listener = network.listen("elsewhere")

    async def serve(stream: trio.abc.Stream) -> None:
        await serve_tls(server, server_side, stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        options: dict[str, Any] = {"network": network, "ssl": client_side}
        async with Channel("elsewhere", listener.port, server_hostname="node", **options) as channel:
            assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == ANSWER
        nursery.cancel_scope.cancel()
    assert server.requests[1][":authority"] == f"elsewhere:{listener.port}"
    assert server.requests[1][":scheme"] == "https"


async def test_a_connection_must_be_made_within_connect_timeout(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen("node")

    async def say_nothing(stream: trio.abc.Stream) -> None:
        async with stream:
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, say_nothing, [listener])
        async with Channel("node", listener.port, network=network, connect_timeout=3.0) as channel:
            begun = trio.current_time()
            with pytest.raises(TimeoutError, match="within 3 s"):
                await channel.connect()
            assert trio.current_time() == begun + 3
        nursery.cancel_scope.cancel()


async def test_a_silent_server_is_given_up_after_interval_and_timeout(autojump_clock: MockClock) -> None:
    server = hanging_server()
    server.answering_pings = False
    async with h2_channel(server, keepalive_interval=50.0, keepalive_timeout=7.0) as (channel, stub):
        await channel.connect()
        begun = trio.current_time()
        with pytest.raises(Exception, match="no answer to a PING within 7 s"):
            await stub.call(CallRequest())
        assert trio.current_time() == begun + 50 + 50 + 7  # something came in the first 50


async def test_a_channel_is_entered_once() -> None:
    async with Channel() as channel:
        with pytest.raises(RuntimeError, match="once"):
            await channel.__aenter__()


@pytest.mark.parametrize("limit", [None, 64 << 10])
async def test_headers_have_a_limit_that_may_be_raised(limit: int | None) -> None:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, (*RESPONSE, ("x", "y" * 20_000)))
        server.h2.send_data(stream_id, message(bytes(ANSWER)))
        server.h2.send_headers(stream_id, TRAILERS, end_stream=True)

    options = {} if limit is None else {"max_header_bytes": limit}
    async with h2_channel(server_that(respond), **options) as (_, stub):
        if limit is None:
            with pytest.raises(GRPCError, match="max_header_bytes"):
                await stub.call(CallRequest())
        else:
            assert await stub.call(CallRequest()) == ANSWER


@pytest.mark.parametrize("limit", [len(bytes(ANSWER)) - 1, len(bytes(ANSWER))])
async def test_messages_have_a_limit(limit: int) -> None:
    async with h2_channel(answering_server(), max_message_bytes=limit) as (_, stub):
        if limit < len(bytes(ANSWER)):
            with pytest.raises(GRPCError, match=f"more than max_message_bytes, {limit}"):
                await stub.call(CallRequest())
        else:
            assert await stub.call(CallRequest()) == ANSWER


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"host": 1}, "TypeError: host: must be text, got int"),
        ({"host": "a b"}, "ValueError: host: 'a b' can't be a host's name: a name has no blanks"),
        ({"host": ""}, "ValueError: host: '' can't be a host's name"),
        ({"port": "1"}, "TypeError: port: must be a whole number, got '1'"),
        ({"port": True}, "TypeError: port: must be a whole number, got True"),
        ({"port": 0}, "ValueError: port: must be from 1 to 65535, got 0"),
        ({"port": 70000}, "ValueError: port: must be from 1 to 65535, got 70000"),
        ({"network": 3}, "TypeError: network: must be a Network, got int"),
        ({"codec": 3}, "TypeError: codec: must be a grpclib.encoding.base.CodecBase, got int"),
        ({"status_details_codec": 3}, "TypeError: status_details_codec: must be a grpclib"),
        ({"on_connect": 3}, "TypeError: on_connect: must be an async function, got int"),
        ({"wait_for_ready": "x"}, "TypeError: wait_for_ready: must be True or False, got str"),
        ({"ssl": True, "server_hostname": 3}, "TypeError: server_hostname: must be text, got int"),
        (
            {"ssl": True, "server_hostname": "a b"},
            "ValueError: server_hostname: 'a b' can't be a host's name",
        ),
        ({"path": ""}, "ValueError: path: must be the path of a socket, and not empty"),
        ({"path": 3}, "TypeError: path: must be a str, got int"),
        ({"max_header_bytes": 2**32}, "ValueError: max_header_bytes: must be from 1 to 4294967295, got 429"),
        ({"max_message_bytes": "1"}, "TypeError: max_message_bytes: must be a whole number, got '1'"),
        ({"connect_timeout": 0}, "ValueError: connect_timeout: must be > 0 seconds, got 0"),
        ({"grace": "1"}, "TypeError: grace: must be a number of seconds, got '1'"),
    ],
)
def test_a_channel_is_made_of_what_it_can_use(options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Channel(**options)
    assert f"{caught.type.__name__}: {caught.value}".startswith(said)


async def test_a_channel_is_entered_with_async_with() -> None:
    with pytest.raises(RuntimeError, match="use `async with Channel"), Channel():  # type: ignore[attr-defined]
        pass


async def test_an_on_connect_that_is_not_async_says_so() -> None:
    async with h2_channel(answering_server(), on_connect=lambda _: 1) as (_, stub):
        with pytest.raises(TypeError, match="on_connect: must be an async function, and returned int"):
            await stub.call(CallRequest())


async def test_a_refused_connection_says_where_and_why_once() -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with Channel("127.0.0.1", port) as channel:
            with pytest.raises(OSError, match=rf"^127\.0\.0\.1:{port}: Connection refused$") as caught:
                await channel.connect()
    assert describe(caught.value) == str(caught.value)
