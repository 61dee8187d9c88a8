from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Any

import pytest
import trio

from trio_model_runner.network import MemoryNetwork, Network, TCPNetwork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def echo(stream: trio.abc.Stream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)


async def assert_echoed(network: Network, host: str, port: int) -> None:
    async with await network.connect(host, port) as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def test_a_tcp_stream(nursery: trio.Nursery) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, echo, [listener])
    await assert_echoed(TCPNetwork(), "127.0.0.1", listener.socket.getsockname()[1])


async def test_nobody_listens_on_a_tcp_port() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(OSError, match=str(port)):
        await TCPNetwork().connect("127.0.0.1", port)


@pytest.mark.parametrize("delay", [0, -1, math.inf, "soon"])
def test_a_delay_between_addresses_is_positive_and_finite(delay: Any) -> None:
    with pytest.raises(ValueError, match=r"happy_eyeballs_delay|soon"):
        TCPNetwork(delay)


def test_tcp_networks_compare_by_value() -> None:
    assert TCPNetwork(1) == TCPNetwork(1.0)
    assert TCPNetwork() != TCPNetwork(1)


async def test_a_memory_stream(nursery: trio.Nursery) -> None:
    network = MemoryNetwork()
    nursery.start_soon(trio.serve_listeners, echo, [network.listen("node.example", 50051)])
    await assert_echoed(network, "node.example", 50051)
    await assert_echoed(network, "node.example", 50051)


async def test_nobody_listens_in_memory() -> None:
    network = MemoryNetwork()
    network.listen("a", 1)
    for host, port in (("a", 2), ("b", 1)):
        with pytest.raises(ConnectionRefusedError, match=f"{host}:{port}"):
            await network.connect(host, port)


def test_a_memory_address_is_listened_on_once() -> None:
    network = MemoryNetwork()
    network.listen("a", 1)
    network.listen("b", 1)
    with pytest.raises(OSError, match="a:1") as caught:
        network.listen("a", 1)
    assert caught.value.errno == errno.EADDRINUSE


def test_free_ports_differ() -> None:
    network = MemoryNetwork()
    assert len({network.listen().port for _ in range(10)}) == 10


async def closed_by_close(listener: Any) -> None:
    listener.close()
    await trio.lowlevel.checkpoint()


async def closed_by_aclose(listener: Any) -> None:
    await listener.aclose()


@pytest.mark.parametrize("close", [closed_by_close, closed_by_aclose])
async def test_a_closed_listener_refuses_and_can_be_replaced(close: Callable[[Any], Awaitable[None]]) -> None:
    network = MemoryNetwork()
    listener = network.listen("a", 1)
    await close(listener)
    with pytest.raises(ConnectionRefusedError):
        await network.connect("a", 1)
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    network.listen("a", 1)
    await network.connect("a", 1)


async def test_closing_a_listener_ends_whoever_accepts() -> None:
    listener = MemoryNetwork().listen()

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked()
        listener.close()


async def test_memory_streams_do_not_block_a_sender() -> None:
    network = MemoryNetwork()
    listener = network.listen("a", 1)
    ours = await network.connect("a", 1)
    await ours.send_all(bytes(10_000_000))
    theirs = await listener.accept()
    received = 0
    while received < 10_000_000:
        received += len(await theirs.receive_some())
    await ours.aclose()
    assert await theirs.receive_some() == b""
