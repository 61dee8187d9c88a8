"""gRPC over HTTP/2 on Trio: a client that knows nothing of models.

From the ground up: `frames`, `headers`, `streams`, `sender`, `events` and `http2` are HTTP/2 without I/O;
`connection` runs one on a byte stream, with its `writer`; `connecting` makes one, over `tls` where that is
wanted; `protocol` is what gRPC puts on HTTP/2; `unary` is a call with one message each way, by the shortest
path; `codec` turns messages into bytes and back; `exchange`, `stream` and `channel` are grpclib's `Channel`,
for generated stubs and calls of any shape, and `keeper` has a connection ready for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .channel import Channel

__all__ = ["Channel"]


def __getattr__(name: str) -> Any:
    """Import `Channel` when it is asked for: with grpclib's client it brings asyncio, which is slow."""
    if name != "Channel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .channel import Channel

    return Channel
