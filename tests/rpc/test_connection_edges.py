"""`rpc.connection` where two things come together: a loss and a sign of life, a GOAWAY and a flood."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from helpers.h2_server import FIELDS, TRAILERS, H2Server, call, connected, frame, message
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.rpc import frames, reader, writer
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.ending import EndCause, Ending
from trio_model_runner.rpc.headers import Fields
from trio_model_runner.rpc.receiver import CallInterrupted

both_kinds = pytest.mark.parametrize("kind", ["memory", "tcp"])

SILENT = frames.window_update_frame(0, 1)


class Waiting:
    """A receiver that does something when it is interrupted."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.error: CallInterrupted | None = None
        self._then = then

    def headers_received(self, fields: Fields, *, end_stream: bool, over_limit: bool = False) -> None: ...

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None: ...

    def interrupted(self, error: CallInterrupted) -> None:
        self.error = error
        self._then()


async def test_a_connection_that_is_lost_right_after_a_sign_of_life_gives_none(
    autojump_clock: MockClock,
) -> None:
    answers = []

    async def ping() -> None:
        answers.append(await connection.ping(5))

    async with connected("memory", H2Server(answering_pings=False)) as (connection, _):
        assert await call(connection) == b"hello"
        await wait_all_tasks_blocked()  # the server has said all that it has to say
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping)
            await wait_all_tasks_blocked()
            connection.take_in(SILENT)
            connection.abort("enough")
    assert answers == [False]


async def test_a_server_that_retires_and_then_sends_too_much_has_not_retired_in_peace() -> None:
    async with connected("memory") as (connection, server):
        server.on_request = H2Server.hang
        stream = connection.open(FIELDS, (), Waiting())
        connection.send(stream, [b"x"])
        await server.wait(lambda: bool(server.bodies.get(1)))
        await server.flush(frames.goaway_frame(2**31 - 1, 0))
        await connection.watch()
        assert connection.loss is not None
        assert connection.loss.peaceful
        await server.flush(frame(77, 0, 1) * 5000)
        await connection.wait_idle()
        assert connection.loss.cause is EndCause.TOO_MUCH_WORK
        assert not connection.loss.peaceful


async def test_the_first_reason_for_an_end_stays() -> None:
    async with connected("memory") as (connection, server):
        await server.flush(frames.goaway_frame(2**31 - 1, 11, b"bye"))
        await connection.watch()
        connection.retire("later")
        connection.abort("later still")
        assert str(connection.loss) == "the server said GOAWAY: ENHANCE_YOUR_CALM (bye)"


async def test_watching_ends_at_once_where_a_connection_is_retired_with_open_calls(
    autojump_clock: MockClock,
) -> None:
    async with connected("memory") as (connection, server), trio.open_nursery() as nursery:
        server.on_request = H2Server.hang
        stream = connection.open(FIELDS, (), Waiting())
        connection.send(stream, [b"x"], end_stream=True)
        await server.wait(lambda: bool(server.bodies.get(1)))
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        nursery.start_soon(connection.watch, 100, 5)
        await wait_all_tasks_blocked()
        connection.retire("enough")
        await wait_all_tasks_blocked()
        assert trio.current_time() == begun
        assert server.pings == 0
        connection.leave(stream)


async def test_a_connection_on_which_something_comes_now_and_then_is_not_asked(
    autojump_clock: MockClock,
) -> None:
    async with connected("memory") as (connection, server), trio.open_nursery() as nursery:
        server.on_request = H2Server.hang
        stream = connection.open(FIELDS, (), Waiting())
        connection.send(stream, [b"x"], end_stream=True)
        nursery.start_soon(connection.watch, 20, 5)
        for _ in range(20):
            await trio.sleep(11)
            await server.flush(SILENT)
        assert server.pings == 0
        await trio.sleep(100)
        assert server.pings > 0
        connection.abort("enough")


async def test_nothing_that_waits_is_sent_while_a_connection_is_closed() -> None:
    """What is told of the end may have more to say, and the reset of a call makes room for the next one."""
    async with connected("tcp") as (connection, server):
        server.on_request = H2Server.hang
        server.h2.update_settings({frames.Setting.MAX_CONCURRENT_STREAMS: 1})
        await server.flush()
        assert await connection.ping(1000)
        receivers = [Waiting(lambda: connection.send(second, [b"late"])), Waiting()]
        first, second = (connection.open(FIELDS, (), receiver) for receiver in receivers)
        connection.send(first, [b"early"])
        connection.send(second, [b"waits"])
        await server.wait(lambda: bool(server.bodies.get(1)))
        await connection.aclose()
        assert server.bodies == {1: b"early"}
        assert [receiver.error and receiver.error.unprocessed for receiver in receivers] == [False, True]


def failing_at_first(function: Any, times: int, error: OSError) -> Any:
    left = iter(range(times))

    def call_or_fail(*args: Any) -> Any:
        if next(left, None) is not None:
            raise error
        return function(*args)

    return call_or_fail


@pytest.mark.parametrize("kind", ["tcp", "tcp in a hub", "tls on tcp in a hub"])
@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_socket_that_is_not_ready_after_all_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, times: int, kind: str
) -> None:
    async with connected(kind) as (connection, _):
        await wait_all_tasks_blocked()
        with monkeypatch.context() as patch:
            patch.setattr(writer.os, "writev", failing_at_first(os.writev, times, BlockingIOError()))
            patch.setattr(reader.os, "read", failing_at_first(os.read, times, BlockingIOError()))
            with trio.fail_after(30):
                assert await call(connection, b"x" * 100) == b"x" * 100


@pytest.mark.parametrize("kind", ["tcp", "tcp in a hub", "tls on tcp in a hub"])
async def test_a_connection_that_can_not_be_written_is_lost_soon(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, kind: str
) -> None:
    def break_pipe(descriptor: int, buffers: Sequence[Any]) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    async with connected(kind) as (connection, _):
        with monkeypatch.context() as patch:
            patch.setattr(writer.os, "writev", break_pipe)
            begun = trio.current_time()
            with pytest.raises(CallInterrupted, match="it can be read, but not written"):
                await call(connection)
            assert trio.current_time() == begun + 1
        assert connection.loss is not None
        assert connection.loss.cause is EndCause.BROKEN


@pytest.mark.parametrize(("limit", "fits"), [(5, True), (4, False)])
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_an_answer_may_be_as_large_as_its_limit(limit: int, fits: bool, in_pieces: bool) -> None:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.answer(stream_id, message(b"12345"))
        if in_pieces:
            return

    async with connected("memory") as (connection, server):
        server.on_request = respond
        unary = UnaryCall(connection, FIELDS, [b"x"], max_message_bytes=limit)
        if fits:
            assert (await unary.perform(60)).message == b"12345"
        else:
            with pytest.raises(Exception, match="the answer has 5 bytes, more than max_message_bytes, 4"):
                await unary.perform(60)


async def test_trailers_over_the_limit_are_an_error_even_where_the_status_is_ok() -> None:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
        server.h2.send_data(stream_id, body)
        server.h2.send_headers(stream_id, (*TRAILERS, ("x", "y" * 20_000)), end_stream=True)

    async with connected("memory") as (connection, server):
        server.on_request = respond
        with pytest.raises(Exception, match="max_header_bytes"):
            await call(connection)


def test_what_a_server_says_with_goaway_is_shown_in_part_and_without_escapes() -> None:
    text = str(Ending.by_goaway(0, b"\x1b[31mred\n" + b"x" * 1000))
    assert "\x1b" not in text
    assert len(text) < 300


async def test_a_body_that_ends_without_trailers_is_no_status_alone() -> None:
    def respond(server: H2Server, stream_id: int, body: bytes) -> None:
        server.h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
        server.h2.send_data(stream_id, body, end_stream=True)

    async with connected("memory") as (connection, server):
        server.on_request = respond
        unary = UnaryCall(connection, FIELDS, [b"x"], max_message_bytes=100)
        with pytest.raises(Exception, match="no grpc-status"):
            await unary.perform(60)
        assert unary.has_message
        assert not unary.trailers_only


async def test_calls_are_told_of_the_goaway_that_came_before_the_end() -> None:
    async with connected("memory") as (connection, server):
        server.on_request = H2Server.hang
        stream = connection.open(FIELDS, (), receiver := Waiting())
        connection.send(stream, [b"x"])
        await server.wait(lambda: bool(server.bodies.get(1)))
        await server.flush(frames.goaway_frame(2**31 - 1, 2, b"bye"))
        assert server.stream is not None
        await server.stream.aclose()
        await connection.wait_idle()
        assert str(receiver.error) == "the server said GOAWAY: INTERNAL_ERROR (bye)"


async def test_an_answer_that_was_whole_before_the_connection_was_lost_stays() -> None:
    """Though not all of its request was sent."""
    async with connected("memory", H2Server(acknowledging=False)) as (connection, server):
        unary = UnaryCall(connection, FIELDS, [bytes(100_000)], max_message_bytes=100)
        unary.begin(60, lambda _: None, None)
        await server.wait(lambda: len(server.bodies.get(1, b"")) == 65_535)
        server.answer(1, message(b"early"))
        await server.flush()
        await wait_all_tasks_blocked()
        assert unary.ended_at is not None
        assert not unary.handed_over
        connection.abort("enough")
        assert unary.answer().message == b"early"
        unary.leave()


async def test_a_call_may_be_cancelled_and_end_at_the_same_moment() -> None:
    async with connected("memory") as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            unary = UnaryCall(connection, FIELDS, [b"x"], max_message_bytes=100)
            nursery.start_soon(unary.run, 60)
            await server.wait(lambda: bool(server.bodies.get(1)))
            nursery.cancel_scope.cancel()
            connection.abort("enough")
        with pytest.raises(CallInterrupted, match="enough"):
            unary.answer()
