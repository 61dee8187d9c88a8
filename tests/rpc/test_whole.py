"""Small answers and small requests take a short way. It must do what the long way does, whatever comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import h2.config
import h2.connection
import hpack
from helpers.h2_server import FIELDS, frame
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.rpc import frames
from trio_model_runner.rpc.events import DataReceived, Event, HeadersReceived, WholeAnswer
from trio_model_runner.rpc.frames import Flag, FrameType
from trio_model_runner.rpc.http2 import Http2Client
from trio_model_runner.rpc.stream_frames import answer_parts

HEADERS = (":status", "200"), ("content-type", "application/grpc")
OK = (("grpc-status", "0"),)

ANSWER = st.fixed_dictionaries(
    {
        "stream": st.integers(0, 9),
        "headers": st.sampled_from(
            [
                HEADERS,
                HEADERS,
                HEADERS,
                (*HEADERS, ("x-proof", "one")),
                (*HEADERS, ("content-length", "6")),
                (*HEADERS, ("x-large", "y" * 20_000)),
                ((":status", "103"),),
                (("x", "no status"),),
            ]
        ),
        "body": st.sampled_from([b"answer", b"answer", b"another answer", b"", bytes(600), bytes(16_384)]),
        "padded": st.sampled_from([False, False, False, True]),
        "trailers": st.sampled_from(
            [OK, OK, OK, (("grpc-status", "5"), ("grpc-message", "no")), (("te", "x"),)]
        ),
        "indexed": st.sampled_from([True, True, False]),
        "ended": st.sampled_from([True, True, True, True, False]),
    }
)
OTHER = st.sampled_from(
    [
        frame(FrameType.PING, 0, 0, bytes(8)),
        frame(FrameType.WINDOW_UPDATE, 0, 0, b"\0\0\1\0"),
        frames.goaway_frame(2**31 - 1, 0),
        frame(FrameType.RST_STREAM, 0, 3, bytes(4)),
        b"\0\0",
        bytes(30),
    ]
)
PIECES = st.lists(
    st.tuples(st.lists(ANSWER | OTHER, min_size=1, max_size=2), st.sampled_from([0, 0, 0, 1, 9, 40])),
    max_size=12,
)


def written(encoder: hpack.Encoder, answer: dict[str, Any]) -> bytes:
    stream = 2 * answer["stream"] + 1
    fields = [(*each, not answer["indexed"]) for each in answer["headers"]]
    data = frame(FrameType.HEADERS, Flag.END_HEADERS, stream, encoder.encode(fields))
    body = answer["body"]
    if answer["padded"]:
        data += frame(FrameType.DATA, Flag.PADDED, stream, b"\2" + body[:16_000] + b"\0\0")
    else:
        data += frame(FrameType.DATA, 0, stream, body)
    flags = Flag.END_HEADERS | (Flag.END_STREAM if answer["ended"] else 0)
    return data + frame(FrameType.HEADERS, flags, stream, encoder.encode([*answer["trailers"]]))


def asking() -> Http2Client:
    client = Http2Client(clock=lambda: 0.0)
    client.receive(frames.settings_frame(()))
    for _ in range(10):
        client.send_data(client.open_stream(FIELDS), [b"request"], end_stream=True)
    client.data_to_send()
    return client


def long_way(event: Event) -> list[Event]:
    if not isinstance(event, WholeAnswer):
        return [event]
    stream, body = event.stream, event.body
    return [
        HeadersReceived(stream, event.headers, end_stream=False),
        DataReceived(stream, body, len(body), end_stream=False),
        HeadersReceived(stream, event.trailers, end_stream=True),
    ]


def told(event: Event) -> tuple[Any, ...]:
    values = {name: value for name, value in attrs.asdict(event, recurse=False).items() if name != "stream"}
    stream = getattr(event, "stream", None)
    return type(event), stream and stream.id, values


def state(client: Http2Client) -> list[Any]:
    budget = client._budget
    streams = [(each.id, each.received, each.answered, each.receive_window) for each in client.streams]
    return [
        streams,
        client.idle,
        client._responses._unreturned,
        client.turn_over,
        budget.left,
        b"".join(client.data_to_send()),
        client._terminated,
    ]


@given(PIECES)
def test_an_answer_in_one_piece_means_what_it_means_in_pieces(pieces: list[tuple[list[Any], int]]) -> None:
    short, long, encoder, rest = asking(), asking(), hpack.Encoder(), b""
    for parts, kept_back in pieces:
        data = rest + b"".join(written(encoder, part) if isinstance(part, dict) else part for part in parts)
        data, rest = data[: len(data) - kept_back], data[len(data) - kept_back :]
        events = []
        if (found := short.receive_answer(data)) is not None:
            answer, more = found
            events = long_way(answer) + (short.receive(more) if more else [])
        else:
            events = short.receive(data)
        assert list(map(told, events)) == list(map(told, long.receive(data)))
        assert state(short) == state(long)


def test_usual_answers_take_the_short_way() -> None:
    client, encoder = asking(), hpack.Encoder()
    usual = {
        "headers": HEADERS,
        "body": b"x",
        "padded": False,
        "trailers": OK,
        "indexed": True,
        "ended": True,
    }
    ways = []
    for stream in range(10):
        headers = (*HEADERS, ("x-proof", "new")) if stream == 5 else HEADERS
        data = written(encoder, {**usual, "stream": stream, "headers": headers})
        ways.append(client.receive_answer(data) is not None or not client.receive(data))
    # The first time, blocks change HPACK's table; the next time, they are remembered.
    assert ways == [False, False, True, True, True, False, False, True, True, True]


@given(st.binary(max_size=80) | st.builds(bytes.__add__, st.binary(max_size=40), st.binary(max_size=40)))
def test_parts_are_what_the_frames_say(data: bytes) -> None:
    parts = answer_parts(data)
    if parts is not None:
        sizes = len(parts.head), len(parts.body), len(parts.tail)
        assert sum(sizes) + 27 <= len(data)


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["small", "small", "large", "may not", "settings", "answer", "ping"]),
        st.integers(0, 4096),
        st.booleans(),
    ),
    max_size=12,
)
SETTINGS = st.fixed_dictionaries(
    {
        frames.Setting.MAX_CONCURRENT_STREAMS: st.sampled_from([0, 1, 2, 100]),
        frames.Setting.INITIAL_WINDOW_SIZE: st.sampled_from([0, 10, 65535]),
        frames.Setting.HEADER_TABLE_SIZE: st.sampled_from([0, 100, 4096]),
    }
)


def send_short(client: Http2Client, body: bytes, may_send: Callable[[], bool] | None, now: bool) -> bytes:
    volatile = ((b"grpc-timeout", b"%dm" % (len(body) // 100)),)
    _, whole = client.send_whole(
        FIELDS, volatile, (body[:5], body[5:]), receiver=None, may_send=may_send, now=now
    )
    return (whole or b"") + b"".join(client.data_to_send())


def send_long(client: Http2Client, body: bytes, may_send: Callable[[], bool] | None) -> bytes:
    stream = client.open_stream(FIELDS, ((b"grpc-timeout", b"%dm" % (len(body) // 100)),))
    stream.may_send = may_send
    client.send_data(stream, (body[:5], body[5:]), end_stream=True)
    return b"".join(client.data_to_send())


@given(SETTINGS, SETTINGS, REQUESTS)
def test_a_small_request_is_sent_as_any_other(
    first: dict[int, int], then: dict[int, int], steps: list[tuple[str, int, bool]]
) -> None:
    short, long = Http2Client(clock=lambda: 0.0), Http2Client(clock=lambda: 0.0)
    sent: list[bytearray] = [bytearray(), bytearray()]
    for client, out in zip((short, long), sent, strict=True):
        client.receive(frames.settings_frame(first.items()))
        out += b"".join(client.data_to_send())
    for kind, size, now in steps:
        if kind in ("small", "large", "may not"):
            body = bytes(size) * (10 if kind == "large" else 1)
            may_send = (lambda: False) if kind == "may not" else None
            sent[0] += send_short(short, body, may_send, now)
            sent[1] += send_long(long, body, may_send)
        else:
            data = {
                "settings": frames.settings_frame(then.items()),
                "ping": frame(FrameType.PING, 0, 0, bytes(8)),
                "answer": frame(FrameType.RST_STREAM, 0, 1, bytes(4)) if sent[0].count(FIELDS[2][1]) else b"",
            }[kind]
            if kind == "answer" and short._sender.next_stream_id == 1:
                continue
            assert len(short.receive(data)) == len(long.receive(data))
            sent[0] += b"".join(short.data_to_send())
            sent[1] += b"".join(long.data_to_send())
        assert sent[0] == sent[1]
        states = [
            [(s.id, s.sent, s.closed, s.send_window, s.unsent, s.end_queued) for s in client.streams]
            + [client._sender.window, client._sender.data_sent, client.accepts_streams]
            for client in (short, long)
        ]
        assert states[0] == states[1]
    decoder = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    decoder.receive_data(bytes(sent[0]))
