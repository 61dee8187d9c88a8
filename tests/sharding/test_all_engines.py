"""What holds for a `Cluster` holds over every engine: each plays the same scenes, and tells the same.

A scene returns plain values: statuses, values, texts. Those of a `Cluster` in memory are what is expected.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

import attrs
import numpy
import pandas
import pytest
import trio
from grpclib.const import Status as GRPCStatus
from helpers.coordinating import SERVICE, Model, until
from helpers.dask_cluster import DaskCluster
from trio.testing import MockClock

from trio_model_runner import (
    Arguments,
    Cluster,
    ClusterDraining,
    Join,
    ModelState,
    PredictionRound,
    PredictResult,
)
from trio_model_runner.config import Health
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding import ShardedCluster
from trio_model_runner.sharding.dask import DaskEngine
from trio_model_runner.sharding.engine import Engine
from trio_model_runner.testing import Faults, LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine

MODELS: Final = "abcdef"
ENGINES: Final = ["in process", "local", "dask"]


class Player(Model):
    """Gives back what it is sent, and values of all kinds."""

    may_answer: ClassVar[trio.Event]
    """Of all: a node that was reset calls methods of the instance that it had before."""

    async def hold(self) -> str:
        """Answer when it may; see `holding`."""
        await self.may_answer.wait()
        return "awake"

    def frame(self, rows: int) -> pandas.DataFrame:
        return pandas.DataFrame({"price": numpy.arange(rows, dtype="float64")})

    def large(self, count: int) -> str:
        return "x" * count

    def nan(self) -> Any:
        return [float("nan"), float("inf"), {"deep": None}]


@attrs.define
class Stage:
    """A crunch and its cluster, and what was ticked so far.

    Attributes:
        crunch: the crunch.
        exact: the clock jumps, so that times are exact.
        cluster: what coordinates it, of whichever kind.
        ticks: all of them, in order.
        join_error: what `on_join` raises.
    """

    crunch: LocalCrunch
    exact: bool
    cluster: Cluster = attrs.field(init=False)
    ticks: list[int] = attrs.field(factory=list)
    join_error: Exception | None = None

    async def catch_up(self, join: Join) -> None:
        if self.join_error is not None:
            raise self.join_error
        sent = 0
        while sent < len(self.ticks):
            new, sent = self.ticks[sent:], len(self.ticks)
            (await join.model.call("tick", Arguments(*new))).unwrap()

    async def tick(self) -> None:
        self.ticks.append(len(self.ticks))
        await self.cluster.call("tick", Arguments(self.ticks[-1]))


Scene = Callable[[Stage], Awaitable[Any]]


def plain(result: PredictResult[Any]) -> Any:
    """What a result says, but for times and ports."""
    text = re.sub(r":\d{4,5}\b", ":PORT", re.sub(r"\d+\.\d+", "N", result.detail))
    value, error = repr(result.value)[:200], type(result.error).__name__
    return result.model.model_id, result.status.name, value, text, error


def all_of(results: PredictionRound[Any]) -> list[Any]:
    return sorted(plain(each) for each in results.values())


async def answers(stage: Stage) -> Any:
    cluster = stage.cluster
    results = await cluster.call("predict", Arguments({"price": [1, 2.5, None, "é"]}))
    some = await cluster.call("predict", Arguments(5), models=["b", "x", cluster.models["a"], "b"])
    one = await cluster.models["c"].predict(7)
    assert list(results) == list(cluster.announced.values())
    return all_of(results), list(map(plain, some.values())), some.missing, plain(one)


async def values(stage: Stage) -> Any:
    cluster = stage.cluster
    told = []
    for method, arguments in (("nan", ()), ("large", (2 << 20,)), ("frame", (3,)), ("nothing", ())):
        told += all_of(await cluster.call(method, Arguments(*arguments)))
    frames = await cluster.call("frame", Arguments(2_000))
    large = await cluster.call("large", Arguments(2 << 20))
    as_it_came = await cluster.call("predict", Arguments({"a": 1}), decode=False)
    last = [result.value["price"].to_pylist()[-1] for result in frames.values()]
    return told, last, [len(each.value) for each in large.values()], all_of(as_it_came)


async def misfits(stage: Stage) -> Any:
    def refuse(value: Any) -> Any:
        raise KeyError("my own mistake")

    def must_be_small(value: Any) -> float:
        if value > 2:
            raise ValueError("too large")
        return float(value) * 2

    def arguments(model: Any) -> Any:
        if model.model_id == "a":
            raise LookupError("no price")
        return {"b": "nonsense", "c": Arguments("text"), "d": Arguments(2)}.get(model.model_id, Arguments(3))

    told = []
    for returns in (float, must_be_small, refuse, list[int]):
        results = await stage.cluster.call("predict", arguments, returns=returns)
        told.append(all_of(results))
    return told


async def refusals(stage: Stage) -> Any:
    wrong: list[dict[str, Any]] = [
        {"method": 5},
        {"method": ""},
        {"arguments": 5},
        {"arguments": Arguments(object())},
        {"timeout": -1},
        {"timeout": "1"},
        {"returns": 5},
        {"models": [5]},
        {"models": "a"},
    ]
    told = []
    before = {model_id: stage.crunch.node(model_id).call_count for model_id in MODELS}
    for settings in wrong:
        try:
            await stage.cluster.call(settings.pop("method", "predict"), **settings)
        except (TypeError, ValueError) as error:
            told.append((type(error).__name__, str(error)))
    assert before == {model_id: stage.crunch.node(model_id).call_count for model_id in MODELS}
    return told


async def troubles(stage: Stage) -> Any:
    crunch, cluster = stage.crunch, stage.cluster
    told = [all_of(await cluster.call("fail", models=["a", "b"]))]
    told.append(all_of(await cluster.call("no_such_method", models=["c"])))
    async with holding(stage):
        told.append(all_of(await cluster.call("hold", timeout=0.4, models=["a", "d"])))
    crunch.node("e").faults.call_status = "INVALID_ARGUMENT", "no birds"
    told.append(all_of(await cluster.call("predict")))
    crunch.node("e").faults.call_status = None
    await crunch.crash("f")
    await until(cluster, lambda: cluster.announced["f"].state is ModelState.RECOVERING)
    told.append(all_of(await cluster.call("predict", models=["e", "f"])))
    await crunch.recover("f")
    await cluster.wait_for_models(len(MODELS))
    return told


async def errors(stage: Stage) -> Any:
    """They have the classes that they have in a `Cluster`."""
    crunch, cluster = stage.crunch, stage.cluster
    told = []

    async def tell() -> None:
        results = await cluster.call("predict", models=["c"])
        result, error = results.by_id["c"], results.by_id["c"].error
        told.append((plain(result), type(error), result.to_dict()["error"], getattr(error, "status", None)))

    for faults in (
        Faults(grpc_error=(GRPCStatus.PERMISSION_DENIED, "not: you")),
        Faults(raw_answer=b"nonsense"),
        Faults(raw_body=b"\0\0\0\0\x09short"),
        Faults(drop_after_request=True),
    ):
        crunch.node("c").next_faults(faults)
        await tell()
    await cluster.wait_for_models(len(MODELS))
    stage.join_error = LookupError("no history")
    await crunch.crash("c")
    await crunch.recover("c")
    await until(cluster, lambda: cluster.announced["c"].state is ModelState.FAILED)
    await tell()
    assert (await cluster.call("predict")).by_id["c"].error is stage.join_error
    told.append(cluster.announced["c"].error is stage.join_error)
    stage.join_error = None
    crunch.announce("c")
    await cluster.wait_for_models(len(MODELS))
    return told


async def several_rounds_at_once(stage: Stage) -> Any:
    async def call(number: int) -> None:
        await trio.lowlevel.checkpoint()
        stage.ticks.append(number)
        await stage.cluster.call("tick", Arguments(number))

    for instance in instances(stage):
        instance.ticks = []
    stage.ticks.clear()
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(call, number)
    for instance in instances(stage):
        assert instance.ticks == stage.ticks


async def late_ones(stage: Stage) -> Any:
    """A model joins, one is restarted and one redeployed, all in the middle of ticks."""
    crunch, cluster = stage.crunch, stage.cluster
    for instance in instances(stage):
        instance.ticks = []
    stage.ticks.clear()
    told: list[str] = []

    async def change() -> None:
        old = cluster.models["b"]
        await crunch.add("new", Player)
        await until(cluster, lambda: "new" in cluster.models)
        await crunch.crash("a")
        await until(cluster, lambda: "a" not in cluster.models)
        await crunch.recover("a")
        await until(cluster, lambda: "a" in cluster.models)
        await crunch.redeploy("b", Player)
        while cluster.models["b"] is old:
            assert "b" in cluster.models  # there is no gap
            await cluster._fleet.changed.wait()  # private: see `until`
        told.append("all are there")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        while not told:
            await stage.tick()
            await trio.sleep(0.005)
    await until(cluster, lambda: len(cluster.models) == len(MODELS) + 1)
    await stage.tick()
    for instance in (*instances(stage), crunch.node("new").instance):
        assert instance.ticks == stage.ticks
    await crunch.remove("new")
    await until(cluster, lambda: "new" not in cluster.announced)
    return told, cluster.models["b"].model_id, sorted(cluster.announced)


async def views(stage: Stage) -> Any:
    cluster = stage.cluster
    async with cluster.changes(initial=True) as changes:
        first = [str(await anext(changes)).split(" at ")[0] for _ in range(2 * len(MODELS))]
    model = cluster.models["d"]
    reset = await model.reset()
    states = {model_id: each.state.name for model_id, each in cluster.announced.items()}
    told = cluster.snapshot().to_dict()
    kept = {name: told[name] for name in ("models", "reports_pending", "reports_held", "draining")}
    return sorted(first), plain(reset), states, str(kept), re.sub(r":\d+", ":PORT", repr(model))


async def leaving_early(stage: Stage) -> Any:
    cluster = stage.cluster
    async with cluster.as_completed("predict", Arguments(6)) as results:
        seen = [plain(result) async for result in results]
    async with holding(stage), cluster.as_completed("hold"):
        await busy(stage)
    cut = None
    async with holding(stage):
        with trio.move_on_after(0.6):
            cut = await cluster.call("hold", timeout=60)
    assert cut is not None or not stage.exact  # the machine may have stood still just then
    assert cut is None or {each.status.name for each in cut.values()} == {"TIMEOUT"}
    async with holding(stage), trio.open_nursery() as nursery:
        nursery.start_soon(cluster.call, "hold")
        await busy(stage)
        nursery.cancel_scope.cancel()
    after = await cluster.call("predict", Arguments(1))
    return sorted(seen), all_of(after)


async def reports(stage: Stage) -> Any:
    """Its witnesses are all on the other shard, or wherever they are."""
    crunch, cluster = stage.crunch, stage.cluster
    crunch.node("a").faults.call_status = "MODEL_FAILED", "no feathers"
    for _ in range(5):
        await cluster.call("predict")
    sent = await crunch.wait_for_reports()
    crunch.node("a").faults.call_status = None
    absent = await cluster.call("predict", models=["a"])
    crunch.announce("a")
    await cluster.wait_for_models(len(MODELS))
    await cluster.report_failure(cluster.models["b"], "LOW_PERFORMANCE", "worse than random")
    sent = await crunch.wait_for_reports(2)
    crunch.announce("b")
    await cluster.wait_for_models(len(MODELS))
    said = re.sub(r"witness: '\w'", "witness: 'W'", str([sorted(each.items()) for each in sent]))
    return said, re.sub(r"witness: '\w'", "witness: 'W'", str(all_of(absent)))


async def drains(stage: Stage) -> Any:
    told: list[Any] = []

    async def call() -> None:
        told.append(all_of(await stage.cluster.call("hang", timeout=60, models=["a", "b"])))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await busy(stage)
        await stage.cluster.drain(0.2)
    try:
        await stage.cluster.call("predict")
    except ClusterDraining as error:
        told.append((type(error).__name__, str(error)))
    return told


async def busy(stage: Stage) -> None:
    """Wait until a call has arrived."""
    while not stage.crunch.node("a").busy:  # noqa: ASYNC110 - a node doesn't say so
        await trio.sleep(0.01)


@asynccontextmanager
async def holding(stage: Stage) -> AsyncIterator[None]:
    """Models answer `hold` when the block has ended. Then wait until they are through with all calls."""
    Player.may_answer = trio.Event()
    yield
    Player.may_answer.set()
    while any(stage.crunch.node(each).busy for each in MODELS):  # noqa: ASYNC110 - the same
        await trio.sleep(0.02)


def instances(stage: Stage) -> list[Any]:
    return [stage.crunch.node(model_id).instance for model_id in MODELS]


SCENES: Final[list[Scene]] = [
    answers,
    values,
    misfits,
    refusals,
    troubles,
    errors,
    several_rounds_at_once,
    late_ones,
    views,
    leaving_early,
    reports,
    drains,  # the last one
]


@asynccontextmanager
async def on_stage(engine: Engine | None, network: MemoryNetwork | None) -> AsyncIterator[Stage]:
    async with LocalCrunch(dict.fromkeys(MODELS, Player), network=network) as crunch:
        stage = Stage(crunch, exact=network is not None)
        # On real clocks, a busy machine is given time before an enclosing deadline.
        config = crunch.config(health=Health(mass_window=0.5), timeout=20.0, scope_margin=0.3)
        made: Any = Cluster(config, SERVICE, on_join=stage.catch_up)
        if engine is not None:
            made = ShardedCluster(config, SERVICE, shards=2, engine=engine, on_join=stage.catch_up)
        async with made as stage.cluster:
            await stage.cluster.wait_for_models(len(MODELS))
            yield stage


async def play(engine: Engine | None, network: MemoryNetwork | None) -> dict[str, Any]:
    async with on_stage(engine, network) as stage:
        return {scene.__name__: await scene(stage) for scene in SCENES}


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return trio.run(play, None, MemoryNetwork(), clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("kind", ENGINES)
def test_every_engine_tells_what_a_cluster_tells(
    kind: str, expected: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    network, engine, clock = None, None, None
    if kind == "in process":
        network, clock = MemoryNetwork(), MockClock(autojump_threshold=0)
        engine = InProcessEngine(network=network)
    elif kind == "dask":
        dask: DaskCluster = request.getfixturevalue("dask_cluster")
        engine = DaskEngine(dask.address, security=dask.security)
    told = trio.run(play, engine, network, clock=clock)
    compared = whole if clock is not None else without_reasons
    for scene, what in expected.items():
        assert compared(told[scene]) == compared(what), scene


def whole(told: Any) -> Any:
    return told


def without_reasons(told: Any) -> Any:
    """What a scene tells but for the texts of timeouts: on a real clock, a busy machine has a say in them."""
    match told:
        case (model_id, "TIMEOUT", value, _, error):
            return model_id, "TIMEOUT", value, error
        case list() | tuple():
            return [without_reasons(each) for each in told]
        case _:
            return told
