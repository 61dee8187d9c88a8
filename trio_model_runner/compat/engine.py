"""A cluster in a Trio loop of its own, in a thread of its own, for one asyncio loop.

The way into the thread is anyio's blocking portal, of which only `call_async` (anyio 4.16) is used: that
neither blocks the asyncio loop on the way in, nor when a call is cancelled. All else that is waited for there
are asyncio's own events, which the thread sets.

The cluster must end whatever way the program does. An async generator waits for the end of the loop: there
`asyncio.run` closes it, after all tasks, so what they still do in a ``finally`` works. A runner that is
dropped begins the end, in whatever thread garbage is collected. If the loop is dropped, or a second Ctrl-C
cuts its end short, the interpreter's exit ends the thread. A forked process has no such thread, and nothing
to end. This module must not know what a coordinator calls, or what comes back.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import trio
from anyio.from_thread import BlockingPortal

from ..cluster.cluster import Cluster
from ..config import ClusterConfig
from ..services import NodeService

__all__ = ["Engine"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_CLOSED = "this runner was closed: await init() again"

logger = logging.getLogger("trio_model_runner.compat")


class Engine:
    """A cluster, and the way to it from the asyncio loop in which this was made. The thread runs at once.

    Args:
        config: the cluster's settings.
        service: what the nodes speak.

    Attributes:
        cluster: the cluster, once it was entered. Its calls belong into `run`; its views may be looked at
            from any thread.
        loop: the asyncio loop.
    """

    cluster: Cluster

    def __init__(self, config: ClusterConfig, service: NodeService) -> None:
        self.loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._portal: BlockingPortal | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._leaving = False
        self._ended = trio.Event()
        self._error: Exception | None = None
        self._entered_or_gone, self._gone = asyncio.Event(), asyncio.Event()
        self._until_end_of_loop: AsyncGenerator[None, None] | None = None  # it lives as long as the thread
        self._thread = threading.Thread(
            target=self._run, args=(config, service), name="trio_model_runner.compat", daemon=True
        )
        atexit.register(self._end_at_exit)  # where neither the loop nor anybody else ends this
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the cluster has ended."""
        return self._ended.is_set()

    @property
    def is_forked(self) -> bool:
        """Whether this is the copy in a forked process. There is no thread, and no cluster."""
        return self._process != os.getpid()

    # What is done in the asyncio loop.

    async def run(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Run an async function in the Trio loop. If this is cancelled, the function is, and it ends first.

        Raises:
            RuntimeError: the cluster has ended, or ends before the function does.
            Exception: whatever the function raises.
        """
        assert self._portal is not None  # it was entered
        try:
            return await self._portal.call_async(self._while_open, function, *arguments)
        except (trio.ClosedResourceError, trio.RunFinishedError, concurrent.futures.CancelledError) as error:
            raise RuntimeError(_CLOSED) from self._error or error
        except RuntimeError as error:
            if not self.ended:
                raise
            raise RuntimeError(_CLOSED) from self._error or error  # the portal's own, which is gone

    async def enter(self) -> None:
        """Wait until the cluster was entered. If it was not, the thread has ended when this returns.

        Raises:
            OrchestratorUnavailable: no list of models came within ``orchestrator_timeout``.
            Exception: whatever else prevented it.
        """
        self._until_end_of_loop = self._end_with_loop()
        await anext(self._until_end_of_loop)
        try:
            await self._entered_or_gone.wait()
            self._raise_error()
        except BaseException:
            await self.close()  # noqa: ASYNC102 - if it is cancelled, the thread ends by itself
            raise

    async def wait_ended(self) -> None:
        """Wait until the cluster has ended.

        Raises:
            Exception: whatever ended it, if it was not closed.
        """
        await self._gone.wait()
        self._raise_error()

    async def close(self) -> None:
        """Leave the cluster, and wait until the thread has ended."""
        await self._end()
        if self._until_end_of_loop is not None:
            await self._until_end_of_loop.aclose()

    async def _end(self) -> None:
        if self.is_forked:
            return
        self.begin_end()
        await self._gone.wait()
        self._thread.join()  # which was its last act

    async def _end_with_loop(self) -> AsyncGenerator[None, None]:  # noqa: ASYNC900 - asyncio closes it
        try:
            yield
        finally:
            await self._end()  # noqa: ASYNC102 - if it is cancelled, the thread ends by itself

    # What is done in any thread.

    def begin_end(self) -> None:
        """Have the cluster end soon. In a forked process this does nothing."""
        self._leaving = True
        if self._token is not None and not self.is_forked:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._scope.cancel)

    def end_at_once(self) -> None:
        """Leave the cluster, and block until the thread has ended. It is for when the loop is gone."""
        if not self.is_forked:
            self.begin_end()
            self._thread.join()

    def _end_at_exit(self) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # who can't wait for the goodbyes need not
            self.end_at_once()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    # What is done in the thread.

    def _run(self, config: ClusterConfig, service: NodeService) -> None:
        try:
            _load_backends()
            trio.run(self._live, config, service)
        finally:
            self._ended.set()
            atexit.unregister(self._end_at_exit)
            self._tell(self._entered_or_gone)
            self._tell(self._gone)

    async def _live(self, config: ClusterConfig, service: NodeService) -> None:
        """Have the cluster until it is left."""
        self._token = trio.lowlevel.current_trio_token()
        if self._leaving:  # in an instant in which `begin_end` had no token
            self._scope.cancel()
        async with BlockingPortal() as self._portal:  # which ends after all calls
            entered = False
            try:
                with self._scope:
                    async with Cluster(config, service) as self.cluster:
                        entered = True
                        self._tell(self._entered_or_gone)
                        try:
                            await trio.sleep_forever()
                        finally:
                            self._leaving = True
            except Exception as error:
                self._error = error
                if entered:
                    logger.critical("the cluster has ended", exc_info=True)
            finally:
                self._ended.set()

    async def _while_open(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Run a function, but for its result if the cluster was left meanwhile: no model had its time."""
        with contextlib.suppress(trio.ClosedResourceError):
            result = await function(*arguments)
            if not self._leaving:
                return result
        await self._ended.wait()  # so that it is known what ended it
        raise trio.ClosedResourceError

    def _tell(self, event: asyncio.Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self.loop.call_soon_threadsafe(event.set)


def _load_backends() -> None:
    """Have anyio import what it would import at its first use, which takes 0.1 s."""
    for backend in ("asyncio", "trio"):
        anyio.run(anyio.lowlevel.checkpoint, backend=backend)
