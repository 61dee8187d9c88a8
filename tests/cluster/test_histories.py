"""The README's way to keep every model's history exact, as it stands there.

Whatever happens, each model is given every tick once, in order.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, until
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, ModelState
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import Faults, LocalCrunch

README = (Path(__file__).parents[2] / "README.md").read_text()


class Book:
    """The README's code, with its own history; `book` gives it what an earlier one has kept."""

    def __init__(self, book: Book | None = None) -> None:
        (code,) = (
            code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "sent_to" in code
        )
        self.names: dict[str, Any] = {"Arguments": Arguments}
        exec(code[: code.index("async with Cluster")], self.names)
        if book is not None:
            self.history.extend(book.history)
            self.names["sent_to"].update(book.names["sent_to"])

    @property
    def history(self) -> list[int]:
        history: list[int] = self.names["history"]
        return history

    @property
    def on_join(self) -> Any:
        return self.names["on_join"]

    async def tick(self, cluster: Cluster) -> None:
        await self.names["tick"](cluster, len(self.history))


class Ticking:
    """A model that remembers its ticks."""

    def __init__(self, *_: Any) -> None:
        self.seen: list[int] = []

    async def tick(self, new: list[int]) -> None:
        await trio.sleep(0.01)
        self.seen += new

    async def predict(self, seconds: float = 0.0) -> list[int]:
        await trio.sleep(seconds)
        return self.seen


Happening = Callable[[LocalCrunch, Cluster], Awaitable[object]]


async def stops_and_comes_back(crunch: LocalCrunch, cluster: Cluster) -> None:
    await trio.sleep(2)  # else `on_join` might be cancelled, and nobody knows what it has sent
    crunch.announce("a", "STOPPED")
    await trio.sleep(1)
    crunch.announce("a")


async def loses_its_connection(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.node("a").break_connections()


async def is_restarted(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.node("a").kill()
    await trio.sleep(3)
    crunch.node("a").restart()


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
    loses_its_instance,
    is_redeployed,
    is_late,
    is_refused,
    says_goodbye,
]


async def play(happenings: list[tuple[Happening, int]]) -> None:
    book = Book()
    async with LocalCrunch({"a": Ticking, "b": Ticking}, network=MemoryNetwork()) as crunch:
        config = crunch.config(timeout=1.0)
        async with Cluster(config, SERVICE, on_join=book.on_join) as cluster:
            for happen, ticks in happenings:
                await happen(crunch, cluster)
                for _ in range(ticks):
                    await book.tick(cluster)
            for _ in happenings:  # each can make one `on_join` fail
                await trio.sleep(60)
                crunch.announce("a")
            with trio.fail_after(300):
                await until(cluster, lambda: len(cluster.models) == 2)
            for _ in range(4):  # what could not be sent is sent with the next
                await book.tick(cluster)
            assert crunch.node("a").instance.seen == book.history
            assert crunch.node("b").instance.seen == book.history
        again = Book(book)
        async with Cluster(config, SERVICE, on_join=again.on_join) as cluster:
            await again.tick(cluster)
            assert crunch.node("a").instance.seen == again.history
            assert crunch.node("b").instance.seen == again.history


@pytest.mark.parametrize("happen", HAPPENINGS)
async def test_every_tick_arrives_once(autojump_clock: MockClock, happen: Happening) -> None:
    await play([(happen, ticks) for ticks in (2, 0, 1)])


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 3)), max_size=6))
def test_every_tick_arrives_once_whatever_happens(happenings: list[tuple[Happening, int]]) -> None:
    trio.run(play, happenings, clock=MockClock(autojump_threshold=0))


async def test_a_model_that_another_coordinator_knew_is_given_what_is_new(autojump_clock: MockClock) -> None:
    first, second = Book(), Book()
    async with LocalCrunch({"a": Ticking}, network=MemoryNetwork()) as crunch:
        async with Cluster(crunch.config(), SERVICE, on_join=first.on_join) as cluster:
            await first.tick(cluster)
        async with Cluster(crunch.config(), SERVICE, on_join=second.on_join) as cluster:
            assert cluster.announced["a"].state is ModelState.READY
            await second.tick(cluster)
            assert crunch.node("a").instance.seen == [0, 0]
