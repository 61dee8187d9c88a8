"""A model that is reset is set up and joins again, before the calls that wait for it are made."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from helpers.coordinating import Model, coordinating, until
from helpers.insides import is_ready, timeouts_of
from trio.testing import MockClock

from trio_model_runner import (
    Arguments,
    Join,
    ModelState,
    Status,
    TrainInferService,
)
from trio_model_runner.config import Health
from trio_model_runner.testing import Service as ServiceName

HISTORY = (1, 2, 3)


class Joins:
    """An `on_join` that gives each model the history, and remembers why it joined."""

    def __init__(self) -> None:
        self.reasons: list[tuple[str, bool]] = []

    async def __call__(self, join: Join) -> None:
        self.reasons.append((str(join.reason), join.fresh))
        (await join.model.call("tick", Arguments(*HISTORY))).unwrap()


async def test_a_reset_model_is_set_up_and_joins_again_before_the_calls_that_wait() -> None:
    joins = Joins()
    async with coordinating({"a": Model, "b": Model}, on_join=joins) as (_, cluster):
        assert joins.reasons == [("joined", True)] * 2
        model = cluster.models["a"]
        results = []

        async def reset(*, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()  # and it has its place in the queue when whoever waits for this goes on
            results.append(await model.reset())

        async with trio.open_nursery() as nursery:
            await nursery.start(reset)
            after = await model.call("tick", Arguments(5))
        (result,) = results
        assert (result.status, result.value, result.model) == (Status.SUCCESS, None, model)
        assert cluster.models["a"] is model
        assert joins.reasons[2:] == [("restarted", True)]
        # As on deployed nodes, a method that was called before stays the old instance's.
        assert after.unwrap() == 2 * len(HISTORY) + 1
        ticks = await cluster.call("predict", Arguments(4), returns=int)
        assert [each.value for each in ticks.values()] == [4, 4]


class Forgetful(Model):
    """Predicts how many values it has seen: Infer gives it one, `Reinitialize` makes it anew."""

    def predict(self, value: Any = 1.5) -> int:
        return self.tick(value)


async def test_the_services_that_infer_reinitialize() -> None:
    joined = []

    async def on_join(join: Join) -> None:
        joined.append(str(join.reason))
        (await join.model.predict(0)).unwrap()

    names = (ServiceName.TRAIN_INFER,)
    async with coordinating(
        {"a": Forgetful}, service=TrainInferService(), services=names, on_join=on_join
    ) as (_, cluster):
        model = cluster.models["a"]
        assert [(await model.predict(7)).unwrap() for _ in range(3)] == [2, 3, 4]
        (await model.reset()).unwrap()
        assert (await model.predict(7)).unwrap() == 2
        assert joined == ["joined", "restarted"]


async def test_a_model_that_does_not_come_back_from_a_reset_in_time_is_late_and_not_to_blame(
    autojump_clock: MockClock,
) -> None:
    slow = False

    async def on_join(_: Join) -> None:
        if slow:
            await trio.sleep(5)

    health = Health(require_witness=False)
    async with coordinating({"a": Model}, on_join=on_join, health=health) as (_, cluster):
        model = cluster.models["a"]
        slow = True
        result = await model.reset(timeout=2)
        assert trio.current_time() == pytest.approx(2, abs=0.1)
        assert (result.status, result.detail) == (Status.TIMEOUT, "it was reset, and is still joining")
        assert timeouts_of(model) == 0
        assert (await model.reset()).status is Status.ABSENT
        await until(cluster, lambda: is_ready(model))


async def test_a_model_whose_on_join_fails_after_a_reset_has_failed(autojump_clock: MockClock) -> None:
    async def on_join(join: Join) -> None:
        if join.reason == "restarted":
            raise LookupError("no history")

    async with coordinating({"a": Model}, on_join=on_join) as (_, cluster):
        result = await cluster.models["a"].reset()
        assert result.status is Status.FAILED
        assert "no history" in result.detail
        assert isinstance(result.error, LookupError)
        assert result.model.state is ModelState.FAILED


async def test_a_reset_in_on_join_does_not_wait_for_itself() -> None:
    results = []

    async def on_join(join: Join) -> None:
        results.append(await join.model.reset())

    async with coordinating({"a": Model}, on_join=on_join) as (_, cluster):
        assert [result.status for result in results] == [Status.ABSENT]
        assert is_ready(cluster.models["a"])


@pytest.mark.parametrize(("timeout", "error"), [("soon", TypeError), (0, ValueError)])
async def test_a_reset_refuses_no_time(timeout: Any, error: type[Exception]) -> None:
    async with coordinating({"a": Model}) as (_, cluster):
        with pytest.raises(error, match=r"^timeout: "):
            await cluster.models["a"].reset(timeout=timeout)
