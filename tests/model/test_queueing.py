"""Calls on one model take turns, in order and one at a time, and one that is cancelled holds up no other."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_model_runner.model.queueing import CallQueue, QueueFullError, Turn


async def test_turns_come_in_the_order_in_which_they_were_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    queue = CallQueue(10)
    turns = [queue.take_turn() for _ in range(5)]
    came: list[int] = []

    async def be_called(number: int, turn: Turn) -> None:
        await turn.wait()
        came.append(number)
        assert came == list(range(number + 1))
        await trio.sleep(1)
        turn.leave()

    async with trio.open_nursery() as nursery:
        for number, turn in enumerate(turns):
            nursery.start_soon(be_called, number, turn)
    assert came == [0, 1, 2, 3, 4]
    assert len(queue) == 0
    assert trio.current_time() == pytest.approx(5, abs=1e-6)


async def test_a_free_turn_comes_without_a_checkpoint() -> None:
    queue = CallQueue(1)
    turn = queue.take_turn()
    with trio.testing.assert_no_checkpoints():
        await turn.wait()
    turn.leave()


async def test_who_leaves_while_waiting_is_passed_over() -> None:
    queue = CallQueue(10)
    first, second, third = (queue.take_turn() for _ in range(3))
    waiting = trio.CancelScope()
    came = trio.Event()

    async def give_up() -> None:
        try:
            with waiting:
                await second.wait()
        finally:
            second.leave()

    async def wait() -> None:
        await third.wait()
        came.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        waiting.cancel()
        await wait_all_tasks_blocked()
        assert waiting.cancelled_caught
        assert not came.is_set()
        first.leave()
        await came.wait()
    third.leave()


async def test_who_does_not_wait_yet_finds_its_turn_when_it_does() -> None:
    queue = CallQueue(10)
    first, second = queue.take_turn(), queue.take_turn()
    first.leave()
    with trio.testing.assert_no_checkpoints():
        await second.wait()
    second.leave()


@pytest.mark.parametrize("limit", [1, 2, 32])
def test_so_many_may_wait_behind_the_one_that_runs(limit: int) -> None:
    queue = CallQueue(limit)
    turns = [queue.take_turn() for _ in range(limit + 1)]
    with pytest.raises(QueueFullError, match=rf"^{limit} calls wait .* limits\.max_queued_calls"):
        queue.take_turn()
    turns[0].leave()
    queue.take_turn()
    with pytest.raises(QueueFullError):
        queue.take_turn()


async def test_everybody_who_waits_for_it_hears_that_the_queue_is_empty() -> None:
    queue = CallQueue(10)
    with trio.testing.assert_no_checkpoints():
        await queue.wait_empty()
    turn = queue.take_turn()
    empty = 0

    async def wait() -> None:
        nonlocal empty
        await queue.wait_empty()
        empty += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert empty == 0
        turn.leave()
    assert empty == 2


async def test_a_queue_that_filled_again_before_it_was_looked_at_is_not_empty() -> None:
    queue = CallQueue(10)
    turn = queue.take_turn()
    empty = trio.Event()

    async def wait() -> None:
        await queue.wait_empty()
        empty.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        turn.leave()
        again = queue.take_turn()
        await wait_all_tasks_blocked()
        assert not empty.is_set()
        again.leave()
        await empty.wait()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_exactly_the_first_one_has_its_turn(steps: list[tuple[bool, int]]) -> None:
    async def main() -> None:
        queue = CallQueue(1000)
        turns: list[Turn] = []
        came: set[Turn] = set()

        async def wait(turn: Turn) -> None:
            await turn.wait()
            came.add(turn)

        async with trio.open_nursery() as nursery:
            for take, index in steps:
                if take:
                    turns.append(queue.take_turn())
                    nursery.start_soon(wait, turns[-1])
                elif index < len(turns):
                    left = turns.pop(index)
                    left.leave()
                    came.discard(left)  # which is given to another call
                await wait_all_tasks_blocked()
                assert len(queue) == len(turns)
                assert came & set(turns) == set(turns[:1])
            nursery.cancel_scope.cancel()

    trio.run(main)
