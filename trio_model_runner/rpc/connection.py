"""One HTTP/2 connection on a byte stream: the calls on it, who writes, and who reads.

The naive way is a lock around `send_all`, taken by whichever task has something to say. It breaks in two
places. A task that is cancelled in the middle of `send_all` leaves half a frame on the wire, and with it
corrupts every other stream on the connection. And a peer that stops reading blocks not only the task that
wrote to it but also, through the lock, the reset with which another one wants to leave.

So there is **one writer**; see `writer`. Callers only change the state of `http2.Http2Client`, which no
cancellation can interrupt, and then flush. One reader feeds what arrives to the state machine and hands each
event to the receiver of its stream. On a socket in a `SocketHub`, neither needs a task of its own: the one in
`Connection.run` only waits for the end.

**All tasks are shielded**, or the cancellation of whatever surrounds the connection would kill the writer
before it could say goodbye. They end when the stream breaks, or by `aclose`: calls are reset, a GOAWAY goes
out, all within the caller's time; then the socket is closed. A server that breaks the protocol is told so in
a GOAWAY, too, if it reads within half a second.

How a connection ends is in `life`, of which this adds what only the reader can know: how the byte stream
ended, and what the server said. A GOAWAY from the server is handled in `_on_goaway`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import trio
from trio.lowlevel import enable_ki_protection

from ..network.tls import TLSStream
from ..signal import Signal
from . import events
from .ending import EndCause, Ending, explain_no_settings
from .events import DataReceived, Event, HeadersReceived, WholeAnswer
from .frames import ErrorCode, error_name
from .headers import Fields, RawFields
from .http2 import Buffer, Http2Client, Http2Stream
from .life import ConnectionLife
from .reader import Decrypting, SocketHub, Want, read_until_end
from .receiver import CallInterrupted, Receiver
from .state import State
from .streams import MaySend
from .writer import Writer

__all__ = ["Connection"]

_LAST_WORDS_SECONDS: Final = 0.5
_LOST: State = State.LOST  # looked up at each piece that is read, which an enum's member takes long for
_NOTHING, _BYTES, _TURN = Want


class Connection(ConnectionLife):
    """An HTTP/2 connection to one server.

    Args:
        stream: an open byte stream, which from now on is the connection's to close.
        peer: who is at the other end, for messages.
        max_header_bytes: the largest list of headers taken from the server, bytes.
        hub: what reads from plain sockets, if that is not for a task of the connection's own.

    Attributes (and those of `ConnectionLife`):
        usual_headers: those of a good answer, which are the same object as long as they don't change.
        last_good: headers and trailers of the last answer that was found to be good; None before that. They
            are the same objects again as long as they don't change.
        guard: gives, for a request's headers, what is asked before anything of the request is sent; see
            `Http2Stream.may_send`. None where everything may be sent.
        now: gives the time on Trio's clock, seconds; `trio.current_time` has to find the clock each time.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        peer: str = "server",
        max_header_bytes: int = 16 << 10,
        hub: SocketHub | None = None,
    ) -> None:
        self.usual_headers: Fields = ()
        self.last_good: tuple[Fields, Fields | None] | None = None
        self.guard: Callable[[RawFields], MaySend | None] | None = None
        self.now = trio.lowlevel.current_clock().current_time
        self._tls = stream.codec if isinstance(stream, TLSStream) else None
        self._stream = stream.stream if isinstance(stream, TLSStream) else stream
        self._hub = hub if isinstance(self._stream, trio.SocketStream) else None
        self._first_bytes = b""
        http2 = Http2Client(max_header_bytes=max_header_bytes, clock=self.now)
        progress, scope = Signal(), trio.CancelScope(shield=True)
        writer = Writer(self._stream, self._tls, self._hub, http2, progress, scope)
        super().__init__(http2, writer, peer=peer, progress=progress, scope=scope)

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the server showed (X.509, DER); None on a plaintext connection."""
        return None if self._tls is None else self._tls.object.getpeercert(binary_form=True)

    @property
    def peer_certificate_fields(self) -> dict[str, Any] | None:
        """What that certificate says, as `ssl.SSLSocket.getpeercert` has it; empty if it was not verified."""
        return None if self._tls is None else self._tls.object.getpeercert()

    @enable_ki_protection
    async def run(self) -> None:
        """Read and write until the connection ends; `open_connection` starts this in a nursery.

        Only the peer, `aclose` and `abort` end it: it is shielded from cancellation.
        """
        try:
            with self._scope:
                if self._hub is not None:
                    self._writer.flush()
                    await self._read()
                else:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._writer.run)
                        self._writer.flush()
                        await self._read()
                        nursery.cancel_scope.cancel()
        finally:
            self._writer.close()
            with trio.move_on_after(1, shield=True):  # `aclose` waits for it, whatever is cancelled around us
                await trio.aclose_forcefully(self._stream)
            self._ended.set()

    def open(self, fields: RawFields, volatile: RawFields, receiver: Receiver) -> Http2Stream:
        """Begin a request; see `Http2Client.open_stream`. Nothing is sent before `send`.

        Raises:
            CallInterrupted: the connection takes no new calls.
        """
        if not self.accepts_calls:
            raise self._takes_no_calls()
        stream = self._http2.open_stream(fields, volatile, receiver=receiver)
        if self.guard is not None:
            stream.may_send = self.guard(fields)
        if not self._http2.accepts_streams:
            self._retire_used_up()
        return stream

    def _takes_no_calls(self) -> CallInterrupted:
        return CallInterrupted(self.loss or "it has ended", unprocessed=True, connection_lost=True)

    def request(
        self,
        fields: RawFields,
        volatile: RawFields,
        data: Sequence[Buffer],
        receiver: Receiver,
        *,
        unguarded: bool = False,
    ) -> Http2Stream:
        """Begin a request and send all of it, in its turn.

        Args:
            fields: its headers; see `Http2Client.open_stream`.
            volatile: those that differ from call to call.
            data: its body; the buffers are not copied, unless they are small.
            receiver: takes the response.
            unguarded: there is nothing in it that `guard` would have to hold back.

        Raises:
            CallInterrupted: the connection takes no new calls.
        """
        if not self.accepts_calls:
            raise self._takes_no_calls()
        may_send = None if unguarded or self.guard is None else self.guard(fields)
        writer = self._writer
        stream, whole = self._http2.send_whole(
            fields, volatile, data, receiver=receiver, may_send=may_send, now=writer.idle
        )
        if whole is not None:
            writer.put(whole)
        else:
            writer.flush()
        if not self._http2.accepts_streams:
            self._retire_used_up()
        return stream

    def send(self, stream: Http2Stream, data: Sequence[Buffer], *, end_stream: bool = False) -> None:
        """Send a piece of a request's body, in its turn; the buffers are not copied."""
        self._http2.send_data(stream, data, end_stream=end_stream)
        self._writer.flush()

    def fence_off(self, fence: MaySend) -> None:
        """Have a fence asked before anything of any request is sent; see `Sender.fence`."""
        self._http2.fence_off(fence)

    def send_held_back(self) -> None:
        """Send what a fence, or a guard, has held back, if it may be sent by now."""
        self._writer.flush()

    def leave(self, stream: Http2Stream) -> None:
        """Be done with a stream: what still comes for it is ignored. Idempotent.

        If it is still open, it is reset, so that the server hears of it: with CANCEL, or with NO_ERROR where
        the whole response has come and only the rest of the request is not wanted (RFC 9113, section 8.1).
        """
        stream.receiver = None
        if not stream.closed:
            self._http2.reset_stream(stream, ErrorCode.NO_ERROR if stream.answered else ErrorCode.CANCEL)
            self._writer.flush()
            self._progress.send()
        if not self.accepts_calls:  # or nobody is in `finish`
            self._fell_idle.send()

    def note_message(self, stream: Http2Stream) -> None:
        """A whole message has come, in a response that may have many."""
        self._http2.note_message(stream)

    def acknowledge(self, stream: Http2Stream, flow_controlled_length: int) -> None:
        """Give back the window that a consumed piece of a body took, and tell the server now and then."""
        if self._http2.acknowledge(stream, flow_controlled_length):
            self._writer.flush()

    async def wait_unsent(self, stream: Http2Stream, limit: int) -> None:
        """Wait until at most `limit` bytes of a request's body wait to be sent, or the stream is closed."""
        await trio.lowlevel.checkpoint()
        await self._progress.wait_until(lambda: stream.unsent <= limit or stream.closed)

    def _retire_used_up(self) -> None:
        self._retire(Ending(EndCause.STREAM_IDS_USED_UP, "the connection's stream ids are used up"))

    async def _read(self) -> None:
        """Read until the connection is lost, and then have the last words written."""
        ending = Ending(EndCause.CLOSED_BY_SERVER, "the server closed the connection")
        try:
            if self._tls is None:
                await read_until_end(self._stream, self, self._hub)
            else:
                consumer = Decrypting(self._tls, self)
                await read_until_end(self._stream, consumer, self._hub, consumer.wants_first)
        except trio.Cancelled:  # the writer's wish, if it is not that of `abort`, which has said why
            ending = Ending(EndCause.BROKEN, "the connection broke: it can be read, but not written")
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            ending = Ending.by_error(error)
        finally:
            self._lose(self._explain(ending))
        self._writer.finish()
        self._writer.flush()
        with trio.move_on_after(_LAST_WORDS_SECONDS):
            await self._writer.wait_written()

    def take_in(self, data: bytes) -> Want:
        """Act on what the server sent; for the reader, see `reader.Consumer`."""
        if self.state is _LOST:
            return _NOTHING
        if data:
            self._keepalive.pieces_read += 1
            if self._keepalive.unanswered:
                self._keepalive.heard()
            if len(self._first_bytes) < 8:
                self._first_bytes += data[:8]
        if (found := self._http2.receive_answer(data)) is not None:
            answer, data = found
            self._dispatch_answer(answer)
            if not data:
                return _NOTHING if self.state is _LOST else _BYTES
        for event in self._http2.receive(data):
            self._dispatch(event)
        self._writer.flush()
        if self.state is _LOST:
            return _NOTHING
        return _TURN if self._http2.turn_over else _BYTES

    def note_bytes(self) -> None:
        """The server sent something that TLS keeps or answers; for the reader, see `reader.TLSConsumer`."""
        self._keepalive.note_bytes()
        self._writer.flush()

    def end(self) -> None:
        """Nothing more can be read; for the reader, see `reader.Consumer`."""
        self._enter(State.ENDING)

    def _explain(self, ending: Ending) -> Ending:
        if self._ready.is_set():
            return ending
        return explain_no_settings(ending, self._first_bytes, encrypted=self._tls is not None)

    def _dispatch_answer(self, answer: WholeAnswer) -> None:
        self.pings_without_answer = 0
        if (receiver := answer.stream.receiver) is not None:
            receiver.answer_received(answer.headers, answer.body, answer.trailers)
        if self._writer.has_more:
            self._writer.flush()

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, HeadersReceived):
            self.pings_without_answer = 0
            if (receiver := event.stream.receiver) is not None:
                receiver.headers_received(
                    event.fields, end_stream=event.end_stream, over_limit=event.over_limit
                )
        elif isinstance(event, DataReceived):
            self.pings_without_answer = 0
            if (receiver := event.stream.receiver) is not None:
                receiver.data_received(event.data, event.flow_controlled_length, end_stream=event.end_stream)
        else:
            self._dispatch_rare(event)

    def _dispatch_rare(self, event: Event) -> None:
        match event:
            case events.StreamReset(stream, code, unprocessed, reason):
                receiver, stream.receiver = stream.receiver, None
                after = " after a GOAWAY" if self.loss is not None and self.loss.code is not None else ""
                text = reason or f"the server reset the call{after}: {error_name(code)}"
                if receiver is not None:
                    receiver.interrupted(CallInterrupted(text, unprocessed=unprocessed))
                self._progress.send()
            case events.SettingsReceived():
                self._enter(State.OPEN)
                self._ready.set()
            case events.GoAwayReceived():
                self._on_goaway(event)
            case events.ConnectionTerminated(code, reason):
                self._lose(self._explain(Ending.by_violation(code, reason)), last_words=True)

    def _on_goaway(self, goaway: events.GoAwayReceived) -> None:
        """Take no new calls, as the server won't. A `StreamReset` follows for each that it won't answer."""
        self._retire(Ending.by_goaway(goaway.code, goaway.debug_data))
