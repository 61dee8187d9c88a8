"""gRPC's own list of interoperability tests, by its names, as far as it is about calls.

What each does is in gRPC's doc/interop-test-descriptions.md; the sizes are from there. `Echo`, `Gather`,
`Expand` and `Chat` stand for its UnaryCall, StreamingInputCall, StreamingOutputCall and FullDuplexCall. Left
out are compression, caches, and kinds of credentials that the client does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from trio_model_runner.proto.dynamic_subclass import CallRequest

from .service import SERVICE
from .stubs import Stub, Text, chat, unary

if TYPE_CHECKING:
    from trio_model_runner.channel import Channel

REQUESTS = [27_182, 8, 1_828, 45_904]
RESPONSES = [31_415, 9, 2_653, 58_979]
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"


def of_size(size: int) -> CallRequest:
    """A message whose encoding has that many bytes."""
    message = CallRequest(method_name="x" * size)
    while len(bytes(message)) > size:
        message.method_name = message.method_name[:-1]
    assert len(bytes(message)) == size
    return message


async def test_empty_unary(channel: Channel) -> None:
    assert await Stub(channel).echo(CallRequest()) == CallRequest()


@pytest.mark.parametrize("size", [271_828, 314_159])
async def test_large_unary(channel: Channel, size: int) -> None:
    assert await Stub(channel).echo(of_size(size)) == of_size(size)


async def test_client_streaming(channel: Channel) -> None:
    class Sizes:
        __content_subtype__ = "proto"

        def encode(self, message: CallRequest, message_type: Any) -> bytes:
            return bytes(message)

        def decode(self, data: bytes, message_type: Any) -> int:
            return len(data)

    ours, channel.codec = channel.codec, Sizes()
    assert await Stub(channel).gather([of_size(size) for size in REQUESTS]) == 74_922
    channel.codec = ours


async def test_server_streaming(channel: Channel) -> None:
    for size in RESPONSES:  # ours sends one size again and again
        answers = Stub(channel).expand(of_size(size), metadata={"count": "4"})
        assert [each async for each in answers] == [of_size(size)] * 4


async def test_ping_pong(channel: Channel) -> None:
    async with chat(channel) as stream:
        for size in [*REQUESTS, *RESPONSES]:
            await stream.send_message(of_size(size))
            assert await stream.recv_message() == of_size(size)
        await stream.end()
        assert await stream.recv_message() is None


@pytest.mark.parametrize("at_once", [False, True], ids=["end", "request and end at once"])
async def test_empty_stream(channel: Channel, *, at_once: bool) -> None:
    """Grpc-go waits on for ever if HEADERS end the stream: an empty DATA frame must."""
    with trio.fail_after(10):
        async with chat(channel) as stream:
            await stream.send_request(end=at_once)
            if not at_once:
                await stream.end()
            assert await stream.recv_message() is None


async def test_empty_stream_of_a_stub(channel: Channel) -> None:
    """As `empty_stream`, but said by a stub, and with one answer."""
    with trio.fail_after(10):
        assert await Stub(channel).gather([]) == CallRequest()


async def test_timeout_on_sleeping_server(channel: Channel, server: tuple[str, int]) -> None:
    """If the deadline is over before the call begins, the server of grpclib fails: it is given time."""

    async def call() -> None:
        async with chat(channel, timeout=0.2 if server[0] == "grpclib" else 0.001) as stream:
            await stream.send_message(of_size(27_182))
            while await stream.recv_message():
                pass

    with pytest.raises(TimeoutError):
        await call()


async def test_cancel_after_begin(channel: Channel) -> None:
    async with channel.request(
        f"/{SERVICE}/Gather", Cardinality.STREAM_UNARY, CallRequest, CallRequest
    ) as stream:
        await stream.send_request()
        await stream.cancel()


async def test_cancel_after_first_response(channel: Channel) -> None:
    async with chat(channel) as stream:
        await stream.send_message(of_size(27_182))
        assert await stream.recv_message() == of_size(27_182)
        await stream.cancel()


@pytest.mark.parametrize("call", [unary, chat], ids=["unary", "full duplex"])
async def test_custom_metadata(channel: Channel, call: Any) -> None:
    metadata = {"say": "test_initial_metadata_value", "say-bin": b"\xab\xab\xab"}
    arguments = ("Echo",) if call is unary else ()
    async with call(channel, *arguments, metadata=metadata) as stream:
        await stream.send_message(CallRequest(), end=True)
        assert await stream.recv_message() == CallRequest()
        await stream.recv_trailing_metadata()
    assert stream.initial_metadata["said"] == metadata["say"]
    assert stream.trailing_metadata["said-bin"] == metadata["say-bin"]


async def failed(channel: Channel, message: str, call: Any) -> tuple[Status, str | None]:
    """The status 2 and the text with which a server is asked to fail, as they come back."""

    async def make() -> None:
        arguments = ("Fail", str) if call is unary else ()
        async with call(channel, *arguments, metadata={"code": "2"}) as stream:
            await stream.send_message(message)
            await stream.recv_message()

    ours, channel.codec = channel.codec, Text()
    with pytest.raises(GRPCError) as caught:
        await make()
    channel.codec = ours
    return caught.value.status, caught.value.message


@pytest.mark.parametrize("call", [unary, chat], ids=["unary", "full duplex"])
async def test_status_code_and_message(channel: Channel, call: Any) -> None:
    assert await failed(channel, "test status message", call) == (Status.UNKNOWN, "test status message")


async def test_special_status_message(channel: Channel) -> None:
    assert await failed(channel, SPECIAL, unary) == (Status.UNKNOWN, SPECIAL)


@pytest.mark.parametrize(
    "path",
    [f"/{SERVICE}/Nothing", "/test.Nothing/Echo"],
    ids=["unimplemented_method", "unimplemented_service"],
)
async def test_unimplemented(channel: Channel, path: str) -> None:
    """The server of grpclib alone says so without a content-type."""
    with pytest.raises(GRPCError) as caught:
        await Stub(channel)._unary_unary(path, CallRequest(), CallRequest)
    assert caught.value.status is Status.UNIMPLEMENTED
