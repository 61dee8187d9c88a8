"""Ways to a server: IPv4, IPv6, UNIX sockets, hosts with dead addresses, and many attempts."""

from __future__ import annotations

import itertools
import random
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from grpclib.const import Cardinality
from helpers.channel_servers import (
    ANSWER,
    CALL,
    answering_server,
    grpcio_server,
    h2_channel,
    hanging_server,
    unary,
)
from helpers.h2_server import frame, serving
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.channel import Channel
from trio_model_runner.channel.keeper import reconnect_delays
from trio_model_runner.network import MemoryNetwork, TCPNetwork, UnixNetwork
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub

if TYPE_CHECKING:
    from pathlib import Path

    from trio_model_runner.rpc.connection import Connection


def ipv6_works() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6_works(), reason="this machine has no IPv6 loopback")
async def test_a_server_with_an_ipv6_address() -> None:
    with grpcio_server(address="[::1]:0", Call=unary(lambda request, context: ANSWER)) as port:
        async with Channel("::1", port) as channel:
            assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == ANSWER
            fields = (await channel._route.begin(CALL)).fields("x")
            assert dict(fields)[b":authority"] == b"[::1]:%d" % port


@pytest.mark.parametrize("as_text", [False, True])
async def test_a_server_on_a_unix_socket(tmp_path: Path, as_text: bool) -> None:
    path = tmp_path / "socket"
    with grpcio_server(address=f"unix:{path}", Call=unary(lambda request, context: ANSWER)):
        async with Channel(path=str(path) if as_text else path) as channel:
            async with channel.request(CALL, Cardinality.UNARY_UNARY, CallRequest, CallResponse) as stream:
                await stream.send_message(CallRequest(method_name="x" * 1_000_000))
                assert await stream.recv_message() == ANSWER
                assert stream.peer.addr() == str(path)
            assert repr(channel) == f"Channel(path={str(path)!r})"


async def test_a_unix_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere"):
        await UnixNetwork(str(tmp_path / "nowhere")).connect("", 0)


@pytest.mark.parametrize("other", [{"host": "a"}, {"port": 1}, {"network": MemoryNetwork()}])
def test_a_path_excludes_other_ways(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="path"):
        Channel(path="socket", **other)


def test_a_certificates_name_needs_tls() -> None:
    with pytest.raises(ValueError, match="server_hostname"):
        Channel(server_hostname="node.example")


class Resolver(trio.abc.HostnameResolver):
    """Knows one host, with these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, int(port))) for each in self.addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize("silent", [False, True])
async def test_the_first_of_a_hosts_addresses_may_be_dead(silent: bool) -> None:
    """It refuses, or it says nothing at all, which is what a socket with a full backlog does."""
    server = answering_server()
    async with serving("tcp", server) as address:
        with socket.socket() as dead, socket.socket() as filling, socket.socket() as filling_too:
            dead.bind(("127.0.0.2", address.port))
            if silent:
                dead.listen(0)
                for each in (filling, filling_too):
                    each.setblocking(False)
                    each.connect_ex(dead.getsockname())
            trio.socket.set_custom_hostname_resolver(Resolver("127.0.0.2", "127.0.0.1"))
            try:
                with trio.fail_after(30):
                    async with Channel("node", address.port, network=TCPNetwork(0.01)) as channel:
                        assert await DynamicSubclassServiceStub(channel).call(CallRequest()) == ANSWER
            finally:
                trio.socket.set_custom_hostname_resolver(None)


# Attempts


def test_delays_grow_to_a_limit_and_scatter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    delays = reconnect_delays()
    longest = [next(delays) for _ in range(12)]
    monkeypatch.setattr(random, "uniform", lambda low, high: low)
    delays = reconnect_delays()
    shortest = [next(delays) for _ in range(12)]
    assert [round(each / 1.25, 9) for each in longest] == [round(each / 0.75, 9) for each in shortest]
    assert [round(each / 1.25, 9) for each in longest[:4]] == [0.1, 0.2, 0.4, 0.8]
    assert longest[-1] == 12.5


class Flaky(MemoryNetwork):
    """Refuses a number of times.

    Attributes:
        attempts: when it was asked, in seconds.
    """

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals
        self.attempts: list[float] = []

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        await trio.lowlevel.checkpoint()
        self.attempts.append(trio.current_time())
        if len(self.attempts) <= self.refusals:
            raise ConnectionRefusedError("not yet")
        return await super().connect(host, port)


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)


async def test_a_call_that_waits_for_readiness_waits_through_failed_attempts(
    autojump_clock: MockClock, no_jitter: None
) -> None:
    network = Flaky(4)
    listener = network.listen("node")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answering_server(), [listener])
        async with Channel("node", listener.port, network=network, wait_for_ready=True) as channel:
            stub = DynamicSubclassServiceStub(channel)
            assert await stub.call(CallRequest(), timeout=100) == ANSWER
        nursery.cancel_scope.cancel()
    times = network.attempts
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.8])


async def test_a_call_that_waits_for_readiness_waits_no_longer_than_its_deadline(
    autojump_clock: MockClock, no_jitter: None
) -> None:
    network = Flaky(1000)
    async with Channel("node", 1, network=network, wait_for_ready=True) as channel:
        stub = DynamicSubclassServiceStub(channel)
        begun = trio.current_time()
        with pytest.raises(TimeoutError, match="deadline"):
            await stub.call(CallRequest(), timeout=25)
        assert trio.current_time() == begun + 25
    gap = network.attempts[-1] - network.attempts[-2]
    assert gap == pytest.approx(10)


async def test_a_call_that_does_not_wait_fails_with_the_attempt_it_shares_and_the_next_keeps_its_distance(
    autojump_clock: MockClock, no_jitter: None
) -> None:
    network = Flaky(2)
    listener = network.listen("node")
    async with trio.open_nursery() as outer:
        outer.start_soon(trio.serve_listeners, answering_server(), [listener])
        async with Channel("node", listener.port, network=network) as channel:
            stub = DynamicSubclassServiceStub(channel)

            async def fail() -> None:
                with pytest.raises(ConnectionRefusedError):
                    await stub.call(CallRequest())

            for _ in range(2):
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(fail)
            assert await stub.call(CallRequest()) == ANSWER
        outer.cancel_scope.cancel()
    assert len(network.attempts) == 3
    assert network.attempts[2] - network.attempts[1] == pytest.approx(0.2)


async def test_what_on_connect_raises_of_its_own_is_not_waited_through(autojump_clock: MockClock) -> None:
    async def on_connect(connection: Connection) -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("my own")

    async with h2_channel(answering_server(), on_connect=on_connect, wait_for_ready=True) as (_, stub):
        with pytest.raises(LookupError, match="my own"):
            await stub.call(CallRequest())


async def test_closing_ends_the_wait_between_attempts(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with Channel("node", 1, network=MemoryNetwork(), wait_for_ready=True) as channel:

            async def call() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await DynamicSubclassServiceStub(channel).call(CallRequest())

            nursery.start_soon(call)
            await trio.sleep(20)
            begun = trio.current_time()
        assert trio.current_time() == begun


async def test_a_server_that_objects_to_pings_is_asked_half_as_often(autojump_clock: MockClock) -> None:
    first, second, third = answering_server(), answering_server(), hanging_server()
    async with h2_channel(first, second, third, keepalive_interval=10, keepalive_timeout=5) as (
        channel,
        stub,
    ):
        for server, debug_data in ((first, b"something else"), (second, b"too_many_pings")):
            assert await stub.call(CallRequest()) == ANSWER
            await server.flush(frame(7, 0, 0, b"\x00\x00\x00\x01" + b"\x00\x00\x00\x0b" + debug_data))
            await server.ended.wait()
        await wait_all_tasks_blocked()
        with pytest.raises(TimeoutError):
            await stub.call(CallRequest(), timeout=100)
        assert third.pings in (3, 4)  # every 20 s; 8 or 9 would be every 10 s
        assert channel._keeper.keepalive_interval == 20


async def test_an_idle_connection_that_its_server_closes_costs_no_call() -> None:
    first, second = answering_server(), answering_server()
    async with h2_channel(first, second) as (_, stub):
        assert await stub.call(CallRequest()) == ANSWER
        assert first.stream is not None
        await first.stream.aclose()
        await wait_all_tasks_blocked()
        assert await stub.call(CallRequest()) == ANSWER
    assert len(second.bodies) == 1
