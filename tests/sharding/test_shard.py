"""The life of a shard: how it begins, when it may call, and that it ends however things go."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from helpers.coordinating import SERVICE, Model
from helpers.playing_driver import Driver, driving

from trio_model_runner import Arguments, ClusterConfig, Status
from trio_model_runner.model.actor import ModelActor
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.security import SecureCredentials
from trio_model_runner.sharding.messages import (
    VERSION,
    AskMembers,
    Ended,
    Hello,
    Judged,
    JudgedKind,
    Leave,
    Logged,
    Renewal,
    ShardReady,
)
from trio_model_runner.sharding.shard import serve_shard
from trio_model_runner.sharding.shard_outbox import Outbox
from trio_model_runner.sharding.shard_results import Batches
from trio_model_runner.sharding.wire import decode_from_shard, encode
from trio_model_runner.sharding.wire_values import config_to_wire, service_to_wire
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.values.results import ModelState

HELLO = Hello(VERSION, 0, config_to_wire(ClusterConfig("c", "h", 1)), service_to_wire(SERVICE))


async def answers(first: bytes) -> list[Any]:
    """What a shard says to a first message, until it ends by itself."""
    said: list[Any] = []

    async def send(message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        said.append(decode_from_shard(message))

    with trio.fail_after(5):
        await serve_shard(first, send, trio.sleep_forever)  # type: ignore[arg-type]
    return said


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (encode(attrs.evolve(HELLO, version=VERSION + 1)), "version"),
        (encode(Leave()), "Hello"),
        (encode(attrs.evolve(HELLO, config={})), "WireError"),
        (encode(attrs.evolve(HELLO, service={"service": "Mine"})), "Mine"),
        (b"\0", "WireError"),
    ],
    ids=["another version", "no Hello", "no settings", "no service", "no message"],
)
async def test_what_cant_begin_says_why(first: bytes, says: str) -> None:
    (ended,) = await answers(first)
    assert isinstance(ended, Ended)
    assert says in str(ended.error)


async def test_credentials_are_read_on_the_shards_machine(tmp_path: Path) -> None:
    async with LocalCrunch(network=MemoryNetwork(), security="secure") as crunch:
        crunch.write_credentials(tmp_path)
    config = ClusterConfig("c", "h", 1, credentials=SecureCredentials.from_directory(tmp_path))
    key = (tmp_path / "tls.key").read_text()
    hello = attrs.evolve(HELLO, config=config_to_wire(config))
    (tmp_path / "tls.key").unlink()
    (ended,) = await answers(encode(hello))
    assert "tls.key" in ended.error
    assert key not in ended.error


async def test_it_says_goodbye_when_the_driver_leaves(autojump_clock: object) -> None:
    async with driving({"a": Model, "b": Model}) as (_, driver):
        await driver.ready("a", "b")
        driver.begin("hang")
        await trio.sleep(1)
        began = trio.current_time()
        driver.say(Leave())
        await driver.ended.wait()
        assert trio.current_time() - began < 1.0
        assert isinstance(driver.said[0], ShardReady)
        assert driver.said[-1] == Ended()
        assert {each.status for each in (await driver.end_of(1)).values()} <= {Status.FAILED, Status.TIMEOUT}


async def test_it_calls_only_with_a_lease(autojump_clock: object) -> None:
    async with driving({"a": Model(), "b": Model}) as (crunch, driver):
        driver.grants = False
        driver.start("a")
        await trio.sleep(1)
        state = driver.state("a")
        assert state is not None
        assert state.state is ModelState.ANNOUNCED  # it does not even connect
        driver.grants = True
        await driver.wait_state("a", ModelState.READY)
        driver.grants = False
        began = trio.current_time()
        hung = driver.begin("sleep", Arguments(3.0), seconds=20.0, timeout=20.0)
        result = (await driver.end_of(hung))[1]
        assert result.row is not None
        assert "has not heard from the coordinator" in result.row.detail
        assert 1.5 <= trio.current_time() - began <= 2.1
        calls = len(crunch.node("a").calls)
        result = (await driver.call("predict"))[1]
        assert (result.status, result.sent) == (Status.TIMEOUT, False)
        await trio.sleep(5)
        assert len(crunch.node("a").calls) == calls
        driver.start("b")
        await trio.sleep(1)
        state = driver.state("b")
        assert state is not None
        assert state.state is ModelState.ANNOUNCED
        driver.grants = True
        await trio.sleep(1)
        assert (await driver.call("predict"))[1].status is Status.SUCCESS
        await driver.wait_state("b", ModelState.READY)


async def test_what_the_fence_held_back_goes_out_with_the_next_lease(autojump_clock: object) -> None:
    """A node's Setup was about to be sent when the lease ended."""
    async with driving({"a": Model}) as (crunch, driver):
        assert crunch.network is not None
        await driver.ready("a")
        driver.grants = False
        await trio.sleep(3)
        await crunch.crash("a", announce=False)
        await crunch.recover("a", announce=False)
        await driver.wait_state("a", ModelState.SETTING_UP)
        await trio.sleep(2)
        state = driver.state("a")
        assert state is not None
        assert state.state is ModelState.SETTING_UP
        driver.grants = True
        await driver.wait_state("a", ModelState.READY)


async def test_it_ends_without_a_lease_for_long(autojump_clock: object) -> None:
    async with driving({"a": Model}, hello={"leave_after": 10.0}) as (_, driver):
        await driver.ready("a")
        driver.grants = False
        began = trio.current_time()
        await driver.ended.wait()
        assert 11.5 <= trio.current_time() - began <= 13
        assert "no lease" in str(driver.of(Ended)[0].error)


async def test_it_is_mute_and_ends_when_the_way_is_lost(autojump_clock: object) -> None:
    async with driving({"a": Model(), "b": Model()}) as (crunch, driver):
        await driver.ready("a", "b")
        driver.begin("hang", models=["a"])
        driver.begin("tick", models=["a"])  # waits behind it
        await trio.sleep(0.5)
        began = trio.current_time()
        driver.cut()
        await driver.ended.wait()
        assert trio.current_time() - began < 2
        assert [call.method for call in crunch.node("a").calls] == ["hang"]
        assert not driver.of(Ended)


async def test_a_way_that_only_sends_no_more_is_lost(autojump_clock: object) -> None:
    async with driving({"a": Model}) as (_, driver):
        await driver.ready("a")
        driver.lost = True
        await driver.ended.wait()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(ModelActor, "_take_steps"), (ModelActor, "answers_ping"), (Batches, "send_all")],
)
async def test_an_exception_of_ours_is_said_at_once(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    async with driving({"a": Model, "b": Model}) as (_, driver):
        await driver.ready("a")
        bug, bugs = KeyError("a bug of ours"), []

        def fail(*_: Any, **__: Any) -> Any:
            if not bugs:
                bugs.append(bug)
                raise bug

        async def fail_soon(*_: Any, **__: Any) -> Any:
            await trio.lowlevel.checkpoint()
            raise bug

        monkeypatch.setattr(owner, name, fail if owner is Batches else fail_soon)
        if owner is Batches:
            driver.begin("predict", models=["a", "b"])
        elif name == "_take_steps":
            driver.start("b")
        else:
            driver.say(AskMembers(1, 1.0))
        await driver.ended.wait()
        (ended,) = driver.of(Ended)
        assert "KeyError: 'a bug of ours'" in str(ended.error)
        assert "Traceback" in str(ended.error)


async def test_a_message_that_is_none_ends_it(autojump_clock: object) -> None:
    async with driving({"a": Model}) as (_, driver):
        await driver.ready("a")
        driver.say(HELLO)
        await driver.ended.wait()
        assert "a Hello may not come now" in str(driver.of(Ended)[0].error)


async def test_cancelled_from_outside_it_ends(autojump_clock: object) -> None:
    network = MemoryNetwork()
    async with LocalCrunch({"a": Model}, network=network) as crunch:
        driver = Driver(crunch)
        hello = attrs.evolve(HELLO, config=config_to_wire(crunch.config(), network=False))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: serve_shard(encode(hello), driver.send, driver.receive, network=network)
            )
            await driver.ready("a")
            driver.begin("hang")
            await trio.sleep(1)
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 2


async def test_what_it_logs_is_said_and_nothing_of_others(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with driving({"a": Model}) as (_, driver):
        logging.getLogger("trio_model_runner.cluster").error("the driver's own")
        driver.begin("predict", None, models=["a"])  # which has left
        driver.grants = False
        await trio.sleep(4)
        said = await driver.wait_for(Logged)
        assert (said.level, said.logger) == (logging.WARNING, "trio_model_runner.sharding")
        assert said.text == "there is no lease: no models are called"
        assert len(driver.of(Logged)) == 1


async def test_a_message_that_cant_be_sent_is_a_bug_that_is_said(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with driving({"a": Model}) as (_, driver):
        await driver.ready("a")
        wrong = Judged(JudgedKind.NOTE_LOSS, 1, stood=math.nan)
        monkeypatch.setattr("trio_model_runner.sharding.shard_supervisor.MembersAsked", lambda _: wrong)
        driver.say(AskMembers(1, 1.0))
        with trio.fail_after(10):
            await driver.ended.wait()
        assert "WireError" in str(driver.of(Ended)[0].error)


async def test_a_slow_way_delays_no_renewal_and_loses_no_result(autojump_clock: object) -> None:
    sent: list[Any] = []

    async def send(message: bytes) -> None:
        await trio.sleep(0.1)
        sent.append(decode_from_shard(message))

    outbox = Outbox(send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        for number in range(3):
            outbox.put_log(Logged(20, "x", str(number)))
            outbox.put(Judged(JudgedKind.NOTE_THROUGH, number))
        outbox.put_first(Renewal(1))
        await outbox.flush()
        assert [type(each) for each in sent] == [Renewal, Judged, Judged, Judged, Logged, Logged, Logged]
        for number in range(1005):
            outbox.put_log(Logged(20, "x", str(number)))
        outbox.wake()
        await outbox.flush()
        assert sent[-1].text == "5 more records were not sent, since there were too many"
        nursery.cancel_scope.cancel()
