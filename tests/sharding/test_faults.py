"""What happens to a cluster when one of its shards is killed, cut off, silent or broken, on a clock that jumps.

The nodes are the oracle: what they have seen says who has called whom, and how often.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from helpers.callers import Callers, current_shard, marked_engine
from helpers.coordinating import SERVICE, Model, until
from helpers.insides import counts_of
from helpers.remains import our_tasks
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, Join, PredictionRound
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.rpc.streams import Sender
from trio_model_runner.sharding.engine import ShardLost
from trio_model_runner.sharding.lease import HeldLease, WatchedLease
from trio_model_runner.sharding.remote_actor import RemoteActor
from trio_model_runner.sharding.shard_link import ShardLink
from trio_model_runner.sharding.shard_results import Batches
from trio_model_runner.sharding.sharded_cluster import ShardedCluster
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine, InProcessShard

IDS = [f"model-{number}" for number in range(8)]


@attrs.define(eq=False)
class Scene:
    """A crunch, and a cluster whose shards are tasks.

    Attributes:
        launched: the shards, as the driver has them.
        joins: who has joined, in order, with what `Join.fresh` said.
    """

    crunch: LocalCrunch
    callers: Callers
    engine: InProcessEngine
    cluster: ShardedCluster
    launched: dict[int, OutOfReach] = attrs.field(factory=dict)
    joins: list[tuple[str, bool]] = attrs.field(factory=list)
    rounds: Any = attrs.field(factory=lambda: itertools.count(1))

    async def on_join(self, join: Join) -> None:
        self.joins.append((join.model.model_id, join.fresh))
        (await join.model.call("tick", Arguments(-next(self.rounds)))).unwrap()

    def of(self, shard: int) -> list[str]:
        """The models that a shard has."""
        return [each for each in IDS if self.callers.shards(each)[-1:] == [shard]]

    async def call(
        self, method: str = "tick", arguments: Arguments | None = None, **options: Any
    ) -> PredictionRound[Any]:
        """Make a round; without `arguments` it has some that no other round has."""
        if arguments is None:
            arguments = Arguments(next(self.rounds))
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


LOST = 1


def kill(here: Scene) -> None:
    here.engine.shards[LOST].kill()


def cut(here: Scene) -> None:
    here.engine.shards[LOST].cut()


def freeze(here: Scene) -> None:
    here.engine.shards[LOST].freeze()


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


async def test_a_shard_that_is_killed_before_it_hears_of_a_round(autojump_clock: object) -> None:
    async with scene() as here:
        lost, joined = here.of(LOST), len(here.joins)
        here.engine.shards[LOST].delay(0.5)
        results = await during(here, kill, 0.1)
        check_lost(here, results, lost)
        await here.all_ready(within=1)
        assert len((await here.call()).succeeded) == len(IDS)
        for model_id in lost:
            # The second round, and the join before.
            assert len(here.crunch.node(model_id).calls) == 2
            assert here.callers.shards(model_id) == [LOST, 0]
        assert len(here.joins) == joined


async def test_a_shard_that_is_killed_while_it_sends(autojump_clock: object) -> None:
    async with scene(most_moves=2) as here:  # what was written before reaches the nodes when they go on
        lost = here.of(LOST)
        for model_id in lost:
            here.crunch.node(model_id).pause()
        arguments = Arguments(next(here.rounds), "x" * 1_000_000)
        results = await during(here, kill, 0.1, arguments=arguments)
        check_lost(here, results, lost)
        for model_id in lost:
            here.crunch.node(model_id).resume()
        await here.all_ready(within=3)
        for model_id in lost:
            assert all(len(call.args) == 1 for call in here.crunch.node(model_id).calls)
        assert len((await here.call()).succeeded) == len(IDS)


@pytest.mark.parametrize("event", [kill, cut, freeze])
async def test_a_moved_model_waits_for_its_old_call(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, event: Callable[[Scene], object]
) -> None:
    """Its node says that it is busy: that is the old call, and nothing counts against the model."""
    async with scene() as here:
        lost, joined = here.of(LOST), len(here.joins)
        began = trio.current_time()
        results = await during(here, event, 0.5, method="sleep", arguments=Arguments(8.0), timeout=9.0)
        check_lost(here, results, lost)
        assert len(results.succeeded) == len(IDS) - len(lost)
        await here.all_ready(within=3)
        assert trio.current_time() - began > 8.0
        assert len((await here.call()).succeeded) == len(IDS)
        for model_id in lost:
            assert here.callers.shards(model_id) == [LOST, 0]
            methods = [call.method for call in here.crunch.node(model_id).calls]
            assert methods == ["tick", "sleep", "tick"]
            assert counts_of(here.cluster.models[model_id]) == (0, 0, 0)
        assert len(here.joins) == joined
        await trio.sleep(100)
        assert not here.crunch.orchestrator.reports
        assert "another coordinator" not in caplog.text
        node = here.crunch.node(lost[0])  # now it would be one
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.run_exclusively, lambda _: trio.sleep(1.0))
            await here.call()
        assert f"another coordinator calls {lost[0]!r}" in caplog.text


async def test_a_new_instance_joins_on_the_other_shard(autojump_clock: object) -> None:
    async with scene() as here:
        fresh, *others = here.of(LOST)
        del here.joins[:]
        here.engine.shards[LOST].kill()
        await here.crunch.crash(fresh, announce=False)
        await here.crunch.recover(fresh, announce=False)
        await until(here.cluster, lambda: len(here.cluster.models) < len(IDS))
        await here.all_ready(within=3)
        assert here.joins == [(fresh, True)]
        assert others


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


def lose(here: Scene) -> None:
    here.launched[LOST].lose()


@pytest.mark.parametrize("event", [freeze, lose])
async def test_who_is_cut_off_is_silent_before_another_calls(
    autojump_clock: object, event: Callable[[Scene], object]
) -> None:
    """Calls that wait for their turn are made as long as there is a lease, and not after that."""
    async with scene() as here:
        lost = here.of(LOST)
        async with trio.open_nursery() as nursery:
            for number in range(8):
                arguments = Arguments(0.6 + number / 1000)
                nursery.start_soon(functools.partial(here.call, "sleep", arguments, timeout=9.0))
            await trio.sleep(0.1)
            began = trio.current_time()
            event(here)
        await here.all_ready(within=3)
        for model_id in lost:
            times: dict[int, list[float]] = {LOST: [], 0: []}
            for request in here.callers.of(model_id):
                times[request.shard].append(request.time - began)
            assert 1.0 < times[LOST][-1] < 2.0
            assert 2.5 <= times[0][0] <= 4.0


async def test_a_shard_that_comes_back_is_not_let_in_again(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene() as here:
        lost, shard = here.of(LOST), here.engine.shards[LOST]
        shard.freeze()
        await trio.sleep(3.5)
        shard.thaw()
        await here.all_ready(within=1)
        await shard.exited.wait()
        assert len((await here.call()).succeeded) == len(IDS)
        assert [here.callers.shards(each) for each in lost] == [[LOST, 0]] * len(lost)
        (row,) = [each for each in here.cluster.snapshot().shards if each["index"] == LOST]
        assert (row["state"], row["models"]) == ("lost", 0)
        assert "it has given no sign of life for 3 s" in caplog.text


async def test_late_renewals_neither_move_nor_mute(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene() as here:
        here.engine.shards[LOST].delay(1.5, from_driver=False)
        for _ in range(20):
            assert len((await here.call()).succeeded) == len(IDS)
        assert "has no lease" not in caplog.text
        assert {each["state"] for each in here.cluster.snapshot().shards} == {"up"}
        here.callers.check(most_moves=0)


async def test_a_shard_that_hears_nothing_for_a_while_is_mute_and_keeps_its_models(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver hears it, so nothing moves. What it cuts off counts nothing against its models."""
    async with scene() as here:
        lost, shard = here.of(LOST), here.engine.shards[LOST]

        def fall_deaf(here: Scene) -> None:
            shard.delay(4.0, from_shard=False)

        results = await during(here, fall_deaf, 0.5, method="sleep", arguments=Arguments(6.0))
        assert {model.model_id for model in results.timed_out} == set(lost)
        for result in results.timed_out.values():
            assert result.detail.endswith(": its shard has not heard from the coordinator in time")
        assert trio.current_time() < 7
        results = await here.call(timeout=5.0)
        assert {model.model_id for model in results.timed_out} == set(lost)
        assert not any(result.sent for result in results.timed_out.values())
        shard.delay(0.0)
        await trio.sleep(5)
        assert len((await here.call()).succeeded) == len(IDS)
        for model in here.cluster.models.values():
            assert counts_of(model) == (0, 0, 0)
        assert not here.crunch.orchestrator.reports
        assert len(here.joins) == len(IDS)
        here.callers.check(most_moves=0)


async def test_results_that_come_too_late_are_dropped(autojump_clock: object) -> None:
    async with scene() as here:
        lost = here.of(LOST)
        here.engine.shards[LOST].delay(1.0, from_driver=False)
        results = await here.call(timeout=0.5)
        assert {model.model_id for model in results.timed_out} == set(lost)
        assert {result.detail for result in results.timed_out.values()} == {
            "its shard did not answer in time"
        }
        before = dict(results.by_id)
        here.engine.shards[LOST].delay(0.0)
        assert len((await here.call()).succeeded) == len(IDS)
        await trio.sleep(2)
        assert results.by_id == before
        assert not here.cluster._shards.rounds
        for model in here.cluster.models.values():
            assert counts_of(model) == (0, 0, 0)
        here.callers.check(most_moves=0)


async def test_an_exception_in_a_shard(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collect = Batches.collect

    def fail(batches: Batches, *args: Any) -> Any:
        if current_shard() == LOST:
            raise KeyError("a bug of ours")
        return collect(batches, *args)

    async with scene() as here:
        lost, joined = here.of(LOST), len(here.joins)
        monkeypatch.setattr(Batches, "collect", fail)
        check_lost(here, await here.call(), lost)
        await until(here.cluster, lambda: len(here.cluster.models) == len(IDS))
        assert len((await here.call()).succeeded) == len(IDS)
        assert len(here.joins) == joined
        raised, told = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
        assert "Traceback" in raised
        assert "KeyError: 'a bug of ours'" in raised
        assert told.startswith(f"shard {LOST} was lost: it has raised KeyError: 'a bug of ours'; its models:")


async def test_what_the_orchestrator_says_during_a_move_holds(autojump_clock: object) -> None:
    async with scene() as here:
        crunch, lost = here.crunch, here.of(LOST)
        assert len(lost) >= 3
        crashed, redeployed, stopped = lost[:3]
        del here.joins[:]
        here.engine.shards[LOST].freeze()
        await until(here.cluster, lambda: len(here.cluster.models) < len(IDS))
        await crunch.crash(crashed)
        await crunch.redeploy(redeployed, Model)
        await crunch.remove(stopped)
        crunch.orchestrator.kill()
        await trio.sleep(1)
        await crunch.recover(crashed)
        crunch.orchestrator.start()
        with trio.fail_after(10):
            await until(here.cluster, lambda: len(here.cluster.models) == len(IDS) - 1)
            await until(here.cluster, lambda: here.cluster.models[redeployed].deployment_id == "deployment-9")
        assert stopped not in here.cluster.announced
        assert sorted(here.joins) == sorted([(crashed, True), (redeployed, True)])
        assert len((await here.call()).succeeded) == len(IDS) - 1


async def test_all_shards_are_lost_in_a_round(autojump_clock: object) -> None:
    with pytest.raises(ShardLost, match="all shards are lost, and with them all models; the last: "):
        async with scene() as here, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: here.call("hang"))
            await trio.sleep(0.1)
            for shard in here.engine.shards.values():
                shard.kill()
            await trio.sleep_forever()


@pytest.mark.parametrize(
    ("owner", "name", "stays"),
    [
        (WatchedLease, "note_renewal", 2.0),
        (RemoteActor, "lose_shard", 2.0),
        (ShardLink, "aclose", 2.0),
        (ShardLink, "aclose", 0.0),
    ],
)
async def test_an_exception_of_the_driver_ends_the_block(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, stays: float
) -> None:
    """It leaves by itself, also when the block is just being left."""

    def fail(*_: Any) -> None:
        monkeypatch.undo()
        raise KeyError("a bug of ours")

    with pytest.raises(KeyError, match="a bug of ours"):
        async with scene(most_moves=2) as here:
            engine = here.engine
            monkeypatch.setattr(owner, name, fail)
            kill(here)
            await trio.sleep(stays)
    assert all(shard.exited.is_set() for shard in engine.shards.values())
    assert our_tasks() == []


async def test_an_exception_of_the_coordinator_leaves_as_it_is(autojump_clock: object) -> None:
    with pytest.raises(ZeroDivisionError):
        async with scene() as here:
            engine = here.engine
            raise ZeroDivisionError
    assert all(shard.exited.is_set() for shard in engine.shards.values())


@pytest.mark.parametrize("steps", range(12))
async def test_nothing_is_sent_after_everything_stood_still(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Shards that were stopped ask the clock before they write, and do not wait for a timer to fire."""
    send_data, grant, events = Sender._send_data, HeldLease.grant, []

    def note_data(sender: Sender, *args: Any) -> int:
        events.append((current_shard(), "data"))
        return send_data(sender, *args)

    def note_grant(lease: HeldLease, sequence: int) -> None:
        grant(lease, sequence)
        if lease.valid():
            events.append((current_shard(), "lease"))

    async with scene() as here:
        node = here.crunch.node(here.of(LOST)[0])
        node.pause()
        large = Arguments(next(here.rounds), "x" * 1_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.call, "tick", large)
            await wait_all_tasks_blocked()
            node.resume()
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            monkeypatch.setattr(Sender, "_send_data", note_data)
            monkeypatch.setattr(HeldLease, "grant", note_grant)
            autojump_clock.jump(5.0)
        assert len((await here.call()).succeeded) == len(IDS)
        assert next(what for shard, what in events if shard == LOST) == "lease"
        for model in here.cluster.models.values():
            assert counts_of(model) == (0, 0, 0)
        here.callers.check(most_moves=0)
