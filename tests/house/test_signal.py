"""A `Signal` wakes all who wait, again and again, and loses no wake-up, whoever is cancelled."""

from __future__ import annotations

import pytest
import trio
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from trio_model_runner.signal import Signal


async def test_two_waiters_wake_each_time() -> None:
    signal, woken = Signal(), list[str]()

    async def wait(name: str) -> None:
        for _ in range(3):
            await signal.wait()
            woken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        for times in range(1, 4):
            await wait_all_tasks_blocked()
            signal.send()
            await wait_all_tasks_blocked()
            assert sorted(woken) == ["a"] * times + ["b"] * times


async def test_two_who_wait_for_one_condition_both_see_it() -> None:
    signal, items, seen = Signal(), list[int](), list[str]()

    async def wait(name: str, count: int) -> None:
        await signal.wait_until(lambda: len(items) >= count)
        seen.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a", 1)
        nursery.start_soon(wait, "b", 1)
        nursery.start_soon(wait, "c", 2)
        await wait_all_tasks_blocked()
        signal.send()  # nothing is true yet
        await wait_all_tasks_blocked()
        assert not seen
        items.append(1)
        signal.send()
        await wait_all_tasks_blocked()
        assert sorted(seen) == ["a", "b"]
        items.append(2)
        signal.send()
    assert sorted(seen) == ["a", "b", "c"]


async def test_it_remembers_nothing() -> None:
    signal = Signal()
    signal.send()
    with trio.move_on_after(0) as scope:
        await signal.wait()
    assert scope.cancelled_caught


async def test_waiting_is_a_checkpoint_unless_the_condition_holds() -> None:
    signal, holds = Signal(), False
    with assert_no_checkpoints():
        await signal.wait_until(lambda: True)
    async with trio.open_nursery() as nursery:
        with assert_checkpoints():
            nursery.start_soon(trio.lowlevel.checkpoint)

            async def make_it_hold() -> None:
                nonlocal holds
                await wait_all_tasks_blocked()
                holds = True
                signal.send()

            nursery.start_soon(make_it_hold)
            await signal.wait_until(lambda: holds)


@pytest.mark.parametrize("cancelled", ["first", "second"])
async def test_a_cancelled_waiter_takes_no_wake_up_along(cancelled: str) -> None:
    signal, woken = Signal(), list[str]()
    scopes = {name: trio.CancelScope() for name in ("first", "second")}

    async def wait(name: str) -> None:
        with scopes[name]:
            await signal.wait()
            woken.append(name)

    async with trio.open_nursery() as nursery:
        for name in scopes:
            nursery.start_soon(wait, name)
            await wait_all_tasks_blocked()
        scopes[cancelled].cancel()
        signal.send()
    # Trio decides whether one that was cancelled before the signal wakes from it; the other one must.
    assert {"first", "second"} - {cancelled} <= set(woken)
    assert len(woken) == len(set(woken))


async def test_a_condition_that_raises_lets_others_wait_on() -> None:
    signal, woken = Signal(), list[str]()

    def fail() -> bool:
        raise KeyError("mine")

    async def wait() -> None:
        await signal.wait()
        woken.append("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        with pytest.raises(KeyError):
            await signal.wait_until(fail)
        signal.send()
    assert woken == ["other"]
