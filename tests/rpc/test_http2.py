"""`rpc.http2` against h2's server, whatever the two say and however their bytes are cut."""

from __future__ import annotations

import functools
import itertools
import random
from collections import deque
from typing import Any

import attrs
from h2.exceptions import StreamClosedError
from helpers.h2_server import FIELDS, RESPONSE, TRAILERS, Exchange, frame, parse_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.rpc import frames
from trio_model_runner.rpc.events import (
    ConnectionTerminated,
    DataReceived,
    HeadersReceived,
    SettingsReceived,
    StreamReset,
)
from trio_model_runner.rpc.frames import ErrorCode, Flag, FrameType
from trio_model_runner.rpc.http2 import Http2Client, Http2Stream

SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        frames.Setting.HEADER_TABLE_SIZE: st.sampled_from([0, 50, 100, 4096, 65536]),
        frames.Setting.MAX_CONCURRENT_STREAMS: st.sampled_from([0, 1, 2, 100]),
        frames.Setting.INITIAL_WINDOW_SIZE: st.sampled_from([0, 1, 100, 65535, 1 << 20]),
        frames.Setting.MAX_FRAME_SIZE: st.sampled_from([16384, 20000, 1 << 20]),
    },
)
BODY_SIZE = st.sampled_from([0, 1, 5, 16384, 65535, 65536, 200_000]) | st.integers(0, 200_000)
INDEX = st.integers(0, 20)
REQUEST = st.tuples(st.just("request"), BODY_SIZE, st.integers(0, 4), st.sampled_from([0, 1, 17_000]))
RESPONSE_STEP = st.tuples(
    st.just("respond"),
    INDEX,
    st.lists(st.integers(0, 20_000), max_size=5),
    st.none() | st.integers(0, 255),
    st.sampled_from([0, 1, 5000]),
    st.booleans(),
)
GOING = st.tuples(st.just("go_to_server"), st.sampled_from([1, 20_000, 1 << 20])) | st.tuples(
    st.just("go_to_client"), st.integers(0, 2**32)
)
OTHER = st.one_of(
    st.tuples(st.just("change_settings"), SETTINGS),
    st.tuples(st.just("ping"), st.booleans()),
    st.tuples(st.just("server_resets"), INDEX),
    st.tuples(st.just("client_resets"), INDEX),
    st.tuples(st.just("set_acknowledging"), st.booleans()),
)
STEP = st.sampled_from([REQUEST, RESPONSE_STEP, GOING, GOING, GOING, OTHER, OTHER]).flatmap(lambda step: step)


def mangled(data: bytes, seed: int) -> bytes:
    """The same frames with padding, priorities, CONTINUATIONs, and frames of other types between them."""
    chance = random.Random(seed)
    out = []
    for kind, flags, stream_id, payload in parse_frames(data):
        if kind == FrameType.HEADERS:
            cuts = sorted(chance.randint(0, len(payload)) for _ in range(chance.randint(0, 4)))
            cuts += range(cuts[-1] if cuts else 0, len(payload), 10_000)
            parts = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
            first, extra = parts[0], flags & ~Flag.END_HEADERS
            if chance.random() < 0.5:
                first, extra = bytes(4) + b"\x10" + first, extra | Flag.PRIORITY
            if chance.random() < 0.5:
                padding = chance.randint(0, 255)
                first, extra = bytes((padding,)) + first + bytes(padding), extra | Flag.PADDED
            whole = [(FrameType.HEADERS, extra, first), *((FrameType.CONTINUATION, 0, p) for p in parts[1:])]
            last_kind, last_flags, last = whole.pop()
            whole.append((last_kind, last_flags | flags & Flag.END_HEADERS, last))
            out += [frame(kind, flags, stream_id, part) for kind, flags, part in whole]
        else:
            out.append(frame(kind, flags, stream_id, payload))
        if kind not in (FrameType.HEADERS, FrameType.CONTINUATION):
            out.append(frame(0xEE, 0xFF, chance.randint(0, 9), b"?"))
            out.append(frame(FrameType.PRIORITY, 0, chance.randint(1, 9), bytes(5)))
    first_settings = out.pop(0) if out else b""
    return first_settings + b"".join(out)


class Play:
    """A script of what client and server do, and what should have come of it."""

    def __init__(self) -> None:
        slow_motion = itertools.count(0, 1000).__next__  # h2 returns windows of a byte byte by byte
        self.exchange = Exchange(max_header_bytes=64 << 10, clock=slow_motion)
        self.requests: list[tuple[Http2Stream, bytes]] = []
        self.responses: dict[int, bytes] = {}
        self.pending: dict[int, tuple[deque[bytes], int | None]] = {}
        self.reset: set[int] = set()
        self.settled_settings = False

    def request(self, size: int, cuts: int, header: int) -> None:
        body = random.Random(size).randbytes(size)
        bounds = [0, *sorted(random.Random(cuts).randint(0, size) for _ in range(cuts)), size]
        pieces = [body[a:b] for a, b in itertools.pairwise(bounds)]
        fields = (*FIELDS, (b"x-large", b"%d" % size * header)) if header == 1 else FIELDS
        volatile = ((b"x-token", b"t" * header),) if header > 1 else ()
        stream = self.exchange.request(*pieces, fields=fields, volatile=volatile)
        self.requests.append((stream, body))

    def _open(self, index: int) -> int | None:
        """The id of the request of this index, if the server may still answer it."""
        ids = [id_ for id_ in self.exchange.bodies if id_ not in self.reset and id_ not in self.responses]
        return ids[index % len(ids)] if ids else None

    def respond(self, index: int, sizes: list[int], padding: int | None, header: int, interim: bool) -> None:
        stream_id = self._open(index)
        if stream_id is None:
            return
        server = self.exchange.server
        if interim:
            server.send_headers(stream_id, [(":status", "103")])
        server.send_headers(stream_id, [*RESPONSE, ("x-large", "y" * header)])
        parts = deque(random.Random(size).randbytes(size) for size in sizes)
        self.responses[stream_id] = b"".join(parts)
        self.pending[stream_id] = (parts, padding)
        self.pump()

    def pump(self) -> None:
        server = self.exchange.server
        for stream_id, (parts, padding) in list(self.pending.items()):
            overhead = 0 if padding is None else padding + 1
            try:
                while parts:
                    room = min(server.local_flow_control_window(stream_id), server.max_outbound_frame_size)
                    if room <= overhead:
                        break
                    part = parts.popleft()
                    server.send_data(stream_id, part[: room - overhead], pad_length=padding)
                    if part[room - overhead :]:
                        parts.appendleft(part[room - overhead :])
                if not parts:
                    del self.pending[stream_id]
                    server.send_headers(stream_id, TRAILERS, end_stream=True)
            except StreamClosedError:  # the client's reset came first
                self.pending.pop(stream_id, None)

    def change_settings(self, changes: dict[int, int]) -> None:
        # h2 takes any acknowledgement for that of all changes, so make one at a time
        if not self.exchange.settings_underway:
            self.exchange.change_settings(changes)

    def ping(self, ours: bool) -> None:
        (self.exchange.client if ours else self.exchange.server).ping(b"12345678")

    def go_to_server(self, limit: int) -> None:
        self.exchange.to_server(limit)
        self.pump()

    def go_to_client(self, seed: int) -> None:
        self.exchange.to_client(mangled(self.exchange.server.data_to_send(), seed))

    def server_resets(self, index: int) -> None:
        stream_id = self._open(index)
        if stream_id is not None:
            self.exchange.server.reset_stream(stream_id, 2)
            self.reset.add(stream_id)

    def client_resets(self, index: int) -> None:
        if self.requests:
            stream, _ = self.requests[index % len(self.requests)]
            self.exchange.client.reset_stream(stream)
            self.reset.add(stream.id)

    def set_acknowledging(self, acknowledging: bool) -> None:
        self.exchange.acknowledging = acknowledging

    def finish(self) -> None:
        """Open all windows, and let both say what they still have to say."""
        exchange = self.exchange
        exchange.acknowledging = True
        exchange.acknowledge()
        exchange.settle()
        exchange.change_settings({3: 1000, 4: 1 << 20})
        exchange.server.increment_flow_control_window(1 << 24)
        for _ in range(20):
            exchange.settle()
            self.pump()


@settings(deadline=None, max_examples=150)
@given(st.lists(REQUEST, min_size=1, max_size=4), st.lists(STEP, min_size=10, max_size=50))
def test_both_sides_understand_each_other_whatever_they_do(
    requests: list[tuple[Any, ...]], steps: list[tuple[Any, ...]]
) -> None:
    play = Play()
    for name, *arguments in [*requests, *steps]:
        getattr(play, name)(*arguments)
    play.finish()
    exchange = play.exchange
    assert not exchange.of(ConnectionTerminated)
    assert not exchange.goaways
    reset_by_server = {event.stream.id for event in exchange.of(StreamReset)}
    assert reset_by_server <= play.reset
    for stream, body in play.requests:
        if stream.id not in play.reset:
            assert exchange.bodies[stream.id] == body
            assert stream.id in exchange.ended
            assert stream.sent
        if stream.id in play.responses and stream.id not in play.reset:
            assert exchange.answers.get(stream, b"") == play.responses[stream.id]
            first, *_, last = [event for event in exchange.of(HeadersReceived) if event.stream is stream]
            assert (first.fields[:2], last.fields) == (RESPONSE, TRAILERS)
            assert stream.closed
    unanswered = {s for s, _ in play.requests if s.id not in play.reset and s.id not in play.responses}
    assert set(exchange.client.streams) == unanswered


def asking_client(hello: bytes) -> Http2Client:
    """A client with four requests out, to a server that said `hello`."""
    client = Http2Client()
    client.receive(hello)
    for size in (0, 10, 100, 1000):
        client.send_data(client.open_stream(FIELDS), [bytes(size)], end_stream=True)
    return client


@functools.cache
def server_side() -> tuple[bytes, bytes]:
    """What h2's server says to that client at first, and then: one of everything."""
    exchange = Exchange(settings={frames.Setting.HEADER_TABLE_SIZE: 100})
    server = exchange.server
    hello = server.data_to_send()
    exchange.client = asking_client(hello)
    exchange.to_server()
    server.ping(b"abcdefgh")
    server.send_headers(1, [*RESPONSE, ("x-large", "z" * 2000)])
    for stream_id in (3, 5):
        server.send_headers(stream_id, RESPONSE)
        server.send_data(stream_id, bytes(stream_id) * 2000, pad_length=7)
    server.update_settings({3: 5})
    server.send_headers(3, TRAILERS, end_stream=True)
    server.send_data(5, b"", end_stream=True)
    server.reset_stream(7, ErrorCode.REFUSED_STREAM)
    server.send_headers(1, TRAILERS, end_stream=True)
    return hello, mangled(server.data_to_send(), 4) + frames.goaway_frame(7, 0, b"bye")


def conversation() -> tuple[Http2Client, bytes]:
    """A client with requests out, and all that h2's server answers."""
    hello, answer = server_side()
    client = asking_client(hello)
    client.data_to_send()
    return client, answer


def plain(event: Any) -> tuple[Any, ...]:
    """An event without the identity of its stream."""
    values = {name: value for name, value in attrs.asdict(event, recurse=False).items() if name != "stream"}
    stream = getattr(event, "stream", None)
    return type(event), stream and stream.id, values


CUTS = st.lists(st.integers(0, 16_000), max_size=30)


@settings(deadline=None)
@given(CUTS, st.booleans())
def test_cuts_in_the_byte_stream_change_nothing(cuts: list[int], breaks_protocol: bool) -> None:
    whole, data = conversation()
    data += frame(FrameType.PUSH_PROMISE, 0, 1) + b"more" if breaks_protocol else b""
    expected = list(map(plain, whole.receive(data)))
    assert (expected[-1][0] is ConnectionTerminated) == breaks_protocol
    pieces, _ = conversation()
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    events = [e for a, b in itertools.pairwise(bounds) for e in pieces.receive(data[a:b])]
    assert list(map(plain, events)) == expected
    assert pieces.data_to_send() == whole.data_to_send()


def test_one_byte_at_a_time_gives_the_same_events() -> None:
    whole, data = conversation()
    expected = list(map(plain, whole.receive(data)))
    single, _ = conversation()
    events = [e for index in range(len(data)) for e in single.receive(data[index : index + 1])]
    assert list(map(plain, events)) == expected
    kinds = {kind for kind, *_ in expected}
    assert kinds >= {HeadersReceived, DataReceived, StreamReset, SettingsReceived}


FRAME = st.builds(
    frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 7, 9, 2**31 - 1, 2**31 + 1]),
    st.binary(max_size=60) | st.sampled_from([bytes(4), bytes(6), bytes(8), b"\x88", b"\x88\x5f\x01a"]),
)
BLOCKS = st.builds(
    lambda stream_id, flags, block: frame(FrameType.HEADERS, flags | Flag.END_HEADERS, stream_id, block),
    st.sampled_from([1, 3]),
    st.sampled_from([0, 1]),
    st.builds(bytes.__add__, st.sampled_from([b"", b"\x88", b"\x3f\xe1\x1f"]), st.binary(max_size=40)),
)
RUBBISH = st.lists(FRAME | BLOCKS | st.binary(max_size=30), max_size=12).map(b"".join)


@settings(deadline=None, max_examples=400)
@given(RUBBISH, st.booleans(), st.lists(st.integers(0, 500), max_size=3))
def test_rubbish_ends_the_connection_with_one_event_and_no_exception(
    rubbish: bytes, shakes_hands: bool, cuts: list[int]
) -> None:
    client = Http2Client()
    for size in (0, 70_000):
        client.send_data(client.open_stream(FIELDS), [bytes(size)], end_stream=True)
    events = client.receive(frames.settings_frame([])) if shakes_hands else []
    client.data_to_send()
    bounds = [0, *sorted(min(cut, len(rubbish)) for cut in cuts), len(rubbish)]
    for start, end in itertools.pairwise(bounds):
        events += client.receive(rubbish[start:end])
    ends = [index for index, event in enumerate(events) if isinstance(event, ConnectionTerminated)]
    assert ends in ([], [len(events) - 1])
    sent = parse_frames(b"".join(client.data_to_send()))
    assert [kind for kind, *_ in sent].count(FrameType.GOAWAY) == len(ends)
    if ends:
        assert not client.accepts_streams
        assert client.receive(frames.settings_frame([])) == []


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_conversation_with_wrong_bytes_raises_nothing(data: st.DataObject) -> None:
    client, answer = conversation()
    wrong = bytearray(answer)
    for _ in range(data.draw(st.integers(1, 5))):
        wrong[data.draw(st.integers(0, len(wrong) - 1))] = data.draw(st.integers(0, 255))
    events = client.receive(bytes(wrong))
    terminated = [isinstance(event, ConnectionTerminated) for event in events]
    assert terminated.count(True) <= 1
    assert not any(terminated[:-1])


def test_pings_are_answered() -> None:
    client = Http2Client()
    client.receive(frames.settings_frame([]))
    client.data_to_send()
    assert client.receive(frames.ping_frame(b"abcdefgh", ack=False)) == []
    assert parse_frames(b"".join(client.data_to_send())) == [(FrameType.PING, Flag.ACK, 0, b"abcdefgh")]
