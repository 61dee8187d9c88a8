"""`rpc.http2` at its edges: the last value that is taken, and the first that isn't."""

from __future__ import annotations

import pytest
from helpers.bare_client import (
    ending,
    headers,
    ready_client,
    receive,
    request,
    sent,
)
from helpers.h2_server import FIELDS, RESPONSE, TRAILERS, frame, parse_frames
from hpack import Encoder

from trio_model_runner.rpc import frames
from trio_model_runner.rpc.events import (
    ConnectionTerminated,
    DataReceived,
    GoAwayReceived,
    HeadersReceived,
    StreamReset,
)
from trio_model_runner.rpc.frames import ErrorCode, Flag, FrameType, Setting
from trio_model_runner.rpc.http2 import Http2Client

# The end


def test_goaway_is_the_last_frame_of_a_connection_that_we_end() -> None:
    client = ready_client()
    stream = request(client)
    assert ending(client.receive(frame(FrameType.PING, 0, 1, bytes(8)))) is not None
    client.reset_stream(stream)
    client.close()
    assert [kind for kind, *_ in sent(client)] == [FrameType.GOAWAY]


# Frames


@pytest.mark.parametrize(
    ("payload", "data"),
    [(b"\0", b""), (b"\0x", b"x"), (b"\x01\0", b""), (b"\x02x\0\0", b"x"), (b"\xff" + bytes(255), b"")],
)
def test_padding_may_take_all_but_its_own_length(payload: bytes, data: bytes) -> None:
    client = ready_client()
    stream = request(client)
    *_, event = client.receive(headers(stream) + frame(FrameType.DATA, Flag.PADDED, stream.id, payload))
    assert event == DataReceived(stream, data, len(payload), end_stream=False)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x02\0", b"\xff" + bytes(254)])
def test_padding_as_long_as_the_payload_or_longer_ends_the_connection(payload: bytes) -> None:
    """RFC 9113, section 6.1."""
    client = ready_client()
    stream = request(client)
    end = ending(client.receive(headers(stream) + frame(FrameType.DATA, Flag.PADDED, stream.id, payload)))
    assert end == ConnectionTerminated(ErrorCode.PROTOCOL_ERROR, "more padding than payload")


@pytest.mark.parametrize(
    "name", ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]
)
@pytest.mark.parametrize("in_trailers", [False, True])
def test_what_is_about_a_connection_of_http_1_is_malformed(name: str, in_trailers: bool) -> None:
    """RFC 9113, section 8.2.2."""
    client = ready_client()
    stream = request(client)
    field = ((name, "x"),)
    if in_trailers:
        receive(client, headers(stream))
        events = receive(client, headers(stream, TRAILERS + field, end=True))
    else:
        events = receive(client, headers(stream, RESPONSE + field))
    assert [type(event) for event in events] == [StreamReset]


def test_an_error_code_without_a_name_is_told_in_hexadecimal() -> None:
    assert frames.error_name(0x63) == "error 0x63"
    assert frames.error_name(0x7) == "REFUSED_STREAM"


@pytest.mark.parametrize("status", ["2000", "20", "099", "1e2", "", " 200", "-20"])
def test_a_status_has_three_digits(status: str) -> None:
    client = ready_client()
    stream = request(client)
    events = receive(client, headers(stream, ((":status", status), *RESPONSE[1:]), end=True))
    assert [type(event) for event in events] == [StreamReset]


def test_a_content_length_in_trailers_says_nothing() -> None:
    client = ready_client()
    stream = request(client)
    trailers = (*TRAILERS, ("content-length", "9"))
    events = receive(client, headers(stream) + headers(stream, trailers, end=True))
    assert events[1:] == [HeadersReceived(stream, trailers, end_stream=True)]


@pytest.mark.parametrize(("size", "expected"), [(16_383, 1), (16_384, 1), (16_385, 2), (32_768, 2)])
def test_a_body_takes_as_few_frames_as_it_may(size: int, expected: int) -> None:
    client = ready_client()
    client.send_data(client.open_stream(FIELDS), [bytes(size - 5), bytes(5)], end_stream=True)
    _, *data = sent(client)
    assert [kind for kind, *_ in data] == [FrameType.DATA] * expected
    assert [flags for _, flags, *_ in data] == [0] * (expected - 1) + [Flag.END_STREAM]


@pytest.mark.parametrize(("value", "fits"), [(0, True), (1, False), (2, False)])
def test_a_server_may_not_ask_for_push(value: int, fits: bool) -> None:
    """RFC 9113, section 6.5.2."""
    client = ready_client()
    end = ending(client.receive(frames.settings_frame([(Setting.ENABLE_PUSH, value)])))
    assert (end is None) is fits


@pytest.mark.parametrize("value", ["9" * 19, "9" * 5000, "+1", "1_0", "1 ", "", "0x1", "\xb2"])
def test_what_is_no_content_length_is_malformed(value: str) -> None:
    client = ready_client()
    stream = request(client)
    fields = (*RESPONSE, ("content-length", value))
    block = Encoder().encode([(name.encode(), text.encode("latin-1"), True) for name, text in fields])
    events = receive(client, frame(FrameType.HEADERS, Flag.END_HEADERS, stream.id, block))
    assert [type(event) for event in events] == [StreamReset]


def test_te_may_say_trailers() -> None:
    """RFC 9113, section 8.2.2."""
    client = ready_client()
    stream = request(client)
    events = receive(client, headers(stream, (*RESPONSE, ("te", "trailers"))))
    assert [type(event) for event in events] == [HeadersReceived]


def test_the_reserved_bit_of_a_streams_id_means_nothing() -> None:
    """RFC 9113, section 4.1."""
    client = ready_client()
    stream = request(client)
    data = bytearray(headers(stream))
    data[5] |= 0x80
    assert [type(event) for event in client.receive(bytes(data))] == [HeadersReceived]
    data = bytearray(frames.window_update_frame(0, 1))
    data[9] |= 0x80
    assert client.receive(bytes(data)) == []


@pytest.mark.parametrize(("size", "fits"), [(2**31 - 1, True), (2**31, False)])
def test_an_initial_window_has_a_limit(size: int, fits: bool) -> None:
    client = ready_client(frames.settings_frame([]))
    end = ending(client.receive(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, size)])))
    assert end is None if fits else end is not None and end.code == ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_a_change_of_the_initial_window_may_not_make_a_streams_window_too_large(
    more: int, fits: bool
) -> None:
    """RFC 9113, section 6.9.2."""
    client = ready_client(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 1000)]))
    stream, _ = request(client), request(client)
    client.receive(frames.window_update_frame(stream.id, 2**31 - 1 - 2000 + more))
    end = ending(client.receive(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 2000)])))
    assert end is None if fits else end is not None and end.code == ErrorCode.FLOW_CONTROL_ERROR


def test_a_change_of_the_initial_window_counts_what_was_sent() -> None:
    """RFC 9113, section 6.9.2: by the difference, below zero too."""
    client = ready_client(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 1000)]))
    request(client, bytes(5000))  # of which 1000 were sent
    for size, expected in ((400, 0), (1300, 300), (1300, 0), (1301, 1)):
        client.receive(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, size)]))
        assert sum(len(payload) for kind, *_, payload in sent(client) if kind == FrameType.DATA) == expected


def test_a_body_of_nothing_ends_though_there_is_no_window() -> None:
    client = ready_client(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 0)]))
    client.send_data(client.open_stream(FIELDS), [b"", b""], end_stream=True)
    assert [(kind, flags) for kind, flags, *_ in sent(client)] == [
        (FrameType.HEADERS, Flag.END_HEADERS),
        (FrameType.DATA, Flag.END_STREAM),
    ]


def test_the_window_of_a_stream_that_was_answered_is_not_returned() -> None:
    client = ready_client(frames.settings_frame([]), stream_window=20_000)
    stream = request(client, bytes(100_000))
    receive(client, headers(stream) + frame(FrameType.DATA, 0, stream.id, bytes(15_000)))
    receive(client, headers(stream, TRAILERS, end=True))
    assert not client.acknowledge(stream, 15_000)
    assert sent(client) == []


def test_a_window_is_returned_once() -> None:
    client = ready_client(stream_window=20_000)
    stream = request(client)
    returned = 0
    receive(client, headers(stream))
    for _ in range(20):
        receive(client, frame(FrameType.DATA, 0, stream.id, bytes(6000)))
        client.acknowledge(stream, 6000)
        returned += sum(int.from_bytes(part) for kind, _, id_, part in sent(client) if (kind, id_) == (8, 1))
    assert 0 <= 20 * 6000 - returned < 10_000


MALFORMED = {
    "PING on a stream": (frame(FrameType.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "short PING": (frame(FrameType.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "long PING": (frame(FrameType.PING, 0, 0, bytes(9)), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frame(FrameType.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "short GOAWAY": (frame(FrameType.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frame(FrameType.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "short SETTINGS": (frame(FrameType.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "acknowledged SETTINGS": (frame(FrameType.SETTINGS, Flag.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "PRIORITY of the connection": (frame(FrameType.PRIORITY, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "short PRIORITY": (frame(FrameType.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "RST_STREAM of an idle stream": (frames.rst_stream_frame(3, 0), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of a server's stream": (frames.rst_stream_frame(2, 0), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of the connection": (frames.rst_stream_frame(0, 0), ErrorCode.PROTOCOL_ERROR),
    "short RST_STREAM": (frame(FrameType.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "long RST_STREAM": (frame(FrameType.RST_STREAM, 0, 1, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "short WINDOW_UPDATE": (frame(FrameType.WINDOW_UPDATE, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 0": (frames.window_update_frame(0, 0), ErrorCode.PROTOCOL_ERROR),
    "DATA of an idle stream": (frame(FrameType.DATA, 0, 3, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA of a server's stream": (frame(FrameType.DATA, 0, 2, b"x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS without room for a priority": (
        frame(FrameType.HEADERS, Flag.PRIORITY | Flag.END_HEADERS, 1, bytes(4)),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "CONTINUATION alone": (frame(FrameType.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(FrameType.PUSH_PROMISE, 4, 1, bytes(5)), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("data", "code"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_frame_ends_the_connection_with_its_code(data: bytes, code: ErrorCode) -> None:
    client = ready_client()
    request(client)
    end = ending(client.receive(data))
    assert end is not None
    assert end.code == code


@pytest.mark.parametrize("first", [frames.settings_ack_frame(), frames.ping_frame(bytes(8), ack=False)])
def test_a_connection_begins_with_settings_that_are_no_acknowledgement(first: bytes) -> None:
    """RFC 9113, section 3.4."""
    end = ending(Http2Client(clock=lambda: 0.0).receive(first))
    assert end == ConnectionTerminated(ErrorCode.PROTOCOL_ERROR, "it does not begin with SETTINGS")


def test_a_priority_in_headers_is_skipped() -> None:
    client = ready_client()
    stream = request(client)
    data = frame(FrameType.HEADERS, Flag.PRIORITY | Flag.END_HEADERS, stream.id, b"\0\0\0\0\x10\x88")
    [event] = client.receive(data)
    assert isinstance(event, HeadersReceived)
    assert event.fields == ((":status", "200"),)


def test_a_piece_of_nothing_sends_nothing() -> None:
    client = ready_client()
    stream = client.open_stream(FIELDS)
    client.send_data(stream, [])
    assert [kind for kind, *_ in sent(client)] == [FrameType.HEADERS]
    client.send_data(stream, [b""])
    client.send_data(stream, [])
    assert sent(client) == []


@pytest.mark.parametrize("window", [1000, 65_535, 65_536, 4 << 20])
def test_a_connections_window_is_opened_as_far_as_it_was_asked_for(window: int) -> None:
    client = Http2Client(connection_window=window, clock=lambda: 0.0)
    frames_sent = parse_frames(b"".join(client.data_to_send())[len(frames.CONNECTION_PREFACE) :])
    opened = [int.from_bytes(part) for kind, _, _, part in frames_sent if kind == FrameType.WINDOW_UPDATE]
    assert opened == ([window - 65_535] if window > 65_535 else [])


def test_a_server_may_fill_a_streams_window_to_the_last_byte() -> None:
    client = ready_client(stream_window=16_000)
    stream = request(client)
    receive(client, headers(stream))
    [data] = receive(client, frame(FrameType.DATA, 0, stream.id, bytes(16_000)))
    assert isinstance(data, DataReceived)
    [reset] = receive(client, frame(FrameType.DATA, 0, stream.id, b"x"))
    assert isinstance(reset, StreamReset)


def test_trailers_end_their_stream() -> None:
    """RFC 9113, section 8.1: there is one block of them, with END_STREAM."""
    client = ready_client()
    stream = request(client)
    events = receive(client, headers(stream) + headers(stream, TRAILERS))
    assert [type(event) for event in events] == [HeadersReceived, StreamReset]


def test_streams_that_wait_for_the_connections_window_keep_their_order() -> None:
    client = ready_client(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 2**20)]))
    request(client, bytes(65_535))  # all of the connection's window
    streams = [request(client, bytes(10)) for _ in range(4)]
    assert sent(client) == sent(client) == []
    for stream in streams:
        receive(client, frames.window_update_frame(0, 10))
        assert [stream_id for _, _, stream_id, _ in sent(client)] == [stream.id]


@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 32_768, 40_000])
def test_a_header_block_is_cut_where_a_frame_is_full(size: int) -> None:
    client = ready_client()
    for _ in range(2):  # then the fields are in the table
        client.open_stream(FIELDS)
        [(_, _, _, block)] = sent(client)
    # The last field is a literal: its first byte, its name's length and name, its value's length and value.
    overhead = 1 + 2 + (3 if size - len(block) <= 16_500 else 4)
    client.open_stream(FIELDS, ((b"a", bytes(size - len(block) - overhead)),))
    parts = sent(client)
    lengths = [min(16_384, size - start) for start in range(0, size, 16_384)]
    assert [len(payload) for *_, payload in parts] == lengths
    assert [kind for kind, *_ in parts] == [
        FrameType.HEADERS,
        FrameType.CONTINUATION,
        FrameType.CONTINUATION,
    ][: len(lengths)]
    assert [flags for _, flags, *_ in parts] == [0] * (len(lengths) - 1) + [Flag.END_HEADERS]


def test_the_reserved_bit_of_goaways_last_stream_means_nothing() -> None:
    """RFC 9113, section 6.8."""
    client = ready_client()
    request(client), (above := request(client))
    goaway = frame(FrameType.GOAWAY, 0, 0, b"\x80\0\0\x01" + bytes(4))
    events = client.receive(goaway)
    assert events[0] == GoAwayReceived(1, 0, b"")
    assert [event.stream for event in events if isinstance(event, StreamReset)] == [above]


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_windows_have_a_limit(more: int, fits: bool) -> None:
    """RFC 9113, section 6.9.1: over it, the stream ends, or the connection."""
    client = ready_client(frames.settings_frame([]))
    stream = request(client)
    events = client.receive(frames.window_update_frame(stream.id, 2**31 - 1 - 65_535 + more))
    assert [type(event) for event in events] == ([] if fits else [StreamReset])
    events = client.receive(frames.window_update_frame(0, 2**31 - 1 - 65_535 + more))
    assert [type(event) for event in events] == ([] if fits else [ConnectionTerminated])
