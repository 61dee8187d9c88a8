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
from typing import Any, ClassVar

import hpack

from . import budget, frames
from .budget import FRAME, FRAME_ON_CLOSED_STREAM, WorkBudget
from .control_frames import ControlFrames
from .events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    HeadersReceived,
    StreamReset,
)
from .frames import ErrorCode, Flag, FrameType, ProtocolViolation, Setting, require, without_padding
from .headers import HeaderBlock, HeaderDecoder, HeaderList, RawFields
from .streams import Buffer, Http2Stream, MaySend, Part, Sender
from .validation import MALFORMED, NO_LENGTH, check_fields

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
        self._connection_window = max(connection_window, frames.DEFAULT_WINDOW)
        self._unreturned = 0
        self._budget = WorkBudget(clock)
        self._sender = Sender()
        self._control = ControlFrames(self._sender, self._budget)
        self._decoder = HeaderDecoder(max_header_bytes)
        self._buffer = b""
        self._block: HeaderBlock | None = None
        self._events: list[Event] = []
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

    @property
    def fence(self) -> MaySend | None:
        """See `Sender.fence`."""
        return self._sender.fence

    @fence.setter
    def fence(self, fence: MaySend | None) -> None:
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
        if not self._sender.accepts_streams:
            raise RuntimeError("this connection takes no new streams")
        stream = Http2Stream(fields, volatile, receiver)
        stream.receive_window = self._stream_window
        self._sender.unopened.append(stream)
        return stream

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
        self._reset(stream, code)

    def _reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        if stream.id and not self._terminated:
            self._sender.control(frames.rst_stream_frame(stream.id, code))
        self._sender.forget(stream)

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
        self._sender.taking_streams = False

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

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer and return what they say, in order. Never raises for what a peer sends.

        If `turn_over` is true then, there is more to be had by another `receive`, which may give b"".
        """
        if self._terminated:
            return []
        turn = self._budget
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
                if self._block is not None or not self._handshaken:
                    self._check_order(kind, flags, stream_id)
                if (handler := self._HANDLERS.get(kind)) is not None:
                    handler(self, flags, stream_id, buffer[start:position])
                else:
                    self._events += self._control.receive(kind, flags, stream_id, buffer[start:position])
                if turn.turn_over:
                    break
        except ProtocolViolation as violation:
            self._terminate(violation)
        self._buffer = b"" if self._terminated else buffer[position:]
        events, self._events = self._events, []
        return events

    def _terminate(self, violation: ProtocolViolation) -> None:
        self._terminated = True
        self.refuse_streams()
        self._said_goodbye = True
        self._sender.control(frames.goaway_frame(0, violation.code, violation.reason.encode()))
        self._events.append(ConnectionTerminated(violation.code, violation.reason))

    def _check_order(self, kind: int, flags: int, stream_id: int) -> None:
        """Check that a frame may come now: first SETTINGS, and nothing in the middle of a header block."""
        begun = self._handshaken or (kind == FrameType.SETTINGS and not flags & Flag.ACK)
        require(begun, ErrorCode.PROTOCOL_ERROR, "it does not begin with SETTINGS")
        self._handshaken = True
        block = self._block
        fits = block is None or (kind == FrameType.CONTINUATION and stream_id == block.stream_id)
        require(fits, ErrorCode.PROTOCOL_ERROR, "a frame in the middle of a header block")

    def _find(self, stream_id: int) -> Http2Stream | None:
        """The stream with this id, or None for one that is closed.

        Raises:
            ProtocolViolation: there never was one.
        """
        stream = self._sender.streams.get(stream_id)
        if stream is None and (not stream_id & 1 or stream_id >= self._sender.next_stream_id):
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, f"a frame on the idle stream {stream_id}")
        return stream

    def _fail(self, stream: Http2Stream, code: ErrorCode, reason: str) -> None:
        self._budget.expect_in_flight(0, messages=False)  # it was the peer who made us reset it
        self._reset(stream, code)
        if not stream.answered:
            self._events.append(StreamReset(stream, code, reason=reason))

    def _advance(self, stream: Http2Stream, part: Part) -> bool:
        if not stream.advance(part):
            code = ErrorCode.STREAM_CLOSED if stream.answered else ErrorCode.PROTOCOL_ERROR
            self._fail(stream, code, "a response out of order")
            return False
        if stream.answered:
            if self._budget.left < budget.CAPACITY:  # inline, since each call comes by here
                self._budget.left = min(budget.CAPACITY, self._budget.left + budget.ANSWER)
            if stream.sent:
                self._sender.forget(stream)
        return True

    def _spend_on_closed_stream(self, cost: float = 0.0) -> None:
        self._budget.spend_on_closed_stream(FRAME_ON_CLOSED_STREAM + cost)

    def _receive_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        length = len(payload)
        self._unreturned += length
        if self._unreturned * 2 >= self._connection_window:
            self._sender.control(frames.window_update_frame(0, self._unreturned))
            self._unreturned = 0
        stream = self._find(stream_id)
        data = without_padding(flags, payload) if flags & Flag.PADDED else payload
        if stream is None:
            self._spend_on_closed_stream()
            return
        if length > stream.receive_window:
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
            return
        stream.receive_window -= length
        end_stream = bool(flags & Flag.END_STREAM)
        if len(data) < budget.SMALL_DATA and not end_stream:
            self._receive_small_data(stream, len(data))
        if stream.awaited is not None:
            stream.awaited -= len(data)
            if stream.awaited < 0 or (end_stream and stream.awaited):
                self._fail(stream, ErrorCode.PROTOCOL_ERROR, "a body of another length than content-length")
                return
        if self._advance(stream, Part.DATA_AND_END if end_stream else Part.DATA):
            self._events.append(DataReceived(stream, data, length, end_stream))

    def _receive_small_data(self, stream: Http2Stream, length: int) -> None:
        """Have it paid for, unless it is the first and may be the whole answer."""
        if stream.spent is None and length:
            stream.spent = 0.0
        else:
            cost = max(0, FRAME - length)
            stream.spent = (stream.spent or 0.0) + cost
            self._budget.spend(cost, work=FRAME - cost)

    def _receive_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & Flag.PADDED:
            payload = without_padding(flags, payload)
        if flags & Flag.PRIORITY:
            require(len(payload) >= 5, ErrorCode.FRAME_SIZE_ERROR, "a malformed HEADERS")
            payload = payload[5:]
        end_stream = bool(flags & Flag.END_STREAM)
        if flags & Flag.END_HEADERS:
            self._receive_block(stream_id, payload, end_stream=end_stream)  # as nearly always
            return
        self._block = HeaderBlock(stream_id, end_stream=end_stream)
        self._block.add(payload)

    def _receive_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._budget.spend(FRAME)
        block.add(payload)
        if flags & Flag.END_HEADERS:
            self._block = None
            self._receive_block(block.stream_id, bytes(block.data), end_stream=block.end_stream)

    def _receive_block(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        try:
            headers = self._decoder.decode(block)  # for closed streams too: the table goes on
        except hpack.HPACKError:
            raise ProtocolViolation(ErrorCode.COMPRESSION_ERROR, "a malformed header block") from None
        stream = self._find(stream_id)
        if stream is None:
            late = headers.cost <= budget.LATE_HEADERS  # an answer's, on its way when we closed the stream
            self._spend_on_closed_stream(headers.cost if late else 0.0)
            self._budget.spend(0.0 if late else headers.cost)
            return
        length = headers.checked[stream.answering]
        if length is None:  # the same few blocks come again and again
            length = headers.checked[stream.answering] = check_fields(headers.fields, stream.answering)
            self._budget.spend(0, work=headers.cost)  # a new block takes its time, also where it is free
        interim = not stream.answering and length != MALFORMED and headers.fields[0][1].startswith("1")
        if interim and not end_stream:  # RFC 9113, section 8.1
            self._budget.spend(FRAME + headers.cost)
            return
        left = length if stream.awaited is None else stream.awaited
        if length == MALFORMED or interim or (end_stream and left > 0):
            self._fail(stream, ErrorCode.PROTOCOL_ERROR, "malformed headers, or another length than they say")
            return
        if length != NO_LENGTH:
            stream.awaited = length
        self._take_block(stream, headers, end_stream=end_stream)

    def _take_block(self, stream: Http2Stream, headers: HeaderList, *, end_stream: bool) -> None:
        if headers.cost_in_call:
            self._budget.spend(headers.cost_in_call)
        if self._advance(stream, Part.HEADERS_AND_END if end_stream else Part.HEADERS):
            self._events.append(HeadersReceived(stream, headers.fields, end_stream, headers.over_limit))

    def _receive_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(len(payload) == 4, ErrorCode.FRAME_SIZE_ERROR, "a malformed RST_STREAM")
        stream = self._find(stream_id)
        if stream is None:
            self._spend_on_closed_stream()
            return
        self._sender.forget(stream)
        if not stream.answered:  # else: a whole response, then "spare me the rest of the request"
            code = int.from_bytes(payload, "big")
            refused = code == ErrorCode.REFUSED_STREAM and not stream.answering
            self._events.append(StreamReset(stream, code, unprocessed=refused))

    def _receive_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(len(payload) == 4, ErrorCode.FRAME_SIZE_ERROR, "a malformed WINDOW_UPDATE")
        self._budget.spend_on_reaction(self._sender.data_sent, FRAME)
        increment = int.from_bytes(payload, "big") & 0x7FFF_FFFF
        if not stream_id:
            window = self._sender.window = self._sender.window + increment
            require(increment > 0, ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0")
            require(window <= frames.MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR, "too large a window")
            return
        stream = self._find(stream_id)
        if stream is None:
            return
        stream.send_window += increment
        if not increment:
            self._fail(stream, ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0")
        elif stream.send_window > frames.MAX_WINDOW:
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR, "too large a window")

    _HANDLERS: ClassVar[dict[int, Callable[[Http2Client, int, int, bytes], None]]] = {
        FrameType.DATA: _receive_data,
        FrameType.HEADERS: _receive_headers,
        FrameType.RST_STREAM: _receive_rst_stream,
        FrameType.WINDOW_UPDATE: _receive_window_update,
        FrameType.CONTINUATION: _receive_continuation,
    }
