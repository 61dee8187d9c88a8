"""Streams over TCP and in memory, and a network that connects to allowed addresses only."""

from __future__ import annotations

import errno
import ipaddress
import math
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio

from trio_model_runner.network import MemoryNetwork, Network, RestrictedNetwork, TCPNetwork

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


class Names(trio.abc.HostnameResolver):
    """Knows the addresses of some names."""

    def __init__(self, **names: list[str]) -> None:
        self.asked = 0
        self._names = names

    async def getaddrinfo(self, host: Any, port: Any, family: int = 0, *more: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        name = host.decode() if isinstance(host, bytes) else host
        if name not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(family, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in self._names[name]]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


@pytest.fixture
async def names() -> Any:
    resolver = Names(
        node=["10.1.2.3"], two=["10.1.2.3", "10.1.2.4"], mixed=["10.1.2.3", "127.0.0.1"], local=["127.0.0.1"]
    )
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver


def restricted(network: Network, *allowed: str) -> RestrictedNetwork:
    return RestrictedNetwork(network, [ipaddress.ip_network(text) for text in allowed])


async def test_a_host_is_reached_at_the_very_address_that_was_looked_at(names: Names) -> None:
    network = MemoryNetwork()
    network.listen("10.1.2.3", 1)
    network.listen("node", 1)
    await restricted(network, "10.0.0.0/8").connect("node", 1)
    assert names.asked == 1
    await restricted(network, "192.168.0.0/16", "10.1.2.3/32").connect("10.1.2.3", 1)
    assert names.asked == 1


async def test_the_next_address_is_tried_when_nobody_answers_at_one(names: Names) -> None:
    network = MemoryNetwork()
    with pytest.raises(ConnectionRefusedError, match=r"10\.1\.2\.4:1"):
        await restricted(network, "10.0.0.0/8").connect("two", 1)
    network.listen("10.1.2.4", 1)
    await restricted(network, "10.0.0.0/8").connect("two", 1)


async def test_an_address_that_swallows_connections_costs_the_next_one_little(
    names: Names, autojump_clock: trio.testing.MockClock
) -> None:
    class Swallowing(MemoryNetwork):
        async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
            if host == "10.1.2.3":
                await trio.sleep_forever()
            return await super().connect(host, port)

    network = Swallowing()
    network.listen("10.1.2.4", 1)
    await restricted(network, "10.0.0.0/8").connect("two", 1)
    assert trio.current_time() < 5


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("local", "127.0.0.1"),
        ("mixed", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ("169.254.169.254", "169.254.169.254"),
    ],
)
async def test_a_host_with_an_address_elsewhere_is_refused(names: Names, host: str, address: str) -> None:
    network = MemoryNetwork()
    for each in {"127.0.0.1", "10.1.2.3", "::1", host}:
        network.listen(each, 1)
    with pytest.raises(PermissionError, match=f"{address} is in no allowed network"):
        await restricted(network, "10.0.0.0/8", "fd00::/8").connect(host, 1)


async def test_an_ipv4_address_in_ipv6_form_is_that_ipv4_address() -> None:
    network = MemoryNetwork()
    network.listen("::ffff:10.1.2.3", 1)
    await restricted(network, "10.0.0.0/8").connect("::ffff:10.1.2.3", 1)


async def test_an_address_with_a_zone_is_allowed_by_the_address_and_reached_in_the_zone() -> None:
    network = MemoryNetwork()
    zone = socket.if_nametoindex("lo")
    network.listen(f"fe80::1%{zone}", 1)
    await restricted(network, "fe80::/10").connect("fe80::1%lo", 1)
    with pytest.raises(PermissionError, match=rf"fe80::1%lo\]:1: fe80::1%{zone} is in no allowed network"):
        await restricted(network, "fd00::/8").connect("fe80::1%lo", 1)


async def test_a_name_that_nobody_knows_is_an_error_of_the_network(names: Names) -> None:
    with pytest.raises(OSError, match="no such name"):
        await restricted(MemoryNetwork(), "10.0.0.0/8").connect("unknown", 1)


async def test_a_restricted_tcp_stream(nursery: trio.Nursery) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, echo, [listener])
    await assert_echoed(
        restricted(TCPNetwork(), "127.0.0.0/8"), "127.0.0.1", listener.socket.getsockname()[1]
    )


def test_a_restricted_network_is_as_secure_as_what_is_beneath() -> None:
    class Secure(MemoryNetwork):
        secure = True

    assert restricted(Secure(), "10.0.0.0/8").secure
    assert not restricted(MemoryNetwork(), "10.0.0.0/8").secure
