"""An orchestrator inside this process: a WebSocket that says which models run where.

It keeps a list of deployments, sends it to each coordinator that connects (``init``), sends changes
(``update``), and records what coordinators report. Reports are recorded exactly as they were sent, since a
report that is slightly wrong stops the wrong person's model. The orchestrator can go away, come back, fall
silent and send nonsense.

It knows entries as they are on the wire (see `entries`). It must not know the nodes of its entries.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from typing import TYPE_CHECKING, cast

import trio
from trio_websocket import ConnectionClosed, wrap_server_stream

from ..given import check_whole_number
from ..groups import one_by_itself
from ..signal import Signal
from .arguments import NotEntered
from .endpoint import open_endpoint
from .entries import OrchestratorEntry, check_entry
from .report import Report

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

    from ..network import MemoryNetwork
    from .endpoint import EndpointStream

__all__ = ["LocalOrchestrator"]

logger = logging.getLogger(__name__)

GOODBYE_TIMEOUT = 1.0  # seconds for close frames to be exchanged
HANDSHAKE_TIMEOUT = 10.0  # seconds
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
REQUIRED_REPORT_KEYS = ("model_id", "failure_code", "ip")
INTERNAL_ERROR = 1011  # the close code of a handler that failed
GOING_AWAY = 1001


class LocalOrchestrator(NotEntered):
    """Serves the feed of one crunch; `LocalCrunch` has one, or run it yourself (`run`).

    Args:
        crunch_id: the crunch that it knows. For others, it sends an error and closes the connection.
        network: the network to listen on; None is this machine's loopback.
        host: the host to listen on.
        port: the port to listen on; 0 takes a free one.

    Attributes:
        crunch_id: see above.
        host: the host that it listens on.
        port: the port that it listens on.
        network: the network that it listens on; None is this machine's loopback.
        messages: every message that came, oldest first, whatever its content.
        announced_ids: the ids of all models that were ever announced, in that order.
        reports: every report in them, oldest first, as it was sent. A report that lacks a key that real
            orchestrators need is not here: as there, the handler fails, and the connection ends.
        greeting: texts to send to each new connection instead of the ``init``; None sends the ``init``.
        seconds_per_client: seconds that it takes to send an ``update`` to one client. As deployed servers do,
            this one sends to one client after the other, the oldest first; if a client comes or goes
            meanwhile, the remaining clients lose the update. None, the default, sends to all at once.
    """

    def __init__(
        self,
        crunch_id: str = "local",
        *,
        network: MemoryNetwork | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._endpoint = open_endpoint(network, host, port)
        self.crunch_id = crunch_id
        self.host = self._endpoint.host
        self.port = self._endpoint.port
        self.network = network
        self.messages: list[str | bytes] = []
        self.reports: list[Report] = []
        self.greeting: list[str] | None = None
        self.seconds_per_client: float | None = None
        self._updates_send, self._updates_receive = trio.open_memory_channel[str](math.inf)
        self.announced_ids: dict[str, None] = {}
        self._book: dict[tuple[str, str | None], OrchestratorEntry] = {}
        self._outboxes: dict[WebSocketConnection, trio.MemorySendChannel[str]] = {}
        self._something_happened = Signal()
        self._run_before = False

    @property
    def entries(self) -> list[OrchestratorEntry]:
        """What an ``init`` lists: the deployments that run, in the order in which they were announced."""
        return [entry for entry in self._book.values() if entry.get("state") == "RUNNING"]

    @property
    def connections(self) -> int:
        """How many coordinators are connected."""
        return len(self._outboxes)

    def announce(self, *entries: OrchestratorEntry) -> None:
        """Put `entries` into the list of deployments, and send them to all coordinators in one ``update``.

        Args:
            entries: as on the wire; a deployment is known by its ``model_id`` and ``deployment_id``. One that
                is STOPPED leaves the list.

        Raises:
            TypeError: an entry is no mapping.
            ValueError: no orchestrator would announce that; the text says why. Nothing was sent. `send_text`
                sends anything.
        """
        for entry in entries:
            check_entry(entry)
        self.announced_ids.update(dict.fromkeys(entry["model_id"] for entry in entries))
        for entry in entries:
            key = entry["model_id"], entry.get("deployment_id")
            if entry["state"] == "STOPPED":
                self._book.pop(key, None)
            else:
                self._book[key] = cast("OrchestratorEntry", dict(entry))
        update = json.dumps({"event": "update", "data": list(entries)})
        if self.seconds_per_client is None:
            self.send_text(update)
        else:
            self._updates_send.send_nowait(update)

    def send_text(self, text: str) -> None:
        """Send a text to all connected coordinators. The list of deployments stays as it is.

        Raises:
            TypeError: it is no text.
        """
        if not isinstance(text, str):
            raise TypeError(f"text: must be text, got {text!r}")
        for connection in self._outboxes:
            self._send_to(connection, text)

    def _send_to(self, connection: WebSocketConnection, text: str) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # the connection is just ending
            self._outboxes[connection].send_nowait(text)

    async def wait_for_connections(self, count: int = 1) -> None:
        """Wait until `count` coordinators are connected, or more."""
        check_whole_number(count, "count")
        await trio.lowlevel.checkpoint()
        await self._something_happened.wait_until(lambda: self.connections >= count)

    async def wait_for_reports(self, count: int = 1) -> None:
        """Wait until there are `count` reports, or more."""
        check_whole_number(count, "count")
        await trio.lowlevel.checkpoint()
        await self._something_happened.wait_until(lambda: len(self.reports) >= count)

    async def wait_for_report(self, model_id: str, code: str | None = None) -> None:
        """Wait until there is a report about a model, with that code if one is given."""
        await trio.lowlevel.checkpoint()
        await self._something_happened.wait_until(
            lambda: any(each.model_id == model_id and code in (None, each.code) for each in self.reports)
        )

    async def run(
        self, *, task_status: trio.TaskStatus[LocalOrchestrator] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; runs once. It listens from the moment it is made.

        Raises:
            RuntimeError: it runs already, or has ended.
        """
        if self._run_before:
            raise RuntimeError("a LocalOrchestrator can be run only once")
        self._run_before = True
        try:
            with one_by_itself():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_updates_slowly)
                    task_status.started(self)
                    await self._endpoint.serve(self._serve_connection)
        finally:
            self._endpoint.close()

    async def _send_updates_slowly(self) -> None:
        """Send to one client after the other, and give up when their set changes."""
        async for update in self._updates_receive:
            clients = list(self._outboxes)
            for client in clients:
                self._send_to(client, update)
                await trio.sleep(self.seconds_per_client or 0)
                if self._outboxes.keys() != set(clients):
                    break

    async def stop(self) -> None:
        """Refuse connections, and close those that are open with a close frame; `start` begins anew."""
        self._endpoint.refuse()
        with trio.move_on_after(GOODBYE_TIMEOUT):
            async with trio.open_nursery() as nursery:
                for connection in self._outboxes:
                    nursery.start_soon(connection.aclose, GOING_AWAY)
        self._endpoint.abort()

    def kill(self) -> None:
        """Refuse connections, and break those that are open without a close frame; `start` begins anew."""
        self._endpoint.refuse()
        self._endpoint.abort()

    def start(self) -> None:
        """Accept connections again, after `stop` or `kill`. The list of deployments is as it was."""
        self._endpoint.listen()

    def pause(self) -> None:
        """Fall silent: neither read nor write. Pings are not answered, and connections stay open."""
        self._endpoint.pause()

    def resume(self) -> None:
        """Go on after `pause`, with what has come meanwhile."""
        self._endpoint.resume()

    async def _serve_connection(self, stream: EndpointStream) -> None:
        try:
            async with trio.open_nursery() as nursery:
                connection = None
                with trio.move_on_after(HANDSHAKE_TIMEOUT):
                    request = await wrap_server_stream(nursery, stream, max_message_size=MAX_MESSAGE_BYTES)
                    connection = await request.accept()
                if connection is not None:
                    await self._converse(connection, request.path.strip("/"), nursery)
                # Now close frames are exchanged, if the peer still reads.
                nursery.cancel_scope.deadline = trio.current_time() + GOODBYE_TIMEOUT
        except* Exception as errors:  # wsproto's errors about a client leave the reader
            logger.debug("a coordinator's connection failed: %r", errors.exceptions)

    async def _converse(self, connection: WebSocketConnection, crunch_id: str, nursery: trio.Nursery) -> None:
        if crunch_id != self.crunch_id:
            text = f"unknown crunch {crunch_id!r}" if crunch_id else "no crunch id"
            await connection.send_message(json.dumps({"error": text}))
            await connection.aclose()
            return
        outbox, texts = trio.open_memory_channel[str](math.inf)
        init = json.dumps({"event": "init", "data": self.entries})
        for text in [init] if self.greeting is None else self.greeting:
            outbox.send_nowait(text)
        with outbox:
            nursery.start_soon(send_texts, connection, texts)
            self._outboxes[connection] = outbox
            self._something_happened.send()
            try:
                while True:
                    self._take_message(await connection.get_message())
            except ConnectionClosed:
                pass
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                logger.debug("a coordinator sent what can't be handled: %r", error)
                await connection.aclose(INTERNAL_ERROR)
            finally:
                del self._outboxes[connection]

    def _take_message(self, message: str | bytes) -> None:
        self.messages.append(message)
        self._something_happened.send()
        event = json.loads(message)
        if event["event"] != "report_failure":
            raise ValueError(f"unknown event {event['event']!r}")
        for report in event["data"]:
            for key in REQUIRED_REPORT_KEYS:
                report[key]
            self.reports.append(Report(report))


async def send_texts(connection: WebSocketConnection, texts: trio.MemoryReceiveChannel[str]) -> None:
    """Send what comes through `texts` until there is no more or nobody to send it to."""
    with texts:
        try:
            async for text in texts:
                await connection.send_message(text)
        except ConnectionClosed:
            pass
