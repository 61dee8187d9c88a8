"""How often a node is asked whether it is through with a call that was cut off, and by whom."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating
from helpers.insides import actor_of, timeouts_of
from trio.testing import MockClock

from trio_model_runner import Arguments, Cluster, DynamicSubclassService, Status
from trio_model_runner.model.watch import Watch
from trio_model_runner.rpc.connection import Connection


@attrs.define
class Questions:
    """When a node was asked, and how many questions were open at the same time."""

    times: list[float] = attrs.field(factory=list)
    open: int = 0
    most: int = 0

    def gaps(self, after: float, before: float) -> list[float]:
        """The gaps between the questions of a time."""
        times = [time for time in self.times if after <= time <= before]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> Questions:
    noted = Questions()
    original = Watch._ask

    async def ask(self: Watch, *args: Any) -> bool:
        noted.times.append(trio.current_time())
        noted.open += 1
        noted.most = max(noted.most, noted.open)
        try:
            return await original(self, *args)
        finally:
            noted.open -= 1

    monkeypatch.setattr(Watch, "_ask", ask)
    return noted


async def test_the_gap_grows_with_the_overrun_up_to_a_second(
    autojump_clock: MockClock, questions: Questions
) -> None:
    async with coordinating({"a": Model, "b": Model}) as (_, cluster):
        sent_at = trio.current_time()
        results = await cluster.call(
            "sleep", lambda model: Arguments(60.0 * (model.model_id == "a")), timeout=1
        )
        assert results.by_id["a"].status is Status.TIMEOUT
        await trio.sleep_until(sent_at + 70)
        assert actor_of(cluster.models["a"]).conduct.record.overrun is None
    first, *_ = questions.times
    assert first - sent_at == pytest.approx(1, abs=0.01)
    for age in (2, 5, 10, 15):
        gaps = questions.gaps(sent_at + age, sent_at + age * 1.2)
        assert gaps
        assert all(age * 0.05 - 0.01 <= gap <= age * 1.2 * 0.05 + 0.01 for gap in gaps)
    late = questions.gaps(sent_at + 21, sent_at + 59)
    assert min(late) == pytest.approx(1, abs=0.01)
    assert max(late) == pytest.approx(1, abs=0.01)


async def test_a_call_that_waits_hurries_the_questions(
    autojump_clock: MockClock, questions: Questions
) -> None:
    async with coordinating({"a": Model, "b": Model}) as (_, cluster):
        sent_at = trio.current_time()
        await cluster.call("sleep", lambda model: Arguments(40.3 * (model.model_id == "a")), timeout=1)
        await trio.sleep_until(sent_at + 30)
        assert questions.gaps(sent_at + 25, sent_at + 30)[0] == pytest.approx(1, abs=0.01)
        before = trio.current_time()
        result = await cluster.models["a"].call("predict", Arguments(2.0), timeout=20, sit_out=False)
        assert result.value == 2.0
        assert trio.current_time() - sent_at == pytest.approx(40.3, abs=0.12)
    gaps = questions.gaps(before + 0.15, sent_at + 40.3)
    assert max(gaps) == pytest.approx(0.1, abs=0.01)
    assert min(time for time in questions.times if time > before) - before <= 0.11


async def test_there_is_one_question_at_a_time(autojump_clock: MockClock, questions: Questions) -> None:
    """However many calls and new connections find the node busy."""
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").faults.busy = True
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(model.predict, 1.0)
                await trio.sleep(0.5)
        await cluster.call("sleep", lambda each: Arguments(9.0 * (each is model)), timeout=1, sit_out=False)
        async with trio.open_nursery() as nursery:
            for timeout in (1.0, 2.0, 3.0):
                nursery.start_soon(lambda t: model.predict(1.0, timeout=t), timeout)
        await trio.sleep(20)
    assert questions.times
    assert questions.most == 1


async def test_nobody_is_asked_once_it_is_through(autojump_clock: MockClock, questions: Questions) -> None:
    async with coordinating({"a": Model, "b": Model}) as (_, cluster):
        await cluster.call("sleep", lambda model: Arguments(1.5 * (model.model_id == "a")), timeout=1)
        await trio.sleep(5)
        asked = len(questions.times)
        assert asked > 0
        await trio.sleep(100)
        assert len(questions.times) == asked


async def test_an_answer_that_can_not_be_read_says_that_the_node_is_through(
    autojump_clock: MockClock, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a node could end the whole cluster by what it answers."""

    def read_setup(*_: Any) -> Any:
        raise ValueError("no such message")

    async with coordinating({"a": Model, "b": Model}) as (_, cluster):
        monkeypatch.setattr(DynamicSubclassService, "read_setup", read_setup)
        await cluster.call("sleep", lambda model: Arguments(9.0 * (model.model_id == "a")), timeout=1)
        await trio.sleep(10)
        assert actor_of(cluster.models["a"]).conduct.record.overrun is None
        assert (await cluster.models["a"].predict(1.0)).status is Status.SUCCESS
    assert questions.times


async def test_a_call_that_outlasts_the_connection_it_was_made_on_says_nothing_of_the_way(
    autojump_clock: MockClock,
) -> None:
    """Its node has retired the connection, so nobody can be asked there; it counts as hindered."""
    async with coordinating(dict.fromkeys("abc", Model)) as (crunch, cluster), trio.open_nursery() as nursery:
        model = cluster.models["a"]

        @nursery.start_soon
        async def retire() -> None:
            await crunch.node("a").wait_for_calls(1)
            crunch.node("a").goaway()

        results = await cluster.call("sleep", lambda each: Arguments(9.0 * (each is model)), timeout=3)
        assert results.by_id["a"].status is Status.TIMEOUT
        await trio.sleep(1)
        standing = actor_of(model).conduct.record.standing("sleep")
        assert (standing.timeouts, standing.hindered) == (0, 1)


async def test_who_becomes_ready_while_it_is_asked_is_not_asked_twice(
    autojump_clock: MockClock, questions: Questions
) -> None:
    async def on_join(join: Any) -> None:
        assert (await join.model.call("sleep", Arguments(9.0), timeout=1)).status is Status.TIMEOUT

    async with coordinating({"a": Model}, on_join=on_join) as (_, cluster):
        assert actor_of(cluster.models["a"]).conduct.record.overrun is not None
        await trio.sleep(20)
        assert actor_of(cluster.models["a"]).conduct.record.overrun is None
    assert questions.times
    assert questions.most == 1


async def test_a_node_that_is_busy_with_our_call_on_a_new_connection_is_not_called_by_others(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        record = actor_of(cluster.models["a"]).conduct.record
        await cluster.call("sleep", lambda model: Arguments(30.0 * (model.model_id == "a")), timeout=1)
        overrun = record.overrun
        assert overrun is not None
        crunch.node("a").break_connections()
        await trio.sleep(15)
        assert record.overrun is overrun
        assert overrun.ours
        await cluster.wait_for_models(2)
        assert record.overrun is None
    assert "another coordinator" not in caplog.text


@pytest.fixture
def pings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When PINGs were sent."""
    times: list[float] = []
    original = Connection.ping

    async def ping(self: Connection, *args: Any) -> bool:
        times.append(trio.current_time())
        return await original(self, *args)

    monkeypatch.setattr(Connection, "ping", ping)
    return times


async def test_who_holds_the_interpreter_is_pinged_only_where_that_decides(
    autojump_clock: MockClock, pings: list[float]
) -> None:
    """The node answers PINGs, but not the question. A fourth timeout is due by one PING more."""
    async with coordinating(dict.fromkeys("abcdef", Model)) as (crunch, cluster):
        model = cluster.models["a"]
        crunch.node("a").faults.hang_setup = True  # which is what an empty Setup meets, too
        await cluster.call("sleep", lambda each: Arguments(1.5 * (each is model)), timeout=1)
        await trio.sleep(1)
        asked = len(pings)
        for _ in range(3):
            assert len(pings) == asked
            assert timeouts_of(model) == 1
            await cluster.call("sleep", Arguments(0.0), timeout=1, sit_out=False)
        await trio.sleep(3)
        assert len(pings) == asked + 1
        assert timeouts_of(model) == 4
        await trio.sleep(50)
        assert len(pings) == asked + 1
        (report,) = await crunch.wait_for_reports()
        assert (report["model_id"], report["failure_code"]) == ("a", "MULTIPLE_TIMEOUT")


async def test_who_bears_no_more_pings_is_asked_without_one(
    autojump_clock: MockClock, pings: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with coordinating({"a": Model, "b": Model}) as (_, cluster):
        model = cluster.models["a"]
        monkeypatch.setattr(Connection, "may_ping", False)
        await cluster.call("sleep", lambda each: Arguments(3.0 * (each is model)), timeout=1)
        await trio.sleep(5)
        assert actor_of(model).conduct.record.overrun is None
        assert timeouts_of(model) == 1
    assert not pings


async def test_a_node_that_says_that_it_has_no_instance_is_set_up_again_before_any_call(
    autojump_clock: MockClock,
) -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        model, node = cluster.models["a"], crunch.node("a")
        made = len(node.setups)
        await cluster.call("sleep", lambda each: Arguments(3.0 * (each is model)), timeout=1)
        # Private: nodes have no way to lose their instance alone.
        node._model.forget()
        await trio.sleep(10)
        assert node.instance is not None
        assert len(node.setups) == made + 1
        assert (await model.call("tick", Arguments(1))).value == 1


async def test_who_waits_for_another_coordinators_call_is_hindered(autojump_clock: MockClock) -> None:
    async with (
        coordinating({"a": Model, "b": Model}) as (crunch, cluster),
        Cluster(crunch.config(), SERVICE) as stranger,
        trio.open_nursery() as nursery,
    ):
        model = cluster.models["a"]
        nursery.start_soon(partial(stranger.models["a"].call, "sleep", Arguments(60.0), timeout=100))
        await crunch.node("a").wait_for_calls(1)
        for hindered, words in ((1, "the node was busy until"), (2, "busy with another coordinator until")):
            result = await model.call("predict", timeout=2, sit_out=False)
            assert result.status is Status.TIMEOUT
            assert words in result.detail
            assert actor_of(model).conduct.record.standing("predict").hindered == hindered
        nursery.cancel_scope.cancel()
