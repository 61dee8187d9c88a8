"""Responses that are none of gRPC's: the pages of proxies, and content-types that only look like gRPC's."""

from __future__ import annotations

from typing import Any

import pytest
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from helpers.channel_servers import CALL, h2_channel
from helpers.h2_server import H2Server
from trio.testing import MockClock

from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse
from trio_model_runner.rpc.protocol import NotGRPC

HTML = b"<html><head><title>401 Authorization Required</title></head></html>"

PAGES = {
    "400": Status.INTERNAL,
    "401": Status.UNAUTHENTICATED,
    "403": Status.PERMISSION_DENIED,
    "404": Status.UNIMPLEMENTED,
    "429": Status.UNAVAILABLE,
    "502": Status.UNAVAILABLE,
    "503": Status.UNAVAILABLE,
    "504": Status.UNAVAILABLE,
    "200": Status.UNKNOWN,
    "204": Status.UNKNOWN,
    "301": Status.UNKNOWN,
    "408": Status.UNKNOWN,
    "413": Status.UNKNOWN,
    "500": Status.UNKNOWN,
    "505": Status.UNKNOWN,
}
"""gRPC's "HTTP to gRPC Status Code Mapping"; all others are UNKNOWN."""


def page(status: str, body: bytes, content_type: str | None = "text/html") -> H2Server:
    """A server that answers each request with a page."""
    headers = [(":status", status), *([("content-type", content_type)] if content_type is not None else [])]

    def respond(server: H2Server, stream_id: int, _: bytes) -> None:
        length = [("content-length", str(len(body)))] if body else []
        server.h2.send_headers(stream_id, [*headers, *length], end_stream=not body)
        if body:
            server.h2.send_data(stream_id, body, end_stream=True)

    server = H2Server()
    server.on_request = respond
    return server


async def failure(server: H2Server, how: str) -> GRPCError:
    """What a call on it fails with, by a stub or by a stream that is read step by step."""
    async with h2_channel(server) as (channel, stub):
        with pytest.raises(GRPCError) as raised:
            await (stub.call(CallRequest("predict"), timeout=5) if how == "stub" else step_by_step(channel))
        assert channel._keeper.connections  # the connection lives on
    return raised.value


async def step_by_step(channel: Any) -> None:
    async with channel.request(
        CALL, Cardinality.UNARY_STREAM, CallRequest, CallResponse, timeout=5
    ) as stream:
        await stream.send_message(CallRequest("predict"), end=True)
        await stream.recv_initial_metadata()


@pytest.mark.parametrize("how", ["stub", "step by step"])
@pytest.mark.parametrize("body", [b"", HTML, bytes(16_000)], ids=["no body", "a body", "a large body"])
@pytest.mark.parametrize(("status", "expected"), PAGES.items(), ids=PAGES)
async def test_a_page_means_what_grpcs_table_says_with_and_without_a_body(
    autojump_clock: MockClock, status: str, expected: Status, body: bytes, how: str
) -> None:
    if status == "204" and body:
        return  # there is no such page
    error = await failure(page(status, body), how)
    assert isinstance(error, NotGRPC)
    assert error.status is expected
    assert error.message in (
        f"the server answered with HTTP status {status!r}",
        "the answer's content-type is 'text/html', not gRPC's",
    )


@pytest.mark.parametrize(
    "content_type", [None, "", "application/grpcfoo", "application/json", "application/grp"]
)
async def test_a_content_type_that_only_looks_like_grpcs_is_none(
    autojump_clock: MockClock, content_type: str | None
) -> None:
    error = await failure(page("200", b"\0\0\0\0\0", content_type), "stub")
    assert isinstance(error, NotGRPC)
    assert error.status is Status.UNKNOWN
    assert error.message == f"the answer's content-type is {content_type!r}, not gRPC's"


@pytest.mark.parametrize(
    "content_type",
    ["application/grpc", "application/grpc+proto", "application/grpc;charset=x", "Application/gRPC"],
)
async def test_all_forms_of_grpcs_content_type_are_taken(
    autojump_clock: MockClock, content_type: str
) -> None:
    def respond(server: H2Server, stream_id: int, _: bytes) -> None:
        server.h2.send_headers(stream_id, [(":status", "200"), ("content-type", content_type)])
        server.h2.send_data(stream_id, b"\0\0\0\0\0")
        server.h2.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)

    server = H2Server()
    server.on_request = respond
    async with h2_channel(server) as (_, stub):
        assert await stub.call(CallRequest("predict"), timeout=5) == CallResponse()


async def test_a_grpc_status_is_worth_more_than_that_of_http(autojump_clock: MockClock) -> None:
    def respond(server: H2Server, stream_id: int, _: bytes) -> None:
        status = [("grpc-status", "7"), ("grpc-message", "no")]
        headers = [(":status", "503"), ("content-type", "application/grpc"), *status]
        server.h2.send_headers(stream_id, headers, end_stream=True)

    server = H2Server()
    server.on_request = respond
    error = await failure(server, "stub")
    assert (error.status, error.message) == (Status.PERMISSION_DENIED, "no")
    assert not isinstance(error, NotGRPC)


@pytest.mark.parametrize("body", [b"", HTML], ids=["no body", "a body"])
async def test_without_a_grpc_status_that_of_http_counts(autojump_clock: MockClock, body: bytes) -> None:
    error = await failure(page("503", body, "application/grpc"), "stub")
    assert isinstance(error, NotGRPC)
    assert error.status is Status.UNAVAILABLE


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("Jürgen sagt: nein 🙅", "Jürgen sagt: nein 🙅"),
        ("J%C3%BCrgen", "Jürgen"),
        ("Jü%C3%BC%", "Jüü%"),
    ],
)
async def test_a_status_message_in_raw_utf_8_is_shown_as_it_is(
    autojump_clock: MockClock, sent: str, shown: str
) -> None:
    def respond(server: H2Server, stream_id: int, _: bytes) -> None:
        status = [(b"grpc-status", b"13"), (b"grpc-message", sent.encode())]
        server.h2.send_headers(
            stream_id,
            [(b":status", b"200"), (b"content-type", b"application/grpc"), *status],
            end_stream=True,
        )

    server = H2Server()
    server.on_request = respond
    assert (await failure(server, "stub")).message == shown


@pytest.mark.parametrize("codes", [("5", "0"), ("0", "5")])
async def test_several_statuses_are_none(autojump_clock: MockClock, codes: tuple[str, str]) -> None:
    def respond(server: H2Server, stream_id: int, _: bytes) -> None:
        server.h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
        server.h2.send_headers(stream_id, [("grpc-status", code) for code in codes], end_stream=True)

    server = H2Server()
    server.on_request = respond
    error = await failure(server, "stub")
    assert (error.status, error.message) == (Status.UNKNOWN, "the answer has several grpc-status")
