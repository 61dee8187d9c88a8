"""One HTTP/2 connection on a byte stream: who reads, who writes, and how it ends.

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

A connection goes through the states of `state.State`, forward only, and in one place (`_enter`). A GOAWAY
from the server is handled in `_on_goaway`. A connection that is lost never raises out of its tasks: the
receivers are told, and whoever waits in `watch`. It is not reopened: a new one is a new `Connection`.
"""

from __future__ import annotations

import math
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
from .keepalive import Keepalive
from .reader import Decrypting, SocketHub, Want, read_until_end
from .receiver import CallInterrupted, Receiver
from .state import State
from .streams import MaySend
from .writer import Writer

__all__ = ["Connection"]

_LAST_WORDS_SECONDS: Final = 0.5
_MOST_PINGS_WITHOUT_ANSWER: Final = 3
_LOST: State = State.LOST  # looked up at each piece that is read, which an enum's member takes long for
_NOTHING, _BYTES, _TURN = Want


class Connection:
    """An HTTP/2 connection to one server.

    Args:
        stream: an open byte stream, which from now on is the connection's to close.
        peer: who is at the other end, for messages.
        max_header_bytes: the largest list of headers taken from the server, bytes.
        hub: what reads from plain sockets, if that is not for a task of the connection's own.

    Attributes:
        peer: see above.
        state: how far it has come.
        accepts_calls: a new call has a chance here: the connection stands, and takes new calls.
        loss: why it takes no new calls; None as long as it does. The first reason stays: where the server
            said GOAWAY and then closed, that is the GOAWAY.
        usual_headers: those of a good answer, which are the same object as long as they don't change.
        last_good: headers and trailers of the last answer that was found to be good; None before that. They
            are the same objects again as long as they don't change.
        guard: gives, for a request's headers, what is asked before anything of the request is sent; see
            `Http2Stream.may_send`. None where everything may be sent.
        now: gives the time on Trio's clock, seconds; `trio.current_time` has to find the clock each time.
        on_retired: called when it takes no new calls any more, maybe more than once; or None.
        pings_without_answer: PINGs sent since the last piece of any call's answer. Servers take offence
            at many.
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
        self.accepts_calls = True
        self.loss: Ending | None = None
        self.usual_headers: Fields = ()
        self.last_good: tuple[Fields, Fields | None] | None = None
        self.guard: Callable[[RawFields], MaySend | None] | None = None
        self.on_retired: Callable[[], None] | None = None
        self.pings_without_answer = 0
        self.state = State.STARTING
        self.now = trio.lowlevel.current_clock().current_time
        self._tls = stream.codec if isinstance(stream, TLSStream) else None
        self._stream = stream.stream if isinstance(stream, TLSStream) else stream
        self._hub = hub if isinstance(self._stream, trio.SocketStream) else None
        self._http2 = Http2Client(max_header_bytes=max_header_bytes, clock=self.now)
        self._progress = Signal()  # something of the requests' bodies was taken to be written
        self._scope = trio.CancelScope(shield=True)
        self._writer = Writer(self._stream, self._tls, self._hub, self._http2, self._progress, self._scope)
        self._ready = trio.Event()  # the server's SETTINGS came, or it is lost
        self._retired = trio.Event()  # `loss` is known
        self._ended = trio.Event()  # the tasks have ended
        self._fell_idle = Signal()  # the last open call may have ended
        self._first_bytes = b""
        self._keepalive = Keepalive(self._send_ping)

    @property
    def peer_certificate(self) -> bytes | None:
        """The certificate that the server showed (X.509, DER); None on a plaintext connection."""
        return None if self._tls is None else self._tls.object.getpeercert(binary_form=True)

    @property
    def peer_certificate_fields(self) -> dict[str, Any] | None:
        """What that certificate says, as `ssl.SSLSocket.getpeercert` has it; empty if it was not verified."""
        return None if self._tls is None else self._tls.object.getpeercert()

    @property
    def all_written(self) -> bool:
        """Whether nothing that was taken to be sent is still here: the kernel has it."""
        return self._writer.all_written

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self.state is _LOST

    @property
    def idle(self) -> bool:
        """Whether no call is open on it."""
        return self._http2.idle

    @property
    def too_many_pings(self) -> bool:
        """Whether the server has retired it because of our PINGs."""
        return self.loss is not None and self.loss.cause is EndCause.TOO_MANY_PINGS

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

    async def wait_ready(self) -> None:
        """Wait for the server's SETTINGS, before which nobody can say that it speaks HTTP/2.

        Raises:
            ConnectionError: the connection was lost first.
        """
        await self._ready.wait()
        if self.lost:
            raise ConnectionError(f"{self.peer}: {self.loss}")

    def open(self, fields: RawFields, volatile: RawFields, receiver: Receiver) -> Http2Stream:
        """Begin a request; see `Http2Client.open_stream`. Nothing is sent before `send`.

        Raises:
            CallInterrupted: the connection takes no new calls.
        """
        if not self.accepts_calls:
            raise CallInterrupted(self.loss or "it has ended", unprocessed=True, connection_lost=True)
        stream = self._http2.open_stream(fields, volatile, receiver=receiver)
        if self.guard is not None:
            stream.may_send = self.guard(fields)
        if not self._http2.accepts_streams:
            self._retire_used_up()
        return stream

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
            raise CallInterrupted(self.loss or "it has ended", unprocessed=True, connection_lost=True)
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
        self._http2.fence = fence

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

    @property
    def may_ping(self) -> bool:
        """Whether the server would accept one more PING: nodes close the connection at the fifth."""
        return self.pings_without_answer < _MOST_PINGS_WITHOUT_ANSWER

    @enable_ki_protection
    async def ping(self, timeout: float, beside: Callable[[], None] = lambda: None) -> bool:
        """Whether the server gives a sign of life within `timeout` seconds after a PING.

        Args:
            timeout: seconds.
            beside: sends something else; that and the PING are one write.
        """
        self.pings_without_answer += 1
        return await self._keepalive.ping(timeout, beside) and not self.lost

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
        while not self._retired.is_set():
            silent = await self._keepalive.wait_silent(interval, self._retired)
            if silent and self.accepts_calls and not self.idle and not await self.ping(timeout):
                self.abort_silent(timeout)

    @enable_ki_protection
    def abort(self, reason: str, *, cause: EndCause = EndCause.CLOSED_BY_US) -> None:
        """Give the connection up at once: calls on it are interrupted, the socket closes without goodbye.

        Args:
            reason: why, in words for people.
            cause: why.
        """
        self._lose(Ending(cause, reason))
        self._writer.close()
        self._scope.cancel()

    def abort_silent(self, timeout: float) -> None:
        """Give the connection up: the server gave no sign of life within `timeout` seconds."""
        self.abort(f"no answer to a PING within {timeout:g} s", cause=EndCause.NO_ANSWER_TO_PING)

    @enable_ki_protection
    def retire(self, reason: str, *, cause: EndCause = EndCause.RETIRED) -> None:
        """Take no new calls; those that are open may end.

        The server isn't told before `aclose`: on a GOAWAY some, those on h2 for one, drop the open calls.
        The arguments are those of `abort`.
        """
        self._retire(Ending(cause, reason))

    @property
    def holds_unsent(self) -> bool:
        """Whether anything of a guarded request is still here: the kernel does not have all of it."""
        guarded = [stream for stream in self._http2.streams if stream.may_send is not None]
        return any(not stream.sent for stream in guarded) or (bool(guarded) and not self.all_written)

    @enable_ki_protection
    def retire_unsent(self, reason: str) -> None:
        """Take no new calls, and let only those go on that wait for the answer to a guarded request.

        All others end: what of a guarded request was not handed over is not sent, and a stream of answers
        that has begun could go on for ever. But where the writer is stuck, nobody can say how much of which
        request the kernel has: then the connection ends at once.

        Args:
            reason: why, in words for people.
        """
        ending = Ending(EndCause.RETIRED, reason)
        if self.holds_unsent and not self.all_written:
            self.abort(reason, cause=EndCause.RETIRED)
        self._retire(ending)
        for stream in self._http2.streams:
            if stream.may_send is None or not stream.sent or stream.brings_messages:
                self._cut_off(stream, ending)
        self._writer.flush()
        self._progress.send()
        self._fell_idle.send()

    async def wait_idle(self) -> None:
        """Wait until no call is open on a connection that takes no new ones; no checkpoint if none is."""
        await self._fell_idle.wait_until(lambda: self.idle or self.lost)

    @enable_ki_protection
    async def finish(self, grace: float = 1.0) -> None:
        """Take no new calls, wait until those that are open have ended, and close; see `aclose`."""
        try:
            self.retire("the connection is being closed", cause=EndCause.CLOSED_BY_US)
            await trio.lowlevel.checkpoint()
            await self.wait_idle()
        finally:
            await self.aclose(grace)  # noqa: ASYNC102 - which shields itself, for `grace` seconds

    @enable_ki_protection
    async def aclose(self, grace: float = 1.0, *, reason: str = "the connection was closed") -> None:
        """End the connection: calls are reset, GOAWAY is sent, the socket is closed. Idempotent.

        A request that still waited for its turn is not sent: its call is interrupted as unprocessed.

        Args:
            grace: the seconds that a peer which does not read can make this take. Cancellation is
                put off until it is done.
            reason: what open calls are told.
        """
        ending = Ending(EndCause.CLOSED_BY_US, reason)
        with trio.CancelScope(shield=True):
            if not self.lost:
                self._say_goodbye(ending)
            with trio.move_on_after(grace):
                await self._writer.wait_written()
            self.abort(ending.detail)
            await self._ended.wait()

    def _enter(self, state: State) -> None:
        """Go on to a state, unless the connection has come further already."""
        if state > self.state:
            self.state = state
            self.accepts_calls = state <= State.OPEN

    def _retire(self, ending: Ending, state: State = State.RETIRING) -> None:
        self.loss = self.loss or ending
        self._enter(state)
        self._retired.set()
        if self.on_retired is not None:
            self.on_retired()

    def _retire_used_up(self) -> None:
        self._retire(Ending(EndCause.STREAM_IDS_USED_UP, "the connection's stream ids are used up"))

    def _say_goodbye(self, ending: Ending) -> None:
        """Take no new calls, reset the open ones, and tell the server."""
        self._retire(ending, State.CLOSING)
        self._http2.refuse_streams()  # or a reset would make room for a request that waits, and send it
        self._interrupt_calls(ending)
        self._http2.close()
        self._writer.finish()
        self._writer.flush()

    def _lose(self, ending: Ending, *, last_words: bool = False) -> None:
        """Note that the connection is gone, and tell everybody who waits on it. The first time counts.

        With `last_words`, there is something to be written yet.
        """
        if self.lost:
            return
        if ending.cause is EndCause.TOO_MUCH_WORK:
            self.loss = ending  # who says GOAWAY first and then sends too much has not retired in peace
        self._retire(ending, State.LOST)
        if not last_words:
            self._writer.close()
        assert self.loss is not None
        self._interrupt_calls(self.loss)
        self._ready.set()
        self._keepalive.give_up()

    def _send_ping(self, payload: bytes, beside: Callable[[], None]) -> None:
        self._http2.ping(payload)
        beside()
        self._writer.flush()
        if self.lost:
            self._keepalive.give_up()

    def _interrupt_calls(self, ending: Ending) -> None:
        for stream in self._http2.streams:
            self._cut_off(stream, ending)
        self._progress.send()
        self._fell_idle.send()

    def _cut_off(self, stream: Http2Stream, ending: Ending) -> None:
        receiver, unprocessed = stream.receiver, not stream.id
        stream.receiver = None
        self._http2.reset_stream(stream)
        _interrupt(receiver, CallInterrupted(ending, unprocessed=unprocessed))

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
                _interrupt(receiver, CallInterrupted(text, unprocessed=unprocessed))
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


def _interrupt(receiver: Receiver | None, error: CallInterrupted) -> None:
    if receiver is not None:
        receiver.interrupted(error)
