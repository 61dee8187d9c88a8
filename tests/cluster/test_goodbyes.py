"""Nodes, and proxies before them, retire connections in peace. Rounds don't notice.

A proxy does so after a number of requests or a time (`keepalive_requests`, MaxConnectionAge), by a GOAWAY
with NO_ERROR.
"""

from __future__ import annotations

import pytest
import trio
from helpers.coordinating import Model, coordinating, until
from trio.testing import MockClock

from trio_model_runner import Arguments, ChangeKind, Join, ModelState, Status
from trio_model_runner.testing import Faults


@pytest.mark.parametrize("every", [10, 25, 100])
async def test_a_connection_that_is_retired_now_and_then_costs_no_result(
    autojump_clock: MockClock, every: int
) -> None:
    async with coordinating(dict.fromkeys("abc", Model), timeout=1) as (crunch, cluster):
        async with cluster.changes() as changes:
            for number in range(300):
                if number % every == every - 1:
                    crunch.node("a").goaway()
                results = await cluster.call("predict")
                assert len(results.succeeded) == 3
                assert cluster.announced["a"].state in (ModelState.READY, ModelState.REPLACING)
                assert set(cluster.models) == {*"abc"}
                await trio.sleep(0.25)
            crunch.announce("a", "STOPPED")
            kinds = [(await changes.__anext__()).kind]
        assert kinds == [ChangeKind.LEFT]  # and nothing before
        assert crunch.reports == []


async def test_calls_wait_for_the_next_connection_in_their_own_time(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model}, timeout=5) as (crunch, cluster):
        await cluster.call("predict")
        crunch.node("a").faults = Faults(setup_delay=2)
        crunch.node("a").goaway()
        late, early = (await cluster.call("predict", timeout=1)).by_id["a"], trio.current_time()
        assert (late.status, late.sent) == (Status.TIMEOUT, False)
        assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS
        assert trio.current_time() - early == pytest.approx(1, abs=0.2)


async def test_a_call_that_is_open_ends_on_the_old_connection(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model}, timeout=5) as (crunch, cluster), trio.open_nursery() as nursery:
        await cluster.call("predict")
        results: list[Status] = []

        async def call(method: str, *values: float) -> None:
            results.append((await cluster.call(method, Arguments(*values))).by_id["a"].status)

        nursery.start_soon(call, "sleep", 2.0)
        await crunch.node("a").wait_for_calls(2)
        crunch.node("a").goaway()
        await trio.sleep(0.5)
        assert cluster.announced["a"].state is ModelState.REPLACING
        await call("predict")
        assert results == [Status.SUCCESS] * 2
        assert [record.method for record in crunch.node("a").calls] == ["predict", "sleep", "predict"]


async def test_a_node_that_retires_every_connection_is_not_connected_to_all_the_time(
    autojump_clock: MockClock,
) -> None:
    async with coordinating(dict.fromkeys("abcdef", Model), timeout=1) as (crunch, cluster):
        statuses = []
        for _ in range(400):
            statuses.append((await cluster.call("predict")).by_id["a"].status)
            crunch.node("a").goaway()
            await trio.sleep(0.1)
        # Three at once, and then about one each time that 2 s have passed.
        assert 15 <= statuses.count(Status.SUCCESS) <= 50
        assert set(statuses) == {Status.SUCCESS, Status.ABSENT}
        await trio.sleep(1000)
        assert crunch.reports == []


async def test_a_node_that_was_replaced_behind_its_address_is_joined(autojump_clock: MockClock) -> None:
    joined: list[tuple[str, bool]] = []

    async def on_join(join: Join) -> None:
        joined.append((join.reason, join.fresh))

    async with coordinating({"a": Model}, on_join=on_join) as (crunch, cluster):
        await cluster.call("predict")
        await crunch.node("a").run_exclusively(forget)
        crunch.node("a").goaway()
        assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS
        assert joined == [("joined", True), ("restarted", True)]


async def forget(model: object) -> None:
    model.forget()  # type: ignore[attr-defined]


async def test_a_goodbye_before_any_call_is_a_failed_attempt(autojump_clock: MockClock) -> None:
    async with coordinating(dict.fromkeys("abcdef", Model)) as (crunch, cluster):
        begin = trio.current_time()
        while cluster.announced["a"].state is not ModelState.FAILED:
            crunch.node("a").goaway()
            await trio.sleep(0.2)
            assert trio.current_time() - begin < 60
        crunch.announce("a")
        await until(cluster, lambda: "a" in cluster.models)
