"""What tests of cancellation and of interrupts do with a whole cluster, and how they look at what is left."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import attrs
import trio
from h2.events import ConnectionTerminated, RequestReceived
from trio.testing import wait_all_tasks_blocked

from helpers.coordinating import SERVICE, Model, until
from helpers.insides import queued_of, timeouts_of
from helpers.remains import count_connections, our_tasks
from trio_model_runner import Arguments, ChangeKind, Cluster, Join, Status
from trio_model_runner.config import Health
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.orchestrator import OrchestratorFeed
from trio_model_runner.sharding import ShardedCluster
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.grpc_server import ServerConnection
from trio_model_runner.testing.orchestrator import LocalOrchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_websocket import WebSocketConnection

MODELS = [*"ab"]


class WatchedNetwork(MemoryNetwork):
    """Remembers the client's end of every connection."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[Any] = []

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        stream = await super().connect(host, port)
        self.streams.append(stream)
        return stream


@attrs.define(eq=False)
class Witness:
    """What the other sides of all clusters saw.

    Attributes:
        called: the connections of nodes that requests came on.
        dismissed: those on which GOAWAY came.
        websockets: the orchestrator's connections.
        inits: how many lists of models were taken.
    """

    called: dict[ServerConnection, None] = attrs.field(factory=dict)
    dismissed: set[ServerConnection] = attrs.field(factory=set)
    websockets: list[WebSocketConnection] = attrs.field(factory=list)
    inits: int = 0

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        # Private methods, since there is no other place where all connections of all clusters pass by.
        handle, converse = ServerConnection._handle, LocalOrchestrator._converse
        take_init = OrchestratorFeed._take_init

        def see_event(connection: ServerConnection, event: Any, nursery: trio.Nursery) -> None:
            if isinstance(event, RequestReceived):
                self.called[connection] = None
            elif isinstance(event, ConnectionTerminated):
                self.dismissed.add(connection)
            handle(connection, event, nursery)

        async def see_websocket(orchestrator: Any, websocket: WebSocketConnection, *args: Any) -> None:
            self.websockets.append(websocket)
            await converse(orchestrator, websocket, *args)

        def see_init(feed: Any, *args: Any) -> None:
            self.inits += 1
            take_init(feed, *args)

        with (
            patch.object(ServerConnection, "_handle", see_event),
            patch.object(LocalOrchestrator, "_converse", see_websocket),
            patch.object(OrchestratorFeed, "_take_init", see_init),
        ):
            yield

    def check_goodbyes(self) -> None:
        """Each connection that was used was told of its end, and no call was left open on it."""
        for connection in self.called:
            assert connection.ended.is_set()
            # Private: h2's own count, which a stream that was forgotten stays in.
            assert connection._h2.open_inbound_streams == 0
            assert connection in self.dismissed
        codes = [websocket.closed and websocket.closed.code for websocket in self.websockets]
        assert codes.count(1000) >= self.inits
        assert None not in codes


@attrs.define
class Scene:
    """A crunch in memory, and a cluster on it, which may be none.

    Attributes:
        history: what each model was sent by `tick`, and is sent when it joins.
    """

    crunch: LocalCrunch
    network: WatchedNetwork
    witness: Witness
    cluster: Cluster
    history: list[int] = attrs.field(factory=list)

    async def catch_up(self, join: Join) -> None:
        sent = 0
        while sent < len(self.history):
            new, sent = self.history[sent:], len(self.history)
            (await join.model.call("tick", Arguments(*new))).unwrap()

    async def tick(self) -> None:
        self.history.append(len(self.history))
        await self.cluster.call("tick", Arguments(self.history[-1]))

    def new_cluster(self) -> Cluster:
        self.history = [-1]  # so that every join has something to say
        config = self.crunch.config(health=Health(require_witness=False))  # so that everything counts
        self.cluster = Cluster(config, SERVICE, on_join=self.catch_up)
        return self.cluster


@asynccontextmanager
async def no_cluster() -> AsyncIterator[Scene]:
    """A crunch; a new deployment of a model and a new model are up, and not announced."""
    network, witness = WatchedNetwork(), Witness()
    async with witness.watching():
        with trio.fail_after(30):
            async with LocalCrunch(dict.fromkeys(MODELS, Model), network=network) as crunch:
                scene = Scene(crunch, network, witness, Cluster(crunch.config(), SERVICE))
                await crunch.redeploy("a", Model, announce=False)
                await crunch.add("c", Model, announce=False)
                yield scene


@asynccontextmanager
async def running_cluster() -> AsyncIterator[Scene]:
    """A cluster whose models are ready."""
    async with no_cluster() as scene:
        async with scene.new_cluster():
            yield scene
        await nothing_is_left(scene, False)


async def whole_life(scene: Scene) -> None:
    """Enter, play a round, drain and leave."""
    async with scene.new_cluster() as cluster:
        assert set(cluster.models) == set(MODELS)
        await iterate(scene)
        await cluster.drain(1)


async def life_with_joins(scene: Scene) -> None:
    """Enter, and play rounds while a model joins and another is redeployed; leave in the middle of one."""

    async def play() -> None:
        while True:
            await scene.tick()
            await trio.sleep(0.01)

    async with scene.new_cluster() as cluster, trio.open_nursery() as nursery:
        old = cluster.models["a"]
        nursery.start_soon(play)
        scene.crunch.announce("a")
        scene.crunch.announce("c")
        await until(cluster, lambda: "c" in cluster.models and cluster.models["a"] is not old)
        nursery.cancel_scope.cancel()


async def nothing_is_left(scene: Scene, _: bool) -> None:
    """All is closed, with goodbyes to whoever was there; and another cluster finds all well."""
    await gone(scene)
    async with scene.new_cluster() as cluster:
        await cluster.wait_for_models(len(MODELS))
        await call(scene)
    await gone(scene)


async def gone(scene: Scene) -> None:
    await wait_all_tasks_blocked()
    assert our_tasks() == []
    assert count_connections(scene.crunch) == 0
    # Private to trio: a memory stream does not say that it is closed.
    assert all(stream.receive_stream._closed for stream in scene.network.streams)
    scene.witness.check_goodbyes()


async def call(scene: Scene) -> None:
    results = await scene.cluster.call("tick", Arguments(1))
    assert {result.status for result in results.values()} == {Status.SUCCESS}
    assert len(results) == len(scene.cluster.announced)


async def infer(scene: Scene) -> None:
    results = await scene.cluster.predict(5)
    assert [result.value for result in results.values()] == [5] * len(scene.cluster.announced)


async def iterate(scene: Scene) -> None:
    async with scene.cluster.as_completed("predict", Arguments(6)) as results:
        assert [result.value async for result in results] == [6] * len(scene.cluster.announced)


async def abandon(scene: Scene) -> None:
    async with scene.cluster.as_completed("sleep", Arguments(0.01)) as results:
        async for _ in results:
            break


async def call_one(scene: Scene) -> None:
    assert (await scene.cluster.models["b"].call("predict", Arguments(7))).unwrap() == 7


async def call_slow(scene: Scene) -> None:
    results = await scene.cluster.call("sleep", Arguments(0.01))
    assert [result.value for result in results.values()] == ["awake"] * len(scene.cluster.announced)


async def call_twice(scene: Scene) -> None:
    """Two rounds, of which the second one waits for the first, model by model."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call_slow, scene)
        nursery.start_soon(call, scene)


async def listen(scene: Scene) -> None:
    async with scene.cluster.changes(initial=True) as changes:
        kinds = [(await changes.__anext__()).kind for _ in range(4)]
    assert kinds == [ChangeKind.ANNOUNCED] * 2 + [ChangeKind.JOINED] * 2
    await scene.cluster.wait_for_models(2)


async def still_usable(scene: Scene, _: bool) -> None:
    """No place is kept, and the next round has a success from each model, on the same connections."""
    cluster = scene.cluster
    # Private: a round or a place in a queue that was forgotten shows in no other way.
    assert not cluster._caller._rounds
    assert {queued_of(model) for model in cluster.models.values()} == {0}
    await call(scene)
    await wait_all_tasks_blocked()
    if isinstance(cluster, ShardedCluster):
        assert not cluster._shards.rounds  # shards have said that they are through
    assert len(scene.witness.called) == len(MODELS)
    assert all(connection._h2.open_inbound_streams == 0 for connection in scene.witness.called)
    assert {timeouts_of(model) for model in cluster.models.values()} == {0}
