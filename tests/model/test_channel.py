"""`model.channel`: generated stubs on a model's own connection, with its tokens, turns and proofs."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpclib.client
import pytest
import trio
from grpclib.exceptions import GRPCError
from helpers.checkpoints import cancel_everywhere
from helpers.coordinating import Model, coordinating, until
from helpers.insides import actor_of, counts_of
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, Join, ModelRunner, ModelState, Status
from trio_model_runner.channel import CallInterrupted
from trio_model_runner.proto.commons import Argument, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import CallRequest, CallResponse, DynamicSubclassServiceStub
from trio_model_runner.proto.grpc.health.v1 import (
    HealthCheckRequest,
    HealthCheckResponseServingStatus,
    HealthStub,
)


async def check_health(model: ModelRunner) -> bool:
    answer = await HealthStub(model.channel).check(HealthCheckRequest(), timeout=2.0)
    return answer.status is HealthCheckResponseServingStatus.SERVING


async def call(model: ModelRunner, method: str = "predict", timeout: float = 10.0) -> CallResponse:
    stub = DynamicSubclassServiceStub(model.channel)
    return await stub.call(CallRequest(method_name=method), timeout=timeout)


async def test_any_stub_runs_on_a_models_own_connection() -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        model = cluster.models["a"]
        assert isinstance(model.channel, grpclib.client.Channel)
        assert model.channel is model.channel
        assert await check_health(model)
        assert (await call(model)).status.code == "SUCCESS"
        assert crunch.node("a").connections == 1
        assert (await model.call("predict")).status is Status.SUCCESS


async def test_its_calls_take_their_turn_among_the_others_and_other_services_disturb_nobody(
    autojump_clock: MockClock,
) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster), trio.open_nursery() as nursery:
        model = cluster.models["a"]
        nursery.start_soon(model.call, "sleep", Arguments(5.0))
        await crunch.node("a").wait_for_calls(1)
        assert await check_health(model)
        assert trio.current_time() < 5
        answer = await call(model)
        assert answer.status.code == "SUCCESS"
        assert trio.current_time() == pytest.approx(5, abs=0.1)


async def test_nothing_that_happens_on_it_counts(autojump_clock: MockClock) -> None:
    async with coordinating({name: Model() for name in "abcdef"}) as (crunch, cluster):
        model = cluster.models["a"]
        for _ in range(6):
            assert (await call(model, "fail")).status.code == "MODEL_FAILED"
        with pytest.raises(TimeoutError):
            await call(model, "hang", timeout=1.0)
        for status in (Status.TIMEOUT, *[Status.SKIPPED] * 200):  # it still hangs
            result = (await cluster.call("predict", timeout=1.0)).by_id["a"]
            assert (result.status, result.sent) == (status, False)
            await trio.sleep(1)
        assert counts_of(model) == (0, 0, 0)
        assert crunch.reports == []


async def test_while_the_model_is_not_connected_its_calls_are_interrupted(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").kill()
        await until(cluster, lambda: model.state is not ModelState.READY)
        for send in (check_health, call):
            with pytest.raises(CallInterrupted, match="not connected") as raised:
                await send(model)
            assert raised.value.unprocessed
        crunch.node("a").restart()
        await cluster.wait_for_models(1)
        assert await check_health(model)
        await crunch.remove("a")
        await until(cluster, lambda: model.state is ModelState.GONE)
        with pytest.raises(CallInterrupted, match="gone"):
            await check_health(model)


async def test_a_model_that_goes_while_a_call_waits_for_its_turn_interrupts_it(
    autojump_clock: MockClock,
) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster), trio.open_nursery() as nursery:
        model = cluster.models["a"]
        nursery.start_soon(model.call, "sleep", Arguments(5.0))
        await crunch.node("a").wait_for_calls(1)

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(CallInterrupted):
                await call(model)

        await wait_all_tasks_blocked()
        crunch.node("a").kill()


@pytest.mark.parametrize("method", ["predict", "sleep"])
async def test_a_call_cancelled_anywhere_leaves_the_connection_usable(
    autojump_clock: MockClock, method: str
) -> None:
    arguments = [Argument(1, Variant(VariantType.INT, (1).to_bytes(8, "little")))]
    request = CallRequest(method, arguments if method == "sleep" else [])

    async def make_call(subject: Any) -> None:
        _, cluster = subject
        stub = DynamicSubclassServiceStub(cluster.models["a"].channel)
        assert (await stub.call(request, timeout=10.0)).status.code == "SUCCESS"

    async def check(subject: Any, _: bool) -> None:
        crunch, cluster = subject
        model = cluster.models["a"]
        assert (await model.call("predict", timeout=5.0)).status is Status.SUCCESS
        assert await check_health(model)
        assert crunch.node("a").connections == 1
        assert len(actor_of(model)._queue) == 0

    points = await cancel_everywhere(partial(coordinating, {"a": Model()}), make_call, check)
    assert points >= 3


async def test_on_join_can_use_it() -> None:
    answers: list[CallResponse] = []

    async def on_join(join: Join) -> None:
        assert await check_health(join.model)
        answers.append(await call(join.model))

    async with coordinating({"a": Model()}, on_join=on_join):
        assert [answer.status.code for answer in answers] == ["SUCCESS"]


async def test_a_service_that_the_node_does_not_have_is_unimplemented() -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        model = cluster.models["a"]
        stub = DynamicSubclassServiceStub(model.channel)
        with pytest.raises(GRPCError, match="UNIMPLEMENTED"):
            await stub._unary_unary("/no.Service/Method", HealthCheckRequest(), CallResponse)
        assert (await model.call("predict")).status is Status.SUCCESS
