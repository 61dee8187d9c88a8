"""HTTP/2 as a client speaks it (RFC 9113), without any I/O: bytes in, events out, and bytes to send.

`Http2Client` is the whole state of one connection. Whoever owns the socket feeds what it read to `receive`
and acts on the events; asks for streams with `open_stream` and `send_data`; and writes whatever
`data_to_send` gives, whenever the socket takes it. It knows nothing of sockets, tasks, time or gRPC, so tests
drive it with bytes alone.

Three decisions shape it.

**What is to be sent waits here, not in the socket's queue**, and becomes frames only when the writer asks for
bytes; see `streams`. So a request that is cancelled before that was certainly never sent, and may be sent
again elsewhere, which `StreamReset.unprocessed` says.

**The connection's receive window is returned at once, a stream's only when its data is consumed.** Memory
is bounded by the streams' windows; and no cancelled stream can take the connection's credit with it.

**A peer that breaks the protocol ends the connection with an event, never with an exception**, after the
events of everything before it in the same bytes. What a peer can make us hold is bounded: header blocks,
the frames that carry one, and answers (to PING and SETTINGS) that it makes us queue without reading them.

Server push is switched off, so the only streams are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import hpack

from . import frames
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
from .frames import ErrorCode, Flag, FrameType, ProtocolViolation, Setting, require, without_padding
from .headers import HeaderBlock, HeaderDecoder, RawFields
from .streams import Buffer, Http2Stream, Part, Sender, well_formed

__all__ = ["Buffer", "Http2Client", "Http2Stream"]

_MAX_UNREAD_ANSWERS: Final = 1000


class Http2Client:
    """The client's side of one HTTP/2 connection.

    Args:
        stream_window: how much of one response the server may send ahead of its consumption, bytes.
        connection_window: the same over all responses, ahead of our reading, bytes; 65,535 at least.
        max_header_bytes: the largest list of headers taken, bytes (name, value and 32 for each field).
    """

    def __init__(
        self,
        *,
        stream_window: int = 1 << 20,
        connection_window: int = 4 << 20,
        max_header_bytes: int = 16 << 10,
    ) -> None:
        self._stream_window = stream_window
        self._connection_window = max(connection_window, frames.DEFAULT_WINDOW)
        self._max_header_bytes = max_header_bytes
        self._unreturned = 0
        self._sender = Sender()
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
    def streams(self) -> list[Http2Stream]:
        """The streams that are not closed; those that the server can't know of have the id 0."""
        return [*self._sender.streams.values(), *self._sender.unopened]

    @property
    def idle(self) -> bool:
        """Whether all streams are closed."""
        return not (self._sender.streams or self._sender.unopened)

    def open_stream(
        self, fields: RawFields, volatile: RawFields = (), *, receiver: Any = None, end_stream: bool = False
    ) -> Http2Stream:
        """Ask for a new stream with these request headers; `data_to_send` opens it when it may be opened.

        Args:
            fields: headers that repeat from call to call, pseudo-headers first; see `headers`.
            volatile: headers that don't.
            receiver: kept as the stream's `receiver`.
            end_stream: the request has no body.

        Raises:
            RuntimeError: the connection takes no new streams; see `accepts_streams`.
        """
        if not self._sender.accepts_streams:
            raise RuntimeError("this connection takes no new streams")
        stream = Http2Stream(fields, volatile, receiver)
        stream.receive_window = self._stream_window
        stream.end_queued = end_stream
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

    def refuse_streams(self) -> None:
        """Open no stream any more: what waits for its turn is never sent."""
        self._sender.taking_streams = False

    def ping(self, payload: bytes) -> None:
        """Send a PING with these 8 bytes; its answer is a `PingAcknowledged`."""
        self._sender.control(frames.ping_frame(payload, ack=False))

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
        """Take bytes from the peer and return what they say, in order. Never raises for what a peer sends."""
        if self._terminated:
            return []
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
                handler = self._HANDLERS.get(kind)
                if handler is not None:  # frames of unknown types are ignored: RFC 9113, section 4.1
                    handler(self, flags, stream_id, buffer[start:position])
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
        self.reset_stream(stream, code)
        if not stream.answered:
            self._events.append(StreamReset(stream, code, reason=reason))

    def _advance(self, stream: Http2Stream, part: Part) -> bool:
        if not stream.advance(part):
            code = ErrorCode.STREAM_CLOSED if stream.answered else ErrorCode.PROTOCOL_ERROR
            self._fail(stream, code, "a response out of order")
            return False
        if stream.answered and stream.sent:
            self._sender.forget(stream)
        return True

    def _answer(self, frame: bytes) -> None:
        self._sender.answer(frame)
        if self._sender.unread_answers > _MAX_UNREAD_ANSWERS:
            raise ProtocolViolation(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that want an answer")

    def _receive_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        length = len(payload)
        self._unreturned += length
        if self._unreturned * 2 >= self._connection_window:
            self._sender.control(frames.window_update_frame(0, self._unreturned))
            self._unreturned = 0
        stream = self._find(stream_id)
        data = without_padding(flags, payload) if flags & Flag.PADDED else payload
        if stream is None:
            return
        if length > stream.receive_window:
            self._fail(stream, ErrorCode.FLOW_CONTROL_ERROR, "more data than the stream's window")
            return
        stream.receive_window -= length
        end_stream = bool(flags & Flag.END_STREAM)
        if self._advance(stream, Part.DATA_AND_END if end_stream else Part.DATA):
            self._events.append(DataReceived(stream, data, length, end_stream))

    def _receive_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & Flag.PADDED:
            payload = without_padding(flags, payload)
        if flags & Flag.PRIORITY:
            require(len(payload) >= 5, ErrorCode.FRAME_SIZE_ERROR, "a malformed HEADERS")
            payload = payload[5:]
        end_stream = bool(flags & Flag.END_STREAM)
        if flags & Flag.END_HEADERS and len(payload) <= self._max_header_bytes:
            self._receive_block(stream_id, payload, end_stream=end_stream)  # as nearly always
            return
        self._block = HeaderBlock(stream_id, end_stream=end_stream, max_size=self._max_header_bytes)
        self._receive_continuation(flags, stream_id, payload)

    def _receive_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block.add(payload)
        if flags & Flag.END_HEADERS:
            self._block = None
            self._receive_block(block.stream_id, bytes(block.data), end_stream=block.end_stream)

    def _receive_block(self, stream_id: int, block: bytes, *, end_stream: bool) -> None:
        try:
            fields = self._decoder.decode(block)  # for closed streams too: the table goes on
        except hpack.OversizedHeaderListError:
            raise ProtocolViolation(ErrorCode.ENHANCE_YOUR_CALM, "headers over the limit") from None
        except hpack.HPACKError:
            raise ProtocolViolation(ErrorCode.COMPRESSION_ERROR, "a malformed header block") from None
        stream = self._find(stream_id)
        if stream is None:
            return
        if not well_formed(fields, stream.answering):
            self._fail(stream, ErrorCode.PROTOCOL_ERROR, "malformed headers")
            return
        if not stream.answering and fields[0][1].startswith("1") and not end_stream:
            return  # an interim response: RFC 9113, section 8.1
        if self._advance(stream, Part.HEADERS_AND_END if end_stream else Part.HEADERS):
            self._events.append(HeadersReceived(stream, fields, end_stream))

    def _receive_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(len(payload) == 5 and stream_id > 0, ErrorCode.FRAME_SIZE_ERROR, "a malformed PRIORITY")

    def _receive_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(len(payload) == 4, ErrorCode.FRAME_SIZE_ERROR, "a malformed RST_STREAM")
        stream = self._find(stream_id)
        if stream is None:
            return
        self._sender.forget(stream)
        if not stream.answered:  # else: a whole response, then "spare me the rest of the request"
            code = int.from_bytes(payload, "big")
            refused = code == ErrorCode.REFUSED_STREAM and not stream.answering
            self._events.append(StreamReset(stream, code, unprocessed=refused))

    def _receive_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(not stream_id, ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        fits = not payload if flags & Flag.ACK else len(payload) % 6 == 0
        require(fits, ErrorCode.FRAME_SIZE_ERROR, "a malformed SETTINGS")
        if flags & Flag.ACK:
            return
        self._handshaken = True
        for setting, value in frames.parse_settings(payload):
            self._sender.apply_setting(setting, value)
        self._answer(frames.settings_ack_frame())
        self._events.append(SettingsReceived())

    def _receive_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, though push is off")

    def _receive_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(not stream_id, ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        require(len(payload) == 8, ErrorCode.FRAME_SIZE_ERROR, "a malformed PING")
        if flags & Flag.ACK:
            self._events.append(PingAcknowledged(payload))
        else:
            self._answer(frames.ping_frame(payload, ack=True))

    def _receive_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(not stream_id, ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        require(len(payload) >= 8, ErrorCode.FRAME_SIZE_ERROR, "a malformed GOAWAY")
        last_stream_id = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF
        code = int.from_bytes(payload[4:8], "big")
        self.refuse_streams()
        self._events.append(GoAwayReceived(last_stream_id, code, payload[8:]))
        for stream in self.streams:
            if not 0 < stream.id <= last_stream_id:
                self._sender.forget(stream)
                if not stream.answered:
                    self._events.append(StreamReset(stream, code, unprocessed=not stream.answering))

    def _receive_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        require(len(payload) == 4, ErrorCode.FRAME_SIZE_ERROR, "a malformed WINDOW_UPDATE")
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
        FrameType.PRIORITY: _receive_priority,
        FrameType.RST_STREAM: _receive_rst_stream,
        FrameType.SETTINGS: _receive_settings,
        FrameType.PUSH_PROMISE: _receive_push_promise,
        FrameType.PING: _receive_ping,
        FrameType.GOAWAY: _receive_goaway,
        FrameType.WINDOW_UPDATE: _receive_window_update,
        FrameType.CONTINUATION: _receive_continuation,
    }
