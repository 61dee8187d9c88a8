"""The line to the orchestrator: one connection after another, seen as one.

Deployed orchestrators lose updates when clients come and go, and only a new list mends that. So a second
connection is made now and then. When its list has come, it takes the first one's place without a gap. What
both say meanwhile is sorted out by `overlap`; a connection by itself is a `conversation`. If the second one
fails, the first stays in use, and nothing else happens.

The old one is read for a few seconds more, and then closed properly. The orchestrator loses updates at such
moments, and a second client costs it something: so both last no longer than they must.

A line ends when the connection in use ends. Nothing here knows how it is made again, what becomes of events,
or what reports are.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from ..backoff import growing_waits
from ..groups import one_by_itself
from ..signal import Signal
from .lasting_trouble import LastingTrouble
from .messages import Init, Update
from .overlap import Overlap
from .websocket import WebSocketLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import ClusterConfig
    from .conversation import Conversation

    Tell = Callable[[Conversation, Init | Update], None]

__all__ = ["Line"]

logger = logging.getLogger("trio_model_runner.orchestrator")

_JITTER: Final = 0.1  # of the interval, so that many coordinators don't come at the same moment
_OVERLAP: Final = 5.0  # seconds for which the old connection is read beside the new one
_FIRST_RETRY: Final = 5.0  # seconds, and twice as long each time
_LEAST_PROGRESS: Final = 1024  # bytes; the answers to pings are a few


class Line:
    """A line. It lasts as long as `run` does.

    Args:
        config: the settings.
        begin: makes a conversation that tells what it hears to a function.
        deliver: is called with each event, in order, the first of which is an `Init`. What it raises, `run`
            raises.
    """

    def __init__(
        self,
        config: ClusterConfig,
        begin: Callable[[Tell], Conversation],
        deliver: Callable[[Init | Update], None],
    ) -> None:
        self._config = config
        self._begin = begin
        self._deliver = deliver
        self._in_use = begin(self._hear)
        self._second: Conversation | None = None  # the newer one, while there are two
        self._overlap = Overlap()
        self._open: list[Conversation] = []  # those whose run() has not returned
        self._one_ended = Signal()
        self._resyncing = trio.CancelScope()
        self._trouble = LastingTrouble()

    async def run(self) -> str:
        """Connect, and deliver what is said until the connection in use ends; return why it did."""
        with one_by_itself():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._converse, self._in_use)
                nursery.start_soon(self._resync_now_and_then, nursery)
                await self._one_ended.wait_until(lambda: self._in_use.ended)
                nursery.cancel_scope.cancel()
        return self._in_use.error

    async def send(self, message: str) -> None:
        """Send `message` on the connection in use; if that is replaced before it could, on the next one.

        If there is no connection, this waits until it is cancelled; `run` ends then.
        """
        while True:
            conversation = self._in_use
            try:
                await conversation.send(message)
            except WebSocketLost:
                if conversation is self._in_use:
                    await trio.sleep_forever()
            else:
                return

    async def aclose(self) -> None:
        """Close all connections, each with a close frame; `run` ends. The caller bounds the time."""
        self._resyncing.cancel()
        async with trio.open_nursery() as nursery:
            for conversation in self._open:
                nursery.start_soon(conversation.aclose)

    @trio.lowlevel.enable_ki_protection
    async def _converse(self, conversation: Conversation) -> None:
        self._open.append(conversation)
        try:
            await conversation.run()
        finally:
            self._open.remove(conversation)
            self._one_ended.send()

    def _hear(self, conversation: Conversation, event: Init | Update) -> None:
        counts = self._sort_out(conversation, event)
        if counts is not None:
            self._deliver(counts)

    def _sort_out(self, conversation: Conversation, event: Init | Update) -> Init | Update | None:
        """What of an event counts."""
        if self._second is not None and isinstance(event, Update):
            newer = conversation is self._second
            return self._overlap.hear_new(event) if newer else self._overlap.hear_old(event)
        if conversation is self._second and isinstance(event, Init) and not conversation.listed:
            self._in_use = conversation
            return self._overlap.hear_list(event)
        return event if conversation is self._in_use else None

    @trio.lowlevel.enable_ki_protection
    async def _resync_now_and_then(self, nursery: trio.Nursery) -> None:
        interval = self._config.orchestrator.resync_interval
        waits = regular_waits = growing_waits(interval, maximum=interval, jitter=_JITTER)
        with self._resyncing:
            await self._in_use.wait_listed()
            while True:
                await trio.sleep(next(waits))
                if await self._resync(nursery):
                    waits = regular_waits
                elif waits is regular_waits:
                    waits = growing_waits(_FIRST_RETRY, maximum=interval, jitter=_JITTER)

    async def _resync(self, nursery: trio.Nursery) -> bool:
        """Let a second connection take the place of the one in use; False if that must be done again."""
        settings = self._config.orchestrator
        timeout = settings.handshake_timeout + settings.pong_timeout  # as a ping behind the init may take
        old, new = self._in_use, self._begin(self._hear)
        self._second, self._overlap = new, Overlap()
        nursery.start_soon(self._converse, new)
        await _wait_listed(new, timeout)
        if self._in_use is old:
            self._second = None
            self._warn(new.error or f"no init within {timeout:g} s")
            await self._close(new)
            return False
        self._trouble.end()
        await trio.sleep(_OVERLAP)
        missed = self._overlap.missed
        self._second = None
        await self._close(old)
        if missed:
            logger.info("the orchestrator's list has missed an update; it is fetched again")
        return not missed

    def _warn(self, error: str) -> None:
        """Log why the list could not be fetched anew."""
        level = self._trouble.level(error)
        logger.log(level, "the orchestrator's list is not fetched anew: %s; tried again later", error)

    async def _close(self, conversation: Conversation) -> None:
        with trio.move_on_after(self._config.shutdown_grace):
            await conversation.aclose()


async def _wait_listed(conversation: Conversation, timeout: float) -> None:
    """Wait for a list until `timeout` seconds bring hardly a byte: a large one may take long on the line."""
    received = -_LEAST_PROGRESS
    while not (conversation.listed or conversation.ended):
        if conversation.received - received < _LEAST_PROGRESS:
            return
        received = conversation.received
        with trio.move_on_after(timeout):
            await conversation.wait_listed()
