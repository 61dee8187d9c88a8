"""`rpc.connection` over memory and TCP: what becomes of calls and of the connection when something ends."""

from __future__ import annotations

import socket

import pytest
import trio
from helpers.h2_server import FIELDS, H2Server, call, connected, frame, h2_server, serving, use_up_stream_ids
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from trio_model_runner.network import TCPNetwork
from trio_model_runner.rpc import frames
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.rpc.ending import EndCause, Ending, explain_no_settings
from trio_model_runner.rpc.reader import Want
from trio_model_runner.rpc.receiver import CallInterrupted
from trio_model_runner.rpc.state import State

KINDS = ["memory", "tcp", "tcp in a hub", "tls on tcp", "tls on tcp in a hub"]
all_kinds = pytest.mark.parametrize("kind", KINDS)


class Outcome:
    """How a call ended that was made in the background."""

    def __init__(self) -> None:
        self.error: CallInterrupted | None = None
        self.answer: bytes | None = None
        self.ended = trio.Event()

    async def of(self, connection: Connection, data: bytes = b"hello") -> None:
        try:
            self.answer = await call(connection, data)
        except CallInterrupted as error:
            self.error = error
        self.ended.set()


async def begin(nursery: trio.Nursery, ours: trio.abc.Stream, theirs: trio.abc.Stream) -> Connection:
    """A connection over `ours`, which has the SETTINGS of the server at `theirs`."""
    connection = Connection(ours)
    nursery.start_soon(connection.run)
    await theirs.send_all(h2_server().data_to_send())
    await connection.wait_ready()
    return connection


async def fail() -> None:
    raise trio.BrokenResourceError


# Calls that end early


@all_kinds
async def test_a_call_cancelled_in_mid_send_is_reset_and_the_connection_goes_on(kind: str) -> None:
    async with connected(kind, H2Server(acknowledging=False)) as (connection, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Outcome().of, connection, bytes(1 << 20))
            await server.wait(lambda: len(server.bodies.get(1, b"")) == 65_535)
            nursery.cancel_scope.cancel()
        await server.wait(lambda: server.sent_resets == {1: frames.ErrorCode.CANCEL})
        assert len(server.bodies[1]) == 65_535
        await server.acknowledge()
        assert await call(connection, b"x" * 100_000) == b"x" * 100_000


@all_kinds
async def test_abort_interrupts_calls_and_refuses_new_ones(kind: str) -> None:
    async with connected(kind) as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.of, connection)
            await server.wait(lambda: bool(server.bodies))
            connection.abort("enough")
        assert outcome.error is not None
        assert str(outcome.error) == str(connection.loss) == "enough"
        assert (outcome.error.unprocessed, outcome.error.connection_lost) == (False, True)
        assert (connection.lost, connection.accepts_calls) == (True, False)
        with pytest.raises(CallInterrupted, match="enough") as raised:
            await call(connection)
        assert raised.value.unprocessed
        await server.ended.wait()
        assert server.goaways == []


@all_kinds
async def test_a_connection_lost_in_mid_call_interrupts_it(kind: str) -> None:
    async with connected(kind) as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.of, connection)
            await server.wait(lambda: bool(server.bodies))
            assert server.stream is not None
            await server.stream.aclose()
            await connection.watch()
        assert outcome.error is not None
        assert (outcome.error.unprocessed, outcome.error.connection_lost) == (False, True)
        assert connection.lost
        assert await connection.ping(1000) is False


@all_kinds
async def test_a_call_that_waited_for_its_turn_is_unprocessed_when_the_connection_is_lost(kind: str) -> None:
    async with connected(kind) as (connection, server):
        server.on_request = H2Server.hang
        server.h2.update_settings({frames.Setting.MAX_CONCURRENT_STREAMS: 1})
        await server.flush()
        assert await connection.ping(1000)
        async with trio.open_nursery() as nursery:
            first, second = Outcome(), Outcome()
            nursery.start_soon(first.of, connection)
            await server.wait(lambda: bool(server.bodies))
            nursery.start_soon(second.of, connection)
            await wait_all_tasks_blocked()
            connection.abort("enough")
        assert first.error is not None
        assert second.error is not None
        assert (first.error.unprocessed, second.error.unprocessed) == (False, True)


@all_kinds
async def test_goaway_lets_open_calls_finish_and_refuses_new_ones(kind: str) -> None:
    async with connected(kind) as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.of, connection)
            await server.wait(lambda: bool(server.bodies))
            await server.flush(frames.goaway_frame(1, frames.ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings"))
            await connection.watch()
            assert str(connection.loss) == "the server said GOAWAY: ENHANCE_YOUR_CALM (too_many_pings)"
            assert (connection.lost, connection.accepts_calls) == (False, False)
            with pytest.raises(CallInterrupted, match="too_many_pings") as raised:
                await call(connection)
            assert raised.value.unprocessed
            server.answer(1, server.bodies[1])
            await server.flush()
        assert outcome.answer == b"hello"


@all_kinds
async def test_a_server_that_breaks_the_protocol_loses_the_connection(kind: str) -> None:
    async with connected(kind) as (connection, server):
        await server.flush(frame(frames.FrameType.PUSH_PROMISE, 4, 1, bytes(5)))
        await connection.watch()
        assert str(connection.loss) == "the server broke the protocol: PUSH_PROMISE, though push is off"
        await server.ended.wait()
        assert server.goaways == [frames.ErrorCode.PROTOCOL_ERROR]


async def test_a_server_that_breaks_the_protocol_and_does_not_read_costs_half_a_second(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        connection = await begin(nursery, ours, theirs)
        await wait_all_tasks_blocked()
        ours.send_stream.send_all_hook = trio.sleep_forever
        begun = trio.current_time()
        await theirs.send_all(frame(frames.FrameType.PUSH_PROMISE, 4, 1, bytes(5)))
    assert trio.current_time() == begun + 0.5
    assert connection.lost


async def test_what_lies_unread_when_writing_fails_still_counts(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()

    async with trio.open_nursery() as nursery:
        connection = await begin(nursery, ours, theirs)
        await wait_all_tasks_blocked()
        ours.send_stream.send_all_hook = fail
        outcome = Outcome()
        nursery.start_soon(outcome.of, connection)
        await wait_all_tasks_blocked()
        await theirs.send_all(frames.goaway_frame(0, frames.ErrorCode.INTERNAL_ERROR, b"out of memory"))
    assert str(connection.loss) == "the server said GOAWAY: INTERNAL_ERROR (out of memory)"
    assert outcome.error is not None
    assert outcome.error.unprocessed


async def test_a_connection_that_can_not_be_written_ends_though_its_server_says_nothing(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = memory_stream_pair()

    async with trio.open_nursery() as nursery:
        connection = await begin(nursery, ours, theirs)
        await wait_all_tasks_blocked()
        ours.send_stream.send_all_hook = fail
        outcome = Outcome()
        nursery.start_soon(outcome.of, connection)
        begun = trio.current_time()
    assert trio.current_time() == begun + 1
    assert outcome.error is not None
    assert outcome.error.connection_lost
    assert not outcome.error.unprocessed
    assert str(connection.loss) == "the connection broke: it can be read, but not written"


@all_kinds
async def test_used_up_stream_ids_make_a_connection_unusable(kind: str) -> None:
    async with connected(kind) as (connection, _):
        use_up_stream_ids(connection)
        assert await call(connection) == b"hello"
        with pytest.raises(CallInterrupted, match="ids") as raised:
            await call(connection)
        assert raised.value.unprocessed
        await connection.watch()


class Faulty:
    """A receiver with a bug."""

    def headers_received(self, fields: object, *, end_stream: bool, over_limit: bool) -> None:
        raise ZeroDivisionError

    def data_received(self, data: bytes, flow_controlled_length: int, *, end_stream: bool) -> None:
        """Take it."""

    def interrupted(self, error: CallInterrupted) -> None:
        """Take it."""


@all_kinds
async def test_a_bug_in_a_receiver_surfaces_and_closes_the_connection(kind: str) -> None:
    server = H2Server()
    async with serving(kind, server) as address:
        with pytest.RaisesGroup(pytest.RaisesGroup(ZeroDivisionError)):
            async with trio.open_nursery() as nursery:
                connection = await open_connection(nursery, address.network, address.host, address.port)
                connection.send(connection.open(FIELDS, (), Faulty()), [b""], end_stream=True)
                await connection.watch()
        await connection.aclose()
        await server.ended.wait()


# Silence


async def test_silence_is_questioned_only_while_calls_are_open(autojump_clock: MockClock) -> None:
    async with connected("memory") as (connection, server), trio.open_nursery() as nursery:
        nursery.start_soon(connection.watch, 300)
        await trio.sleep(3000)
        assert server.pings == 0
        server.on_request = H2Server.hang
        nursery.start_soon(Outcome().of, connection)
        await trio.sleep(3000)
        assert 1 <= server.pings <= 10
        assert connection.accepts_calls
        nursery.cancel_scope.cancel()


async def test_a_connection_that_died_in_silence_is_lost(autojump_clock: MockClock) -> None:
    async with connected("memory", H2Server(answering_pings=False)) as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.of, connection)
            await connection.watch(interval=300, timeout=20)
            assert str(connection.loss) == "no answer to a PING within 20 s"
        assert outcome.error is not None
        assert outcome.error.connection_lost


async def test_a_ping_is_answered_or_not(autojump_clock: MockClock) -> None:
    async with connected("memory") as (connection, server):
        assert await connection.ping(1)
        server.answering_pings = False
        start = trio.current_time()
        assert not await connection.ping(5)
        assert trio.current_time() - start == 5
        assert connection._keepalive.unanswered == {}
        connection.abort("enough")
        start = trio.current_time()
        assert not await connection.ping(5)
        assert trio.current_time() == start


# Endings


@all_kinds
async def test_closing_resets_calls_says_goodbye_and_may_be_repeated(kind: str) -> None:
    async with connected(kind) as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.of, connection)
            await server.wait(lambda: bool(server.bodies))
            nursery.start_soon(connection.aclose)
            nursery.start_soon(connection.aclose)
        await connection.aclose()
        assert outcome.error is not None
        assert (outcome.error.unprocessed, outcome.error.connection_lost) == (False, True)
        await server.ended.wait()
        assert server.sent_resets == {1: frames.ErrorCode.CANCEL}
        assert server.goaways == [frames.ErrorCode.NO_ERROR]
        assert str(connection.loss) == "the connection was closed"


@all_kinds
@pytest.mark.parametrize("how", ["aclose", "finish cancelled"])
async def test_a_goodbye_sends_no_request_that_waited_for_its_turn(kind: str, how: str) -> None:
    """A reset makes room for the next stream, and a request that takes it may be a model's `tick`."""
    async with connected(kind) as (connection, server):
        server.on_request = H2Server.hang
        server.h2.update_settings({frames.Setting.MAX_CONCURRENT_STREAMS: 1})
        await server.flush()
        assert await connection.ping(1000)
        async with trio.open_nursery() as nursery:
            first, second, third = Outcome(), Outcome(), Outcome()
            nursery.start_soon(first.of, connection)
            await server.wait(lambda: bool(server.bodies))
            nursery.start_soon(second.of, connection)
            nursery.start_soon(third.of, connection)
            await wait_all_tasks_blocked()
            if how == "aclose":
                await connection.aclose()
            else:
                with trio.move_on_after(0):
                    await connection.finish()
        errors = [outcome.error for outcome in (first, second, third)]
        assert [error and error.unprocessed for error in errors] == [False, True, True]
        assert [error and error.connection_lost for error in errors] == [True, True, True]
        await server.ended.wait()
        assert list(server.bodies) == [1]
        assert server.sent_resets == {1: frames.ErrorCode.CANCEL}
        assert server.goaways == [frames.ErrorCode.NO_ERROR]


async def test_a_call_made_while_the_connection_closes_is_refused() -> None:
    ours, theirs = memory_stream_pair()
    waiting = trio.Event()

    async def never_sends() -> None:
        waiting.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        connection = await begin(nursery, ours, theirs)
        ours.send_stream.send_all_hook = never_sends
        nursery.start_soon(connection.aclose, 60)
        await waiting.wait()
        with pytest.raises(CallInterrupted, match="the connection was closed"):
            await call(connection)
        connection.abort("enough")


async def test_a_peer_that_does_not_read_costs_no_more_than_the_grace(mock_clock: MockClock) -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        async with trio.open_nursery() as nursery:
            outcome, closed = Outcome(), trio.Event()

            async def close(connection: Connection) -> None:
                await connection.aclose(grace=2.0)
                closed.set()

            async def client() -> None:
                connection = await open_connection(nursery, TCPNetwork(), *listening.getsockname())
                nursery.start_soon(outcome.of, connection, bytes(32 << 20))
                await wait_all_tasks_blocked()
                assert not connection.all_written
                nursery.start_soon(close, connection)
                await wait_all_tasks_blocked()
                assert not closed.is_set()
                mock_clock.jump(2.0)
                await closed.wait()

            nursery.start_soon(client)
            with (await trio.to_thread.run_sync(listening.accept))[0] as peer:
                wide_open = frames.settings_frame([(frames.Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)])
                peer.sendall(wide_open + frames.window_update_frame(0, 2**30))
                await closed.wait()
        assert outcome.error is not None


@all_kinds
async def test_a_connection_that_finishes_lets_open_calls_end_and_refuses_new_ones(kind: str) -> None:
    async with connected(kind) as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.of, connection)
            await server.wait(lambda: bool(server.bodies))
            nursery.start_soon(connection.finish)
            nursery.start_soon(connection.finish)
            await wait_all_tasks_blocked()
            assert (connection.lost, connection.accepts_calls) == (False, False)
            with pytest.raises(CallInterrupted, match="being closed") as raised:
                await call(connection)
            assert raised.value.unprocessed
            server.answer(1, bytes(server.bodies[1]))
            await server.flush()
        assert outcome.answer == b"hello"
        assert connection.lost
        await server.ended.wait()
        assert (server.sent_resets, server.goaways) == ({}, [frames.ErrorCode.NO_ERROR])


@all_kinds
@pytest.mark.parametrize("cancelled", [True, False])
async def test_finishing_ends_early_by_cancellation_or_when_the_connection_is_lost(
    kind: str, cancelled: bool
) -> None:
    async with connected(kind) as (connection, server):
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.of, connection)
            await server.wait(lambda: bool(server.bodies))
            async with trio.open_nursery() as finishing:
                finishing.start_soon(connection.finish)
                await wait_all_tasks_blocked()
                if cancelled:
                    finishing.cancel_scope.cancel()
                else:
                    connection.abort("enough")
        assert outcome.error is not None
        assert connection.lost
        await server.ended.wait()
        assert bool(server.goaways) == cancelled


@pytest.mark.parametrize("last", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["end", "violation"])
async def test_no_call_is_taken_from_the_moment_in_which_the_end_is_seen(last: bytes) -> None:
    """The task that notes it as lost comes later, and a round may begin before that."""
    stream, _ = memory_stream_pair()
    connection = Connection(stream)
    assert connection.accepts_calls
    if last:
        assert connection.take_in(last) is Want.NOTHING
    else:
        connection.end()
    assert not connection.accepts_calls
    with pytest.raises(CallInterrupted) as caught:
        connection.open(FIELDS, (), UnaryCall(connection, FIELDS, (), max_message_bytes=1))
    assert caught.value.unprocessed


# Why it ended, as a value


@pytest.mark.parametrize(
    ("code", "debug_data", "cause", "peaceful"),
    [
        (frames.ErrorCode.NO_ERROR, b"", EndCause.GOAWAY, True),
        (frames.ErrorCode.NO_ERROR, b"too_many_pings", EndCause.GOAWAY, True),
        (frames.ErrorCode.INTERNAL_ERROR, b"out of memory", EndCause.GOAWAY, False),
        (frames.ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings", EndCause.TOO_MANY_PINGS, False),
        (frames.ErrorCode.ENHANCE_YOUR_CALM, b"slowly", EndCause.GOAWAY, False),
        (0x1234, b"", EndCause.GOAWAY, False),
    ],
)
async def test_a_goaway_is_told_with_its_code(
    code: int, debug_data: bytes, cause: EndCause, peaceful: bool
) -> None:
    async with connected("memory") as (connection, server):
        await server.flush(frames.goaway_frame(0, code, debug_data))
        await connection.watch()
        assert connection.state is State.RETIRING
        assert connection.loss is not None
        assert (connection.loss.cause, connection.loss.code) == (cause, code)
        assert connection.loss.peaceful == peaceful
        assert connection.too_many_pings == (cause is EndCause.TOO_MANY_PINGS)
        with pytest.raises(CallInterrupted) as raised:
            await call(connection)
        assert raised.value.ending == connection.loss
        assert str(raised.value) == str(connection.loss)


async def test_causes_are_told_apart() -> None:
    async with connected("memory", H2Server(answering_pings=False)) as (connection, server):
        assert connection.loss is None
        assert connection.state is State.OPEN
        server.on_request = H2Server.hang
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.of, connection)
            await connection.watch(interval=0.01, timeout=0.01)
        assert cause_of(connection) is EndCause.NO_ANSWER_TO_PING
        assert outcome.error is not None
        assert outcome.error.ending == connection.loss
    async with connected("memory") as (connection, server):
        connection.retire("no longer wanted")
        assert (cause_of(connection), connection.state) == (EndCause.RETIRED, State.RETIRING)
        await connection.aclose()
        assert (cause_of(connection), connection.state) == (EndCause.RETIRED, State.LOST)
    async with connected("memory") as (connection, server):
        await connection.aclose()
        assert cause_of(connection) is EndCause.CLOSED_BY_US
    async with connected("memory") as (connection, server):
        assert server.stream is not None
        await server.stream.aclose()
        await connection.watch()
        assert cause_of(connection) is EndCause.CLOSED_BY_SERVER
    async with connected("memory") as (connection, server):
        await server.flush(frame(frames.FrameType.PUSH_PROMISE, 4, 1, bytes(5)))
        await connection.watch()
        assert cause_of(connection) is EndCause.PROTOCOL_VIOLATION
    async with connected("memory") as (connection, server):
        use_up_stream_ids(connection)
        await call(connection)
        assert cause_of(connection) is EndCause.STREAM_IDS_USED_UP


def cause_of(connection: Connection) -> EndCause | None:
    return connection.loss and connection.loss.cause


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize(
    ("first_bytes", "cause", "expected"),
    [
        (b"\x15\x03\x03\x00\x02", EndCause.PROTOCOL_VIOLATION, EndCause.SPEAKS_TLS),
        (b"\x16\x03\x01", EndCause.CLOSED_BY_SERVER, EndCause.SPEAKS_TLS),
        (b"HTTP/1.1", EndCause.PROTOCOL_VIOLATION, EndCause.SPEAKS_HTTP1),
        (b"", EndCause.CLOSED_BY_SERVER, EndCause.CLOSED_BY_SERVER),
        (b"", EndCause.BROKEN, EndCause.BROKEN),
        (b"", EndCause.TLS_FAILED, EndCause.TLS_FAILED),
        (b"", EndCause.CLOSED_BY_US, EndCause.CLOSED_BY_US),
        (b"\x00\x00", EndCause.CLOSED_BY_SERVER, EndCause.CLOSED_BY_SERVER),
    ],
)
def test_an_end_before_any_settings_is_explained_by_what_came(
    first_bytes: bytes, cause: EndCause, expected: EndCause, encrypted: bool
) -> None:
    ending = explain_no_settings(Ending(cause, "it ended"), first_bytes, encrypted=encrypted)
    assert ending.cause is expected
    guessed = not first_bytes and cause in (EndCause.CLOSED_BY_SERVER, EndCause.BROKEN)
    assert ("before its HTTP/2 SETTINGS" in str(ending)) == guessed
    assert (str(ending) == "it ended") == (expected is cause and not guessed)


@pytest.mark.parametrize(("encrypted", "text"), [(False, "a port that wants TLS"), (True, "our certificate")])
def test_what_a_server_that_closes_at_once_may_mean_depends_on_tls(encrypted: bool, text: str) -> None:
    for cause in (EndCause.CLOSED_BY_SERVER, EndCause.BROKEN):
        ending = explain_no_settings(Ending(cause, "gone"), b"", encrypted=encrypted)
        assert text in str(ending)
        assert ending.cause is cause
