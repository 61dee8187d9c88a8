"""What a type checker makes of a coordinator's program; never run. See test_typing.py."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, assert_type

import attrs

from trio_model_runner import (
    Arguments,
    Cluster,
    Encoded,
    ModelRunner,
    PredictionRound,
    PredictResult,
    Status,
)
from trio_model_runner.values.results import Model


@attrs.frozen
class Point:
    x: float


class Row(TypedDict):
    price: float


def positive(answer: Any) -> float:
    if answer <= 0:
        raise ValueError("not positive")
    return float(answer)


async def rounds(cluster: Cluster) -> None:
    assert_type(await cluster.call("predict"), PredictionRound[Any])
    assert_type(await cluster.call("predict", returns=float), PredictionRound[float])
    assert_type(await cluster.call("predict", returns=Point), PredictionRound[Point])
    assert_type(await cluster.call("predict", returns=Row), PredictionRound[Row])
    assert_type(await cluster.call("predict", returns=list[Point]), PredictionRound[list[Point]])
    assert_type(await cluster.call("predict", returns=positive), PredictionRound[float])
    assert_type(await cluster.call("predict", returns=Literal["up", "down"]), PredictionRound[Any])
    assert_type(
        await cluster.call("predict", returns=float | None), PredictionRound[Any] | PredictionRound[float]
    )
    assert_type(await cluster.call("predict", decode=False), PredictionRound[Encoded])
    assert_type(await cluster.predict(1), PredictionRound[Any])
    assert_type(await cluster.predict(1, returns=Point), PredictionRound[Point])
    assert_type(await cluster.predict(1, decode=False), PredictionRound[Encoded])


async def one_round(cluster: Cluster) -> None:
    results = await cluster.call("predict", lambda model: Arguments(model.model_id), returns=Point)
    for model, result in results.items():
        assert_type(model, Model)
        assert_type(result, PredictResult[Point])
        assert_type(result.model, Model)
        assert_type(result.value, Point | None)
        assert_type(result.unwrap(), Point)
        assert_type(result.status, Status)
    assert_type(results.by_id["a"].unwrap().x, float)
    assert_type(next(iter(results.succeeded)), Model)
    await cluster.call("tick", models=results.failed)
    kept: PredictionRound[Point] = results
    any_kept: PredictionRound = results
    assert kept is any_kept


async def as_completed(cluster: Cluster) -> None:
    async with cluster.as_completed("predict", returns=Point) as results:
        async for result in results:
            assert_type(result.unwrap(), Point)
    async with cluster.as_completed("predict", decode=False) as answers:
        async for answer in answers:
            assert_type(answer.unwrap(), Encoded)


async def one_model(model: ModelRunner) -> None:
    assert_type(await model.call("predict", returns=float), PredictResult[float])
    assert_type(await model.call("predict"), PredictResult[Any])
    assert_type(await model.predict(1, returns=Point), PredictResult[Point])
    assert_type(await model.predict(1, decode=False), PredictResult[Encoded])
    assert_type(await model.reset(), PredictResult[None])


@attrs.frozen
class FakeModel:
    model_id: str
    deployment_id: str | None = None
    name: str = ""


def by_hand() -> None:
    model = FakeModel("a")
    result = PredictResult(model, Status.SUCCESS, 1.5)
    assert_type(result, PredictResult[float, FakeModel])
    made = PredictionRound(
        {model: result}, id="1", method="predict", started_at=0.0, elapsed=0.1, timeout=1.0
    )
    assert_type(made.by_id["a"].unwrap(), float)


async def mistakes(cluster: Cluster, model: ModelRunner) -> None:
    round_of_points = await cluster.call("predict", returns=Point)
    round_of_points.by_id["a"].unwrap().y  # type: ignore[attr-defined]  # noqa: B018
    await cluster.call("predict", "BTC")  # type: ignore[call-overload]
    await cluster.call("predict", lambda model: model.model_id)  # type: ignore[arg-type, return-value]
    await cluster.call("predict", timeout="1 s")  # type: ignore[call-overload]
    await cluster.call("predict", models=1)  # type: ignore[call-overload]
    await model.call("predict", lambda model: Arguments())  # type: ignore[call-overload]
    PredictResult("a", Status.SUCCESS)  # type: ignore[type-var]
