"""One HTTP/2 connection on a byte stream: who reads, who writes, and how it ends.

The naive way is a lock around `send_all`, taken by whichever task has something to say. It breaks in two
places. A task that is cancelled in the middle of `send_all` leaves half a frame on the wire, and with it
corrupts every other stream on the connection. And a peer that stops reading blocks not only the task that
wrote to it but also, through the lock, the reset with which another one wants to leave.

So there is **one writer**; see `writer`. Callers only change the state of `http2.Http2Client`, which no
cancellation can interrupt, and then flush. One reader task feeds what arrives to the state machine and hands
each event to the receiver of its stream.

**Both tasks are shielded**, or the cancellation of whatever surrounds the connection would kill the writer
before it could say goodbye. They end when the stream breaks, or by `aclose`: calls are reset, a GOAWAY goes
out, all within the caller's time; then the socket is closed. A server that breaks the protocol is told so in
a GOAWAY, too, if it reads within half a second.

A connection that is lost never raises out of its tasks: the receivers are told, and whoever waits in
`wait_lost`. It is not reopened: a new one is a new `Connection`, which must prove itself anew.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..network.tls import explain
from ..text import readable
from .events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    GoAwayReceived,
    HeadersReceived,
    PingAcknowledged,
    SettingsReceived,
    StreamReset,
)
from .frames import ErrorCode, error_name
from .headers import RawFields
from .http2 import Buffer, Http2Client, Http2Stream
from .reader import SocketHub, read_until_end
from .receiver import CallInterrupted, Receiver
from .writer import Writer

__all__ = ["Connection"]

_LAST_WORDS_SECONDS: Final = 0.5
_LAST_READ_SECONDS: Final = 1.0


class Connection:
    """An HTTP/2 connection to one server.

    Args:
        stream: an open byte stream, which from now on is the connection's to close.
        max_header_bytes: the largest list of headers taken from the server, bytes.
        hub: what reads from plain sockets, if that is not for a task of the connection's own.

    Attributes:
        peer: who is at the other end, for messages.
        accepts_calls: a new call has a chance here: the connection stands, and its server did not say GOAWAY.
        pings_without_answer: PINGs sent since the last piece of any call's answer. Servers take offence
            at many.
        too_many_pings: the server has taken offence.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        peer: str = "server",
        max_header_bytes: int = 16 << 10,
        hub: SocketHub | None = None,
    ) -> None:
        self.peer = peer
        self._stream = stream
        self._http2 = Http2Client(max_header_bytes=max_header_bytes)
        self._progress = trio.lowlevel.ParkingLot()
        self._writer = Writer(stream, self._http2, self._progress)
        self._scope = trio.CancelScope(shield=True)
        self._ready = trio.Event()
        self._unusable = trio.Event()
        self.accepts_calls = True
        self._lost = False
        self._loss = ""
        self._ended = trio.Event()
        self._first_bytes = b""
        self._violation = ""
        self._hub = hub
        self._silent = True
        self._pings: dict[bytes, trio.Event] = {}
        self._pings_sent = 0
        self._idle = trio.Event()
        self.pings_without_answer = 0
        self.too_many_pings = False

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the server showed (X.509, DER); None on a plaintext connection."""
        if not isinstance(self._stream, trio.SSLStream):
            return None
        certificate: bytes | None = self._stream.getpeercert(binary_form=True)
        return certificate

    @property
    def peer_certificate_fields(self) -> dict[str, Any] | None:
        """What that certificate says, as `ssl.SSLSocket.getpeercert` has it; empty if it was not verified."""
        if not isinstance(self._stream, trio.SSLStream):
            return None
        fields: dict[str, Any] | None = self._stream.getpeercert()
        return fields

    @property
    def all_written(self) -> bool:
        """Whether nothing that was taken to be sent is still here: the kernel has it."""
        return self._writer.all_written

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self._lost

    @property
    def loss(self) -> str:
        """Why the connection takes no new calls; empty as long as it does."""
        return self._loss

    @enable_ki_protection
    async def run(self) -> None:
        """Read and write until the connection ends; `open_connection` starts this in a nursery.

        Only the peer, `aclose` and `abort` end it: it is shielded from cancellation.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    self._writer.flush()
                    await self._read()
                    nursery.cancel_scope.cancel()
        finally:
            self._writer.close()
            with trio.move_on_after(1, shield=True):  # `aclose` waits for it, whatever is cancelled around us
                await trio.aclose_forcefully(self._stream)
            self._ended.set()

    async def wait_ready(self) -> None:
        """Wait for the server's SETTINGS, before which nobody can say that it speaks HTTP/2.

        Raises:
            ConnectionError: the connection was lost first.
        """
        await self._ready.wait()
        if self._lost:
            raise ConnectionError(f"{self.peer}: {self._loss}")

    @enable_ki_protection
    def open(self, fields: RawFields, volatile: RawFields, receiver: Receiver) -> Http2Stream:
        """Begin a request; see `Http2Client.open_stream`. Nothing is sent before `flush`.

        Raises:
            CallInterrupted: the connection takes no new calls.
        """
        if not self.accepts_calls:
            raise CallInterrupted(self._loss or "it has ended", unprocessed=True, connection_lost=True)
        stream = self._http2.open_stream(fields, volatile, receiver=receiver)
        if not self._http2.accepts_streams:
            self._become_unusable("the connection's stream ids are used up")
        return stream

    @enable_ki_protection
    def send(self, stream: Http2Stream, data: Sequence[Buffer], *, end_stream: bool = False) -> None:
        """Send a piece of a request's body, in its turn; the buffers are not copied."""
        self._http2.send_data(stream, data, end_stream=end_stream)
        self._writer.flush()

    @enable_ki_protection
    def reset(self, stream: Http2Stream, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Leave a stream: the server is told, if it can know of it, and what still comes is ignored."""
        stream.receiver = None
        if not stream.closed:
            self._http2.reset_stream(stream, code)
            self._writer.flush()
            self._progress.unpark_all()
        if not self._http2.streams:
            self._idle.set()

    def acknowledge(self, stream: Http2Stream, flow_controlled_length: int) -> None:
        """Give back the window that a consumed piece of a body took, and tell the server now and then."""
        if self._http2.acknowledge(stream, flow_controlled_length):
            self._writer.flush()

    async def wait_unsent(self, stream: Http2Stream, limit: int) -> None:
        """Wait until at most `limit` bytes of a request's body wait to be sent, or the stream is closed."""
        await trio.lowlevel.checkpoint()
        while stream.unsent > limit and not stream.closed:
            await self._progress.park()

    @enable_ki_protection
    async def ping(self, timeout: float) -> bool:
        """Whether the server answers a PING within `timeout` seconds."""
        payload = struct.pack(">Q", self._pings_sent)
        self._pings_sent += 1
        self.pings_without_answer += 1
        answered = self._pings[payload] = trio.Event()
        try:
            self._http2.ping(payload)
            self._writer.flush()
            if self._lost:
                answered.set()
            with trio.move_on_after(timeout):
                await answered.wait()
        finally:
            self._pings.pop(payload, None)
        return answered.is_set() and not self._lost

    @enable_ki_protection
    async def watch(self, interval: float = math.inf, timeout: float = 20.0) -> None:
        """Wait until the connection takes no new calls; `loss` then says why.

        A connection that died in silence is found by a PING, but only where calls are open and nothing
        came: nodes answer PINGs on idle connections with GOAWAY after the third.

        Args:
            interval: seconds of silence before a PING; `math.inf` for none.
            timeout: seconds in which its answer must come, else the connection is lost.
        """
        await trio.lowlevel.checkpoint()
        while self.accepts_calls:
            self._silent = True
            with trio.move_on_after(interval):
                await self._unusable.wait()
            suspicious = self._silent and self._http2.streams and self.accepts_calls
            if suspicious and not await self.ping(timeout):
                self.abort(f"no answer to a PING within {timeout:g} s")

    @enable_ki_protection
    def abort(self, reason: str) -> None:
        """Give the connection up at once: calls on it are interrupted, the socket closes without goodbye."""
        self._lose(reason)
        self._scope.cancel()

    @enable_ki_protection
    def retire(self, reason: str) -> None:
        """Take no new calls; those that are open may end.

        The server isn't told before `aclose`: on a GOAWAY some, those on h2 for one, drop the open calls.
        """
        self._become_unusable(reason)

    @enable_ki_protection
    async def finish(self, grace: float = 1.0) -> None:
        """Take no new calls, wait until those that are open have ended, and close; see `aclose`."""
        try:
            self.retire("the connection is being closed")
            while self._http2.streams and not self._lost:
                if self._idle.is_set():
                    self._idle = trio.Event()
                await self._idle.wait()
        finally:
            await self.aclose(grace)  # noqa: ASYNC102 - which shields itself, for `grace` seconds

    @enable_ki_protection
    async def aclose(self, grace: float = 1.0) -> None:
        """End the connection: calls are reset, GOAWAY is sent, the socket is closed. Idempotent.

        Args:
            grace: the seconds that a peer which does not read can make this take. Cancellation is
                put off until it is done.
        """
        with trio.CancelScope(shield=True):
            if not self._lost:
                self._say_goodbye("the connection was closed")
            with trio.move_on_after(grace):
                await self._writer.wait_written()
            self.abort("the connection was closed")
            await self._ended.wait()

    def _become_unusable(self, reason: str) -> None:
        self._loss = self._loss or reason
        self.accepts_calls = False
        self._unusable.set()

    def _say_goodbye(self, reason: str) -> None:
        """Take no new calls, reset the open ones, and tell the server."""
        self._become_unusable(reason)
        for stream in self._http2.streams:
            receiver, unprocessed = stream.receiver, not stream.id
            self.reset(stream)
            _interrupt(receiver, CallInterrupted(reason, unprocessed=unprocessed, connection_lost=True))
        self._http2.close()
        self._writer.flush()

    def _lose(self, reason: str, *, last_words: bool = False) -> None:
        """Note that the connection is gone, and tell everybody who waits on it."""
        self._become_unusable(reason)
        self._lost = True
        if not last_words:
            self._writer.close()
        for stream in self._http2.streams:
            receiver, unprocessed = stream.receiver, not stream.id
            stream.receiver = None
            self._http2.reset_stream(stream)
            _interrupt(receiver, CallInterrupted(self._loss, unprocessed=unprocessed, connection_lost=True))
        self._ready.set()
        self._idle.set()
        self._progress.unpark_all()
        for answered in self._pings.values():
            answered.set()

    @enable_ki_protection
    async def _read(self) -> None:
        """Read until the connection is lost."""
        reason = "the server closed the connection"
        try:
            await read_until_end(self._stream, self._take_in, self._hub)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            reason = explain(error) or f"the connection broke: {error.__cause__ or error}"
        finally:
            reason = self._violation or reason
            reason = reason if self._ready.is_set() else self._explain_no_settings(reason)
            self._lose(reason, last_words=bool(self._violation))
        if self._violation:
            with trio.move_on_after(_LAST_WORDS_SECONDS):
                await self._writer.wait_written()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _take_in(self, data: bytes) -> bool:
        """Act on what the server sent; False if that was the last of it."""
        if self._lost or not data:
            self.accepts_calls = False
            return False
        self._silent = False
        if len(self._first_bytes) < 8:
            self._first_bytes += data[:8]
        for event in self._http2.receive(data):
            if isinstance(event, ConnectionTerminated):
                self._violation = f"the server broke the protocol: {event.reason}"
                self.accepts_calls = False
            else:
                self._dispatch(event)
        self._writer.flush()
        return not self._violation

    @enable_ki_protection
    async def _write(self) -> None:
        """Write until that fails, and then let the reader find out why, for a moment."""
        await self._writer.run()
        await trio.sleep(_LAST_READ_SECONDS)
        self.abort("the connection broke: it can be read, but not written")

    def _explain_no_settings(self, reason: str) -> str:
        if self._first_bytes.startswith((b"\x15\x03", b"\x16\x03")):
            return "the server speaks TLS, and this connection is plaintext"
        if self._first_bytes.startswith(b"HTTP/1"):
            return "the server speaks HTTP/1, not gRPC"
        if not self._first_bytes and reason.startswith(("the server closed", "the connection broke")):
            encrypted = isinstance(self._stream, trio.SSLStream)
            other = "a server that refuses our certificate" if encrypted else "a port that wants TLS"
            return f"{reason} before its HTTP/2 SETTINGS ({other} does that, too)"
        return reason

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, HeadersReceived):
            self.pings_without_answer = 0
            if (receiver := event.stream.receiver) is not None:
                receiver.headers_received(event.fields, end_stream=event.end_stream)
        elif isinstance(event, DataReceived):
            self.pings_without_answer = 0
            if (receiver := event.stream.receiver) is not None:
                receiver.data_received(event.data, event.flow_controlled_length, end_stream=event.end_stream)
        else:
            self._dispatch_rare(event)

    def _dispatch_rare(self, event: Event) -> None:
        match event:
            case StreamReset(stream, code, unprocessed, reason):
                text = reason or f"the server reset the call: {error_name(code)}"
                _interrupt(stream.receiver, CallInterrupted(text, unprocessed=unprocessed))
                stream.receiver = None
                self._progress.unpark_all()
            case PingAcknowledged(payload):
                if payload in self._pings:
                    self._pings[payload].set()
            case SettingsReceived():
                self._ready.set()
            case GoAwayReceived(_, code, debug_data):
                detail = f" ({readable(debug_data.decode('ascii', 'replace'), 200)})" if debug_data else ""
                self.too_many_pings = code == ErrorCode.ENHANCE_YOUR_CALM and debug_data == b"too_many_pings"
                self._become_unusable(f"the server said GOAWAY: {error_name(code)}{detail}")


def _interrupt(receiver: Receiver | None, error: CallInterrupted) -> None:
    if receiver is not None:
        receiver.interrupted(error)
