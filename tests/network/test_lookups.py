"""Names that never resolve keep neither Trio's threads nor good names waiting; see `network.lookups`."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Cluster, DynamicSubclassService
from trio_model_runner.config import Limits
from trio_model_runner.network import MemoryNetwork, Network, RestrictedNetwork, TCPNetwork, tcp
from trio_model_runner.network.lookups import Lookups, lookups, resolve
from trio_model_runner.network.tls import TLSNetwork
from trio_model_runner.testing import LocalCrunch

ask = socket.getaddrinfo


class SlowResolver:
    """Takes the place of the system's: names that begin with "h" have no answer until they are released.

    Attributes:
        asked: how often it was asked for which name.
        address: the answer for all names, if there is one.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.address: str | None = "127.0.0.1"
        self._released = threading.Event()
        self._changed = threading.Condition()
        self._running = 0

    def __call__(self, host: Any, port: Any, *arguments: Any, **named: Any) -> Any:
        if isinstance(host, str):  # from the event loop: Trio's own, or a question for an IP address
            return ask(host, port, *arguments, **named)
        name = host.decode()
        self._note(name, 1)
        try:
            if name.startswith("h"):
                assert self._released.wait(60)
            if self.address is None:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return ask(self.address, port, type=socket.SOCK_STREAM)
        finally:
            self._note(name, -1)

    def _note(self, name: str, change: int) -> None:
        with self._changed:
            self._running += change
            self.asked[name] += change > 0
            self._changed.notify_all()

    def wait_asked(self, count: int) -> None:
        """Wait until it has been asked for so many names. Nobody but threads can do that, so this blocks."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, 60)

    def release(self) -> None:
        """Answer all, what is asked later, too."""
        self._released.set()

    async def released(self) -> None:
        """Answer all that hangs, and let what is asked later hang again."""
        self._released.set()
        while lookups().running:
            await trio.lowlevel.checkpoint()
        self._released.clear()

    def close(self) -> None:
        """Leave no thread behind."""
        self._released.set()
        with self._changed:
            assert self._changed.wait_for(lambda: not self._running, 60)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowResolver]:
    resolver = SlowResolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.close()


async def failing(name: str) -> None:
    with pytest.raises(socket.gaierror):
        await resolve(name, 1)


async def asking_again(name: str) -> None:
    """Ask for a name until there is an answer, as one does for a model."""
    while True:
        with contextlib.suppress(socket.gaierror):
            await resolve(name, 1)
            return


async def begin(nursery: trio.Nursery, clock: MockClock, names: list[str]) -> Lookups:
    """Ask for names again and again, until no more look-ups begin."""
    for name in names:
        nursery.start_soon(asking_again, name)
    running = -1
    while lookups().running != running:
        running = lookups().running
        await wait_all_tasks_blocked()
        clock.jump(0.5)
        await wait_all_tasks_blocked()
    return lookups()


async def connecting(network: Network, name: str) -> None:
    with pytest.raises(OSError, match=r"all attempts|no allowed"):
        await network.connect(name, 1)


NETWORKS = [TCPNetwork(), RestrictedNetwork(MemoryNetwork(), [ipaddress.ip_network("10.0.0.0/8")])]


@pytest.mark.parametrize("network", NETWORKS, ids=["tcp", "restricted"])
async def test_names_that_hang_take_none_of_trios_threads(resolver: SlowResolver, network: Network) -> None:
    limiter = trio.to_thread.current_default_thread_limiter()
    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(connecting, network, f"h{number}.slow")
        await wait_all_tasks_blocked()
        resolver.wait_asked(16)
        assert limiter.borrowed_tokens == 0
        await connecting(network, "good")
        nursery.cancel_scope.cancel()


async def test_an_ip_address_asks_nobody(resolver: SlowResolver) -> None:
    for address in ("127.0.0.1", "::1", "::ffff:10.1.2.3"):
        assert await resolve(address, 1) == (address,)
    assert await resolve("fe80::1%lo", 1) == (f"fe80::1%{socket.if_nametoindex('lo')}",)
    assert await resolve("127.1", 1) == ("127.0.0.1",)
    assert not resolver.asked
    assert lookups().running == 0


async def test_a_name_has_one_look_up_for_all_who_ask(resolver: SlowResolver) -> None:
    answers = []

    async def asking() -> None:
        answers.append(await resolve("h.slow", 1))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(asking)
        await wait_all_tasks_blocked()
        resolver.release()
    assert answers == [("127.0.0.1",)] * 10
    assert resolver.asked == {"h.slow": 1}


async def test_each_who_asks_has_an_error_of_its_own(resolver: SlowResolver) -> None:
    resolver.address = None
    errors = []

    async def asking() -> None:
        with pytest.raises(socket.gaierror, match="no such name") as caught:
            await resolve("h.slow", 1)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(asking)
        await wait_all_tasks_blocked()
        resolver.release()
    assert errors[0] is not errors[1]
    assert {error.errno for error in errors} == {socket.EAI_NONAME}


async def test_a_look_up_is_given_up_and_its_answer_is_for_who_asks_next(
    resolver: SlowResolver, mock_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(too_late, "h.slow", r"'h\.slow': the name was not resolved within 5 s")
        await wait_all_tasks_blocked()
        mock_clock.jump(5)
    assert (lookups().running, lookups().hanging) == (1, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve, "h.slow", 1)  # finds it running
        await wait_all_tasks_blocked()
        resolver.release()
    assert await resolve("h.slow", 1) == ("127.0.0.1",)
    assert resolver.asked == {"h.slow": 1}
    assert (lookups().running, lookups().hanging) == (0, 0)
    mock_clock.jump(30)
    resolver.address = "127.0.0.2"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resolve, "h.slow", 1)
        await wait_all_tasks_blocked()
        resolver.release()
    assert resolver.asked == {"h.slow": 2}


async def too_late(name: str, text: str) -> None:
    with pytest.raises(socket.gaierror, match=text) as caught:
        await resolve(name, 1)
    assert caught.value.errno == socket.EAI_AGAIN


async def test_an_answer_is_used_for_a_second(resolver: SlowResolver, mock_clock: MockClock) -> None:
    for seconds, asked in ((0, 1), (0.9, 1), (0.2, 2)):
        mock_clock.jump(seconds)
        await TCPNetwork().look_up("good")
        assert resolver.asked["good"] == asked


@pytest.mark.parametrize(
    ("pattern", "most"), [("h{}", 128), ("h{}.slow", 103), ("h{}.b.slow", 86), ("h{}.a.b.c.d.slow", 64)]
)
async def test_threads_are_bounded_and_another_domain_goes_on(
    resolver: SlowResolver, mock_clock: MockClock, pattern: str, most: int
) -> None:
    async with trio.open_nursery() as nursery:
        found = await begin(nursery, mock_clock, [pattern.format(number) for number in range(150)])
        assert found.running == most
        resolver.wait_asked(most)
        if "." in pattern:
            assert await resolve("good.example", 1) == ("127.0.0.1",)
        same = f"good.{pattern.partition('.')[2]}".rstrip(".")
        nursery.start_soon(too_late, same, f"not looked up within 5 s, since {most} others have no answer")
        await wait_all_tasks_blocked()
        mock_clock.jump(5)
        await wait_all_tasks_blocked()
        assert found.hanging == most
        nursery.cancel_scope.cancel()
    await resolver.released()
    assert await resolve(same, 1) == ("127.0.0.1",)


async def test_a_sibling_domain_goes_on(resolver: SlowResolver, mock_clock: MockClock) -> None:
    """So it does after two, of which the later got what room was left."""
    async with trio.open_nursery() as nursery:
        for domain in ("bad.org", "evil.org"):
            found = await begin(nursery, mock_clock, [f"h{number}.{domain}" for number in range(100)])
        assert 86 < found.running < 103
        assert await resolve("node.good.org", 1) == ("127.0.0.1",)
        nursery.cancel_scope.cancel()


async def test_few_look_ups_run_at_a_time_unless_they_take_long(
    resolver: SlowResolver, mock_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(failing, f"h{number}.slow")
        for running in (16, 32, 40, 40):
            await wait_all_tasks_blocked()
            assert lookups().running == running
            mock_clock.jump(0.25)
        nursery.cancel_scope.cancel()


async def test_a_known_name_is_resolved_while_its_domain_is_full(
    resolver: SlowResolver, mock_clock: MockClock
) -> None:
    assert await resolve("orchestrator.slow", 1) == ("127.0.0.1",)
    async with trio.open_nursery() as nursery:
        await begin(nursery, mock_clock, [f"h{number}.slow" for number in range(120)])
        mock_clock.jump(1)
        assert await resolve("orchestrator.slow", 1) == ("127.0.0.1",)
        assert resolver.asked["orchestrator.slow"] == 2
        nursery.cancel_scope.cancel()


async def test_names_that_hung_leave_room_for_a_new_one(
    resolver: SlowResolver, mock_clock: MockClock
) -> None:
    resolver.address = None
    names = [f"h{number}.slow" for number in range(100)]
    async with trio.open_nursery() as nursery:
        assert (await begin(nursery, mock_clock, names)).running == 100
        mock_clock.jump(5)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await resolver.released()
    resolver.address = "127.0.0.1"
    async with trio.open_nursery() as nursery:
        assert (await begin(nursery, mock_clock, names)).running == 52
        assert await resolve("good.slow", 1) == ("127.0.0.1",)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("pattern", "half"), [("h{}.slow", 52), ("h{}", 64), ("h.x{}", 64)], ids=["domain", "none", "domains"]
)
@pytest.mark.parametrize(
    "seconds", [3, 4.75], ids=["later", "a moment before the others are asked for again"]
)
async def test_where_a_thousand_names_hang_there_is_room_for_a_new_one(
    resolver: SlowResolver, mock_clock: MockClock, pattern: str, half: int, seconds: float
) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(asking_again, pattern.format(number))
        while trio.current_time() < seconds:
            await wait_all_tasks_blocked()
            mock_clock.jump(0.25)
        await wait_all_tasks_blocked()
        assert half < lookups().running <= half + 10
        nursery.start_soon(resolve, "good.slow", 1)
        for _ in range(2):
            await wait_all_tasks_blocked()
            mock_clock.jump(0.25)
        await wait_all_tasks_blocked()
        resolver.wait_asked(lookups().running)
        assert resolver.asked["good.slow"] == 1
        nursery.cancel_scope.cancel()


async def test_who_gives_up_early_leaves_nothing_behind(
    resolver: SlowResolver, mock_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        found = await begin(nursery, mock_clock, [f"h{number}" for number in range(130)])
        assert found.running == 128
        nursery.cancel_scope.cancel()
    await resolver.released()
    assert len(resolver.asked) == 128  # two were never asked for


async def test_many_that_hang_are_logged_once(
    resolver: SlowResolver, mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    resolver.address = None
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await begin(nursery, mock_clock, [f"h{number}.slow" for number in range(20)])
            mock_clock.jump(5)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await resolver.released()
    (record,) = caplog.records
    assert "16 look-ups of host names have had no answer for 5 s" in record.getMessage()


async def test_without_a_thread_a_name_is_not_resolved(
    resolver: SlowResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(partial(resolve, f"h{number}.slow", 1))
        await wait_all_tasks_blocked()
        monkeypatch.setattr(trio.lowlevel, "start_thread_soon", refuse)
        with pytest.raises(OSError, match="'good' was not looked up: can't start new thread"):
            await resolve("good", 1)
        for number in range(2000):
            nursery.start_soon(failing_for_want_of_a_thread, f"g{number}")
        await wait_all_tasks_blocked()
        resolver.release()
    assert lookups().running == 0


async def failing_for_want_of_a_thread(name: str) -> None:
    with pytest.raises(OSError, match="can't start new thread"):
        await resolve(name, 1)


class Silent(trio.abc.HostnameResolver):
    """A resolver of the program's own, which never answers."""

    async def getaddrinfo(self, *arguments: object) -> Any:  # type: ignore[override]
        await trio.sleep_forever()

    async def getnameinfo(self, sockaddr: object, flags: int) -> Any:  # type: ignore[override]
        raise NotImplementedError


async def test_a_resolver_of_the_programs_own_is_asked_and_bounded(
    resolver: SlowResolver, autojump_clock: MockClock
) -> None:
    own = Silent()
    trio.socket.set_custom_hostname_resolver(own)
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="'good': the name was not resolved within 5 s"):
            await resolve("good", 1)
    assert trio.current_time() == 10
    assert trio.socket.set_custom_hostname_resolver(None) is own
    assert not resolver.asked


class Found(Silent):
    """A resolver that knows some addresses, for all names."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(self, *arguments: object) -> Any:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        return [(0, 0, 0, "", (each, 1)) for each in self.addresses]


async def test_a_resolver_that_finds_nothing_is_an_error_of_the_network() -> None:
    trio.socket.set_custom_hostname_resolver(Found())
    for network in (TCPNetwork(), RestrictedNetwork(MemoryNetwork(), [])):
        with pytest.raises(socket.gaierror, match="no address"):
            await network.connect("node", 1)


async def test_the_second_address_is_of_the_other_family(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def refuse(host: str, port: int) -> None:
        await trio.lowlevel.checkpoint()
        tried.append(host)
        raise OSError(f"{host} refuses")

    monkeypatch.setattr(tcp, "_connect", refuse)
    trio.socket.set_custom_hostname_resolver(Found("10.0.0.1", "10.0.0.2", "::1", "::2"))
    with pytest.raises(OSError, match="all attempts to connect to node:7 failed") as caught:
        await TCPNetwork().connect("node", 7)
    assert tried == ["10.0.0.1", "::1", "10.0.0.2", "::2"]
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert [str(each) for each in caught.value.__cause__.exceptions] == [f"{each} refuses" for each in tried]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_of_two_that_connect_at_a_time_no_other_stays_open(
    monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    opened: list[trio.SocketStream] = []
    both, scope = trio.Event(), trio.CancelScope()

    async def open_both(host: str, port: int) -> trio.SocketStream:
        stream = trio.SocketStream(trio.socket.socket())
        opened.append(stream)
        if len(opened) == 2:
            both.set()
        with trio.CancelScope(shield=True):
            await both.wait()
        if cancelled:
            scope.cancel()
        return stream

    monkeypatch.setattr(tcp, "_connect", open_both)
    trio.socket.set_custom_hostname_resolver(Found("10.0.0.1", "10.0.0.2"))
    with scope:
        async with await TCPNetwork(0.01).connect("node", 7) as stream:
            assert [each for each in opened if each.socket.fileno() >= 0] == [stream]
    assert len(opened) == 2
    assert all(each.socket.fileno() < 0 for each in opened)


async def test_networks_on_top_look_names_up_beneath(resolver: SlowResolver) -> None:
    context = ssl.create_default_context()
    await TLSNetwork(context, RestrictedNetwork(MemoryNetwork(), [])).look_up("good")
    assert resolver.asked["good"] == 1
    await TLSNetwork(context, MemoryNetwork()).look_up("other")
    assert not resolver.asked["other"]


class Unresolvable(MemoryNetwork):
    """A network in memory in which the names of some hosts are never resolved."""

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        await self.look_up(host)
        return await super().connect(host, port)

    async def look_up(self, host: str) -> None:
        if host.startswith("h"):
            await trio.sleep_forever()
        await super().look_up(host)


async def test_names_that_hang_use_up_no_turns_to_connect(autojump_clock: MockClock) -> None:
    async with LocalCrunch({}, network=Unresolvable()) as crunch:
        config = crunch.config(limits=Limits(max_simultaneous_connects=1), startup_timeout=0)
        async with Cluster(config, DynamicSubclassService("any.Name")) as cluster:
            for number in range(3):
                await crunch.add(str(number), object, host=f"h{number}")
            await wait_all_tasks_blocked()
            before = trio.current_time()
            await crunch.add("good", object, host="good")
            await cluster.wait_for_models(count=1)
            assert trio.current_time() < before + 1
