"""What a `Channel` puts on the wire and takes from it, where HTTP/2 leaves a choice."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived
from helpers.channel_servers import ANSWER, CALL, answering, h2_channel, server_that
from helpers.h2_server import RESPONSE, H2Server, message
from trio.testing import MockClock

from trio_model_runner.channel import CallInterrupted, Channel
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse


class Watching(H2Server):
    """Answers, and notes which frames end requests, with the length of their DATA."""

    def __init__(self) -> None:
        super().__init__()
        self.on_request = answering
        self.ends: list[tuple[type[Any], int]] = []

    def _handle(self, event: Any) -> None:
        if isinstance(event, RequestReceived | DataReceived) and event.stream_ended:
            self.ends.append((type(event), len(getattr(event, "data", b""))))
        super()._handle(event)


async def empty_stream(channel: Channel, *, at_once: bool) -> CallResponse | None:
    async with channel.request(
        CALL, Cardinality.STREAM_UNARY, CallRequest, CallResponse, timeout=20
    ) as stream:
        await stream.send_request(end=at_once)
        if not at_once:
            await stream.end()
        answer: CallResponse | None = await stream.recv_message()
    return answer


@pytest.mark.parametrize("kind", ["memory", "tls", "tcp"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_request_without_messages_ends_by_empty_data(kind: str, at_once: bool) -> None:
    """grpc-go waits for ever where END_STREAM comes with HEADERS."""
    server = Watching()
    async with h2_channel(server, kind=kind) as (channel, _):
        assert await empty_stream(channel, at_once=at_once) == ANSWER
    assert server.ends == [(DataReceived, 0)]


@pytest.mark.parametrize("at_once", [True, False])
async def test_so_does_one_that_waited_for_its_stream(autojump_clock: MockClock, at_once: bool) -> None:
    server = Watching()
    server.h2.update_settings({3: 0})  # no streams
    answers = []

    async def call(channel: Channel) -> None:
        answers.append(await empty_stream(channel, at_once=at_once))

    async with h2_channel(server) as (channel, _), trio.open_nursery() as nursery:
        nursery.start_soon(call, channel)
        await trio.sleep(5)
        assert not server.requests
        server.h2.update_settings({3: 1})
        await server.flush()
    assert answers == [ANSWER]
    assert server.ends == [(DataReceived, 0)]


async def test_a_call_that_a_goaway_drops_says_so(autojump_clock: MockClock) -> None:
    """A server may drop a call that it has begun to answer, by a second GOAWAY."""

    def drop(server: H2Server, stream_id: int, _: bytes) -> None:
        server.h2.send_headers(stream_id, RESPONSE)
        server.h2.close_connection(ErrorCodes.NO_ERROR, last_stream_id=0)

    async with h2_channel(server_that(drop)) as (_, stub):
        with pytest.raises(CallInterrupted) as raised:
            await stub.call(CallRequest("predict"), timeout=5)
    assert str(raised.value) == "the server dropped the call by a GOAWAY: NO_ERROR"
    assert not raised.value.unprocessed


# Headers over the limit


def failing(fields: tuple[tuple[str, str], ...], *, trailers_only: bool = False) -> H2Server:
    """A server whose first call fails with these trailers while others wait; then all are answered."""
    waiting: list[int] = []

    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        if b"fail" not in body:
            waiting.append(stream_id)
            return
        if trailers_only:
            server.h2.send_headers(stream_id, (*RESPONSE, *fields), end_stream=True)
        else:
            server.h2.send_headers(stream_id, RESPONSE)
            server.h2.send_headers(stream_id, fields, end_stream=True)
        for each in waiting:
            server.answer(each, message(bytes(ANSWER)))

    return server_that(respond)


FAILURE = (("grpc-status", "13"), ("grpc-message", "Traceback " + "x" * 20_000))
LIMIT_TEXT = "the answer's headers are over the limit, max_header_bytes"


@pytest.mark.parametrize("trailers_only", [True, False])
@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        (FAILURE, Status.INTERNAL, "Traceback xxx"),
        (FAILURE[::-1], Status.INTERNAL, "Traceback xxx"),
        ((("grpc-message", "m" * 60_000), ("grpc-status", "5")), Status.NOT_FOUND, "mmm"),
        ((*[(f"x-{n}", "y" * 90) for n in range(300)], *FAILURE), Status.INTERNAL, ""),
        ((("grpc-status", "0"), ("x-large", "x" * 20_000)), Status.RESOURCE_EXHAUSTED, LIMIT_TEXT),
    ],
    ids=["a long message", "the status behind it", "a very long one", "many fields", "good, and too large"],
)
async def test_headers_over_the_limit_cost_their_call_alone_and_leave_its_status(
    autojump_clock: MockClock,
    fields: tuple[tuple[str, str], ...],
    status: Status,
    text: str,
    trailers_only: bool,
) -> None:
    errors: list[GRPCError] = []
    answers = []

    async def call(stub: Any, name: str) -> None:
        try:
            answers.append(await stub.call(CallRequest(name), timeout=20))
        except GRPCError as error:
            errors.append(error)

    async with h2_channel(failing(fields, trailers_only=trailers_only)) as (channel, stub):
        async with trio.open_nursery() as nursery:
            for name in ("good", "better"):
                nursery.start_soon(call, stub, name)
            await trio.sleep(1)
            await call(stub, "fail")
        assert len(channel._keeper.connections) == 1
    assert answers == [ANSWER] * 2
    assert [error.status for error in errors] == [status]
    assert (errors[0].message or "").startswith(text)
    assert len(errors[0].message or "") < 17_000


async def test_initial_headers_over_the_limit_cost_their_call_alone(autojump_clock: MockClock) -> None:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        if b"fail" in body:
            server.h2.send_headers(stream_id, [*RESPONSE, ("x-large", "x" * 20_000)])
        else:
            server.answer(stream_id, message(bytes(ANSWER)))

    server = server_that(respond)
    async with h2_channel(server) as (_, stub):
        for _ in range(3):
            with pytest.raises(GRPCError) as raised:
                await stub.call(CallRequest("fail"), timeout=20)
            assert (raised.value.status, raised.value.message) == (Status.RESOURCE_EXHAUSTED, LIMIT_TEXT)
            assert await stub.call(CallRequest("predict"), timeout=20) == ANSWER
    assert set(server.sent_resets.values()) == {ErrorCodes.CANCEL}
