"""One connection to the orchestrator, from the attempt to make it until it is closed.

It connects, shakes hands, sends pings, and tells what the orchestrator says, beginning with the `Init`. It
never raises for what comes from outside: it ends, and has an `error` then. It must not know of other
connections, nor of what becomes of what it tells.

A message is parsed in the event loop. An ``init`` of 10,000 models (3.9 MB) takes about 60 ms there. A third
of that is ``json.loads``, which holds the interpreter's lock, so a thread would not help. An ``init`` of 500
models takes 3 ms, once per connection.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import trio

from ..groups import describe, first_of, one_by_itself
from ..network import address_text
from ..signal import Signal
from .messages import Init, Update
from .websocket import WebSocket, WebSocketLost, host_header

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..config import ClusterConfig
    from ..network import Network
    from .messages import MessageParser

__all__ = ["Conversation"]

logger = logging.getLogger("trio_model_runner.orchestrator")


class Conversation:
    """One connection. `run` makes it, and it lasts as long as `run` does.

    Args:
        config: the settings.
        network: what opens the stream, with TLS if the orchestrator has it.
        default_port: the port that the ``Host`` header does not name.
        parser: reads the messages; all connections may share it.
        tell: is called with this and each event. The first event is an `Init`. What it raises, `run` raises.

    Attributes:
        listed: whether an `Init` has come.
        ended: whether `run` has returned.
        error: why the connection ended, or was never made; empty until then.
    """

    def __init__(
        self,
        config: ClusterConfig,
        network: Network,
        parser: MessageParser,
        tell: Callable[[Conversation, Init | Update], None],
        *,
        default_port: int,
    ) -> None:
        self.listed = False
        self.ended = False
        self.error = ""
        self._config = config
        self._network = network
        self._parser = parser
        self._tell = tell
        self._default_port = default_port
        self._scope = trio.CancelScope()
        self._websocket: WebSocket | None = None
        self._refusal: str | None = None
        self._closing = False
        self._sends: set[trio.CancelScope] = set()
        self._changed = Signal()

    @property
    def received(self) -> int:
        """How many bytes have come."""
        return 0 if self._websocket is None else self._websocket.received

    async def wait_listed(self) -> None:
        """Wait until an `Init` has come, or the connection has ended."""
        await self._changed.wait_until(lambda: self.listed or self.ended)

    async def wait_ended(self) -> None:
        """Wait until `run` has returned."""
        await self._changed.wait_until(lambda: self.ended)

    async def run(self) -> None:
        """Connect, and tell what the orchestrator says until the connection ends; run once."""
        try:
            with self._scope, one_by_itself():
                self.error = await self._connect_and_converse() or self.error
        finally:
            self.ended = True
            for send in self._sends:
                send.cancel()
            self._changed.send()

    async def send(self, message: str) -> None:
        """Send `message`; when this returns the operating system has it.

        Raises:
            WebSocketLost: the connection is gone, or is not made yet. The message may have been sent.
        """
        if self._websocket is None:
            raise WebSocketLost("there is no connection")
        with trio.CancelScope() as scope:
            self._sends.add(scope)
            try:
                await self._websocket.send(message)
                return
            except WebSocketLost as lost:
                if not self._closing:
                    self.error = str(lost)
                    self._scope.cancel()
                raise
            finally:
                self._sends.discard(scope)
        raise WebSocketLost("the connection has ended")

    @trio.lowlevel.enable_ki_protection
    async def aclose(self) -> None:
        """Send a close frame, wait for the peer's, and end `run`; end it at once when this is cancelled.

        The caller says how long that may take.
        """
        self._closing = True
        try:
            if self._websocket is not None:
                await self._websocket.aclose()
        finally:
            self._scope.cancel()
        await self.wait_ended()

    async def _connect_and_converse(self) -> str:
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
            peer = address_text(config.host, config.port)
            return f"no connection to {peer} within {timeout:g} s (orchestrator.handshake_timeout)"
        error_text = ""
        try:
            async with trio.open_nursery() as nursery:
                await self._converse(stream, host, deadline, nursery)
        except* WebSocketLost as lost:
            error_text = str(first_of(lost))
        finally:
            self._websocket = None
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)
        if self._refusal is not None:
            error_text = f"the orchestrator refuses us: {self._refusal}"
        return error_text

    async def _converse(
        self, stream: trio.abc.Stream, host: str, deadline: float, nursery: trio.Nursery
    ) -> None:
        config = self._config
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
            raise WebSocketLost(
                f"no answer to the handshake within {timeout:g} s (orchestrator.handshake_timeout)"
            ) from None
        self._websocket = websocket
        nursery.start_soon(self._until_closing, self._ping, websocket)
        await self._until_closing(self._listen, websocket)

    @trio.lowlevel.enable_ki_protection
    async def _until_closing(
        self, task: Callable[[WebSocket], Awaitable[NoReturn]], websocket: WebSocket
    ) -> None:
        try:
            await task(websocket)
        except WebSocketLost:
            if not self._closing:
                raise
            await trio.sleep_forever()  # aclose() ends this after the peer's close frame

    async def _listen(self, websocket: WebSocket) -> NoReturn:
        while True:
            event = self._parser.parse(await websocket.receive())
            # The parser is shared: what it has read now is all that is this connection's.
            self._refusal, self._parser.refusal = self._parser.refusal or self._refusal, None
            if event is None:
                continue
            if isinstance(event, Update) and not self.listed:
                logger.warning("the orchestrator sent an update before the init; it is skipped")
                continue
            self._tell(self, event)
            if not self.listed:
                self.listed = True
                self._changed.send()

    async def _ping(self, websocket: WebSocket) -> NoReturn:
        settings = self._config.orchestrator
        while True:
            await trio.sleep(settings.ping_interval)
            with websocket.until_silent(settings.pong_timeout) as patience:
                await websocket.ping()
            if patience.cancelled_caught:
                raise WebSocketLost(
                    f"no answer to a ping within {settings.pong_timeout:g} s (orchestrator.pong_timeout)"
                )
