"""An asyncio loop in a thread of its own, for what only speaks asyncio, and the way to it from Trio.

It knows nothing of what runs there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar, TypeVarTuple

import trio

__all__ = ["AsyncioThread", "open_asyncio_thread"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_END_SECONDS: Final = 3.0
"""For the thread to end. One that hangs is left behind: it holds up neither this nor the program's end."""


class AsyncioThread:
    """The way into the thread. `open_asyncio_thread` makes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

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
        except trio.Cancelled:
            future.cancel()
            raise
        return future.result()


@contextlib.asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_asyncio_thread(name: str) -> AsyncIterator[AsyncioThread]:
    """Start the thread, and end it with the block: within 3 s, or it is left behind.

    Args:
        name: the thread's.
    """
    token = trio.lowlevel.current_trio_token()
    loop = asyncio.new_event_loop()
    ended = trio.Event()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(_until_stopped())
        finally:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(ended.set)

    stop = asyncio.Event()

    async def _until_stopped() -> None:
        await stop.wait()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield AsyncioThread(loop)
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)
        with trio.move_on_after(_END_SECONDS, shield=True):
            await ended.wait()
            thread.join()  # it is at its last line
