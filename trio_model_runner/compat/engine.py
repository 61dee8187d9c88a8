"""A cluster in a Trio loop of its own, in a thread of its own, for one asyncio loop.

The thread and the way into it are anyio's blocking portal. Only its `call_async` (anyio 4.16) is used while
the asyncio loop runs: that neither blocks the loop on the way in, nor when a call is cancelled.

The cluster must end whatever way the program does. `running_engine` is an async generator, so at its end
`asyncio.run` closes it, after all tasks: what they still do in a ``finally`` works. If the loop is dropped
without that, the interpreter's exit closes it; if the runner is, garbage collection does. This module must
not know what a coordinator calls, or what comes back.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.lowlevel
import trio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..cluster.cluster import Cluster
from ..config import ClusterConfig
from ..services import NodeService

__all__ = ["Engine", "running_engine"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_CLOSED = "this runner was closed: await init() again"

logger = logging.getLogger("trio_model_runner.compat")


class Engine:
    """A cluster, and the way to it from the asyncio loop in which this was made.

    Attributes:
        cluster: the cluster. Its calls belong into `run`; its views may be looked at from any thread.
        loop: the asyncio loop.
        end_at_once: ends the cluster and the thread, and blocks until they have ended. It is for when the
            loop is gone.
    """

    cluster: Cluster

    def __init__(self, portal: BlockingPortal, end_at_once: Callable[[], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.end_at_once = end_at_once
        self._portal = portal
        self._scope = trio.CancelScope()
        self._entered = trio.Event()
        self._leaving = False
        self._ended = trio.Event()
        self._error: Exception | None = None

    @property
    def ended(self) -> bool:
        """Whether the cluster has ended."""
        return self._ended.is_set()

    async def run(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Run an async function in the Trio loop. If this is cancelled, the function is, and it ends first.

        Raises:
            RuntimeError: the cluster has ended, or ends before the function does.
            Exception: whatever the function raises.
        """
        try:
            return await self._portal.call_async(self._while_open, function, *arguments)
        except (trio.ClosedResourceError, trio.RunFinishedError, concurrent.futures.CancelledError) as error:
            raise RuntimeError(_CLOSED) from self._error or error
        except RuntimeError as error:
            if not self.ended:
                raise
            raise RuntimeError(_CLOSED) from self._error or error  # the portal's own, which is gone

    async def _while_open(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Run a function, but for its result if the cluster was left meanwhile: no model had its time."""
        with contextlib.suppress(trio.ClosedResourceError):
            result = await function(*arguments)
            if not self._leaving:
                return result
        await self._ended.wait()  # so that it is known what ended it
        raise trio.ClosedResourceError

    async def wait_ended(self) -> None:
        """Wait until the cluster has ended.

        Raises:
            Exception: whatever ended it, if it was not closed.
        """
        if not self.ended:
            await self._portal.call_async(self._ended.wait, abandon_on_cancel=True)
        self._raise_error()

    async def live(self, config: ClusterConfig, service: NodeService) -> None:
        """Have the cluster until it is cancelled. This runs in the Trio loop."""
        try:
            with self._scope:
                async with Cluster(config, service) as self.cluster:
                    self._entered.set()
                    try:
                        await trio.sleep_forever()
                    finally:
                        self._leaving = True
        except Exception as error:
            self._error = error
            if self._entered.is_set():
                logger.critical("the cluster has ended", exc_info=True)
        finally:
            self._entered.set()
            self._ended.set()

    async def wait_entered(self) -> None:
        """Wait until the cluster was entered.

        Raises:
            Exception: whatever prevented that.
        """
        await self._portal.call_async(self._entered.wait)
        self._raise_error()

    async def leave(self) -> None:
        """Leave the cluster. This runs in the Trio loop."""
        self._scope.cancel()
        await self._ended.wait()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error


@contextlib.asynccontextmanager
async def running_engine(config: ClusterConfig, service: NodeService) -> AsyncIterator[Engine]:
    """Run a cluster in a thread of its own while the block lasts.

    Raises:
        OrchestratorUnavailable: no list of models came within ``orchestrator_timeout``.
    """
    await asyncio.to_thread(_load_backends)
    with contextlib.ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal("trio", name="trio_model_runner.compat"))
        engine = Engine(portal, stack.close)
        portal.start_task_soon(engine.live, config, service)
        stack.callback(portal.call, engine.leave)
        atexit.register(stack.close)  # where neither the loop nor anybody else closes this
        stack.callback(atexit.unregister, stack.close)
        try:
            await engine.wait_entered()
            yield engine
        finally:
            if not engine.ended:  # the exit of the interpreter may have closed it
                await portal.call_async(engine.leave)  # noqa: ASYNC102 - if it is cancelled, the stack ends it


def _load_backends() -> None:
    """Have anyio import what it would import at its first use, which takes 0.1 s."""
    for backend in ("asyncio", "trio"):
        anyio.run(anyio.lowlevel.checkpoint, backend=backend)
