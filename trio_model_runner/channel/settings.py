"""What the calls of a channel have in common."""

from __future__ import annotations

import attrs
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.events import _DispatchChannelEvents

from .peer import Peer
from .route import Route

__all__ = ["CallSettings"]


@attrs.frozen
class CallSettings:
    """What the calls of a channel have in common.

    Attributes:
        route: how they get to the server.
        peer: who is there.
        codec: what turns messages into bytes and back.
        status_details_codec: what decodes the details that a status can come with, if anything.
        max_message_bytes: the largest message taken as an answer, bytes.
        dispatch: where grpclib's listeners hear of them.
    """

    route: Route
    peer: Peer
    codec: CodecBase
    status_details_codec: StatusDetailsCodecBase | None
    max_message_bytes: int
    dispatch: _DispatchChannelEvents
