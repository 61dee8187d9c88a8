"""A shard without a lease sends no request; that its nodes were not asked is not held against them."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from helpers.coordinating import SERVICE, Model
from helpers.playing_driver import Driver, driving

from trio_model_runner import Arguments
from trio_model_runner.config import Keepalive
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.rpc.connection import Connection
from trio_model_runner.sharding import ShardedCluster
from trio_model_runner.sharding.messages import Judged, JudgedKind
from trio_model_runner.sharding.shard import serve_shard
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.shard_engine import InProcessEngine
from trio_model_runner.values.results import ModelState


async def fall_mute(driver: Driver) -> None:
    driver.grants = False
    await trio.sleep(2.5)


def state(driver: Driver) -> ModelState:
    said = driver.state("a")
    assert said is not None
    return said.state


def judged(driver: Driver) -> list[JudgedKind]:
    return [each.kind for each in driver.of(Judged)]


async def test_a_setup_that_was_held_back_goes_out_on_the_next_connection_too(
    autojump_clock: object,
) -> None:
    """Its node has retired the connection, so the next one is made while the model still counts as ready."""
    async with driving({"a": Model}) as (crunch, driver):
        await driver.ready("a")
        await driver.call("tick", Arguments(1))
        await fall_mute(driver)
        crunch.node("a").goaway()
        await trio.sleep(1)
        assert state(driver) is ModelState.REPLACING
        driver.grants = True
        await trio.sleep(1)
        assert state(driver) is ModelState.READY


async def test_no_time_runs_for_a_setup_that_is_held_back(autojump_clock: object) -> None:
    async with driving({"a": Model}, setup_timeout=5.0) as (crunch, driver):
        await driver.ready("a")
        await fall_mute(driver)
        await crunch.crash("a", announce=False)
        await crunch.recover("a", announce=False)
        await driver.wait_state("a", ModelState.SETTING_UP)
        crunch.node("a").faults.setup_delay = 4.0
        told = judged(driver)
        await trio.sleep(8)
        driver.grants = True
        await driver.wait_state("a", ModelState.READY)
        assert judged(driver) == [*told, JudgedKind.NOTE_SETUP]


@pytest.mark.parametrize("may_ping", [True, False])
async def test_a_node_that_was_not_asked_is_not_silent(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, may_ping: bool
) -> None:
    """It is still asked whether it is through with a call that was cut off, by a Setup, if not by a PING."""
    async with driving({"a": Model}, max_consecutive_timeouts=0) as (crunch, driver):
        await driver.ready("a")
        await driver.call("sleep", Arguments(3.2), seconds=1.0, timeout=1.0)
        driver.begin("tick", seconds=2.6, timeout=2.6)  # a window, which ends when the node is through
        monkeypatch.setattr(Connection, "may_ping", may_ping)
        await fall_mute(driver)
        told = judged(driver)
        await trio.sleep(20)
        assert state(driver) is ModelState.READY
        assert crunch.node("a").connections == 1
        assert judged(driver) == told
        driver.grants = True
        await trio.sleep(1)
        assert judged(driver) == [*told, JudgedKind.NOTE_THROUGH]


async def test_a_node_that_is_only_observed_is_not_silent_either(autojump_clock: object) -> None:
    keepalive = Keepalive(interval=5.0, timeout=2.0)
    async with driving({"a": Model}, hello={"service": None}, keepalive=keepalive) as (_, driver):
        driver.start("a")
        await driver.wait_state("a", ModelState.REACHABLE)
        await fall_mute(driver)
        await trio.sleep(20)
        assert state(driver) is ModelState.REACHABLE
        assert not judged(driver)


@pytest.mark.parametrize("forwards", [False, True])
async def test_what_a_shard_logs_is_said_once(
    autojump_clock: object, caplog: pytest.LogCaptureFixture, forwards: bool
) -> None:
    """A shard in the driver's process has the same log. One elsewhere has its number before each line."""
    network = MemoryNetwork()
    engine = InProcessEngine(network=network)
    if forwards:
        engine = InProcessEngine(partial(serve_shard, network=network))
        engine.has_network = True
    async with (
        LocalCrunch({"a": Model}, network=network) as crunch,
        ShardedCluster(crunch.config(), SERVICE, shards=1, engine=engine),
    ):
        engine.shards[0].delay(10.0, from_shard=False)
        await trio.sleep(3)
        engine.shards[0].delay(0.0)
        await trio.sleep(12)
    said = ["there is no lease: no models are called", "there is a lease again: models are called"]
    told = [each.getMessage() for each in caplog.records if "lease" in each.getMessage()]
    assert [each for each in told if not each.startswith("shard 0: ")] == said
    assert told[1::2] == [f"shard 0: {each}" for each in said] if forwards else told == said
