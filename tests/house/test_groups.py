"""Exceptions leave our functions as themselves: one as that one, the body's as the very same object."""

# ruff: noqa: PT012 - the whole block of a nursery is what raises

from __future__ import annotations

import errno
import gc
import weakref

import pytest
import trio
from trio.testing import MockClock

from trio_model_runner.groups import describe, first_of, one_by_itself, open_nursery_for_body


class Mine(ExceptionGroup[Exception]):
    """A group of a coordinator's own: what makes a new group of it makes one of another class."""


async def crash(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


async def crash_when_cancelled(error: BaseException) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise error


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt()], ids=repr)
async def test_a_group_of_one_becomes_that_one(error: BaseException) -> None:
    error.__context__ = context = OSError("before")
    with pytest.raises(type(error)) as raised, one_by_itself():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash, error)
    assert raised.value is error
    assert error.__context__ is context


async def test_a_group_of_two_stays_a_group() -> None:
    first, second = KeyError(1), ValueError(2)
    with pytest.raises(ExceptionGroup) as raised, one_by_itself():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash_when_cancelled, first)
            nursery.start_soon(crash_when_cancelled, second)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert set(raised.value.exceptions) == {first, second}


async def test_what_is_left_alone_keeps_nothing_alive() -> None:
    class Traced(Exception):
        pass

    async def crash_with_it() -> None:
        await trio.lowlevel.checkpoint()
        raise Traced

    async def fail() -> weakref.ref[Traced]:
        try:
            with one_by_itself():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(crash_with_it)
                    nursery.start_soon(trio.sleep_forever)
        except Traced as error:
            return weakref.ref(error)
        raise AssertionError("it left no exception")

    gc.collect()
    gc.disable()
    try:
        trace = await fail()
        await trio.lowlevel.checkpoint()
        left_to_the_collector = trace() is not None
    finally:
        gc.enable()
    assert not left_to_the_collector


@pytest.mark.parametrize(
    "error",
    [
        KeyError("mine"),
        Mine("mine", [KeyError(1), ValueError(2)]),
        ExceptionGroup("one", [Mine("inner", [KeyError(1)])]),
        BaseExceptionGroup("just one", [KeyboardInterrupt()]),
        KeyboardInterrupt(),
        SystemExit(5),
        StopAsyncIteration(),
        GeneratorExit(),
    ],
    ids=repr,
)
async def test_what_the_body_raises_leaves_as_itself(error: BaseException) -> None:
    error.__cause__ = cause = OSError("the cause")
    with pytest.raises(type(error)) as raised:
        async with open_nursery_for_body() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error
    assert raised.value is error
    assert (error.__cause__, error.__context__) == (cause, None)


async def test_the_body_ends_when_its_tasks_have(autojump_clock: MockClock) -> None:
    begin = trio.current_time()
    async with open_nursery_for_body() as nursery:
        nursery.start_soon(trio.sleep, 3)
    assert trio.current_time() - begin == pytest.approx(3)


async def test_a_crash_of_a_task_ends_the_body_and_leaves_by_itself() -> None:
    error = KeyError("ours")
    with pytest.raises(KeyError) as raised:
        async with open_nursery_for_body() as nursery:
            nursery.start_soon(crash, error)
            await trio.sleep_forever()
    assert raised.value is error


async def test_a_crash_that_a_nursery_of_the_body_noticed_leaves_by_itself() -> None:
    error = KeyError("ours")
    with pytest.raises(KeyError) as raised:
        async with open_nursery_for_body() as nursery:
            nursery.start_soon(crash, error)
            async with trio.open_nursery() as bodys_own:
                bodys_own.start_soon(trio.sleep_forever)
    assert raised.value is error


@pytest.mark.parametrize("of_body", [KeyError("mine"), Mine("mine", [KeyError(1)])], ids=repr)
async def test_a_crash_and_what_the_body_raises_leave_together(of_body: Exception) -> None:
    of_task = ValueError("ours")
    with pytest.raises(ExceptionGroup) as raised:
        async with open_nursery_for_body() as nursery:
            nursery.start_soon(crash_when_cancelled, of_task)
            nursery.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            raise of_body
    assert raised.value.exceptions == (of_task, of_body)


async def test_a_group_with_cancelled_in_it_is_taken_apart() -> None:
    crashed, of_body = ValueError("ours"), KeyError("mine")
    with pytest.raises(ExceptionGroup) as raised:
        async with open_nursery_for_body() as nursery:
            nursery.start_soon(crash, crashed)
            async with trio.open_nursery() as bodys_own:
                bodys_own.start_soon(crash_when_cancelled, of_body)
                bodys_own.start_soon(trio.sleep_forever)
    assert raised.group_contains(ValueError, depth=1)
    assert raised.group_contains(KeyError, depth=2)
    assert not raised.group_contains(trio.Cancelled)


async def test_a_cancel_around_it_is_no_error(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with open_nursery_for_body() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_cancel_around_it_does_not_take_the_place_of_what_the_body_raises() -> None:
    with trio.CancelScope() as scope, pytest.raises(KeyError):
        async with open_nursery_for_body() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            raise KeyError("mine")


async def test_its_nursery_can_be_cancelled(autojump_clock: MockClock) -> None:
    async with open_nursery_for_body() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()
    assert nursery.cancel_scope.cancelled_caught


def test_the_first_exception_is_found_in_any_depth() -> None:
    error = KeyError(1)
    assert first_of(error) is error
    assert first_of(ExceptionGroup("a", [ExceptionGroup("b", [error]), ValueError()])) is error


def test_an_error_is_described_with_what_trio_keeps_behind_it() -> None:
    refused = OSError(errno.ECONNREFUSED, "Connection refused")
    error = OSError("all attempts to connect failed")
    error.__cause__ = ExceptionGroup("all", [refused, OSError(errno.ECONNREFUSED, "Connection refused")])
    assert describe(error) == "all attempts to connect failed: Connection refused"
    error.__cause__ = refused
    assert describe(error) == "all attempts to connect failed: Connection refused"
    assert describe(KeyError("x")) == "'x'"
