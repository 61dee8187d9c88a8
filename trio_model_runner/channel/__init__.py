"""grpclib's channels on Trio: the calls of generated stubs, unary and streaming, on top of `rpc`.

The room knows gRPC and connections, and nothing of models, tokens or proofs: whoever needs those writes a
`Route`. To be read in this order:

1. `route`: what a channel asks of whoever has the connection.
2. `routed`: `RoutedChannel`, a grpclib channel on a route; `peer` says who is at the other end.
3. `stream`: one call, as stubs know it: its order of events. `deadline` says what ends it when, `retries`
   when its request is sent again.
4. `exchange`: what has arrived for a call and was not read yet; flow control.
5. `channel`: `Channel`, which connects by itself: it uses `keeper`, which connects when a call needs it, and
   again after a loss.

`codec` turns betterproto's messages into bytes and back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..rpc.receiver import CallInterrupted
from .peer import Peer
from .route import Route, RoutedCall

if TYPE_CHECKING:
    from .channel import Channel
    from .routed import RoutedChannel

__all__ = ["CallInterrupted", "Channel", "Peer", "Route", "RoutedCall", "RoutedChannel"]


def __getattr__(name: str) -> Any:
    """Import a channel when it is asked for: with grpclib's client it brings asyncio, which is slow."""
    if name == "Channel":
        from .channel import Channel

        return Channel
    if name == "RoutedChannel":
        from .routed import RoutedChannel

        return RoutedChannel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
