"""What listeners are told while models join, crash, move, are redeployed and go."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from helpers.coordinating import Model, coordinating, until
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, Change, ChangeKind, ModelState, Status
from trio_model_runner.cluster.changes import _MAX_QUEUED, Broadcast, ChangeListener
from trio_model_runner.config import Backoff

ANNOUNCED, JOINED, LOST, REDEPLOYED, UPDATED, HELD, LEFT, FAILED, RESYNC = ChangeKind


async def take(changes: ChangeListener, count: int) -> list[tuple[ChangeKind, str | None]]:
    """So many changes, but for LOST: a node that dies is noticed before or after the orchestrator says so."""
    taken: list[tuple[ChangeKind, str | None]] = []
    while len(taken) < count:
        change = await changes.__anext__()
        if change.kind is not LOST:
            taken.append((change.kind, change.model and change.model.model_id))
    return taken


async def test_a_lost_connection_is_told_and_what_follows_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        coordinating({"a": Model, "b": Model}, backoff=Backoff(attempts=2)) as (crunch, cluster),
        cluster.changes() as changes,
    ):
        a = cluster.models["a"]
        crunch.node("a").kill()
        lost = await changes.__anext__()
        assert (lost.kind, lost.model, a.state) == (LOST, a, ModelState.LOST)
        assert "closed" in str(lost.error)
        crunch.node("a").restart()
        assert (await changes.__anext__()).kind is JOINED
        # After a success, the attempts are counted from the first again.
        assert len((await cluster.call("predict")).succeeded) == 2
        await trio.sleep(10)
        crunch.node("a").kill()
        assert [(await changes.__anext__()).kind for _ in range(2)] == [LOST, FAILED]
    assert [record.levelname for record in caplog.records if "lost" in record.message][:1] == ["WARNING"]


async def test_the_log_has_one_line_for_all_that_are_lost_and_one_for_their_return(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"m{number}" for number in range(30)]
    async with coordinating(dict.fromkeys(names, Model), report_failures=False) as (crunch, cluster):
        await trio.sleep(10)
        caplog.clear()
        for name in names:
            crunch.node(name).kill()
        await trio.sleep(5)
        for name in names:
            crunch.node(name).restart()
        await cluster.wait_for_models(len(names))
        await trio.sleep(5)
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
        first, second = (record.getMessage() for record in caplog.records)
        assert first.startswith("the connections to 30 models are lost: 'm0', 'm1', 'm10'")
        assert "the server closed the connection" in first
        assert second.startswith("the connections to 30 models are back: 'm0', 'm1', 'm10'")
        caplog.clear()
        crunch.node("m7").kill()
        crunch.node("m7").restart()
        await trio.sleep(10)
        lost, back = (record.getMessage() for record in caplog.records)
        assert lost.startswith("the connection to 1 model is lost: 'm7' (the first: ")
        assert back == "the connection to 1 model is back: 'm7'"


async def test_a_change_as_a_dict_is_strict_json(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster), cluster.changes() as changes:
        old = cluster.models["a"]
        await crunch.crash("b")
        failed = [change async for change in take_until(changes, FAILED)][-1]
        assert failed.to_dict() == {
            "kind": "failed",
            "model": cluster.announced["b"].to_dict(),
            "previous": None,
            "error": "it crashed, and is being restarted",
        }
        await crunch.redeploy("a", Model)
        told = [change async for change in take_until(changes, REDEPLOYED)][-1].to_dict()
        assert told["model"] == cluster.models["a"].to_dict()
        assert told["previous"] == old.to_dict()
        assert told["error"] is None
        assert json.loads(json.dumps(told, allow_nan=False)) == told


async def take_until(changes: ChangeListener, kind: ChangeKind) -> AsyncIterator[Change]:
    async for change in changes:
        yield change
        if change.kind is kind:
            return


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise AttributeError("no text")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, None),
        (ValueError("\ud83d\x1b"), "\\ud83d\\x1b"),
        (ValueError("a" * 5000), "a" * 1999 + "\u2026"),
        (UnspeakableError(), "<UnspeakableError>"),
    ],
    ids=["none", "surrogate", "long", "unspeakable"],
)
def test_a_change_s_error_is_readable_text(error: BaseException | None, text: str | None) -> None:
    told = Change(RESYNC, error=error).to_dict()
    assert told == {"kind": "resync", "model": None, "previous": None, "error": text}
    json.dumps(told, allow_nan=False, ensure_ascii=False).encode()


async def test_what_happens_is_told_in_order(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model()}) as (crunch, cluster), cluster.changes() as changes:
        await crunch.add("b", Model())
        assert await take(changes, 2) == [(ANNOUNCED, "b"), (JOINED, "b")]
        crunch.announce("b", infos={"model_name": "new"})
        assert await take(changes, 1) == [(UPDATED, "b")]
        assert cluster.models["b"].name == "new"
        await crunch.crash("b")
        await crunch.recover("b")
        assert await take(changes, 3) == [(FAILED, "b"), (UPDATED, "b"), (JOINED, "b")]
        await crunch.remove("b")
        assert await take(changes, 1) == [(LEFT, "b")]
        await cluster.report_failure(cluster.models["a"], "LOW_PERFORMANCE", "bad")
        failed = await changes.__anext__()
        assert (failed.kind, failed.model) == (FAILED, cluster.announced["a"])
        assert "LOW_PERFORMANCE" in str(failed.error)


async def test_the_logs_last_word_is_true_and_nothing_is_left_out_on_leaving(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> list[str]:
        return [record.getMessage().partition(":")[0] for record in caplog.records]

    async with coordinating(dict.fromkeys("abc", Model), report_failures=False) as (crunch, cluster):
        await trio.sleep(10)
        crunch.node("a").kill()
        await trio.sleep(1.5)
        assert lines() == ["the connection to 1 model is lost"]
        crunch.node("a").restart()
        await cluster.wait_for_models(3)
        await trio.sleep(0.3)
        crunch.node("a").kill()  # before its return is in the log
        await trio.sleep(1.5)
        assert "the connection to 1 model is back" not in lines()
        crunch.node("a").restart()
        await cluster.wait_for_models(3)
        await trio.sleep(1.5)
        assert lines()[-1] == "the connection to 1 model is back"
        crunch.node("b").kill()
        crunch.node("c").kill()
        await trio.sleep(0.1)
    assert lines()[-1] == "the connections to 2 models are lost"


async def test_a_listener_may_begin_with_what_is_there() -> None:
    async with coordinating({"a": Model(), "b": Model()}) as (crunch, cluster):
        await crunch.crash("b")
        await until(cluster, lambda: "b" not in cluster.models)
        async with cluster.changes(initial=True) as changes:
            await crunch.remove("a")
            kinds = await take(changes, 5)
        assert kinds == [(ANNOUNCED, "a"), (ANNOUNCED, "b"), (JOINED, "a"), (FAILED, "b"), (LEFT, "a")]


async def test_changes_end_with_the_cluster() -> None:
    told: list[ChangeKind] = []
    async with trio.open_nursery() as nursery, coordinating({"a": Model()}) as (_, cluster):

        @nursery.start_soon
        async def listen() -> None:
            async with cluster.changes(initial=True) as changes:
                told.extend([change.kind async for change in changes])

        await wait_all_tasks_blocked()
    assert told == [ANNOUNCED, JOINED]


async def test_who_is_too_slow_is_told_so_and_gets_the_picture_anew() -> None:
    picture = [Change(ANNOUNCED), Change(JOINED)]
    broadcast = Broadcast()
    with broadcast.listening(lambda: picture) as with_picture:
        with broadcast.listening(None) as without:
            for _ in range(_MAX_QUEUED + 1):
                broadcast.tell(Change(UPDATED))
            assert [kind for kind, _ in await take(with_picture, 3)] == [RESYNC, ANNOUNCED, JOINED]
            assert [kind for kind, _ in await take(without, 1)] == [RESYNC]
            broadcast.tell(Change(LEFT))
            assert [kind for kind, _ in await take(with_picture, 1)] == [LEFT]
            assert [kind for kind, _ in await take(without, 1)] == [LEFT]
        broadcast.tell(Change(LEFT))
        broadcast.end()
        assert [change.kind async for change in with_picture] == [LEFT]
        without.end()
        assert [change async for change in without] == []


async def test_two_tasks_that_listen_to_one_listener_both_wake_and_both_hear_of_the_end() -> None:
    listener = ChangeListener(None)
    taken: list[ChangeKind] = []
    ended = 0

    async def listen() -> None:
        nonlocal ended
        async for change in listener:
            taken.append(change.kind)
            await wait_all_tasks_blocked(0.001)
        ended += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        listener.tell(Change(ANNOUNCED))
        listener.tell(Change(JOINED))
        await wait_all_tasks_blocked(0.01)
        assert taken == [ANNOUNCED, JOINED]
        listener.end()
    assert ended == 2


async def test_a_listener_ends_when_its_block_is_left() -> None:
    async with coordinating({"a": Model()}) as (_, cluster), trio.open_nursery() as nursery:
        ended = trio.Event()

        async def listen(changes: ChangeListener) -> None:
            assert [change async for change in changes] == []
            ended.set()

        async with cluster.changes() as changes:
            nursery.start_soon(listen, changes)
            await wait_all_tasks_blocked()
        await ended.wait()


async def test_waiting_for_a_change_can_be_cancelled_without_losing_any() -> None:
    listener = ChangeListener(None)
    for _ in range(3):
        with trio.CancelScope() as scope:
            scope.cancel()
            await listener.__anext__()
        listener.tell(Change(JOINED))
        with trio.CancelScope() as scope:
            scope.cancel()
            await listener.__anext__()
        assert await take(listener, 1) == [(JOINED, None)]


async def test_a_redeployment_has_no_gap(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model}, timeout=5) as (crunch, cluster):
        statuses: set[Status] = set()

        async def play() -> None:
            while True:
                results = await cluster.call("sleep", Arguments(0.1))
                assert len(results) == 2
                statuses.update(result.status for result in results.values())

        async with cluster.changes() as changes, trio.open_nursery() as nursery:
            nursery.start_soon(play)
            for _ in range(5):
                await trio.sleep(1)
                old = cluster.models["a"]
                node = await crunch.redeploy("a", Model, announce=False)
                node.faults.setup_delay = 3
                crunch.announce("a")
                assert await take(changes, 1) == [(ANNOUNCED, "a")]
                change = await changes.__anext__()
                assert (change.kind, change.model, change.previous) == (REDEPLOYED, cluster.models["a"], old)
                assert cluster.announced["a"] is not old
                await trio.sleep(0.5)
                assert old.state is ModelState.GONE
                await crunch.retire("a")
            nursery.cancel_scope.cancel()
        assert statuses == {Status.SUCCESS}


async def test_a_replaced_deployment_ends_its_calls(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model}, timeout=60) as (crunch, cluster):
        old, results = cluster.models["a"], []

        async def call() -> None:
            results.append((await cluster.call("sleep", Arguments(10.0)))[old])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            nursery.start_soon(call)
            await crunch.node("a").wait_for_calls(1)
            await crunch.redeploy("a", Model)
            await until(cluster, lambda: cluster.models["a"] is not old)
            assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS
            assert old.state is ModelState.RETIRING
        assert [result.value for result in results] == ["awake", "awake"]
        await trio.sleep(1)
        assert old.state is ModelState.GONE
        crunch.orchestrator.kill()
        crunch.orchestrator.start()
        await trio.sleep(5)
        assert cluster.models["a"] is not old


async def test_a_redeployment_that_does_not_come_up_changes_nothing(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model, "c": Model}) as (crunch, cluster):
        old = cluster.models["a"]
        node = await crunch.redeploy("a", Model, announce=False)
        node.faults.setup_status = ("SETUP_FAILED", "no")
        async with cluster.changes() as changes:
            crunch.announce("a")
            assert await take(changes, 2) == [(ANNOUNCED, "a"), (FAILED, "a")]
            assert cluster.models["a"] is old
            assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS
            crunch.announce("a", "STOPPED")
            assert await take(changes, 1) == [(LEFT, "a")]
            assert cluster.models["a"] is old


async def test_a_model_that_crashes_comes_back(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        model = cluster.models["a"]
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def crash() -> None:
                await crunch.node("a").wait_for_calls(1)
                await crunch.crash("a")

            results = await cluster.call("sleep", Arguments(1.0))
        assert results[model].status is Status.FAILED
        await until(cluster, lambda: model.state is ModelState.RECOVERING)
        assert (await cluster.call("predict")).by_id["a"].status is Status.ABSENT
        await trio.sleep(1000)  # nobody tries meanwhile
        assert model.state is ModelState.RECOVERING
        await crunch.recover("a")
        await cluster.wait_for_models(2)
        assert cluster.models["a"] is model


async def test_words_of_the_orchestrator_in_any_order(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        crunch.announce("a", "RECOVERING")
        crunch.announce("a")
        await trio.sleep(1)
        crunch.announce("a", "RECOVERING")
        crunch.announce("a", "STOPPED")
        crunch.announce("a")
        crunch.announce("a", "STOPPED")
        crunch.announce("a", "RECOVERING")
        crunch.announce("a")
        await trio.sleep(1)
        assert set(cluster.models) == {"a", "b"}
        assert len((await cluster.call("predict")).succeeded) == 2


async def test_a_model_that_moves(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model}) as (crunch, cluster):
        there = crunch.node("b")
        model = cluster.models["a"]
        crunch.announce("a", port=there.port)
        await until(cluster, lambda: model.state is ModelState.GONE)
        assert cluster.models["a"].port == there.port
        crunch.announce("a", "RECOVERING")
        await until(cluster, lambda: "a" not in cluster.models)
        crunch.announce("a")
        await cluster.wait_for_models(2)
        assert cluster.models["a"].port == crunch.node("a").port


@pytest.mark.parametrize("away", [1, 100])
async def test_the_orchestrator_goes_and_nobody_loses_a_connection(
    autojump_clock: MockClock, away: float
) -> None:
    async with coordinating({"a": Model, "b": Model, "c": Model}) as (crunch, cluster):
        a, b = cluster.models["a"], cluster.models["b"]
        async with cluster.changes() as changes:
            crunch.orchestrator.kill()
            await trio.sleep(away)
            await crunch.remove("c")
            await crunch.add("d", Model)
            await crunch.redeploy("b", Model)
            assert len((await cluster.call("predict", models=[a, b])).succeeded) == 2
            crunch.orchestrator.start()
            await until(
                cluster, lambda: set(cluster.models) == {"a", "b", "d"} and cluster.models["b"] is not b
            )
            await cluster.report_failure(a, "LOW_PERFORMANCE")
            kinds = []
            with contextlib.suppress(trio.TooSlowError), trio.fail_after(1):
                while True:
                    kinds += await take(changes, 1)
        both = [
            (LEFT, "c"),
            (ANNOUNCED, "b"),
            (ANNOUNCED, "d"),
            (REDEPLOYED, "b"),
            (JOINED, "d"),
            (FAILED, "a"),
        ]
        assert (len(kinds), set(kinds)) == (len(both), set(both))
        assert crunch.node("a").connections == 0


async def test_a_report_while_the_orchestrator_is_away_is_kept(autojump_clock: MockClock) -> None:
    async with coordinating({"a": Model, "b": Model, "c": Model}) as (crunch, cluster):
        a, b = cluster.models["a"], cluster.models["b"]
        crunch.orchestrator.kill()
        await trio.sleep(1)
        await cluster.report_failure(a, "LOW_PERFORMANCE", "first")
        await cluster.report_failure(a, "LOW_PERFORMANCE", "second")
        await cluster.report_failure(b, "LOW_PERFORMANCE")
        assert cluster.snapshot().reports_unsent == 2
        await crunch.remove("b")
        await trio.sleep(100)
        crunch.orchestrator.start()
        await crunch.wait_for_reports()
        await trio.sleep(100)
        assert [report["failure_reason"] for report in crunch.reports] == ["second"]


async def test_a_node_at_a_name_with_letters_of_its_own(autojump_clock: MockClock) -> None:
    async with coordinating({}) as (crunch, cluster):
        node = await crunch.add("a", Model(), host="bücher.example")
        await cluster.wait_for_models()
        assert (await cluster.call("predict")).by_id["a"].status is Status.SUCCESS
        metadata: Any = node.calls[-1].metadata
        assert metadata[":authority"].startswith("xn--bcher-kva.example:")


async def test_the_picture_of_a_large_fleet_is_no_backlog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_model_runner.cluster.changes._MAX_QUEUED", 3)
    listener = ChangeListener(lambda: [Change(ANNOUNCED)] * 20)
    for _ in range(3):
        listener.tell(Change(JOINED))
    assert [kind for kind, _ in await take(listener, 23)] == [ANNOUNCED] * 20 + [JOINED] * 3
    for _ in range(24):
        listener.tell(Change(JOINED))
    assert [kind for kind, _ in await take(listener, 1)] == [RESYNC]
    for _ in range(3):
        listener.tell(Change(LEFT))
    assert [kind for kind, _ in await take(listener, 23)] == [ANNOUNCED] * 20 + [LEFT] * 3


@pytest.mark.parametrize("initial", [False, True])
async def test_a_listener_that_sleeps_holds_nobody_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, initial: bool
) -> None:
    monkeypatch.setattr("trio_model_runner.cluster.changes._MAX_QUEUED", 5)
    async with (
        coordinating({"a": Model, "b": Model}) as (crunch, cluster),
        cluster.changes(initial=initial) as slow,
        cluster.changes() as quick,
    ):
        told = []
        for number in range(6):
            await crunch.add(f"c{number}", Model)
            told += await take(quick, 2)
        await crunch.remove("a")
        told += await take(quick, 1)
        assert len(told) == 13
        assert await take(slow, 1) == [(RESYNC, None)]
        names = ["b", *(f"c{number}" for number in range(6))]
        if initial:
            picture = await take(slow, 14)
            assert picture == [(kind, name) for kind in (ANNOUNCED, JOINED) for name in names]
        await crunch.remove("b")
        assert await take(slow, 1) == await take(quick, 1) == [(LEFT, "b")]
