"""A cluster whose shards are tasks, what can happen to one of them, and what nodes have seen of all that."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from helpers.callers import Callers, marked_engine
from helpers.coordinating import SERVICE, Model, until
from helpers.insides import counts_of
from trio_model_runner import Arguments, Join, PredictionRound
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding import ShardedCluster, ShardLost
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine, InProcessShard

__all__ = ["IDS", "LOST", "Scene", "check_lost", "cut", "during", "freeze", "kill", "lose", "scene"]

IDS = [f"model-{number}" for number in range(8)]
LOST = 1
"""The shard that something happens to; 0 takes over its models."""


class OutOfReach:
    """A shard as an engine has it that can lose the way to it, and can neither end it nor see it end."""

    def __init__(self, shard: InProcessShard) -> None:
        self.exited = shard.exited
        self._shard = shard
        self._lost = False
        self._receiving = trio.CancelScope()

    def lose(self) -> None:
        self.exited = trio.Event()
        self._shard.freeze()  # it does not know yet
        self._lost = True
        self._receiving.cancel()

    async def send(self, message: bytes) -> None:
        await self._shard.send(message)

    async def receive(self) -> bytes:
        with trio.CancelScope() as self._receiving:
            return await self._shard.receive()
        raise ShardLost("no route to host")

    async def aclose(self) -> None:
        if not self._lost:
            await self._shard.aclose()


@attrs.define(eq=False)
class Scene:
    """A crunch, and a cluster whose shards are tasks.

    Attributes:
        launched: the shards, as the driver has them.
        joins: who has joined, in order, with what `Join.fresh` said.
        catch_up: another `on_join`; None is `join`.
        numbers: those that no request has had yet.
    """

    crunch: LocalCrunch
    callers: Callers
    engine: InProcessEngine
    cluster: ShardedCluster
    launched: dict[int, OutOfReach] = attrs.field(factory=dict)
    joins: list[tuple[str, bool]] = attrs.field(factory=list)
    catch_up: Callable[[Join], Awaitable[None]] | None = None
    numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    async def on_join(self, join: Join) -> None:
        if self.catch_up is not None:
            await self.catch_up(join)
            return
        self.joins.append((join.model.model_id, join.fresh))
        (await join.model.call("tick", Arguments(-next(self.numbers)))).unwrap()

    def of(self, shard: int) -> list[str]:
        """The models that a shard has."""
        return [each for each in IDS if self.callers.shards(each)[-1:] == [shard]]

    async def call(
        self, method: str = "tick", arguments: Arguments | None = None, **options: Any
    ) -> PredictionRound[Any]:
        """Make a round; without `arguments` it has some that no other round has."""
        if arguments is None:
            arguments = Arguments(next(self.numbers))
        return await self.cluster.call(method, arguments, **options)

    async def all_ready(self, *, within: float) -> None:
        with trio.fail_after(within):
            await until(self.cluster, lambda: len(self.cluster.models) == len(IDS))


@asynccontextmanager
async def scene(*, most_moves: int = 1, **settings: Any) -> AsyncIterator[Scene]:
    async with LocalCrunch(dict.fromkeys(IDS, Model), network=MemoryNetwork()) as crunch:
        callers, engine = Callers(crunch), marked_engine(crunch)
        here = Scene(crunch, callers, engine, None)  # type: ignore[arg-type]
        launch = engine.launch

        async def launch_and_keep(index: int, first_message: bytes) -> OutOfReach:
            await launch(index, first_message)
            here.launched[index] = OutOfReach(engine.shards[index])
            return here.launched[index]

        engine.launch = launch_and_keep
        here.cluster = ShardedCluster(
            crunch.config(**settings), SERVICE, shards=2, engine=engine, on_join=here.on_join
        )
        with callers.watching():
            async with here.cluster:
                await here.all_ready(within=5)
                assert here.of(0)
                assert here.of(1)
                yield here
        callers.check(most_moves=most_moves)


def kill(here: Scene) -> None:
    here.engine.shards[LOST].kill()


def cut(here: Scene) -> None:
    here.engine.shards[LOST].cut()


def freeze(here: Scene) -> None:
    here.engine.shards[LOST].freeze()


def lose(here: Scene) -> None:
    here.launched[LOST].lose()


async def during(here: Scene, event: Callable[[Scene], object], after: float, **options: Any) -> Any:
    """Make a round, and let something happen to a shard after so many seconds."""
    rounds: list[PredictionRound[Any]] = []

    async def call() -> None:
        rounds.append(await here.call(**options))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.sleep(after)
        event(here)
    return rounds[0]


def check_lost(here: Scene, results: PredictionRound[Any], lost: list[str]) -> None:
    """The results of a lost shard's models say so, and count nothing."""
    assert {model.model_id for model in results.failed} == set(lost)
    for result in results.failed.values():
        assert result.detail.startswith(f"connection lost: shard {LOST} was lost: ")
        assert counts_of(result.model) == (0, 0, 0)
    assert not here.crunch.orchestrator.reports
