"""One WebSocket connection over a byte stream, with trio-websocket inside.

trio-websocket does the protocol well, but reports failures badly. If a peer closes in the middle of the
handshake, the caller waits for ever. A refusal is raised by a task in the background, in a group. An answer
that is no HTTP leaves no trace. Some errors are exceptions of its protocol library. `WebSocket` turns all of
them into one `WebSocketLost`, with a text that helps a person. To say what kind of server answered, it looks
at the first bytes that come.

The reader of trio-websocket waits until each message is taken, and answers no pings meanwhile. So a program
with a `WebSocket` must call `WebSocket.receive` again soon after each message. This module knows nothing of
what messages say.

A ping asks whether the connection is dead. RFC 6455 (section 5.5.2) wants its answer "as soon as is
practical", and a peer in the middle of a large message can't send it before the end (section 5.4 lets it come
between fragments, but few peers send fragments). On a slow line that takes minutes. But a line that brings
bytes is not dead. So each byte that comes starts the wait for an answer anew.

trio-websocket bounds a message's text, but not the frames that bring it: it keeps the pieces of endless empty
fragments, answers endless pings, and lets no other task run meanwhile. So frames are counted before it gets
them; see `framing`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, TypeVar, cast

import trio

from ..network.addresses import authority_host
from ..network.tls import TLSStream, explain
from ..text import quoted
from .framing import FrameCounter, TooManyFramesError, end_of_handshake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import trio_websocket

__all__ = ["WebSocket", "WebSocketLost", "host_header"]

T = TypeVar("T")

_RECEIVE_BYTES = 64 * 1024
_HANDSHAKE_BYTES = 1024 * 1024  # the longest answer to the handshake, with the body of a refusal
_FIRST_BYTES = 200
_PIECE_BYTES = 16 * 1024  # a part of a frame is handed over when it is as long, or ends
_ABNORMAL_CLOSURE = 1006  # no close frame came (RFC 6455, section 7.4.1)
_HTTP2_SETTINGS: Final = b"\4"
"""The type of the frame that a server of HTTP/2 sends first, after three bytes of length."""

_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake; then a version (RFC 8446, section 5.1)


class WebSocketLost(Exception):
    """There is no connection, or it has ended. The text says why."""


class WebSocket:
    """An open connection."""

    def __init__(
        self, connection: trio_websocket.WebSocketConnection, reader: _Reader, stream: _WatchedStream
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._stream = stream

    @property
    def received(self) -> int:
        """How many bytes have come, the handshake's included."""
        return self._stream.received

    @classmethod
    async def open(
        cls, nursery: trio.Nursery, stream: trio.abc.Stream, *, host: str, path: str, max_message_bytes: int
    ) -> WebSocket:
        """Do the opening handshake over `stream`. The caller must close the stream in the end.

        Args:
            nursery: the connection's reader runs in it, and raises nothing.
            stream: a connection to the server.
            host: the ``Host`` header; see `host_header`.
            path: the request target, percent-encoded.
            max_message_bytes: the largest message that is read; a larger one ends the connection. So does one
                of too many fragments, and so do too many control frames; see `framing`.

        Raises:
            WebSocketLost: the server refused, spoke something else, or went away.
        """
        import trio_websocket  # late: it imports h11 and wsproto

        watched = _WatchedStream(stream)
        reader = _Reader(nursery)
        with reader.until_it_ends():
            connection = await trio_websocket.wrap_client_stream(
                cast("trio.Nursery", reader),
                cast("trio.SocketStream", watched),
                host,
                path,
                max_message_size=max_message_bytes,
                receive_buffer_size=_RECEIVE_BYTES,
            )
            return cls(connection, reader, watched)
        encrypted = isinstance(stream, TLSStream)
        raise WebSocketLost(
            _describe_failed_handshake(reader.error, watched.first_bytes, encrypted=encrypted)
        )

    async def receive(self) -> str | bytes:
        """Wait for the next message.

        Raises:
            WebSocketLost: the connection is gone.
        """
        return await self._until_lost(self._connection.get_message)

    async def send(self, message: str) -> None:
        """Send a message. When this returns, the operating system has it.

        Raises:
            WebSocketLost: the connection is gone. The message may have been sent.
        """
        await self._until_lost(self._connection.send_message, message)

    async def ping(self) -> None:
        """Send a ping and wait for the answer to it; see also `until_silent`.

        Raises:
            WebSocketLost: the connection is gone.
        """
        await self._until_lost(self._connection.ping)

    @contextlib.contextmanager
    def until_silent(self, timeout: float) -> Iterator[trio.CancelScope]:
        """Leave the block when no byte has come for `timeout` seconds; for one task at a time."""
        with trio.move_on_after(timeout) as patience:
            self._stream.patience, self._stream.timeout = patience, timeout
            try:
                yield patience
            finally:
                self._stream.patience = None

    async def aclose(self) -> None:
        """Send a close frame, wait for the peer's, and close the stream. If cancelled, close the stream."""
        with self._reader.until_it_ends():
            try:
                await self._connection.aclose()
            except Exception:  # while closing, errors of the connection don't matter
                await trio.lowlevel.checkpoint()

    async def _until_lost(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        try:
            return await function(*args)
        except Exception as error:  # errors of several layers leave trio-websocket
            text = self._stream.refusal or _loss_text(self._reader.error or error)
            raise WebSocketLost(text) from error


class _Reader:
    """Takes the place of the nursery in which trio-websocket starts its reader, to see when and why it ends.

    Attributes:
        error: what the reader raised, or None.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.error: Exception | None = None
        self._nursery = nursery
        self._ended = False
        self._scopes: set[trio.CancelScope] = set()

    @contextlib.contextmanager
    def until_it_ends(self) -> Iterator[None]:
        """Leave the block when the reader ends."""
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            if self._ended:
                scope.cancel()
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        """Start the reader."""
        self._nursery.start_soon(self._run, function)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, function: Callable[[], Awaitable[None]]) -> None:
        try:
            await function()
        except Exception as error:  # what a peer sends may end its own connection only
            self.error = error
        finally:
            self._ended = True
            for scope in self._scopes:
                scope.cancel()


class _WatchedStream(trio.abc.Stream):
    """A stream that keeps the first bytes, and fails if a server sends too much for what it brings.

    It fails if too many bytes come before the handshake is done, or too many frames come afterwards.

    Attributes:
        first_bytes: the first bytes that were received.
        received: how many bytes were received.
        refusal: why it has failed, if it did so after the handshake.
        patience: its deadline is put off to `timeout` seconds from now whenever something is received.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.first_bytes = b""
        self.received = 0
        self.refusal: str | None = None
        self.patience: trio.CancelScope | None = None
        self.timeout = 0.0
        self._stream = stream
        self._answer = bytearray()  # to the handshake
        self._early = b""  # frames that came together with it
        self._frames: FrameCounter | None = None  # None until it has come

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._frames is None:
            return await self._receive_answer(max_bytes)
        data: bytes | bytearray = self._early
        self._early = b""
        received = bytearray()
        while True:
            if data:
                await trio.lowlevel.checkpoint()
            else:
                data = await self._receive(max_bytes)
            received += data
            if not data or self._count(self._frames, data) or len(received) >= _PIECE_BYTES:
                return received
            data = b""

    async def _receive_answer(self, max_bytes: int | None) -> bytes | bytearray:
        """Receive a part of the answer to the handshake, and nothing of what follows it."""
        data = await self._receive(max_bytes)
        self.first_bytes += data[: _FIRST_BYTES - len(self.first_bytes)]
        before = len(self._answer)
        self._answer += data
        end = end_of_handshake(self._answer, before)
        if end is None:
            if len(self._answer) > _HANDSHAKE_BYTES:
                raise trio.BrokenResourceError("too long an answer to the handshake")
            return data
        self._frames = FrameCounter(trio.current_time())
        self._early = bytes(self._answer[end:])
        self._answer.clear()
        return data[: end - before]

    def _count(self, frames: FrameCounter, data: bytes | bytearray) -> bool:
        try:
            return frames.feed(data, trio.current_time())
        except TooManyFramesError as error:
            self.refusal = f"the server sends too many frames: {error}"
            raise trio.BrokenResourceError(self.refusal) from error

    async def _receive(self, max_bytes: int | None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        self.received += len(data)
        if self.patience is not None:
            self.patience.deadline = trio.current_time() + self.timeout
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


def host_header(host: str, port: int, *, default_port: int = 80) -> str:
    """Make the ``Host`` header for a server (RFC 9110, section 7.2).

    It is the host as the other end is told it (`authority_host`); an IPv6 address has brackets there. The
    port is left out if it is the scheme's, 80 for ``ws`` and 443 for ``wss``.

    Raises:
        OSError: no host can have that name.
    """
    host = authority_host(host)
    if ":" in host:
        host = f"[{host}]"
    return host if port == default_port else f"{host}:{port}"


def _describe_failed_handshake(error: Exception | None, first_bytes: bytes, *, encrypted: bool) -> str:
    import trio_websocket

    if isinstance(error, trio_websocket.ConnectionRejected):
        body = f": {quoted(error.body.decode('utf-8', 'replace').strip())}" if error.body else ""
        return f"the server refused the handshake with HTTP status {error.status_code}{body}"
    if error is not None and (reason := explain(error)):
        return reason
    if not first_bytes:
        hint = "" if encrypted else " (a port that wants TLS does that, too)"
        return f"the server closed the connection during the handshake{hint}"
    if first_bytes.startswith(_TLS_RECORDS):
        return "the server speaks TLS, which is switched off here: tls=True, or tls_ca_file, switches it on"
    if first_bytes[:1] == b"\0" and first_bytes[3:4] == _HTTP2_SETTINGS:
        return "the server does not speak WebSocket, but HTTP/2, as nodes do: is it a node's port?"
    answer = quoted(first_bytes.partition(b"\r\n")[0].decode("latin-1"))
    return f"the server does not speak WebSocket: it answered {answer}"


def _loss_text(error: Exception) -> str:
    import trio_websocket

    if not isinstance(error, trio_websocket.ConnectionClosed):
        if reason := explain(error):
            return reason
        return f"{type(error).__name__}: {quoted(str(error))}"
    if error.reason is None or error.reason.code == _ABNORMAL_CLOSURE:
        return "the connection was lost"
    said = f": {quoted(error.reason.reason)}" if error.reason.reason else ""
    return f"the connection was closed with code {error.reason.code} ({error.reason.name}){said}"
