"""What a coordinator raises leaves as itself, groups of a class of its own included, from wherever it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio
from helpers.coordinating import SERVICE, Model
from trio.testing import MockClock

from trio_model_runner import Cluster
from trio_model_runner.network import MemoryNetwork
from trio_model_runner.testing import LocalCrunch


class Mine(ExceptionGroup[Exception]):
    """A group of a coordinator's own class, which a plain nursery would make a plain group of."""

    def __new__(cls, code: int, errors: Sequence[Exception]) -> Mine:
        group = super().__new__(cls, f"code {code}", errors)
        group.code = code
        return group

    code: int


@asynccontextmanager
async def cluster_block(crunch: LocalCrunch) -> AsyncIterator[None]:
    async with Cluster(crunch.config(), SERVICE):
        yield


@asynccontextmanager
async def completed_block(crunch: LocalCrunch, method: str = "predict") -> AsyncIterator[None]:
    async with Cluster(crunch.config(), SERVICE) as cluster, cluster.as_completed(method):
        yield


@asynccontextmanager
async def open_calls_block(crunch: LocalCrunch) -> AsyncIterator[None]:
    """With calls that are under way when the block is left."""
    async with completed_block(crunch, "hang"):
        await crunch.node("a").wait_for_calls(1)
        yield


@asynccontextmanager
async def iterating_block(crunch: LocalCrunch) -> AsyncIterator[None]:
    async with Cluster(crunch.config(), SERVICE) as cluster, cluster.as_completed("predict") as results:
        async for _ in results:
            yield
            return


@asynccontextmanager
async def listening_block(crunch: LocalCrunch) -> AsyncIterator[None]:
    async with Cluster(crunch.config(), SERVICE) as cluster, cluster.changes():
        yield


BLOCKS: list[Callable[[LocalCrunch], AbstractAsyncContextManager[None]]] = [
    cluster_block,
    completed_block,
    open_calls_block,
    iterating_block,
    listening_block,
]


def groups() -> list[BaseException]:
    return [
        Mine(5, [KeyError("one")]),
        Mine(6, [KeyError("one"), ExceptionGroup("inner", [ValueError("two")])]),
        ExceptionGroup("plain", [Mine(7, [KeyError("one")])]),
        BaseExceptionGroup("exits", [SystemExit(3)]),
    ]


@pytest.mark.parametrize("number", range(len(groups())))
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
async def test_a_group_leaves_as_itself(
    autojump_clock: MockClock, block: Callable[[LocalCrunch], Any], number: int
) -> None:
    error = groups()[number]
    async with LocalCrunch({"a": Model, "b": Model}, network=MemoryNetwork()) as crunch:
        with pytest.raises(BaseExceptionGroup) as raised:
            async with block(crunch):
                raise error
        assert raised.value is error
        assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
async def test_a_group_leaves_as_itself_when_it_is_cancelled_too(
    autojump_clock: MockClock, block: Callable[[LocalCrunch], Any]
) -> None:
    error = Mine(8, [KeyError("one")])
    async with LocalCrunch({"a": Model, "b": Model}, network=MemoryNetwork()) as crunch:
        with trio.CancelScope() as scope:  # which makes a copy of a group that passes through it
            with pytest.raises(Mine) as raised:
                await cancel_and_raise(block(crunch), scope, error)
            assert raised.value is error
        assert not scope.cancelled_caught


async def cancel_and_raise(
    block: AbstractAsyncContextManager[None], scope: trio.CancelScope, error: BaseException
) -> None:
    async with block:
        scope.cancel()
        raise error
