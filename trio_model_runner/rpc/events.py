"""What a server did, as `http2` understood it: plain values, one for each thing worth knowing.

They aren't frozen, which would triple the time that it takes to make one.
Frames that concern only the protocol itself (flow control, acknowledgements, padding) have no event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

if TYPE_CHECKING:
    from .headers import Fields
    from .streams import Http2Stream

__all__ = [
    "ConnectionTerminated",
    "DataReceived",
    "Event",
    "GoAwayReceived",
    "HeadersReceived",
    "SettingsReceived",
    "StreamReset",
    "WholeAnswer",
]


@attrs.define
class HeadersReceived:
    """The response's headers, or its trailers when `end_stream` is set.

    Attributes:
        over_limit: they are larger than allowed, and not all of them are here.
    """

    stream: Http2Stream
    fields: Fields
    end_stream: bool
    over_limit: bool = False


@attrs.define
class DataReceived:
    """A piece of the response's body.

    Attributes:
        data: the piece, without padding.
        flow_controlled_length: what to give back with `Http2Client.acknowledge` once it is consumed, in
            bytes; padding counts.
    """

    stream: Http2Stream
    data: bytes
    flow_controlled_length: int
    end_stream: bool


@attrs.define
class WholeAnswer:
    """A whole response: its headers, a body in one piece without padding, its trailers, and its end.

    It stands for two `HeadersReceived` and a `DataReceived` between them.
    """

    stream: Http2Stream
    headers: Fields
    body: bytes
    trailers: Fields


@attrs.define
class StreamReset:
    """A stream ended before its response did.

    Attributes:
        code: the error code, of the peer's RST_STREAM or of ours where the peer broke the protocol.
        unprocessed: the server certainly did nothing with the request, so it may be sent again
            (RFC 9113, section 8.7): the stream was refused, is above a GOAWAY's last stream id, or
            was never sent.
        reason: what was wrong, where it was us who reset it; or that it was dropped by a GOAWAY.
    """

    stream: Http2Stream
    code: int
    unprocessed: bool = False
    reason: str = ""


@attrs.define
class SettingsReceived:
    """The peer's SETTINGS, which are in force from here on."""


@attrs.define
class GoAwayReceived:
    """The server takes no new streams on this connection; those up to `last_stream_id` may still end."""

    last_stream_id: int
    code: int
    debug_data: bytes


@attrs.define
class ConnectionTerminated:
    """The peer broke the protocol: after this event nothing more is read, and a GOAWAY waits to be sent."""

    code: int
    reason: str


Event: TypeAlias = (
    HeadersReceived | DataReceived | StreamReset | SettingsReceived | GoAwayReceived | ConnectionTerminated
)
