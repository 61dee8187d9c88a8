"""A Dask worker is cut off for longer than its shard's lease, and comes back. Both sides live all the time.

How a line is cut is another's; see `helpers.namespaces` and `helpers.relays`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from helpers.callers import MARKED, Callers
from helpers.coordinating import SERVICE, Model, until
from helpers.dask_cluster import DaskCluster
from helpers.fragile_shard import threads_of_shards
from trio_model_runner import Arguments, Status
from trio_model_runner.sharding import DaskEngine, ShardedCluster
from trio_model_runner.testing import LocalCrunch

__all__ = ["IDS", "Holder", "Line", "play_partition", "run_on_workers"]

IDS = [f"model-{number}" for number in range(8)]


@attrs.frozen
class Line:
    """The line of one worker.

    Attributes:
        address: how Dask's address of that worker begins.
        cut: drop silently what goes over it, from now on.
        mend: let all pass again.
    """

    address: str
    cut: Callable[[], None]
    mend: Callable[[], None]


class Holder(Model):
    """Answers `hold` when it may."""

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.may_answer = trio.Event()

    async def hold(self, word: str, _: str = "") -> str:
        await self.may_answer.wait()
        return word


async def run_on_workers(engine: DaskEngine, function: Callable[[], int]) -> dict[str, int]:
    """What a function returns in the process of each worker; those that can't say are left out."""

    async def run() -> Any:
        return await engine._client.run(function, on_error="ignore")

    assert engine._thread is not None
    return dict(await engine._thread.run(run))


async def play_partition(cluster: DaskCluster, line: Line, host: str) -> None:
    """Play it. The nodes listen at `host`, and see who has called them."""
    engine = DaskEngine(cluster.address, security=cluster.security, serve=MARKED)
    async with LocalCrunch() as crunch:
        for each in IDS:
            await crunch.add(each, Holder, host=host)
        callers = Callers(crunch)
        with callers.watching():
            async with ShardedCluster(crunch.config(), SERVICE, shards=2, engine=engine) as sharded:
                await until(sharded, lambda: len(sharded.models) == len(IDS))
                await _play(crunch, callers, sharded, engine, line)
        callers.check()


async def _play(
    crunch: LocalCrunch, callers: Callers, sharded: ShardedCluster, engine: DaskEngine, line: Line
) -> None:
    assert len((await sharded.call("tick", Arguments("before"))).succeeded) == len(IDS)
    (cut_off,) = [each for each in engine._shards if each.worker.startswith(line.address)]
    index = cut_off._index
    lost = [each for each in IDS if callers.shards(each) == [index]]
    node = crunch.node(lost[0])
    results = []

    async def hold(word: str) -> None:
        results.append(await sharded.models[lost[0]].call("hold", Arguments(word), timeout=30.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, "held")
        await node.wait_for_calls(2)
        nursery.start_soon(hold, "waits in the shard")
        while (lease := sharded.snapshot().shards[index]["lease"]) < 2.5:  # noqa: ASYNC110 - nobody is told
            await trio.sleep(0.01)
        move_at = trio.current_time() + lease
        line.cut()  # the shard's own lease ends within 2 s
        number = 0
        while not results:  # rounds go on, and none of them reaches these models
            number += 1
            round_ = await sharded.call("tick", Arguments(f"meanwhile {number}"), timeout=0.3)
            assert not {model.model_id for model in round_.succeeded} & {*lost} or results
    assert [result.status for result in results] == [Status.FAILED] * 2
    node.instance.may_answer.set()  # its old shard could send what waits there, if it might
    await until(sharded, lambda: len(sharded.models) == len(IDS))
    assert len((await sharded.call("tick", Arguments("after"))).succeeded) == len(IDS)
    for each in lost:
        assert next(it.time for it in callers.of(each) if it.shard != index) >= move_at
    line.mend()
    shards = {cut_off.worker: 1}
    while shards.get(cut_off.worker) != 0:
        await trio.sleep(0.05)
        shards = await run_on_workers(engine, threads_of_shards)
    while any(crunch.node(each).connections > 1 for each in lost):  # noqa: ASYNC110 - nobody is told
        await trio.sleep(0.05)
    assert len((await sharded.call("tick", Arguments("at last"))).succeeded) == len(IDS)
    assert [call.args[0] for call in node.calls if "meanwhile" not in call.args[0]] == [
        *("before", "held", "after", "at last")
    ]
