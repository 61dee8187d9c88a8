"""Reading from many sockets in one task, on real sockets."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_model_runner.rpc.reader import SocketHub, read_until_end

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
        self.ended = trio.Event()
        self._enough = enough

    async def read(self, stream: trio.SocketStream, hub: SocketHub) -> None:
        try:
            await read_until_end(stream, self.take, hub)
        except (trio.BrokenResourceError, ZeroDivisionError) as error:
            self.error = error
        self.ended.set()

    def take(self, data: bytes) -> bool:
        if data == b"divide by zero":
            raise ZeroDivisionError
        self.data += data
        return bool(data) and len(self.data) < self._enough


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
        await read_until_end(ours, Reading().take, hub)
    await ours.aclose()
    await theirs.aclose()
