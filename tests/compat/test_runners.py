"""Calls through the door: what models are sent, and what comes back, in the asyncio client's words."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import math
import pickle
from typing import Any

import pytest
import trio
from helpers.coordinating import Model
from helpers.from_asyncio import in_asyncio, runner_for, until

from trio_model_runner.compat import (
    Argument,
    DataType,
    DynamicSubclassModelConcurrentRunner,
    KwArgument,
    ModelConcurrentRunner,
    ModelPredictResult,
    ModelRunner,
    Variant,
    VariantType,
    encode_data,
)
from trio_model_runner.compat.model_cluster import _Known
from trio_model_runner.testing import LocalCrunch, Service

Results = dict[ModelRunner, ModelPredictResult]
SUCCESS, FAILED, TIMEOUT = ModelPredictResult.Status


class Echo(Model):
    def __init__(self, *made_of: Any, of: Any = None) -> None:
        super().__init__()
        self.made_of = [*made_of, of]

    def echo(self, first: Any = None, second: Any = None, three: Any = None) -> list[Any]:
        return [first, second, three]

    def origin(self) -> list[Any]:
        return self.made_of


def argument(position: int, value: Any) -> Argument:
    return Argument(position, Variant(VariantType.JSON, encode_data(VariantType.JSON, value)))


def keyword(name: str, value: int) -> KwArgument:
    return KwArgument(name, Variant(type=VariantType.INT, value=encode_data(VariantType.INT, value)))


def of_all(value: Any) -> dict[str, Any]:
    return {model_id: value for model_id in "abc"}  # noqa: C420 - ruff would not have a list shared


def values(results: Results) -> dict[str, Any]:
    assert all(model is each.model_runner for model, each in results.items())
    return {model.model_id: each.result for model, each in results.items()}


def statuses(results: Results) -> dict[str, ModelPredictResult.Status]:
    return {model.model_id: each.status for model, each in results.items()}


async def test_arguments_are_pairs_or_functions_of_a_model_for_all_or_some() -> None:
    async def program(crunch: LocalCrunch) -> None:
        instance = {"instance_args": [argument(1, "made")], "instance_kwargs": [keyword("of", 4)]}
        async with runner_for(crunch, **instance) as runner:
            assert values(await runner.call("origin")) == of_all(["made", 4])
            pair = ([argument(2, [2]), argument(1, {"one": 1})], [keyword("three", 3)])
            expected = [{"one": 1}, [2], 3]
            assert values(await runner.call("echo", pair)) == of_all(expected)
            assert values(await runner.call("echo", (None, None))) == of_all([None] * 3)
            with pytest.warns(DeprecationWarning, match="'args' and 'kwargs'"):
                old = await runner.call("echo", args=pair[0])
            assert values(old) == of_all([{"one": 1}, [2], None])
            with pytest.warns(DeprecationWarning, match="'args' and 'kwargs'"):
                old = await runner.call("echo", args=[], kwargs=pair[1])
            assert values(old) == of_all([None, None, 3])

            def of_model(model: ModelRunner) -> tuple[list[Argument], list[KwArgument]]:
                asyncio.get_running_loop()  # it is at home here
                return [argument(1, model.model_id)], []

            own = {name: [name, None, None] for name in "abc"}
            assert values(await runner.call("echo", of_model)) == own
            models = runner.model_cluster.models_run
            some = [models["a"], copy.copy(models["c"])]
            assert set(values(await runner.call("echo", pair, model_runs=some))) == {*"ac"}
            assert set(values(await runner.call("echo", of_model, model_runs=some))) == {*"ac"}
            assert len(await runner.call("echo", model_runs=[])) == 3  # as there: none means all
            assert len(await runner.call("echo", timeout=0)) == 3  # as there: no time means the usual

    async with LocalCrunch(dict.fromkeys("abc", Echo)) as crunch:
        await in_asyncio(program, crunch)


async def test_each_end_has_its_status_and_who_was_not_called_is_left_out() -> None:
    async def program(crunch: LocalCrunch, out: trio.CancelScope) -> None:
        async with runner_for(crunch) as runner:
            failed = await runner.call("fail")
            assert statuses(failed) == {"good": FAILED, "hung": FAILED}
            (detail, result) = next((each.detail, each.result) for each in failed.values())
            assert detail is not None
            assert "no feathers" in detail
            assert result is None
            late = await runner.call("predict", timeout=0.5)
            assert statuses(late) == {"good": SUCCESS, "hung": TIMEOUT}
            times = {model.model_id: each.exec_time_us for model, each in late.items()}
            assert 0 < times["good"] < times["hung"]
            assert times["hung"] >= 490_000
            while "hung" in statuses(await runner.call("predict", timeout=0.05)):
                pass  # it is still at it, and is soon not called any more

    class Hung(Model):
        async def predict(self, value: Any = 1.5) -> Any:
            await trio.sleep_forever()

    async with LocalCrunch({"good": Model(), "hung": Hung()}) as crunch:
        crunch.announce("good", "RUNNING")
        with trio.CancelScope() as scope:
            await in_asyncio(program, crunch, scope)


@pytest.mark.parametrize("seconds", [-0.1, math.nan, -math.inf])
async def test_when_no_time_is_left_nothing_is_sent(seconds: float) -> None:
    async def program(crunch: LocalCrunch) -> None:
        async with runner_for(crunch) as runner:
            models = runner.model_cluster.models_run
            for arguments in (([], []), lambda model: ([], [])):
                all_of_them = await runner.call("predict", arguments, timeout=seconds)
                assert statuses(all_of_them) == of_all(TIMEOUT)
                assert {*all_of_them} == {*models.values()}
                one = await runner.call("predict", arguments, timeout=seconds, model_runs=[models["b"]])
                assert statuses(one) == {"b": TIMEOUT}
            assert "nothing was sent" in str(one[models["b"]].detail)
            assert models["b"].consecutive_timeouts == 0

    async with LocalCrunch(dict.fromkeys("abc", Model)) as crunch:
        await in_asyncio(program, crunch)
        assert [len(crunch.node(each).calls) for each in "abc"] == [0, 0, 0]


async def test_models_say_how_they_stand() -> None:
    class Moody(Model):
        def predict(self, value: Any = 1.5) -> Any:
            if value == 0:
                raise ValueError
            return super().predict(value)

    async def program(crunch: LocalCrunch, to_trio: Any) -> None:
        def of_model(model: ModelRunner) -> tuple[list[Argument], list[KwArgument]]:
            return [argument(1, 0 if model.model_id == "a" else 1)], []

        async with runner_for(crunch, report_failure=False) as runner:
            a, b = (runner.model_cluster.models_run[each] for each in "ab")
            await runner.call("predict", of_model)
            await runner.call("predict", of_model)
            assert (a.consecutive_failures, a.consecutive_timeouts, a.closed) == (2, 0, False)
            assert (b.consecutive_failures, b.consecutive_timeouts, b.closed) == (0, 0, False)
            await runner.call("predict")
            assert a.consecutive_failures == 0
            await asyncio.to_thread(to_trio, crunch.remove, "a")
            await until(lambda: a.closed)
            assert pickle.loads(pickle.dumps(b)).closed is False  # noqa: S301 - it is our own
        await until(lambda: b.closed)

    async with LocalCrunch({"a": Moody(), "b": Moody()}) as crunch:
        token = trio.lowlevel.current_trio_token()
        await in_asyncio(program, crunch, lambda *call: trio.from_thread.run(*call, trio_token=token))


async def test_a_coordinator_reports_a_model_itself() -> None:
    async def program(crunch: LocalCrunch) -> None:
        async with runner_for(crunch) as runner:
            cluster = runner.model_cluster
            await cluster.process_failure(cluster.models_run["a"], "LOW_PERFORMANCE", "worse than chance")
            with pytest.raises(ValueError, match="NONSENSE"):
                await cluster.process_failure(cluster.models_run["b"], "NONSENSE")

    async with LocalCrunch({"a": Model(), "b": Model()}) as crunch:
        await in_asyncio(program, crunch)
        report = await crunch.wait_for_report("a", "LOW_PERFORMANCE")
        assert report.reason == "worse than chance"


async def test_a_function_that_raises_costs_its_model_alone(caplog: pytest.LogCaptureFixture) -> None:
    def of_model(model: ModelRunner) -> tuple[list[Argument], list[KwArgument]]:
        return ([argument(1, 1)], []) if model.model_id == "a" else ([], {}["wealth"])

    async def program(crunch: LocalCrunch) -> Results:
        async with runner_for(crunch) as runner:
            with pytest.raises(TypeError, match="plain function"):
                await runner.call("predict", in_asyncio)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="pair of lists"):
                await runner.call("predict", 5)  # type: ignore[arg-type]
            return await runner.call("predict", of_model)

    async with LocalCrunch(dict.fromkeys("ab", Model)) as crunch:
        results = await in_asyncio(program, crunch)
        assert not crunch.node("b").calls
    assert statuses(results) == {"a": SUCCESS, "b": FAILED}
    assert [(each.levelname, each.exc_info is not None) for each in caplog.records] == [("ERROR", True)]


async def test_models_come_and_go_and_are_the_same_runners_meanwhile() -> None:
    async def program(crunch: LocalCrunch, to_trio: Any) -> None:
        async with runner_for(crunch) as runner:
            models = runner.model_cluster.models_run
            a, b = models["a"], models["b"]
            assert (a.model_id, a.model_name, a.deployment_id) == ("a", "a", "deployment-1")
            assert (a.ip, a.port) == ("127.0.0.1", crunch.node("a").port)
            assert json.loads(json.dumps(a.infos))["cruncher_id"] == "cruncher-of-a"
            assert set(await runner.call("predict")) == {a, b} == {*models.values()}
            assert models["a"] is a
            await asyncio.to_thread(to_trio, crunch.remove, "a")
            await asyncio.to_thread(to_trio, crunch.redeploy, "b", Model())
            await until(lambda: "a" not in models and models["b"] != b)
            assert (len(models), [*models], models.copy()) == (1, ["b"], {"b": models["b"]})
            assert await runner.call("predict", model_runs=[a]) == {}
            assert await runner.call("predict", lambda model: ([], []), model_runs=[a]) == {}

            crunch_infos = {**models["b"].infos, "model_name": "new name"}
            await asyncio.to_thread(to_trio, announce_infos, crunch, crunch_infos)
            await until(lambda: models["b"].model_name == "new name")

    async def announce_infos(crunch: LocalCrunch, infos: dict[str, Any]) -> None:
        crunch.announce("b", "RUNNING", infos=infos)

    async with LocalCrunch({"a": Model(), "b": Model()}) as crunch:
        token = trio.lowlevel.current_trio_token()

        def to_trio(function: Any, *arguments: Any) -> None:
            trio.from_thread.run(function, *arguments, trio_token=token)

        await in_asyncio(program, crunch, to_trio)


async def test_a_look_at_one_model_is_no_look_at_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Private: what a look costs is seen by nobody, until there are 500 models.
    runner_of, asked = _Known.runner_of, []

    def ask(known: _Known, model: Any) -> ModelRunner:
        asked.append(model.model_id)
        return runner_of(known, model)

    async def program(crunch: LocalCrunch) -> None:
        async with runner_for(crunch) as runner:
            models = runner.model_cluster.models_run
            assert (len(models), sorted(models), "b" in models, "d" in models) == (3, [*"abc"], True, False)
            assert asked == []
            assert models["b"].model_id == models.get("b", models["b"]).model_id == "b"
            assert asked == ["b"] * 3

    monkeypatch.setattr(_Known, "runner_of", ask)
    async with LocalCrunch(dict.fromkeys("abc", Model)) as crunch:
        await in_asyncio(program, crunch)


async def test_a_runner_takes_no_models_of_another() -> None:
    async def program(crunch: LocalCrunch) -> None:
        async with runner_for(crunch) as one, runner_for(crunch) as other:
            foreign = [*other.model_cluster.models_run.values()]
            with pytest.raises(ValueError, match="model_runs: 'a' is another runner's model"):
                await one.call("predict", model_runs=foreign)
            with pytest.raises(TypeError, match="model_runs: must be ModelRunners"):
                await one.call("predict", model_runs=["a"])  # type: ignore[list-item]
            both = await asyncio.gather(one.call("predict"), other.call("predict"))  # two threads
            assert [values(each) for each in both] == [{"a": 1.5}, {"a": 1.5}]

    async with LocalCrunch({"a": Model}) as crunch:
        await in_asyncio(program, crunch)


async def test_results_can_be_copied_pickled_and_kept() -> None:
    async def program(crunch: LocalCrunch) -> tuple[Results, bytes]:
        async with runner_for(crunch) as runner:
            results = await runner.call("predict")
            return results, pickle.dumps(results)

    async with LocalCrunch(dict.fromkeys("ab", Model)) as crunch:
        results, pickled = await in_asyncio(program, crunch)
    for again in (pickle.loads(pickled), copy.deepcopy(results)):  # noqa: S301 - it is our own
        assert again == results
        assert [again[model] for model in results] == [*results.values()]
    assert "result=1.5, status=<Status.SUCCESS: 'SUCCESS'>" in str(results)


async def test_before_init_there_are_no_models_as_there(caplog: pytest.LogCaptureFixture) -> None:
    async def program(crunch: LocalCrunch) -> None:
        runner = runner_for(crunch)
        assert runner.model_cluster.models_run == {}
        assert await runner.call("predict") == {}

    with caplog.at_level(logging.WARNING):
        async with LocalCrunch({"a": Model}) as crunch:
            await in_asyncio(program, crunch)
    assert caplog.messages == ["call before the end of init(): there are no models yet"]


async def test_many_tasks_call_at_once_as_a_web_service_does() -> None:
    async def program(crunch: LocalCrunch) -> list[Results]:
        runner = runner_for(crunch)
        await runner.init()  # when it starts
        syncing = asyncio.create_task(runner.sync())
        pairs = [([argument(1, number)], []) for number in range(30)]
        requests = [asyncio.create_task(runner.call("predict", pair)) for pair in pairs]
        results = await asyncio.gather(*requests)
        await runner.close()  # when it ends
        await syncing
        return results

    async with LocalCrunch(dict.fromkeys("ab", Model)) as crunch:
        results = await in_asyncio(program, crunch)
    assert [values(each) for each in results] == [dict.fromkeys("ab", number) for number in range(30)]


@pytest.mark.parametrize("json_type", [DataType.JSON, 5, VariantType.JSON])
async def test_the_first_release_predicts_and_reports_nobody(json_type: Any) -> None:
    async def program(crunch: LocalCrunch) -> dict[str, Any]:
        where = (crunch.orchestrator.host, crunch.orchestrator.port)
        runner = ModelConcurrentRunner(timeout=60, crunch_id="local", host=where[0], port=where[1])
        assert await runner.predict(json_type, b"") == {}  # as there: no models yet
        async with runner:
            results = await runner.predict(json_type, encode_data(DataType.JSON, {"at": 3}))
            assert statuses(results) == {"good": SUCCESS, "bad": FAILED}
            return values(results)

    class Good:
        def infer(self, value: Any) -> Any:
            return value

    class Bad:
        def infer(self, value: Any) -> Any:
            raise ValueError("no feathers")

    async with LocalCrunch({"good": Good(), "bad": Bad()}, services=(Service.MODEL_RUNNER,)) as crunch:
        results = await in_asyncio(program, crunch)
    assert results["good"] == {"at": 3}
    assert results["bad"].startswith("gRPC status INTERNAL")  # as there: what went wrong is the result


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"base_classname": "Tracker"}, ValueError),
        ({"crunch_id": ""}, ValueError),
        ({"instance_args": [1]}, TypeError),
        ({"secure_credentials": object()}, TypeError),
        ({"gateway_credentials": object()}, TypeError),
        ({"secure_credentials": 1, "gateway_credentials": 1}, ValueError),
    ],
)
def test_a_mistake_is_refused_before_anything_runs(wrong: dict[str, Any], error: type[Exception]) -> None:
    right = {"timeout": 5, "crunch_id": "c", "host": "h", "port": 1, "base_classname": "a.B"}
    with pytest.raises(error, match=next(iter(wrong)).replace("base_classname", "class_name")):
        DynamicSubclassModelConcurrentRunner(**{**right, **wrong})


def test_values_that_the_asyncio_client_takes_are_taken() -> None:
    for report, told in [(True, True), (1, True), (0, False), (False, False), (None, False)]:
        runner = DynamicSubclassModelConcurrentRunner(None, "c", "h", "9091", "a.B", report_failure=report)
        assert (runner.timeout, runner.port) == (math.inf, 9091)
        assert runner.model_cluster.report_failure is told
    assert ModelConcurrentRunner(None, "c", "h", "9091").port == 9091


def test_a_runner_says_what_it_was_made_with() -> None:
    made_with = {
        "base_classname": "a.B",
        "instance_args": [argument(1, 1)],
        "instance_kwargs": [keyword("a", 1)],
        "max_consecutive_failures": 4,
        "max_consecutive_timeouts": 5,
    }
    runner = DynamicSubclassModelConcurrentRunner(5, "c", "h", 1, **made_with)  # type: ignore[arg-type]
    assert {name: getattr(runner, name) for name in made_with} == made_with
    assert runner.max_consecutive_timeout == 5
    assert (runner.secure_credentials, runner.gateway_credentials) == (None, None)
    with pytest.raises(AttributeError):
        runner.max_consecutive_failures = 3  # type: ignore[misc]
    assert isinstance(runner, ModelConcurrentRunner)
    assert not hasattr(runner, "predict")


def test_results_are_made_as_there() -> None:
    model, status = ModelRunner("a", "a", "1", "h", 1), ModelPredictResult.Status
    made = [
        ModelPredictResult.of_success(model, 1.5, 20),
        ModelPredictResult.of_failed(model, 20, detail="why"),
        ModelPredictResult.of_timeout(model, 20),
    ]
    assert made == [
        ModelPredictResult(model, 1.5, status.SUCCESS, 20, None),
        ModelPredictResult(model, None, status.FAILED, 20, "why"),
        ModelPredictResult(model, None, status.TIMEOUT, 20, None),
    ]
    assert model.closed  # nobody's


@pytest.mark.parametrize("none", [0, None])
def test_no_limit_reports_nobody_as_there(none: Any) -> None:
    limits = {"max_consecutive_failures": none, "max_consecutive_timeouts": none}
    runner = DynamicSubclassModelConcurrentRunner(5, "c", "h", 1, "a.B", **limits)
    config = runner.model_cluster._config  # private: where a limit shows otherwise takes a minute to see
    assert (config.max_consecutive_failures, config.max_consecutive_timeouts) == (None, None)
