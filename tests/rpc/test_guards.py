"""What a guard holds back is not sent, whenever the server makes room for it; all else goes on."""

from __future__ import annotations

import pytest
import trio
from h2.settings import SettingCodes
from helpers.h2_server import FIELDS, Exchange, H2Server, connected
from trio.testing import lockstep_stream_pair, wait_all_tasks_blocked

from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.rpc.ending import EndCause
from trio_model_runner.rpc.receiver import CallInterrupted

LARGE = bytes(100_000)  # more than a stream's window


class Guard:
    """Says whether anything may be sent."""

    def __init__(self) -> None:
        self.open = True

    def __call__(self) -> bool:
        return self.open


class Made:
    """A call that was made in the background."""

    def __init__(self, connection: Connection, data: bytes = b"secret", *, unguarded: bool = False) -> None:
        self.unary = UnaryCall(connection, FIELDS, [data], max_message_bytes=1 << 20, unguarded=unguarded)
        self.ended = trio.Event()
        self.unary.begin(60, trio.Event.set, self.ended)

    @property
    def unprocessed(self) -> bool:
        assert isinstance(self.unary.error, CallInterrupted)
        return self.unary.error.unprocessed


def test_a_stream_that_may_not_be_sent_is_not_opened_and_keeps_its_place() -> None:
    exchange, guard = Exchange(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 0}), Guard()
    exchange.settle()
    first, second = exchange.request(b"first"), exchange.request(b"second")
    first.may_send = guard
    guard.open = False
    exchange.change_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    exchange.settle()
    assert (first.id, second.id) == (0, 1)
    third = exchange.request(b"third")
    guard.open = True
    exchange.client.reset_stream(second)
    exchange.settle()
    assert (first.id, third.id) == (3, 0)
    assert bytes(exchange.bodies[3]) == b"first"


def test_of_a_stream_that_may_be_sent_no_longer_no_more_is_sent() -> None:
    exchange, guard = Exchange(), Guard()
    exchange.acknowledging = False
    exchange.settle()
    guarded = exchange.request(LARGE)
    guarded.may_send = guard
    exchange.settle()
    had = len(exchange.bodies[guarded.id])
    guard.open = False
    exchange.acknowledge()
    other = exchange.request(b"other")
    exchange.settle()
    assert 0 < had == len(exchange.bodies[guarded.id])
    assert other.sent
    assert not guarded.sent


@pytest.mark.parametrize("kind", ["memory", "tls", "tcp"])
async def test_only_calls_that_were_handed_over_outlive_the_retirement(kind: str) -> None:
    server, guard = H2Server(acknowledging=False), Guard()
    server.on_request = H2Server.hang
    async with connected(kind, server) as (connection, _):
        connection.guard = lambda fields: guard
        assert not connection.holds_unsent
        with trio.fail_after(20):
            handed_over, unguarded = Made(connection), Made(connection, unguarded=True)
            await server.wait(lambda: len(server.bodies) == 2 and all(server.bodies.values()))
            assert not connection.holds_unsent
            half_sent = Made(connection, LARGE)
            await server.wait(lambda: len(server.bodies.get(5, b"")) > 50_000)
            server.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 3})
            await server.flush()
            await wait_all_tasks_blocked(0.01)
            waiting = Made(connection)
            assert connection.holds_unsent
            connection.retire_unsent("enough")
            assert (half_sent.unprocessed, waiting.unprocessed, unguarded.unprocessed) == (False, True, False)
            assert handed_over.unary.error is None
            assert connection.loss is not None
            assert (connection.loss.cause, connection.accepts_calls) == (EndCause.RETIRED, False)
            await server.wait(lambda: set(server.sent_resets) == {3, 5})
            server.answer(1, bytes(server.bodies[1]))
            await server.flush()
            await handed_over.ended.wait()
            assert handed_over.unary.answer().message == b"secret"
            for each in (handed_over, half_sent, waiting, unguarded):
                each.unary.leave()
            await connection.wait_idle()


async def test_where_the_writer_is_stuck_the_connection_ends(nursery: trio.Nursery) -> None:
    ours, _ = lockstep_stream_pair()
    connection = Connection(ours)
    connection.guard = lambda fields: Guard()
    made = Made(connection)
    nursery.start_soon(connection.run)
    await wait_all_tasks_blocked()
    assert made.unary.handed_over  # to the writer
    assert connection.holds_unsent
    connection.retire_unsent("enough")
    assert connection.lost
    assert isinstance(made.unary.error, CallInterrupted)
    assert not made.unprocessed
