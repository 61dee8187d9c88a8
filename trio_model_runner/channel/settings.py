"""What the calls of a channel have in common."""

from __future__ import annotations

from typing import Any, Final

import attrs
from grpclib.const import Status
from grpclib.encoding.base import CodecBase, StatusDetailsCodecBase
from grpclib.events import _DispatchChannelEvents

from ..rpc.headers import Fields
from ..rpc.metadata import binary_values
from .peer import Peer
from .route import Route

__all__ = ["CallSettings"]

_STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"


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

    def details_of(self, fields: Fields, status: Status, message: str | None) -> Any:
        """The details that a status came with; None if there are none that can be read."""
        text = dict(fields).get(_STATUS_DETAILS_KEY)
        values = None if text is None else binary_values(text)
        if self.status_details_codec is None or not values or status is Status.OK:
            return None
        try:
            return self.status_details_codec.decode(status, message, values[-1])
        except Exception:  # the status is worth more than its details
            return None
