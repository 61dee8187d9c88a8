"""The models of a shard, by the driver's numbers: what they are told, and what is said of them."""

from __future__ import annotations

import pytest
import trio
from helpers.coordinating import Model
from helpers.playing_driver import driving

from trio_model_runner import Arguments, Status
from trio_model_runner.config import Backoff
from trio_model_runner.model.lifecycle import JoinReason
from trio_model_runner.sharding.messages import (
    AskMembers,
    AskStandings,
    Command,
    JoinEnded,
    JoinWanted,
    Judged,
    JudgedKind,
    Logged,
    MembersAsked,
    StandingCorrected,
    Standings,
    State,
    Verb,
)
from trio_model_runner.values.results import ModelState


async def test_a_model_says_each_state_in_order(autojump_clock: object) -> None:
    async with driving({"a": Model}) as (_, driver):
        await driver.ready("a")
        assert [each.state for each in driver.of(State)] == [
            ModelState.CONNECTING,
            ModelState.SETTING_UP,
            ModelState.JOINING,
            ModelState.READY,
        ]
        assert [each.ready for each in driver.of(State)] == [False, False, False, True]
        assert not driver.of(JoinWanted)
        setups = [each for each in driver.of(Judged) if each.kind is JudgedKind.NOTE_SETUP]
        assert [each.flags for each in setups] == [("created",)]
        driver.say(Command(1, Verb.STOP, "it was stopped"))
        gone = await driver.wait_state("a", ModelState.GONE)
        assert gone.condition == "gone: it was stopped"
        assert (await driver.call("predict"))[1].status is Status.ABSENT


@pytest.mark.parametrize("fresh", [False, True])
async def test_only_a_fresh_instance_of_a_known_model_joins(autojump_clock: object, fresh: bool) -> None:
    async with driving({"a": Model}, hello={"has_on_join": True}) as (crunch, driver):
        driver.start("a")
        driver.say(JoinEnded((await driver.wait_for(JoinWanted)).join))
        await driver.wait_state("a", ModelState.READY)
        driver.say(Command(1, Verb.STOP))
        await driver.wait_state("a", ModelState.GONE)
        if fresh:
            await crunch.crash("a", announce=False)
            await crunch.recover("a", announce=False)
        driver.start("a", known=True, epoch=2)
        if fresh:
            wanted = await driver.wait_for(JoinWanted, 2)
            assert (wanted.reason, wanted.fresh) == (JoinReason.RESTARTED, True)
            driver.say(JoinEnded(wanted.join))
        await driver.wait_state("a", ModelState.READY)
        assert len(driver.of(JoinWanted)) == 1 + fresh


async def test_an_on_join_that_raises_keeps_its_model_out(autojump_clock: object) -> None:
    async with driving({"a": Model, "b": Model}, hello={"has_on_join": True}) as (_, driver):
        driver.start("a", "b")
        await driver.wait_for(JoinWanted, 2)
        for wanted in driver.of(JoinWanted):
            error = "ZeroDivisionError: no history" if wanted.number == 1 else None
            driver.say(JoinEnded(wanted.join, error))
        failed = await driver.wait_state("a", ModelState.FAILED)
        assert failed.ours
        assert failed.error == "ZeroDivisionError: no history"
        await driver.wait_state("b", ModelState.READY)
        assert not driver.of(Logged)  # the driver has the exception, and logs it
        result = (await driver.call("predict"))[1]
        assert result.status is Status.ABSENT
        driver.say(JoinEnded(99))  # an unknown one is no news


async def test_a_join_that_is_over_makes_nobody_wait(autojump_clock: object) -> None:
    async with driving({"a": Model, "b": Model}, hello={"has_on_join": True}) as (_, driver):
        driver.start("a")
        wanted = await driver.wait_for(JoinWanted)
        driver.say(Command(1, Verb.RECOVER), JoinEnded(wanted.join), Command(1, Verb.REVIVE))
        again = await driver.wait_for(JoinWanted, 2)
        driver.say(JoinEnded(wanted.join))  # of the one that was cut off
        driver.say(JoinEnded(again.join))
        await driver.wait_state("a", ModelState.READY)


async def test_a_model_that_moves_away_and_back_has_a_new_actor(autojump_clock: object) -> None:
    async with driving({"a": Model()}) as (_, driver):
        await driver.ready("a")
        driver.say(Command(1, Verb.STOP, "it moves"))
        driver.start("a", epoch=3, known=True)
        await driver.wait(lambda: any(each.epoch == 3 and each.ready for each in driver.of(State)))
        assert [each.epoch for each in driver.of(State) if each.state is ModelState.GONE] == [1]
        await trio.sleep(5)
        assert (await driver.call("tick", Arguments(1)))[1].value == 1
        driver.start("a", epoch=4, known=True)  # without a STOP
        await driver.wait(lambda: any(each.epoch == 4 and each.ready for each in driver.of(State)))
        assert [each.epoch for each in driver.of(State) if each.state is ModelState.GONE] == [1, 3]


async def test_actors_obey(autojump_clock: object) -> None:
    async with driving({"a": Model, "b": Model}, backoff=Backoff(attempts=1)) as (crunch, driver):
        driver.start("a", recovering=True)
        assert (await driver.wait_state("a", ModelState.RECOVERING)).error is not None
        driver.say(Command(1, Verb.REVIVE))
        await driver.wait_state("a", ModelState.READY)
        await crunch.crash("a", announce=False)
        failed = await driver.wait_state("a", ModelState.FAILED)
        assert failed.error is not None
        assert "no connection after 1 attempts" in failed.error
        driver.say(Command(1, Verb.TRY_LATER), Command(1, Verb.TRY_NOW))
        await driver.wait(lambda: [each.state for each in driver.of(State)][-2:].count(ModelState.CONNECTING))
        await crunch.recover("a", announce=False)
        node = crunch.node("b")
        driver.say(
            Command(1, Verb.UPDATE, infos={"model_name": "Anna"}),
            Command(1, Verb.MOVE, host=node.host, port=node.port),
        )
        await driver.wait_state("a", ModelState.READY)
        await driver.call("predict", models=["a"])
        assert [call.method for call in crunch.node("b").calls] == ["predict"]
        driver.say(Command(1, Verb.LET_GO, "reported as BAD_IMPLEMENTATION"))
        assert (await driver.wait_state("a", ModelState.FAILED)).error == "reported as BAD_IMPLEMENTATION"
        driver.say(Command(1, Verb.REVIVE))
        await driver.wait_state("a", ModelState.READY)
        driver.say(Command(1, Verb.RETIRE))
        await driver.wait_state("a", ModelState.GONE)
        driver.say(Command(1, Verb.STOP), Command(55, Verb.STOP))


async def test_members_are_asked_for_a_sign_of_life(autojump_clock: object) -> None:
    async with driving({"a": Model, "b": Model}) as (crunch, driver):
        await driver.ready("a", "b")
        assert crunch.network is not None
        with crunch.network.cut(crunch.node("b")):
            driver.say(AskMembers(7, 2.0))
            assert (await driver.wait_for(MembersAsked)).question == 7
            lost = await driver.wait_state("b", ModelState.CONNECTING)
        assert not lost.ready
        assert (await driver.wait_state("a", ModelState.READY)).ready


async def test_standings_are_said_and_corrected(autojump_clock: object) -> None:
    async with driving({"a": Model, "b": Model}, max_consecutive_timeouts=1) as (_, driver):
        await driver.ready("a", "b")
        await driver.call("predict", models=["a"])
        await trio.sleep(3)
        driver.say(AskStandings(5))
        said = await driver.wait_for(Standings)
        times = {each.number: each for each in said.standings if each.method == "predict"}
        assert said.question == 5
        assert times.keys() == {1}
        assert times[1].succeeded == pytest.approx(3, abs=0.1)
        driver.say(StandingCorrected(1, "sleep", 1), StandingCorrected(99, "sleep", 1))
        hung = await driver.call("sleep", Arguments(5), models=["a"], seconds=1.0, timeout=1.0)
        assert hung[1].status is Status.SKIPPED  # as the driver counts


async def test_a_change_without_a_change_of_state_is_said(autojump_clock: object) -> None:
    async def make() -> Model:
        await trio.sleep(8)
        return Model()

    async with driving({"a": make}, setup_timeout=2.0) as (_, driver):
        driver.start("a")
        await driver.wait(lambda: (now := driver.state("a")) and now.error)
        late = driver.state("a")
        assert late is not None
        assert late.state is ModelState.SETTING_UP
        assert "setup_timeout" in str(late.error)
        assert (await driver.wait_for(Logged)).logger == "trio_model_runner.model"
        await driver.wait_state("a", ModelState.READY)
