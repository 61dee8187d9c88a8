"""From threads, asyncio and a notebook: rounds come back, what is given up ends, and no thread is left."""

from __future__ import annotations

import threading

import pytest
import trio
from helpers.programs import running

from examples.from_asyncio import WAYS, ask_and_give_up, cluster_in_a_thread
from trio_model_runner.testing import LocalCrunch


class Forecaster:
    """Answers, or hangs until its call is given up."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs

    async def predict(self, asset: str) -> float:
        if self.hangs:
            await trio.sleep_forever()
        return float(len(asset))


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_asks_both_questions_and_leaves_no_thread(way: str) -> None:
    before = threading.enumerate()
    async with LocalCrunch({"a": Forecaster(), "b": Forecaster()}) as crunch:
        rounds = await trio.to_thread.run_sync(WAYS[way], crunch.config())
        assert [[result.value for result in each.values()] for each in rounds] == [[3.0, 3.0]] * 2
        assert crunch.orchestrator.connections == 0
    left = {thread.name for thread in set(threading.enumerate()) - set(before)}
    assert not {name for name in left if not name.startswith("Trio thread")}, left  # those are Trio's to keep


async def test_what_is_given_up_is_no_round_any_more() -> None:
    def give_up() -> None:
        with cluster_in_a_thread(crunch.config()) as (portal, cluster):
            assert ask_and_give_up(portal, cluster, 0.05) is None
            portal.call(cluster.drain, 0.0)  # whatever round still runs ends, and is the last one
            assert cluster.snapshot().last_round is None

    async with LocalCrunch({"a": Forecaster(hangs=True)}) as crunch:
        await trio.to_thread.run_sync(give_up)


async def test_as_a_program() -> None:
    async with LocalCrunch({"a": Forecaster()}) as crunch:
        async with running("from_asyncio.py", crunch, "asyncio") as program:
            await program.wait()
        assert program.returncode == 0
        assert program.output.count("1 of 1 SUCCESS") == 2
