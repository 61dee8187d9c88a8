"""Cuts in a network in memory: bytes vanish, nobody is told, and all arrives when the cut has ended."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
import trio
from helpers.coordinating import Model, coordinating, until
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Status
from trio_model_runner.network import Direction, MemoryNetwork
from trio_model_runner.network.black_holes import SEND_BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BOTH_WAYS = [Direction.TO_SERVER, Direction.TO_CLIENT]


async def connected(network: MemoryNetwork, host: str = "node", port: int = 1) -> tuple[Any, Any]:
    """A new connection to a new listener: the client's end and the server's."""
    listener = network.listen(host, port)
    client = await network.connect(host, port)
    return client, await listener.accept()


def ends(direction: Direction, client: Any, server: Any) -> tuple[Any, Any]:
    """Who sends in this direction, and who receives."""
    return (client, server) if direction is Direction.TO_SERVER else (server, client)


async def receives_nothing(stream: Any, seconds: float = 1000) -> None:
    with trio.move_on_after(seconds) as waiting:
        data = await stream.receive_some()
        raise AssertionError(f"{data!r} has arrived")
    assert waiting.cancelled_caught


async def received(stream: Any, size: int) -> bytes:
    """Exactly so many bytes, which must have arrived already."""
    data = b""
    with trio.fail_after(0.001):
        while len(data) < size:
            data += await stream.receive_some(size - len(data))
    return data


async def waits(function: Callable[..., Awaitable[object]], *args: Any, seconds: float = 1000) -> None:
    """It waits, and can be cancelled."""
    with trio.move_on_after(seconds) as waiting:
        await function(*args)
        raise AssertionError("it did not wait")
    assert waiting.cancelled_caught


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_bytes_arrive_late_and_in_order(autojump_clock: MockClock, way: Direction) -> None:
    network = MemoryNetwork()
    sender, receiver = ends(way, *await connected(network))
    await sender.send_all(b"0")
    with network.cut("node"):
        assert await received(receiver, 1) == b"0"  # what has arrived before can be read
        for number in range(1, 9):
            await sender.send_all(b"%d" % number)
        await receives_nothing(receiver)
    await sender.send_all(b"9")
    assert await received(receiver, 9) == b"123456789"


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_one_direction_only(autojump_clock: MockClock, way: Direction) -> None:
    network = MemoryNetwork()
    sender, receiver = ends(way, *await connected(network))
    with network.cut("node", direction=way):
        await sender.send_all(b"lost")
        await receives_nothing(receiver)
        await receiver.send_all(b"here")
        assert await received(sender, 4) == b"here"
    assert await received(receiver, 4) == b"lost"


@pytest.mark.parametrize("way", [*BOTH_WAYS, Direction.BOTH])
async def test_connecting_waits_until_restored(autojump_clock: MockClock, way: Direction) -> None:
    network = MemoryNetwork()
    listener = network.listen("node", 1)
    streams: list[Any] = []

    async def connect() -> None:
        streams.append(await network.connect("node", 1))

    async with trio.open_nursery() as nursery:
        with network.cut("node", direction=way):
            nursery.start_soon(connect)
            await waits(listener.accept)
            assert not streams
    server = await listener.accept()
    await streams[0].send_all(b"hello")
    assert await received(server, 5) == b"hello"


async def test_a_refusal_is_not_heard_either(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    with network.cut("node"):
        await waits(network.connect, "node", 1)
    with pytest.raises(ConnectionRefusedError):
        await network.connect("node", 1)


async def test_a_cancelled_attempt_to_connect_leaves_nothing(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    listener = network.listen("node", 1)
    with network.cut("node"):
        await waits(network.connect, "node", 1)
    await waits(listener.accept)


@pytest.mark.parametrize("way", BOTH_WAYS)
async def test_a_close_is_unheard_until_restored(autojump_clock: MockClock, way: Direction) -> None:
    network = MemoryNetwork()
    sender, receiver = ends(way, *await connected(network))
    with network.cut("node", direction=way):
        await sender.send_all(b"last words")
        await sender.aclose()
        await receives_nothing(receiver)
        await receiver.send_all(b"are you there?")  # the answer, a reset, is lost
    assert await received(receiver, 10) == b"last words"
    assert await receiver.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await receiver.send_all(b"are you there?")


async def test_an_end_of_one_side_alone_is_unheard_until_restored(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    with network.cut("node"):
        await client.send_eof()
        await receives_nothing(server)
    assert await server.receive_some() == b""
    await server.send_all(b"answer")
    assert await received(client, 6) == b"answer"


async def test_a_forgotten_end_is_heard_of_all_the_same(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    with network.cut("node"):
        await client.send_all(b"last words")
        await client.aclose()
        del client
        gc.collect()
    assert await received(server, 10) == b"last words"
    assert await server.receive_some() == b""


@pytest.mark.parametrize("way", [*BOTH_WAYS, Direction.BOTH])
async def test_a_full_buffer_blocks_whoever_sends(autojump_clock: MockClock, way: Direction) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    sent: list[int] = []

    async def send() -> None:
        for size in (SEND_BUFFER_BYTES, 100):
            await client.send_all(bytes(size))
            sent.append(size)

    async with trio.open_nursery() as nursery:
        with network.cut("node", direction=way):
            nursery.start_soon(send)
            await trio.sleep(1000)
            assert sent == [SEND_BUFFER_BYTES]
    assert sent == [SEND_BUFFER_BYTES, 100]
    await received(server, SEND_BUFFER_BYTES + 100)


@pytest.mark.parametrize("way", [*BOTH_WAYS, Direction.BOTH])
async def test_who_is_cancelled_has_sent_what_the_buffer_holds(
    autojump_clock: MockClock, way: Direction
) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    with network.cut("node", direction=way):
        await client.send_all(b"begin")
        await waits(client.send_all, bytes(SEND_BUFFER_BYTES))
        await waits(client.send_all, b"more")
    await client.send_all(b"end")
    await client.aclose()
    data = await received(server, SEND_BUFFER_BYTES + 3)
    assert data == b"begin" + bytes(SEND_BUFFER_BYTES - 5) + b"end"
    assert await server.receive_some() == b""


@pytest.mark.parametrize("way", [*BOTH_WAYS, Direction.BOTH])
async def test_a_buffer_is_free_again_after_each_cut(autojump_clock: MockClock, way: Direction) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    for _ in range(3):
        with network.cut("node", direction=way), trio.fail_after(1):
            await client.send_all(bytes(SEND_BUFFER_BYTES))
        await received(server, SEND_BUFFER_BYTES)


@pytest.mark.parametrize("way", [*BOTH_WAYS, Direction.BOTH])
async def test_closing_ends_whoever_sends(autojump_clock: MockClock, way: Direction) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await client.send_all(bytes(SEND_BUFFER_BYTES + 1))

    async with trio.open_nursery() as nursery:
        with network.cut("node", direction=way):
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            client.send_stream.close()  # the other task runs only when the cut has ended
    await received(server, SEND_BUFFER_BYTES)
    assert await server.receive_some() == b""


async def test_an_end_is_heard_though_nothing_is_acknowledged(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    with network.cut("node", direction=Direction.TO_CLIENT):
        await waits(client.send_all, bytes(SEND_BUFFER_BYTES + 1))
        await client.aclose()
        await received(server, SEND_BUFFER_BYTES)
        assert await server.receive_some() == b""


async def test_who_sends_to_a_closed_end_learns_it_when_restored(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(bytes(SEND_BUFFER_BYTES + 1))

    async with trio.open_nursery() as nursery:
        with network.cut("node", direction=Direction.TO_SERVER):
            await client.aclose()
            nursery.start_soon(send)
            await trio.sleep(1000)
            assert nursery.child_tasks


async def test_a_subset_only(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    places = [("a", 1), ("b", 1), ("b", 2), ("c", 1), ("c", 2), ("d", 1)]
    servers = {}
    for host, port in places:
        client, servers[host, port] = await connected(network, host, port)
        await client.send_all(b"0")
        assert await received(servers[host, port], 1) == b"0"
    listener = network.listen("e", 1)

    async def is_cut(host: str, port: int) -> bool:
        with trio.move_on_after(1):
            await network.connect(host, port)
            return False
        return True

    with network.cut("a", ("b", 2), listener):
        cut = {(host, port) for host, port in [*places, ("e", 1)] if await is_cut(host, port)}
    assert cut == {("a", 1), ("b", 2), ("e", 1)}


async def test_everything_is_cut_and_what_comes_later_too(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    with network.cut_everything():
        await client.send_all(b"late")
        await receives_nothing(server)
        network.listen("new", 1)
        await waits(network.connect, "new", 1)
    assert await received(server, 4) == b"late"
    await network.connect("new", 1)


def test_to_cut_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="nothing to cut"):
        MemoryNetwork().cut()


async def test_restoring_twice_is_harmless(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    cut = network.cut("node")
    await client.send_all(b"late")
    cut.restore()
    cut.restore()
    assert await received(server, 4) == b"late"
    with network.cut("node"):
        cut.restore()  # ends no other cut
        await client.send_all(b"later")
        await receives_nothing(server)
    assert await received(server, 5) == b"later"


async def test_cuts_that_overlap_end_with_the_last_one(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    client, server = await connected(network)
    whole, to_server = network.cut("node"), network.cut(("node", 1), direction=Direction.TO_SERVER)
    await client.send_all(b"to server")
    await server.send_all(b"to client")
    whole.restore()
    assert await received(client, 9) == b"to client"
    await receives_nothing(server)
    to_server.restore()
    assert await received(server, 9) == b"to server"


async def test_a_model_behind_a_cut_times_out_and_others_do_not(autojump_clock: MockClock) -> None:
    async with coordinating({name: Model() for name in "abc"}, timeout=2) as (crunch, cluster):
        assert crunch.network is not None
        with crunch.network.cut(crunch.node("a"), crunch.node("b"), direction=Direction.TO_CLIENT):
            results = (await cluster.call("tick")).by_id
        assert [results[name].status for name in "abc"] == [Status.TIMEOUT, Status.TIMEOUT, Status.SUCCESS]
        assert [crunch.node(name).call_count for name in "abc"] == [1, 1, 1]  # the requests came through
        results = (await cluster.call("predict", sit_out=False)).by_id
        assert [results[name].value for name in "abc"] == [1.5, 1.5, 1.5]


async def test_half_an_orchestrator(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        assert crunch.network is not None
        with crunch.network.cut(crunch.orchestrator, direction=Direction.TO_CLIENT):
            await crunch.add("b", Model())
            await trio.sleep(1)
            assert set(cluster.announced) == {"a"}
            assert crunch.orchestrator.connections == 1
            assert (await cluster.call("tick")).by_id["a"].status is Status.SUCCESS
        await until(cluster, lambda: "b" in cluster.models)


async def test_a_node_that_dies_in_a_cut_is_not_heard_of(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, timeout=2) as (crunch, cluster):
        assert crunch.network is not None
        with crunch.network.cut_everything():
            await crunch.crash("a")
            await trio.sleep(1)
            assert set(cluster.models) == {"a"}
        await until(cluster, lambda: not cluster.models)
