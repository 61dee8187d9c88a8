"""`sharding.catching_up`: what `on_join` is told where each shard that had the model knows a part of it."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio

from trio_model_runner import ModelState
from trio_model_runner.model.lifecycle import JoinReason
from trio_model_runner.sharding.catching_up import CatchingUp

JOINED, RESTARTED = JoinReason.JOINED, JoinReason.RESTARTED
SETTING_UP, JOINING, READY = ModelState.SETTING_UP, ModelState.JOINING, ModelState.READY


class Coordinator:
    """A supervisor that notes what `on_join` is told, and may wait in it, or raise."""

    def __init__(self) -> None:
        self.told: list[tuple[JoinReason, bool]] = []
        self.error: Exception | None = None
        self.may_end = trio.Event()
        self.may_end.set()

    async def join(self, model: object, reason: JoinReason, *, fresh: bool) -> None:
        self.told.append((reason, fresh))
        await self.may_end.wait()
        if self.error is not None:
            raise self.error


def catching_up(coordinator: Coordinator) -> CatchingUp:
    return CatchingUp(cast("Any", coordinator), cast("Any", None))


async def test_a_model_that_was_ready_is_restarted_whatever_its_new_shard_knows() -> None:
    coordinator = Coordinator()
    subject = catching_up(coordinator)
    assert await subject.run(JOINED, fresh=True)
    subject.note_state(JOINING, READY)
    assert subject.done
    subject.note_loss(READY)
    assert subject.done
    subject.note_state(ModelState.CONNECTING, SETTING_UP)
    assert not subject.done
    assert await subject.run(JOINED, fresh=False)
    assert coordinator.told == [(JOINED, True), (RESTARTED, False)]


@pytest.mark.parametrize(("lost_in", "fresh"), [(SETTING_UP, True), (ModelState.CONNECTING, False)])
async def test_an_instance_that_a_lost_shard_may_have_made_is_new(lost_in: ModelState, fresh: bool) -> None:
    """The next shard finds it there. It is new once, and never if an instance was seen before."""
    coordinator = Coordinator()
    subject = catching_up(coordinator)
    subject.note_loss(lost_in)
    await subject.run(JOINED, fresh=False)
    await subject.run(JOINED, fresh=False)
    subject.note_loss(SETTING_UP)
    await subject.run(JOINED, fresh=False)
    assert coordinator.told == [(JOINED, fresh), (JOINED, False), (JOINED, False)]


@pytest.mark.parametrize("lost", [True, False])
async def test_on_join_is_cancelled_when_the_model_joins_no_more(lost: bool) -> None:
    coordinator = Coordinator()
    coordinator.may_end = trio.Event()
    subject = catching_up(coordinator)
    ended = []

    async def run() -> None:
        ended.append(await subject.run(JOINED, fresh=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await trio.testing.wait_all_tasks_blocked()
        if lost:
            subject.note_loss(JOINING)
        else:
            subject.note_state(JOINING, ModelState.RECOVERING)
    assert ended == [False]
    assert subject.error is None


async def test_what_on_join_raised_is_kept_until_the_next_time() -> None:
    coordinator = Coordinator()
    subject = catching_up(coordinator)
    coordinator.error = KeyError("no history")
    assert await subject.run(JOINED, fresh=True)
    assert subject.error is coordinator.error
    coordinator.error = None
    assert await subject.run(JOINED, fresh=False)
    assert subject.error is None


async def test_an_instance_of_which_nobody_was_told_is_new() -> None:
    """Its shard says so once: here it had lost the model again before that was heard."""
    coordinator = Coordinator()
    subject = catching_up(coordinator)
    await subject.run(JOINED, fresh=True)
    subject.note_untold()
    subject.note_loss(ModelState.CONNECTING)
    await subject.run(RESTARTED, fresh=False)
    await subject.run(RESTARTED, fresh=False)
    assert [fresh for _, fresh in coordinator.told] == [True, True, False]


async def test_after_a_crash_an_instance_that_a_lost_shard_may_have_made_is_new_again() -> None:
    coordinator = Coordinator()
    subject = catching_up(coordinator)
    await subject.run(JOINED, fresh=True)
    subject.note_crash()
    subject.note_loss(SETTING_UP)
    await subject.run(RESTARTED, fresh=False)
    assert [fresh for _, fresh in coordinator.told] == [True, True]
