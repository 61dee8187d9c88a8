"""A shard on a worker of a Dask cluster: an actor of Dask's, and a Trio run in a thread of the worker.

The driver asks, and the actor answers: `ShardActor.take` brings messages, `ShardActor.give` fetches them and
waits for some seconds if there are none. At most one question of each kind is under way. All state is in the
Trio run; a question is a task there. Dask may repeat a question: the messages have numbers.

A thread can't be killed. So a shard must end when it is cancelled, which happens 30 s after its driver fell
silent or let go of the actor. Only the end of the worker's process stops one whose event loop stands still.

This module does not import Dask, and is all of this room that a worker executes, but for the shard itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import pkgutil
import threading
import traceback
import uuid
import weakref
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, TypeVarTuple

import trio

from .engine import Serve, ShardLost
from .sequence import Batch
from .way_end import WayEnd

__all__ = ["POLL_SECONDS", "ShardActor"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

POLL_SECONDS: Final = 5.0
"""So long a question may wait for its answer."""

_SILENCE_SECONDS: Final = 20.0
"""Without a question for so long, the driver is gone."""

_SECONDS_LEFT: Final = 30.0
_CANCEL_SECONDS: Final = 2.0
_LAST_SECONDS: Final = 30.0
"""For the driver to fetch the last messages of a shard that has ended."""

_LONGEST_TEXT: Final = 4000


class ShardActor:
    """What the driver holds by Dask. Each shard has one.

    Args:
        index: the shard's.
        serve: what it runs, as ``module:function``; see `engine.Serve`.
    """

    def __init__(self, index: int, serve: str) -> None:
        self._hosted = _HostedShard(index, serve)
        # Dask drops the actor when the driver lets go of it, or is gone.
        weakref.finalize(self, self._hosted.lose, "the driver has let go of it").atexit = False

    async def begin(self) -> str:
        """Begin, unless it has begun. Returns its name, without which no other question is for it."""
        await self._hosted.begin()
        return self._hosted.name

    async def take(self, name: str, batch: bytes) -> bytes:
        """Take messages from the driver, and answer when there is room for more; see `Batch`."""
        return await self._hosted.ask(name, self._hosted.take, Batch.unpack(batch))

    async def give(self, name: str, received: int) -> bytes:
        """Give messages to the driver, which has received all before that number; see `Batch`."""
        return await self._hosted.ask(name, self._hosted.give, received)

    async def end(self, name: str, seconds: float) -> bytes:
        """Let it end, cancel it after some seconds, and answer when it has ended; see `Batch`."""
        return await self._hosted.ask(name, self._hosted.end, seconds)


class _HostedShard(WayEnd):
    """The Trio run, in its thread. `begin` and `ask` are for the worker's event loop, `lose` for any thread.

    All others run in Trio.
    """

    def __init__(self, index: int, serve: str) -> None:
        super().__init__()
        self.name = uuid.uuid4().hex
        self._index = index
        self._serve = serve
        self._begun: asyncio.Future[None] | None = None
        self._waiting: set[asyncio.Future[Batch]] = set()
        self._token: trio.lowlevel.TrioToken | None = None
        self._questions: trio.Nursery | None = None
        self._scope = trio.CancelScope()
        self._ended = False
        self._text = ""
        self._asked_last = 0.0

    async def begin(self) -> None:
        """Start the thread, unless it was started, and wait until it can be asked."""
        if self._begun is None:
            loop = asyncio.get_running_loop()
            self._begun = loop.create_future()
            threading.Thread(
                target=self._run_thread, args=[loop, self._begun], name=f"shard-{self._index}", daemon=True
            ).start()
        await asyncio.shield(self._begun)

    def _run_thread(self, loop: asyncio.AbstractEventLoop, begun: asyncio.Future[None]) -> None:
        def answer_all() -> None:
            for future in [*self._waiting]:
                _resolve(future, Batch(self._outgoing.first, (), ended=True, text=self._text))

        try:
            trio.run(self._main, lambda: loop.call_soon_threadsafe(_resolve, begun, None))
        finally:
            with contextlib.suppress(RuntimeError):  # the worker's event loop has ended
                loop.call_soon_threadsafe(answer_all)

    async def ask(self, name: str, function: Callable[[*Ts], Awaitable[Batch]], *arguments: *Ts) -> bytes:
        """Run a function in Trio, and pack what it returns.

        Raises:
            LookupError: Dask has made the actor again. Nobody knows what has become of the first one.
        """
        if name != self.name:
            raise LookupError("its actor was lost, and made anew")
        assert self._token is not None
        assert self._questions is not None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Batch] = loop.create_future()

        async def answer() -> None:
            self._asked_last = math.inf
            try:
                batch = await function(*arguments)
            except ValueError as error:  # no driver of ours says that
                batch = Batch(ended=True, text=str(error))
                self._lose(batch.text)
            self._asked_last = trio.current_time()
            with contextlib.suppress(RuntimeError):  # the worker's event loop has ended
                loop.call_soon_threadsafe(_resolve, future, batch)

        self._waiting.add(future)
        try:
            self._token.run_sync_soon(self._questions.start_soon, answer)
            return (await future).pack()
        except trio.RunFinishedError:
            return Batch(self._outgoing.first, (), ended=True, text=self._text).pack()
        finally:
            self._waiting.discard(future)

    def lose(self, reason: str) -> None:
        """The way to the driver is gone."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._lose, reason)

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
            self._scope.deadline = trio.current_time() + _SECONDS_LEFT
            self._changed.send()

    async def _main(self, begun: Callable[[], object]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._questions:
            self._asked_last = trio.current_time()
            self._questions.start_soon(self._notice_silence)
            begun()
            try:
                with self._scope:
                    serve: Serve = pkgutil.resolve_name(self._serve)
                    await serve(await self.receive(), self.send, self.receive)
            except ShardLost:
                pass  # what it had to do is done
            except Exception as error:
                self._text = "".join(traceback.format_exception(error))[-_LONGEST_TEXT:]
            self._ended = True
            self._changed.send()
            with trio.move_on_after(_LAST_SECONDS):
                await self._changed.wait_until(lambda: self._lost is not None)
            self._questions.cancel_scope.cancel()

    async def _notice_silence(self) -> None:
        while (left := self._asked_last + _SILENCE_SECONDS - trio.current_time()) > 0:  # noqa: ASYNC110
            await trio.sleep(min(left, _SILENCE_SECONDS))
        self._lose("the driver asks no more")

    # The questions.

    async def take(self, batch: Batch) -> Batch:
        self._incoming.add(batch)
        self._changed.send()
        with trio.move_on_after(POLL_SECONDS):
            await self._changed.wait_until(lambda: self._ended or self._incoming.has_room)
        return Batch(full=not self._incoming.has_room, ended=self._ended, text=self._text)

    async def give(self, received: int) -> Batch:
        self._outgoing.forget(received)
        self._changed.send()
        with trio.move_on_after(POLL_SECONDS):
            await self._changed.wait_until(lambda: self._ended or bool(self._outgoing))
        messages = self._outgoing.next_messages()
        last = self._ended and self._outgoing.first + len(messages) == self._outgoing.end
        return Batch(self._outgoing.first, messages, ended=last, text=self._text)

    async def end(self, seconds: float) -> Batch:
        self._lose("the driver has closed it")
        with trio.move_on_after(seconds):
            await self._changed.wait_until(lambda: self._ended)
        self._scope.cancel()
        with trio.move_on_after(_CANCEL_SECONDS):
            await self._changed.wait_until(lambda: self._ended)
        return Batch(ended=self._ended, text=self._text)


def _resolve(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
