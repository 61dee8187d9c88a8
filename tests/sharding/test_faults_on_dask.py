"""What happens on a Dask cluster when workers, shards, the driver or the scheduler are killed or stopped.

The nodes run in the test's process, and see who has called them. The last test kills the scheduler.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from helpers.callers import Callers
from helpers.coordinating import SERVICE, until
from helpers.dask_cluster import DaskCluster
from helpers.dask_cluster import dask_cluster as open_dask_cluster
from helpers.fragile_shard import BREAK, FRAGILE, threads_of_shards
from helpers.insides import counts_of
from helpers.partition import IDS, Holder, run_on_workers
from helpers.relays import open_relays

from trio_model_runner import Arguments, PredictResult, Status
from trio_model_runner.sharding import DaskEngine, ShardedCluster, ShardLost
from trio_model_runner.testing import LocalCrunch

LOST = 1


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """Two workers. Each has a nanny, which starts it anew."""
    with open_dask_cluster(tmp_path_factory.mktemp("dask"), workers=0) as cluster:
        cluster.workers.extend(cluster.start_workers(2, "--host", "127.0.0.1", nanny=True))
        yield cluster


@attrs.define(eq=False)
class Scene:
    """A crunch, and a cluster whose shards are on Dask's workers."""

    crunch: LocalCrunch
    callers: Callers
    cluster: ShardedCluster
    engine: DaskEngine

    def of(self, shard: int) -> list[str]:
        return [each for each in IDS if self.callers.shards(each)[-1:] == [shard]]

    async def process(self) -> int:
        """The process that has the shard which will be lost."""
        (shard,) = [each for each in self.engine._shards if each._index == LOST]
        return (await run_on_workers(self.engine, os.getpid))[shard.worker]

    async def all_work(self, word: str) -> None:
        """All models are ready, and answer."""
        await until(self.cluster, lambda: len(self.cluster.models) == len(IDS))
        assert len((await self.cluster.call("tick", Arguments(word))).succeeded) == len(IDS)


@asynccontextmanager
async def scene(cluster: DaskCluster, *, most_moves: int = 1, address: str = "") -> AsyncIterator[Scene]:
    engine = DaskEngine(address or cluster.address, security=cluster.security, serve=FRAGILE)
    with trio.fail_after(90):
        await workers_are_free(cluster, 2)
        async with LocalCrunch(dict.fromkeys(IDS, Holder)) as crunch:
            callers = Callers(crunch)
            with callers.watching():
                async with ShardedCluster(crunch.config(), SERVICE, shards=2, engine=engine) as sharded:
                    here = Scene(crunch, callers, sharded, engine)
                    await here.all_work("before")
                    assert len(here.of(LOST)) >= 3
                    yield here
            callers.check(most_moves=most_moves)


async def workers_are_free(cluster: DaskCluster, count: int) -> None:
    """Wait until there are so many workers, and none of them has a shard."""
    engine = DaskEngine(cluster.address, security=cluster.security)
    async with engine.running():
        shards: dict[str, int] = {}
        while len(shards) != count or any(shards.values()):
            await trio.sleep(0.05)
            shards = await run_on_workers(engine, threads_of_shards)


@asynccontextmanager
async def calls_of_all_kinds(here: Scene) -> AsyncIterator[dict[str, PredictResult[object]]]:
    """Calls to the lost shard's models: one is half sent, one is not yet, and two wait for answers."""
    half, sent, busy = (here.cluster.models[each] for each in here.of(LOST)[:3])
    results = {}

    async def call(model: object, word: str, *arguments: object) -> None:
        results[word] = await model.call("hold", Arguments(word, *arguments), timeout=30.0)  # type: ignore[attr-defined]

    here.crunch.node(half.model_id).pause()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, half, "half sent", "x" * 1_000_000)
        nursery.start_soon(call, busy, "sent before it")
        await here.crunch.node(busy.model_id).wait_for_calls(2)
        nursery.start_soon(call, busy, "not sent")
        nursery.start_soon(call, sent, "sent")
        await here.crunch.node(sent.model_id).wait_for_calls(2)
        yield results
    for model in half, sent, busy:
        here.crunch.node(model.model_id).instance.may_answer.set()
    assert set(results) == {"half sent", "sent before it", "not sent", "sent"}


def check_calls(here: Scene, lost: list[str], results: dict[str, PredictResult[object]]) -> None:
    for result in results.values():
        assert result.status is Status.FAILED
        assert "connection lost: shard 1 was lost: " in result.detail
        assert counts_of(result.model) == (0, 0, 0)
    words = [[call.args[0] for call in here.crunch.node(each).calls] for each in lost[:3]]
    assert words == [["before", "after"], ["before", "sent", "after"], ["before", "sent before it", "after"]]
    assert [here.callers.shards(each) for each in lost] == [[LOST, 0]] * len(lost)


async def test_what_a_shard_raises_moves_its_models_at_once(
    cluster: DaskCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene(cluster) as here:
        lost = here.of(LOST)
        results = await here.cluster.call("tick", Arguments(BREAK), models=lost)
        assert len(results.failed) == len(lost)
        await here.all_work("after")
        assert [here.callers.shards(each) for each in lost] == [[LOST, 0]] * len(lost)
        (shard,) = [each for each in here.engine._shards if each._index == LOST]
        assert shard.exited.is_set()
    assert "shard 1 was lost: it has raised " in caplog.text


async def test_a_worker_that_is_killed_while_calls_are_sent(cluster: DaskCluster) -> None:
    async with scene(cluster) as here:
        lost, process = here.of(LOST), await here.process()
        async with calls_of_all_kinds(here) as results:
            os.kill(process, signal.SIGKILL)
            silent_at = trio.current_time() + here.cluster.snapshot().shards[LOST]["lease"]
            here.crunch.node(lost[0]).resume()
        await here.all_work("after")
        check_calls(here, lost, results)
        for each in lost:  # nobody has said that the process is gone
            assert next(it.time for it in here.callers.of(each) if it.shard != LOST) >= silent_at


async def test_a_worker_that_was_stopped_past_its_lease_calls_nobody_any_more(cluster: DaskCluster) -> None:
    async with scene(cluster) as here:
        lost, process = here.of(LOST), await here.process()
        async with calls_of_all_kinds(here) as results:
            os.kill(process, signal.SIGSTOP)
            here.crunch.node(lost[0]).resume()  # there would be room for the rest of the request now
        try:
            await until(here.cluster, lambda: not {*lost} & {*here.cluster.models})
            await here.all_work("after")
        finally:  # or nobody can end it
            os.kill(process, signal.SIGCONT)
        while any(here.crunch.node(each).connections > 1 for each in lost):  # noqa: ASYNC110 - nobody is told
            await trio.sleep(0.05)
        check_calls(here, lost, results)


DRIVER = """
import sys, trio
from distributed.security import Security
from helpers.coordinating import SERVICE
from helpers.fragile_shard import FRAGILE
from trio_model_runner import Arguments, ClusterConfig
from trio_model_runner.sharding import DaskEngine, ShardedCluster

async def main():
    port, address, *files = sys.argv[1:]
    names = "tls_ca_file", "tls_client_cert", "tls_client_key"
    security = Security(require_encryption=True, **dict(zip(names, files)))
    engine = DaskEngine(address, security=security, serve=FRAGILE)
    config = ClusterConfig("local", host="127.0.0.1", port=int(port))
    async with ShardedCluster(config, SERVICE, shards=2, engine=engine) as cluster:
        await cluster.wait_for_models(8)
        await cluster.call("hold", Arguments("the first driver's"), timeout=60.0)

trio.run(main)
"""


async def test_a_driver_that_is_killed_leaves_its_workers_to_the_next(cluster: DaskCluster) -> None:
    security = cluster.security
    files = security.tls_ca_file, security.tls_client_cert, security.tls_client_key
    with trio.fail_after(90):
        await workers_are_free(cluster, 2)
        async with LocalCrunch(dict.fromkeys(IDS, Holder)) as crunch:
            callers = Callers(crunch)
            with callers.watching():
                driver = await trio.lowlevel.open_process(
                    [sys.executable, "-c", DRIVER, str(crunch.orchestrator.port), cluster.address, *files],
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                    stderr=subprocess.DEVNULL,
                )
                try:
                    for each in IDS:
                        await crunch.node(each).wait_for_calls(1)
                finally:
                    driver.kill()
                    await driver.wait()
                while any(crunch.node(each).connections for each in IDS):  # noqa: ASYNC110 - nobody is told
                    await trio.sleep(0.05)
            callers.check(most_moves=0)
    async with scene(cluster, most_moves=0):
        pass


# Which of the signs of it comes last, chance decides.
SCHEDULER_LOST = (
    "all shards are lost, .*the last: (the connection to the Dask scheduler is lost|it has given no .*)$"
)


async def test_if_the_driver_loses_the_scheduler_the_workers_end_their_shards(cluster: DaskCluster) -> None:
    _, _, port = cluster.address.rpartition(":")
    with open_relays() as relays:
        address = f"tls://127.0.0.1:{relays.open(int(port))}"
        with pytest.raises(ShardLost, match=SCHEDULER_LOST):  # noqa: PT012 - it comes out of the block
            async with scene(cluster, most_moves=0, address=address):
                relays.close()
                await trio.sleep_forever()
        with trio.fail_after(60):
            await workers_are_free(cluster, 2)


async def test_without_the_scheduler_all_shards_are_lost(cluster: DaskCluster) -> None:
    with pytest.raises(ShardLost, match=SCHEDULER_LOST):  # noqa: PT012 - it comes out of the block
        async with scene(cluster, most_moves=0):
            cluster.scheduler.kill()
            await trio.sleep_forever()
    for worker in cluster.workers:
        worker.wait(60)
