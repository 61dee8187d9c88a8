"""However the block is left: what was raised comes out as it was, and nothing of the cluster remains."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import h2.events
import pytest
import trio
from helpers.coordinating import SERVICE, Model, coordinating, until
from helpers.remains import count_connections, our_tasks
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_model_runner import Arguments, Cluster, Join, ModelState, Status
from trio_model_runner.cluster.fleet import Fleet
from trio_model_runner.cluster.reporting import Reporting
from trio_model_runner.model.steps import Steps
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.rpc.call import UnaryCall
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.grpc_server import ServerConnection

MODELS = [*"abc"]


@contextlib.asynccontextmanager
async def running(**faults: Any) -> AsyncIterator[LocalCrunch]:
    """A crunch that checks, when its block is left, that nothing of a cluster is left."""
    async with LocalCrunch({model_id: Model() for model_id in MODELS}, network=MemoryNetwork()) as crunch:
        for name, value in faults.items():
            for model_id in MODELS:
                setattr(crunch.node(model_id).faults, name, value)
        yield crunch
        await wait_all_tasks_blocked()
        assert count_connections(crunch) == 0
        assert our_tasks() == []


async def leave_raising(crunch: LocalCrunch, error: BaseException) -> None:
    async with Cluster(crunch.config(), SERVICE) as cluster:
        await cluster.call("predict")
        raise error


USERS_GROUP = ExceptionGroup("ours", [KeyError("one"), ExceptionGroup("inner", [ValueError("two")])])


@pytest.mark.parametrize(
    "error",
    [
        KeyError("mine"),
        USERS_GROUP,
        BaseExceptionGroup("just one", [KeyboardInterrupt()]),
        KeyboardInterrupt(),
        SystemExit(5),
        StopAsyncIteration(),
        RuntimeError(),
    ],
    ids=repr,
)
async def test_what_the_body_raises_leaves_as_itself(error: BaseException) -> None:
    async with running() as crunch:
        error.__cause__ = cause = OSError("the cause")
        with pytest.raises(type(error)) as raised:
            await leave_raising(crunch, error)
        assert raised.value is error
        assert (error.__cause__, error.__context__) == (cause, None)


async def test_what_is_raised_around_a_call_leaves_as_itself(autojump_clock: MockClock) -> None:
    error = KeyError("mine")

    async def play(cluster: Cluster) -> None:
        async with cluster.as_completed("hang") as results:
            with trio.move_on_after(1):
                await results.__anext__()
            raise error

    async with running() as crunch, Cluster(crunch.config(), SERVICE) as cluster:
        with pytest.raises(KeyError) as raised:
            await play(cluster)
        assert raised.value is error


async def leave_at_once(crunch: LocalCrunch, cluster: Cluster) -> None:
    await trio.lowlevel.checkpoint()


async def leave_while_calling(crunch: LocalCrunch, cluster: Cluster) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cluster.call, "sleep", Arguments(50.0))
        nursery.start_soon(cluster.call, "predict")
        await crunch.node("c").wait_for_calls(1)
        nursery.cancel_scope.cancel()


async def leave_while_reconnecting(crunch: LocalCrunch, cluster: Cluster) -> None:
    for model_id in MODELS:
        await crunch.crash(model_id, announce=False)
    await trio.sleep(5)


async def leave_while_redeploying(crunch: LocalCrunch, cluster: Cluster) -> None:
    for model_id in MODELS:
        node = await crunch.redeploy(model_id, Model())
        node.faults.hang_setup = True
    await trio.sleep(1)


async def leave_without_an_orchestrator(crunch: LocalCrunch, cluster: Cluster) -> None:
    crunch.orchestrator.kill()
    await trio.sleep(3)


Leave = Callable[[LocalCrunch, Cluster], Awaitable[None]]
WAYS: list[Leave] = [
    leave_at_once,
    leave_while_calling,
    leave_while_reconnecting,
    leave_while_redeploying,
    leave_without_an_orchestrator,
]


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("leave", WAYS)
async def test_leaving_takes_no_time_and_leaves_nothing(
    autojump_clock: MockClock, leave: Leave, cancelled: bool
) -> None:
    async with running() as crunch:
        with trio.CancelScope() as scope:
            async with Cluster(crunch.config(), SERVICE) as cluster:
                await leave(crunch, cluster)
                left_at = trio.current_time()
                if cancelled:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught == cancelled
        assert trio.current_time() == pytest.approx(left_at, abs=0.01)


@pytest.mark.parametrize(
    "faults", [{"silent": True}, {"hang_setup": True}, {"setup_status": ("SETUP_FAILED", "")}]
)
@pytest.mark.parametrize("after", [0.0, 3.0])
async def test_leaving_while_models_come_up(
    autojump_clock: MockClock, faults: dict[str, Any], after: float
) -> None:
    async with running(**faults) as crunch:
        async with Cluster(crunch.config(startup_timeout=0), SERVICE):
            await trio.sleep(after)
        assert trio.current_time() == pytest.approx(after, abs=0.01)


@pytest.mark.parametrize("after", [0.0, 0.5, 100.0])
async def test_being_cancelled_on_entering(autojump_clock: MockClock, after: float) -> None:
    async with running(hang_setup=True) as crunch:
        with trio.move_on_after(after) as scope:
            async with Cluster(crunch.config(startup_timeout=1000), SERVICE):
                raise AssertionError
        assert scope.cancelled_caught
        assert trio.current_time() == pytest.approx(after, abs=0.01)


async def test_leaving_while_models_join(autojump_clock: MockClock) -> None:
    async def on_join(join: Join) -> None:
        await join.model.call("sleep", Arguments(50.0))

    async with running() as crunch:
        async with Cluster(crunch.config(startup_timeout=1), SERVICE, on_join=on_join) as cluster:
            assert {model.state for model in cluster.announced.values()} == {ModelState.JOINING}
        assert trio.current_time() == pytest.approx(1, abs=0.01)


async def test_nobody_who_stands_still_can_hold_us(autojump_clock: MockClock) -> None:
    async with running() as crunch:
        async with Cluster(crunch.config(shutdown_grace=2), SERVICE):
            for model_id in MODELS:
                crunch.node(model_id).pause()
            crunch.orchestrator.pause()
        assert trio.current_time() <= 2.01
        for model_id in MODELS:
            crunch.node(model_id).resume()
        crunch.orchestrator.resume()


async def test_calls_from_outside_the_block_end_with_it(autojump_clock: MockClock) -> None:
    """Tasks that outlive the block have their results, also those whose model was replaced."""
    async with running() as crunch, trio.open_nursery() as nursery:
        results = []

        async def call(cluster: Cluster) -> None:
            results.append(await cluster.call("sleep", Arguments(5000.0), timeout=10000))

        cluster = Cluster(crunch.config(), SERVICE)
        async with cluster:
            nursery.start_soon(call, cluster)
            nursery.start_soon(call, cluster)  # this one waits in the queue
            await crunch.node("c").wait_for_calls(1)
            old = cluster.models["a"]
            await crunch.redeploy("a", Model())
            await until(cluster, lambda: cluster.models["a"] is not old)
            assert old.state is ModelState.RETIRING
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert trio.current_time() < 1
        assert [len(each) for each in results] == [3, 3]
        assert {result.status for each in results for result in each.values()} == {Status.FAILED}


async def test_waiting_for_models_ends_with_the_block(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, coordinating({"a": Model()}) as (_, cluster):

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await cluster.wait_for_models(2)

        await wait_all_tasks_blocked()


async def test_both_sides_hear_goodbye(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    # Private: what a node hears is an event of h2's, which nobody is told.
    handle = ServerConnection._handle

    def listen(self: ServerConnection, event: h2.events.Event, nursery: trio.Nursery) -> None:
        heard.append(type(event).__name__)
        handle(self, event, nursery)

    monkeypatch.setattr(ServerConnection, "_handle", listen)
    async with running() as crunch:
        async with Cluster(crunch.config(), SERVICE) as cluster:
            # Private: the code of a close frame shows only on the orchestrator's side of the WebSocket.
            (websocket,) = crunch.orchestrator._outboxes
            with trio.move_on_after(1):
                await cluster.call("hang")
            await wait_all_tasks_blocked()
            assert heard.count("StreamReset") == 3
            heard.clear()
        await wait_all_tasks_blocked()
        assert heard.count("ConnectionTerminated") == 3
        assert websocket.closed is not None
        assert websocket.closed.code == 1000


async def test_a_report_made_just_before_leaving_is_sent(autojump_clock: MockClock) -> None:
    async with running() as crunch:
        async with Cluster(crunch.config(), SERVICE) as cluster:
            await cluster.report_failure(cluster.models["a"], "LOW_PERFORMANCE", "at last")
        assert [report["failure_reason"] for report in crunch.reports] == ["at last"]


class Bug(Exception):
    """Something that we did not think of."""


def raise_bug(*_: Any, **__: Any) -> Any:
    raise Bug


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Fleet, "infos_changed"), (Reporting, "_act_on"), (Steps, "_serve"), (Steps, "_join")],
)
async def test_a_bug_of_ours_comes_out_of_the_block_as_itself(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    async def run(crunch: LocalCrunch) -> None:
        async with Cluster(crunch.config(), SERVICE):
            monkeypatch.setattr(owner, name, raise_bug)
            crunch.announce("a", infos={"model_name": "new"})
            await crunch.crash("b")
            await crunch.recover("b", Model())
            await trio.sleep(1000)

    async with running() as crunch:
        with pytest.raises(Bug):
            await run(crunch)
        monkeypatch.undo()
        assert trio.current_time() < 1


async def test_a_bug_in_a_call_comes_out_of_the_call_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(cluster: Cluster) -> None:
        async with cluster.as_completed("predict", models=["b"]) as results:
            assert [result async for result in results] == []

    async with running() as crunch, Cluster(crunch.config(), SERVICE) as cluster:
        monkeypatch.setattr(UnaryCall, "begin", raise_bug)
        with pytest.raises(Bug):
            await cluster.call("predict", models=["a"])
        with pytest.raises(Bug):
            await play(cluster)
        monkeypatch.undo()
        assert len((await cluster.call("predict")).succeeded) == 3  # no place was kept


def test_ctrl_c_in_a_round() -> None:
    async def play(crunch: LocalCrunch) -> None:
        async with Cluster(crunch.config(), SERVICE) as cluster:
            await cluster.call("hang")

    async def main() -> None:
        async with running() as crunch, trio.open_nursery() as nursery:

            @nursery.start_soon
            @trio.lowlevel.enable_ki_protection  # so that it goes to the main task, as it mostly does
            async def interrupt() -> None:
                await crunch.node("c").wait_for_calls(1)
                signal.raise_signal(signal.SIGINT)

            with pytest.raises(KeyboardInterrupt):
                await play(crunch)

    trio.run(main)


async def test_leaving_over_sockets() -> None:
    async with LocalCrunch({model_id: Model() for model_id in MODELS}) as crunch:
        with pytest.raises(KeyError):
            await leave_raising(crunch, KeyError())
        while count_connections(crunch):  # noqa: ASYNC110  nothing could set an event
            await trio.sleep(0.001)
        assert our_tasks() == []
