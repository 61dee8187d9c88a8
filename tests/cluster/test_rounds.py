"""A round has one result for every model, in time, and in the shape that was asked for."""

from __future__ import annotations

import datetime
import json
import math
import sys
from typing import Any

import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import Model, coordinating
from helpers.insides import failures_of, timeouts_of
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import (
    Arguments,
    Cluster,
    DataType,
    Encoded,
    InvalidAnswer,
    ModelError,
    ModelRunner,
    ModelRunnerService,
    PredictionRound,
    Status,
    TrainInferService,
    TrainInferStreamService,
    encode,
)
from trio_model_runner.cluster.as_completed import ResultsAsCompleted
from trio_model_runner.config import Health, Limits
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.testing import Service as ServiceName

ALONE = Health(require_witness=False)
"""Everything counts, also where no other model shows that it could be done."""


async def test_results_come_as_they_are_completed(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model(), "c": Model()}, timeout=5) as (_, cluster):
        seconds = {"a": 2.0, "b": 1.0, "c": 9.0}

        def arguments(model: ModelRunner) -> Arguments:
            return Arguments(seconds[model.model_id])

        came = []
        async with cluster.as_completed("sleep", arguments) as results:
            async for result in results:
                came.append((result.model.model_id, result.status, round(trio.current_time())))
                await trio.sleep(30)  # however slow this is, deadlines are kept
        assert [each[:2] for each in came] == [
            ("b", Status.SUCCESS),
            ("a", Status.SUCCESS),
            ("c", Status.TIMEOUT),
        ]
        assert cluster.snapshot().last_round["counts"] == {"SUCCESS": 2, "TIMEOUT": 1}  # type: ignore[index]


async def test_leaving_as_completed_early_resets_the_calls_and_blames_nobody(
    autojump_clock: MockClock,
) -> None:
    async with coordinating({"a": Model(), "b": Model()}, health=ALONE) as (crunch, cluster):
        async with cluster.as_completed("sleep", Arguments(3.0)) as results:
            await crunch.node("a").wait_for_calls(1)
        assert cluster.snapshot().last_round is None
        with pytest.raises(KeyError):
            async with cluster.as_completed("predict") as results:
                raise KeyError
        async with cluster.as_completed("predict") as results:
            await results.aclose()
            await trio.sleep(1)
        # The node is busy with the first for 3 seconds, and that is our doing.
        for _ in range(5):
            (result,) = (await cluster.call("predict", timeout=0.1, models=["a"])).values()
            assert result.status is Status.TIMEOUT
        assert timeouts_of(cluster.models["a"]) == 0
        await trio.sleep(3)
        assert len((await cluster.call("predict")).succeeded) == 2


async def test_as_completed_has_the_round_s_id_what_is_missing_and_at_the_end_the_round(
    autojump_clock: MockClock,
) -> None:
    async with coordinating({"a": Model(), "b": Model(), "c": Model()}) as (crunch, cluster):
        models = ["a", "b", "never", "nor this"]
        await crunch.crash("b")
        async with cluster.as_completed("sleep", Arguments(1.0), models=models) as results:
            assert results.missing == ("never", "nor this")
            with pytest.raises(RuntimeError, match=rf"^round {results.id} has not ended: "):
                _ = results.round
            came = [result async for result in results]
            ended = results.round
        assert ended is results.round
        assert (ended.id, ended.method, ended.missing) == (results.id, "sleep", results.missing)
        assert list(ended.by_id) == ["a", "b"]
        assert sorted(map(id, came)) == sorted(map(id, ended.values()))
        assert cluster.snapshot().last_round is not None
        assert cluster.snapshot().last_round["id"] == results.id  # type: ignore[index]
        async with cluster.as_completed("sleep", Arguments(1.0)) as left:
            pass
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = left.round
        with pytest.raises(trio.ClosedResourceError, match=rf"^round {left.id}: no more results are taken"):
            await anext(left)
        assert int(left.id) == int(results.id) + 1


async def test_as_completed_tells_those_that_are_skipped_at_once(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, limits=Limits(max_queued_calls=1)) as (_, cluster):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(cluster.call, "sleep", Arguments(1.0))
            await wait_all_tasks_blocked()
            results = await completed(cluster)
        assert results.round.by_id["a"].status is Status.SKIPPED


async def completed(cluster: Cluster) -> ResultsAsCompleted[Any]:
    async with cluster.as_completed("predict") as results:
        assert [result.status async for result in results] == [Status.SKIPPED]
    return results


async def test_a_web_service_may_return_a_round_as_it_is(autojump_clock: MockClock) -> None:
    class Strange(Model):
        def predict(self, value: Any = None) -> Any:
            return {"2026-01-02": [math.nan, math.inf, None, 10**30], "2026-01-03": []}

    async with coordinating({"a": Strange, "b": Model}) as (_, cluster):
        made = await cluster.call("predict", returns=dict[datetime.date, list[float | None]])
        (value,) = (result.unwrap() for result in made.succeeded.values())
        assert list(value) == [datetime.date(2026, 1, 2), datetime.date(2026, 1, 3)]
        told = json.loads(json.dumps(made.to_dict(), allow_nan=False))
        assert told["results"][0]["value"] == {"2026-01-02": [None, None, None, 1e30], "2026-01-03": []}
        assert (told["results"][1]["status"], told["results"][1]["error"]) == ("FAILED", "InvalidAnswer")


async def test_an_answer_that_comes_while_the_block_is_left_is_dropped(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (_, cluster):
        for steps in range(30):  # in one of them, an answer is read in the step in which the block is left
            async with cluster.as_completed("predict"):
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
            await trio.sleep(1)
        assert len((await cluster.call("predict")).succeeded) == 2


async def test_one_model_alone() -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        model = cluster.models["a"]
        assert (await model.predict(7)).unwrap() == 7
        assert (await model.call("tick", Arguments(1, 2))).value == 2
        result = await model.call("fail")
        assert (result.status, result.detail) == (
            Status.FAILED,
            "MODEL_FAILED: The model raised an exception: no feathers",
        )
        with pytest.raises(ModelError):
            result.unwrap()


@pytest.mark.parametrize(
    ("service", "name"),
    [
        (TrainInferService(), ServiceName.TRAIN_INFER),
        (TrainInferStreamService(), ServiceName.TRAIN_INFER_STREAM),
        (ModelRunnerService(), ServiceName.MODEL_RUNNER),
    ],
)
async def test_predict_on_the_services_that_infer(service: Any, name: ServiceName) -> None:
    async with coordinating({"a": Model()}, service=service, services=(name,)) as (_, cluster):
        for value in (5, 2.5, "text", [1, {"x": None}]):
            assert (await cluster.predict(value)).by_id["a"].value == value
        assert (await cluster.models["a"].predict(3)).value == 3
        for bad in ((), (1, 2)):
            with pytest.raises(TypeError, match="exactly one"):
                await cluster.predict(*bad)
        with pytest.raises(ValueError, match="method"):
            await cluster.call("tick", Arguments(1))


async def test_what_does_not_fit_returns_has_failed_and_is_not_to_blame() -> None:
    async with coordinating({"a": Model()}, health=ALONE) as (_, cluster):
        results = await cluster.call("predict", Arguments(["x"]), returns=list[int])
        result = results.by_id["a"]
        assert result.status is Status.FAILED
        assert result.value is None
        assert isinstance(result.error, InvalidAnswer)
        assert result.error.value == ["x"]
        assert failures_of(cluster.models["a"]) == 0
        assert (await cluster.call("predict", Arguments([5]), returns=list[int])).by_id["a"].value == [5]
        assert (await cluster.predict(7, returns=float)).by_id["a"].value == 7.0


async def test_answers_can_be_had_as_they_came() -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        for value in (7, 2.5, "text", []):
            answers = await cluster.call("predict", Arguments(value), decode=False)
            assert answers.by_id["a"].unwrap() == encode(value)
            assert (await cluster.predict(value, decode=False)).by_id["a"].unwrap() == encode(value)
            assert (await cluster.models["a"].predict(value, decode=False)).unwrap() == encode(value)
        nothing = await cluster.models["a"].call("nothing", decode=False)
        assert nothing.unwrap() == Encoded(DataType.NONE, b"")
        async with cluster.as_completed("predict", decode=False) as results:
            assert [result.value async for result in results] == [encode(1.5)]
        with pytest.raises(TypeError, match=r"^returns: "):
            await cluster.call("predict", decode=False, returns=int)


@pytest.mark.parametrize("blamed", [False, True])
async def test_invalid_answers_are_blamed_if_configured(blamed: bool) -> None:
    class High(Model):
        def predict(self, value: Any = 100.0) -> Any:
            return value

    def refuse(value: Any) -> Any:
        if value > 10:
            raise ValueError("too high")
        return value

    async with coordinating({"a": High(), "b": Model()}, blame_invalid_answers=blamed) as (_, cluster):
        results = await cluster.call("predict", returns=refuse)
        result = results.by_id["a"]
        assert (result.status, "too high" in result.detail) == (Status.FAILED, True)
        assert results.by_id["b"].status is Status.SUCCESS
        assert failures_of(cluster.models["a"]) == blamed


async def test_calls_on_one_model_go_one_after_the_other_in_order(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        ended: list[tuple[str, int]] = []

        async def call(number: int) -> None:
            results = await cluster.call("sleep", Arguments(1.0), models=["a"])
            ended.append((results.by_id["a"].value, number))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(call, number)
                await wait_all_tasks_blocked()
        assert ended == [("awake", number) for number in range(5)]
        assert crunch.node("a").call_count == 5


async def test_each_queued_call_keeps_its_own_deadline(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, health=ALONE) as (crunch, cluster):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster.call, "sleep", Arguments(5.0))
            await crunch.node("a").wait_for_calls(1)
            before = trio.current_time()
            result = (await cluster.call("tick", timeout=2)).by_id["a"]
            assert trio.current_time() - before == pytest.approx(2, abs=1e-6)
            assert result.status is Status.TIMEOUT
            assert timeouts_of(cluster.models["a"]) == 0  # it never got the chance
        assert crunch.node("a").call_count == 1


async def test_too_many_calls_on_one_model_are_skipped(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, limits=Limits(max_queued_calls=2), timeout=1) as (
        crunch,
        cluster,
    ):
        statuses: list[Status] = []

        async def call() -> None:
            statuses.append((await cluster.call("hang")).by_id["a"].status)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(call)
        assert sorted(statuses) == [Status.SKIPPED] * 2 + [Status.TIMEOUT] * 3
        assert crunch.node("a").call_count == 1


async def test_answers_in_the_kernel_at_the_deadline_are_delivered(autojump_clock: MockClock) -> None:
    for _ in range(10):
        async with coordinating({"a": Model()}, timeout=2) as (crunch, cluster):
            # Private: only the node's own stream can be made slow from here.
            (stream,) = crunch.node("a")._endpoint._streams
            send_stream = stream._transport.send_stream  # type: ignore[attr-defined]
            deliver = send_stream.send_all_hook

            async def deliver_and_oversleep(deliver: Any = deliver) -> None:
                await deliver()
                autojump_clock.jump(10)

            send_stream.send_all_hook = deliver_and_oversleep
            assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS


async def test_a_node_that_tells_of_our_deadline_first_changes_nothing(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}, timeout=2) as (crunch, cluster):
        assert len((await cluster.call("predict", models=["b"])).succeeded) == 1  # the witness
        # Private: only the node's own stream can be made slow from here.
        (stream,) = crunch.node("a")._endpoint._streams
        send_stream = stream._transport.send_stream  # type: ignore[attr-defined]
        deliver = send_stream.send_all_hook

        async def deliver_at_the_deadline() -> None:
            send_stream.send_all_hook = deliver
            await deliver()
            autojump_clock.jump(2)

        crunch.node("a").faults.grpc_error = GRPCStatus.DEADLINE_EXCEEDED, "Deadline Exceeded"
        send_stream.send_all_hook = deliver_at_the_deadline
        result = (await cluster.call("predict", models=["a"])).by_id["a"]
        assert (result.status, result.detail) == (Status.TIMEOUT, "no answer before the deadline")
        assert isinstance(result.error, TimeoutError)
        await wait_all_tasks_blocked()  # the node is asked for a sign of life
        assert timeouts_of(cluster.models["a"]) == 1


async def test_what_we_overslept_is_not_counted(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, timeout=2, health=ALONE) as (crunch, cluster):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def oversleep() -> None:
                await crunch.node("a").wait_for_calls(1)
                autojump_clock.jump(10)

            result = (await cluster.call("hang")).by_id["a"]
        assert (result.status, timeouts_of(cluster.models["a"])) == (Status.TIMEOUT, 0)


async def test_a_nearer_deadline_around_a_round_costs_no_answers(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (_, cluster):
        arguments = {"a": Arguments(100.0), "b": Arguments(1.0)}
        for jump in (0, 1):
            begin = trio.current_time()
            results: PredictionRound[Any] | None = None
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def pass_the_deadline(at: float = begin + 1.995, jump: int = jump) -> None:
                    await trio.sleep_until(at)
                    autojump_clock.jump(jump)

                with trio.move_on_at(begin + 2) as scope:
                    results = await cluster.call("sleep", lambda model: arguments[model.model_id])
                    assert trio.current_time() == pytest.approx(begin + 1.995 + jump, abs=1e-6)
            assert results is not None
            assert not scope.cancelled_caught
            assert results.by_id["b"].value == "awake"
            assert results.by_id["a"].status is Status.TIMEOUT
            assert timeouts_of(cluster.models["a"]) == 0  # it still had time


async def test_answers_that_take_past_a_nearer_deadline_to_convert_are_not_lost(
    autojump_clock: MockClock,
) -> None:
    def oversleep(value: Any) -> Any:
        autojump_clock.jump(3)
        return value

    async with coordinating({"a": Model(), "b": _Hanging()}) as (_, cluster):
        results: PredictionRound[Any] | None = None
        with trio.move_on_after(2):
            results = await cluster.call("predict", returns=oversleep)
        assert results is not None
        assert [results.by_id[each].status for each in "ab"] == [Status.SUCCESS, Status.TIMEOUT]
        assert timeouts_of(cluster.models["b"]) == 0


class _Hanging(Model):
    async def predict(self, value: Any = 1.5) -> Any:
        await trio.sleep_forever()


async def test_what_has_no_time_left_is_not_sent(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        with trio.move_on_after(cluster.config.scope_margin / 2):
            results = await cluster.call("tick", Arguments(1))
            assert len(results.timed_out) == 2
        await trio.sleep(1)
        assert crunch.node("a").call_count == 0


async def test_what_is_cancelled_already_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        monkeypatch.delattr(UnaryCall, "begin")
        with trio.CancelScope() as scope:
            scope.cancel()
            await cluster.call("tick")
        assert scope.cancelled_caught
        async with cluster.as_completed("tick"):
            pass


async def test_an_explicit_cancel_is_no_deadline(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model(), "b": Model()}, health=ALONE) as (crunch, cluster):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def cancel() -> None:
                    await crunch.node("a").wait_for_calls(1)
                    scope.cancel()

                await cluster.call("sleep", Arguments(2.0))
        assert scope.cancelled_caught
        # Meanwhile the nodes are busy, by our own doing.
        results = await cluster.call("predict", timeout=1)
        assert len(results.timed_out) == 2
        assert {timeouts_of(model) for model in cluster.models.values()} == {0}
        assert len((await cluster.call("predict")).succeeded) == 2
        assert cluster.snapshot().last_round is not None


async def test_a_program_that_ends_in_a_function_for_arguments_ends_once() -> None:
    asked: list[str] = []

    def leave(model: ModelRunner) -> Arguments:
        asked.append(model.model_id)
        sys.exit(3)

    async with coordinating(dict.fromkeys("abc", Model)) as (_, cluster):
        with pytest.raises(SystemExit, match="3"):
            await cluster.call("predict", leave)
        assert len(asked) == 1
        assert len((await cluster.call("predict")).succeeded) == 3


@pytest.mark.parametrize("timeout", [float("nan"), -1, 0])
async def test_a_timeout_that_is_no_number_of_seconds_is_refused(timeout: float) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        with pytest.raises(ValueError, match=r"^timeout: "):
            await cluster.call("predict", timeout=timeout)


async def test_a_method_that_no_text_can_name_is_refused() -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        with pytest.raises(ValueError, match=r"^method: "):
            await cluster.call("\ud800")


async def test_a_call_that_waits_behind_another_says_so(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster), trio.open_nursery() as nursery:
        model = cluster.models["a"]
        nursery.start_soon(model.call, "sleep", Arguments(5.0))
        await crunch.node("a").wait_for_calls(1)
        result = await model.call("predict", timeout=1.0)
        assert (result.status, "behind another call" in result.detail) == (Status.TIMEOUT, True)


@pytest.mark.parametrize("option", ["optional", "sit_out", "decode"])
@pytest.mark.parametrize("value", ["false", None, 0])
async def test_a_flag_that_is_none_is_refused(option: str, value: Any) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        with pytest.raises(TypeError, match=f"^{option}: must be True or False"):
            await cluster.call("predict", **{option: value})
        with pytest.raises(TypeError, match=r"^arguments: must be Arguments"):
            await cluster.call("predict", Arguments)  # type: ignore[call-overload]
        assert crunch.node("a").call_count == 0
