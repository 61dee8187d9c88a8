"""The feed keeps a connection to the orchestrator, delivers what comes as events, and sends reports.

The orchestrator is one program on one machine. It is restarted or moved, or a router on the way forgets the
connection. For the coordinator, all of that may be an event, but never an exception. So the feed reconnects
for ever. It sends pings, since only these show whether a quiet connection is dead. It keeps reports until
they are sent. And nothing that comes from outside makes it raise. Nothing is replayed: each connection begins
with an `Init`, and this replaces everything that was known before.

With ``tls``, the connection is TLS to the orchestrator's own name. `line` replaces a connection by another
from time to time. The feed knows nothing about gRPC, and not what others do with its events.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import trio

from ..groups import one_by_itself
from ..network.tls import TLSNetwork
from ..signal import Signal
from ..text import quoted
from .conversation import Conversation
from .lasting_trouble import LastingTrouble
from .line import Line
from .messages import Disconnected, Init, MessageParser, RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import ClusterConfig
    from .messages import FailureReport, FeedEvent, Update

    Deliver = Callable[[FeedEvent], None]

__all__ = ["OrchestratorFeed"]

logger = logging.getLogger("trio_model_runner.orchestrator")


class OrchestratorFeed:
    """The orchestrator's events, while `run` runs.

    As in::

        feed = OrchestratorFeed(config)
        nursery.start_soon(feed.run, print)
        ...
        await feed.aclose()  # run() has ended then

    A feed runs once.

    Attributes:
        on_sent: told each report that has been sent.

    Raises:
        ConfigError: the ``tls_ca_file`` can't be read any more.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self.on_sent: Callable[[FailureReport], None] | None = None
        self._config = config
        tls = config.orchestrator_tls()
        self._default_port = 80 if tls is None else 443
        self._network = config.network if tls is None else TLSNetwork(tls, config.network, protocol=None)
        self._parser = MessageParser(max_models=config.orchestrator.max_models)
        self._scope = trio.CancelScope()
        self._ended: trio.Event | None = None  # None until run() begins
        self._closing = False
        self._line: Line | None = None
        self._connected = False
        self._since: float | None = None
        self._last_error: str | None = None
        self._trouble = LastingTrouble()
        self._reports: dict[str, FailureReport] = {}
        self._reports_changed = Signal()

    @property
    def connected(self) -> bool:
        """Whether there is a connection on which an ``init`` has come."""
        return self._connected

    @property
    def since(self) -> float | None:
        """Since when `connected` has its present value, in POSIX seconds; None before `run`."""
        return self._since

    @property
    def last_error(self) -> str | None:
        """Why the last connection ended, or the last attempt failed; None if there was no such trouble."""
        return self._last_error

    @property
    def pending_reports(self) -> int:
        """How many reports are waiting to be sent."""
        return len(self._reports)

    def report(self, report: FailureReport) -> None:
        """Send a report as soon as there is a connection. It replaces an unsent report about the same model.

        Without a connection, the report is kept. It is dropped if the next ``init`` does not list that
        deployment as running at that host.
        """
        self._reports[report.model_id] = report
        self._reports_changed.send()

    def withdraw(self, model_id: str) -> None:
        """Drop the unsent report about a model, if there is one."""
        self._reports.pop(model_id, None)
        self._reports_changed.send()

    @trio.lowlevel.enable_ki_protection
    async def run(self, deliver: Callable[[FeedEvent], None]) -> None:
        """Connect, and reconnect for ever; return after `aclose`.

        Args:
            deliver: is called with each event, in order. The first event of a connection is an `Init`. After
                a connection that had an `Init` comes a `Disconnected`. In between, an `Init` that only
                corrects may come. If `deliver` raises, so does `run`.
        """
        if self._ended is not None:
            raise RuntimeError("a feed runs only once")
        self._ended = trio.Event()
        self._since = time.time()
        try:
            with self._scope, one_by_itself():
                await self._stay_connected(deliver)
        finally:
            self._connected, self._since = False, time.time()
            self._ended.set()

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Send unsent reports and a close frame, wait for the answer to the frame, and end `run`.

        If this takes longer than ``shutdown_grace``, or is cancelled, `run` ends at once.
        """
        self._closing = True
        try:
            with trio.move_on_after(self._config.shutdown_grace):
                await self._reports_changed.wait_until(lambda: not (self._connected and self._reports))
                if self._line is not None:
                    await self._line.aclose()
        finally:
            self._scope.cancel()
        if self._ended is not None:
            await self._ended.wait()
        await trio.lowlevel.checkpoint()

    async def _stay_connected(self, deliver: Deliver) -> NoReturn:
        delays = self._config.orchestrator.delays()
        while True:
            error = await self._connect_once(deliver)
            if self._closing:
                await self._wait_to_be_closed()
            self._last_error = error
            if self._connected:
                self._connected, self._since = False, time.time()
                self._trouble.end()
                delays = self._config.orchestrator.delays()
                deliver(Disconnected(error))
            delay = next(delays)
            level = self._trouble.level(error)
            logger.log(
                level, "no connection to the orchestrator: %s; the next attempt is in %.1f s", error, delay
            )
            await trio.sleep(delay)

    async def _connect_once(self, deliver: Deliver) -> str:
        """Connect, serve the line until it ends, and return why it ended."""
        self._line = line = Line(self._config, self._begin_conversation, partial(self._take, deliver))
        with one_by_itself():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send_reports, line)
                error = await line.run()
                nursery.cancel_scope.cancel()
        return error

    def _begin_conversation(self, tell: Callable[[Conversation, Init | Update], None]) -> Conversation:
        return Conversation(self._config, self._network, self._parser, tell, default_port=self._default_port)

    async def _wait_to_be_closed(self) -> NoReturn:
        self._connected, self._since = False, time.time()
        self._reports_changed.send()  # aclose() need not wait for them
        await trio.sleep_forever()
        raise AssertionError

    def _take(self, deliver: Deliver, event: Init | Update) -> None:
        if isinstance(event, Init):
            self._take_init(event, deliver)
        else:
            deliver(event)

    def _take_init(self, init: Init, deliver: Deliver) -> None:
        if not self._connected:
            self._connected, self._since = True, time.time()
            logger.info("connected to the orchestrator, which lists %d deployments", len(init.entries))
        # Of several deployments at one host the last is the newest. The orchestrator finds a model by its
        # host, so a report about an older one could hit that.
        newest = {
            (entry.model_id, entry.host): (entry.deployment_id,)
            for entry in init.entries
            if entry.state is RunState.RUNNING
        }
        for report in list(self._reports.values()):
            if newest.get((report.model_id, report.host)) != (report.deployment_id,):
                del self._reports[report.model_id]
                logger.info(
                    "model %s is not reported: it does not run there any more", quoted(report.model_id)
                )
        deliver(init)
        self._reports_changed.send()  # they can be sent now

    @trio.lowlevel.enable_ki_protection
    async def _send_reports(self, line: Line) -> NoReturn:
        while True:
            await self._reports_changed.wait_until(lambda: self._connected and bool(self._reports))
            model_id, report = next(iter(self._reports.items()))
            await line.send(report.to_message())
            logger.info(
                "reported model %s as %s: %s", quoted(report.model_id), report.code, quoted(report.reason)
            )
            if self.on_sent is not None:
                self.on_sent(report)
            if self._reports.get(model_id) == report:  # if it is a newer one, that is sent next
                del self._reports[model_id]
                self._reports_changed.send()
