"""What type checkers make of a coordinator's program; never run. See test_typing.py."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import abc
from typing import Annotated, Any, Literal, NewType, TypedDict, TypeVar, assert_type

import attrs
import pydantic
from typing_extensions import TypeAliasType, TypeForm

from trio_model_runner import (
    Arguments,
    Cluster,
    Encoded,
    ModelRunner,
    PredictionRound,
    PredictResult,
    Status,
)
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import CrunchFactory, LocalCrunch, MemoryCrunch
from trio_model_runner.values.results import Model


@attrs.frozen
class Point:
    x: float


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...


class Row(TypedDict):
    price: float


class Quote(pydantic.BaseModel):
    price: float


T = TypeVar("T")
Price = NewType("Price", float)
MaybePrice = float | None
Nested = TypeAliasType("Nested", "list[float] | dict[str, float]")  # what `type Nested = ...` makes


def positive(answer: Any) -> float:
    if answer <= 0:
        raise ValueError("not positive")
    return float(answer)


async def crunches(local_crunch: CrunchFactory) -> None:
    async with local_crunch({"a": object()}) as crunch:
        assert_type(crunch, MemoryCrunch)
        assert_type(crunch.network, MemoryNetwork)
        with crunch.network.cut(crunch.node("a")):
            pass
    async with LocalCrunch() as anywhere:
        assert_type(anywhere.network, MemoryNetwork | None)


async def rounds(cluster: Cluster) -> None:
    assert_type(await cluster.call("predict"), PredictionRound[Any])
    assert_type(await cluster.call("predict", returns=None), PredictionRound[Any])
    assert_type(await cluster.call("predict", returns=float), PredictionRound[float])
    assert_type(await cluster.call("predict", returns=Point), PredictionRound[Point])
    assert_type(await cluster.call("predict", returns=Shape), PredictionRound[Shape])
    assert_type(await cluster.call("predict", returns=Row), PredictionRound[Row])
    assert_type(await cluster.call("predict", returns=Quote), PredictionRound[Quote])
    assert_type(await cluster.call("predict", returns=list[Point]), PredictionRound[list[Point]])
    assert_type(await cluster.call("predict", returns=dict[int, float]), PredictionRound[dict[int, float]])
    assert_type(  # Any for pyright, to which a NewType is a function of Any
        await cluster.call("predict", returns=Price),  # pyright: ignore[reportAssertTypeFailure]
        PredictionRound[Price],
    )
    assert_type(await cluster.call("predict", returns=tuple[float, ...]), PredictionRound[tuple[float, ...]])
    assert_type(await cluster.predict(1), PredictionRound[Any])
    assert_type(await cluster.predict(1, returns=Point), PredictionRound[Point])


async def types_that_are_no_classes(cluster: Cluster) -> None:
    assert_type(await cluster.call("predict", returns=float | None), PredictionRound[float | None])
    assert_type(await cluster.call("predict", returns=int | str), PredictionRound[int | str])
    assert_type(await cluster.call("predict", returns=int | str | None), PredictionRound[int | str | None])
    assert_type(
        await cluster.call("predict", returns=list[Point] | None), PredictionRound[list[Point] | None]
    )
    assert_type(
        await cluster.call("predict", returns=Literal["up", "down"]), PredictionRound[Literal["up", "down"]]
    )
    assert_type(await cluster.call("predict", returns=Annotated[float, "in EUR"]), PredictionRound[float])
    assert_type(await cluster.call("predict", returns=MaybePrice), PredictionRound[float | None])
    assert_type(
        await cluster.call("predict", returns=Nested), PredictionRound[list[float] | dict[str, float]]
    )
    assert_type(await cluster.predict(1, returns=float | None), PredictionRound[float | None])
    assert_type(
        await cluster.predict(1, returns=Literal["up", "down"]), PredictionRound[Literal["up", "down"]]
    )
    values = [result.value for result in (await cluster.call("predict", returns=int | str)).values()]
    assert_type(values, list[int | str | None])
    for result in (await cluster.call("predict", returns=float | None)).values():
        assert_type(result.unwrap(), float | None)


async def arguments_for_each(cluster: Cluster) -> None:
    assert_type(
        await cluster.call("predict", lambda model: Arguments(model.model_id), returns=float | None),
        PredictionRound[float | None],
    )
    assert_type(
        await cluster.call("predict", lambda model: Arguments(model.model_id), returns=Literal["up", "down"]),
        PredictionRound[Literal["up", "down"]],
    )


async def functions(cluster: Cluster, model: ModelRunner) -> None:
    assert_type(await cluster.call("predict", returns=positive), PredictionRound[float])
    assert_type(await cluster.call("predict", returns=Quote.model_validate), PredictionRound[Quote])
    assert_type(await cluster.call("predict", returns=lambda answer: 1), PredictionRound[int])
    assert_type(await cluster.predict(1, returns=positive), PredictionRound[float])
    assert_type(await model.call("predict", returns=positive), PredictResult[float])
    assert_type(await model.predict(1, returns=positive), PredictResult[float])
    async with cluster.as_completed("predict", returns=positive) as results:
        async for result in results:
            assert_type(result.unwrap(), float)


async def undecoded(cluster: Cluster, model: ModelRunner) -> None:
    assert_type(await cluster.call("predict", decode=False), PredictionRound[Encoded])
    assert_type(await cluster.call("predict", returns=None, decode=False), PredictionRound[Encoded])
    assert_type(await cluster.predict(1, decode=False), PredictionRound[Encoded])
    assert_type(await model.call("predict", decode=False), PredictResult[Encoded])
    assert_type(await model.predict(1, decode=False), PredictResult[Encoded])
    async with cluster.as_completed("predict", decode=False) as answers:
        async for answer in answers:
            assert_type(answer.unwrap(), Encoded)


async def handed_on(cluster: Cluster, returns: type[T]) -> PredictionRound[T]:
    return await cluster.call("predict", returns=returns)


async def form_handed_on(cluster: Cluster, returns: TypeForm[T]) -> PredictionRound[T]:
    return await cluster.call("predict", returns=returns)


async def known_at_run_time(
    cluster: Cluster,
    some_class: type,
    any_class: type[Any],
    maybe: type[Point] | None,
    anything: Any,
    timeout: float | None,
    decode: bool,
) -> None:
    assert_type(await cluster.call("predict", returns=some_class), PredictionRound[Any])
    assert_type(await cluster.call("predict", returns=any_class), PredictionRound[Any])
    assert_type(await cluster.call("predict", returns=maybe), PredictionRound[Point] | PredictionRound[Any])
    assert_type(await cluster.call("predict", returns=anything), PredictionRound[Any])
    assert_type(await cluster.call("predict", decode=decode), PredictionRound[Any])
    assert_type(
        await cluster.call("predict", timeout=timeout, returns=float | None), PredictionRound[float | None]
    )
    assert_type(await handed_on(cluster, Point), PredictionRound[Point])
    assert_type(await form_handed_on(cluster, float | None), PredictionRound[float | None])


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
    maybe_kept: PredictionRound[float | None] = await cluster.call("predict", returns=float | None)
    assert kept is any_kept is not maybe_kept


async def as_completed(cluster: Cluster) -> None:
    async with cluster.as_completed("predict", returns=Point) as results:
        async for result in results:
            assert_type(result.unwrap(), Point)
        assert_type(results.round, PredictionRound[Point])
        assert_type((results.id, results.missing), tuple[str, tuple[str, ...]])
    async with cluster.as_completed("predict", returns=float | None) as prices:
        async for price in prices:
            assert_type(price, PredictResult[float | None])
            assert_type(await price.model.call("weight", returns=int | str), PredictResult[int | str])
    async with cluster.as_completed("predict", returns=Literal["up", "down"]) as directions:
        async for direction in directions:
            assert_type(direction.unwrap(), Literal["up", "down"])
    async with cluster.as_completed("predict") as anything:
        async for thing in anything:
            assert_type(thing, PredictResult[Any])


async def one_model(model: ModelRunner) -> None:
    assert_type(await model.call("predict", returns=float), PredictResult[float])
    assert_type(await model.call("predict"), PredictResult[Any])
    assert_type(await model.call("predict", returns=float | None), PredictResult[float | None])
    assert_type(
        await model.call("predict", returns=Literal["up", "down"]), PredictResult[Literal["up", "down"]]
    )
    assert_type(await model.predict(1), PredictResult[Any])
    assert_type(await model.predict(1, returns=Point), PredictResult[Point])
    assert_type(await model.predict(1, returns=list[Point] | None), PredictResult[list[Point] | None])
    assert_type(await model.reset(), PredictResult[None])


async def model_of_a_result(result: PredictResult[Point]) -> None:
    assert_type(await result.model.call("predict"), PredictResult[Any])
    assert_type(await result.model.call("predict", returns=Point), PredictResult[Point])
    assert_type(await result.model.call("predict", returns=float | None), PredictResult[float | None])
    assert_type(await result.model.call("predict", returns=positive), PredictResult[float])
    assert_type(await result.model.call("predict", decode=False), PredictResult[Encoded])
    assert_type(await result.model.predict(1, returns=MaybePrice), PredictResult[float | None])
    assert_type(await result.model.predict(1, returns=positive), PredictResult[float])
    assert_type(await result.model.predict(1, decode=False), PredictResult[Encoded])
    assert_type(await result.model.reset(), PredictResult[None])


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
    round_of_points.by_id["a"].unwrap().y  # type: ignore[attr-defined]  # noqa: B018 - for its type
    await cluster.call("predict", "BTC")  # type: ignore[call-overload]
    await cluster.call("predict", lambda model: model.model_id)  # type: ignore[arg-type, return-value]
    await cluster.call("predict", lambda model: model.nothing)  # type: ignore[attr-defined]
    await cluster.call("predict", lambda model: 1, returns=float | None)  # type: ignore[arg-type, return-value]
    await cluster.call("predict", lambda model: 1, returns=Literal["up"])  # type: ignore[call-overload]
    await cluster.call("predict", timeout="1 s")  # type: ignore[call-overload]
    await cluster.call("predict", models=1)  # type: ignore[call-overload]
    await model.call("predict", lambda model: Arguments())  # type: ignore[call-overload]
    await cluster.call("predict", returns=1.5)  # type: ignore[call-overload]
    await cluster.call("predict", returns=[float])  # type: ignore[call-overload]
    await cluster.call("predict", returns=Point(1.5))  # type: ignore[call-overload]
    await cluster.call("predict", returns=lambda: 1)  # type: ignore[arg-type, misc]
    await cluster.call("predict", returns=Point, decode=False)  # type: ignore[call-overload]
    await cluster.call("predict", returns=float | None, decode=False)  # type: ignore[call-overload]
    await model.predict(1, returns=1.5)  # type: ignore[call-overload]
    round_of_unions = await cluster.call("predict", returns=float | None)
    kept: PredictionRound[float] = round_of_unions  # type: ignore[assignment]
    assert kept
    PredictResult("a", Status.SUCCESS)  # type: ignore[type-var]
