"""A shard plays rounds: one row for each member, in time, and as the ordinary cluster has them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from helpers.coordinating import Model
from helpers.playing_driver import driving

from trio_model_runner import Arguments, Status
from trio_model_runner.cluster.rounds import Round
from trio_model_runner.config import Limits
from trio_model_runner.model.lifecycle import JoinReason
from trio_model_runner.model.policy import Outcome
from trio_model_runner.sharding.messages import (
    ArgumentsGiven,
    ArgumentsWanted,
    JoinEnded,
    JoinWanted,
    Judged,
    JudgedKind,
    Logged,
    RoundCut,
)
from trio_model_runner.sharding.wire_values import arguments_to_wire
from trio_model_runner.values.encoded import DataType, Encoded
from trio_model_runner.values.results import ModelState


class Odd:
    """Answers with what is no value."""

    def predict(self, value: Any = 0) -> Any:
        return Encoded(DataType.JSON, b"{")


async def test_a_round_gives_what_came_and_who_is_a_witness(autojump_clock: object) -> None:
    async with driving({"a": Model, "b": Model, "c": Model}) as (_, driver):
        await driver.ready("a", "b", "c")
        arguments = Arguments({"x": [1, 2]})
        results = await driver.call("predict", arguments)
        assert [results[number].value for number in (1, 2, 3)] == [{"x": [1, 2]}] * 3
        assert {each.status for each in results.values()} == {Status.SUCCESS}
        assert all(each.sent and each.row is None for each in results.values())
        batches = driver.batches(1)
        assert len(batches) <= 3
        shape = arguments_to_wire(arguments).shape
        witnesses = {name for batch in batches for name in batch.witnesses.get(shape, ())}
        assert len(witnesses) == 2
        assert witnesses < {1, 2, 3}


async def test_each_failure_has_its_row(autojump_clock: object) -> None:
    class Failing(Model):
        def predict(self, value: Any = 0) -> Any:
            raise ValueError("no feathers")

    class Hanging(Model):
        async def predict(self, value: Any = 0) -> Any:
            await trio.sleep_forever()

    models = {"good": Model, "failing": Failing, "hanging": Hanging, "odd": Odd, "absent": Model}
    async with driving(models) as (crunch, driver):
        await driver.ready("good", "failing", "hanging", "odd")
        await crunch.crash("absent", announce=False)
        driver.start("absent")
        begin = trio.current_time()
        results = await driver.call("predict", seconds=2.0, numbers=[77])
        assert trio.current_time() - begin == pytest.approx(2.0, abs=0.1)
        found = {driver.number(name): name for name in models} | {77: "unknown"}
        statuses = {found[number]: each.status for number, each in results.items()}
        assert statuses == {
            "good": Status.SUCCESS,
            "failing": Status.FAILED,
            "hanging": Status.TIMEOUT,
            "odd": Status.FAILED,
            "absent": Status.ABSENT,
            "unknown": Status.ABSENT,
        }
        rows = {found[number]: each.row for number, each in results.items()}
        assert rows["good"] is None
        failing, odd, hanging = rows["failing"], rows["odd"], rows["hanging"]
        assert failing is not None
        assert "no feathers" in failing.detail
        assert odd is not None
        assert odd.error_kind == "InvalidAnswer"
        assert hanging is not None
        assert hanging.error_kind == "TimeoutError"
        assert failing.outcome is None  # the shard's judge has told the driver's
        told = {
            found[each.number]: each.outcome
            for each in driver.of(Judged)
            if each.kind is JudgedKind.NOTE and each.round == 1
        }
        assert told["failing"] is Outcome.MODEL_FAILED
        assert told["hanging"] is Outcome.OVERRAN


async def test_a_success_that_the_driver_judges_is_not_counted(autojump_clock: object) -> None:
    async with driving({"a": Model, "b": Model}) as (_, driver):
        await driver.ready("a", "b")
        results = await driver.call("predict", judged=True)
        assert [each.status for each in results.values()] == [Status.SUCCESS] * 2
        assert not [each for each in driver.of(Judged) if each.kind is JudgedKind.NOTE]
        assert not any(each.witnesses for each in driver.batches(1))
        await driver.call("fail", judged=True)
        results = await driver.call("fail", judged=True)
        assert {each.row.outcome for each in results.values() if each.row is not None} == {
            Outcome.MODEL_FAILED
        }


async def test_arguments_are_asked_for_model_by_model(autojump_clock: object) -> None:
    async with driving(dict.fromkeys("abcd", Model)) as (_, driver):
        await driver.ready(*"abcd")
        number = driver.begin("predict", None, seconds=5.0)
        await driver.wait(lambda: len(driver.of(ArgumentsWanted)) == 4)
        for index, value in ((1, 10), (2, 20)):
            driver.say(ArgumentsGiven(number, index, arguments_to_wire(Arguments(value))))
        driver.say(
            ArgumentsGiven(number, 3, mistake="the function raised KeyError: 'c'", raised=True),
            ArgumentsGiven(99, 4, arguments_to_wire(Arguments())),  # another round's
        )
        results = await driver.end_of(number)
        assert [results[1].value, results[2].value] == [10, 20]
        row = results[3].row
        assert results[3].status is Status.FAILED
        assert row is not None
        assert row.mistake
        assert row.detail == "arguments: the function raised KeyError: 'c'"
        assert not results[3].sent
        assert results[4].status is Status.TIMEOUT  # nobody has said
        assert not driver.of(Logged)  # the driver says it, once for all shards


async def test_rounds_take_their_places_in_the_order_of_messages(autojump_clock: object) -> None:
    async with driving({"a": Model()}) as (_, driver):
        await driver.ready("a")
        rounds = [driver.begin("tick", Arguments(value)) for value in range(20)]
        counts = [(await driver.end_of(each))[1].value for each in rounds]
        assert counts == [*range(1, 21)]


@pytest.mark.parametrize("seconds", [0.0, 1.5])
async def test_a_round_is_cut(autojump_clock: object, seconds: float) -> None:
    async with driving({"a": Model, "b": Model}) as (_, driver):
        await driver.ready("a", "b")
        slow = driver.begin("sleep", Arguments(1.0), ["a"])
        hung = driver.begin("hang", models=["b"])
        begin = trio.current_time()
        await trio.sleep(0.5)
        driver.say(RoundCut(slow, seconds, "the block was left"))
        driver.say(RoundCut(hung, seconds, "drain() ended its round"))
        results = {**await driver.end_of(slow), **await driver.end_of(hung)}
        assert trio.current_time() - begin == pytest.approx(0.5 + seconds, abs=0.1)
        assert results[1].status is (Status.SUCCESS if seconds else Status.TIMEOUT)
        row = results[2].row
        assert row is not None
        assert row.detail.endswith("drain() ended its round")
        assert results[2].sent
        driver.say(RoundCut(hung, 0.0, "too late"))


async def test_large_answers_are_split(autojump_clock: object) -> None:
    class Large(Model):
        def predict(self, value: Any = 0) -> str:
            return "x" * 1_500_000

    async with driving(dict.fromkeys("abcde", Large)) as (_, driver):
        await driver.ready(*"abcde")
        results = await driver.call("predict")
        assert all(len(each.value) == 1_500_000 for each in results.values())
        assert max(len(each.data) for each in driver.batches(1)) <= 4 << 20


async def test_an_exception_in_one_round_costs_no_other(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Round.play

    async def fail(self: Round) -> Any:
        if self.id == "1":
            await trio.sleep(0.1)
            raise KeyError("a bug")
        return await play(self)

    monkeypatch.setattr(Round, "play", fail)
    async with driving({"a": Model, "b": Model}) as (_, driver):
        await driver.ready("a", "b")
        broken, good = driver.begin("predict", models=["a"]), driver.begin("predict", models=["b"])
        assert (await driver.end_of(good))[2].status is Status.SUCCESS
        result = (await driver.end_of(broken))[1]
        assert result.status is Status.FAILED
        assert result.row is not None
        assert result.row.error_kind == "KeyError"
        assert result.row.mistake
        assert "a bug" in (await driver.wait_for(Logged)).text


async def test_requests_that_cant_be_made_are_failures_of_ours(autojump_clock: object) -> None:
    async with driving({"a": Model}, limits=Limits(max_message_bytes=1024)) as (_, driver):
        await driver.ready("a")
        result = (await driver.call("predict", Arguments("y" * 2000)))[1]
        assert result.row is not None
        assert result.row.mistake
        assert "max_message_bytes" in result.row.detail


async def test_an_empty_round_ends_at_once(autojump_clock: object) -> None:
    async with driving({}) as (_, driver):
        assert await driver.call("predict") == {}
        assert set(await driver.call("predict", numbers=[1, 2])) == {1, 2}


async def test_a_model_is_called_while_it_joins(autojump_clock: object) -> None:
    async with driving({"a": Model()}, hello={"has_on_join": True}) as (_, driver):
        driver.start("a")
        wanted = await driver.wait_for(JoinWanted)
        assert (wanted.number, wanted.reason, wanted.fresh) == (1, JoinReason.JOINED, True)
        assert (await driver.call("tick", Arguments("history"), joining=True))[1].value == 1
        assert (await driver.call("tick", Arguments("round")))[1].status is Status.ABSENT
        driver.say(JoinEnded(wanted.join))
        assert (await driver.call("tick", Arguments("round")))[1].value == 2  # read right after the end


async def test_a_model_is_reset(autojump_clock: object) -> None:
    async with driving({"a": Model}, hello={"has_on_join": True}) as (_, driver):
        driver.start("a")
        driver.say(JoinEnded((await driver.wait_for(JoinWanted)).join))
        await driver.wait_state("a", ModelState.READY)
        assert (await driver.call("tick", Arguments(1)))[1].value == 1
        reset = driver.begin("", reset=True)
        wanted = await driver.wait_for(JoinWanted, 2)
        assert wanted.fresh
        assert not driver.batches(reset)
        driver.say(JoinEnded(wanted.join))
        result = (await driver.end_of(reset))[1]
        assert (result.status, result.value) == (Status.SUCCESS, None)
        again = driver.begin("", reset=True)
        await driver.wait_for(JoinWanted, 3)
        driver.say(RoundCut(again, 0.0, "it was cancelled"))
        result = (await driver.end_of(again))[1]
        assert result.status is Status.TIMEOUT
        assert result.row is not None
        assert result.row.detail == "it was cancelled"


async def test_metadata_goes_with_requests(autojump_clock: object) -> None:
    async with driving({"a": Model}) as (crunch, driver):
        await driver.ready("a")
        await driver.call("predict", metadata=((b"traceparent", b"00-1"),))
        call = crunch.node("a").calls[-1]
        assert dict(call.metadata)["traceparent"] == "00-1"


async def test_as_it_came_is_as_it_came(autojump_clock: object) -> None:
    async with driving({"a": Odd}) as (_, driver):
        await driver.ready("a")
        result = (await driver.call("predict", decode=False))[1]
        assert result.status is Status.SUCCESS
        assert result.encoded is not None
        assert result.encoded.data == b"{"
