"""The feed keeps a connection to the orchestrator, delivers what comes as events, and sends reports.

The orchestrator is one program on one machine. It is restarted or moved, or a router on the way forgets the
connection. For the coordinator, all of that may be an event, but never an exception. So the feed reconnects
for ever. It sends pings, since only these show whether a quiet connection is dead. It keeps reports until
they are sent. And nothing that comes from outside makes it raise. Nothing is replayed: each connection begins
with an `Init`, and this replaces everything that was known before.

A message is parsed in the event loop. An ``init`` of 10,000 models (3.9 MB) takes about 60 ms there. A third
of that is ``json.loads``, which holds the interpreter's lock, so a thread would not help. An ``init`` of 500
models takes 3 ms, once per connection.

With ``tls``, the connection is TLS to the orchestrator's own name. The feed knows nothing about gRPC, and not
what others do with its events.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import trio

from ..groups import describe, first_of, one_by_itself
from ..network import address_text
from ..network.tls import TLSNetwork
from ..signal import Signal
from .messages import Disconnected, Init, MessageParser, RunState
from .websocket import WebSocket, WebSocketLost, host_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..config import ClusterConfig
    from .messages import FailureReport, FeedEvent

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

    Raises:
        ConfigError: the ``tls_ca_file`` can't be read any more.
    """

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        tls = config.orchestrator_tls()
        self._default_port = 80 if tls is None else 443
        self._network = config.network if tls is None else TLSNetwork(tls, config.network, protocol=None)
        self._parser = MessageParser(max_models=config.orchestrator.max_models)
        self._scope = trio.CancelScope()
        self._ended: trio.Event | None = None  # None until run() begins
        self._closing = False
        self._websocket: WebSocket | None = None
        self._connected = False
        self._since: float | None = None
        self._last_error: str | None = None
        self._last_warning: str | None = None
        self._reports: dict[str, FailureReport] = {}
        self._reports_changed = Signal()
        self._all_sent = trio.Event()  # for aclose()

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
                a connection that had an `Init` comes a `Disconnected`. If `deliver` raises, so does `run`.
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
                if self._connected and self._reports:
                    await self._all_sent.wait()
                if self._websocket is not None:
                    await self._websocket.aclose()
        finally:
            self._scope.cancel()
        if self._ended is not None:
            await self._ended.wait()
        await trio.lowlevel.checkpoint()

    async def _stay_connected(self, deliver: Deliver) -> NoReturn:
        delays = self._config.orchestrator.delays()
        while True:
            error = await self._connect_once(deliver)
            self._last_error = error
            if self._connected:
                self._connected, self._since = False, time.time()
                self._last_warning = None
                delays = self._config.orchestrator.delays()
                deliver(Disconnected(error))
            delay = next(delays)
            # A night without the orchestrator has thousands of attempts: one warning for each reason.
            level = logging.DEBUG if error == self._last_warning else logging.WARNING
            self._last_warning = error
            logger.log(
                level, "no connection to the orchestrator: %s; the next attempt is in %.1f s", error, delay
            )
            await trio.sleep(delay)

    async def _connect_once(self, deliver: Deliver) -> str:
        """Connect, serve the connection until it ends, and return why it ended."""
        config = self._config
        timeout = config.orchestrator.handshake_timeout
        deadline = trio.current_time() + timeout
        try:
            host = host_header(config.host, config.port, default_port=self._default_port)
            with trio.fail_at(deadline):
                stream = await self._network.connect(config.host, config.port)
        except OSError as error:
            return describe(error)
        except trio.TooSlowError:
            return f"no connection to {address_text(config.host, config.port)} within {timeout:g} s"
        error_text = ""
        try:
            async with trio.open_nursery() as nursery:
                await self._converse(stream, host, deadline, nursery, deliver)
        except* WebSocketLost as lost:
            error_text = str(first_of(lost))
        finally:
            self._websocket = None
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
        if self._parser.refusal is not None:
            error_text = f"the orchestrator refuses us: {self._parser.refusal}"
        return error_text

    async def _converse(
        self, stream: trio.abc.Stream, host: str, deadline: float, nursery: trio.Nursery, deliver: Deliver
    ) -> None:
        config = self._config
        self._parser.refusal = None
        try:
            with trio.fail_at(deadline):
                websocket = await WebSocket.open(
                    nursery,
                    stream,
                    host=host,
                    path=f"/{quote(config.crunch_id, safe='')}",
                    max_message_bytes=config.orchestrator.max_message_bytes,
                )
        except trio.TooSlowError:
            timeout = config.orchestrator.handshake_timeout
            raise WebSocketLost(f"no answer to the handshake within {timeout:g} s") from None
        self._websocket = websocket
        nursery.start_soon(self._until_closing, self._ping, websocket)
        await self._until_closing(self._receive_init, websocket, deliver)
        nursery.start_soon(self._until_closing, self._send_reports, websocket)
        await self._until_closing(self._receive_updates, websocket, deliver)

    @trio.lowlevel.enable_ki_protection
    async def _until_closing(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        try:
            await task(*args)
        except WebSocketLost:
            if not self._closing:
                raise
            self._all_sent.set()  # nothing more can be sent
            await trio.sleep_forever()  # aclose() ends this after the peer's close frame

    async def _receive_init(self, websocket: WebSocket, deliver: Deliver) -> None:
        while not isinstance(event := self._parser.parse(await websocket.receive()), Init):
            if event is not None:
                logger.warning("the orchestrator sent an update before the init; it is skipped")
        self._take_init(event, deliver)

    async def _receive_updates(self, websocket: WebSocket, deliver: Deliver) -> NoReturn:
        while True:
            event = self._parser.parse(await websocket.receive())
            if isinstance(event, Init):
                self._take_init(event, deliver)
            elif event is not None:
                deliver(event)

    def _take_init(self, init: Init, deliver: Deliver) -> None:
        if not self._connected:
            self._connected, self._since = True, time.time()
            logger.info("connected to the orchestrator, which lists %d deployments", len(init.entries))
        running = {
            (entry.model_id, entry.deployment_id, entry.host)
            for entry in init.entries
            if entry.state is RunState.RUNNING
        }
        for report in list(self._reports.values()):
            if (report.model_id, report.deployment_id, report.host) not in running:
                del self._reports[report.model_id]
                logger.info("not reporting %s: it does not run there any more", report)
        deliver(init)

    async def _send_reports(self, websocket: WebSocket) -> NoReturn:
        while True:
            while self._reports:
                model_id, report = next(iter(self._reports.items()))
                await websocket.send(report.to_message())
                if self._reports.get(model_id) == report:  # if it is a newer one, that is sent next
                    del self._reports[model_id]
                logger.info("reported %s", report)
            if self._closing:
                self._all_sent.set()
            await self._reports_changed.wait()

    async def _ping(self, websocket: WebSocket) -> NoReturn:
        settings = self._config.orchestrator
        while True:
            await trio.sleep(settings.ping_interval)
            with trio.move_on_after(settings.pong_timeout) as scope:
                await websocket.ping()
            if scope.cancelled_caught:
                raise WebSocketLost(f"no answer to a ping within {settings.pong_timeout:g} s")
