"""Tells instruments what happens in a cluster, so that none of them can do harm.

A hook is a stranger's function in the middle of our own. Whatever it raises stays here: it is logged once.
Two exceptions ask for the end of the program, KeyboardInterrupt and SystemExit. They may not be lost, and may
not leave a round or a model half changed either. So they are kept, and a task of the block raises them.

An instrument may have a life (`Instrument.running`). It has a task of its own, around everything else in the
block: it hears all, and what fails in it ends that instrument alone. A hook can't be interrupted, so one that
is slow is only warned of.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, Final

import trio
from trio.lowlevel import disable_ki_protection

from ..errors import ConfigError
from ..groups import has_any, open_nursery_for_body
from ..orchestrator import Disconnected, FeedEvent
from ..rpc.field_reader import FIELD_OVERHEAD
from ..rpc.headers import RawFields
from ..rpc.metadata import encode_metadata
from ..values.prediction_round import PredictionRound
from .changes import Change
from .instrument import Instrument, ObservedCluster, Report, RoundStart
from .instrument_checks import HOOKS

__all__ = ["Hooks", "RoundTold"]

_ENDING_MORE: Final = (KeyboardInterrupt, SystemExit, trio.Cancelled)  # than an instrument
_SLOW: Final = 0.05  # seconds; a round may return so late
_ENTERING: Final = 5.0  # seconds
_AT_LEAST_FOR_LEAVING: Final = 0.25  # seconds, where goodbyes have used up `shutdown_grace`
_MOST_METADATA: Final = 4096  # bytes, of all together; grpcio refuses some headers of more than 8192

logger = logging.getLogger("trio_model_runner.cluster")


@disable_ki_protection
def _call_interruptibly(hook: Callable[..., Any], *arguments: object) -> Any:
    """Call a hook, which Ctrl-C can end if nothing else does."""
    return hook(*arguments)


class _Listener:
    """One instrument, and which of its hooks are there to be called.

    Attributes:
        on: it is told what happens.
        instrument: the instrument.
    """

    def __init__(self, instrument: Instrument, interrupt: Callable[[BaseException], None]) -> None:
        self.on = False
        self.instrument = instrument
        self._interrupt = interrupt
        self._hooks = {
            name: hook
            for name in HOOKS
            if (hook := getattr(instrument, name, None)) is not None
            and getattr(hook, "__func__", None) is not getattr(Instrument, name)  # those do nothing
        }
        self._said: set[tuple[str, str]] = set()

    def __str__(self) -> str:
        return type(self.instrument).__name__

    def has(self, hook: str) -> bool:
        """Whether it listens to this."""
        return self.on and hook in self._hooks

    def call(self, hook: str, *arguments: object) -> tuple[bool, Any]:
        """Call a hook. Never raises.

        Returns:
            Whether that went well, and what it returned.
        """
        began, processor_began = time.perf_counter(), time.thread_time()
        try:
            value = _call_interruptibly(self._hooks[hook], *arguments)
        except (KeyboardInterrupt, SystemExit) as error:
            self._interrupt(error)
            return False, None
        except BaseException as error:  # noqa: ASYNC103 - a plain function can't be cancelled
            if self._first(hook, "raises"):
                logger.error(
                    "instrument %s: %s raised; more of this is not logged", self, hook, exc_info=error
                )
            return False, None  # noqa: ASYNC104 - see above
        seconds = time.perf_counter() - began
        if seconds > _SLOW and self._first(hook, "slow"):
            logger.warning(
                "instrument %s: %s took %d ms (%d ms of processor time), in which all else waited; "
                "more of this is not logged",
                self,
                hook,
                seconds * 1000,
                (time.thread_time() - processor_began) * 1000,
            )
        return True, value

    def _first(self, hook: str, what: str) -> bool:
        first = (hook, what) not in self._said
        self._said.add((hook, what))
        return first

    def encoded(self, metadata: Any, room: int) -> RawFields:
        """The metadata that this instrument gave, as header fields; none if that can't be. Never raises.

        Args:
            metadata: what it gave.
            room: bytes that they may have.
        """
        if metadata is None:
            return ()
        try:
            if not isinstance(metadata, Mapping):
                raise TypeError(f"must be a mapping or None, got {type(metadata).__name__}")
            fields = encode_metadata(metadata)
            if (size := _size(fields)) > room:
                raise ValueError(f"{size} bytes, where all instruments together may send {_MOST_METADATA}")
        except (KeyboardInterrupt, SystemExit) as error:
            self._interrupt(error)
        except BaseException as error:  # noqa: ASYNC103 - a stranger's mapping, which can't be cancelled
            if self._first("metadata", "encoding"):
                logger.error("instrument %s: metadata that can't be sent: %s", self, error)
        else:
            return fields
        return ()


def _size(fields: RawFields) -> int:
    """What header fields count for a node's limit; RFC 9113, 6.5.2."""
    return sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields)


class RoundTold:
    """A round of which instruments were told that it began.

    Attributes:
        metadata: what they want to be sent with its requests, as header fields.
    """

    __slots__ = ("_tokens", "metadata")

    def __init__(self, listeners: Iterable[_Listener], start: RoundStart) -> None:
        self.metadata: RawFields = ()
        self._tokens: list[tuple[_Listener, Any]] = []
        for each in listeners:
            well, token = each.call("round_started", start) if each.has("round_started") else (True, None)
            if not well:
                continue
            if each.has("round_ended"):
                self._tokens.append((each, token))
            if each.has("metadata"):
                room = _MOST_METADATA - _size(self.metadata)
                self.metadata += each.encoded(each.call("metadata", token)[1], room)

    def end(self, played: PredictionRound[Any] | None) -> None:
        """Tell them that it has ended."""
        for each, token in self._tokens:
            if each.on:
                each.call("round_ended", token, played)


class Hooks:
    """The instruments of one cluster.

    Args:
        instruments: from `instrument_checks.check_instruments`.
        cluster: what they listen to.
        grace: seconds that leaving may take them.
    """

    def __init__(self, instruments: Iterable[Instrument], cluster: ObservedCluster, grace: float) -> None:
        self._listeners = [_Listener(each, self._keep) for each in instruments]
        self._cluster = cluster
        self._grace = grace
        self._connected = False
        self._interrupt: BaseException | None = None
        self._interrupted = trio.Event()
        self._leaving = trio.Event()
        self._leave_by: float | None = None

    # What happens.

    def round_started(self, start: RoundStart) -> RoundTold:
        """A round begins."""
        return RoundTold(self._listeners, start)

    def call_ended(self, call: PredictionRound[Any]) -> None:
        """A call of one model has ended."""
        self._tell("call_ended", call)

    def model_changed(self, change: Change) -> None:
        """Something has happened to a model."""
        self._tell("model_changed", change)

    def orchestrator_said(self, event: FeedEvent) -> None:
        """Something came of the orchestrator's feed. Instruments hear whether it has come or gone."""
        error = event.error if isinstance(event, Disconnected) else None
        connected = error is None
        if connected is not self._connected:
            self._connected = connected
            self._tell("orchestrator_changed", connected, error)

    def report_pending(self, report: Report) -> None:
        """A report is due."""
        self._tell("report_pending", report)

    def report_held(self, report: Report) -> None:
        """A report is held."""
        self._tell("report_held", report)

    def report_withdrawn(self, report: Report, why: str) -> None:
        """A report will not be sent."""
        self._tell("report_withdrawn", report, why)

    def report_sent(self, report: Report) -> None:
        """A report was sent."""
        self._tell("report_sent", report)

    def _tell(self, hook: str, *arguments: object) -> None:
        for each in self._listeners:
            if each.has(hook):
                each.call(hook, *arguments)

    def _keep(self, interrupt: BaseException) -> None:
        self._interrupt = self._interrupt or interrupt
        self._interrupted.set()

    # The instruments' lives.

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the instruments live around what happens.

        Raises:
            ConfigError: an instrument can't be entered as it was made.
            KeyboardInterrupt, SystemExit: a hook raised it.
        """
        async with open_nursery_for_body() as nursery:
            nursery.start_soon(self._raise_interrupt)
            try:
                for each in self._listeners:
                    scope = await nursery.start(self._live, each)
                    scope.shield = (
                        True  # not before: where all is cancelled now, it would be waited for for ever
                    )
                yield
            finally:
                self._leave_by = max(self._deadline(), trio.current_time() + _AT_LEAST_FOR_LEAVING)
                self._leaving.set()
                nursery.cancel_scope.cancel()

    def leave_within_grace(self) -> None:
        """The block is being left: from now on the grace is running."""
        self._leave_by = self._deadline()

    def _deadline(self) -> float:
        return trio.current_time() + self._grace if self._leave_by is None else self._leave_by

    async def _raise_interrupt(self) -> None:
        await self._interrupted.wait()
        assert self._interrupt is not None
        raise self._interrupt

    async def _live(self, listener: _Listener, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        entered = False
        scope = trio.CancelScope(deadline=trio.current_time() + _ENTERING)
        try:
            with scope:
                async with _life(listener.instrument, self._cluster):
                    entered = True
                    scope.deadline = math.inf
                    listener.on = True
                    task_status.started(scope)
                    try:
                        await self._leaving.wait()
                    finally:
                        listener.on = False
                        scope.deadline = self._deadline()
        except BaseException as error:  # noqa: ASYNC103 - a stranger's; Cancelled is raised again
            if has_any(error, _ENDING_MORE) or (isinstance(error, ConfigError) and not entered):
                raise
            logger.exception("instrument %s has failed, and is told nothing more", listener)
        if scope.cancelled_caught:
            did = "leave" if entered else "enter"
            logger.error("instrument %s took too long to %s, and was cut off", listener, did)
        if not entered:
            task_status.started(scope)


def _life(instrument: Instrument, cluster: ObservedCluster) -> AbstractAsyncContextManager[object]:
    running = getattr(instrument, "running", None)
    return nullcontext() if running is None else running(cluster)
