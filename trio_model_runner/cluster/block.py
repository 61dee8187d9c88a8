"""The ``async with`` block of a cluster: what runs while it lasts, and how all of it ends.

All tasks of a cluster run in one nursery, which opens and closes with the block. With a plain nursery, an
exception or a cancellation would cancel everything at once, and no task would be left to say goodbye to
hundreds of nodes. So the tasks that do I/O are shielded, each by itself, and an exit sequence ends them:
calls are reset, GOAWAYs and the WebSocket's close frame are sent, within ``shutdown_grace``; then the sockets
are closed. The body of the block is never shielded.

After Ctrl-C, the goodbyes to the orchestrator and to shards have less than a second. A second Ctrl-C ends
these at once; it says no more than the first one, and so is not raised beside that.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..errors import OrchestratorUnavailable
from ..groups import one_by_itself, open_nursery_for_body
from ..network import address_text
from ..signal import Signal
from ..text import quoted

if TYPE_CHECKING:
    from ..config import ClusterConfig
    from .caller import Caller
    from .feed import Feed
    from .fleet import Fleet
    from .hooks import Hooks

__all__ = ["Block"]

_SECONDS_AFTER_INTERRUPT: Final = 0.7
"""With what it takes to end processes then, and to leave Python, Ctrl-C has the prompt back within 2 s."""

logger = logging.getLogger("trio_model_runner.cluster")


class Block:
    """Runs the parts of one cluster.

    Args:
        config: the settings.
        feed: the orchestrator's feed.
        fleet: the models.
        caller: makes calls. It takes them while the block lasts.
        hooks: the instruments, whose lives are around all of this; None if there are none.
    """

    def __init__(
        self,
        config: ClusterConfig,
        feed: Feed,
        fleet: Fleet[Any],
        caller: Caller[Any],
        hooks: Hooks | None = None,
    ) -> None:
        self._config = config
        self._feed = feed
        self._fleet = fleet
        self._caller = caller
        self._hooks = hooks
        self._service_scope = trio.CancelScope(shield=True)
        self._goodbye = trio.CancelScope(shield=True)
        self._interrupted = False

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Start everything, and end everything.

        Raises:
            OrchestratorUnavailable: no list of models came within ``orchestrator_timeout``.
            ConfigError: an instrument can't begin to listen as it was made.
        """
        instruments = contextlib.nullcontext() if self._hooks is None else self._hooks.running()
        async with instruments, open_nursery_for_body() as nursery:
            self._caller.open, self._caller.run = True, trio.lowlevel.current_trio_token()
            parts = _Parts(nursery, self._caller)
            self._fleet.open(parts)
            try:
                parts.start_soon(self._serve)
                parts.start_soon(self._fleet.reporting.run)
                parts.start_soon(self._fleet.losses.run)
                await self._start_up()
                yield
            except BaseException as error:
                if _is_interrupt(error):
                    self._note_interrupt()
                parts.cancel()
                raise
            finally:
                self._shut_down(parts)
                await self._wait_ended(parts)  # noqa: ASYNC102 - it is shielded, and parts bound themselves

    @enable_ki_protection
    async def _serve(self) -> None:
        """Run the feed and what the actors need, until `_leave_orchestrator` ends them."""
        with self._service_scope, one_by_itself():
            async with trio.open_nursery() as nursery:
                await nursery.start(self._fleet.actors.run)
                await self._feed.run(self._fleet.deliver)

    async def _start_up(self) -> None:
        timeout = self._config.orchestrator_timeout
        with trio.move_on_after(timeout) as scope:
            await self._fleet.initialised.wait()
        if scope.cancelled_caught:
            address = address_text(self._config.host, self._config.port)
            reason = self._feed.last_error or "it sent nothing"
            waited = f"{timeout:g} s (orchestrator_timeout)"
            reason = reason.removeprefix(f"{address}: ")  # which is said already
            text = f"no list of models from the orchestrator at {address} in {waited}: {reason}"
            raise OrchestratorUnavailable(text)
        with trio.move_on_after(self._config.startup_timeout) as scope:
            await self._fleet.changed.wait_until(lambda: self._fleet.settled)
        if scope.cancelled_caught and self._config.startup_timeout and not self._fleet.count_ready():
            self._complain_of_absence()

    def _complain_of_absence(self) -> None:
        """Log that no model is ready at the end of the startup, and why: rounds have no answers now."""
        models = list(self._fleet.announced.values())
        if not models:  # they have just left
            return
        first = next((model for model in models if model.error is not None), models[0])
        logger.warning(
            "none of the %d announced models is ready after %g s (startup_timeout); they are still tried"
            " (the first: %s: %s)",
            len(models),
            self._config.startup_timeout,
            quoted(first.model_id),
            quoted(first.state.value if first.error is None else str(first.error)),
        )

    def _shut_down(self, parts: _Parts) -> None:
        """Say goodbye to all peers at the same time, each within ``shutdown_grace``.

        Each goodbye has a task of its own.
        """
        self._caller.open = False
        if self._hooks is not None:
            self._hooks.leave_within_grace()
        self._fleet.close()
        parts.start_soon(partial(self._leave_orchestrator, parts))

    @enable_ki_protection
    async def _leave_orchestrator(self, parts: _Parts) -> None:
        with self._goodbye:
            await self._feed.aclose()  # it bounds itself
        self._service_scope.cancel()
        parts.cancel()

    async def _wait_ended(self, parts: _Parts) -> None:
        """Wait until all parts have ended. Ctrl-C hurries them; the first one is raised after that.

        A nursery would wait as well, but once it is cancelled, no Ctrl-C reaches it any more. As in a
        nursery, a cancellation ends no wait, and comes again at the next checkpoint.
        """
        interrupt: KeyboardInterrupt | None = None
        with trio.CancelScope() as scope:
            while parts.running:
                try:
                    await parts.ended.wait_until(lambda: not parts.running)
                except trio.Cancelled as cancelled:  # noqa: ASYNC103 - see above
                    scope.shield = True
                    if _is_interrupt(cancelled) and not self._interrupted:  # else it comes once more
                        self._note_interrupt()
                except KeyboardInterrupt as error:
                    interrupt = interrupt or (None if self._interrupted else error)
                    self._note_interrupt()
        if interrupt is not None:
            raise interrupt

    def _note_interrupt(self) -> None:
        """Ctrl-C has come: let goodbyes be short, or end them if it is not the first one."""
        by = trio.current_time() + (0.0 if self._interrupted else _SECONDS_AFTER_INTERRUPT)
        self._interrupted = True
        self._goodbye.deadline = min(self._goodbye.deadline, by)
        self._fleet.actors.leave_by(by)


def _is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C ends the block: it came here, or to the main task, which has cancelled this one.

    Trio says why it cancels since 0.31, for people; here it is only about being quick.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(map(_is_interrupt, error.exceptions))
    return isinstance(error, KeyboardInterrupt) or getattr(error, "source", None) == "KeyboardInterrupt"


class _Parts:
    """Runs the parts of a cluster in its nursery.

    The first that crashes ends the block, and is noted: other tasks that use the cluster hear of it.

    Attributes:
        running: how many have not ended.
        ended: is sent when one has ended.
    """

    def __init__(self, nursery: trio.Nursery, caller: Caller[Any]) -> None:
        self.running = 0
        self.ended = Signal()
        self._nursery = nursery
        self._caller = caller

    def start_soon(self, part: Callable[[], Awaitable[object]]) -> None:
        """Run a part."""
        self.running += 1
        self._nursery.start_soon(self._run, part, name=part)

    def cancel(self) -> None:
        """Cancel all that is not shielded."""
        self._nursery.cancel_scope.cancel()

    @enable_ki_protection
    async def _run(self, part: Callable[[], Awaitable[object]]) -> None:
        try:
            await part()
        except BaseException as error:
            crash = error.split(trio.Cancelled)[1] if isinstance(error, BaseExceptionGroup) else error
            if self._caller.ended_by is None and not isinstance(crash, trio.Cancelled | None):
                self._caller.ended_by = error
            raise
        finally:
            self.running -= 1
            self.ended.send()
