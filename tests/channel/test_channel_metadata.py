"""Metadata of a channel's calls: what goes to a server and comes back, and what is never sent."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import trio
from grpclib.const import Cardinality
from grpclib.const import Status as GrpcStatus
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.events import SendRequest, listen
from grpclib.exceptions import GRPCError
from helpers.channel_servers import (
    ANSWER,
    CALL,
    answering_server,
    grpcio_server,
    h2_channel,
    server_that,
    unary,
)
from helpers.h2_server import RESPONSE, H2Server, message
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.channel import Channel
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "hunter2 "
KEYS = st.from_regex(r"x-[0-9a-z_.-]{1,20}", fullmatch=True)
FIELDS = st.tuples(
    KEYS.filter(lambda key: not key.endswith("-bin")),
    st.from_regex(r"[!-~]([ -~]{0,40}[!-~])?", fullmatch=True),
) | st.tuples(KEYS.map(lambda key: f"{key}-bin"), st.binary(max_size=40))


async def test_metadata_go_both_ways():
    received = []

    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        received.extend(context.invocation_metadata())
        context.send_initial_metadata((("who", "node"), ("key-bin", b"\x00\xff")))
        context.set_trailing_metadata((("took", "long"), ("sum-bin", b"\x01\x02\x03")))
        return ANSWER

    with grpcio_server(Call=unary(call)) as port:
        async with Channel("127.0.0.1", port) as channel:
            metadata = {"token": "secret", "blob-bin": b"\xfe\x00\x01"}
            async with channel.request(
                CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse, metadata=metadata
            ) as stream:
                assert stream.initial_metadata is None
                await stream.send_message(CallRequest(), end=True)
                assert await stream.recv_message() == ANSWER
                assert stream.peer.addr() == ("127.0.0.1", port)
            assert dict(stream.initial_metadata) == {"who": "node", "key-bin": b"\x00\xff"}
            assert stream.trailing_metadata["took"] == "long"
            assert stream.trailing_metadata["sum-bin"] == b"\x01\x02\x03"
    assert ("token", "secret") in received
    assert ("blob-bin", b"\xfe\x00\x01") in received


@pytest.fixture(scope="module")
def echoing_port() -> Iterator[int]:
    def call(request: CallRequest, context: grpc.ServicerContext) -> CallResponse:
        metadata = [each for each in context.invocation_metadata() if each.key.startswith("x-")]
        context.send_initial_metadata(metadata)
        context.set_trailing_metadata(metadata)
        return ANSWER

    with grpcio_server(Call=unary(call)) as port:
        yield port


async def echoed(port: int, fields: list[tuple[str, str | bytes]]) -> list[list[tuple[str, str | bytes]]]:
    """What the answer to a call with these metadata carries at its beginning, and at its end."""
    async with Channel("127.0.0.1", port) as channel:
        async with channel.request(
            CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse, metadata=fields
        ) as stream:
            await stream.send_message(CallRequest())
            assert await stream.recv_message() == ANSWER
        return [list(each.items()) for each in (stream.initial_metadata, stream.trailing_metadata)]


@settings(max_examples=25, deadline=None)
@given(st.lists(FIELDS, max_size=8))
def test_any_metadata_that_may_be_sent_come_back_equal_from_grpcio(
    echoing_port: int, fields: list[tuple[str, str | bytes]]
) -> None:
    by_key = sorted(fields, key=lambda field: field[0])  # values of one key keep their order
    for back in trio.run(echoed, echoing_port, fields):
        assert sorted(back, key=lambda field: field[0]) == by_key


@pytest.mark.parametrize(
    ("metadata", "error", "said"),
    [
        ({"grpc-timeout": HIDDEN}, ValueError, "'grpc-timeout'"),
        ({"host": HIDDEN}, ValueError, "'host'.*:authority"),
        ({"Authorization": HIDDEN}, ValueError, "'Authorization'"),
        ({"authorization": HIDDEN}, ValueError, "'authorization'.*blank"),
        ({"authorization": f"{HIDDEN}\r\nb"}, ValueError, "'authorization'.*printable"),
        ({"key-bin": HIDDEN}, TypeError, "'key-bin'.*bytes"),
        ({"key": HIDDEN.encode()}, TypeError, "'key'.*str"),
        ([("key", HIDDEN, "more")], TypeError, "mapping, or pairs"),
        ({7: HIDDEN}, TypeError, "keys"),
        (HIDDEN, TypeError, "mapping, or pairs"),
    ],
)
async def test_bad_metadata_are_refused_before_anything_is_sent_and_their_values_stay_secret(
    metadata: Any, error: type[Exception], said: str
) -> None:
    async with h2_channel(answering_server()) as (channel, stub):
        with pytest.raises(error, match=said) as caught:
            await stub.call(CallRequest(), metadata=metadata)
        assert not channel._keeper.connections
        shown = traceback.format_exception(caught.value, chain=True, limit=0)
        assert HIDDEN.strip() not in "".join(shown)


async def test_what_a_listener_adds_is_checked_too() -> None:
    async def add(event: SendRequest) -> None:
        event.metadata["connection"] = "close"

    async with h2_channel(answering_server()) as (channel, stub):
        listen(channel, SendRequest, add)
        with pytest.raises(ValueError, match=r"'connection'.*HTTP/2 forbids it"):
            await stub.call(CallRequest())


def answer_with(*fields: tuple[str, str], status: str = "0") -> H2Server:
    """A server whose trailers have these fields."""

    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, RESPONSE)
        server.h2.send_data(stream_id, message(bytes(ANSWER)))
        server.h2.send_headers(stream_id, [("grpc-status", status), *fields], end_stream=True)

    return server_that(respond)


@pytest.mark.parametrize("text", ["AAE=,AAI=", "AAE,AAI", "AAE, AAI", "AAE=,AAI"])
async def test_binary_values_that_a_proxy_has_joined_are_several_values(text: str) -> None:
    async with h2_channel(answer_with(("x-bin", text), ("x-text", "a, b"))) as (channel, _):
        async with channel.request(CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse) as stream:
            await stream.send_message(CallRequest())
        assert stream.trailing_metadata.getall("x-bin") == [b"\0\1", b"\0\2"]
        assert stream.trailing_metadata.getall("x-text") == ["a, b"]


async def test_a_binary_value_that_is_not_base64_is_a_grpc_error_that_does_not_show_it() -> None:
    async with h2_channel(answer_with(("x-token-bin", "hunter2!"))) as (_, stub):
        with pytest.raises(GRPCError, match="'x-token-bin' is not base64") as caught:
            await stub.call(CallRequest())
    assert caught.value.status is GrpcStatus.INTERNAL
    assert "hunter2" not in "".join(traceback.format_exception(caught.value, chain=True, limit=0))


class Raw(StatusDetailsCodecBase):
    """Gives the details as they came."""

    def encode(self, status: Any, message: Any, details: Any) -> bytes:
        raise NotImplementedError

    def decode(self, status: GrpcStatus, message: str | None, data: bytes) -> bytes:
        return data


@pytest.mark.parametrize(
    ("fields", "details"),
    [
        ([("grpc-status-details-bin", "CAU")], b"\x08\x05"),
        ([("grpc-status-details-bin", "CAU=, CAY=")], b"\x08\x06"),
        ([("grpc-status-details-bin", "!")], None),
        ([], None),
    ],
)
async def test_details_of_a_status_that_can_not_be_read_leave_the_status(
    fields: list[tuple[str, str]], details: bytes | None
) -> None:
    server = answer_with(*fields, status="5")
    async with h2_channel(server, status_details_codec=Raw()) as (_, stub):
        with pytest.raises(GRPCError) as caught:
            await stub.call(CallRequest())
    assert (caught.value.status, caught.value.details) == (GrpcStatus.NOT_FOUND, details)


async def test_a_call_with_bad_metadata_costs_those_beside_it_nothing() -> None:
    async with h2_channel(answering_server()) as (_, stub):
        assert await stub.call(CallRequest()) == ANSWER
        with pytest.raises(ValueError, match="'upgrade'"):
            await stub.call(CallRequest(), metadata={"upgrade": "h2c"})
        assert await stub.call(CallRequest(), metadata={"x-token": "fine"}) == ANSWER
