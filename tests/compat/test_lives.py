"""The life of a runner: when and in which loop it may be used, and that nothing is left of it in the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest
import trio
import uvloop
from h2.events import StreamReset
from helpers.cluster_scenarios import Witness
from helpers.coordinating import Model
from helpers.from_asyncio import in_asyncio, runner_for, until

from trio_model_runner.cluster.membership import Membership
from trio_model_runner.compat import (
    Argument,
    DynamicSubclassModelConcurrentRunner,
    Variant,
    VariantType,
    encode_data,
)
from trio_model_runner.testing import LocalCrunch
from trio_model_runner.testing.grpc_server import ServerConnection

Runner = DynamicSubclassModelConcurrentRunner
LOOPS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture
async def crunch() -> AsyncIterator[LocalCrunch]:
    async with LocalCrunch(dict.fromkeys("ab", Model)) as crunch:
        yield crunch


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    witness = Witness()
    async with witness.watching():
        yield witness


def engine_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "compat" in thread.name]


async def check_gone(crunch: LocalCrunch, witness: Witness) -> None:
    """Nothing is left of any runner, and all peers were told."""
    assert engine_threads() == []
    while crunch.orchestrator.connections:  # noqa: ASYNC110 - the end of one is nobody's event
        await trio.sleep(0.01)
    for connection in witness.called:
        await connection.ended.wait()
    witness.check_goodbyes()


async def close(runner: Runner) -> None:
    await runner.close()
    assert engine_threads() == []
    await runner.close()  # which does nothing


async def leave_to_the_loop(runner: Runner) -> None:
    pass


async def leave_in_a_call(runner: Runner) -> None:
    asyncio.get_running_loop().kept = asyncio.create_task(runner.call("hang"))  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)


async def leave_in_finally(runner: Runner) -> None:
    async def call_at_the_end() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            assert len(await runner.call("predict")) == 2  # the runner ends after all tasks

    asyncio.get_running_loop().kept = asyncio.create_task(call_at_the_end())  # type: ignore[attr-defined]
    await asyncio.sleep(0)


async def fail(runner: Runner) -> None:
    raise KeyError("the coordinator's own")


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("end", [close, leave_to_the_loop, leave_in_a_call, fail])
async def test_however_it_ends_all_are_told_and_the_thread_is_gone(
    crunch: LocalCrunch, witness: Witness, run: Any, end: Callable[[Runner], Any]
) -> None:
    async def program() -> None:
        runner = runner_for(crunch)
        await runner.init()
        assert len(engine_threads()) == 1
        assert len(await runner.call("predict")) == 2
        await end(runner)

    try:
        await in_asyncio(program, run=run)
    except KeyError:
        assert end is fail
    await check_gone(crunch, witness)


async def test_tasks_can_call_until_their_end(crunch: LocalCrunch) -> None:
    async def program() -> None:
        runner = runner_for(crunch)
        await runner.init()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        await leave_in_finally(runner)

    unhandled: list[Any] = []
    await in_asyncio(program)
    assert unhandled == []


async def test_a_runner_that_is_dropped_ends(crunch: LocalCrunch, witness: Witness) -> None:
    async def program() -> None:
        gc.disable()
        try:
            await runner_for(crunch).init()
            await until(lambda: not engine_threads())  # it is no part of a cycle
        finally:
            gc.enable()

    await in_asyncio(program)
    await check_gone(crunch, witness)


async def test_a_runner_may_be_collected_in_another_ones_thread(
    crunch: LocalCrunch, witness: Witness
) -> None:
    async def collect() -> None:
        gc.collect()

    async def program() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        async with runner_for(crunch) as kept:
            gc.disable()
            try:
                in_cycle: list[Any] = [runner_for(crunch)]
                await in_cycle[0].init()
                in_cycle.append(in_cycle)
                del in_cycle
                await kept.model_cluster.engine().run(collect)
            finally:
                gc.enable()
            await until(lambda: len(engine_threads()) == 1)
            gc.collect()
            await asyncio.sleep(0)

    unhandled: list[Any] = []
    await in_asyncio(program)
    assert unhandled == []
    await check_gone(crunch, witness)


async def test_a_cancelled_task_cancels_its_round_on_the_wire(
    crunch: LocalCrunch, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Private: what a node hears is an event of h2's, which nobody is told.
    handle, resets = ServerConnection._handle, []

    def listen(connection: ServerConnection, event: Any, nursery: trio.Nursery) -> None:
        if isinstance(event, StreamReset):
            resets.append(connection)
        handle(connection, event, nursery)

    async def program() -> None:
        async with runner_for(crunch) as runner:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(runner.call("sleep", (ten_seconds, [])), 0.1)
            await until(lambda: len(resets) == 2)
            assert set(resets) == set(witness.called)
            assert not any(connection.ended.is_set() for connection in resets)

    ten_seconds = [Argument(1, Variant(VariantType.INT, encode_data(VariantType.INT, 10)))]
    monkeypatch.setattr(ServerConnection, "_handle", listen)
    await in_asyncio(program)


async def test_the_event_loop_goes_on_while_trio_is_busy(crunch: LocalCrunch) -> None:
    async def block() -> bool:
        begun.set()
        return release.wait(20)  # Trio's loop stands still until then

    async def program() -> None:
        async with runner_for(crunch) as runner:
            blocking = asyncio.create_task(runner.model_cluster.engine().run(block))
            await until(begun.is_set)
            calling = asyncio.create_task(runner.call("predict"))
            cancelled = asyncio.create_task(runner.call("predict"))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.sleep(0)
            assert len(runner.model_cluster.models_run) == 2
            release.set()  # nobody but this loop can
            assert await blocking
            assert len(await calling) == 2
            with pytest.raises(asyncio.CancelledError):
                await cancelled

    begun, release = threading.Event(), threading.Event()
    await in_asyncio(program)


async def test_the_event_loop_goes_on_while_a_runner_closes(crunch: LocalCrunch) -> None:
    async def block() -> None:
        begun.set()
        waited.append(release.wait(20))  # Trio's loop stands still until then

    async def program() -> None:
        runner = runner_for(crunch)
        await runner.init()
        blocking = asyncio.create_task(runner.model_cluster.engine().run(block))
        await until(begun.is_set)
        closing = asyncio.create_task(runner.close())
        await asyncio.sleep(0.05)
        assert not closing.done()
        release.set()  # nobody but this loop can
        await closing
        with pytest.raises(RuntimeError, match="was closed"):
            await blocking

    begun, release = threading.Event(), threading.Event()
    waited: list[bool] = []
    await in_asyncio(program)
    assert waited == [True]


async def test_sync_waits_until_the_runner_is_closed(crunch: LocalCrunch) -> None:
    async def program() -> None:
        runner = runner_for(crunch)
        syncing = [asyncio.create_task(runner.sync()) for _ in range(2)]  # they begin, too
        await until(lambda: len(runner.model_cluster.models_run) == 2)
        await asyncio.gather(runner.init(), runner.init())  # as it has begun, these do nothing
        assert len(engine_threads()) == 1
        syncing[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await syncing[0]
        assert len(await runner.call("predict")) == 2
        await runner.close()
        await syncing[1]
        await runner.sync()  # it is closed, and does not begin again by itself
        assert runner.model_cluster.models_run == {}
        assert engine_threads() == []

    await in_asyncio(program)


async def test_a_call_after_the_end_says_what_to_do(crunch: LocalCrunch) -> None:
    async def program() -> None:
        runner = runner_for(crunch)
        await runner.init()
        hanging = asyncio.create_task(runner.call("hang"))
        await until(lambda: bool(crunch.node("a").calls))
        await runner.close()
        for call in (hanging, runner.call("predict")):
            with pytest.raises(RuntimeError, match=r"this runner was closed: await init\(\) again"):
                await call

    await in_asyncio(program)
    assert engine_threads() == []


async def test_a_loop_after_the_other_as_in_a_notebook(crunch: LocalCrunch, witness: Witness) -> None:
    async def first() -> None:
        async with asyncio.timeout(60):
            await runner.init()
            assert len(await runner.call("predict")) == 2

    async def uninitialised() -> None:
        for call in (runner.call("predict"), runner.sync()):
            with pytest.raises(RuntimeError, match=r"event loop of this runner has ended: await init\(\)"):
                await call
        await runner.close()

    runner = runner_for(crunch)
    for program in (first, uninitialised, first, first):
        await in_asyncio(program)
    await check_gone(crunch, witness)


async def test_another_loop_is_refused_while_the_first_one_runs(crunch: LocalCrunch) -> None:
    async def program() -> None:
        await runner.init()
        await asyncio.to_thread(asyncio.run, elsewhere())
        assert len(await runner.call("predict")) == 2

    async def elsewhere() -> None:
        assert len(runner.model_cluster.models_run) == 2  # anybody may look
        for use in (runner.init, runner.sync, runner.close, lambda: runner.call("predict")):
            with pytest.raises(RuntimeError, match="initialised in another event loop"):
                await use()

    runner = runner_for(crunch)
    await in_asyncio(program)


async def test_a_loop_that_was_closed_alone_leaves_nothing_for_the_next(
    crunch: LocalCrunch, witness: Witness
) -> None:
    async def initialise() -> None:
        await runner.init()
        assert len(engine_threads()) == 1

    def run_twice(first: Any) -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(first)
        loop.close()  # and neither tasks nor generators
        asyncio.run(initialise())

    runner = runner_for(crunch)
    await in_asyncio(initialise, run=run_twice)
    await check_gone(crunch, witness)


async def test_an_orchestrator_that_is_away_is_a_connection_error() -> None:
    async def program(host: str, port: int) -> None:
        runner = Runner(5, "local", host, port, "crunch.Model")
        # Private: a minute is what the settings say, and the asyncio client has no argument for it.
        runner.model_cluster._config = attrs.evolve(runner.model_cluster._config, orchestrator_timeout=0.2)
        for _ in range(2):
            with pytest.raises(
                ConnectionError, match=r"no list of models from the orchestrator at .* in 0\.2 s"
            ):
                await runner.init()
            assert engine_threads() == []
        await runner.close()

    async with LocalCrunch() as crunch:
        await crunch.orchestrator.stop()
        await in_asyncio(program, crunch.orchestrator.host, crunch.orchestrator.port)


async def test_init_can_be_given_up_and_tried_again(crunch: LocalCrunch, witness: Witness) -> None:
    async def program() -> None:
        runner = runner_for(crunch)
        first = asyncio.create_task(runner.init())
        second = asyncio.create_task(runner.init())
        await until(lambda: crunch.orchestrator.connections > 0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        crunch.orchestrator.greeting = None
        await second  # which tries itself
        assert len(engine_threads()) == 1

    crunch.orchestrator.greeting = []  # nothing is said
    await in_asyncio(program)
    await check_gone(crunch, witness)


async def test_a_fault_of_ours_is_told_to_all_who_wait(
    crunch: LocalCrunch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def program() -> None:
        runner = runner_for(crunch)
        await runner.init()
        syncing = asyncio.create_task(runner.sync())
        hanging = asyncio.create_task(runner.call("hang"))
        await until(lambda: bool(crunch.node("a").calls))
        monkeypatch.setattr(Membership, "apply", break_down)
        broken.set()
        with pytest.raises(ZeroDivisionError):
            await syncing
        with pytest.raises(RuntimeError, match="was closed") as caught:
            await asyncio.wait_for(hanging, 60)
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def break_down(membership: Any, event: Any) -> None:
        raise ZeroDivisionError

    broken = threading.Event()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def announce_when_broken() -> None:
            await trio.to_thread.run_sync(broken.wait, abandon_on_cancel=True)
            crunch.announce("b", "RUNNING", infos={})

        with caplog.at_level(logging.CRITICAL):
            await in_asyncio(program)
    assert "the cluster has ended" in caplog.messages
    assert engine_threads() == []
