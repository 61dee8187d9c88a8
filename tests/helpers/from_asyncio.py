"""Asyncio programs beside Trio's: in a thread of their own, with the crunch in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import trio

from trio_model_runner.compat import DynamicSubclassModelConcurrentRunner
from trio_model_runner.testing import LocalCrunch

__all__ = ["in_asyncio", "runner_for", "until"]

T = TypeVar("T")


async def in_asyncio(
    function: Callable[..., Coroutine[Any, Any, T]],
    *arguments: Any,
    run: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run,
) -> T:
    """Run an asyncio program in a thread, while Trio's loop plays the other side.

    Args:
        function: makes the program's coroutine.
        *arguments: what it makes it of.
        run: runs it.
    """
    return await trio.to_thread.run_sync(lambda: run(function(*arguments)), abandon_on_cancel=True)


def runner_for(crunch: LocalCrunch, **settings: Any) -> DynamicSubclassModelConcurrentRunner:
    """A runner for a crunch on this machine."""
    where = (crunch.crunch_id, crunch.orchestrator.host, crunch.orchestrator.port)
    return DynamicSubclassModelConcurrentRunner(
        settings.pop("timeout", 60), *where, "crunch.Model", **settings
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait in an asyncio program for what happens in another thread."""
    while not condition():  # noqa: ASYNC110 - nobody there could set an event of asyncio's
        await asyncio.sleep(0.01)
