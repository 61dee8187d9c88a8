"""The same stubs against four implementations of gRPC. Where those differ, the test says how."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
import trio
from betterproto import ServiceStub
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from helpers.channel_scenarios import connections_of

from trio_model_runner.channel import Channel
from trio_model_runner.channel.codec import BetterprotoCodec
from trio_model_runner.proto.dynamic_subclass import CallRequest

from .servers import SERVERS, SERVICE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Stub(ServiceStub):
    """What betterproto's compiler would make of the service, had it a description."""

    async def echo(self, message: CallRequest, **options: Any) -> CallRequest:
        return await self._unary_unary(f"/{SERVICE}/Echo", message, CallRequest, **options)

    async def fail(self, message: CallRequest, **options: Any) -> CallRequest:
        return await self._unary_unary(f"/{SERVICE}/Fail", message, CallRequest, **options)

    async def expand(self, message: CallRequest, **options: Any) -> AsyncIterator[CallRequest]:
        async for each in self._unary_stream(f"/{SERVICE}/Expand", message, CallRequest, **options):
            yield each

    async def gather(self, messages: Any, **options: Any) -> CallRequest:
        return await self._stream_unary(f"/{SERVICE}/Gather", messages, CallRequest, CallRequest, **options)

    async def has_cancelled(self) -> None:
        """Wait until the server has noticed a cancelled call, for half a minute at most."""
        with trio.fail_after(30):
            await self._unary_unary(f"/{SERVICE}/HasCancelled", CallRequest(), CallRequest)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """The kind of a server, and its port."""
    with SERVERS[request.param]() as port:
        yield request.param, port


@pytest.fixture
async def channel(server: tuple[str, int]) -> AsyncIterator[Channel]:
    async with Channel("127.0.0.1", server[1]) as channel:
        yield channel
        with trio.fail_after(30):  # whatever the test did, it left the connection in order
            assert await Stub(channel).echo(CallRequest("fine")) == CallRequest("fine")
        (connection,) = connections_of(channel)
        assert connection.idle


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 3_000_000])
async def test_messages_of_any_size_go_both_ways(channel: Channel, size: int) -> None:
    message = CallRequest(method_name="x" * size)
    assert await Stub(channel).echo(message) == message


async def test_many_calls_at_once_get_each_their_own_answer(channel: Channel) -> None:
    stub, answers = Stub(channel), Counter[str]()

    async def call(text: str) -> None:
        answers[(await stub.echo(CallRequest(text))).method_name] += 1

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(call, f"{number} " * (number % 5) * 10_000 + str(number))
    assert len(answers) == 100
    assert len(connections_of(channel)) == 1


async def test_metadata_go_both_ways(channel: Channel, server: tuple[str, int]) -> None:
    binary = [b"\x00\xff" * 50, b"plain"]
    metadata = [("say", "first, second"), *(("say-bin", value) for value in binary)]
    async with channel.request(
        f"/{SERVICE}/Echo", Cardinality.UNARY_UNARY, CallRequest, CallRequest, metadata=metadata
    ) as stream:
        await stream.send_message(CallRequest())
        await stream.recv_message()
    assert stream.initial_metadata["said"] == "first, second"
    assert stream.trailing_metadata.getall("said-bin") == binary


@pytest.mark.parametrize(
    "status", [each for each in Status if each is not Status.OK], ids=lambda each: each.name
)
async def test_every_status_is_a_grpc_error(channel: Channel, status: Status) -> None:
    text = "na\u00efve: 100% wrong\n\u2192 \U0001f600"
    channel.codec = Text()

    async def call() -> Any:
        async with channel.request(
            f"/{SERVICE}/Fail",
            Cardinality.UNARY_UNARY,
            str,
            CallRequest,
            metadata={"code": str(status.value)},
        ) as stream:
            streams.append(stream)
            await stream.send_message(text)
            await stream.recv_message()

    streams: list[Any] = []
    with pytest.raises(GRPCError) as caught:
        await call()
    channel.codec = BetterprotoCodec()
    assert caught.value.status is status
    assert caught.value.message == text
    assert streams[0].trailing_metadata["why"] == "asked to"


class Text:
    """A codec for requests that are text."""

    __content_subtype__ = "proto"

    def encode(self, message: str, message_type: Any) -> bytes:
        return message.encode()


async def test_an_unknown_method_is_unimplemented(channel: Channel) -> None:
    """The server of grpclib alone says so without a content-type."""
    with pytest.raises(GRPCError) as caught:
        await Stub(channel)._unary_unary(f"/{SERVICE}/Nothing", CallRequest(), CallRequest)
    assert caught.value.status is Status.UNIMPLEMENTED


async def test_a_stream_of_answers(channel: Channel) -> None:
    message = CallRequest("x" * 1000)
    answers = [each async for each in Stub(channel).expand(message, metadata={"count": "2000"})]
    assert answers == [message] * 2000
    assert [each async for each in Stub(channel).expand(message, metadata={"count": "0"})] == []


async def test_a_stream_of_answers_that_is_abandoned_is_cancelled_on_the_server(channel: Channel) -> None:
    async with channel.request(
        f"/{SERVICE}/Expand", Cardinality.UNARY_STREAM, CallRequest, CallRequest, metadata={"count": "100000"}
    ) as stream:
        await stream.send_message(CallRequest("x" * 10_000))
        async for _ in stream:
            break
    await Stub(channel).has_cancelled()


async def test_a_generated_stub_leaves_closing_its_inner_generator_to_trio(channel: Channel) -> None:
    """Generated code closes only the outer one of two: Trio ends the call all the same, and warns."""
    stub = Stub(channel)
    with pytest.warns(ResourceWarning, match="_unary_stream"):  # noqa: PT031 - leaving the block is what warns
        async with aclosing(stub.expand(CallRequest("x" * 10_000), metadata={"count": "100000"})) as answers:
            async for _ in answers:
                break
    await stub.has_cancelled()


async def test_a_stream_of_requests(channel: Channel) -> None:
    parts = [CallRequest("x" * 100_000), CallRequest(), CallRequest("last")]
    assert await Stub(channel).gather(parts) == CallRequest("last")  # as encodings one after the other merge


async def test_streams_both_ways(channel: Channel) -> None:
    async with channel.request(
        f"/{SERVICE}/Chat", Cardinality.STREAM_STREAM, CallRequest, CallRequest
    ) as stream:
        for number in range(100):
            await stream.send_message(CallRequest(str(number)))
            assert await stream.recv_message() == CallRequest(str(number))
        await stream.end()
        assert await stream.recv_message() is None


async def test_the_server_knows_the_deadline(channel: Channel) -> None:
    async def remaining(**options: Any) -> str | None:
        async with channel.request(
            f"/{SERVICE}/Echo", Cardinality.UNARY_UNARY, CallRequest, CallRequest, **options
        ) as stream:
            await stream.send_message(CallRequest())
            await stream.recv_message()
        return stream.initial_metadata.get("remaining")

    assert await remaining() is None
    assert 900 < int(await remaining(timeout=1000)) <= 1000
    with trio.move_on_after(500):
        assert 400 < int(await remaining(timeout=1000)) <= 500


async def test_a_deadline_that_passes_is_a_timeout_here_and_a_cancellation_there(channel: Channel) -> None:
    stub = Stub(channel)

    async def call() -> None:
        async with channel.request(
            f"/{SERVICE}/Hang", Cardinality.UNARY_UNARY, CallRequest, CallRequest, timeout=0.5
        ) as stream:
            await stream.send_message(CallRequest())
            await stub.echo(CallRequest())  # so the server has begun the call that came before
            await stream.recv_message()

    with pytest.raises(TimeoutError):
        await call()
    await stub.has_cancelled()


async def test_a_cancelled_call_is_cancelled_on_the_server(channel: Channel) -> None:
    stub = Stub(channel)
    async with channel.request(
        f"/{SERVICE}/Hang", Cardinality.UNARY_UNARY, CallRequest, CallRequest
    ) as stream:
        await stream.send_message(CallRequest())
        await stub.echo(CallRequest())  # so the server has begun the call that came before
        await stream.cancel()
    await stub.has_cancelled()


@pytest.mark.parametrize("kind", [kind for kind in SERVERS if kind != "grpclib"])
async def test_a_server_that_retires_lets_open_calls_end_and_takes_no_new_ones(kind: str) -> None:
    """That of grpclib never says GOAWAY: closed, it goes on taking calls on the connections that it has."""
    with SERVERS[kind]() as port, trio.fail_after(60):
        async with Channel("127.0.0.1", port) as channel:
            async with channel.request(
                f"/{SERVICE}/Chat", Cardinality.STREAM_STREAM, CallRequest, CallRequest
            ) as stream:
                await stream.send_message(CallRequest("before"))
                assert await stream.recv_message() == CallRequest("before")
                connection = await channel.connect()
                await Stub(channel)._unary_unary(f"/{SERVICE}/Retire", CallRequest(), CallRequest)
                await connection.watch()
                assert str(connection.loss).startswith("the server said GOAWAY")
                await stream.send_message(CallRequest("after"))
                assert await stream.recv_message() == CallRequest("after")
                await stream.end()
                assert await stream.recv_message() is None
            with pytest.raises(OSError, match="connect"):
                await Stub(channel).echo(CallRequest())
