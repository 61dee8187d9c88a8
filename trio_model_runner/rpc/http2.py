"""HTTP/2 as a client speaks it (RFC 9113), without any I/O: bytes in, events out, and bytes to send.

`Http2Client` is the whole state of one connection. Whoever owns the socket feeds what it read to `receive`
and acts on the events; asks for streams with `open_stream` and `send_data`; and writes whatever
`data_to_send` gives, whenever the socket takes it. It knows nothing of sockets, tasks or gRPC, so tests
drive it with bytes alone. Of time it knows what a clock says that it was given.

Three decisions shape it.

**What is to be sent waits here, not in the socket's queue**, and becomes frames only when the writer asks for
bytes; see `streams`. So a request that is cancelled before that was certainly never sent, and may be sent
again elsewhere, which `StreamReset.unprocessed` says.

**The connection's receive window is returned at once, a stream's only when its data is consumed.** Memory
is bounded by the streams' windows; and no cancelled stream can take the connection's credit with it.

**A peer that breaks the protocol ends the connection with an event, never with an exception**, after the
events of everything before it in the same bytes. What a peer can make us hold is bounded: header blocks,
the frames that carry one, and answers (to PING and SETTINGS) that it makes us queue without reading them.
So is what it can make us do: `budget` has the prices. A turn of `receive` ends early where a peer spends
much, so that others have theirs.

Server push is switched off, so the only streams are ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from . import budget, frames
from .budget import WorkBudget
from .control_frames import ControlFrames
from .events import ConnectionTerminated, Event, WholeAnswer
from .frames import ErrorCode, Flag, FrameType, ProtocolViolation, Setting, require
from .headers import RawFields
from .stream_frames import StreamFrames
from .streams import Buffer, Http2Stream, MaySend, Sender

__all__ = ["Buffer", "Http2Client", "Http2Stream"]


class Http2Client:
    """The client's side of one HTTP/2 connection.

    Args:
        stream_window: how much of one response the server may send ahead of its consumption, bytes.
        connection_window: the same over all responses, ahead of our reading, bytes; 65,535 at least.
        max_header_bytes: the largest list of headers taken, bytes (name, value and 32 for each field).
        clock: gives the time, in seconds.
    """

    def __init__(
        self,
        *,
        stream_window: int = 1 << 20,
        connection_window: int = 4 << 20,
        max_header_bytes: int = 16 << 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream_window = stream_window
        self._budget = WorkBudget(clock)
        self._sender = Sender()
        self._control = ControlFrames(self._sender, self._budget)
        self._responses = StreamFrames(
            self._sender,
            self._budget,
            connection_window=max(connection_window, frames.DEFAULT_WINDOW),
            max_header_bytes=max_header_bytes,
        )
        self._buffer = b""
        self._handshaken = False
        self._terminated = self._said_goodbye = False
        self._sender.control(frames.CONNECTION_PREFACE)
        settings = (
            (Setting.ENABLE_PUSH, 0),
            (Setting.INITIAL_WINDOW_SIZE, stream_window),
            (Setting.MAX_HEADER_LIST_SIZE, max_header_bytes),
        )
        self._sender.control(frames.settings_frame(settings))
        if connection_window > frames.DEFAULT_WINDOW:
            self._sender.control(frames.window_update_frame(0, connection_window - frames.DEFAULT_WINDOW))

    @property
    def accepts_streams(self) -> bool:
        """Whether a new stream has a chance: the connection is neither ended, nor ending, nor used up."""
        return self._sender.accepts_streams

    def fence_off(self, fence: MaySend) -> None:
        """Have a fence asked before anything of any request is sent; see `Sender.fence`."""
        self._sender.fence = fence

    @property
    def streams(self) -> list[Http2Stream]:
        """The streams that are not closed; those that the server can't know of have the id 0."""
        return self._sender.all_streams

    @property
    def idle(self) -> bool:
        """Whether all streams are closed."""
        return not (self._sender.streams or self._sender.unopened)

    @property
    def turn_over(self) -> bool:
        """Whether the last `receive` has left bytes for the next one, to let others have their turn."""
        return self._budget.turn_over and bool(self._buffer)

    def open_stream(
        self, fields: RawFields, volatile: RawFields = (), *, receiver: Any = None
    ) -> Http2Stream:
        """Ask for a new stream with these request headers; `data_to_send` opens it when it may be opened.

        Args:
            fields: headers that repeat from call to call, pseudo-headers first; see `headers`.
            volatile: headers that don't.
            receiver: kept as the stream's `receiver`.

        Raises:
            RuntimeError: the connection takes no new streams; see `accepts_streams`.
        """
        stream = self._new_stream(fields, volatile, receiver)
        self._sender.add(stream)
        return stream

    def _new_stream(self, fields: RawFields, volatile: RawFields, receiver: Any) -> Http2Stream:
        if not self._sender.accepts_streams:
            raise RuntimeError("this connection takes no new streams")
        stream = Http2Stream(fields, volatile, receiver)
        stream.receive_window = self._stream_window
        return stream

    def send_whole(
        self,
        fields: RawFields,
        volatile: RawFields,
        data: Sequence[Buffer],
        *,
        receiver: Any,
        may_send: MaySend | None,
        now: bool,
    ) -> tuple[Http2Stream, bytes | None]:
        """Ask for a new stream with a whole request; see `open_stream` and `send_data`.

        Args:
            fields: see `open_stream`.
            volatile: see `open_stream`.
            data: see `send_data`.
            receiver: see `open_stream`.
            may_send: see `Http2Stream.may_send`.
            now: what is to be sent can be written now.

        Returns:
            the stream, and the bytes to be sent for it, which count as sent as those of `data_to_send`; or
            None: then `data_to_send` gives them when they may be sent.

        Raises:
            RuntimeError: see `open_stream`.
        """
        stream = self._new_stream(fields, volatile, receiver)
        stream.may_send = may_send
        whole = self._sender.send_whole(stream, data) if now else None
        if whole is None:
            self._sender.add(stream)
            self._sender.queue(stream, data, end_stream=True)
        return stream, whole

    def send_data(self, stream: Http2Stream, data: Sequence[Buffer], *, end_stream: bool = False) -> None:
        """Queue the next piece of a request's body; its buffers are kept, not copied, until they are sent.

        Nothing happens on a stream that is closed: whoever waits for its response learns of it there.

        Raises:
            RuntimeError: the request was ended already.
        """
        if stream.closed:
            return
        if stream.end_queued:
            raise RuntimeError("the request was ended already")
        self._sender.queue(stream, data, end_stream=end_stream)

    def reset_stream(self, stream: Http2Stream, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Abandon a stream: nothing more of it is sent, and what still comes for it is ignored."""
        if stream.closed:
            return
        if stream.id and not stream.answered:
            self._budget.expect_in_flight(stream.receive_window, messages=stream.brings_messages)
        if self._terminated:
            self._sender.forget(stream)
        else:
            self._sender.reset(stream, code)

    def acknowledge(self, stream: Http2Stream, flow_controlled_length: int) -> bool:
        """Give back what `DataReceived` events of a stream took of its window, now that it is consumed.

        Returns:
            Whether there is something to send, now: small amounts are gathered.
        """
        if stream.closed or stream.answered:
            return False
        stream.unreturned += flow_controlled_length
        if stream.unreturned * 2 < self._stream_window:
            return False
        self._sender.control(frames.window_update_frame(stream.id, stream.unreturned))
        stream.receive_window += stream.unreturned
        stream.unreturned = 0
        return True

    def note_message(self, stream: Http2Stream) -> None:
        """A whole message has come on a stream, in a response that may have many: the call goes forward."""
        stream.brings_messages = True
        if stream.spent:
            earned = min(stream.spent, budget.MESSAGE)
            self._budget.earn(earned)
            stream.spent -= earned  # a turn's frames are paid for before their messages are noted

    def refuse_streams(self) -> None:
        """Open no stream any more: what waits for its turn is never sent."""
        self._sender.refuse_streams()

    def ping(self, payload: bytes) -> None:
        """Send a PING with these 8 bytes."""
        self._control.ping(payload)

    def close(self, code: ErrorCode = ErrorCode.NO_ERROR) -> None:
        """Say goodbye with a GOAWAY, once: no new streams from here on; open ones may still end."""
        self.refuse_streams()
        if not self._said_goodbye:
            self._said_goodbye = True
            self._sender.control(frames.goaway_frame(0, code))

    @property
    def wants_to_send(self) -> bool:
        """Whether `data_to_send` may have something to give."""
        return self._sender.wants_to_send

    def data_to_send(self, limit: int = 256 << 10) -> list[Buffer]:
        """The next bytes for the wire: all control frames, and DATA up to about `limit` bytes.

        What is returned counts as sent: it must reach the peer, or the connection must be closed.
        An empty list means that there is nothing to send, or no window to send it in.
        """
        return self._sender.take(limit)

    def receive_answer(self, data: bytes) -> tuple[WholeAnswer, bytes] | None:
        """Take bytes from the peer, if they begin with one whole answer as most are.

        Else nothing happens, and they are for `receive`, which does the same with them in four times as long.
        A small call costs a tenth less by this.

        Returns:
            the answer, and the bytes behind it, which are for `receive` if there are any.
        """
        if self._buffer or self._responses.block is not None or self._terminated:
            return None
        return self._responses.receive_answer(data)

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer and return what they say, in order. Never raises for what a peer sends.

        If `turn_over` is true then, there is more to be had by another `receive`, which may give b"".
        """
        if self._terminated:
            return []
        turn, responses = self._budget, self._responses
        if turn.spent_in_turn:
            turn.begin_turn()
        buffer = self._buffer + data if self._buffer else data
        position = 0
        try:
            while len(buffer) - position >= frames.FRAME_HEADER_LENGTH:
                high, low, kind, flags, stream_id = frames.FRAME_HEADER.unpack_from(buffer, position)
                length = high << 8 | low
                if length > frames.DEFAULT_MAX_FRAME_SIZE:
                    raise ProtocolViolation(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
                start = position + frames.FRAME_HEADER_LENGTH
                if len(buffer) < start + length:
                    break
                position = start + length
                stream_id &= 0x7FFF_FFFF
                if responses.block is not None or not self._handshaken:
                    self._check_order(kind, flags, stream_id)
                if (handler := responses.handlers.get(kind)) is not None:
                    handler(responses, flags, stream_id, buffer[start:position])
                else:
                    responses.events += self._control.receive(kind, flags, stream_id, buffer[start:position])
                if turn.turn_over:
                    break
        except ProtocolViolation as violation:
            self._terminate(violation)
        self._buffer = b"" if self._terminated else buffer[position:]
        events, responses.events = responses.events, []
        return events

    def _terminate(self, violation: ProtocolViolation) -> None:
        self._terminated = True
        self.refuse_streams()
        self._said_goodbye = True
        self._sender.control(frames.goaway_frame(0, violation.code, violation.reason.encode()))
        self._responses.events.append(ConnectionTerminated(violation.code, violation.reason))

    def _check_order(self, kind: int, flags: int, stream_id: int) -> None:
        """Check that a frame may come now: first SETTINGS, and nothing in the middle of a header block."""
        begun = self._handshaken or (kind == FrameType.SETTINGS and not flags & Flag.ACK)
        require(begun, ErrorCode.PROTOCOL_ERROR, "it does not begin with SETTINGS")
        self._handshaken = True
        block = self._responses.block
        fits = block is None or (kind == FrameType.CONTINUATION and stream_id == block.stream_id)
        require(fits, ErrorCode.PROTOCOL_ERROR, "a frame in the middle of a header block")
