"""The README's way to keep every model's history exact, as it stands there.

Whatever happens, between ticks or in the middle of one, each model is given every tick once, in order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, until
from helpers.documents import block
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import Faults, LocalCrunch


class Book:
    """The README's `History`, and what was ticked; `book` gives it what an earlier one has kept."""

    def __init__(self, book: Book | None = None) -> None:
        names: dict[str, Any] = {}
        exec(block("README.md#models-that-join-late"), names)
        self.history = names["History"]()
        self.ticked: list[int] = []
        if book is not None:
            self.history.ticks.extend(book.history.ticks)
            self.history.sent.update(book.history.sent)
            self.ticked.extend(book.ticked)

    @property
    def on_join(self) -> Any:
        return self.history.on_join

    async def tick(self, cluster: Cluster) -> None:
        self.ticked.append(len(self.ticked))
        await self.history.tick(cluster, self.ticked[-1])


class Ticking:
    """A model that remembers its ticks."""

    def __init__(self, *_: Any) -> None:
        self.seen: list[int] = []

    async def tick(self, new: int) -> None:
        await trio.sleep(0.01)
        self.seen.append(new)

    async def predict(self, seconds: float = 0.0) -> list[int]:
        await trio.sleep(seconds)
        return self.seen


Happening = Callable[[LocalCrunch, Cluster], Awaitable[object]]


async def stops_and_comes_back(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.announce("a", "STOPPED")
    await trio.sleep(1)
    crunch.announce("a")


async def loses_its_connection(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.node("a").break_connections()


async def is_restarted(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.node("a").kill()
    await trio.sleep(3)
    crunch.node("a").restart()


async def is_restarted_at_once(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.node("a").goaway()
    crunch.node("a").kill()
    crunch.node("a").restart()


async def crashes(crunch: LocalCrunch, cluster: Cluster) -> None:
    await crunch.crash("a")
    await trio.sleep(1)
    await crunch.recover("a")


async def loses_its_instance(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.node("a").next_faults(Faults(call_status=("FAILED_PRECONDITION", "no instance")))


async def is_redeployed(crunch: LocalCrunch, cluster: Cluster) -> None:
    await crunch.redeploy("a", Ticking)


async def is_late(crunch: LocalCrunch, cluster: Cluster) -> None:
    await cluster.call("predict", Arguments(1.3), models=["a"])


async def is_refused(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.node("a").next_faults(Faults(busy=True), times=3)


async def says_goodbye(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.node("a").goaway()


HAPPENINGS: list[Happening] = [
    stops_and_comes_back,
    loses_its_connection,
    is_restarted,
    is_restarted_at_once,
    crashes,
    loses_its_instance,
    is_redeployed,
    is_late,
    is_refused,
    says_goodbye,
]


BETWEEN = None
MOMENTS = [BETWEEN, 0.0, 0.003, 0.0105, 0.013]
"""When something happens: between two ticks, or so many seconds after one has begun, which takes 0.01."""

Event = tuple[Happening, float | None, int]


async def play(events: list[Event]) -> None:
    book = Book()
    async with LocalCrunch({"a": Ticking, "b": Ticking}, network=MemoryNetwork()) as crunch:
        config = crunch.config(timeout=1.0)
        async with Cluster(config, SERVICE, on_join=book.on_join) as cluster:
            for event in events:
                await let_happen(event, crunch, cluster, book)
            for _ in events:  # each can make one `on_join` fail
                await trio.sleep(60)
                crunch.announce("a")
            with trio.fail_after(300):
                await until(cluster, lambda: len(cluster.models) == 2)
            for _ in range(4):  # what could not be sent is sent with the next
                await book.tick(cluster)
            assert book.history.up_to_date(cluster) == [*cluster.models.values()]
            # Of a call that was cut off in the middle, nobody knows whether it has reached the model.
            cut_off = sum(moment is not BETWEEN for _, moment, _ in events)
            check(crunch, book, cut_off)
        again = Book(book)
        async with Cluster(config, SERVICE, on_join=again.on_join) as cluster:
            await again.tick(cluster)
            check(crunch, again, cut_off)


def check(crunch: LocalCrunch, book: Book, cut_off: int) -> None:
    seen = crunch.node("a").instance.seen
    assert seen == sorted(set(seen))
    assert set(seen) <= set(book.ticked)
    assert len(book.ticked) - len(seen) <= cut_off
    assert seen[-1] == book.ticked[-1]
    assert crunch.node("b").instance.seen == book.ticked


async def let_happen(event: Event, crunch: LocalCrunch, cluster: Cluster, book: Book) -> None:
    happen, moment, ticks = event
    if moment is BETWEEN:
        await trio.sleep(2)  # else `on_join` might be cancelled, and nobody knows what it has sent
        await happen(crunch, cluster)
    else:
        ticks += 1
    async with trio.open_nursery() as nursery:
        if moment is not BETWEEN:
            nursery.start_soon(happen_after, moment, happen, crunch, cluster)
        for _ in range(ticks):
            await book.tick(cluster)
    if moment is not BETWEEN:
        await trio.sleep(2)


async def happen_after(seconds: float, happen: Happening, crunch: LocalCrunch, cluster: Cluster) -> None:
    await trio.sleep(seconds)
    await happen(crunch, cluster)


@pytest.mark.parametrize("moment", [BETWEEN, 0.003])
@pytest.mark.parametrize("happen", HAPPENINGS)
async def test_every_tick_arrives_once(
    autojump_clock: MockClock, happen: Happening, moment: float | None
) -> None:
    await play([(happen, moment, ticks) for ticks in (2, 0, 1)])


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.sampled_from(MOMENTS), st.integers(0, 3)), max_size=6)
)
def test_every_tick_arrives_once_whatever_happens(events: list[Event]) -> None:
    trio.run(play, events, clock=MockClock(autojump_threshold=0))


async def test_a_model_that_another_coordinator_knew_is_given_what_is_new(autojump_clock: MockClock) -> None:
    first, second = Book(), Book()
    async with LocalCrunch({"a": Ticking}, network=MemoryNetwork()) as crunch:
        async with Cluster(crunch.config(), SERVICE, on_join=first.on_join) as cluster:
            await first.tick(cluster)
        async with Cluster(crunch.config(), SERVICE, on_join=second.on_join) as cluster:
            assert cluster.announced["a"].state is ModelState.READY
            await second.tick(cluster)
            assert crunch.node("a").instance.seen == [0, 0]
