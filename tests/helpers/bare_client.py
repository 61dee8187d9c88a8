"""An `Http2Client` alone, for which time stands still; what it gets is in the test's hands."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from hpack import Encoder

from helpers.h2_server import FIELDS, RESPONSE, TRAILERS, frame, parse_frames
from trio_model_runner.rpc import frames
from trio_model_runner.rpc.events import ConnectionTerminated
from trio_model_runner.rpc.frames import Flag, FrameType, Setting
from trio_model_runner.rpc.http2 import Http2Client

if TYPE_CHECKING:
    from trio_model_runner.rpc.events import Event
    from trio_model_runner.rpc.http2 import Http2Stream

WIDE_OPEN = frames.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)]) + frames.window_update_frame(
    0, 2**30
)


def ready_client(settings: bytes = WIDE_OPEN, **options: Any) -> Http2Client:
    """A client for which time stands still, that has said hello to a server with these SETTINGS."""
    client = Http2Client(clock=lambda: 0.0, **options)
    client.receive(settings)
    client.data_to_send()
    return client


def request(client: Http2Client, body: bytes = b"") -> Http2Stream:
    """A whole request, of which all that may be is sent."""
    stream = client.open_stream(FIELDS)
    client.send_data(stream, [body], end_stream=True)
    while client.data_to_send():
        pass
    return stream


def full_client() -> Http2Client:
    """One whose server has spent nothing."""
    client = ready_client()
    stream = request(client)
    receive(client, headers(stream) + headers(stream, TRAILERS, end=True))
    return client


def headers(stream: Http2Stream, fields: Any = RESPONSE, *, end: bool = False) -> bytes:
    """A HEADERS frame whose fields enter no table."""
    block = Encoder().encode([(name, value, True) for name, value in fields])
    return frame(FrameType.HEADERS, Flag.END_HEADERS | (Flag.END_STREAM if end else 0), stream.id, block)


def receive(client: Http2Client, data: bytes) -> list[Event]:
    """All events of these bytes, in as many turns as it takes."""
    events = client.receive(data)
    while client.turn_over:
        events += client.receive(b"")
    return events


def sent(client: Http2Client) -> list[tuple[int, int, int, bytes]]:
    return parse_frames(b"".join(client.data_to_send()))


def ending(events: list[Event]) -> ConnectionTerminated | None:
    return events[-1] if events and isinstance(events[-1], ConnectionTerminated) else None


def frames_until_the_end(client: Http2Client, data: bytes) -> int:
    """How many such frames the client takes before it ends the connection."""
    for number in itertools.count():
        if ending(receive(client, data)) is not None:
            return number
        client.data_to_send()
        assert number < 100_000
    raise AssertionError
