"""What `rpc.http2` promises beyond the protocol: order, fairness, bounds, and what was certainly not sent."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from helpers.h2_server import FIELDS, RESPONSE, TRAILERS, Exchange, frame, parse_frames
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
from trio_model_runner.rpc.http2 import Http2Client, Http2Stream

WIDE_OPEN = frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)]) + frames.window_update_frame(
    0, 2**30
)


def ready_client(settings: bytes = WIDE_OPEN, **options: Any) -> Http2Client:
    """A client that has said hello to a server with these SETTINGS."""
    client = Http2Client(**options)
    client.receive(settings)
    client.data_to_send()
    return client


def request(client: Http2Client, body: bytes = b"") -> Http2Stream:
    """A whole request."""
    stream = client.open_stream(FIELDS)
    client.send_data(stream, [body], end_stream=True)
    return stream


def sent(client: Http2Client, limit: int = 256 << 10) -> list[tuple[int, int, int, bytes]]:
    """The frames that the client sends next."""
    return parse_frames(b"".join(client.data_to_send(limit)))


def response(encoder: Encoder, stream_id: int, fields: tuple[tuple[str, str], ...], *, end: bool) -> bytes:
    """A HEADERS frame."""
    flags = Flag.END_HEADERS | (Flag.END_STREAM if end else 0)
    return frame(FrameType.HEADERS, flags, stream_id, encoder.encode(fields))


def how_it_ended(client: Http2Client, data: bytes) -> tuple[int, str] | None:
    """The code and the reason with which the client ends the connection over `data`, if it does."""
    events = client.receive(data)
    if events and isinstance(events[-1], ConnectionTerminated):
        return events[-1].code, events[-1].reason
    return None


# Fairness, order and copies


def test_a_small_request_does_not_wait_behind_a_large_one() -> None:
    client = ready_client()
    large = request(client, bytes(10 << 20))
    client.data_to_send()
    small = request(client, b"small")
    assert not large.sent
    sent(client)
    assert small.sent
    assert not large.sent


def test_large_requests_take_turns() -> None:
    client = ready_client()
    streams = [request(client, bytes(1 << 20)) for _ in range(4)]
    for _ in range(5):
        sent(client, 200_000)
        left = [stream.unsent for stream in streams]
        assert max(left) - min(left) <= 16_384


def test_a_piece_for_the_writer_has_a_limit_even_where_frames_have_none() -> None:
    client = ready_client(WIDE_OPEN + frames.settings_frame([(Setting.MAX_FRAME_SIZE, 2**24 - 1)]))
    request(client, bytes(10 << 20))
    small = request(client, b"small")
    assert sum(map(len, client.data_to_send(100_000))) < 101_000
    client.data_to_send(100_000)
    assert small.sent


def test_bodies_are_not_copied() -> None:
    client = ready_client()
    body, short = bytes(40_000), b"short"
    stream = client.open_stream(FIELDS)
    client.send_data(stream, [short, body], end_stream=True)
    buffers = client.data_to_send()
    assert any(buffer is short for buffer in buffers)
    views = [buffer for buffer in buffers if isinstance(buffer, memoryview)]
    assert sum(map(len, views)) == len(body)
    assert all(view.obj is body for view in views)


def test_settings_are_acknowledged_before_a_request_relies_on_them() -> None:
    client = Http2Client()
    request(client)
    client.receive(frames.settings_frame([(Setting.HEADER_TABLE_SIZE, 0)]))
    kinds = [kind for kind, *_ in parse_frames(b"".join(client.data_to_send())[24:])]
    assert kinds.index(FrameType.HEADERS) > max(
        index for index, kind in enumerate(kinds) if kind == FrameType.SETTINGS
    )


def test_a_request_waits_for_a_place_and_takes_it() -> None:
    client = ready_client(frames.settings_frame([(Setting.MAX_CONCURRENT_STREAMS, 1)]))
    first, second = request(client), request(client)
    sent(client)
    assert (first.id, second.id) == (1, 0)
    client.reset_stream(first)
    kinds = [(kind, stream_id) for kind, _, stream_id, _ in sent(client)]
    assert kinds == [(FrameType.RST_STREAM, 1), (FrameType.HEADERS, 3), (FrameType.DATA, 3)]


def test_a_body_may_come_in_pieces_but_not_after_its_end() -> None:
    client = ready_client()
    stream = client.open_stream(FIELDS)
    client.send_data(stream, [])
    assert [kind for kind, *_ in sent(client)] == [FrameType.HEADERS]
    client.send_data(stream, [b"a"])
    client.send_data(stream, [b"", b"b"])
    assert [payload for *_, payload in sent(client)] == [b"ab"]
    client.send_data(stream, [], end_stream=True)
    assert [(flags, payload) for _, flags, _, payload in sent(client)] == [(Flag.END_STREAM, b"")]
    with pytest.raises(RuntimeError):
        client.send_data(stream, [b"c"])
    client.reset_stream(stream)
    client.send_data(stream, [b"d"])
    assert [kind for kind, *_ in sent(client)] == [FrameType.RST_STREAM]


# What was certainly not sent


def test_a_stream_reset_before_it_was_handed_out_never_reaches_the_wire() -> None:
    client = ready_client()
    stream = request(client, b"body")
    client.reset_stream(stream)
    assert stream.closed
    assert client.data_to_send() == []
    assert request(client) is not stream
    assert {stream_id for _, _, stream_id, _ in sent(client)} == {1}


def test_a_client_that_refuses_streams_opens_none_even_where_a_reset_makes_room() -> None:
    client = ready_client(WIDE_OPEN + frames.settings_frame([(Setting.MAX_CONCURRENT_STREAMS, 1)]))
    opened, unopened = request(client), request(client)
    assert {stream_id for _, _, stream_id, _ in sent(client)} >= {1}
    client.refuse_streams()
    client.reset_stream(opened)
    assert [(kind, stream_id) for kind, _, stream_id, _ in sent(client)] == [(FrameType.RST_STREAM, 1)]
    assert client.streams == [unopened]
    assert not client.idle
    client.reset_stream(unopened)
    assert client.idle
    client.close()
    assert [kind for kind, _, _, _ in sent(client)] == [FrameType.GOAWAY]


def test_goaway_frees_what_the_server_did_not_process_and_leaves_the_rest() -> None:
    client = ready_client(WIDE_OPEN + frames.settings_frame([(Setting.MAX_CONCURRENT_STREAMS, 2)]))
    kept, above, unopened = request(client), request(client), request(client)
    sent(client)
    goaway, *resets = client.receive(frames.goaway_frame(1, ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings"))
    assert goaway == GoAwayReceived(1, ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")
    assert [(reset.stream, reset.unprocessed) for reset in resets] == [(above, True), (unopened, True)]
    assert client.streams == [kept]
    assert not client.accepts_streams
    with pytest.raises(RuntimeError):
        client.open_stream(FIELDS)
    encoder = Encoder()
    answer = response(encoder, 1, RESPONSE, end=False) + response(encoder, 1, TRAILERS, end=True)
    assert [event.stream for event in client.receive(answer)] == [kept, kept]
    assert client.data_to_send() == []


def test_a_second_goaway_may_free_more() -> None:
    client = ready_client()
    first, second = request(client), request(client)
    sent(client)
    assert len(client.receive(frames.goaway_frame(2**31 - 1, 0))) == 1
    assert [event.stream for event in client.receive(frames.goaway_frame(1, 0))[1:]] == [second]
    assert client.streams == [first]


@pytest.mark.parametrize("ending", [frames.rst_stream_frame(1, 7), frames.goaway_frame(0, 0)])
def test_a_server_that_began_its_answer_did_process_the_request(ending: bytes) -> None:
    client = ready_client()
    request(client)
    sent(client)
    events = client.receive(response(Encoder(), 1, RESPONSE, end=False) + ending)
    assert [event.unprocessed for event in events if isinstance(event, StreamReset)] == [False]


def test_a_refused_stream_was_not_processed() -> None:
    client = ready_client()
    refused, cancelled = request(client), request(client)
    sent(client)
    events = client.receive(frames.rst_stream_frame(1, 7) + frames.rst_stream_frame(3, 8))
    assert events == [StreamReset(refused, 7, unprocessed=True), StreamReset(cancelled, 8)]


def test_streams_are_accepted_only_as_far_as_there_are_ids() -> None:
    client = ready_client()
    client._sender.next_stream_id = 2**31 - 3
    first, last = request(client), request(client)
    assert not client.accepts_streams
    with pytest.raises(RuntimeError):
        client.open_stream(FIELDS)
    client.reset_stream(first)
    another = request(client)
    opened = [stream_id for kind, _, stream_id, _ in sent(client) if kind == FrameType.HEADERS]
    assert opened == [2**31 - 3, 2**31 - 1]
    assert (last.id, another.id) == (2**31 - 3, 2**31 - 1)
    assert not client.accepts_streams


# Streams that end early


def test_what_comes_late_for_a_reset_stream_keeps_the_connection_in_step() -> None:
    exchange = Exchange(connection_window=65_535)
    exchange.settle()
    abandoned, other = exchange.request(b"1"), exchange.request(b"2")
    exchange.to_server()
    server = exchange.server
    for _ in range(40):  # far more than the connection's window, all of it for a stream that nobody reads
        if not abandoned.closed:
            server.send_headers(1, [*RESPONSE, ("x-in-table", "abandoned")])
        server.send_data(1, bytes(15_000))
        if not abandoned.closed:
            exchange.client.reset_stream(abandoned)
        exchange.client.receive(server.data_to_send())
        updates = [f for f in sent(exchange.client) if f[0] == FrameType.WINDOW_UPDATE]
        server.receive_data(b"".join(frame(*update) for update in updates))
    server.send_headers(3, [*RESPONSE, ("x-in-table", "abandoned")], end_stream=True)
    [event] = exchange.to_client()
    assert event == HeadersReceived(other, (*RESPONSE, ("x-in-table", "abandoned")), end_stream=True)


def test_an_answer_may_come_before_the_request_is_sent() -> None:
    client = ready_client(frames.settings_frame([]))
    stream = request(client, bytes(100_000))
    sent(client)
    events = client.receive(response(Encoder(), 1, (*RESPONSE, *TRAILERS), end=True))
    assert [type(event) for event in events] == [HeadersReceived]
    assert (stream.sent, stream.closed) == (False, False)
    assert client.receive(frames.rst_stream_frame(1, 0)) == []
    assert stream.closed
    assert client.receive(frames.window_update_frame(0, 1 << 20)) == []
    assert client.data_to_send() == []


def test_an_answered_request_may_also_be_sent_to_its_end() -> None:
    client = ready_client(frames.settings_frame([]))
    stream = request(client, bytes(100_000))
    sent(client)
    client.receive(response(Encoder(), 1, (*RESPONSE, *TRAILERS), end=True))
    client.receive(frames.window_update_frame(0, 1 << 20) + frames.window_update_frame(1, 1 << 20))
    assert sum(len(payload) for *_, payload in sent(client)) == 100_000 - 65_535
    assert stream.sent
    assert stream.closed


@pytest.mark.parametrize("late", [frame(FrameType.DATA, 0, 1, b"x"), frames.window_update_frame(1, 0)])
def test_a_complete_answer_is_not_spoilt_by_what_follows(late: bytes) -> None:
    client = ready_client(frames.settings_frame([]))
    stream = request(client, bytes(100_000))
    sent(client)
    answer = response(Encoder(), 1, (*RESPONSE, *TRAILERS), end=True)
    assert [type(event) for event in client.receive(answer + late)] == [HeadersReceived]
    assert stream.closed
    assert [kind for kind, *_ in sent(client)] == [FrameType.RST_STREAM]


BAD_RESPONSES = {
    "data before headers": frame(FrameType.DATA, 0, 1, b"x"),
    "no status": response(Encoder(), 1, (("content-type", "x"),), end=False),
    "no headers": response(Encoder(), 1, (), end=True),
    "upper case": response(Encoder(), 1, ((":status", "200"), ("Name", "x")), end=True),
    "pseudo-header in the middle": response(Encoder(), 1, ((":status", "200"), (":status", "200")), end=True),
    "trailers that end nothing": 2 * response(Encoder(), 1, ((":status", "200"),), end=False),
    "a status that is no number": response(Encoder(), 1, ((":status", "xyz"),), end=True),
    "HTTP/1's 101": response(Encoder(), 1, ((":status", "101"),), end=False),
    "an interim response that ends it": response(Encoder(), 1, ((":status", "103"),), end=True),
    "a blank before a value": response(Encoder(), 1, ((":status", "200"), ("a", " b")), end=True),
    "a tab after a value": response(Encoder(), 1, ((":status", "200"), ("a", "b\t")), end=True),
    "NUL in a value": response(Encoder(), 1, ((":status", "200"), ("a", "b\0c")), end=True),
    "CR in a value": response(Encoder(), 1, ((":status", "200"), ("a", "b\rc")), end=True),
    "LF in a value": response(Encoder(), 1, ((":status", "200"), ("a", "b\nc")), end=True),
    "a blank in a name": response(Encoder(), 1, ((":status", "200"), ("a b", "c")), end=True),
    "a colon in a name": response(Encoder(), 1, ((":status", "200"), ("a:b", "c")), end=True),
    "no name": response(Encoder(), 1, ((":status", "200"), ("", "c")), end=True),
    "connection": response(Encoder(), 1, ((":status", "200"), ("connection", "close")), end=True),
    "transfer-encoding": response(Encoder(), 1, ((":status", "200"), ("transfer-encoding", "x")), end=True),
    "te": response(Encoder(), 1, ((":status", "200"), ("te", "gzip")), end=True),
    "no length": response(Encoder(), 1, ((":status", "200"), ("content-length", "-1")), end=False),
    "two lengths": response(
        Encoder(), 1, ((":status", "200"), ("content-length", "1"), ("content-length", "2")), end=False
    ),
    "a length and no body": response(Encoder(), 1, ((":status", "200"), ("content-length", "1")), end=True),
    "more body than its length": response(
        Encoder(), 1, ((":status", "200"), ("content-length", "3")), end=False
    )
    + frame(FrameType.DATA, 0, 1, b"abcd"),
    "less body than its length": response(
        Encoder(), 1, ((":status", "200"), ("content-length", "3")), end=False
    )
    + frame(FrameType.DATA, Flag.END_STREAM, 1, b"ab"),
    "trailers before all of its length": response(
        Encoder(), 1, ((":status", "200"), ("content-length", "3")), end=False
    )
    + frame(FrameType.DATA, 0, 1, b"ab")
    + response(Encoder(), 1, TRAILERS, end=True),
    "a pseudo-header in trailers": response(Encoder(), 1, RESPONSE, end=False)
    + response(Encoder(), 1, ((":status", "200"),), end=True),
    "no window update": frames.window_update_frame(1, 0),
    "too large a window": frames.window_update_frame(1, 2**31 - 1),
}


@pytest.mark.parametrize("data", BAD_RESPONSES.values(), ids=BAD_RESPONSES)
def test_a_malformed_response_costs_its_stream_alone(data: bytes) -> None:
    client = ready_client()
    stream, other = request(client), request(client)
    sent(client)
    *_, reset = client.receive(data)
    assert isinstance(reset, StreamReset)
    assert (reset.stream, reset.unprocessed, bool(reset.reason)) == (stream, False, True)
    assert client.streams == [other]
    assert [kind for kind, *_ in sent(client)] == [FrameType.RST_STREAM]


GOOD_RESPONSES = {
    "a body of its length": response(
        Encoder(), 1, ((":status", "200"), ("content-length", "3"), ("content-length", "3")), end=False
    )
    + frame(FrameType.DATA, Flag.PADDED, 1, b"\x05ab" + bytes(5))
    + frame(FrameType.DATA, Flag.END_STREAM, 1, b"c"),
    "no body, as its length says": response(
        Encoder(), 1, ((":status", "200"), ("content-length", "0")), end=True
    ),
    "the length of what it does not send": response(
        Encoder(), 1, ((":status", "304"), ("content-length", "9")), end=True
    ),
    "an interim response before it": response(Encoder(), 1, ((":status", "103"), ("a", "b")), end=False)
    + response(Encoder(), 1, RESPONSE, end=True),
    "no text and odd text": response(
        Encoder(), 1, ((":status", "200"), ("a", ""), ("b!#$", "c d\te\x80\xff")), end=True
    ),
}


@pytest.mark.parametrize("data", GOOD_RESPONSES.values(), ids=GOOD_RESPONSES)
def test_a_response_that_looks_odd_and_is_well_formed_is_taken(data: bytes) -> None:
    client = ready_client()
    stream = request(client)
    sent(client)
    events = client.receive(data)
    assert isinstance(events[-1], HeadersReceived | DataReceived)
    assert events[-1].end_stream
    assert stream.closed
    assert sent(client) == []


def test_a_server_keeps_to_a_streams_window() -> None:
    client = ready_client(stream_window=20_000)
    stream, _ = request(client), request(client)
    sent(client)
    client.receive(response(Encoder(), 1, RESPONSE, end=False) + frame(FrameType.DATA, 0, 1, bytes(16_000)))
    [reset] = client.receive(frame(FrameType.DATA, 0, 1, bytes(4001)))
    assert isinstance(reset, StreamReset)
    assert (reset.stream, reset.code) == (stream, ErrorCode.FLOW_CONTROL_ERROR)


def test_a_window_is_returned_as_its_data_is_consumed() -> None:
    client = ready_client(stream_window=20_000)
    stream = request(client)
    sent(client)
    client.receive(response(Encoder(), 1, RESPONSE, end=False))
    for _ in range(50):
        [data] = client.receive(frame(FrameType.DATA, Flag.PADDED, 1, b"\x09" + bytes(15_000)))
        assert isinstance(data, DataReceived)
        assert (len(data.data), data.flow_controlled_length) == (14_991, 15_001)
        client.acknowledge(stream, data.flow_controlled_length)


# Bounds


def test_a_flood_of_continuations_ends_the_connection_soon() -> None:
    for part in (b"", b"\x00", bytes(16_000)):
        client = ready_client()
        request(client)
        sent(client)
        assert how_it_ended(client, frame(FrameType.HEADERS, 0, 1, part)) is None
        more = (how_it_ended(client, frame(FrameType.CONTINUATION, 0, 1, part)) for _ in range(128))
        ends = [end for end in more if end is not None]
        assert ends == [(ErrorCode.ENHANCE_YOUR_CALM, "a header block over the limit")]


@pytest.mark.parametrize("demand", [frames.ping_frame(bytes(8), ack=False), frames.settings_frame([(3, 9)])])
def test_a_flood_of_demands_that_nobody_reads_the_answers_to_ends_the_connection(demand: bytes) -> None:
    client = ready_client(clock=itertools.count(0, 10).__next__)
    for _ in range(10):
        assert how_it_ended(client, demand * 100) is None
        assert len(sent(client)) == 100
    ends = [end for end in (how_it_ended(client, demand) for _ in range(3000)) if end]
    assert ends == [(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that want an answer")]
    assert len(sent(client)) < 1100


def test_a_flood_of_table_sizes_is_announced_in_two_numbers() -> None:
    client = ready_client(clock=itertools.count(0, 10).__next__)
    for _ in range(20):
        client.receive(
            frames.settings_frame([(Setting.HEADER_TABLE_SIZE, size % 90) for size in range(2000)])
        )
        client.data_to_send()
    request(client)
    [(_, _, _, block), _] = sent(client)
    assert block.startswith(b"\x20\x33")  # 0, the smallest; then 1999 % 90, the last


def test_a_frame_over_the_limit_is_refused_before_it_comes() -> None:
    header = frame(FrameType.DATA, 0, 1, bytes(16_385))[:9]
    end = how_it_ended(ready_client(), header)
    assert end == (ErrorCode.FRAME_SIZE_ERROR, "a frame of 16385 bytes")


def test_the_connections_window_is_returned_though_nobody_reads() -> None:
    client = ready_client(connection_window=65_535)
    request(client)
    sent(client)
    data = frame(FrameType.DATA, Flag.PADDED, 1, b"\xff" + bytes(16_383))
    returned = 0
    for _ in range(100):
        assert how_it_ended(client, data) is None
        returned += sum(int.from_bytes(part) for kind, _, id_, part in sent(client) if (kind, id_) == (8, 0))
    assert 0 <= 100 * 16_384 - returned < 65_535 / 2
