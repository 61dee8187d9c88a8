"""Ctrl-C at any line of the driver's side: nothing is left, and nothing else comes out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from helpers.checkpoints import interrupt_every_line, interrupt_everywhere
from helpers.coordinating import SERVICE, Model

from trio_model_runner import Arguments
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.sharding import ShardedCluster
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine

Subject = tuple[LocalCrunch, InProcessEngine]


@asynccontextmanager
async def crunch_and_engine() -> AsyncIterator[Subject]:
    network = MemoryNetwork()
    with trio.fail_after(30):
        async with LocalCrunch(dict.fromkeys("abcd", Model), network=network) as crunch:
            yield crunch, InProcessEngine(network=network)


async def coordinate(subject: Subject) -> None:
    """Enter, make rounds of all kinds, lose a shard in one of them, and leave."""
    crunch, engine = subject

    async def on_join(join: Any) -> None:
        (await join.model.call("tick", Arguments("joined"))).unwrap()

    async with ShardedCluster(crunch.config(), SERVICE, shards=2, engine=engine, on_join=on_join) as cluster:
        await cluster.call("tick", Arguments(1), returns=int)
        await cluster.call("predict", lambda model: Arguments(model.model_id))
        async with cluster.as_completed("predict") as results:
            async for _ in results:
                engine.shards[1].kill()
                break
        await cluster.wait_for_models(4)
        await cluster.drain(0.1)


async def check(subject: Subject, interrupted: bool) -> None:
    crunch, engine = subject
    assert all(shard.exited.is_set() for shard in engine.shards.values())
    await trio.testing.wait_all_tasks_blocked()
    assert not any(crunch.node(each).connections for each in "abcd")
    for each in "abcd":
        ticks = [call.args for call in crunch.node(each).calls if call.method == "tick"]
        assert len(ticks) == len(set(ticks))


def test_ctrl_c_after_any_step() -> None:
    assert interrupt_everywhere(crunch_and_engine, coordinate, check, stride=37) > 5


@pytest.mark.parametrize(
    ("path", "stride"),
    [
        ("sharding/shards", 29),
        ("sharding/shard_l", 61),
        ("sharding/sharded_", 53),
        ("sharding/remote_actor", 61),
        ("sharding/catching_up", 13),
    ],
)
def test_ctrl_c_before_any_line(path: str, stride: int) -> None:
    assert interrupt_every_line(crunch_and_engine, coordinate, check, path=path, stride=stride) > 5
