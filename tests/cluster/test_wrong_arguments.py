"""What a coordinator passes wrongly to a cluster is refused by the argument's name, with what to do."""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpclib
import numpy
import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating, until
from trio.testing import MockClock

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    ConfigError,
    DynamicSubclassService,
    FailureCode,
    ModelState,
    Status,
    TrainInferService,
)

CONFIG = ClusterConfig("bird-game")
CODES = "CONNECTION_FAILED, BAD_IMPLEMENTATION, MULTIPLE_FAILED, MULTIPLE_TIMEOUT, LOW_PERFORMANCE"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cluster("bird-game", SERVICE), "TypeError: config: must be a ClusterConfig, got str"),
        (
            lambda: Cluster(CONFIG, "birds.Bird"),
            r"TypeError: service: must be a .*Class.*, got 'birds\.Bird'",
        ),
        (
            lambda: Cluster(CONFIG, TrainInferService),
            "TypeError: service: must be .*the class TrainInferService itself",
        ),
        (lambda: DynamicSubclassService("a..B"), "ValueError: class_name: must look like 'package.module.C"),
        (lambda: DynamicSubclassService("a.B c"), "ValueError: class_name: must look like"),
        (lambda: DynamicSubclassService("a.1B"), "ValueError: class_name: must look like"),
        (
            lambda: Cluster(CONFIG, SERVICE, on_join=5),
            "TypeError: on_join: must be an async function, got int",
        ),
        (
            lambda: DynamicSubclassService("birds.Bird", (1, 2)),
            "TypeError: arguments: must be Arguments, got tuple",
        ),
        (lambda: FailureCode("LOW_PERF"), f"ValueError: code: must be one of {CODES}, got 'LOW_PERF'$"),
    ],
)
def test_what_is_made_wrongly(make: Callable[[], Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert re.match(said, f"{caught.type.__name__}: {caught.value}")


@pytest.mark.parametrize("missing", [["pandas"], ["pandas", "pyarrow"]])
def test_pandas_frames_without_pandas_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)
    said = f"^frames: 'pandas' needs {' and '.join(missing)}, not installed here: pip install "
    with pytest.raises(ConfigError, match=said):
        Cluster(ClusterConfig("bird-game", frames="pandas"), SERVICE)


async def wait_for_nobody(cluster: Cluster) -> None:
    await cluster.wait_for_models("3")  # type: ignore[arg-type]


def started() -> Any:
    """A coroutine that nobody awaits, which is no warning here."""

    async def nothing() -> None:
        pass

    coroutine = nothing()
    coroutine.close()
    return coroutine


CALLS: list[tuple[Callable[[Any], Awaitable[Any]], str]] = [
    (lambda c: c.call(Model.predict), "TypeError: method: must be a str, got function"),
    (lambda c: c.call(""), "ValueError: method: must not be empty"),
    (lambda c: c.call("predict", [1]), r"TypeError: arguments: must be Arguments\(\.\.\.\), or .*, got list"),
    (lambda c: c.call("predict", Arguments), "TypeError: arguments: .*, got the class itself"),
    (lambda c: c.call("predict", timeout="2"), "TypeError: timeout: must be a number of seconds, got '2'$"),
    (
        lambda c: c.call("predict", timeout=numpy.int64(2)),
        r"TypeError: timeout: .*: give int\(\.\.\.\) of it",
    ),
    (
        lambda c: c.call("predict", timeout=datetime.timedelta(0, 2)),
        r"TypeError: timeout: .*: give its \.total_seconds\(\)",
    ),
    (lambda c: c.call("predict", timeout=0), "ValueError: timeout: must be > 0 seconds, got 0"),
    (lambda c: c.call("predict", timeout=[1, "payload"]), "TypeError: timeout: .* seconds, got list$"),
    (lambda c: c.call("predict", models="a"), "TypeError: models: .*, got one str: put it in a list"),
    (
        lambda c: c.call("predict", models=c.models["a"]),
        "TypeError: models: .*, got one ModelRunner: put it in a list",
    ),
    (
        lambda c: c.call("predict", returns=float, decode=False),
        "TypeError: returns: not with decode=False: an answer that is not decoded is an Encoded",
    ),
    (
        lambda c: c.call("predict", Arguments(datetime.date(2026, 1, 1))),
        r"TypeError: argument 1: date can't be sent as JSON \(send its \.isoformat\(\)\)$",
    ),
    (lambda c: c.drain("1"), "TypeError: timeout: must be a number of seconds, got '1'"),
    (lambda c: c.models["a"].call(None), "TypeError: method: must be a str, got NoneType"),
    (lambda c: c.predict(Arguments(1)), r"TypeError: argument 1: Arguments can't be .* \(give its values"),
    (lambda c: c.predict(started()), r"TypeError: argument 1: coroutine can't be .* \(await it, and send"),
    (lambda c: c.report_failure(c.models["a"], ["x"]), "ValueError: code: .*, got list$"),
    (wait_for_nobody, "TypeError: count: must be a whole number, got '3'"),
    (lambda c: c.wait_for_models(-1), "ValueError: count: must be >= 0, got -1"),
    (
        lambda c: c.report_failure("a", "LOW_PERFORMANCE"),
        "TypeError: model: must be a ModelRunner, got the text 'a': cluster.announced has them by id",
    ),
    (
        lambda c: c.report_failure(c.models["a"], "LOW_PERF"),
        f"ValueError: code: must be one of {CODES}, got 'LOW_PERF'$",
    ),
]


@pytest.mark.parametrize("timeout", [1e300, 1e308, sys.float_info.max, 10**400, math.inf])
async def test_a_timeout_may_be_as_long_as_it_likes(autojump_clock: MockClock, timeout: float) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        model = cluster.models["a"]
        assert (await cluster.call("predict", timeout=timeout)).succeeded
        assert (await model.call("predict", timeout=timeout)).value == 1.5
        async with cluster.as_completed("predict", timeout=timeout) as results:
            assert [result.value async for result in results] == [1.5]
        assert (await model.reset(timeout=timeout)).sent
        await cluster.drain(timeout)


@pytest.mark.parametrize(("call", "said"), CALLS)
async def test_what_is_called_wrongly(
    autojump_clock: MockClock, call: Callable[[Any], Awaitable[Any]], said: str
) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster):
        with pytest.raises((TypeError, ValueError)) as caught:
            await call(cluster)
        assert crunch.node("a").call_count == 0
    assert re.match(said, f"{caught.type.__name__}: {caught.value}")


async def test_a_function_that_returns_no_arguments_fails_its_own_model(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        results = await cluster.call("predict", lambda _: 5)  # type: ignore[arg-type, return-value]
    text = "arguments: the function must return Arguments(...), got int"
    assert results.by_id["a"].detail == text


def raise_bare(_: Any) -> Any:
    raise KeyError


@pytest.mark.parametrize(
    ("options", "said", "has_traceback"),
    [
        ({"arguments": raise_bare}, "arguments: the function raised KeyError", True),
        ({"arguments": lambda _: {}["x"]}, "arguments: the function raised KeyError: 'x'", True),
        (
            {"arguments": lambda _: None},
            "arguments: the function must return Arguments(...), got NoneType",
            False,
        ),
        ({"arguments": lambda _: Arguments({1})}, "arguments: argument 1: set can't be sent as JSON", False),
        ({"returns": raise_bare}, "returns: the function raised KeyError", True),
    ],
)
async def test_a_coordinators_own_mistake_is_one_error_in_the_log(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    said: str,
    has_traceback: bool,
) -> None:
    async with coordinating({"a": Model(), "b": Model(), "c": Model()}) as (_, cluster):
        results = await cluster.call("predict", **options)
    (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.getMessage().startswith("round 1: 'predict' failed for 3 models by no fault of theirs: ")
    assert said in record.getMessage()
    assert (record.exc_info is not None) is has_traceback
    for result in results.values():
        assert result.status is Status.FAILED
        assert result.detail.startswith(said)


async def test_an_answer_that_is_refused_without_a_word_is_still_a_misfit(autojump_clock: MockClock) -> None:
    def refuse(_: Any) -> Any:
        raise ValueError

    async with coordinating({"a": Model()}) as (_, cluster):
        result = await cluster.models["a"].call("predict", returns=refuse)
    assert result.detail == "the answer does not fit: ValueError"


async def test_a_class_that_no_node_has_is_asked_about_by_name(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating({}) as (crunch, cluster):
        node = await crunch.add("a", Model(), announce=False)
        node.faults.setup_status = ("BAD_IMPLEMENTATION", "no such class")
        crunch.announce("a")
        await until(cluster, lambda: cluster.snapshot().models.get(ModelState.FAILED.value))
    (text,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert text.startswith("as many models lack the class_name 'crunch.Model' as have shown")


async def test_models_that_are_late_with_many_calls_are_not_said_to_fail_with_all(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    details: list[str] = []
    async with coordinating({"a": Model(), "b": Model()}) as (_, cluster):

        async def call() -> None:
            results = await cluster.call("sleep", Arguments(0.5), timeout=2.2)
            details.extend(result.detail for result in results.values())

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(call)
    behind = (
        "the deadline passed while waiting: behind 11 other calls of this model, within a timeout of 2.2 s"
    )
    assert sum(each.startswith(behind) for each in details) == 2
    assert details.count("") == 8
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_a_crunch_of_one_is_told_of_its_setting(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        await cluster.call("fail")
    (text,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert "there is no other model; health.require_witness=false is for a crunch of one" in text


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("remove", "the orchestrator stopped the model"),
        ("crash", "the orchestrator says that the model crashed"),
    ],
)
async def test_a_call_that_the_orchestrator_ends_says_so(
    autojump_clock: MockClock, end: str, said: str
) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster), trio.open_nursery() as nursery:
        model, results = cluster.models["a"], []

        async def call() -> None:
            results.append(await model.call("hang"))

        nursery.start_soon(call)
        await crunch.node("a").wait_for_calls(1)
        crunch.announce("a", "STOPPED" if end == "remove" else "RECOVERING")
        await until(cluster, lambda: model.state is not ModelState.READY)
        await trio.testing.wait_all_tasks_blocked()
        assert [each.detail for each in results] == [said]
        if end == "remove":
            assert (await model.call("predict")).detail == f"gone: {said}"


async def test_a_call_that_outlives_the_block_says_so(autojump_clock: MockClock) -> None:
    results = []
    async with trio.open_nursery() as nursery, coordinating({"a": Model()}) as (crunch, cluster):

        async def call(model: Any) -> None:
            results.append(await model.call("hang"))

        nursery.start_soon(call, cluster.models["a"])
        await crunch.node("a").wait_for_calls(1)
    assert [each.detail for each in results] == ["this cluster's block was left"]


async def test_a_model_that_is_absent_says_since_when_and_why(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating({}, setup_timeout=10.0) as (crunch, cluster):
        node = await crunch.add("a", Model(), announce=False)
        node.faults.hang_setup = True
        crunch.announce("a")
        await until(cluster, lambda: cluster.snapshot().models.get(ModelState.SETTING_UP.value))
        model = cluster.announced["a"]
        await trio.sleep(3.2)
        assert (await model.call("predict")).detail == "announced, but still setting up after 3.2 s"
        await trio.sleep(10)
        late = "Setup was not answered within 10 s (setup_timeout)"
        assert str(model.error) == late
        assert (await model.call("predict")).detail == f"announced, but still setting up after 13.2 s: {late}"
    (warning,) = [each.getMessage() for each in caplog.records if "still setting up" in each.getMessage()]
    assert warning == f"model 'a' is still setting up: {late}; it joins when its node is through"


async def test_a_status_of_the_way_is_said_once(autojump_clock: MockClock) -> None:
    async with coordinating({}) as (crunch, cluster):
        node = await crunch.add("a", Model(), announce=False)
        node.faults.setup_error = (grpclib.Status.UNAVAILABLE, "x")
        crunch.announce("a")
        await until(cluster, lambda: cluster.snapshot().models.get(ModelState.FAILED.value))
        error = cluster.announced["a"].error
    assert str(error) == "no connection after 5 attempts: Setup: gRPC status UNAVAILABLE: x"


@pytest.mark.parametrize("what", ["as_completed", "changes"])
async def test_a_block_is_entered_once_and_with_async_with(autojump_clock: MockClock, what: str) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):

        def make() -> Any:
            return cluster.as_completed("predict") if what == "as_completed" else cluster.changes()

        with pytest.raises(RuntimeError, match=rf"^use it so: `async with cluster\.{what}\("):
            async for _each in make():
                pass
        for use in (iter, lambda block: block.__enter__()):
            with pytest.raises(RuntimeError, match=r"^use it so: `async with cluster\."):
                use(make())
        block = make()
        async with block as inside:
            with pytest.raises(RuntimeError, match="use `async for"):
                list(inside)
        with pytest.raises(
            RuntimeError, match=f"entered before: make a new one, by `async with cluster.{what}"
        ):
            await block.__aenter__()
        if what == "as_completed":
            with pytest.raises(trio.ClosedResourceError, match="the block was left"):
                await anext(inside)


def test_flags_of_views_are_flags() -> None:
    cluster = Cluster(CONFIG, SERVICE)
    with pytest.raises(TypeError, match="initial: must be True or False, got 1"):
        cluster.changes(initial=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="models: must be True or False, got 'yes'"):
        cluster.snapshot(models="yes")  # type: ignore[arg-type]


async def test_a_result_that_is_asked_for_by_id(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (_, cluster):
        results: Any = await cluster.call("predict")
    with pytest.raises(KeyError, match="by_id has the results by model id, such as 'a'"):
        _ = results["a"]
    assert results.get("a") is None
    assert "a" not in results


async def test_an_on_join_that_is_not_async_says_so(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}, on_join=lambda _: None) as (_, cluster):
        model = cluster.announced["a"]
        await until(cluster, lambda: model.state is ModelState.FAILED)
        assert str(model.error) == "on_join: must be an async function, and returned NoneType"


async def test_a_method_that_nobody_has_is_asked_about_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (_, cluster):
        await cluster.call("perdict")
    (text,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert text.startswith(
        "as many models lack 'perdict' as have shown that they have it, or more, so nobody"
    )
    assert "is it spelt right? 'BAD_IMPLEMENTATION: " in text
