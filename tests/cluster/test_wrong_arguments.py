"""What a coordinator passes wrongly to a cluster is refused by the argument's name, with what to do."""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy
import pytest
from helpers.coordinating import SERVICE, Model, coordinating, until
from trio.testing import MockClock

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterConfig,
    DynamicSubclassService,
    FailureCode,
    ModelState,
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
        (lambda: Cluster(CONFIG, TrainInferService), "TypeError: service: must be .*TrainInferService'>"),
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


async def wait_for_nobody(cluster: Cluster) -> None:
    await cluster.wait_for_models("3")  # type: ignore[arg-type]


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
    text = "arguments: TypeError('the function must return Arguments(...), got int')"
    assert results.by_id["a"].detail == text


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
