"""What `rpc.http2` has paid from a peer's budget for its frames, to the unit, and what it gives back."""

from __future__ import annotations

import pytest
from helpers.bare_client import (
    frames_until_the_end,
    full_client,
    headers,
    ready_client,
    receive,
    request,
)
from helpers.h2_server import TRAILERS, frame

from trio_model_runner.rpc import frames
from trio_model_runner.rpc.budget import CAPACITY, FRAME_ON_CLOSED_STREAM
from trio_model_runner.rpc.events import (
    DataReceived,
    HeadersReceived,
)
from trio_model_runner.rpc.frames import ErrorCode, Flag, FrameType
from trio_model_runner.rpc.http2 import Http2Client


def test_a_reset_of_a_stream_that_was_answered_lets_nothing_more_come() -> None:
    client = ready_client(frames.settings_frame([]))
    stream = request(client, bytes(100_000))
    receive(client, headers(stream) + headers(stream, TRAILERS, end=True))
    assert stream.answered
    assert not stream.closed
    client.reset_stream(stream, ErrorCode.NO_ERROR)
    late = frames.rst_stream_frame(stream.id, 0)
    assert frames_until_the_end(client, late) == CAPACITY // FRAME_ON_CLOSED_STREAM


COSTS = {
    "PRIORITY": (frame(FrameType.PRIORITY, 0, 1, bytes(5)), 64),
    "an unknown frame": (frame(77, 0, 1), 64),
    "a long unknown frame": (frame(77, 0, 1, bytes(16_000)), 64 + 250),
    "an answer to no PING": (frames.ping_frame(bytes(8), ack=True), 64),
    "SETTINGS": (frames.settings_frame([]), 64 + 1),  # and 1 for each stream
    "SETTINGS with parameters": (frames.settings_frame([(99, 1)] * 10), 64 + 640 + 1),
    "GOAWAY": (frames.goaway_frame(2**31 - 1, 0, bytes(56)), 64 + 1 + 1),
    "RST_STREAM of a closed stream": (frames.rst_stream_frame(3, 0), 128),
    "DATA of a closed stream": (frame(FrameType.DATA, 0, 3, b"x"), 128),
    "HEADERS of a closed stream": (frame(FrameType.HEADERS, 4, 3, b"\0\1a\1b\x88"), 128 + 2 * 32),
    "an interim response": (frame(FrameType.HEADERS, 4, 1, b"\x08\x03103\0\1a\1b"), 64 + 2 * 32),
    "a part of a header block": (
        frame(FrameType.HEADERS, 0, 3, b"\x88") + frame(FrameType.CONTINUATION, 4, 3),
        64 + 128 + 32,
    ),
}


@pytest.mark.parametrize(("data", "cost"), COSTS.values(), ids=COSTS)
def test_what_frames_cost_that_bring_no_call_forward(data: bytes, cost: int) -> None:
    client = ready_client(frames.settings_frame([]))
    open_one, closed = request(client), request(client)
    receive(client, headers(closed) + headers(closed, TRAILERS, end=True))
    assert client.streams == [open_one]
    assert frames_until_the_end(client, data) == CAPACITY // cost


REACTIONS = {
    "a PING": frames.ping_frame(bytes(8), ack=False),
    "WINDOW_UPDATE": frames.window_update_frame(0, 1),
    "WINDOW_UPDATE of a stream": frames.window_update_frame(1, 1),
}


@pytest.mark.parametrize("data", REACTIONS.values(), ids=REACTIONS)
def test_what_a_request_brings_about_is_free_four_times(data: bytes) -> None:
    client = ready_client(frames.settings_frame([]))
    open_one, closed = request(client), request(client)
    receive(client, headers(closed) + headers(closed, TRAILERS, end=True))
    assert client.streams == [open_one]
    assert frames_until_the_end(client, data) == 2 * 4 + CAPACITY // 64


def test_the_answers_that_we_asked_for_are_free() -> None:
    client = Http2Client(clock=lambda: 0.0)
    client.receive(frames.settings_frame([]))
    receive(client, frames.settings_ack_frame())
    for _ in range(3):
        client.ping(bytes(8))
    receive(client, frames.ping_frame(bytes(8), ack=True) * 3)
    client.data_to_send()
    left = CAPACITY - 64  # their SETTINGS
    client.ping(bytes(8))
    assert frames_until_the_end(client, frames.ping_frame(bytes(8), ack=True)) == left // 64 + 1


def test_an_acknowledgement_of_settings_is_free_once() -> None:
    client = ready_client(frames.settings_frame([]))
    left = CAPACITY - 64  # their SETTINGS
    assert frames_until_the_end(client, frames.settings_ack_frame()) == left // 64 + 1


def test_a_message_gives_back_what_its_frames_cost_and_at_most_that_of_four() -> None:
    useless = frame(77, 0, 1)
    for pieces in (1, 2, 4, 100):
        client = full_client()
        stream = request(client)
        receive(client, headers(stream))
        receive(client, frame(FrameType.DATA, 0, stream.id, b"x"))
        cost = (pieces - 1) * 63
        receive(client, frame(FrameType.DATA, 0, stream.id, b"x") * (pieces - 1))
        client.note_message(stream)
        left = CAPACITY - cost + min(cost, 256)
        assert frames_until_the_end(client, useless) == left // 64


def test_what_was_given_back_is_not_given_back_again() -> None:
    client = full_client()
    stream = request(client)
    receive(client, headers(stream) + frame(77, 0, 1) * 1000)
    receive(client, frame(FrameType.DATA, 0, stream.id, b"x") * 2)
    for _ in range(10):
        client.note_message(stream)
    assert frames_until_the_end(client, frame(77, 0, 1)) == CAPACITY // 64 - 1000


def test_small_data_costs_what_is_missing_to_64_bytes() -> None:
    for size, cost in ((0, 64), (1, 63), (63, 1), (64, 0), (511, 0)):
        client = full_client()
        stream = request(client)
        receive(client, headers(stream))
        for _ in range(33):  # the first is free, unless it is empty
            [event] = receive(client, frame(FrameType.DATA, 0, stream.id, bytes(size)))
        assert isinstance(event, DataReceived)
        left = CAPACITY - cost * (33 if not size else 32)
        assert frames_until_the_end(client, frame(77, 0, 1)) == left // 64


def test_an_answer_gives_back_4_kib() -> None:
    client = full_client()
    stream = request(client)
    receive(client, frame(77, 0, 1) * 1000)
    receive(client, headers(stream) + headers(stream, TRAILERS, end=True))
    assert frames_until_the_end(client, frame(77, 0, 1)) == (CAPACITY - 64_000 + 4096) // 64


def test_reactions_to_what_we_send_are_free() -> None:
    client = full_client()
    stream = request(client, bytes(30 << 10))
    for data in (frames.ping_frame(bytes(8), ack=False), frames.window_update_frame(0, 1)):
        receive(client, data * 10)
    receive(client, frames.window_update_frame(stream.id, 1) * 10)
    client.data_to_send()
    assert frames_until_the_end(client, frame(77, 0, 1)) == CAPACITY // 64


def test_the_end_of_an_answer_costs_nothing() -> None:
    client = full_client()
    stream = request(client)
    receive(client, headers(stream))
    receive(client, frame(77, 0, 1) * (CAPACITY // 64))  # all that there is
    [event] = receive(client, frame(FrameType.DATA, Flag.END_STREAM, stream.id))
    assert isinstance(event, DataReceived)


def test_fields_far_over_the_limit_cost_in_a_call_too() -> None:
    client = Http2Client(max_header_bytes=42, clock=lambda: 0.0)
    client.receive(frames.settings_frame([]))
    stream = request(client)
    block = b"\x88" + b"\x40\x01a\x01b" * 2000
    [event] = receive(client, frame(FrameType.HEADERS, Flag.END_HEADERS, stream.id, block))
    assert event == HeadersReceived(stream, ((":status", "200"),), end_stream=False, over_limit=True)
    left = CAPACITY - 64 - (2000 * 96 - (128 << 10))
    assert frames_until_the_end(client, frame(77, 0, 1)) == left // 64
