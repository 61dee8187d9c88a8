"""The streams of a client's HTTP/2 connection: what is still to be sent on them, and in which order.

An `Http2Stream` is one request on its way out, and what has come of its response. The order in which a
response's parts may come is a table here, and nowhere else.

A `Sender` has all streams of a connection. A naive client turns each request into frames at once. Then a
10 MB message sits in front of everybody else's, a cancelled request is sent all the same, and nobody can tell
whether the peer ever saw it. Here a stream is only a promise until the writer asks for bytes: then it gets
its id and its HEADERS, in order, as far as the peer's MAX_CONCURRENT_STREAMS lets it, and DATA is cut into
frames round-robin over the streams that have something to say and window to say it in. Messages are never
copied: frames carry views of them.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

from . import frames
from .budget import PIECE
from .frames import FRAME_HEADER, ErrorCode, Flag, FrameType, ProtocolViolation, Setting, require
from .headers import HeaderEncoder, RawFields

__all__ = [
    "EVERYTHING_RECEIVED",
    "NOTHING_RECEIVED",
    "Buffer",
    "Http2Stream",
    "MaySend",
    "Part",
    "Sender",
]

Buffer: TypeAlias = bytes | memoryview
MaySend: TypeAlias = Callable[[], bool]
"""Whether anything of a request may be sent now. It must not wait, and not change any stream."""


_SMALL_REQUEST: Final = 4096
"""Bytes up to which a request's buffers are joined: to copy them takes less time than to write several."""


_NO_BUFFERS: Final[list[Buffer]] = []
"""Never changed. A list for each stream would be one more object of a call for the garbage collector."""


class Received(enum.IntEnum):
    """How much of a response has come. Whole numbers, since a plain Enum computes its hash in Python."""

    NOTHING = enum.auto()
    HEADERS = enum.auto()
    EVERYTHING = enum.auto()


# Looked up at each call, which an enum's member takes long for.
NOTHING_RECEIVED: Final = Received.NOTHING
EVERYTHING_RECEIVED: Final = Received.EVERYTHING
_DATA: Final = FrameType.DATA
_HEADERS: Final = FrameType.HEADERS
_END_STREAM: Final = Flag.END_STREAM
_END_HEADERS: Final = Flag.END_HEADERS


class Part(enum.IntEnum):
    """What a frame adds to a response; the second of each pair also ends it."""

    HEADERS = enum.auto()
    HEADERS_AND_END = enum.auto()
    DATA = enum.auto()
    DATA_AND_END = enum.auto()


_RESPONSE: Final[dict[tuple[Received, Part], Received]] = {
    (Received.NOTHING, Part.HEADERS): Received.HEADERS,
    (Received.NOTHING, Part.HEADERS_AND_END): Received.EVERYTHING,
    (Received.HEADERS, Part.DATA): Received.HEADERS,
    (Received.HEADERS, Part.DATA_AND_END): Received.EVERYTHING,
    (Received.HEADERS, Part.HEADERS_AND_END): Received.EVERYTHING,
}
"""RFC 9113, section 8.1: headers, any amount of data, at most one block of trailers."""


class Http2Stream:
    """One request and its response.

    Attributes:
        id: 0 until its HEADERS were handed to the writer: until then the server can't know of it.
        receiver: whatever the connection's owner keeps here to find who waits for the response.
        may_send: asked each time before something of it is handed to the writer; None where all may be sent.
            What may not be sent waits: whoever says so must see to it that the stream is reset.
        sent: all of the request was handed to the writer.
        closed: nothing more will be sent or received.
        answering: the response has begun.
        answered: the whole response has come.
        awaited: the bytes of body that are still to come by the response's content-length; None without.
        brings_messages: whole messages have come, in a response that may have many.
        spent: what small DATA has cost the peer since the last whole message; see `budget`. None before any.
    """

    __slots__ = (
        "answered",
        "answering",
        "awaited",
        "brings_messages",
        "closed",
        "end_queued",
        "fields",
        "id",
        "may_send",
        "outgoing",
        "receive_window",
        "received",
        "receiver",
        "send_window",
        "sent",
        "spent",
        "unreturned",
        "volatile",
    )

    def __init__(self, fields: RawFields, volatile: RawFields, receiver: Any) -> None:
        self.id = 0
        self.receiver = receiver
        self.may_send: MaySend | None = None
        self.sent = False
        self.closed = False
        self.fields = fields
        self.volatile = volatile
        self.outgoing: list[Buffer] = _NO_BUFFERS
        self.end_queued = False
        self.send_window = 0
        self.received = NOTHING_RECEIVED
        self.answering = False
        self.answered = False
        self.receive_window = 0
        self.unreturned = 0
        self.awaited: int | None = None
        self.brings_messages = False
        self.spent: float | None = None

    @property
    def unsent(self) -> int:
        """Bytes of the request's body that were not handed to the writer yet."""
        return sum(map(len, self.outgoing))

    def advance(self, part: Part) -> bool:
        """Note that `part` of the response came; False if it may not come now."""
        received = _RESPONSE.get((self.received, part))
        if received is None:
            return False
        self.received = received
        self.answering = True
        self.answered = received is Received.EVERYTHING
        return True

    def take(self, room: int) -> tuple[int, list[Buffer]]:
        """Take up to `room` bytes of the body, as views of what was queued; their number and the pieces."""
        length = 0
        for index, piece in enumerate(self.outgoing):
            if length + len(piece) > room:
                view, left = memoryview(piece), room - length
                pieces = [*self.outgoing[:index], view[:left]] if left else self.outgoing[:index]
                self.outgoing[: index + 1] = [view[left:]]
                return room, pieces
            length += len(piece)
        pieces, self.outgoing = self.outgoing, _NO_BUFFERS
        return length, pieces


class Sender:
    """The outgoing half of an `http2.Http2Client`.

    Attributes:
        streams: the streams that the server may know of, by id.
        unopened: those that it can't know of yet, in the order in which they will be opened.
        window: what the peer lets us send on the connection, bytes.
        next_stream_id: the id of the next stream to be opened.
        taking_streams: False once the connection ends: what is unopened then stays unopened.
        accepts_streams: there will be an id for one more stream, after all that wait for theirs.
        data_sent: bytes of bodies that were handed to the writer, and `budget.PIECE` for each piece's end.
        fence: asked each time before anything of any request is handed to the writer; None where all may be
            sent. Control frames pass.
    """

    def __init__(self) -> None:
        self.fence: MaySend | None = None
        self.streams: dict[int, Http2Stream] = {}
        self.unopened: deque[Http2Stream] = deque()
        self.window = frames.DEFAULT_WINDOW
        self.next_stream_id = 1
        self.taking_streams = self.accepts_streams = True
        self.data_sent = 0
        self.max_frame_size = frames.DEFAULT_MAX_FRAME_SIZE
        self.max_concurrent_streams = frames.MAX_STREAM_ID
        self._initial_window = frames.DEFAULT_WINDOW
        self._encoder = HeaderEncoder()
        self._control: list[Buffer] = []
        self._unread_answers = 0
        self._sending: deque[Http2Stream] = deque()

    @property
    def all_streams(self) -> list[Http2Stream]:
        """The streams that are not closed, those that are not opened yet behind the others."""
        return [*self.streams.values(), *self.unopened]

    @property
    def wants_to_send(self) -> bool:
        """Whether there is something to send; peers may not let us send it now."""
        return bool(self._control or self._sending or self.unopened)

    @property
    def unread_answers(self) -> int:
        """How many `answer` frames wait because the peer does not read."""
        return self._unread_answers

    def control(self, frame: bytes) -> None:
        """Send a frame that no flow control concerns, before any DATA."""
        self._control.append(frame)

    def answer(self, frame: bytes) -> None:
        """Send a frame that the peer made us send."""
        self._control.append(frame)
        self._unread_answers += 1

    def apply_settings(self, settings: Iterable[tuple[int, int]]) -> None:
        """Keep to the peer's SETTINGS, whose identifiers and values these are.

        A frame may have thousands of them. So streams get their window once, by the last value, and of the
        table's sizes only the smallest and the last are announced, as RFC 7541, section 4.2, wants it.

        Raises:
            ProtocolViolation: one of them may not have this value.
        """
        window, table_sizes = self._initial_window, list[int]()
        for setting, value in settings:
            match setting:
                case Setting.HEADER_TABLE_SIZE:
                    table_sizes = [min(value, *table_sizes[:1]), value] if table_sizes else [value]
                case Setting.ENABLE_PUSH if value != 0:
                    raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "a server that enables push")
                case Setting.MAX_CONCURRENT_STREAMS:
                    self.max_concurrent_streams = value
                case Setting.INITIAL_WINDOW_SIZE:
                    fits = value <= frames.MAX_WINDOW
                    require(fits, ErrorCode.FLOW_CONTROL_ERROR, f"an initial window of {value}")
                    window = value
                case Setting.MAX_FRAME_SIZE:
                    fits = frames.DEFAULT_MAX_FRAME_SIZE <= value <= frames.MAX_MAX_FRAME_SIZE
                    require(fits, ErrorCode.PROTOCOL_ERROR, f"a maximum frame size of {value}")
                    self.max_frame_size = value
                case _:
                    pass  # unknown settings are ignored: RFC 9113, section 6.5.2
        for size in table_sizes:
            self._encoder.limit_table(size)
        if window != self._initial_window:
            fits = self._limit_initial_window(window)
            require(fits, ErrorCode.FLOW_CONTROL_ERROR, f"an initial window of {window}")

    def _limit_initial_window(self, size: int) -> bool:
        """Apply the change to the open streams' windows; False if one overflows."""
        difference = size - self._initial_window
        self._initial_window = size
        for stream in self.streams.values():
            stream.send_window += difference
        return all(stream.send_window <= frames.MAX_WINDOW for stream in self.streams.values())

    def queue(self, stream: Http2Stream, data: Sequence[Buffer], *, end_stream: bool) -> None:
        """Send a piece of a stream's body, in its turn; the buffers are kept, not copied."""
        was_idle = not stream.outgoing
        if was_idle:
            stream.outgoing = list(filter(len, data))
        else:
            stream.outgoing += filter(len, data)
        stream.end_queued = end_stream
        if stream.id and was_idle and (stream.outgoing or end_stream):
            self._sending.append(stream)

    def add(self, stream: Http2Stream) -> None:
        """Have one more stream, to be opened when it may be."""
        self.unopened.append(stream)
        self._count_ids()

    def _count_ids(self) -> None:
        last = self.next_stream_id + 2 * len(self.unopened)
        self.accepts_streams = self.taking_streams and last <= frames.MAX_STREAM_ID

    def send_whole(self, stream: Http2Stream, data: Sequence[Buffer]) -> bytes | None:
        """Open a stream with a whole request, if that is small and nothing is in the way.

        Else nothing happens: then it is for `add`, `queue` and `take`, which do the same in twice the time.

        Returns:
            its bytes for the wire, or None.
        """
        length = sum(map(len, data))
        if length > _SMALL_REQUEST or length > self.window or length > self._initial_window:
            return None
        if (
            self._control
            or self._sending
            or self.unopened
            or len(self.streams) >= self.max_concurrent_streams
        ):
            return None
        if not (self.fence is None or self.fence()) or not (stream.may_send is None or stream.may_send()):
            return None
        headers = self._begin(stream)
        self._count_ids()
        stream.send_window -= length
        self.window -= length
        self.data_sent += length + PIECE
        stream.end_queued = stream.sent = True
        header = FRAME_HEADER.pack(length >> 8, length & 0xFF, _DATA, _END_STREAM, stream.id)
        return b"".join((headers, header, *data))

    def refuse_streams(self) -> None:
        """Open no stream any more: what waits for its turn is never sent."""
        self.taking_streams = self.accepts_streams = False

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """Reset a stream, if the peer may know of it, and forget it."""
        if stream.id:
            self.control(frames.rst_stream_frame(stream.id, code))
        self.forget(stream)

    def forget(self, stream: Http2Stream) -> None:
        """Send nothing more of a stream, and close it."""
        stream.closed = True
        stream.outgoing = _NO_BUFFERS
        if stream.id:
            self.streams.pop(stream.id, None)
        else:
            self.unopened.remove(stream)
            self._count_ids()

    def take(self, limit: int) -> list[Buffer]:
        """The next bytes for the wire: all control frames, and DATA up to about `limit` bytes."""
        may_send = self.fence is None or self.fence()
        if self.unopened and may_send:
            self._open_streams()
        out, self._control = self._control, []
        self._unread_answers = 0
        blocked: list[Http2Stream] = []
        while self._sending and limit > 0 and may_send:
            stream = self._sending.popleft()
            if stream.closed:
                continue
            room = min(self.max_frame_size, stream.send_window, self.window, limit)
            if (stream.outgoing and room <= 0) or not (stream.may_send is None or stream.may_send()):
                blocked.append(stream)
            else:
                limit -= self._send_data(stream, room, out)
        self._sending.extendleft(reversed(blocked))
        return out

    def _open_streams(self) -> None:
        """Open what waits for that, as far as the peer lets us, and as it may be sent."""
        held_back: list[Http2Stream] = []
        while self.unopened and self.taking_streams and len(self.streams) < self.max_concurrent_streams:
            stream = self.unopened.popleft()
            if stream.may_send is None or stream.may_send():
                self._open(stream)
            else:
                held_back.append(stream)
        self.unopened.extendleft(reversed(held_back))

    def _begin(self, stream: Http2Stream) -> bytes:
        """Give a stream its id; the frames with its headers."""
        stream.id = self.next_stream_id
        self.next_stream_id += 2
        stream.send_window = self._initial_window
        self.streams[stream.id] = stream
        block = self._encoder.encode(stream.fields, stream.volatile)
        stream.fields = stream.volatile = ()
        if len(block) <= self.max_frame_size:
            length = len(block)
            return FRAME_HEADER.pack(length >> 8, length & 0xFF, _HEADERS, _END_HEADERS, stream.id) + block
        return _headers_frames(stream.id, block, self.max_frame_size)

    def _open(self, stream: Http2Stream) -> None:
        self._control.append(self._begin(stream))
        if stream.outgoing or stream.end_queued:
            self._sending.append(stream)

    def _send_data(self, stream: Http2Stream, room: int, out: list[Buffer]) -> int:
        length, pieces = stream.take(room)
        end_stream = stream.end_queued and not stream.outgoing
        out.append(_frame_header(FrameType.DATA, Flag.END_STREAM if end_stream else 0, stream.id, length))
        out += pieces
        stream.send_window -= length
        self.window -= length
        self.data_sent += length if stream.outgoing else length + PIECE
        if stream.outgoing:
            self._sending.append(stream)
        elif end_stream:
            stream.sent = True
            if stream.answered:
                self.forget(stream)
        return length


def _frame_header(kind: FrameType, flags: int, stream_id: int, length: int) -> bytes:
    """The header of a frame, whose payload of `length` bytes follows."""
    return FRAME_HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream_id)


def _headers_frames(stream_id: int, block: bytes, max_frame_size: int) -> bytes:
    """A HEADERS frame, followed by CONTINUATION frames where the block does not fit into one.

    HEADERS never ends the stream. gRPC ends a request by END_STREAM on its last DATA, which is empty where
    there is no message ("gRPC over HTTP2", Requests). For END_STREAM on HEADERS, grpc-go waits for ever.
    """
    parts = [block[start : start + max_frame_size] for start in range(0, len(block), max_frame_size)]
    written = _frame_header(FrameType.HEADERS, 0, stream_id, len(parts[0])) + parts[0]
    for part in parts[1:]:
        last = Flag.END_HEADERS if part is parts[-1] else 0
        written += _frame_header(FrameType.CONTINUATION, last, stream_id, len(part)) + part
    return written
