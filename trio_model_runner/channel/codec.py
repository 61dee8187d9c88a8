"""What turns betterproto's messages into bytes and back, in the form that grpclib's channels take."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from grpclib.encoding.base import CodecBase

from ..rpc.message_reader import MessageReader, message_reader

if TYPE_CHECKING:
    import betterproto

__all__ = ["BetterprotoCodec"]


class BetterprotoCodec(CodecBase):
    """What grpclib's `Channel` takes as `codec`, for betterproto's messages.

    betterproto takes a text that was cut off for a shorter one. So whatever a `message_reader` can check is
    checked first.
    """

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        """Give the wire form of `message`.

        Raises:
            TypeError: it is not a `message_type`.
        """
        if not isinstance(message, message_type):
            raise TypeError(f"the message must be a {message_type.__name__}, not {message!r}")
        return bytes(message)

    def decode(self, data: bytes, message_type: Any) -> Any:
        """Give the message of type `message_type` that `data` is.

        Raises:
            ValueError: it is none.
        """
        check = _reader_if_supported(message_type)
        try:
            if check is not None:
                check(data)
            return message_type().parse(data)
        except Exception as error:  # betterproto raises whatever it stumbles over
            raise ValueError(f"not a {message_type.__name__}: {error}") from error


@functools.cache
def _reader_if_supported(message_type: type[betterproto.Message]) -> MessageReader | None:
    try:
        return message_reader(message_type)
    except TypeError:
        return None
