"""What a peer may make us do for nothing: frames alone, as a hostile and as an honest server send them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from helpers.h2_server import FIELDS, RESPONSE, TRAILERS, frame
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.rpc import frames
from trio_model_runner.rpc.budget import CAPACITY, WorkBudget
from trio_model_runner.rpc.events import ConnectionTerminated, DataReceived, HeadersReceived
from trio_model_runner.rpc.field_reader import FieldReader
from trio_model_runner.rpc.frames import ErrorCode, Flag, FrameType, ProtocolViolation, Setting
from trio_model_runner.rpc.http2 import Http2Client, Http2Stream

TOO_MUCH = ConnectionTerminated(ErrorCode.ENHANCE_YOUR_CALM, "too many frames that bring no call forward")


class Server:
    """A server's frames, and the client that they go to; time stands still unless `now` is set."""

    def __init__(self) -> None:
        self.now = 0.0
        self.client = Http2Client(clock=lambda: self.now)
        self.encoder = Encoder()
        self.feed(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)]))
        self.feed(frames.window_update_frame(0, 2**30))

    @property
    def spent(self) -> float:
        return CAPACITY - self.client._budget.left

    def request(self, body: bytes = b"") -> Http2Stream:
        stream = self.client.open_stream(FIELDS)
        self.client.send_data(stream, [body], end_stream=True)
        while self.client.data_to_send():
            pass
        return stream

    def feed(self, data: bytes) -> list[object]:
        """All events of these bytes, in as many turns as it takes."""
        events: list[object] = list(self.client.receive(data))
        while self.client.turn_over:
            events += self.client.receive(b"")
        self.client.data_to_send()
        return events

    def headers(self, stream: Http2Stream, fields: object = RESPONSE, *, end: bool = False) -> bytes:
        flags = Flag.END_HEADERS | (Flag.END_STREAM if end else 0)
        return frame(FrameType.HEADERS, flags, stream.id, self.encoder.encode(fields))  # type: ignore[arg-type]

    def answer(self, stream: Http2Stream, *data: bytes) -> bytes:
        parts = [frame(FrameType.DATA, 0, stream.id, piece) for piece in data]
        return self.headers(stream) + b"".join(parts) + self.headers(stream, TRAILERS, end=True)


def interim(server: Server, stream: Http2Stream) -> Iterator[bytes]:
    for number in itertools.count():
        yield server.headers(stream, ((":status", "103"), ("a", str(number)))) + b""


def indexed(server: Server, stream: Http2Stream) -> Iterator[bytes]:
    for number in itertools.count():
        block = b"\x08\x03103\x00\x01a\x08%08d" % number + b"\x95" * 400
        yield frame(FrameType.HEADERS, Flag.END_HEADERS, stream.id, block)


def many_parts(server: Server, stream: Http2Stream) -> Iterator[bytes]:
    while True:
        yield (
            frame(FrameType.HEADERS, 0, stream.id, b"")
            + frame(FrameType.CONTINUATION, 0, stream.id, b"") * 100
            + frame(FrameType.CONTINUATION, Flag.END_HEADERS, stream.id, b"\x08\x03103")
        )


def resizes(server: Server, stream: Http2Stream) -> Iterator[bytes]:
    for number in itertools.count():
        block = b"\x20\x3f\xe1\x1f" * 8 + b"\x08\x03103\x40\x08%08d\x01b" % number
        yield frame(FrameType.HEADERS, Flag.END_HEADERS, stream.id, block)


def huffman(server: Server, stream: Http2Stream) -> Iterator[bytes]:
    block = b"\x08\x03103\x00\x01a\xff\xfe\x7c" + bytes(16_125)  # 25,800 times "0"
    while True:
        yield frame(FrameType.HEADERS, Flag.END_HEADERS, stream.id, block)


def repeated(data: bytes) -> Callable[[Server, Http2Stream], Iterator[bytes]]:
    return lambda server, stream: itertools.repeat(data)


def in_body(data: bytes) -> Callable[[Server, Http2Stream], Iterator[bytes]]:
    return lambda server, stream: itertools.chain([server.headers(stream)], itertools.repeat(data))


def after_answer(data: bytes) -> Callable[[Server, Http2Stream], Iterator[bytes]]:
    return lambda server, stream: itertools.chain([server.answer(stream, bytes(6))], itertools.repeat(data))


def refused(server: Server, stream: Http2Stream) -> Iterator[bytes]:
    yield server.answer(stream, bytes(6))
    for number in itertools.count():
        yield server.headers(stream, (*RESPONSE, ("a", str(number))))


FLOODS: dict[str, Callable[[Server, Http2Stream], Iterator[bytes]]] = {
    "interim responses": interim,
    "interim responses of many fields": indexed,
    "interim responses in many parts": many_parts,
    "the table's size": resizes,
    "Huffman's code": huffman,
    "empty DATA": in_body(frame(FrameType.DATA, 0, 1)),
    "DATA of a byte": in_body(frame(FrameType.DATA, 0, 1, b"x")),
    "DATA of a byte, padded": in_body(frame(FrameType.DATA, Flag.PADDED, 1, b"\xffx" + bytes(255))),
    "DATA that is padding": in_body(frame(FrameType.DATA, Flag.PADDED, 1, b"\xff" + bytes(255))),
    "DATA on a closed stream": after_answer(frame(FrameType.DATA, 0, 1, b"x")),
    "much DATA on a closed stream": after_answer(frame(FrameType.DATA, 0, 1, bytes(16_000))),
    "HEADERS on a closed stream": refused,
    "RST_STREAM on a closed stream": after_answer(frames.rst_stream_frame(1, 0)),
    "WINDOW_UPDATE on a closed stream": after_answer(frames.window_update_frame(1, 1)),
    "WINDOW_UPDATE of the stream": repeated(frames.window_update_frame(1, 1)),
    "WINDOW_UPDATE of the connection": repeated(frames.window_update_frame(0, 1)),
    "PING": repeated(frames.ping_frame(bytes(8), ack=False)),
    "answers to PINGs": repeated(frames.ping_frame(bytes(8), ack=True)),
    "SETTINGS": repeated(frames.settings_frame([])),
    "acknowledged SETTINGS": repeated(frames.settings_ack_frame()),
    "unknown SETTINGS": repeated(frames.settings_frame([(99, 1)] * 2000)),
    "SETTINGS of windows": repeated(frames.settings_frame([(4, 0), (4, 70_000)] * 1000)),
    "GOAWAY": repeated(frames.goaway_frame(2**31 - 1, 0)),
    "long GOAWAY": repeated(frames.goaway_frame(2**31 - 1, 0, bytes(16_000))),
    "PRIORITY": repeated(frame(FrameType.PRIORITY, 0, 1, bytes(5))),
    "unknown frames": repeated(frame(77, 0, 1)),
    "long unknown frames": repeated(frame(77, 0, 1, bytes(16_000))),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_ends_the_connection_and_the_peer_is_told_why(
    flood: Callable[[Server, Http2Stream], Iterator[bytes]],
) -> None:
    server = Server()
    stream = server.request()
    for number, data in enumerate(flood(server, stream)):
        events = server.feed(data)
        if any(isinstance(event, ConnectionTerminated) for event in events):
            assert events[-1] == TOO_MUCH
            break
        assert number < 5000
    assert not server.client.accepts_streams


def test_the_end_is_said_by_a_goaway() -> None:
    client = Http2Client(clock=lambda: 0.0)
    client.receive(frames.settings_frame([]))
    client.data_to_send()
    while not client.receive(frame(77, 0, 1)):
        pass
    [goaway] = client.data_to_send()
    assert goaway == frames.goaway_frame(0, ErrorCode.ENHANCE_YOUR_CALM, TOO_MUCH.reason.encode())


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_is_read_in_short_turns(flood: Callable[[Server, Http2Stream], Iterator[bytes]]) -> None:
    """A frame may go over the end of a turn, but no second one does."""
    server = Server()
    stream = server.request()
    data = b"".join(itertools.islice(flood(server, stream), 50))
    client, dearest = server.client, 0.0
    before = client._budget.left
    client.receive(data)
    turns = 1
    while client.turn_over and client.accepts_streams:
        dearest = max(dearest, before - client._budget.left)
        before = client._budget.left
        client.receive(b"")
        turns += 1
    assert dearest < (16 << 10) + (16_384 // 6 + 1) * 64  # a turn's and the dearest frame's, SETTINGS


def test_new_headers_of_many_calls_end_a_turn_though_they_are_free() -> None:
    server = Server()
    streams = [server.request() for _ in range(100)]
    before = server.spent
    many = tuple((f"x-{number}", "y") for number in range(100))
    data = b"".join(server.headers(each, (*RESPONSE, *many, ("x", str(each.id)))) for each in streams)
    turns = 0
    events = server.client.receive(data)
    while server.client.turn_over:
        turns += 1
        events += server.client.receive(b"")
    assert len(events) == 100
    assert turns >= 5
    assert server.spent == before


def test_a_message_in_the_longest_codes_is_decoded_no_further_than_it_is_kept() -> None:
    codes = b"\xff\xff\xfe" * 40_000  # whatever they mean: 24 bits and more for a byte
    block = b"\x00\x0cgrpc-message" + b"\xff" + encoded_length(len(codes)) + codes
    read = FieldReader(16 << 10, cut=frozenset({b"grpc-message"})).read(block)
    assert read.dropped <= 1
    assert read.cost <= 4 * (16 << 10) + 200


def encoded_length(length: int) -> bytes:
    """A number behind a prefix of seven bits that are all set (RFC 7541, section 5.1)."""
    length -= 127
    encoded = bytearray()
    while length >= 128:
        encoded.append(length & 127 | 128)
        length >>= 7
    return bytes((*encoded, length))


def test_fields_that_are_needed_are_kept_over_the_limit_a_few_times() -> None:
    reader = FieldReader(100, needed=frozenset({b"grpc-status"}))
    read = reader.read(b"\x00\x0bgrpc-status\x010" * 1000)
    assert len(read.fields) < 20
    assert read.cost_over > 900 * 32


def test_who_makes_us_reset_a_stream_gets_nothing_for_it() -> None:
    """Nothing but what an answer that is on its way needs."""
    server = Server()
    stream = server.request()
    server.feed(server.headers(stream, (*RESPONSE, ("connection", "close"))))
    assert stream.closed
    before = server.spent
    for _ in range(20):
        server.feed(frame(FrameType.DATA, 0, stream.id, b"x"))
    assert server.spent - before >= 15 * 128


def test_what_is_left_over_comes_in_the_next_turn_and_in_order() -> None:
    server = Server()
    first, second = server.request(), server.request()
    useless = frames.settings_frame([]) * 300
    data = server.answer(first, b"1" * 9) + useless + server.answer(second, b"2" * 9)
    events = server.client.receive(data)
    assert server.client.turn_over
    assert {event.stream for event in events if isinstance(event, DataReceived)} == {first}
    while server.client.turn_over:
        events = server.client.receive(b"")
    assert [event.stream for event in events if isinstance(event, HeadersReceived)] == [second, second]
    assert not server.client.turn_over


# Honest servers


def test_calls_cost_nothing() -> None:
    server = Server()
    before = server.spent
    for _ in range(10_000):
        server.feed(server.answer(server.request(b"x" * 50), bytes(50)))
    assert server.spent <= before
    assert server.spent == 0


def test_calls_whose_servers_say_more_than_they_need_to_cost_nothing() -> None:
    """Windows given back for each request, a PING with each, a reset behind each answer."""
    server = Server()
    for _ in range(2000):
        stream = server.request(b"x" * 50)
        server.feed(
            frames.window_update_frame(0, 50)
            + frames.window_update_frame(stream.id, 50)
            + frames.ping_frame(bytes(8), ack=False)
            + server.headers(stream, ((":status", "103"),))
            + server.answer(stream, b"", bytes(5), bytes(20), bytes(20), b"")
            + frames.rst_stream_frame(stream.id, 0)
        )
        assert server.spent < 2000


@pytest.mark.parametrize("size", [100, 500, 4096, 16_384])
def test_a_large_answer_costs_nothing(size: int) -> None:
    server = Server()
    stream, before = server.request(), server.spent
    server.feed(server.headers(stream))
    for _ in range(min(64 << 20, 20_000 * size) // size):
        [data] = server.feed(frame(FrameType.DATA, 0, stream.id, bytes(size)))
        server.client.acknowledge(stream, data.flow_controlled_length)  # type: ignore[attr-defined]
        server.client.data_to_send()
    assert server.spent == before


@pytest.mark.parametrize("window", [100, 1000])
def test_a_large_request_costs_nothing_though_its_window_is_small(window: int) -> None:
    server = Server()
    stream = server.client.open_stream(FIELDS)
    server.feed(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, window)]))
    server.client.send_data(stream, [bytes(400_000)], end_stream=True)
    before = server.spent
    while not stream.sent:
        server.client.data_to_send()
        server.feed(frames.window_update_frame(0, window) + frames.window_update_frame(stream.id, window))
    assert server.spent == before


def test_a_window_of_a_byte_is_not_what_honest_servers_give() -> None:
    server = Server()
    stream = server.client.open_stream(FIELDS)
    server.feed(frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 1)]))
    server.client.send_data(stream, [bytes(400_000)], end_stream=True)
    events: list[object] = []
    while TOO_MUCH not in events:
        assert not stream.sent
        server.client.data_to_send()
        events = server.feed(frames.window_update_frame(0, 1) + frames.window_update_frame(stream.id, 1))


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_a_stream_of_small_messages_costs_nothing_if_they_come_whole(pieces: int) -> None:
    server = Server()
    stream = server.request()
    server.feed(server.headers(stream))
    for _ in range(20_000):
        for _ in range(pieces):
            server.feed(frame(FrameType.DATA, 0, stream.id, bytes(8)))
            server.client.acknowledge(stream, 8)
        server.client.note_message(stream)
    assert server.spent < 1000


def test_messages_that_come_many_at_once_cost_nothing() -> None:
    """All frames of a read are paid for before the first of their messages is noted."""
    server = Server()
    stream = server.request()
    server.feed(server.headers(stream))
    for _ in range(1000):
        events = server.feed(frame(FrameType.DATA, 0, stream.id, bytes(7)) * 100)
        for event in events:
            assert isinstance(event, DataReceived)
            server.client.note_message(stream)
            server.client.acknowledge(stream, 7)
    assert server.spent < 1000


def test_small_requests_cost_nothing_though_servers_react_to_each() -> None:
    """By a PING that measures the line, and by WINDOW_UPDATEs for the stream and the connection."""
    server = Server()
    stream = server.client.open_stream(FIELDS)
    before = server.spent
    for _ in range(10_000):
        server.client.send_data(stream, [b"x" * 20])
        server.client.data_to_send()
        server.feed(
            frames.ping_frame(bytes(8), ack=False)
            + frames.window_update_frame(0, 20)
            + frames.window_update_frame(1, 20)
        )
    assert server.spent == before


@pytest.mark.parametrize("updates", [1, 2])
def test_a_large_request_costs_nothing_if_windows_come_back_in_sensible_steps(updates: int) -> None:
    """Go's own HTTP/2 returns the window for each 4 KiB, and grpc-go measures the line by PINGs."""
    server = Server()
    stream, before = server.request(bytes(60 << 20)), server.spent
    for _ in range((60 << 20) // 4096):
        server.feed(frames.window_update_frame(0, 1) * updates + frames.window_update_frame(stream.id, 1))
    for _ in range(200):
        server.feed(frames.ping_frame(bytes(8), ack=False))
    assert server.spent - before < CAPACITY / 2


def test_what_was_underway_when_a_call_was_cancelled_costs_nothing() -> None:
    server = Server()
    streams = [server.request() for _ in range(1000)]
    before = server.spent
    for stream in streams:
        server.client.reset_stream(stream)
    for stream in streams:
        server.feed(server.answer(stream, bytes(50)))
    assert server.spent == before


@pytest.mark.parametrize("size", [1024, 16_384])
def test_large_answers_that_were_underway_when_their_calls_were_cancelled_cost_nothing(size: int) -> None:
    server = Server()
    streams = [server.request() for _ in range(32)]
    for stream in streams:
        server.feed(server.headers(stream))
    before = server.spent
    for stream in streams:
        server.client.reset_stream(stream)
    for stream in streams:
        for _ in range((1 << 20) // size):
            server.feed(frame(FrameType.DATA, 0, stream.id, bytes(size)))
    assert server.spent == before


def test_small_messages_that_were_underway_when_their_call_was_cancelled_cost_nothing() -> None:
    server = Server()
    stream = server.request()
    server.feed(server.headers(stream) + frame(FrameType.DATA, 0, stream.id, bytes(8)))
    server.client.note_message(stream)
    before = server.spent
    server.client.reset_stream(stream)
    for _ in range(100):
        server.feed(frame(FrameType.DATA, 0, stream.id, bytes(8)) * 1000)
    assert server.spent == before


def test_what_comes_long_after_a_call_was_cancelled_was_not_underway() -> None:
    server = Server()
    stream = server.request()
    server.client.reset_stream(stream)
    server.now = 31
    server.feed(frame(FrameType.DATA, 0, stream.id, bytes(8)))
    assert server.spent == 128  # time has filled the bucket, and that was paid from it


def test_an_interim_response_or_two_is_nothing_to_be_alarmed_about() -> None:
    server = Server()
    for _ in range(100):
        stream = server.request()
        early = server.headers(stream, ((":status", "103"), *[("link", "x" * 50)] * 20))
        server.feed(early + server.answer(stream, bytes(50)))
        assert server.spent < 5000


# The bucket


def test_time_gives_32_kib_a_second() -> None:
    now = 0.0
    budget = WorkBudget(lambda: now)
    budget.spend(CAPACITY)
    assert budget.left == 0
    for second in (1, 2):
        now = second
        budget.spend(32 << 10)
        assert budget.left == 0
    now = 1000
    budget.spend(0)
    assert budget.left == CAPACITY
    with pytest.raises(ProtocolViolation):
        budget.spend(CAPACITY + 1)


@given(st.lists(st.tuples(st.sampled_from(["spend", "earn", "wait"]), st.integers(0, 100_000))))
def test_it_never_holds_more_than_it_can_nor_gives_more_than_it_got(steps: list[tuple[str, int]]) -> None:
    now = 0.0
    budget = WorkBudget(lambda: now)
    spent = earned = 0.0
    for step, amount in steps:
        match step:
            case "spend":
                try:
                    budget.spend(amount)
                except ProtocolViolation:
                    assert spent + amount + 1e-6 >= 0
                    return
                spent += amount
            case "earn":
                budget.earn(amount)
                earned += amount
            case _:
                now += amount / 10_000
        assert budget.left <= CAPACITY
        assert spent <= CAPACITY + earned + now * (32 << 10) + 1e-6
