"""Reading from many sockets in one task, on real sockets."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from helpers.h2_server import H2Server, serving

from trio_model_runner.rpc.connecting import open_connection
from trio_model_runner.rpc.reader import SocketHub, Want, let_readers_catch_up, read_until_end

pytestmark = pytest.mark.skipif(not SocketHub.available(), reason="epoll is Linux's")


@asynccontextmanager
async def running_hub() -> AsyncIterator[SocketHub]:
    hub = SocketHub()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hub.run)
        yield hub
        nursery.cancel_scope.cancel()


async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Two ends of a TCP connection."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return ours, await listener.accept()


class Reading:
    """What was read from one socket, and how that ended."""

    def __init__(self, enough: int = 1 << 30) -> None:
        self.data = b""
        self.error: BaseException | None = None
        self.at_end = False
        self.ended = trio.Event()
        self._enough = enough

    async def read(self, stream: trio.SocketStream, hub: SocketHub) -> None:
        try:
            await read_until_end(stream, self, hub)
        except (trio.BrokenResourceError, ZeroDivisionError) as error:
            self.error = error
        self.ended.set()

    def take_in(self, data: bytes) -> Want:
        if data == b"divide by zero":
            raise ZeroDivisionError
        self.data += data
        return Want.BYTES if len(self.data) < self._enough else Want.NOTHING

    def end(self) -> None:
        self.at_end = True


async def test_each_socket_is_read_until_its_own_end() -> None:
    pairs = [await pair() for _ in range(20)]
    readings = [Reading() for _ in pairs]
    async with running_hub() as hub, trio.open_nursery() as nursery:
        for (ours, _), reading in zip(pairs, readings, strict=True):
            nursery.start_soon(reading.read, ours, hub)
        for number, (_, theirs) in enumerate(pairs):
            await theirs.send_all(bytes([number]) * 100_000)
            await theirs.aclose()
        for reading in readings:
            await reading.ended.wait()
    assert [reading.data for reading in readings] == [bytes([n]) * 100_000 for n in range(20)]
    assert not any(reading.error for reading in readings)
    assert all(reading.at_end for reading in readings)
    for ours, _ in pairs:
        await ours.aclose()


async def test_what_goes_wrong_on_one_socket_costs_no_other_one_anything() -> None:
    (good, friend), (broken, breaker), (wrong, joker), (full, giver) = [await pair() for _ in range(4)]
    at_good, at_broken, at_wrong, at_full = Reading(), Reading(), Reading(), Reading(enough=5)
    async with running_hub() as hub, trio.open_nursery() as nursery:
        for reading, stream in ((at_good, good), (at_broken, broken), (at_wrong, wrong), (at_full, full)):
            nursery.start_soon(reading.read, stream, hub)
        await trio.testing.wait_all_tasks_blocked()
        breaker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await breaker.aclose()
        await joker.send_all(b"divide by zero")
        await giver.send_all(b"enough of this")
        for reading in (at_broken, at_wrong, at_full):
            await reading.ended.wait()
        await friend.send_all(b"still here")
        await friend.aclose()
        await at_good.ended.wait()
    assert at_good.data == b"still here"
    assert isinstance(at_broken.error, trio.BrokenResourceError)
    assert isinstance(at_wrong.error, ZeroDivisionError)
    assert (at_full.error, at_full.data) == (None, b"enough of this")
    for stream in (good, broken, wrong, joker, full, giver):
        await stream.aclose()


async def test_who_is_cancelled_is_not_read_for_any_more() -> None:
    ours, theirs = await pair()
    reading = Reading()
    async with running_hub() as hub:
        with trio.move_on_after(0):
            await reading.read(ours, hub)
        await theirs.send_all(b"too late")
        await trio.testing.wait_all_tasks_blocked()
        assert reading.data == b""
        again = Reading(enough=1)
        await again.read(ours, hub)
        assert again.data == b"too late"
    await ours.aclose()
    await theirs.aclose()


async def test_a_hub_that_has_ended_reads_no_more() -> None:
    ours, theirs = await pair()
    async with running_hub() as hub:
        pass
    with pytest.raises(trio.ClosedResourceError):
        await read_until_end(ours, Reading(), hub)
    await ours.aclose()
    await theirs.aclose()


class Slow:
    """A consumer that takes a byte in each turn, and notes in `turns` when it had one."""

    def __init__(self, name: str, turns: list[str]) -> None:
        self._name = name
        self._turns = turns
        self._left = 0

    def take_in(self, data: bytes) -> Want:
        self._turns.append(self._name)
        self._left += len(data) - 1
        return Want.TURN if self._left else Want.BYTES

    def end(self) -> None:
        self._turns.append("end")


async def test_between_two_turns_of_one_socket_every_other_ready_one_has_had_one() -> None:
    turns: list[str] = []
    pairs = {name: await pair() for name in "abc"}
    async with running_hub() as hub, trio.open_nursery() as nursery:
        for name, (ours, _) in pairs.items():
            nursery.start_soon(read_until_end, ours, Slow(name, turns), hub)
        await trio.testing.wait_all_tasks_blocked()
        for _, theirs in pairs.values():
            os.write(theirs.socket.fileno(), b"x" * 50)
        while len(turns) < 150:
            await trio.lowlevel.checkpoint()
        for _, theirs in pairs.values():
            await theirs.aclose()
    first = turns[:150]
    assert all(set(first[index : index + 3]) == set("abc") for index in range(0, 150, 3))
    assert turns[150:] == ["end"] * 3
    for ours, _ in pairs.values():
        await ours.aclose()


@pytest.mark.parametrize("in_hub", [True, False])
async def test_other_tasks_run_between_two_turns(in_hub: bool) -> None:
    turns: list[str] = []
    ours, theirs = await pair()

    async def run_along() -> None:
        while len(turns) < 50:
            await trio.lowlevel.checkpoint()
            turns.append("task")

    async with running_hub() as hub, trio.open_nursery() as nursery:
        await theirs.send_all(b"x" * 50)
        await theirs.aclose()
        nursery.start_soon(read_until_end, ours, Slow("a", turns), hub if in_hub else None)
        nursery.start_soon(run_along)
    assert max(len(run) for run in "".join(turn[0] for turn in turns[:50]).split("t")) <= 2
    await ours.aclose()


async def test_who_leaves_in_mid_turn_is_not_given_another_one() -> None:
    turns: list[str] = []
    ours, theirs = await pair()
    async with running_hub() as hub:
        await theirs.send_all(b"x" * 50)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_until_end, ours, Slow("a", turns), hub)
                while not turns:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        had = len(turns)
        await trio.testing.wait_all_tasks_blocked()
    assert len(turns) == had < 50
    await ours.aclose()
    await theirs.aclose()


async def test_a_connection_is_read_by_the_hub_that_it_was_given() -> None:
    """One that has ended reads nothing for it."""
    async with running_hub() as hub:
        pass
    async with serving("tcp", H2Server()) as address, trio.open_nursery() as nursery:
        with pytest.raises(ConnectionError, match="nobody reads here"):
            await open_connection(nursery, address.network, address.host, address.port, hub=hub)


@pytest.mark.parametrize("in_hub", [True, False])
async def test_a_consumer_is_told_of_the_end_where_a_connection_breaks(in_hub: bool) -> None:
    ours, theirs = await pair()
    reading = Reading()
    async with running_hub() as hub, trio.open_nursery() as nursery:
        nursery.start_soon(reading.read, ours, hub if in_hub else None)
        await trio.testing.wait_all_tasks_blocked()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await theirs.aclose()
        await reading.ended.wait()
    assert isinstance(reading.error, trio.BrokenResourceError)
    assert reading.at_end
    await ours.aclose()


async def test_a_consumer_is_told_of_the_end_of_any_stream() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    reading = Reading()
    await theirs.send_all(b"all")
    await theirs.aclose()
    await read_until_end(ours, reading, None)
    assert (reading.data, reading.at_end) == (b"all", True)


async def test_who_lets_readers_catch_up_waits_for_a_task_beneath_too() -> None:
    """One pass to see what a socket has, one for who reads it, and one for whom that one wakes."""
    ours, theirs = await pair()
    caught_up: list[int] = []

    async def read(event: trio.Event) -> None:
        await trio.lowlevel.wait_readable(ours.socket)
        event.set()

    async def wait(event: trio.Event, number: int) -> None:
        await event.wait()
        caught_up.append(number)

    for number in range(20):  # in each pass, tasks have their turns in any order
        async with trio.open_nursery() as nursery:
            event = trio.Event()
            nursery.start_soon(read, event)
            nursery.start_soon(wait, event, number)
            await trio.testing.wait_all_tasks_blocked()
            os.write(theirs.socket.fileno(), b"x")
            await let_readers_catch_up()
            assert caught_up[-1:] == [number]
        os.read(ours.socket.fileno(), 1)
    await ours.aclose()
    await theirs.aclose()
