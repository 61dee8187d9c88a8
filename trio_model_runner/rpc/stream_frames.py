"""The frames of a peer that are about a single stream: a response's headers, data and end, and windows.

What they ask for is done to the streams and their `streams.Sender`; what is worth knowing is told as events.
What brings no call forward is paid from the peer's `budget`. A frame that breaks the rules of its stream
resets that; one that breaks those of the connection is a ProtocolViolation. How frames are cut out of bytes
is not known here, nor are the frames of `control_frames`.

**Most answers are a header block, one message and trailers, read in one piece**, and their blocks have come
before. `AnswerShape` finds that out by comparing bytes, without an event for each frame. Whatever is not laid
out like this, though it may be as good an answer, goes the way of all frames. So does what comes behind it,
such as grpcio's WINDOW_UPDATE.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar, Final

import attrs
import hpack

from . import budget, frames
from .budget import FRAME, FRAME_ON_CLOSED_STREAM, WorkBudget
from .events import DataReceived, Event, HeadersReceived, StreamReset, WholeAnswer
from .frames import (
    FRAME_HEADER_LENGTH,
    ErrorCode,
    Flag,
    FrameType,
    ProtocolViolation,
    require,
    without_padding,
)
from .headers import HeaderBlock, HeaderDecoder, HeaderList
from .streams import EVERYTHING_RECEIVED, NOTHING_RECEIVED, Http2Stream, Part, Sender
from .validation import MALFORMED, NO_LENGTH, check_fields

__all__ = ["AnswerParts", "AnswerShape", "StreamFrames", "answer_parts"]

_HEADER: Final = struct.Struct(">HBHL")
"""As `frames.FRAME_HEADER`, but type and flags are one number."""

_HEADERS: Final = FrameType.HEADERS << 8 | Flag.END_HEADERS
_DATA: Final = FrameType.DATA << 8
_TRAILERS: Final = _HEADERS | Flag.END_STREAM


@attrs.define
class AnswerParts:
    """The frames of one answer, at the beginning of what was read.

    Attributes:
        stream_id: the stream's id.
        head: the header block.
        body: the body.
        tail: the trailers' block.
    """

    stream_id: int
    head: bytes
    body: bytes
    tail: bytes


def answer_parts(data: bytes) -> AnswerParts | None:
    """The parts of the answer with which `data` begins; None if it doesn't."""
    if len(data) < 3 * FRAME_HEADER_LENGTH:
        return None
    high, low, kind, stream_id = _HEADER.unpack_from(data)
    body_at = FRAME_HEADER_LENGTH + (high << 8 | low)
    if kind != _HEADERS or len(data) < body_at + FRAME_HEADER_LENGTH:
        return None
    high, low, kind, body_of = _HEADER.unpack_from(data, body_at)
    body_at += FRAME_HEADER_LENGTH
    trailers_at = body_at + (high << 8 | low)
    if kind != _DATA or body_of != stream_id or len(data) < trailers_at + FRAME_HEADER_LENGTH:
        return None
    high, low, kind, trailers_of = _HEADER.unpack_from(data, trailers_at)
    end = trailers_at + FRAME_HEADER_LENGTH + (high << 8 | low)
    if kind != _TRAILERS or trailers_of != stream_id or end > len(data):
        return None
    head = data[FRAME_HEADER_LENGTH : body_at - FRAME_HEADER_LENGTH]
    return AnswerParts(
        stream_id, head, data[body_at:trailers_at], data[trailers_at + FRAME_HEADER_LENGTH : end]
    )


class AnswerShape:
    """How the last answer was laid out. Most are laid out like it, which is found out in half the time.

    Args:
        parts: of that answer.
        headers: what its header block means.
        trailers: what its trailers' block means.

    Attributes:
        headers: see above.
        trailers: see above.
    """

    __slots__ = ("_before_id", "_before_last_id", "_head", "_tail", "headers", "trailers")

    def __init__(self, parts: AnswerParts, headers: HeaderList, trailers: HeaderList) -> None:
        length = len(parts.head)
        self._before_id = _HEADER.pack(length >> 8, length & 0xFF, _HEADERS, 0)[:5]
        self._head = parts.head
        length = len(parts.tail)
        self._before_last_id = _HEADER.pack(length >> 8, length & 0xFF, _TRAILERS, 0)[:5]
        self._tail = parts.tail
        self.headers = headers
        self.trailers = trailers

    def match(self, data: bytes) -> tuple[int, bytes, int] | None:
        """If `data` begins with an answer of this shape: the stream's id, the body, and where it ends."""
        stream_id = data[5:FRAME_HEADER_LENGTH]
        head = self._before_id + stream_id + self._head
        begin = len(head) + FRAME_HEADER_LENGTH
        if len(data) < begin or not data.startswith(head):
            return None
        high, low, kind, number = _HEADER.unpack_from(data, begin - FRAME_HEADER_LENGTH)
        end = begin + (high << 8 | low)
        tail = self._before_last_id + stream_id + self._tail
        if kind != _DATA or data[begin - 4 : begin] != stream_id or not data.startswith(tail, end):
            return None
        return number, data[begin:end], end + len(tail)


class StreamFrames:
    """Acts on the frames of one connection that are about a single stream.

    Args:
        sender: has the streams.
        budget: what brings no call forward is paid from it.
        connection_window: how much the peer may send ahead of our reading, over all responses, bytes.
        max_header_bytes: the largest list of headers taken, bytes.

    Attributes:
        block: a header block of which not all frames have come; None between blocks.
        events: what has happened, until somebody takes it.
        handlers: by type, what acts on a frame; called with this, the flags, the stream's id, the payload.
    """

    def __init__(
        self, sender: Sender, budget: WorkBudget, *, connection_window: int, max_header_bytes: int
    ) -> None:
        self.block: HeaderBlock | None = None
        self.events: list[Event] = []
        self._sender = sender
        self._budget = budget
        self._connection_window = connection_window
        self._unreturned = 0
        self._decoder = HeaderDecoder(max_header_bytes)
        self._answer_shape: AnswerShape | None = None

    def receive_answer(self, data: bytes) -> tuple[WholeAnswer, bytes] | None:
        """See `Http2Client.receive_answer`."""
        shape = self._answer_shape
        if shape is None or (match := shape.match(data)) is None or self._decoder.forgotten:
            if (shape := self._find_shape(data)) is None or (match := shape.match(data)) is None:
                return None
            self._answer_shape = shape
        stream_id, body, end = match
        stream, length = self._sender.streams.get(stream_id), len(body)
        if stream is None or stream.received is not NOTHING_RECEIVED:
            return None
        if not 0 < length <= stream.receive_window or length > frames.DEFAULT_MAX_FRAME_SIZE:
            return None
        if self._budget.spent_in_turn:
            self._budget.begin_turn()
        self._unreturned += length
        if self._unreturned * 2 >= self._connection_window:
            self._return_window()
        stream.receive_window -= length
        stream.answering = True
        self._end_response(stream)
        return WholeAnswer(stream, shape.headers.fields, body, shape.trailers.fields), data[end:]

    def _find_shape(self, data: bytes) -> AnswerShape | None:
        """The shape of the answer that comes first, whose header blocks have come before and cost nothing."""
        if self._decoder.forgotten:
            self._decoder.forgotten, self._answer_shape = False, None
        if (parts := answer_parts(data)) is None:
            return None
        headers, trailers = self._decoder.known(parts.head), self._decoder.known(parts.tail)
        if headers is None or trailers is None or not (headers.usual[False] and trailers.usual[True]):
            return None
        return AnswerShape(parts, headers, trailers)

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
        self._sender.reset(stream, code)
        if not stream.answered:
            self.events.append(StreamReset(stream, code, reason=reason))

    def _advance(self, stream: Http2Stream, part: Part) -> bool:
        if not stream.advance(part):
            code = ErrorCode.STREAM_CLOSED if stream.answered else ErrorCode.PROTOCOL_ERROR
            self._fail(stream, code, "a response out of order")
            return False
        if stream.answered:
            self._end_response(stream)
        return True

    def _end_response(self, stream: Http2Stream) -> None:
        """The whole response has come."""
        stream.received = EVERYTHING_RECEIVED
        stream.answered = True
        if self._budget.left < budget.CAPACITY:  # inline, since each call comes by here
            self._budget.left = min(budget.CAPACITY, self._budget.left + budget.ANSWER)
        if stream.sent:
            self._sender.forget(stream)

    def _spend_on_closed_stream(self, cost: float = 0.0) -> None:
        self._budget.spend_on_closed_stream(FRAME_ON_CLOSED_STREAM + cost)

    def _receive_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        length = len(payload)
        self._unreturned += length
        if self._unreturned * 2 >= self._connection_window:
            self._return_window()
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
            self.events.append(DataReceived(stream, data, length, end_stream))

    def _return_window(self) -> None:
        """Return the connection's window, which is done in large pieces."""
        self._sender.control(frames.window_update_frame(0, self._unreturned))
        self._unreturned = 0

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
        self.block = HeaderBlock(stream_id, end_stream=end_stream)
        self.block.add(payload)

    def _receive_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self.block
        if block is None:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._budget.spend(FRAME)
        block.add(payload)
        if flags & Flag.END_HEADERS:
            self.block = None
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
        if length == NO_LENGTH and not (interim or headers.cost_in_call or headers.over_limit):
            headers.usual[stream.answering] = True
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
            self.events.append(HeadersReceived(stream, headers.fields, end_stream, headers.over_limit))

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
            self.events.append(StreamReset(stream, code, unprocessed=refused))

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

    handlers: ClassVar[dict[int, Callable[[StreamFrames, int, int, bytes], None]]] = {
        FrameType.DATA: _receive_data,
        FrameType.HEADERS: _receive_headers,
        FrameType.RST_STREAM: _receive_rst_stream,
        FrameType.WINDOW_UPDATE: _receive_window_update,
        FrameType.CONTINUATION: _receive_continuation,
    }
