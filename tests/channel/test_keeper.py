"""`channel.keeper` with connections that do what a test tells them, on a clock that jumps."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner.channel.keeper import ConnectionKeeper, reconnect_delays
from trio_model_runner.rpc.ending import EndCause, Ending
from trio_model_runner.rpc.receiver import CallInterrupted

LOST = Ending(EndCause.CLOSED_BY_SERVER, "it went away")


class FakeConnection:
    """A connection that is there until `loss` is set, or until somebody has looked `looks` times."""

    def __init__(self, looks: int | None = None) -> None:
        self.loss: Ending | None = None
        self.too_many_pings = False
        self.watched: list[tuple[float, float]] = []
        self.ends: list[str] = []
        self._looks = looks
        self._lost = trio.Event()

    @property
    def accepts_calls(self) -> bool:
        if self._looks is not None:
            if not self._looks:
                self.lose()
            self._looks -= 1
        return self.loss is None

    def lose(self) -> None:
        self.loss = LOST
        self._lost.set()

    async def watch(self, interval: float, timeout: float) -> None:
        self.watched.append((interval, timeout))
        await self._lost.wait()

    async def finish(self, grace: float = -1.0) -> None:
        self.ends.append(f"finish {grace}")
        await trio.lowlevel.checkpoint()

    async def aclose(self, grace: float = -1.0) -> None:
        self.ends.append(f"aclose {grace}")
        self.lose()
        await trio.lowlevel.checkpoint()

    def retire(self, reason: str) -> None:
        self.ends.append("retire")
        self.lose()

    def abort(self, reason: str) -> None:
        self.ends.append("abort")
        self.lose()


class Made:
    """Makes connections, or fails, as `next_one` says; notes when."""

    def __init__(self, next_one: Callable[[], FakeConnection]) -> None:
        self.connections: list[FakeConnection] = []
        self.at: list[float] = []
        self._next_one = next_one

    async def __call__(self, nursery: trio.Nursery) -> Any:
        self.at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        self.connections.append(self._next_one())
        return self.connections[-1]


@asynccontextmanager
async def keeping(
    made: Made, on_connect: Callable[[Any], Awaitable[None]] | None = None
) -> AsyncIterator[ConnectionKeeper]:
    keeper = ConnectionKeeper(
        made, on_connect=on_connect, keepalive_interval=300.0, keepalive_timeout=20.0, grace=7.0
    )
    async with trio.open_nursery() as nursery:
        keeper.nursery = nursery
        yield keeper
        await keeper.aclose()


def refuse() -> FakeConnection:
    raise ConnectionRefusedError("nobody")


async def test_three_connections_in_a_row_may_be_lost_before_they_are_used(autojump_clock: MockClock) -> None:
    made = Made(lambda: FakeConnection(looks=1))
    async with keeping(made) as keeper:
        with pytest.raises(ConnectionError, match="lost as soon as they are made: it went away"):
            await keeper.connect()
        assert len(made.connections) == 3
    kinds = iter([FakeConnection(looks=1), FakeConnection(looks=1), FakeConnection()])
    async with keeping(made := Made(lambda: next(kinds))) as keeper:
        assert await keeper.connect() is made.connections[2]


async def test_who_waits_for_ready_waits_through_any_number_of_losses(autojump_clock: MockClock) -> None:
    kinds = itertools.chain((FakeConnection(looks=1) for _ in range(10)), [FakeConnection()])
    async with keeping(made := Made(lambda: next(kinds))) as keeper:
        assert await keeper.connect(wait_for_ready=True) is made.connections[10]


async def test_who_waits_for_ready_does_not_wait_where_on_connect_found_a_mistake(
    autojump_clock: MockClock,
) -> None:
    async def raise_lookup_error(connection: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("mine")

    async with keeping(made := Made(FakeConnection), raise_lookup_error) as keeper:
        with trio.fail_after(1000), pytest.raises(LookupError, match="mine"):
            await keeper.connect(wait_for_ready=True)
        await wait_all_tasks_blocked()
        assert made.connections[0].ends == ["retire", "finish 7.0"]


async def test_who_waits_for_ready_waits_where_a_call_of_on_connects_was_interrupted(
    autojump_clock: MockClock,
) -> None:
    async def interrupt_the_first(connection: Any) -> None:
        await trio.lowlevel.checkpoint()
        if len(made.connections) == 1:
            raise CallInterrupted("the connection was lost")

    async with keeping(made := Made(FakeConnection), interrupt_the_first) as keeper:
        assert await keeper.connect(wait_for_ready=True) is made.connections[1]


async def test_waits_between_attempts_grow_to_ten_seconds_and_begin_anew_after_a_success(
    autojump_clock: MockClock,
) -> None:
    outcomes: list[Callable[[], FakeConnection]] = [refuse] * 12 + [FakeConnection] + [refuse] * 2
    steps = iter(outcomes)
    async with keeping(made := Made(lambda: next(steps)())) as keeper:
        connection: Any = await keeper.connect(wait_for_ready=True)
        connection.lose()
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await keeper.connect()
    gaps = [after - before for before, after in itertools.pairwise(made.at)]
    expected = [0.1 * 2**power for power in range(7)] + [10.0] * 5
    assert all(0.75 * wait <= gap <= 1.25 * wait for gap, wait in zip(gaps[:12], expected, strict=True))
    assert gaps[12] == 0  # a loss is no failed attempt
    assert 0.075 <= gaps[13] <= 0.125


def test_clients_fall_out_of_step() -> None:
    assert len({next(reconnect_delays()) for _ in range(20)}) > 1


async def test_concurrent_calls_share_an_attempt_that_fails(autojump_clock: MockClock) -> None:
    failed = 0

    async def connect() -> None:
        nonlocal failed
        with pytest.raises(ConnectionRefusedError):
            await keeper.connect()
        failed += 1

    async with keeping(made := Made(refuse)) as keeper, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(connect)
    assert (failed, len(made.at)) == (5, 1)


async def test_a_server_that_objects_to_pings_is_asked_half_as_often(autojump_clock: MockClock) -> None:
    async with keeping(made := Made(FakeConnection)) as keeper:
        for objects in (True, False, True):
            connection: Any = await keeper.connect()
            await wait_all_tasks_blocked()
            connection.too_many_pings = objects
            connection.lose()
            await wait_all_tasks_blocked()
        assert keeper.keepalive_interval == 1200
        assert keeper.connections == set()
    assert [each.watched for each in made.connections] == [[(300, 20)], [(600, 20)], [(600, 20)]]
    assert [each.ends for each in made.connections] == [["finish 7.0"]] * 3


async def test_closing_says_goodbye_within_its_grace(autojump_clock: MockClock) -> None:
    async with keeping(made := Made(FakeConnection)) as keeper:
        await keeper.connect()
        await keeper.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await keeper.connect()
    assert made.connections[0].ends[0] == "aclose 7.0"


async def test_a_connection_that_comes_when_all_is_closed_is_given_up(autojump_clock: MockClock) -> None:
    """Its maker may be past the last point where it could be cancelled."""

    async def make_late(nursery: trio.Nursery) -> Any:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        return late

    late = FakeConnection()
    keeper = ConnectionKeeper(
        make_late, on_connect=None, keepalive_interval=300.0, keepalive_timeout=20.0, grace=7.0
    )
    with pytest.RaisesGroup(trio.ClosedResourceError):
        async with trio.open_nursery() as nursery:
            keeper.nursery = nursery
            nursery.start_soon(keeper.connect)
            await wait_all_tasks_blocked()
            keeper.close()
    assert late.ends == ["abort"]
    assert keeper.connections == set()


async def test_a_connection_that_on_connect_lost_is_a_failed_attempt(autojump_clock: MockClock) -> None:
    async def lose(connection: Any) -> None:
        await trio.lowlevel.checkpoint()
        connection.lose()

    async with keeping(made := Made(FakeConnection), lose) as keeper:
        begun = trio.current_time()
        for _ in range(2):
            with pytest.raises(ConnectionError, match="lost as soon as it was made: it went away"):
                await keeper.connect()
        assert trio.current_time() >= begun + 0.075
    assert len(made.connections) == 2


async def test_closing_ends_an_attempt_that_has_not_begun(autojump_clock: MockClock) -> None:
    class Closing:
        """A nursery in which a task is started just before all is closed."""

        def __init__(self, nursery: trio.Nursery) -> None:
            self._nursery = nursery

        def start_soon(self, *args: Any) -> None:
            self._nursery.start_soon(*args)
            keeper.close()

    async with keeping(made := Made(FakeConnection)) as keeper:
        assert keeper.nursery is not None
        keeper.nursery = Closing(keeper.nursery)  # type: ignore[assignment]
        with pytest.raises(trio.ClosedResourceError):
            await keeper.connect()
    assert made.at == []
