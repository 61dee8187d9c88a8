"""An asyncio loop in a thread of its own, for what only speaks asyncio, and the way to it from Trio.

It knows nothing of what runs there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, TypeVarTuple

import trio

__all__ = ["AsyncioThread", "open_asyncio_thread"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_AT_END_SECONDS: Final = 2.0
_LAST_SECONDS: Final = 0.5
_END_SECONDS: Final = 3.0
"""For the thread to end. One that hangs is left behind: it holds up neither this nor the program's end."""


class AsyncioThread:
    """The way into the thread. `open_asyncio_thread` makes it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._at_end: list[Callable[[], Awaitable[object]]] = []

    async def run(self, function: Callable[[*Ts], Coroutine[Any, Any, T]], *arguments: *Ts) -> T:
        """Run a coroutine function in the asyncio loop. If this is cancelled, it is, and is not waited for.

        Raises:
            Exception: whatever the function raises; `concurrent.futures.CancelledError` if the thread ends.
        """
        token = trio.lowlevel.current_trio_token()
        done = trio.Event()

        def tell(_: concurrent.futures.Future[T]) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        await trio.lowlevel.checkpoint()
        future = asyncio.run_coroutine_threadsafe(function(*arguments), self._loop)
        future.add_done_callback(tell)
        try:
            await done.wait()
        except BaseException:
            future.cancel()
            raise
        return future.result()

    def at_end(self, function: Callable[[], Awaitable[object]]) -> None:
        """Have a function awaited in the asyncio loop, before that ends; to be called there."""
        self._at_end.append(function)

    def run_loop(self) -> None:
        """Run the asyncio loop until `stop`."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await self._stopping.wait()
        self._loop.set_exception_handler(lambda *_: None)  # nobody wants what is left to be told
        for function in self._at_end:
            with contextlib.suppress(Exception):  # it may be as broken as it likes by now
                await asyncio.wait_for(function(), _AT_END_SECONDS)

    def stop(self) -> None:
        """Begin the end, from any thread."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._stopping.set)


@contextlib.asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_asyncio_thread(name: str) -> AsyncIterator[AsyncioThread]:
    """Start the thread, and end it with the block: within some seconds, or it is left behind.

    Args:
        name: the thread's.
    """
    token = trio.lowlevel.current_trio_token()
    ended = trio.Event()
    asyncio_thread = AsyncioThread()

    def run() -> None:
        try:
            asyncio_thread.run_loop()
        finally:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(ended.set)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield asyncio_thread
    finally:
        asyncio_thread.stop()
        try:
            with trio.move_on_after(_END_SECONDS, shield=True):
                await ended.wait()
        finally:
            thread.join(_LAST_SECONDS)  # it is at its last line, unless Ctrl-C has cut the wait short
