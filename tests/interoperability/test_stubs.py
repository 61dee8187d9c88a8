"""The same stubs against all kinds of servers. Where those differ, the test says how."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest
import trio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from helpers.channel_scenarios import connections_of

from trio_model_runner.channel import Channel
from trio_model_runner.channel.codec import BetterprotoCodec
from trio_model_runner.proto.dynamic_subclass import CallRequest

from .service import SERVICE
from .stubs import Stub, Text, chat, unary

if TYPE_CHECKING:
    pass


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
    async with unary(channel, "Echo", metadata=metadata) as stream:
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
        async with unary(channel, "Fail", str, metadata={"code": str(status.value)}) as stream:
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
    async with chat(channel) as stream:
        for number in range(100):
            await stream.send_message(CallRequest(str(number)))
            assert await stream.recv_message() == CallRequest(str(number))
        await stream.end()
        assert await stream.recv_message() is None


async def test_the_server_knows_the_deadline(channel: Channel) -> None:
    async def remaining(**options: Any) -> str | None:
        async with unary(channel, "Echo", **options) as stream:
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
        async with unary(channel, "Hang", timeout=0.5) as stream:
            await stream.send_message(CallRequest())
            await stub.echo(CallRequest())  # so the server has begun the call that came before
            await stream.recv_message()

    with pytest.raises(TimeoutError):
        await call()
    await stub.has_cancelled()


async def test_a_cancelled_call_is_cancelled_on_the_server(channel: Channel) -> None:
    stub = Stub(channel)
    async with unary(channel, "Hang") as stream:
        await stream.send_message(CallRequest())
        await stub.echo(CallRequest())  # so the server has begun the call that came before
        await stream.cancel()
    await stub.has_cancelled()
